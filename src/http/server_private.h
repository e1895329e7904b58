/*
 * The server, and what every file of this module shares.
 *
 * Who owns what. A connection belongs to its event thread; its socket is read by nobody else, except that while an exchange is
 * suspended the exchange's owner (a worker, or the pump that waits for it) reads the body from it. An exchange has one owner
 * at a time: the event thread, then by suspend and submit a worker, then by resume the event thread again. So neither has a
 * lock. The timer looks at connections through the few atomics below and may only call shutdown() on their sockets.
 *
 * Lock order: server->lock alone; nothing is called under it that takes another lock, except the log's.
 */
#ifndef DEPOTD_HTTP_SERVER_PRIVATE_H
#define DEPOTD_HTTP_SERVER_PRIVATE_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "depotd/base/uuid.h"
#include "depotd/http/server.h"

struct conn;
struct exchange;

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
	HTTP_ARENA_MAX = 256 * 1024, /* memory of one exchange besides its head */
	HTTP_SMALL_BODY = 64 * 1024, /* bodies up to here are handed over whole */
	HTTP_SKIP_MAX =
		1024 * 1024, /* so much of a refused body is passed over to keep the connection */
	HTTP_BUFFER = 256 * 1024,
	HTTP_STREAM_BLOCK = 64 * 1024, /* pieces of a streamed answer */
};

struct account; /* metrics and the access log */
struct pump;
struct buffers;
struct listener;

/* An event thread of libmicrohttpd's. What others do not look at is its own. */
struct event_thread {
	struct event_thread *next; /* server->threads, guarded by server->lock */
	struct http_server *server;
	_Atomic int64_t
		busy_since_ms; /* since when it is at our work, for the watchdog; 0: not inside */
	struct conn *oldest, *newest; /* whose memory is on offer (pages.c), */
	unsigned offered;             /* and how many these are */
};

struct http_server {
	struct http_config config;
	struct router *router;
	void *context;
	struct listener *listeners;
	size_t listener_count;
	struct pump *pump;
	struct buffers *buffers;
	struct account *account;
	pthread_mutex_t lock; /* guards conns, addresses and threads */
	pthread_cond_t quiet; /* exchanges or suspended fell to 0 */
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
	_Atomic int loans;         /* workers that receive into many buffers (body.c) */
	_Atomic int staying;       /* workers that wait for a socket themselves */
	int processors;
	bool started;
};

/* --- server.c --- */
/* The event thread that runs this, which has one server all its life. NULL out of memory. */
struct event_thread *server_thread(struct http_server *server);
/* Round what an event thread does for us, so that the watchdog sees one that does not come back. NULL out of memory. */
struct event_thread *server_enter(struct http_server *server);
void server_leave(struct event_thread *self);
/* Counts a suspension in; false when the server stops: nothing may be suspended any more. */
bool server_may_suspend(struct http_server *server);
/* One less of `suspended` or `exchanges`; the server may be gone when this returns. */
void server_count_down(struct http_server *server, _Atomic int64_t *count);

/* --- buffers.c: the shared buffers, of HTTP_BUFFER bytes --- */
int buffers_new(size_t bytes, struct buffers **out, struct err *err);
void buffers_free(struct buffers **buffers);
void *buffers_take(struct buffers *buffers); /* NULL when all are out */
/* NULL also when hardly more than a quarter is there: for who could do without */
void *buffers_take_spare(struct buffers *buffers);
void buffers_give(struct buffers *buffers, void *buffer);

/* Which way an epoll event of the pump leads. */
enum pump_kind { PUMP_WAKE, PUMP_EXCHANGE, PUMP_LINGER };

struct pump_source {
	enum pump_kind kind;
};

/* --- pump.c: readiness of suspended sockets, deadlines, lingering closes --- */
int pump_new(struct http_server *server, struct pump **out, struct err *err);
void pump_free(struct pump **pump);
/* Watches the exchange's socket once; then exchange_wake() runs. Last statement of the owner. */
void pump_arm(struct exchange *x);
void pump_forget(struct exchange *x); /* before libmicrohttpd gets the socket back */
void pump_linger(struct pump *pump,
		 int fd);          /* takes a duplicate of fd, reads and drops what still comes */
void pump_poke(struct pump *pump); /* look at the deadlines now */
int64_t pump_tick(const struct pump *pump); /* clock_monotonic_ms() of its last round */

/* --- account.c --- */
struct account *account_new(struct http_server *server);
void account_free(struct account **account);
void account_exchange(struct exchange *x, bool completed);
enum refusal {
	REFUSED_MALFORMED,
	REFUSED_QUEUE,
	REFUSED_CONNECTIONS,
	REFUSED_ADDRESS,
	REFUSED_DEADLINE,
	REFUSAL_COUNT
};
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
