/*
 * The HTTP/1.1 server: the one user of libmicrohttpd.
 *
 * Event threads parse and render and never block; whatever blocks runs on the worker pool. Several listeners, each with its
 * own event threads. Lifecycle, all from app's main thread:
 *   http_server_new → http_server_start → http_server_quiesce → http_server_drain → http_server_free
 */
#ifndef DEPOTD_HTTP_SERVER_H
#define DEPOTD_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"
#include "depotd/base/metrics.h"
#include "depotd/http/exchange.h"
#include "depotd/work/pool.h"

enum http_access_log { HTTP_ACCESS_LOG_OFF, HTTP_ACCESS_LOG_COMBINED, HTTP_ACCESS_LOG_JSON };

struct http_config {
	unsigned event_threads;               /* per listener; 0: one a processor, at most 4 */
	unsigned max_connections;             /* all listeners together */
	unsigned max_connections_per_address; /* 0 no limit; loopback is exempt */
	size_t buffer_bytes; /* all body buffers together: memory of uploads is bounded by this */
	size_t header_bytes; /* largest request line and header block */
	int64_t header_timeout_ms; /* from the first byte (or accept) to the end of the headers */
	int64_t idle_timeout_ms;   /* silence on a connection, and keep-alive */
	int64_t min_rate; /* bytes/s that a body must make over any idle_timeout; 0 no limit */
	enum http_access_log access_log;
	struct pool *workers; /* not owned */
	/* what serves GET and HEAD, so that it never waits behind who writes; may be the same */
	struct pool *readers;
	struct metrics *metrics; /* or NULL */
	/*
	 * How a problem is shown to a browser (Accept prefers text/html): fills a whole HTML page. NULL: JSON for everyone.
	 * Any thread, must not block.
	 */
	void (*problem_page)(struct exchange *x, int status, const char *title, const char *detail,
			     struct buf *page);
};

/* One row of the routing table. */
struct http_route {
	const char *method; /* "GET" also serves HEAD */
	/*
	 * "/files/{id}/metadata"; {x} is one non-empty segment, still percent-encoded when matched. "/files/{name...}": all that
	 * follows, slashes too, of a path that no other row knows by any method.
	 */
	const char *pattern;
	const struct http_handler *handler;
};

struct http_server;

/* routes: ends with a row of NULLs, lives as long as the server. context: what exchange_context() gives. */
int http_server_new(const struct http_config *config, const struct http_route *routes,
		    void *context, struct http_server **out, struct err *err);
/*
 * Adds a listener: "127.0.0.1:8080", "[::]:80", "localhost:0"; several for a name with several addresses. IPv6 listeners
 * are IPv6 only. Or an inherited descriptor (socket activation).
 */
int http_server_listen(struct http_server *server, const char *address, struct err *err);
int http_server_listen_fd(struct http_server *server, int fd, struct err *err);
int http_server_start(struct http_server *server, struct err *err);
/* The i-th bound address as text ("127.0.0.1:43211"), NULL past the last. */
const char *http_server_address(const struct http_server *server, size_t i);
/* No new connections, and answers carry Connection: close. */
void http_server_quiesce(struct http_server *server);
/* Waits until no exchange runs (idle keep-alive connections are closed), at most timeout_ms: true when all ended. */
bool http_server_drain(struct http_server *server, int64_t timeout_ms);
/* Ends what still runs (exchanges are cancelled, their release() is called), joins, frees. The pool must still run. */
void http_server_free(struct http_server **server);
/* A tick of every event thread happened within the last max_age_ms: for the watchdog. */
bool http_server_alive(const struct http_server *server, int64_t max_age_ms);

#endif
