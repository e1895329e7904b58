/*
 * Worker threads behind one bounded queue.
 *
 * Invariants: a task is on the queue exactly from its submission until a worker takes it; a worker does not touch a task
 * after having called its function, since that function may have freed it. `queued` counts the list.
 * Threads: any may submit; workers run here; pool_free() is for the one owner.
 */
#include "depotd/work/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	NAME_MAX_CHARS = 10,
	STACK_BYTES =
		1024 *
		1024, /* deepest known user: JSON nested to its limit; sanitizers multiply frames */
};

struct pool {
	pthread_mutex_t
		lock; /* guards everything down to `stopping`; never held while a task runs */
	pthread_cond_t work; /* signalled when the queue grows or the pool stops */
	struct task *head, *tail;
	size_t queued;
	size_t queue_max;
	unsigned idle; /* workers inside pthread_cond_wait(): nobody to signal when 0 */
	bool stopping;

	char name[NAME_MAX_CHARS + 1];
	unsigned started;
	pthread_t *threads;
	struct metric *depth, *busy, *refused; /* NULL without a registry */
};

static struct task *take_locked(struct pool *pool)
{
	while (!pool->head && !pool->stopping) {
		pool->idle++;
		pthread_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
	}
	struct task *task = pool->head;
	if (!task)
		return NULL;
	pool->head = task->next;
	if (!pool->head)
		pool->tail = NULL;
	pool->queued--;
	task->next = NULL;
	return task;
}

static void *worker(void *context)
{
	struct pool *pool = context;
	for (;;) {
		pthread_mutex_lock(&pool->lock);
		struct task *task = take_locked(pool);
		pthread_mutex_unlock(&pool->lock);
		if (!task)
			return NULL;
		metric_add(pool->depth, -1);
		metric_add(pool->busy, 1);
		task->run(task);
		metric_add(pool->busy, -1);
	}
}

static int submit(struct pool *pool, struct task *task, bool bounded)
{
	pthread_mutex_lock(&pool->lock);
	if (pool->stopping || (bounded && pool->queued >= pool->queue_max)) {
		pthread_mutex_unlock(&pool->lock);
		metric_add(pool->refused, 1);
		return -1;
	}
	task->next = NULL;
	if (pool->tail)
		pool->tail->next = task;
	else
		pool->head = task;
	pool->tail = task;
	pool->queued++;
	bool wake = pool->idle > 0;
	/* Counted before the lock is left: a worker may take it and count it down at once. */
	metric_add(pool->depth, 1);
	if (wake)
		pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

int pool_submit(struct pool *pool, struct task *task)
{
	return submit(pool, task, true);
}

int pool_submit_urgent(struct pool *pool, struct task *task)
{
	return submit(pool, task, false);
}

static void register_metrics(struct pool *pool, struct metrics *metrics)
{
	char label[sizeof("queue=\"\"") + NAME_MAX_CHARS];
	if (!metrics)
		return;
	snprintf(label, sizeof(label), "queue=\"%s\"", pool->name);
	pool->depth =
		metrics_gauge(metrics, "depotd_queue_depth", "Tasks waiting for a worker.", label);
	pool->busy = metrics_gauge(metrics, "depotd_queue_busy", "Workers running a task.", label);
	pool->refused = metrics_counter(metrics, "depotd_queue_refused_total",
					"Tasks refused because the queue was full.", label);
}

/* Signals are for the main thread alone: workers are born with all of them blocked. */
static int start_threads(struct pool *pool, unsigned threads, struct err *err)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (pool->started < threads && rc == 0) {
		rc = pthread_create(&pool->threads[pool->started], &attr, worker, pool);
		if (rc == 0) {
			char name[16];
			snprintf(name, sizeof(name), "%s/%u", pool->name, pool->started % 1000);
			pthread_setname_np(pool->threads[pool->started], name);
			pool->started++;
		}
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		return 0;
	errno = rc;
	return err_set_errno(err, ERR_INTERNAL, "cannot start worker %s/%u", pool->name,
			     pool->started);
}

int pool_new(const char *name, unsigned threads, size_t queue_max, struct metrics *metrics,
	     struct pool **out, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return err_set(err, ERR_NO_MEMORY, "pool %s", name);
	pool->threads = calloc(threads ? threads : 1, sizeof(*pool->threads));
	if (!pool->threads) {
		free(pool);
		return err_set(err, ERR_NO_MEMORY, "pool %s", name);
	}
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	pool->queue_max = queue_max;
	register_metrics(pool, metrics);
	if (start_threads(pool, threads ? threads : 1, err) < 0) {
		pool_free(&pool);
		return -1;
	}
	*out = pool;
	return 0;
}

void pool_free(struct pool **poolp)
{
	struct pool *pool = *poolp;
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->started; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool->threads);
	free(pool);
	*poolp = NULL;
}
