/*
 * What the files of this module share: connection, exchange, server.
 *
 * Who owns what. A connection belongs to its event thread; its socket is read by nobody else, except that while an exchange is
 * suspended the exchange's owner (a worker, or the pump that waits for it) reads the body from it. An exchange has one owner
 * at a time: the event thread, then by suspend and submit a worker, then by resume the event thread again. So neither has a
 * lock. The timer looks at connections through the few atomics below and may only call shutdown() on their sockets.
 *
 * Lock order: server->lock alone; nothing is called under it that takes another lock, except the log's.
 */
#ifndef DEPOTD_HTTP_PRIVATE_H
#define DEPOTD_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "depotd/base/uuid.h"
#include "depotd/http/exchange.h"
#include "depotd/http/server.h"
#include "framing_private.h"
#include "head_private.h"
#include "router_private.h"
#include "target_private.h"

#if MHD_VERSION >= 0x00097002
typedef enum MHD_Result mhd_result;
#else
typedef int mhd_result;
#endif

enum {
	/*
	 * What libmicrohttpd has for a connection: the canonical request and an answer's head. Above 32 KiB it comes from mmap(),
	 * so that an idle connection's pages can be given back.
	 */
	HTTP_CONNECTION_MEMORY = 36 * 1024,
	HTTP_ARENA_MAX = 256 * 1024,     /* memory of one exchange besides its head */
	HTTP_SMALL_BODY = 64 * 1024,     /* bodies up to here are handed over whole */
	HTTP_SKIP_MAX = 1024 * 1024,     /* so much of a refused body is passed over to keep the connection */
	HTTP_STREAM_BLOCK = 64 * 1024,   /* pieces of a streamed answer */
};

/* What a connection is doing: what the timer holds against a deadline. */
enum conn_phase {
	CONN_IDLE, /* no byte of the next request has come: header_timeout at first, then idle_timeout */
	CONN_HEAD, /* a request's head, or the rest of a refused body, is coming: header_timeout */
	CONN_BODY, /* a body is coming: idle_timeout, min_rate */
	CONN_WORK, /* the server's turn: no deadline of the network's */
	CONN_SEND, /* an answer is going out: idle_timeout, min_rate */
};

/* Bytes that were read from a socket before somebody wanted them. */
struct stash {
	char *data;
	uint32_t off, len, cap; /* len counts what is left from off on */
};

union peer {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct exchange;

struct conn {
	struct conn *prev, *next; /* server->conns, guarded by server->lock */
	struct http_server *server;
	struct MHD_Connection *mhd;
	int fd;
	int lowat;             /* the socket's SO_RCVLOWAT */
	struct exchange *x;    /* the request under way, or NULL */
	struct stash stash;
	size_t scanned;        /* how much of the stash was searched for the head's end */
	struct framing *skip;  /* the rest of a refused body, to be passed over before the next head; or NULL */
	uint64_t skip_left;    /* how many more bytes of it are put up with */
	bool stash_is_fresh;   /* the stash may hold a whole head: look before reading */
	bool kernel_has_more;  /* the last read filled its buffer */
	bool crlf_skipped;     /* one empty line before the head was passed over */
	_Atomic bool served;   /* a request has come: keep-alive counts from now on. The timer reads it */
	bool excess;           /* over a limit: answered with 503 */
	bool close;            /* no further request: the answer says so */
	bool linger;           /* the client may still be sending: read and drop after the answer */
	bool dead;             /* nothing more is read */
	char *memory;          /* libmicrohttpd's for this connection, as far as that is known */
	_Atomic(char *) spare; /* the same while nothing is in it; the timer may give its pages back. See conn_claim() */
	_Atomic int phase;     /* enum conn_phase; written after since_ms */
	_Atomic int64_t since_ms;
	_Atomic uint64_t received; /* bytes of the body under way */
	int64_t mark_ms;       /* the timer's: a window of min_rate began here, */
	uint64_t mark_bytes;   /* with so many bytes moved */
	union peer peer;
	char peer_text[INET6_ADDRSTRLEN];
};

/* Which way an epoll event of the pump leads. */
enum pump_kind { PUMP_WAKE, PUMP_EXCHANGE, PUMP_LINGER };

struct pump_source {
	enum pump_kind kind;
};

enum exchange_state {
	EXCHANGE_NEW,       /* the head is parsed; nothing was done yet. Event thread */
	EXCHANGE_RECEIVING, /* suspended; the body is coming. Worker or pump */
	EXCHANGE_WORKING,   /* suspended; finish() runs or is deferred. Worker or whoever completes */
	EXCHANGE_REPLIED,   /* the answer stands and waits to be queued. Event thread */
	EXCHANGE_SENDING,   /* libmicrohttpd has the answer. Event thread */
	EXCHANGE_CANCELLED, /* nobody reads an answer; the connection closes. Event thread */
	EXCHANGE_ENDED,     /* conn has forgotten it; release() runs or has run */
};

/* The two sides of a deferred finish: whoever comes second hands the exchange back. */
enum defer_state { DEFER_NOT, DEFER_ASKED, DEFER_PARKED, DEFER_COMPLETED };

enum reply_kind { REPLY_NONE, REPLY_EMPTY, REPLY_MEMORY, REPLY_FILE, REPLY_STREAM };

struct reply_field {
	struct reply_field *next;
	const char *name, *value;
};

struct reply {
	enum reply_kind kind;
	int status;
	struct reply_field *first, **last;
	bool broken;        /* a field was refused, or memory ran out: answered as 500 or 503 */
	int64_t length;     /* of the body, also where it is not sent */
	const void *data;   /* REPLY_MEMORY */
	char *owned;        /* to be freed: data of reply_buf() */
	int fd;             /* REPLY_FILE */
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
	bool announced;      /* libmicrohttpd's first call has come */
	bool checked;        /* check() ran */
	bool admitted;       /* the worker queue has taken it once */
	bool in_epoll;       /* the pump's set knows the socket */
	_Atomic bool armed;  /* the pump owns x and waits for its socket */
	bool continue_sent;
	bool broken;         /* the head was refused: head_err says why */
	struct err *head_err; /* in the arena */
	struct arena arena;
	struct head head;
	struct target target;
	struct router_match match;
	struct framing framing;
	struct reply reply;
	struct MHD_Response *response; /* built, not queued yet */
	int64_t started_ns;
	uint64_t received;  /* bytes of body */
	char request_id[UUID_TEXT_LEN + 1];
	union peer peer;    /* release() may run when conn is gone */
	char peer_text[INET6_ADDRSTRLEN];
	char *bytes; /* the head's text; behind the fields, in this very allocation */
};

struct account; /* metrics and the access log */
struct pump;
struct buffers;
struct listener;
struct event_thread;

struct http_server {
	struct http_config config;
	struct router *router;
	void *context;
	struct listener *listeners;
	size_t listener_count;
	struct pump *pump;
	struct buffers *buffers;
	struct account *account;
	pthread_mutex_t lock;   /* guards conns, addresses and threads */
	pthread_cond_t quiet;   /* exchanges or suspended fell to 0 */
	struct conn *conns;
	struct address_count **addresses; /* hash table of connections per address */
	struct event_thread *threads;
	struct uuid request_base;  /* Request-Ids are this with a number at its end */
	_Atomic uint64_t requests; /* so many were named */
	_Atomic size_t conn_count;
	_Atomic int64_t exchanges; /* alive, until their release() has run */
	_Atomic int64_t suspended; /* not in libmicrohttpd's hands */
	_Atomic bool quiescing;    /* answers say close */
	_Atomic bool draining;     /* idle connections are closed */
	_Atomic bool stopping;     /* everything is closed */
	bool started;
};

/* --- server.c --- */
/* Counts a suspension in; false when the server stops: nothing may be suspended any more. */
bool server_may_suspend(struct http_server *server);
/* One less of `suspended` or `exchanges`; the server may be gone when this returns. */
void server_count_down(struct http_server *server, _Atomic int64_t *count);

/* --- gate.c: what comes in --- */
int gate_init(struct err *err);
bool gate_open(struct conn *c);  /* from here on reads of its socket go through the gate */
void gate_refuse(int fd);        /* reads of this socket see its end */
void gate_close(int fd);
void stash_drop(struct stash *s);
int stash_put(struct stash *s, const void *data, size_t n); /* appends; -1 out of memory */
void stash_take(struct stash *s, size_t n);
ssize_t socket_read(int fd, void *data, size_t n); /* one recv, past the gate */

/* --- conn.c --- */
struct conn *conn_new(struct http_server *server, struct MHD_Connection *mhd);
void conn_free(struct conn *c);
void conn_set_phase(struct conn *c, enum conn_phase phase); /* its deadline begins now */
void conn_turn(struct conn *c, enum conn_phase phase);      /* within a body: CONN_BODY or CONN_WORK; its windows go on */
int conn_set_lowat(struct conn *c, uint64_t bytes);
void conn_offer(struct conn *c);          /* its memory is empty from now on */
void conn_claim(struct conn *c);          /* it is needed again, or about to go */
void conn_give_pages_back(struct conn *c); /* if it is on offer. Timer */
int addresses_init(struct http_server *server, struct err *err);
void addresses_release(struct http_server *server);

/* --- exchange.c: the life --- */
/* A request whose head is data[0..n): copied and parsed. refused: what is wrong with it already, or NULL. NULL out of memory. */
struct exchange *exchange_new(struct conn *c, const char *data, size_t n, const struct err *refused);
mhd_result exchange_step(struct exchange *x); /* libmicrohttpd asks */
void exchange_ended(struct exchange *x, bool completed); /* libmicrohttpd is through with it. Event thread */
void exchange_wake(struct exchange *x);  /* its socket is readable. Pump */
void exchange_hand_back(struct exchange *x); /* the answer stands; last statement of an owner that is not the event thread */
void exchange_cancel(struct exchange *x);    /* the same without an answer */
void exchange_free(struct exchange *x);
void exchange_release_later(struct exchange *x); /* runs what release must run, on a worker where it may block */
bool exchange_has_more_input(const struct exchange *x);

/* --- body.c --- */
enum body_result {
	BODY_DONE,    /* complete */
	BODY_REFUSED, /* an answer was set; the rest is not wanted */
	BODY_GONE,    /* the client left */
	BODY_ELSEWHERE, /* the exchange has a new owner: do not touch it */
};
enum body_result body_pull(struct exchange *x);
bool body_is_here(const struct exchange *x); /* a body of known length is in the stash whole */
bool body_is_empty(struct exchange *x);      /* no byte of body will come; passes over an empty chunked one */
int body_send_continue(struct exchange *x);
/* Decides what becomes of the connection when an answer goes out before the body was read. */
void body_abandon(struct exchange *x);
int buffers_new(size_t bytes, struct buffers **out, struct err *err);
void buffers_free(struct buffers **buffers);
void *buffers_take(struct buffers *buffers, size_t *size); /* NULL when all are out */
void buffers_give(struct buffers *buffers, void *buffer);

/* --- reply.c, stream.c --- */
void reply_init(struct exchange *x);
int reply_build(struct exchange *x); /* makes x->response; -1 when not even an error could be made */
void reply_release(struct exchange *x);
bool reply_release_blocks(const struct exchange *x);
bool reply_is_set(const struct exchange *x);
struct stream *stream_new(struct exchange *x);
struct MHD_Response *stream_response(struct stream *s);
bool stream_end(struct stream *s); /* true: nobody fills it. false: the filling worker goes on with exchange_release_later() */
void stream_free(struct stream **s);

/* --- pump.c: readiness of suspended sockets, deadlines, lingering closes --- */
int pump_new(struct http_server *server, struct pump **out, struct err *err);
void pump_free(struct pump **pump);
/* Watches the exchange's socket once; then exchange_wake() runs. Last statement of the owner. */
void pump_arm(struct exchange *x);
void pump_forget(struct exchange *x); /* before libmicrohttpd gets the socket back */
void pump_linger(struct pump *pump, int fd); /* takes a duplicate of fd, reads and drops what still comes */
void pump_poke(struct pump *pump);     /* look at the deadlines now */
int64_t pump_tick(const struct pump *pump); /* clock_monotonic_ms() of its last round */

/* --- account.c --- */
struct account *account_new(struct http_server *server);
void account_free(struct account **account);
void account_exchange(struct exchange *x, bool completed);
enum refusal { REFUSED_MALFORMED, REFUSED_QUEUE, REFUSED_CONNECTIONS, REFUSED_ADDRESS, REFUSED_DEADLINE, REFUSAL_COUNT };
void account_refusal(struct http_server *server, enum refusal why);

/* --- listen.c --- */
struct listener {
	bool inherited; /* somebody else holds the same socket */
	int fd; /* ours until libmicrohttpd has started on it, and again after quiescing; -1 */
	struct MHD_Daemon *daemon;
	char address[INET6_ADDRSTRLEN + sizeof("[]:65535")];
};
void listeners_close(struct http_server *server);

#endif
