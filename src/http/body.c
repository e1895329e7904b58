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
	SPARE_BYTES = 16 * 1024,             /* on the stack, when all buffers are out */
	VISIT_BYTES = 16 * 1024 * 1024,      /* after so much others get their turn; */
	LOAN_VISIT_BYTES = 64 * 1024 * 1024, /* with a loan, as its end is waited for */
	LOAN_FROM = 4 * HTTP_BUFFER,         /* more of a body than this is worth a loan */
	LOAN_MIN = 8,                        /* buffers of a loan */
	LOAN_MAX = 16,
	LOAN_READ = 4,           /* of them, that one read fills */
	GATHER_MIN = 128 * 1024, /* bytes that are worth a visit */
	GATHER_MAX = 1024 * 1024,
	GATHER_NS = 1000 * 1000, /* or what comes in this time */
	STAY_MS = 5,             /* how long a worker waits for a fast client itself */
};

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
	const struct framing *f = &x->framing;
	bool done = framing_done(f), chunked = !done && f->state != FRAMING_LENGTH;
	/* Who said no length may have meant what follows; and of chunks that were too much already nobody knows the end. */
	bool endless = x->reply.status == 411 || (x->reply.status == 413 && chunked);
	/* Whether a client that waits for 100 will send the body after a refusal is its own choice (RFC 9110 §10.1.1). */
	bool unsure = !done && x->head.expect_continue && !x->continue_sent && c->stash.len == 0;
	bool long_rest = f->state == FRAMING_LENGTH && f->left > HTTP_SKIP_MAX;
	if (endless || unsure || long_rest || f->state == FRAMING_BROKEN) {
		c->close = true;
		c->linger = true;
	}
}

/* --- reading --- */

/*
 * The buffers that a handler may go on reading while the next are filled (http_handler.lend): used in turn, and settled before each
 * use. It pays for a few fast uploads, so there are never more loans than processors.
 */
struct loan {
	char *buffers[LOAN_MAX];
	unsigned count, at; /* 0: there is no loan */
};

struct visit {
	struct exchange *x;
	char *buffer;
	size_t size;
	bool may_lend;
	struct loan loan;
	size_t budget;
	struct err err;
};

static enum body_result refuse(struct visit *v)
{
	reply_error(v->x, &v->err);
	return BODY_REFUSED;
}

/* Passes one stretch of body to the handler. */
static enum body_result deliver(struct visit *v, bool lent, const void *data, size_t n)
{
	struct exchange *x = v->x;
	const struct http_handler *handler = x->handler;
	x->received += n;
	if (handler->body == NULL)
		return BODY_DONE;
	int rc = lent ? handler->lend(x, data, n, &v->err) : handler->body(x, data, n, &v->err);
	return rc == 0 ? BODY_DONE : refuse(v);
}

/* Undoes the framing of data[0..n) and passes on what is body. *used: how much of it belongs to this request. */
static enum body_result unframe(struct visit *v, bool lent, const char *data, size_t n,
				size_t *used)
{
	struct exchange *x = v->x;
	size_t body;
	*used = 0;
	while (*used < n && !framing_done(&x->framing)) {
		size_t step = framing_step(&x->framing, data + *used, n - *used, &body, &v->err);
		if (step == 0) {
			account_refusal(x->server, REFUSED_MALFORMED);
			return refuse(v);
		}
		*used += step;
		if (body > 0 && deliver(v, lent, data + *used - body, body) != BODY_DONE)
			return BODY_REFUSED;
	}
	return BODY_DONE;
}

static enum body_result pull_stash(struct visit *v)
{
	struct stash *s = &v->x->conn->stash;
	size_t used;
	enum body_result result = unframe(v, false, s->data + s->off, s->len, &used);
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
static enum body_result stay_for_more(struct visit *v)
{
	struct exchange *x = v->x;
	_Atomic int *staying = &x->server->staying;
	struct pollfd readable = {.fd = x->conn->fd, .events = POLLIN | POLLRDHUP};
	body_gather(x);
	if (x->conn->lowat < GATHER_MIN)
		return BODY_WAIT;
	/* Who has lent something need not idle. */
	for (int rc = v->loan.count > 0; rc > 0;) {
		if (poll(&readable, 1, 0) > 0)
			return BODY_DONE;
		rc = x->handler->help(x, &v->err);
		if (rc < 0)
			return refuse(v);
	}
	bool room = atomic_fetch_add(staying, 1) < x->server->processors;
	bool ready = room && poll(&readable, 1, STAY_MS) > 0;
	(void)atomic_fetch_sub(staying, 1);
	return ready ? BODY_DONE : BODY_WAIT;
}

/* What a read that brought nothing means. */
static enum body_result nothing_read(ssize_t got)
{
	return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? BODY_WAIT : BODY_GONE;
}

static void count_read(struct visit *v, ssize_t got)
{
	(void)atomic_fetch_add_explicit(&v->x->conn->received, (uint64_t)got, memory_order_relaxed);
	v->budget -= (size_t)got < v->budget ? (size_t)got : v->budget;
}

/*
 * How many of at most n bytes may be read: what follows the body is another request's. Where a chunked one ends is not known: no
 * more than a buffer is read past what is.
 */
static size_t within_body(const struct exchange *x, size_t n)
{
	uint64_t most = framing_at_least(&x->framing);
	if (x->framing.state != FRAMING_LENGTH && most < HTTP_BUFFER)
		most = HTTP_BUFFER;
	return most < n ? (size_t)most : n;
}

/* Passes on what was read; what the framing leaves goes to the stash. */
static enum body_result pass_on(struct visit *v, bool lent, const char *data, size_t n)
{
	struct exchange *x = v->x;
	size_t used = 0;
	enum body_result result = BODY_DONE;
	if (!framing_done(&x->framing))
		result = unframe(v, lent, data, n, &used);
	return stash_put(&x->conn->stash, data + used, n - used) == 0 ? result : BODY_GONE;
}

/* A full buffer means that the client is fast: from now on it is received into many, if few others have them. */
static void begin_loan(struct visit *v)
{
	struct http_server *server = v->x->server;
	v->may_lend = false;
	if (atomic_fetch_add(&server->loans, 1) >= server->processors) {
		(void)atomic_fetch_sub(&server->loans, 1);
		return;
	}
	struct loan *loan = &v->loan;
	while (loan->count < LOAN_MAX &&
	       (loan->buffers[loan->count] = buffers_take_spare(server->buffers)) != NULL)
		loan->count++;
	if (loan->count >= LOAN_MIN) {
		v->budget += LOAN_VISIT_BYTES - VISIT_BYTES;
		return;
	}
	while (loan->count > 0)
		buffers_give(server->buffers, loan->buffers[--loan->count]);
	(void)atomic_fetch_sub(&server->loans, 1);
}

/* However the visit ends, nobody may read the buffers afterwards. */
static enum body_result end_loan(struct visit *v, enum body_result result)
{
	struct exchange *x = v->x;
	struct loan *loan = &v->loan;
	if (loan->count == 0)
		return result;
	for (unsigned i = 0; i < loan->count; i++) {
		if (x->handler->settle(x, loan->buffers[i], HTTP_BUFFER, &v->err) != 0 &&
		    result != BODY_REFUSED && result != BODY_GONE)
			result = refuse(v);
	}
	while (loan->count > 0)
		buffers_give(x->server->buffers, loan->buffers[--loan->count]);
	(void)atomic_fetch_sub(&x->server->loans, 1);
	return result;
}

/* The same as pull_socket(), into the next buffers of the loan. */
static enum body_result pull_loan(struct visit *v)
{
	struct exchange *x = v->x;
	struct loan *loan = &v->loan;
	struct iovec pieces[LOAN_READ];
	size_t want = within_body(x, (size_t)LOAN_READ * HTTP_BUFFER), got;
	int n = 0;
	for (size_t left = want; left > 0 && n < LOAN_READ; n++) {
		char *buffer = loan->buffers[(loan->at + (unsigned)n) % loan->count];
		size_t room = left < HTTP_BUFFER ? left : HTTP_BUFFER;
		if (x->handler->settle(x, buffer, HTTP_BUFFER, &v->err) != 0)
			return refuse(v);
		pieces[n] = (struct iovec){buffer, room};
		left -= room;
	}
	ssize_t came = socket_read_many(x->conn->fd, pieces, n);
	if (came <= 0)
		return nothing_read(came);
	count_read(v, came);
	got = (size_t)came;
	enum body_result result = BODY_DONE;
	for (int i = 0; got > 0; i++) {
		size_t here = pieces[i].iov_len < got ? pieces[i].iov_len : got;
		loan->at = (loan->at + 1) % loan->count;
		got -= here;
		if (result == BODY_DONE)
			result = pass_on(v, true, pieces[i].iov_base, here);
		else if (stash_put(&x->conn->stash, pieces[i].iov_base, here) != 0)
			return BODY_GONE; /* what follows the refusal is looked at by whoever drains it */
	}
	return result;
}

/* One read, passed on. BODY_DONE: it went well. */
static enum body_result pull_socket(struct visit *v)
{
	struct exchange *x = v->x;
	if (v->loan.count > 0)
		return pull_loan(v);
	ssize_t got = socket_read(x->conn->fd, v->buffer, within_body(x, v->size));
	if (got <= 0)
		return nothing_read(got);
	count_read(v, got);
	if (v->may_lend && (size_t)got == v->size)
		begin_loan(v);
	return pass_on(v, false, v->buffer, (size_t)got);
}

static enum body_result pull_stream(struct visit *v)
{
	struct exchange *x = v->x;
	while (!framing_done(&x->framing)) {
		enum body_result result = x->conn->stash.len > 0 ? pull_stash(v) : pull_socket(v);
		if (result == BODY_WAIT)
			result = stay_for_more(v);
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
	return unframe(v, false, v->buffer, n, &used);
}

/* Takes a buffer for a while. */
static enum body_result pull(struct exchange *x)
{
	char spare[SPARE_BYTES];
	struct visit v = {.x = x, .budget = VISIT_BYTES};
	struct buffers *buffers = x->server->buffers;
	void *buffer = buffers_take(buffers);
	v.buffer = buffer != NULL ? buffer : spare;
	v.size = buffer != NULL ? HTTP_BUFFER : sizeof(spare);
	bool whole = x->framing.state == FRAMING_LENGTH && x->framing.left <= HTTP_SMALL_BODY &&
		     x->head.content_length <= HTTP_SMALL_BODY && x->framing.left <= v.size;
	bool large = x->framing.state != FRAMING_LENGTH || x->framing.left > LOAN_FROM;
	v.may_lend = large && v.size == HTTP_BUFFER && x->handler->lend != NULL;
	enum body_result result = whole ? pull_whole(&v) : end_loan(&v, pull_stream(&v));
	if (buffer != NULL)
		buffers_give(buffers, buffer);
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
