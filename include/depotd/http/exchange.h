/*
 * One request and its answer.
 *
 * An exchange has exactly one owner at a time: an event thread, or a worker while the connection is suspended; so it has no
 * lock, and everything here is called by the owner. Handlers see this life:
 *
 *   check()   event thread   headers only; answers from memory or refuses (→ HTTP_ANSWERED), else HTTP_GO_ON
 *   body()    worker         any number of times, in order, each stretch of body (chunking undone)
 *   finish()  worker         once, when the body is complete (also when there is none): replies, or defers
 *   release() worker (*)     once, after the answer was sent, or the client left, or the server stops; frees the state
 *
 * body() and finish() may be NULL where check() always answers. When the client leaves or a limit is hit in between, the next
 * call is release(). (*) On an event thread where exchange_release_anywhere() allowed it. Small bodies arrive whole: body()
 * and finish() in one visit to a worker. `release` runs for every exchange whose check() ran and that set a state; it must
 * not touch the reply.
 */
#ifndef DEPOTD_HTTP_EXCHANGE_H
#define DEPOTD_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/base/err.h"
#include "depotd/model/conditional.h"

struct exchange;

enum http_verdict { HTTP_GO_ON, HTTP_ANSWERED };

struct http_handler {
	enum http_verdict (*check)(struct exchange *x);
	/* -1 with err: the rest of the body is drained within bounds, and err is the answer (finish() is not called). */
	int (*body)(struct exchange *x, const void *data, size_t n, struct err *err);
	void (*finish)(struct exchange *x);
	void (*release)(struct exchange *x);
	bool takes_body; /* false: a request body is 413 unless it is empty */
	/*
	 * body() of who sends fast, all three or none: data stays as it is until settle() has returned for it, so another can
	 * work on it meanwhile. settle() may come more than once, for parts, for what was never lent, and after any of these
	 * failed. help() comes when nothing is there to be lent, and does a piece of what is left to do: 1; 0 there is none; -1.
	 */
	int (*lend)(struct exchange *x, const void *data, size_t n, struct err *err);
	int (*help)(struct exchange *x, struct err *err);
	int (*settle)(struct exchange *x, const void *data, size_t n, struct err *err);
};

/* --- the request --- */
void *exchange_context(const struct exchange *x);      /* what http_server_new() was given */
const char *exchange_method(const struct exchange *x); /* as sent; HEAD stays HEAD */
bool exchange_is_head(const struct exchange *x);
const char *exchange_target(const struct exchange *x); /* the path as sent, without the query */
/* The i-th {x} of the pattern, decoded: valid UTF-8 without NUL (else 400 came before); NULL where the pattern has fewer. */
const char *exchange_param(const struct exchange *x, unsigned i);
/* A header field; several lines of the same field are joined with ", ". NULL absent. Lives as long as the exchange. */
const char *exchange_header(struct exchange *x, const char *name);
/* The five conditionals of RFC 9110 §13. */
void exchange_conditionals(struct exchange *x, struct conditional_headers *out);
/* Decoded query parameters in order (strict percent-encoding, `+` is a blank, UTF-8, no NUL; else 400 came before). */
size_t exchange_query_count(const struct exchange *x);
void exchange_query(const struct exchange *x, size_t i, const char **key, const char **value);
/* The first parameter of that name: its value, "" for a bare name, NULL absent. */
const char *exchange_query_get(const struct exchange *x, const char *key);
/* Declared Content-Length; 0 without a body; -1 for chunked. */
int64_t exchange_content_length(const struct exchange *x);
/*
 * Content-Length or Transfer-Encoding was there. Without either there is no body (RFC 9112 §6.3), unless its sender means it to end
 * with the connection. An answer 411 ends that.
 */
bool exchange_has_length(const struct exchange *x);
/* Whether Accept prefers text/html to JSON (a browser navigates). */
bool exchange_wants_html(struct exchange *x);
const char *exchange_request_id(const struct exchange *x);
struct arena *exchange_arena(struct exchange *x);
const char *exchange_peer_text(const struct exchange *x); /* "192.0.2.7" */

/* The handler's own state: NULL until set. */
void exchange_set_state(struct exchange *x, void *state);
void *exchange_state(const struct exchange *x);
/* From now on release() will not block: nothing but memory is left to give back. Spares a worker the visit. */
void exchange_release_anywhere(struct exchange *x);

/* --- the answer: each replaces what was set before --- */
/* 503 brings a Retry-After, unless there is one. */
void reply_status(struct exchange *x, int status);
/* Adds a field. Values with CR, LF or NUL are refused and answered as 500. Copied. */
void reply_header(struct exchange *x, const char *name, const char *value);
void reply_headerf(struct exchange *x, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* No body, e.g. 204; or a HEAD or 304 answer whose Content-Length is `length`, what a GET's 200 would have (RFC 9110 §8.6). */
void reply_empty(struct exchange *x);
void reply_empty_of_length(struct exchange *x, int64_t length);
/* Takes the buf's memory (the buf is new after). A failed buf becomes 503. */
void reply_buf(struct exchange *x, struct buf *body);
/*
 * Memory that outlives the exchange (static), or is held until release(context) is called (worker or event thread; must not
 * block).
 */
void reply_memory(struct exchange *x, const void *data, size_t n, void (*release)(void *context),
		  void *context);
/*
 * sendfile of [offset, offset + n) of fd, which stays open until release(context) is called, on a worker. Where no state was set
 * the exchange's arena goes when the answer is built.
 */
void reply_file(struct exchange *x, int fd, int64_t offset, int64_t n,
		void (*release)(void *context), void *context);
/*
 * A body of n bytes made piece by piece: read() is called on a worker, ahead of what is sent and within bounds; it fills at most
 * max bytes and says how many; 0 or -1 ends the connection (the length was promised). release(context) on a worker.
 */
void reply_stream(struct exchange *x, int64_t n,
		  int (*read)(void *context, void *data, size_t max, size_t *got, struct err *err),
		  void (*release)(void *context), void *context);
/*
 * The error as RFC 9457 problem+json (or the page a browser gets), with Retry-After for 503, Allow kept as set. The one place
 * where an error becomes an answer; 5xx are logged with their message, and the client sees the title only.
 */
void reply_error(struct exchange *x, const struct err *err);

/* --- asynchronous finish --- */
/* In finish(): no reply yet; somebody will call exchange_complete() later, from any thread, after replying. */
void exchange_defer(struct exchange *x);
void exchange_complete(struct exchange *x);
/* The other way out of it: finish() is called once more, on a worker. Never blocks. */
void exchange_again(struct exchange *x);

#endif
