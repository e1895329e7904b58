/* The group committer's clockwork: what comes while a batch runs is the next batch. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "depotd/work/batcher.h"

enum { BATCHES_MAX = 4096 };

struct scene {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;        /* the callback waits while this is set */
	unsigned entered; /* callbacks begun */
	size_t batches[BATCHES_MAX];
	size_t batch_count, items;
	int last; /* the last number seen, to check the order */
	bool out_of_order;
};

struct numbered {
	struct batch_item item;
	int number;
};

static void scene_init(struct scene *scene, bool held)
{
	*scene = (struct scene){.held = held, .last = -1};
	pthread_mutex_init(&scene->lock, NULL);
	pthread_cond_init(&scene->changed, NULL);
}

static void run_batch(void *context, struct batch_item **items, size_t n)
{
	struct scene *scene = context;
	pthread_mutex_lock(&scene->lock);
	scene->entered++;
	pthread_cond_broadcast(&scene->changed);
	while (scene->held)
		pthread_cond_wait(&scene->changed, &scene->lock);
	if (scene->batch_count < BATCHES_MAX)
		scene->batches[scene->batch_count++] = n;
	for (size_t i = 0; i < n; i++) {
		int number = ((struct numbered *)items[i])->number;
		if (number <= scene->last && number >= 0)
			scene->out_of_order = true;
		scene->last = number;
	}
	scene->items += n;
	pthread_mutex_unlock(&scene->lock);
}

static void await_entered(struct scene *scene, unsigned n)
{
	pthread_mutex_lock(&scene->lock);
	while (scene->entered < n)
		pthread_cond_wait(&scene->changed, &scene->lock);
	pthread_mutex_unlock(&scene->lock);
}

static void let_go(struct scene *scene)
{
	pthread_mutex_lock(&scene->lock);
	scene->held = false;
	pthread_cond_broadcast(&scene->changed);
	pthread_mutex_unlock(&scene->lock);
}

static struct batcher *batcher_of(unsigned threads, struct scene *scene, size_t batch_max,
				  size_t queue_max)
{
	struct batcher *batcher = NULL;
	struct err err;
	assert_int_equal(batcher_new("test", threads, batch_max, queue_max, run_batch, scene,
				     &batcher, &err),
			 0);
	return batcher;
}

static struct batcher *batcher_with(struct scene *scene, size_t batch_max, size_t queue_max)
{
	return batcher_of(1, scene, batch_max, queue_max);
}

static void what_comes_while_a_batch_runs_is_the_next_batch(void **state)
{
	(void)state;
	struct scene scene;
	struct numbered items[11];
	scene_init(&scene, true);
	struct batcher *batcher = batcher_with(&scene, 64, 64);
	for (int i = 0; i < 11; i++) {
		items[i].number = i;
		assert_int_equal(batcher_submit(batcher, &items[i].item), 0);
		if (i == 0)
			await_entered(&scene, 1);
	}
	assert_int_equal(batcher_depth(batcher), 10);
	let_go(&scene);
	batcher_free(&batcher);
	assert_int_equal(scene.batch_count, 2);
	assert_int_equal(scene.batches[0], 1);
	assert_int_equal(scene.batches[1], 10);
	assert_false(scene.out_of_order);
}

static void a_batch_is_never_larger_than_its_maximum(void **state)
{
	(void)state;
	struct scene scene;
	struct numbered items[10];
	scene_init(&scene, true);
	struct batcher *batcher = batcher_with(&scene, 4, 64);
	for (int i = 0; i < 10; i++) {
		items[i].number = i;
		assert_int_equal(batcher_submit(batcher, &items[i].item), 0);
		if (i == 0)
			await_entered(&scene, 1);
	}
	let_go(&scene);
	batcher_free(&batcher);
	assert_int_equal(scene.batch_count, 4); /* 1, then 4 + 4 + 1 */
	assert_int_equal(scene.batches[1], 4);
	assert_int_equal(scene.items, 10);
	assert_false(scene.out_of_order);
}

static void a_full_queue_takes_nothing(void **state)
{
	(void)state;
	struct scene scene;
	struct numbered items[4] = {{{0}, 0}, {{0}, 1}, {{0}, 2}, {{0}, 3}};
	scene_init(&scene, true);
	struct batcher *batcher = batcher_with(&scene, 64, 2);
	assert_int_equal(batcher_submit(batcher, &items[0].item), 0);
	await_entered(&scene, 1);
	assert_int_equal(batcher_submit(batcher, &items[1].item), 0);
	assert_int_equal(batcher_submit(batcher, &items[2].item), 0);
	assert_int_equal(batcher_submit(batcher, &items[3].item), -1);
	let_go(&scene);
	batcher_free(&batcher);
	assert_int_equal(scene.items, 3);
}

static void stopping_runs_what_was_submitted(void **state)
{
	(void)state;
	struct scene scene;
	struct numbered items[100];
	scene_init(&scene, false);
	struct batcher *batcher = batcher_with(&scene, 8, 100);
	for (int i = 0; i < 100; i++) {
		items[i].number = i;
		assert_int_equal(batcher_submit(batcher, &items[i].item), 0);
	}
	batcher_free(&batcher);
	assert_null(batcher);
	assert_int_equal(scene.items, 100);
	assert_false(scene.out_of_order);
}

static void a_second_thread_takes_what_comes_while_the_first_is_busy(void **state)
{
	(void)state;
	struct scene scene;
	struct numbered items[3] = {{{0}, -1}, {{0}, -1}, {{0}, -1}};
	scene_init(&scene, true);
	struct batcher *batcher = batcher_of(2, &scene, 64, 64);
	assert_int_equal(batcher_submit(batcher, &items[0].item), 0);
	await_entered(&scene, 1);
	assert_int_equal(batcher_submit(batcher, &items[1].item), 0);
	await_entered(&scene, 2); /* would wait for ever if it had to wait for the first */
	assert_int_equal(batcher_submit(batcher, &items[2].item), 0);
	assert_int_equal(batcher_depth(batcher), 1);
	let_go(&scene);
	batcher_free(&batcher);
	assert_int_equal(scene.items, 3);
}

enum { CROWD = 8, EACH = 400 };

struct member {
	struct batcher *batcher;
	struct numbered items[EACH];
};

static void *submit_all(void *context)
{
	struct member *member = context;
	for (int i = 0; i < EACH; i++) {
		member->items[i].number = -1;
		while (batcher_submit(member->batcher, &member->items[i].item) < 0)
			sched_yield();
	}
	return NULL;
}

static void crowd_on(unsigned takers)
{
	static struct member members[CROWD];
	pthread_t threads[CROWD];
	struct scene scene;
	scene_init(&scene, false);
	struct batcher *batcher = batcher_of(takers, &scene, 16, 32);
	for (int i = 0; i < CROWD; i++) {
		members[i].batcher = batcher;
		pthread_create(&threads[i], NULL, submit_all, &members[i]);
	}
	for (int i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	batcher_free(&batcher);
	assert_int_equal(scene.items, CROWD * EACH);
}

static void a_crowd_loses_no_item(void **state)
{
	(void)state;
	crowd_on(1);
	crowd_on(4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_while_a_batch_runs_is_the_next_batch),
		cmocka_unit_test(a_batch_is_never_larger_than_its_maximum),
		cmocka_unit_test(a_full_queue_takes_nothing),
		cmocka_unit_test(stopping_runs_what_was_submitted),
		cmocka_unit_test(a_second_thread_takes_what_comes_while_the_first_is_busy),
		cmocka_unit_test(a_crowd_loses_no_item),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
