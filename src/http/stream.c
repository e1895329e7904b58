/*
 * An answer that is made piece by piece: a worker fills one of two blocks while libmicrohttpd sends the other. When none is
 * ready the connection is suspended inside libmicrohttpd's callback, and the worker that fills the next block resumes it.
 *
 * Invariants: at most one worker fills; `waiting` means suspended; after stream_end() nobody but a filling worker touches the
 * stream. Threads: stream_read() and stream_end() on the event thread, stream_fill() on a worker.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/log.h"
#include "exchange_private.h"

enum { BLOCKS = 2, SEND_BLOCK = 32 * 1024 };

struct block {
	char *data;
	size_t len, off;
};

struct stream {
	pthread_mutex_t lock; /* guards everything below; never held while read() runs */
	struct exchange *x;
	struct task task;
	struct block blocks[BLOCKS];
	unsigned first, ready; /* blocks[first .. first + ready) hold bytes */
	int64_t left;          /* still to be read */
	bool filling, waiting, ended, failed;
};

static void stream_fill(struct task *task);

struct stream *stream_new(struct exchange *x)
{
	struct stream *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	for (unsigned i = 0; i < BLOCKS; i++) {
		s->blocks[i].data = malloc(HTTP_STREAM_BLOCK);
		s->failed = s->failed || s->blocks[i].data == NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->x = x;
	s->task.run = stream_fill;
	s->left = x->reply.length;
	if (s->failed)
		stream_free(&s);
	return s;
}

void stream_free(struct stream **stream)
{
	struct stream *s = *stream;
	*stream = NULL;
	if (s == NULL)
		return;
	for (unsigned i = 0; i < BLOCKS; i++)
		free(s->blocks[i].data);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Sees to it that somebody fills what is empty. Under the lock. */
static void start_filling(struct stream *s)
{
	if (s->filling || s->failed || s->ended || s->left == 0 || s->ready == BLOCKS)
		return;
	s->filling = true;
	if (pool_submit_urgent(exchange_pool(s->x), &s->task) != 0) {
		s->filling = false;
		s->failed = true;
	}
}

static void stream_resume(struct exchange *x)
{
	struct http_server *server = x->server;
	struct MHD_Connection *mhd = x->conn->mhd;
	conn_set_phase(x->conn, CONN_SEND);
	MHD_resume_connection(mhd);
	server_count_down(server, &server->suspended);
}

/* Fills the next block. Returns false when it was the last. */
static bool fill_one(struct stream *s, struct block *block, int64_t left)
{
	struct err err;
	size_t got = 0, max = left < HTTP_STREAM_BLOCK ? (size_t)left : HTTP_STREAM_BLOCK;
	int result = s->x->reply.read(s->x->reply.context, block->data, max, &got, &err);
	if (result != 0)
		log_event(LOG_LEVEL_ERROR, s->x->request_id, "%s %s: the answer broke off: %s",
			  s->x->head.method, s->x->head.target, err.message);
	block->off = 0;
	block->len = got;
	return result == 0 && got > 0;
}

static void stream_fill(struct task *task)
{
	struct stream *s = (struct stream *)(void *)((char *)task - offsetof(struct stream, task));
	struct exchange *x = s->x;
	bool more, resume, ended;
	do {
		pthread_mutex_lock(&s->lock);
		struct block *block = &s->blocks[(s->first + s->ready) % BLOCKS];
		int64_t left = s->left;
		ended = s->ended;
		pthread_mutex_unlock(&s->lock);
		bool ok = ended || fill_one(s, block, left);

		pthread_mutex_lock(&s->lock);
		ended = s->ended;
		s->failed = s->failed || !ok;
		if (ok && !ended) {
			s->left -= (int64_t)block->len;
			s->ready++;
		}
		more = !ended && !s->failed && s->left > 0 && s->ready < BLOCKS;
		s->filling = more;
		resume = s->waiting;
		s->waiting = false;
		pthread_mutex_unlock(&s->lock);
		if (resume)
			stream_resume(x); /* while more: filling keeps x alive */
	} while (more);
	if (ended)
		exchange_release_later(x);
}

static ssize_t take_ready(struct stream *s, char *data, size_t max)
{
	struct block *block = &s->blocks[s->first];
	size_t n = block->len - block->off < max ? block->len - block->off : max;
	memcpy(data, block->data + block->off, n);
	block->off += n;
	if (block->off == block->len) {
		s->first = (s->first + 1) % BLOCKS;
		s->ready--;
	}
	return (ssize_t)n;
}

static ssize_t stream_read(void *context, uint64_t at, char *data, size_t max)
{
	struct stream *s = context;
	ssize_t n = 0;
	(void)at;
	pthread_mutex_lock(&s->lock);
	if (s->ready > 0)
		n = take_ready(s, data, max);
	start_filling(s);
	if (n == 0 && (s->failed || !server_may_suspend(s->x->server))) {
		n = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (n == 0) {
		s->waiting = true;
		conn_turn(s->x->conn, CONN_WORK);
		MHD_suspend_connection(s->x->conn->mhd);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

struct MHD_Response *stream_response(struct stream *s)
{
	return MHD_create_response_from_callback((uint64_t)s->x->reply.length, SEND_BLOCK,
						 stream_read, s, NULL);
}

bool stream_end(struct stream *s)
{
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	bool idle = !s->filling;
	pthread_mutex_unlock(&s->lock);
	return idle;
}
