/*
 * The life of an exchange: from a parsed head through check, body, finish and answer to release. What is to be done is
 * decided by its state alone, never by how often libmicrohttpd called.
 *
 * Threads: exchange_begin(), exchange_step() and exchange_ended() on the connection's event thread; exchange_visit() on a
 * worker; hand-over is suspend then submit, hand-back is resume, each as the owner's last statement.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/log.h"
#include "exchange_private.h"

static void exchange_visit(struct task *task);

static struct exchange *exchange_of(struct task *task)
{
	return (struct exchange *)(void *)((char *)task - offsetof(struct exchange, task));
}

/* Keeps why the head was refused; the bytes behind it mean nothing any more. */
static void exchange_break(struct exchange *x, const struct err *why)
{
	x->broken = true;
	x->head.keep_alive = false;
	x->head.content_length = 0;
	x->conn->close = true;
	x->conn->linger = true;
	x->head_err = arena_alloc(&x->arena, sizeof(*x->head_err));
	if (x->head_err != NULL)
		*x->head_err = *why;
	account_refusal(x->server, REFUSED_MALFORMED);
}

/*
 * Unique without asking for randomness each time, which costs seven system calls: the server's own id, its last 48 bits
 * counting.
 */
static void name_request(struct exchange *x)
{
	struct uuid id = x->server->request_base;
	uint64_t number = atomic_fetch_add_explicit(&x->server->requests, 1, memory_order_relaxed);
	for (size_t i = 15; i >= 10; i--, number >>= 8)
		id.bytes[i] = (unsigned char)number;
	uuid_format(&id, x->request_id);
}

struct exchange *exchange_new(struct conn *c, const char *data, size_t n, const struct err *refused)
{
	unsigned lines = head_count_lines(data, n);
	size_t fields = lines * sizeof(struct head_field);
	struct exchange *x = calloc(1, sizeof(*x) + fields + n + 1);
	struct err err;
	if (x == NULL)
		return NULL;
	x->pump.kind = PUMP_EXCHANGE;
	x->conn = c;
	x->server = c->server;
	x->task.run = exchange_visit;
	x->peer = c->peer;
	memcpy(x->peer_text, c->peer_text, sizeof(x->peer_text));
	x->started_ns = clock_monotonic_ns();
	x->gathered_ns = x->started_ns;
	arena_init_in(&x->arena, HTTP_ARENA_MAX, x->arena_room, sizeof(x->arena_room));
	reply_init(x);
	name_request(x);
	x->bytes = (char *)(x + 1) + fields;
	memcpy(x->bytes, data, n);
	if (head_parse(x->bytes, n, (struct head_field *)(x + 1), &x->head, &err) != 0 ||
	    refused != NULL)
		exchange_break(x, refused != NULL ? refused : &err);
	framing_init(&x->framing, x->head.content_length);
	atomic_store_explicit(&c->received, 0, memory_order_relaxed);
	c->served = true;
	(void)atomic_fetch_add(&x->server->exchanges, 1);
	return x;
}

void exchange_free(struct exchange *x)
{
	struct http_server *server = x->server;
	if (x->response != NULL)
		MHD_destroy_response(x->response);
	reply_release(x);
	arena_release(&x->arena);
	free(x);
	server_count_down(server, &server->exchanges);
}

bool exchange_has_more_input(const struct exchange *x)
{
	return x->conn->stash.len > 0 || x->conn->kernel_has_more;
}

/* When the disk takes a second for a write, all workers are busy with uploads: those who only read have threads of their own. */
struct pool *exchange_pool(const struct exchange *x)
{
	const struct http_config *config = &x->server->config;
	return exchange_is_head(x) || strcmp(x->head.method, "GET") == 0 ? config->readers
									 : config->workers;
}

/* --- handing over and back --- */

/* False: the server stops, nothing may be suspended any more. */
static bool exchange_suspend(struct exchange *x, enum exchange_state state)
{
	if (!server_may_suspend(x->server))
		return false;
	x->state = state;
	x->suspended = true;
	MHD_suspend_connection(x->conn->mhd);
	return true;
}

/* Gives the connection back to its event thread, which may free x before this returns. */
static void exchange_resume(struct exchange *x, enum exchange_state state)
{
	struct http_server *server = x->server;
	struct MHD_Connection *mhd = x->conn->mhd;
	pump_forget(x);
	(void)conn_set_lowat(x->conn, 1);
	conn_set_phase(x->conn, CONN_SEND);
	x->state = state;
	MHD_resume_connection(mhd);
	server_count_down(server, &server->suspended);
}

void exchange_cancel(struct exchange *x)
{
	exchange_resume(x, EXCHANGE_CANCELLED);
}

void exchange_hand_back(struct exchange *x)
{
	struct err err;
	if (!reply_is_set(x)) {
		(void)err_set(&err, ERR_INTERNAL, "%s %s was not answered", x->head.method,
			      x->head.target);
		reply_error(x, &err);
	}
	body_abandon(x);
	if (reply_build(x) != 0)
		exchange_cancel(x);
	else
		exchange_resume(x, EXCHANGE_REPLIED);
}

/* --- the worker's side --- */

static void exchange_finish(struct exchange *x)
{
	int defer;
	conn_set_phase(x->conn, CONN_WORK);
	x->state = EXCHANGE_WORKING;
	do {
		atomic_store(&x->defer, DEFER_NOT);
		x->handler->finish(x);
		defer = DEFER_ASKED;
		/* Parked: whoever completes hands back, and from here on x is theirs. */
		if (atomic_compare_exchange_strong(&x->defer, &defer, DEFER_PARKED))
			return;
	} while (defer == DEFER_AGAIN);
	exchange_hand_back(x);
}

void exchange_defer(struct exchange *x)
{
	int not_asked = DEFER_NOT;
	(void)atomic_compare_exchange_strong(&x->defer, &not_asked, DEFER_ASKED);
}

void exchange_complete(struct exchange *x)
{
	if (atomic_exchange(&x->defer, DEFER_COMPLETED) == DEFER_PARKED)
		exchange_hand_back(x);
}

void exchange_again(struct exchange *x)
{
	if (atomic_exchange(&x->defer, DEFER_AGAIN) == DEFER_PARKED)
		exchange_wake(x); /* its body is complete: the visit goes straight to finish() */
}

static void exchange_visit(struct task *task)
{
	struct exchange *x = exchange_of(task);
	x->admitted = true;
	switch (body_pull(x)) {
	case BODY_DONE:
		exchange_finish(x);
		return;
	case BODY_REFUSED:
		exchange_hand_back(x);
		return;
	case BODY_GONE:
		exchange_cancel(x);
		return;
	default:
		return;
	}
}

/* The worker queue is full before anything was done: the client may come again. */
static void exchange_turn_away(struct exchange *x)
{
	struct err err;
	(void)err_set(&err, ERR_BUSY, "too many requests wait for a worker");
	account_refusal(x->server, REFUSED_QUEUE);
	reply_error(x, &err);
	exchange_hand_back(x);
}

void exchange_wake(struct exchange *x)
{
	struct pool *workers = exchange_pool(x);
	if (x->admitted) {
		if (pool_submit_urgent(workers, &x->task) != 0)
			exchange_cancel(x);
	} else if (pool_submit(workers, &x->task) != 0) {
		exchange_turn_away(x);
	}
}

/* --- the event thread's side --- */

/* Sets the answer for a request that no handler takes; true when it did. */
static bool exchange_route(struct exchange *x, struct err *err)
{
	if (strcmp(x->target.path, "*") == 0) {
		reply_status(x, 204);
		reply_header(x, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
		return true;
	}
	switch (router_match(x->server->router, x->head.method, x->target.path, &x->arena,
			     &x->match, err)) {
	case 1:
		x->handler = x->match.handler;
		return false;
	case 0:
		(void)err_set(err, ERR_NOT_FOUND, "there is nothing at this path");
		break;
	default:
		/* What a method that nobody knows wants done with what follows, nobody knows either. */
		if (err->kind == ERR_NOT_IMPLEMENTED || strcmp(x->head.method, "TRACE") == 0)
			x->conn->close = true;
		if (err->kind != ERR_METHOD)
			break;
		if (strcmp(x->head.method, "OPTIONS") == 0)
			reply_status(x, 204);
		else
			reply_error(x, err);
		reply_header(x, "Allow", x->match.allow);
		return true;
	}
	reply_error(x, err);
	return true;
}

/* Whether the request may go to a handler; else the answer is set. */
static bool exchange_admit(struct exchange *x)
{
	struct err err;
	if (x->broken) {
		if (x->head_err != NULL)
			err = *x->head_err;
		else
			(void)err_set(&err, ERR_NO_MEMORY, "no memory for an error");
		reply_error(x, &err);
		return false;
	}
	if (x->conn->excess) {
		x->conn->close = true;
		(void)err_set(&err, ERR_BUSY, "too many connections");
		reply_error(x, &err);
		return false;
	}
	if (target_parse(x->head.target, &x->arena, &x->target, &err) != 0) {
		reply_error(x, &err);
		return false;
	}
	if (exchange_route(x, &err))
		return false;
	if (!x->handler->takes_body && !body_is_empty(x)) {
		(void)err_set(&err, ERR_TOO_LARGE, "this request takes no body");
		reply_error(x, &err);
		return false;
	}
	return true;
}

/* Asks the handler. True: the answer is set. */
static bool exchange_check(struct exchange *x)
{
	if (!exchange_admit(x))
		return true;
	x->checked = true;
	if (x->handler->check != NULL && x->handler->check(x) == HTTP_ANSWERED)
		return true;
	if (x->handler->finish != NULL)
		return false;
	struct err err;
	(void)err_set(&err, ERR_INTERNAL, "%s %s has no finish()", x->head.method, x->target.path);
	reply_error(x, &err);
	return true;
}

/*
 * Hands a request that goes on to the workers, or to the pump when its small body is still under way. True: x may be another
 * thread's before this returns. False: it is nobody's.
 */
static bool exchange_hand_over(struct exchange *x)
{
	if (body_send_continue(x) != 0 || !exchange_suspend(x, EXCHANGE_RECEIVING))
		return false;
	bool small = x->head.content_length > 0 && x->head.content_length <= HTTP_SMALL_BODY;
	if (small && !body_is_here(x)) {
		conn_set_phase(x->conn, CONN_BODY);
		body_gather(x);
		pump_arm(x);
	} else if (pool_submit(exchange_pool(x), &x->task) != 0) {
		exchange_turn_away(x);
	}
	return true;
}

bool exchange_begin(struct exchange *x)
{
	struct event_thread *self = server_enter(x->server);
	bool answered = exchange_check(x);
	if (answered) {
		body_abandon(x);
		x->state = reply_build(x) == 0 ? EXCHANGE_REPLIED : EXCHANGE_CANCELLED;
	} else if (!exchange_hand_over(x)) {
		x->state = EXCHANGE_CANCELLED;
		answered = true;
	}
	server_leave(self);
	return answered;
}

static mhd_result exchange_queue(struct exchange *x)
{
	struct MHD_Response *response = x->response;
	x->response = NULL;
	x->state = EXCHANGE_SENDING;
	conn_set_phase(x->conn, CONN_SEND);
	mhd_result queued = MHD_queue_response(x->conn->mhd, (unsigned)x->reply.status, response);
	MHD_destroy_response(response);
	return queued;
}

/*
 * With bytes of a next request already read, the connection has to go through suspend and resume: that is what makes
 * libmicrohttpd look at it again although epoll has nothing new to say. What is still in the kernel epoll tells of, unless it
 * did before: a connection that was suspended since then was taken out of its set, and is put back only after the answer.
 */
static bool exchange_must_bounce(const struct exchange *x)
{
	return !x->bounced &&
	       (x->conn->stash.len > 0 || (x->conn->kernel_has_more && !x->suspended));
}

static mhd_result exchange_answer(struct exchange *x)
{
	if (!exchange_must_bounce(x))
		return exchange_queue(x);
	x->bounced = true;
	if (!exchange_suspend(x, EXCHANGE_REPLIED))
		return MHD_NO;
	exchange_resume(x, EXCHANGE_REPLIED);
	return MHD_YES;
}

mhd_result exchange_step(struct exchange *x)
{
	if (!x->announced) { /* an answer to this call would cost the connection: 0.9.75 takes it for a refused body */
		x->announced = true;
		return MHD_YES;
	}
	switch (x->state) {
	case EXCHANGE_REPLIED:
		return exchange_answer(x);
	case EXCHANGE_CANCELLED:
		return MHD_NO;
	default:
		return MHD_YES;
	}
}

/* --- the end --- */

static void exchange_release(struct exchange *x)
{
	if (x->handler_state != NULL && x->handler->release != NULL)
		x->handler->release(x);
	exchange_free(x);
}

static void exchange_release_task(struct task *task)
{
	exchange_release(exchange_of(task));
}

void exchange_release_later(struct exchange *x)
{
	x->task.run = exchange_release_task;
	if (pool_submit_urgent(exchange_pool(x), &x->task) != 0)
		exchange_release(x);
}

/* What of the connection outlives the request. */
static void exchange_leave(struct exchange *x, bool completed)
{
	struct conn *c = x->conn;
	c->x = NULL;
	if (completed && c->close && (c->linger || exchange_has_more_input(x))) {
		c->dead = true;
		pump_linger(x->server->pump, c->fd);
	} else if (!framing_done(&x->framing)) {
		c->skip = completed && !c->close ? malloc(sizeof(*c->skip)) : NULL;
		if (c->skip != NULL)
			*c->skip = x->framing;
		c->skip_left = HTTP_SKIP_MAX;
		c->dead = c->dead || c->skip == NULL;
	}
	c->close = c->close || !x->head.keep_alive || !completed;
	if (!c->close && c->skip == NULL && c->stash.len == 0)
		conn_offer(c, false);
	c->stash_is_fresh = c->stash.len > 0;
	conn_set_phase(c, c->skip != NULL ? CONN_HEAD : CONN_IDLE);
}

void exchange_ended(struct exchange *x, bool completed)
{
	conn_claim(x->conn);
	account_exchange(x, completed);
	exchange_leave(x, completed);
	x->state = EXCHANGE_ENDED;
	if (x->reply.stream != NULL && !stream_end(x->reply.stream))
		return;
	if ((x->handler_state != NULL && !x->release_anywhere) || reply_release_blocks(x))
		exchange_release_later(x);
	else
		exchange_release(x);
}
