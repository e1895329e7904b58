/* The worker pool: order, bound, urgency, stop. Nothing sleeps; a gate holds workers where the test wants them. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "depotd/work/pool.h"

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
	unsigned arrived;
};

static void gate_init(struct gate *gate)
{
	*gate = (struct gate){.open = false};
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->changed, NULL);
}

static void gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->arrived++;
	pthread_cond_broadcast(&gate->changed);
	while (!gate->open)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void gate_await(struct gate *gate, unsigned arrived)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->arrived < arrived)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->open = true;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

struct blocker {
	struct task task;
	struct gate *gate;
};

static void run_blocker(struct task *task)
{
	gate_pass(((struct blocker *)task)->gate);
}

struct numbered {
	struct task task;
	int number;
	int *log;
	atomic_int *logged;
};

static void run_numbered(struct task *task)
{
	struct numbered *numbered = (struct numbered *)task;
	numbered->log[atomic_fetch_add(numbered->logged, 1)] = numbered->number;
}

static struct pool *pool_with(unsigned threads, size_t queue_max)
{
	struct pool *pool = NULL;
	struct err err;
	assert_int_equal(pool_new("test", threads, queue_max, NULL, &pool, &err), 0);
	return pool;
}

static void tasks_start_in_the_order_of_submission(void **state)
{
	(void)state;
	enum { N = 100 };
	int log[N];
	atomic_int logged = 0;
	struct numbered tasks[N];
	struct pool *pool = pool_with(1, N);
	for (int i = 0; i < N; i++) {
		tasks[i] = (struct numbered){{.run = run_numbered}, i, log, &logged};
		assert_int_equal(pool_submit(pool, &tasks[i].task), 0);
	}
	pool_free(&pool);
	assert_int_equal(logged, N);
	for (int i = 0; i < N; i++)
		assert_int_equal(log[i], i);
}

static void a_full_queue_refuses_and_an_urgent_step_passes(void **state)
{
	(void)state;
	int log[3];
	atomic_int logged = 0;
	struct gate gate;
	gate_init(&gate);
	struct blocker blocker = {{.run = run_blocker}, &gate};
	struct numbered a = {{.run = run_numbered}, 1, log, &logged};
	struct numbered b = {{.run = run_numbered}, 2, log, &logged};
	struct pool *pool = pool_with(1, 1);
	assert_int_equal(pool_submit(pool, &blocker.task), 0);
	gate_await(&gate, 1);
	assert_int_equal(pool_submit(pool, &a.task), 0);
	assert_int_equal(pool_submit(pool, &b.task), -1);
	assert_int_equal(pool_submit_urgent(pool, &b.task), 0);
	gate_open(&gate);
	pool_free(&pool);
	assert_int_equal(logged, 2);
	assert_int_equal(log[1], 2);
}

static void as_many_tasks_run_at_once_as_there_are_threads(void **state)
{
	(void)state;
	enum { N = 8 };
	struct gate gate;
	gate_init(&gate);
	struct blocker blockers[N];
	struct pool *pool = pool_with(N, N);
	for (int i = 0; i < N; i++) {
		blockers[i] = (struct blocker){{.run = run_blocker}, &gate};
		assert_int_equal(pool_submit(pool, &blockers[i].task), 0);
	}
	gate_await(&gate, N); /* would wait for ever if fewer ran */
	gate_open(&gate);
	pool_free(&pool);
}

static void run_and_free(struct task *task)
{
	free(task);
}

static void a_task_may_free_itself(void **state)
{
	(void)state;
	struct pool *pool = pool_with(4, 1000);
	for (int i = 0; i < 1000; i++) {
		struct task *task = calloc(1, sizeof(*task));
		task->run = run_and_free;
		assert_int_equal(pool_submit(pool, task), 0);
	}
	pool_free(&pool);
	assert_null(pool);
}

struct again {
	struct task task;
	struct pool *pool;
	struct gate *gate;
	int left;
};

static void run_again(struct task *task)
{
	struct again *again = (struct again *)task;
	if (again->left-- > 0 && pool_submit_urgent(again->pool, task) == 0)
		return;
	gate_pass(again->gate);
}

static void a_task_may_submit_itself_again(void **state)
{
	(void)state;
	struct gate gate;
	gate_init(&gate);
	gate.open = true;
	struct pool *pool = pool_with(3, 1);
	struct again again = {{.run = run_again}, pool, &gate, 500};
	assert_int_equal(pool_submit(pool, &again.task), 0);
	gate_await(&gate, 1);
	assert_int_equal(again.left, -1);
	pool_free(&pool);
}

static void run_check_mask(struct task *task)
{
	sigset_t now;
	struct blocker *blocker = (struct blocker *)task;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_true(sigismember(&now, SIGTERM));
	assert_true(sigismember(&now, SIGINT));
	gate_pass(blocker->gate);
}

static void workers_take_no_signals(void **state)
{
	(void)state;
	struct gate gate;
	gate_init(&gate);
	gate.open = true;
	struct blocker blocker = {{.run = run_check_mask}, &gate};
	struct pool *pool = pool_with(1, 1);
	assert_int_equal(pool_submit(pool, &blocker.task), 0);
	gate_await(&gate, 1);
	pool_free(&pool);
}

/* Two tasks; the first runs until the second has come. */
struct pair {
	struct blocker first, second;
	struct gate gate;
};

static void run_opener(struct task *task)
{
	gate_open(((struct blocker *)task)->gate);
}

enum { SUBMITTERS = 3, ROUNDS = 2000 };

struct submitter {
	struct pool *pool;
	pthread_t thread;
	struct pair pairs[ROUNDS];
};

static void *submit_pairs(void *context)
{
	struct submitter *self = context;
	for (int i = 0; i < ROUNDS; i++) {
		struct pair *pair = &self->pairs[i];
		gate_init(&pair->gate);
		pair->first = (struct blocker){{.run = run_blocker}, &pair->gate};
		pair->second = (struct blocker){{.run = run_opener}, &pair->gate};
		assert_int_equal(pool_submit_urgent(self->pool, &pair->first.task), 0);
		if (i % 2 == 0)
			gate_await(&pair->gate, 1);
		assert_int_equal(pool_submit_urgent(self->pool, &pair->second.task), 0);
		gate_pass(&pair->gate);
	}
	return NULL;
}

static void who_blocks_leaves_no_task_unattended(void **state)
{
	(void)state;
	static struct submitter submitters[SUBMITTERS];
	/* One worker more than can block at once: if that one stayed asleep, a pair would wait for ever. */
	struct pool *pool = pool_with(SUBMITTERS + 1, 1);
	for (int i = 0; i < SUBMITTERS; i++) {
		submitters[i].pool = pool;
		pthread_create(&submitters[i].thread, NULL, submit_pairs, &submitters[i]);
	}
	for (int i = 0; i < SUBMITTERS; i++)
		pthread_join(submitters[i].thread, NULL);
	pool_free(&pool);
}

static void freeing_nothing_is_fine(void **state)
{
	(void)state;
	struct pool *none = NULL;
	pool_free(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tasks_start_in_the_order_of_submission),
		cmocka_unit_test(a_full_queue_refuses_and_an_urgent_step_passes),
		cmocka_unit_test(as_many_tasks_run_at_once_as_there_are_threads),
		cmocka_unit_test(a_task_may_free_itself),
		cmocka_unit_test(a_task_may_submit_itself_again),
		cmocka_unit_test(workers_take_no_signals),
		cmocka_unit_test(who_blocks_leaves_no_task_unattended),
		cmocka_unit_test(freeing_nothing_is_fine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
