/*
 * The body of a request, from the socket to the handler.
 *
 * While an exchange is suspended its owner reads the socket itself, so body buffers belong to visiting workers and not to
 * uploads: a worker takes a buffer, passes on what the socket holds, and leaves, having asked the pump to wake the exchange.
 * A thousand slow uploads hold no buffer at all. SO_RCVLOWAT lets the kernel gather, so that a visit is worth its while.
 * body_pull() never blocks. Workers only, but for the small helpers.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "exchange_private.h"

enum {
	BUFFER_BYTES = 256 * 1024,
	SPARE_BYTES = 16 * 1024,        /* on the stack, when all buffers are out */
	VISIT_BYTES = 16 * 1024 * 1024, /* after so much others get their turn */
	AHEAD_FROM = 4 * BUFFER_BYTES,  /* more of a body than this is worth reading ahead */
	GATHER_MIN = 128 * 1024,        /* bytes that are worth a visit */
	GATHER_MAX = 1024 * 1024,
	GATHER_NS = 1000 * 1000, /* or what comes in this time */
	STAY_MS = 5,             /* how long a worker waits for a fast client itself */
};

/* --- the shared buffers --- */

struct buffers {
	pthread_mutex_t lock; /* guards free_list and left */
	void *free_list;      /* each begins with a pointer to the next */
	size_t left;          /* not allocated yet */
};

int buffers_new(size_t bytes, struct buffers **out, struct err *err)
{
	struct buffers *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the body buffers");
	pthread_mutex_init(&b->lock, NULL);
	b->left = bytes / BUFFER_BYTES > 0 ? bytes / BUFFER_BYTES : 1;
	*out = b;
	return 0;
}

void buffers_free(struct buffers **buffers)
{
	struct buffers *b = *buffers;
	*buffers = NULL;
	if (b == NULL)
		return;
	for (void *buffer = b->free_list, *next; buffer != NULL; buffer = next) {
		memcpy(&next, buffer, sizeof(next));
		free(buffer);
	}
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void *buffers_take(struct buffers *b, size_t *size)
{
	bool make = false;
	pthread_mutex_lock(&b->lock);
	void *buffer = b->free_list;
	if (buffer != NULL) {
		memcpy(&b->free_list, buffer, sizeof(b->free_list));
	} else if (b->left > 0) {
		b->left--;
		make = true;
	}
	pthread_mutex_unlock(&b->lock);
	*size = BUFFER_BYTES;
	if (!make)
		return buffer;
	buffer = malloc(BUFFER_BYTES);
	if (buffer == NULL) { /* another time, then */
		pthread_mutex_lock(&b->lock);
		b->left++;
		pthread_mutex_unlock(&b->lock);
	}
	return buffer;
}

void buffers_give(struct buffers *b, void *buffer)
{
	pthread_mutex_lock(&b->lock);
	memcpy(buffer, &b->free_list, sizeof(b->free_list));
	b->free_list = buffer;
	pthread_mutex_unlock(&b->lock);
}

/* --- small helpers; owner's thread --- */

bool body_is_here(const struct exchange *x)
{
	if (framing_done(&x->framing))
		return true;
	return x->framing.state == FRAMING_LENGTH && x->conn->stash.len >= x->framing.left;
}

bool body_is_empty(struct exchange *x)
{
	struct stash *s = &x->conn->stash;
	struct framing f = x->framing;
	struct err err;
	size_t at = 0, body = 0;
	while (at < s->len && body == 0 && !framing_done(&f)) {
		size_t step = framing_step(&f, s->data + s->off + at, s->len - at, &body, &err);
		if (step == 0)
			break;
		at += step;
	}
	if (body > 0 || !framing_done(&f))
		return false;
	x->framing = f;
	if (at > 0)
		stash_take(s, at);
	return true;
}

int body_send_continue(struct exchange *x)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
	if (!x->head.expect_continue || x->conn->stash.len > 0)
		return 0;
	x->continue_sent = true;
	/* The socket's buffer is empty here, earlier answers are out: a short write means a dead connection. */
	ssize_t sent = send(x->conn->fd, line, sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent == (ssize_t)sizeof(line) - 1 ? 0 : -1;
}

void body_abandon(struct exchange *x)
{
	struct conn *c = x->conn;
	if (framing_done(&x->framing))
		return;
	uint64_t left = x->framing.state == FRAMING_LENGTH ? x->framing.left : 0;
	/* Whether a client that waits for 100 will send the body after a refusal is its own choice (RFC 9110 §10.1.1). */
	bool unsure = x->head.expect_continue && !x->continue_sent && c->stash.len == 0;
	if (unsure || x->framing.state == FRAMING_BROKEN || left > HTTP_SKIP_MAX) {
		c->close = true;
		c->linger = true;
	}
}

/* --- reading --- */

struct visit {
	struct exchange *x;
	char *buffer;
	size_t size;
	char *other;         /* the buffer that is read ahead into, or NULL */
	struct ahead *ahead; /* NULL until it is wanted */
	bool reading_ahead;
	size_t budget;
	struct err err;
};

/* Passes one stretch of body to the handler. */
static enum body_result deliver(struct visit *v, const void *data, size_t n)
{
	struct exchange *x = v->x;
	x->received += n;
	if (x->handler->body == NULL || x->handler->body(x, data, n, &v->err) == 0)
		return BODY_DONE;
	reply_error(x, &v->err);
	return BODY_REFUSED;
}

/* Undoes the framing of data[0..n) and passes on what is body. *used: how much of it belongs to this request. */
static enum body_result unframe(struct visit *v, const char *data, size_t n, size_t *used)
{
	struct exchange *x = v->x;
	size_t body;
	*used = 0;
	while (*used < n && !framing_done(&x->framing)) {
		size_t step = framing_step(&x->framing, data + *used, n - *used, &body, &v->err);
		if (step == 0) {
			account_refusal(x->server, REFUSED_MALFORMED);
			reply_error(x, &v->err);
			return BODY_REFUSED;
		}
		*used += step;
		if (body > 0 && deliver(v, data + *used - body, body) != BODY_DONE)
			return BODY_REFUSED;
	}
	return BODY_DONE;
}

static enum body_result pull_stash(struct visit *v)
{
	struct stash *s = &v->x->conn->stash;
	size_t used;
	enum body_result result = unframe(v, s->data + s->off, s->len, &used);
	stash_take(s, used);
	return result;
}

/*
 * How many bytes are worth waking up for: what a fast client sends in GATHER_NS, but never more than must still come, and
 * little from a slow one, whose bytes would only lie in the kernel.
 */
void body_gather(struct exchange *x)
{
	uint64_t still = framing_at_least(&x->framing), held = x->conn->stash.len;
	int64_t now = clock_monotonic_ns(), ns = now - x->gathered_ns + 1;
	uint64_t came = x->received - x->gathered, worth = GATHER_MIN;
	if (came > GATHER_MIN)
		worth = came * GATHER_NS / (uint64_t)ns;
	worth = worth < GATHER_MIN ? GATHER_MIN : worth > GATHER_MAX ? GATHER_MAX : worth;
	still = still > held ? still - held : 1; /* of a small body some is held already */
	x->gathered = x->received;
	x->gathered_ns = now;
	(void)conn_set_lowat(x->conn, still < worth ? still : worth);
}

/*
 * A client that sends fast is worth staying for: the next bytes wake this worker itself and not the pump first. Only as many
 * workers stay as there are processors.
 */
static bool stay_for_more(struct visit *v)
{
	struct exchange *x = v->x;
	_Atomic int *staying = &x->server->staying;
	struct pollfd readable = {.fd = x->conn->fd, .events = POLLIN | POLLRDHUP};
	body_gather(x);
	if (x->conn->lowat < GATHER_MIN)
		return false;
	bool room = atomic_fetch_add(staying, 1) < x->server->processors;
	bool ready = room && poll(&readable, 1, STAY_MS) > 0;
	(void)atomic_fetch_sub(staying, 1);
	return ready;
}

/* As socket_read(): what was read ahead, else what the socket has. */
static ssize_t next_bytes(struct visit *v)
{
	struct exchange *x = v->x;
	size_t want = v->size, got;
	int failure;
	if (v->reading_ahead) {
		v->reading_ahead = false;
		if (ahead_take(&v->ahead, &got, &failure)) {
			char *buffer = v->buffer;
			v->buffer = v->other;
			v->other = buffer;
			errno = failure;
			return got > 0 ? (ssize_t)got : failure == 0 ? 0 : -1;
		}
	}
	if (x->framing.state == FRAMING_LENGTH && x->framing.left < want)
		want = (size_t)x->framing.left; /* what follows is another request's */
	return socket_read(x->conn->fd, v->buffer, want);
}

/* A full buffer means that the client is fast: the next may be read while this one is passed on. */
static void read_ahead(struct visit *v, size_t got)
{
	struct exchange *x = v->x;
	if (v->other == NULL || got < v->size || v->budget == 0)
		return;
	bool counted = x->framing.state == FRAMING_LENGTH;
	if (counted && x->framing.left < got + v->size)
		return;
	if (v->ahead == NULL)
		v->ahead = ahead_new();
	v->reading_ahead = v->ahead != NULL &&
			   ahead_start(v->ahead, exchange_pool(x), x->conn->fd, v->other, v->size);
}

/* What was read ahead of a body that ended, or is not wanted, is looked at by whoever comes next. */
static enum body_result settle(struct visit *v, enum body_result result)
{
	size_t got;
	int failure;
	if (v->reading_ahead && ahead_take(&v->ahead, &got, &failure) && got > 0 &&
	    stash_put(&v->x->conn->stash, v->other, got) != 0)
		result = BODY_GONE;
	v->reading_ahead = false;
	ahead_free(&v->ahead);
	return result;
}

/* One read, passed on. BODY_DONE: it went well. */
static enum body_result pull_socket(struct visit *v)
{
	struct exchange *x = v->x;
	struct conn *c = x->conn;
	ssize_t got = next_bytes(v);
	if (got == 0)
		return BODY_GONE;
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? BODY_WAIT : BODY_GONE;
	(void)atomic_fetch_add_explicit(&c->received, (uint64_t)got, memory_order_relaxed);
	v->budget -= (size_t)got < v->budget ? (size_t)got : v->budget;
	read_ahead(v, (size_t)got);
	size_t used;
	enum body_result result = unframe(v, v->buffer, (size_t)got, &used);
	if (stash_put(&c->stash, v->buffer + used, (size_t)got - used) != 0)
		return BODY_GONE;
	return result;
}

static enum body_result pull_stream(struct visit *v)
{
	struct exchange *x = v->x;
	while (!framing_done(&x->framing)) {
		enum body_result result = x->conn->stash.len > 0 ? pull_stash(v) : pull_socket(v);
		if (result == BODY_WAIT && stay_for_more(v))
			continue;
		if (result != BODY_DONE)
			return result;
		if (v->budget == 0 && !framing_done(&x->framing))
			return BODY_YIELD;
	}
	return BODY_DONE;
}

/* A small body of known length: gathered, then passed on in one stretch. */
static enum body_result pull_whole(struct visit *v)
{
	struct exchange *x = v->x;
	struct conn *c = x->conn;
	size_t n = (size_t)x->framing.left, have = c->stash.len, used;
	if (have >= n)
		return pull_stash(v);
	memcpy(v->buffer, c->stash.data != NULL ? c->stash.data + c->stash.off : "", have);
	while (have < n) {
		ssize_t got = socket_read(c->fd, v->buffer + have, n - have);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
			return BODY_GONE;
		if (got < 0) {
			size_t held = c->stash.len;
			if (stash_put(&c->stash, v->buffer + held, have - held) != 0)
				return BODY_GONE;
			body_gather(x);
			return BODY_WAIT;
		}
		(void)atomic_fetch_add_explicit(&c->received, (uint64_t)got, memory_order_relaxed);
		have += (size_t)got;
	}
	stash_drop(&c->stash);
	return unframe(v, v->buffer, n, &used);
}

/* A body that is large, or may be, gets a second buffer, if few others have one. */
static enum body_result pull_large(struct visit *v)
{
	struct http_server *server = v->x->server;
	bool large = v->x->framing.state != FRAMING_LENGTH || v->x->framing.left > AHEAD_FROM;
	if (!large || v->size != BUFFER_BYTES)
		return pull_stream(v);
	size_t size;
	if (atomic_fetch_add(&server->ahead, 1) < server->processors)
		v->other = buffers_take(server->buffers, &size);
	enum body_result result = settle(v, pull_stream(v));
	if (v->other != NULL)
		buffers_give(server->buffers, v->other);
	(void)atomic_fetch_sub(&server->ahead, 1);
	return result;
}

/* Takes a buffer for a while. */
static enum body_result pull(struct exchange *x)
{
	char spare[SPARE_BYTES];
	struct visit v = {.x = x, .budget = VISIT_BYTES};
	struct buffers *buffers = x->server->buffers;
	void *buffer = buffers_take(buffers, &v.size);
	v.buffer = buffer;
	if (buffer == NULL) {
		v.buffer = spare;
		v.size = sizeof(spare);
	}
	bool whole = x->framing.state == FRAMING_LENGTH && x->framing.left <= HTTP_SMALL_BODY &&
		     x->head.content_length <= HTTP_SMALL_BODY && x->framing.left <= v.size;
	enum body_result result = whole ? pull_whole(&v) : pull_large(&v);
	if (buffer != NULL)
		buffers_give(buffers, v.buffer);
	return result;
}

enum body_result body_pull(struct exchange *x)
{
	if (framing_done(&x->framing))
		return BODY_DONE;
	conn_turn(x->conn, CONN_WORK);
	enum body_result result = pull(x);
	/* Whoever gets x now may end it, and the server with it: nothing of ours may be left to do. */
	if (result == BODY_WAIT) {
		conn_turn(x->conn, CONN_BODY);
		pump_arm(x);
		return BODY_ELSEWHERE;
	}
	if (result == BODY_YIELD)
		return pool_submit_urgent(exchange_pool(x), &x->task) == 0 ? BODY_ELSEWHERE
									   : BODY_GONE;
	return result;
}
