/*
 * Reading ahead: while a worker passes one stretch of a large body on (hashing takes longest), another reads the next from the
 * socket. It pays for a few fast uploads, so there are never more of these than processors.
 *
 * Invariants: between ahead_start() and ahead_take() socket and buffer are the reader's; a reader that was not reached by then is
 * left behind: it finds itself orphaned, touches nothing and frees itself. Reading never blocks, so neither does taking for
 * longer than a read. Threads: one worker owns it, another runs read_ahead().
 */
#include <errno.h>
#include <stdlib.h>

#include "exchange_private.h"

enum ahead_state {
	AHEAD_IDLE,     /* nothing was asked for */
	AHEAD_QUEUED,   /* waits for a worker */
	AHEAD_READING,  /* a worker reads */
	AHEAD_READY,    /* `got` and `failure` say what came */
	AHEAD_ORPHANED, /* the owner has gone: whoever runs it frees it */
};

struct ahead {
	pthread_mutex_t lock; /* guards state */
	pthread_cond_t ready;
	enum ahead_state state;
	struct task task;
	int fd;
	char *buffer;
	size_t want, got;
	int failure; /* errno of the read that brought nothing, 0 at the stream's end */
};

static void ahead_destroy(struct ahead *a)
{
	pthread_cond_destroy(&a->ready);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* Reads until the buffer is full or the socket empty. */
static void fill(struct ahead *a)
{
	a->got = 0;
	a->failure = EAGAIN;
	while (a->got < a->want) {
		ssize_t n = socket_read(a->fd, a->buffer + a->got, a->want - a->got);
		if (n <= 0) {
			a->failure = n < 0 ? errno : 0;
			return;
		}
		a->got += (size_t)n;
	}
}

static void read_ahead(struct task *task)
{
	struct ahead *a = (struct ahead *)(void *)((char *)task - offsetof(struct ahead, task));
	pthread_mutex_lock(&a->lock);
	bool orphaned = a->state == AHEAD_ORPHANED;
	a->state = AHEAD_READING;
	pthread_mutex_unlock(&a->lock);
	if (orphaned) {
		ahead_destroy(a);
		return;
	}
	fill(a);
	pthread_mutex_lock(&a->lock);
	a->state = AHEAD_READY;
	pthread_cond_signal(&a->ready);
	pthread_mutex_unlock(&a->lock);
}

struct ahead *ahead_new(void)
{
	struct ahead *a = calloc(1, sizeof(*a));
	if (a == NULL)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->ready, NULL);
	a->task.run = read_ahead;
	return a;
}

bool ahead_start(struct ahead *a, struct pool *workers, int fd, char *buffer, size_t want)
{
	a->fd = fd;
	a->buffer = buffer;
	a->want = want;
	a->state = AHEAD_QUEUED; /* nobody else looks yet */
	if (pool_submit_urgent(workers, &a->task) == 0)
		return true;
	a->state = AHEAD_IDLE;
	return false;
}

bool ahead_take(struct ahead **ahead, size_t *got, int *failure)
{
	struct ahead *a = *ahead;
	pthread_mutex_lock(&a->lock);
	while (a->state == AHEAD_READING)
		pthread_cond_wait(&a->ready, &a->lock);
	bool late = a->state == AHEAD_QUEUED;
	a->state = late ? AHEAD_ORPHANED : AHEAD_IDLE;
	pthread_mutex_unlock(&a->lock);
	if (late) {
		*ahead = NULL;
		return false;
	}
	*got = a->got;
	*failure = a->failure;
	return true;
}

void ahead_free(struct ahead **ahead)
{
	if (*ahead != NULL)
		ahead_destroy(*ahead);
	*ahead = NULL;
}
