/*
 * Group commit's clockwork: what comes while all threads run batches is the next batch.
 *
 * Invariants: every submitted item reaches the callback exactly once; batches are taken in the order of submission, one thread
 * has one at a time. Whenever the lock is free, nothing waits to be run, or a thread was woken and is on its way to it, or all
 * threads run batches and look when they are through; one is woken at a time, and wakes the next if it leaves items behind (as
 * in pool.c). Threads: any may submit; the callback runs on the batcher's own; batcher_free() is for the one owner.
 */
#include "depotd/work/batcher.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct batcher {
	/* guards everything down to `stopping`; never held while the callback runs */
	pthread_mutex_t lock;
	pthread_cond_t work; /* signalled, once the lock is left, after wake_next() said so */
	struct batch_item *head, *tail;
	unsigned waiting; /* threads inside pthread_cond_wait() */
	bool waking;      /* one of them was signalled and has not come to the list yet */
	bool stopping;

	atomic_size_t depth; /* the list's length: written under the lock, read without it */
	size_t batch_max, queue_max;
	batch_run_fn run;
	void *context;
	unsigned threads, started;
	struct batcher_thread *thread; /* threads of them */
	struct batch_item **batches;   /* of all threads, batch_max each */
};

struct batcher_thread {
	struct batcher *batcher;
	pthread_t id;
	struct batch_item **batch; /* its own part of batches */
};

/* Whether somebody is to be signalled once the lock is left. */
static bool wake_next(struct batcher *batcher)
{
	if (!batcher->head || batcher->waking || batcher->waiting == 0)
		return false;
	batcher->waking = true;
	return true;
}

/* Takes up to batch_max items; 0 once stopping and empty. */
static size_t take(struct batcher *batcher, struct batch_item **batch)
{
	size_t n = 0;
	pthread_mutex_lock(&batcher->lock);
	while (!batcher->head && !batcher->stopping) {
		batcher->waiting++;
		pthread_cond_wait(&batcher->work, &batcher->lock);
		batcher->waiting--;
		batcher->waking = false;
	}
	while (batcher->head && n < batcher->batch_max) {
		struct batch_item *item = batcher->head;
		batcher->head = item->next;
		item->next = NULL;
		batch[n++] = item;
	}
	if (!batcher->head)
		batcher->tail = NULL;
	atomic_fetch_sub_explicit(&batcher->depth, n, memory_order_relaxed);
	bool wake = wake_next(batcher);
	pthread_mutex_unlock(&batcher->lock);
	if (wake)
		pthread_cond_signal(&batcher->work);
	return n;
}

static void *batcher_thread(void *context)
{
	struct batcher_thread *self = context;
	struct batcher *batcher = self->batcher;
	size_t n;
	while ((n = take(batcher, self->batch)) > 0)
		batcher->run(batcher->context, self->batch, n);
	return NULL;
}

int batcher_submit(struct batcher *batcher, struct batch_item *item)
{
	int rc = -1;
	bool wake = false;
	pthread_mutex_lock(&batcher->lock);
	if (!batcher->stopping &&
	    atomic_load_explicit(&batcher->depth, memory_order_relaxed) < batcher->queue_max) {
		item->next = NULL;
		if (batcher->tail)
			batcher->tail->next = item;
		else
			batcher->head = item;
		batcher->tail = item;
		atomic_fetch_add_explicit(&batcher->depth, 1, memory_order_relaxed);
		wake = wake_next(batcher);
		rc = 0;
	}
	pthread_mutex_unlock(&batcher->lock);
	if (wake)
		pthread_cond_signal(&batcher->work);
	return rc;
}

size_t batcher_depth(const struct batcher *batcher)
{
	return atomic_load_explicit(&batcher->depth, memory_order_relaxed);
}

/* 0, or an errno. */
static int start_threads(struct batcher *batcher, const char *name)
{
	sigset_t all, before;
	int rc = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (rc == 0 && batcher->started < batcher->threads) {
		struct batcher_thread *thread = &batcher->thread[batcher->started];
		thread->batcher = batcher;
		thread->batch = batcher->batches + batcher->started * batcher->batch_max;
		rc = pthread_create(&thread->id, NULL, batcher_thread, thread);
		if (rc == 0) {
			pthread_setname_np(thread->id, name);
			batcher->started++;
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int batcher_new(const char *name, unsigned threads, size_t batch_max, size_t queue_max,
		batch_run_fn run, void *context, struct batcher **out, struct err *err)
{
	struct batcher *batcher = calloc(1, sizeof(*batcher));
	if (!batcher)
		return err_set(err, ERR_NO_MEMORY, "batcher %s", name);
	batcher->batch_max = batch_max ? batch_max : 1;
	batcher->queue_max = queue_max;
	batcher->run = run;
	batcher->context = context;
	batcher->threads = threads ? threads : 1;
	atomic_init(&batcher->depth, 0);
	pthread_mutex_init(&batcher->lock, NULL);
	pthread_cond_init(&batcher->work, NULL);
	batcher->thread = calloc(batcher->threads, sizeof(*batcher->thread));
	batcher->batches =
		calloc(batcher->threads * batcher->batch_max, sizeof(struct batch_item *));
	int rc = batcher->thread && batcher->batches ? start_threads(batcher, name) : ENOMEM;
	if (rc != 0) {
		batcher_free(&batcher);
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the threads of %s", name);
	}
	*out = batcher;
	return 0;
}

void batcher_free(struct batcher **batcherp)
{
	struct batcher *batcher = *batcherp;
	if (!batcher)
		return;
	pthread_mutex_lock(&batcher->lock);
	batcher->stopping = true;
	pthread_cond_broadcast(&batcher->work);
	pthread_mutex_unlock(&batcher->lock);
	for (unsigned i = 0; i < batcher->started; i++)
		pthread_join(batcher->thread[i].id, NULL);
	free(batcher->batches);
	free(batcher->thread);
	pthread_cond_destroy(&batcher->work);
	pthread_mutex_destroy(&batcher->lock);
	free(batcher);
	*batcherp = NULL;
}
