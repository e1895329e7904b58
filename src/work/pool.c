/*
 * Worker threads behind one bounded queue.
 *
 * A task is on the queue exactly from its submission until a worker takes it; a worker does not touch a task after having
 * called its function, since that function may have freed it. `queued` counts the list.
 *
 * Waking costs more than a small task, so workers are woken one at a time. A worker that has nothing to do lies on a stack,
 * each on a semaphore of its own; the one that lay down last, whose stack is still in the cache, gets up first. Between being
 * taken off the stack and looking at the queue it is the *waker*, of which there is at most one: while it is on its way
 * nobody else is woken, and it wakes the next itself if it leaves tasks behind. On a busy machine the few who are awake so
 * empty the queue before more get a processor, and most submissions wake nobody.
 *
 * Why no task is left unattended though any task may block: whenever the lock is free, (W) the queue is empty, or a waker is on its
 * way, or the stack is empty. Submitting may break W and calls wake_next(), which restores it. A worker takes its
 * task, ceases to be the waker and calls wake_next() in one stretch under the lock, before it runs the task and so before it can
 * block. A worker lies down only when it finds the queue empty, in that same stretch. A waker holds nothing, waits for nothing but
 * the lock, and so comes to the queue; where the stack is empty every worker looks at the queue at the end of its task.
 *
 * Semaphores are posted after the lock is left, so that who gets up does not at once wait for it.
 * Threads: any may submit; workers run here; pool_free() is for the one owner.
 */
#include "depotd/work/pool.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
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

struct worker {
	struct pool *pool;
	struct worker *below; /* on the stack of idle ones: the pool's, under its lock */
	sem_t up;             /* posted once for each time it was taken off the stack */
	pthread_t thread;
};

struct pool {
	/* guards everything down to `stopping`; never held while a task runs */
	pthread_mutex_t lock;
	struct task *head, *tail;
	size_t queued;
	size_t queue_max;
	struct worker *idle; /* the stack */
	bool waking;         /* there is a waker */
	bool stopping;

	char name[NAME_MAX_CHARS + 1];
	unsigned started;
	struct worker *workers;
	struct metric *depth, *busy, *refused; /* NULL without a registry */
};

/* Restores W; whoever is returned is to be posted once the lock is left. NULL: nobody. */
static struct worker *wake_next(struct pool *pool)
{
	struct worker *next = pool->idle;
	if (!pool->head || pool->waking || !next)
		return NULL;
	pool->idle = next->below;
	pool->waking = true;
	return next;
}

static void post(struct worker *worker)
{
	if (worker)
		sem_post(&worker->up);
}

static void lie_down(struct worker *self)
{
	while (sem_wait(&self->up) != 0 && errno == EINTR)
		continue;
}

static struct task *take_first(struct pool *pool)
{
	struct task *task = pool->head;
	pool->head = task->next;
	if (!pool->head)
		pool->tail = NULL;
	pool->queued--;
	task->next = NULL;
	return task;
}

/* Waits for a task; NULL once the pool stops and the queue is empty. */
static struct task *next_task(struct worker *self)
{
	struct pool *pool = self->pool;
	pthread_mutex_lock(&pool->lock);
	while (!pool->head && !pool->stopping) {
		self->below = pool->idle;
		pool->idle = self;
		pthread_mutex_unlock(&pool->lock);
		lie_down(self);
		pthread_mutex_lock(&pool->lock);
		pool->waking = false; /* only the waker gets up */
	}
	struct task *task = pool->head ? take_first(pool) : NULL;
	struct worker *next = wake_next(pool);
	pthread_mutex_unlock(&pool->lock);
	post(next);
	return task;
}

static void *work(void *context)
{
	struct worker *self = context;
	struct pool *pool = self->pool;
	struct task *task;
	while ((task = next_task(self)) != NULL) {
		metric_add(pool->depth, -1);
		metric_add(pool->busy, 1);
		task->run(task);
		metric_add(pool->busy, -1);
	}
	return NULL;
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
	struct worker *next = wake_next(pool);
	/* Counted before the lock is left: a worker may take it and count it down at once. */
	metric_add(pool->depth, 1);
	pthread_mutex_unlock(&pool->lock);
	post(next);
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
		struct worker *worker = &pool->workers[pool->started];
		worker->pool = pool;
		sem_init(&worker->up, 0, 0);
		rc = pthread_create(&worker->thread, &attr, work, worker);
		if (rc == 0) {
			char name[16];
			snprintf(name, sizeof(name), "%s/%u", pool->name, pool->started % 1000);
			pthread_setname_np(worker->thread, name);
			pool->started++;
		} else {
			sem_destroy(&worker->up);
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
	pool->workers = calloc(threads ? threads : 1, sizeof(*pool->workers));
	if (!pool->workers) {
		free(pool);
		return err_set(err, ERR_NO_MEMORY, "pool %s", name);
	}
	pthread_mutex_init(&pool->lock, NULL);
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

/*
 * The stack is emptied: nobody lies down any more, and whoever is posted here, as a waker or not, finds a task or goes home. A
 * waker on its way was taken off before, and is posted once as ever.
 */
static void stop_all(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	struct worker *idle = pool->idle;
	pool->idle = NULL;
	pthread_mutex_unlock(&pool->lock);
	for (struct worker *below; idle; idle = below) {
		below = idle->below; /* its semaphore posted, it may leave, but the memory stays */
		sem_post(&idle->up);
	}
}

void pool_free(struct pool **poolp)
{
	struct pool *pool = *poolp;
	if (!pool)
		return;
	stop_all(pool);
	for (unsigned i = 0; i < pool->started; i++) {
		pthread_join(pool->workers[i].thread, NULL);
		sem_destroy(&pool->workers[i].up);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool->workers);
	free(pool);
	*poolp = NULL;
}
