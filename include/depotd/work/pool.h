/*
 * A pool of worker threads behind one bounded queue: where everything runs that may block.
 *
 * A task is embedded in what it works on, so submitting allocates nothing. Tasks start in the order of submission, and any of
 * them may block: as long as one thread is free, what waits is attended to. As few threads as will do are kept awake.
 * Thread: pool_submit() from any; the task's function runs on one of the pool's threads and owns its task: it may free or
 * submit it again.
 */
#ifndef DEPOTD_WORK_POOL_H
#define DEPOTD_WORK_POOL_H

#include <stddef.h>

#include "depotd/base/err.h"
#include "depotd/base/metrics.h"

struct task {
	void (*run)(struct task *task);
	struct task *next; /* the pool's, while queued */
};

struct pool;

/*
 * `name` (at most 10 characters) names the threads and the metrics (depotd_queue_depth{queue="name"} …; metrics may be
 * NULL). queue_max: how many tasks may wait.
 */
int pool_new(const char *name, unsigned threads, size_t queue_max, struct metrics *metrics,
	     struct pool **out, struct err *err);
/* 0 taken, -1 the queue is full or the pool stops (nothing happened; answer 503 with Retry-After). Never blocks. */
int pool_submit(struct pool *pool, struct task *task);
/* The same past the bound: for the next step of something that was admitted already. Only fails when the pool stops. */
int pool_submit_urgent(struct pool *pool, struct task *task);
/* Runs what is queued, joins the threads. */
void pool_free(struct pool **pool);

#endif
