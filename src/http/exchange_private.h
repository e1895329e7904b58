/* One request and its answer. Who owns it: see server_private.h; its life: exchange.c. */
#ifndef DEPOTD_HTTP_EXCHANGE_PRIVATE_H
#define DEPOTD_HTTP_EXCHANGE_PRIVATE_H

#include <stdalign.h>

#include "conn_private.h"
#include "head_private.h"
#include "router_private.h"
#include "target_private.h"

enum exchange_state {
	EXCHANGE_NEW,       /* the head is parsed; nothing was done yet. Event thread */
	EXCHANGE_RECEIVING, /* suspended; the body is coming. Worker or pump */
	EXCHANGE_WORKING, /* suspended; finish() runs or is deferred. Worker or whoever completes */
	EXCHANGE_REPLIED, /* the answer stands and waits to be queued. Event thread */
	EXCHANGE_SENDING, /* libmicrohttpd has the answer. Event thread */
	EXCHANGE_CANCELLED, /* nobody reads an answer; the connection closes. Event thread */
	EXCHANGE_ENDED,     /* conn has forgotten it; release() runs or has run */
};

enum { EXCHANGE_ROOM = 512 };

/* The two sides of a deferred finish: whoever comes second hands the exchange back, or has it finish again. */
enum defer_state { DEFER_NOT, DEFER_ASKED, DEFER_PARKED, DEFER_COMPLETED, DEFER_AGAIN };
enum reply_kind { REPLY_NONE, REPLY_EMPTY, REPLY_MEMORY, REPLY_FILE, REPLY_STREAM };

struct reply_field {
	struct reply_field *next;
	const char *name, *value;
};

struct reply {
	enum reply_kind kind;
	int status;
	struct reply_field *first, **last;
	bool broken;      /* a field was refused, or memory ran out: answered as 500 or 503 */
	int64_t length;   /* of the body, also where it is not sent */
	const void *data; /* REPLY_MEMORY */
	char *owned;      /* to be freed: data of reply_buf() */
	int fd;           /* REPLY_FILE */
	int64_t offset;
	int (*read)(void *context, void *data, size_t max, size_t *got, struct err *err);
	void (*release)(void *context);
	void *context;
	struct stream *stream; /* REPLY_STREAM, once it runs */
};

struct exchange {
	struct pump_source pump; /* first: the pump casts */
	enum exchange_state state;
	_Atomic int defer; /* enum defer_state */
	struct task task;
	struct conn *conn;
	struct http_server *server;
	const struct http_handler *handler; /* NULL until routed */
	void *handler_state;
	bool shown;            /* libmicrohttpd was given a request for it */
	bool announced;        /* its first call has come */
	bool suspended;        /* it was, at some time */
	bool bounced;          /* suspended and resumed once more, see exchange.c */
	bool checked;          /* check() ran */
	bool admitted;         /* the worker queue has taken it once */
	bool release_anywhere; /* the handler's release() does not block any more */
	bool in_epoll;         /* the pump's set knows the socket */
	_Atomic bool armed;    /* the pump owns x and waits for its socket */
	bool continue_sent;
	bool broken;          /* the head was refused: head_err says why */
	struct err *head_err; /* in the arena */
	struct arena arena;
	/* Its first pieces: all that an upload under way needs. */
	alignas(max_align_t) unsigned char arena_room[EXCHANGE_ROOM];
	struct head head;
	struct target target;
	struct router_match match;
	struct framing framing;
	struct reply reply;
	struct MHD_Response *response; /* built, not queued yet */
	int64_t started_ns;
	uint64_t received;   /* bytes of body */
	uint64_t gathered;   /* `received` when the worker last waited, */
	int64_t gathered_ns; /* and when that was */
	char request_id[UUID_TEXT_LEN + 1];
	union peer peer; /* release() may run when conn is gone */
	char peer_text[INET6_ADDRSTRLEN];
	char *bytes; /* the head's text; behind the fields, in this very allocation */
};

/* --- exchange.c: the life --- */

/* A request whose head is data[0..n): copied and parsed. refused: what is wrong with it already, or NULL. NULL out of memory. */
struct exchange *exchange_new(struct conn *c, const char *data, size_t n,
			      const struct err *refused);
/* Event thread, once, when the stash holds what follows the head. True: the answer stands (or it is cancelled), libmicrohttpd
 * may hear of it. False: it is suspended and another thread's. */
bool exchange_begin(struct exchange *x);
mhd_result exchange_step(struct exchange *x); /* libmicrohttpd asks */
void exchange_ended(struct exchange *x,
		    bool completed); /* libmicrohttpd is through with it. Event thread */
struct pool *exchange_pool(const struct exchange *x); /* whose threads it runs on. Any thread */
void exchange_wake(struct exchange *x);               /* its socket is readable. Pump */
/* the answer stands; last statement of an owner that is not the event thread */
void exchange_hand_back(struct exchange *x);
void exchange_cancel(struct exchange *x); /* the same without an answer */
void exchange_free(struct exchange *x);
/* runs what release must run, on a worker where it may block */
void exchange_release_later(struct exchange *x);
bool exchange_has_more_input(const struct exchange *x);

/* --- body.c --- */
enum body_result {
	BODY_DONE,      /* complete */
	BODY_REFUSED,   /* an answer was set; the rest is not wanted */
	BODY_GONE,      /* the client left */
	BODY_WAIT,      /* nothing is there: the pump shall wait for more. Within body.c only */
	BODY_YIELD,     /* others shall have their turn. Within body.c only */
	BODY_ELSEWHERE, /* the exchange has a new owner: do not touch it */
};
enum body_result body_pull(struct exchange *x);
bool body_is_here(const struct exchange *x); /* a body of known length is in the stash whole */
/* no byte of body will come; passes over an empty chunked one */
bool body_is_empty(struct exchange *x);
int body_send_continue(struct exchange *x);
void body_gather(struct exchange *x); /* before waiting for more: sets the socket's low water */
/* Decides what becomes of the connection when an answer goes out before the body was read. */
void body_abandon(struct exchange *x);

/* --- reply.c, stream.c --- */
void reply_init(struct exchange *x);
/* makes x->response; -1 when not even an error could be made */
int reply_build(struct exchange *x);
void reply_release(struct exchange *x);
bool reply_release_blocks(const struct exchange *x);
bool reply_is_set(const struct exchange *x);
struct stream *stream_new(struct exchange *x);
struct MHD_Response *stream_response(struct stream *s);
/* true: nobody fills it. false: the filling worker goes on with exchange_release_later() */
bool stream_end(struct stream *s);
void stream_free(struct stream **s);

#endif
