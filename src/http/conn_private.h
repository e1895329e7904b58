/* One TCP connection: what the gate has read of it, and what the timer holds against it. Who owns it: see server_private.h. */
#ifndef DEPOTD_HTTP_CONN_PRIVATE_H
#define DEPOTD_HTTP_CONN_PRIVATE_H

#include "framing_private.h"
#include "server_private.h"

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

struct conn {
	struct conn *prev, *next; /* server->conns, guarded by server->lock */
	struct http_server *server;
	struct event_thread *thread; /* its own; NULL: out of memory */
	struct MHD_Connection *mhd;
	int fd;
	int lowat;          /* the socket's SO_RCVLOWAT */
	struct exchange *x; /* the request under way, or NULL */
	struct stash stash;
	size_t scanned; /* how much of the stash was searched for the head's end */
	/* the rest of a refused body, to be passed over before the next head; or NULL */
	struct framing *skip;
	uint64_t skip_left;   /* how many more bytes of it are put up with */
	bool stash_is_fresh;  /* the stash may hold a whole head: look before reading */
	bool kernel_has_more; /* the last read filled its buffer */
	bool crlf_skipped;    /* one empty line before the head was passed over */
	_Atomic bool
		served; /* a request has come: keep-alive counts from now on. The timer reads it */
	bool excess;    /* over a limit: answered with 503 */
	bool close;     /* no further request: the answer says so */
	bool linger;    /* the client may still be sending: read and drop after the answer */
	bool dead;      /* nothing more is read */
	char *memory;   /* libmicrohttpd's for this connection, as far as that is known */
	_Atomic(char *)
		spare; /* the same while nobody looks at it: the timer may give its pages back. See conn_claim() */
	_Atomic int64_t offered_ms; /* since when; written before spare, like spare_is_full */
	bool spare_is_full;         /* something is in it that will be needed */
	bool listed;                /* among its event thread's, between these two */
	struct conn *older, *newer;
	struct packed *packed; /* what was in it when its pages were given back, or NULL */
	_Atomic int phase;     /* enum conn_phase; written after since_ms */
	_Atomic int64_t since_ms;
	_Atomic uint64_t received; /* bytes of the body under way */
	int64_t mark_ms;           /* the timer's: a window of min_rate began here, */
	uint64_t mark_bytes;       /* with so many bytes moved */
	union peer peer;
	char peer_text[INET6_ADDRSTRLEN];
};

/* --- gate.c: what comes in --- */
int gate_init(struct err *err);
bool gate_open(struct conn *c); /* from here on reads of its socket go through the gate */
void gate_refuse(int fd);       /* reads of this socket see its end */
void gate_close(int fd);
void stash_drop(struct stash *s);
int stash_put(struct stash *s, const void *data, size_t n); /* appends; -1 out of memory */
void stash_take(struct stash *s, size_t n);
ssize_t socket_read(int fd, void *data, size_t n); /* one recv, past the gate */
ssize_t socket_read_many(int fd, struct iovec *pieces, int n);

/* --- conn.c --- */
struct conn *conn_new(struct http_server *server, struct MHD_Connection *mhd);
void conn_free(struct conn *c);
void conn_set_phase(struct conn *c, enum conn_phase phase); /* its deadline begins now */
/* within a body: CONN_BODY or CONN_WORK; its windows go on */
void conn_turn(struct conn *c, enum conn_phase phase);
int conn_set_lowat(struct conn *c, uint64_t bytes);
int addresses_init(struct http_server *server, struct err *err);
void addresses_release(struct http_server *server);

/* --- pages.c --- */
/* Nobody looks at its memory from now on. full: what is in it will be needed again; else it is empty, or about to be emptied. */
void conn_offer(struct conn *c, bool full);
void conn_claim(struct conn *c);   /* it is needed again, or about to go */
void pages_forget(struct conn *c); /* its memory has gone */
/* If it has been on offer for a while: true once an idle time. Timer. */
bool conn_give_pages_back(struct conn *c, int64_t now);

#endif
