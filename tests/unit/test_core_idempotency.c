/* Who runs and who waits, of requests with one key, and what is known of keys while the database is away. */
#include "core_scene.h"
#include "stub_metadata.h"

#include "depotd/core/idempotency.h"

/* One request with a key; what a front would embed. */
struct request {
	struct keyed keyed; /* first */
	unsigned again;     /* how often it was told to settle once more */
	struct key_answer answer;
	struct err err;
};

static void note_again(struct keyed *keyed)
{
	((struct request *)keyed)->again++;
}

static void enter(struct scene *scene, struct request *request, const char *key, char meaning)
{
	*request = (struct request){.keyed.again = note_again};
	snprintf(request->keyed.idempotency.key, sizeof(request->keyed.idempotency.key), "%s", key);
	memset(request->keyed.idempotency.fingerprint, meaning, SHA256_LEN);
	assert_int_equal(keyed_enter(scene->core, &request->keyed, NULL, &request->err), 0);
}

static enum keyed_verdict settle(struct scene *scene, struct request *request)
{
	key_answer_release(&request->answer);
	return keyed_settle(scene->core, &request->keyed, &request->answer, &request->err);
}

static void leave(struct scene *scene, struct request *request)
{
	keyed_leave(scene->core, &request->keyed);
	key_answer_release(&request->answer);
}

/* Stores a file as this request's, and tells those who wait. Its id, or the nil one when the commit failed (request->err). */
static struct uuid commit(struct scene *scene, struct request *request)
{
	struct upload *upload = scene_sealed(scene, "keyed.txt", "hello", NULL);
	struct file_record *record = NULL;
	struct waiting_commit waiting = {.commit = {.uploads = &upload,
						    .n = 1,
						    .records = &record,
						    .done = scene_answered,
						    .idempotency = &request->keyed.idempotency}};
	struct uuid id = {{0}};
	pthread_mutex_init(&waiting.lock, NULL);
	pthread_cond_init(&waiting.changed, NULL);
	upload_commit(scene->core, &waiting.commit);
	if (scene_await(&waiting, &request->err) < 0)
		return id;
	keyed_answered(scene->core, &request->keyed, &waiting.commit);
	id = record->id;
	file_record_unref(&record);
	return id;
}

static void assert_answered(struct scene *scene, struct request *request, const struct uuid *id)
{
	assert_int_equal(settle(scene, request), KEYED_ANSWERED);
	assert_int_equal(request->answer.n, 1);
	assert_int_equal(uuid_compare(&request->answer.files[0]->id, id), 0);
}

/* A whole request, from entering to leaving. */
static struct uuid store(struct scene *scene, const char *key, char meaning)
{
	struct request request;
	enter(scene, &request, key, meaning);
	assert_int_equal(settle(scene, &request), KEYED_YOURS);
	struct uuid id = commit(scene, &request);
	assert_false(uuid_is_nil(&id));
	leave(scene, &request);
	return id;
}

static void the_first_one_runs_and_a_later_one_gets_its_answer(void **state)
{
	struct scene *scene = *state;
	struct uuid id = store(scene, "key", 1);
	struct request later;
	enter(scene, &later, "key", 1);
	assert_answered(scene, &later, &id);
	leave(scene, &later);
	assert_int_equal(stub_store->n, 1);
}

static void those_who_come_meanwhile_wait_and_get_the_answer(void **state)
{
	struct scene *scene = *state;
	struct request first, waiting[3];
	enter(scene, &first, "key", 1);
	for (size_t i = 0; i < COUNT(waiting); i++) {
		enter(scene, &waiting[i], "key", 1);
		assert_int_equal(settle(scene, &waiting[i]), KEYED_LATER);
	}
	assert_int_equal(settle(scene, &first), KEYED_YOURS);
	struct uuid id = commit(scene, &first);
	leave(scene, &first);
	for (size_t i = 0; i < COUNT(waiting); i++) {
		assert_int_equal(waiting[i].again, 1);
		assert_answered(scene, &waiting[i], &id);
		leave(scene, &waiting[i]);
	}
	assert_int_equal(stub_store->n, 1);
}

static void one_that_settles_after_the_answer_does_not_wait(void **state)
{
	struct scene *scene = *state;
	struct request first, slow;
	enter(scene, &first, "key", 1);
	enter(scene, &slow, "key", 1);
	assert_int_equal(settle(scene, &first), KEYED_YOURS);
	struct uuid id = commit(scene, &first);
	leave(scene, &first);
	assert_int_equal(slow.again, 0);
	assert_answered(scene, &slow, &id);
	leave(scene, &slow);
}

static void when_the_first_fails_one_of_those_who_wait_runs(void **state)
{
	struct scene *scene = *state;
	struct request first, sending, waiting[2];
	enter(scene, &first, "key", 1);
	enter(scene, &sending, "key", 1);
	for (size_t i = 0; i < 2; i++) {
		enter(scene, &waiting[i], "key", 1);
		assert_int_equal(settle(scene, &waiting[i]), KEYED_LATER);
	}
	leave(scene, &first);
	assert_int_equal(waiting[0].again, 1);
	assert_int_equal(waiting[1].again, 0);
	assert_int_equal(settle(scene, &sending), KEYED_LATER);
	assert_int_equal(settle(scene, &waiting[0]), KEYED_YOURS);
	struct uuid id = commit(scene, &waiting[0]);
	leave(scene, &waiting[0]);
	assert_answered(scene, &waiting[1], &id);
	assert_answered(scene, &sending, &id);
	leave(scene, &waiting[1]);
	leave(scene, &sending);
}

static void when_nobody_waits_yet_the_next_one_runs(void **state)
{
	struct scene *scene = *state;
	struct request first, second, third;
	enter(scene, &first, "key", 1);
	enter(scene, &second, "key", 1);
	leave(scene, &first);
	enter(scene, &third, "key", 1);
	assert_int_equal(settle(scene, &third), KEYED_LATER);
	assert_int_equal(settle(scene, &second), KEYED_YOURS);
	leave(scene, &second);
	assert_int_equal(third.again, 1);
	assert_int_equal(settle(scene, &third), KEYED_YOURS);
	leave(scene, &third);
}

static void one_that_leaves_while_it_waits_is_never_called(void **state)
{
	struct scene *scene = *state;
	struct request first, gone;
	enter(scene, &first, "key", 1);
	enter(scene, &gone, "key", 1);
	assert_int_equal(settle(scene, &gone), KEYED_LATER);
	leave(scene, &gone);
	leave(scene, &first);
	assert_int_equal(gone.again, 0);
}

static void leaving_twice_or_without_entering_does_nothing(void **state)
{
	struct scene *scene = *state;
	struct request request = {0};
	leave(scene, &request);
	enter(scene, &request, "key", 1);
	leave(scene, &request);
	leave(scene, &request);
}

static void another_meaning_is_refused_whoever_remembers_the_key(void **state)
{
	struct scene *scene = *state;
	struct request first, waiting, later;
	enter(scene, &first, "key", 1);
	enter(scene, &waiting, "key", 2);
	assert_int_equal(settle(scene, &waiting), KEYED_LATER);
	assert_int_equal(settle(scene, &first), KEYED_YOURS);
	commit(scene, &first);
	leave(scene, &first);
	assert_int_equal(settle(scene, &waiting), KEYED_REFUSED);
	assert_int_equal(waiting.err.kind, ERR_UNPROCESSABLE);
	leave(scene, &waiting);
	enter(scene, &later, "key", 2);
	assert_int_equal(settle(scene, &later), KEYED_REFUSED);
	assert_int_equal(later.err.kind, ERR_UNPROCESSABLE);
	leave(scene, &later);
}

/* Another node's registration comes between looking and committing. */
static void the_loser_of_two_nodes_gets_the_winner_s_answer(void **state)
{
	struct scene *scene = *state;
	struct request mine, theirs = {0};
	struct file_record *record = scene_store(scene, "winner.txt", "hello", NULL);
	struct err err;
	enter(scene, &mine, "key", 1);
	assert_int_equal(settle(scene, &mine), KEYED_YOURS);
	theirs.keyed.idempotency = mine.keyed.idempotency;
	theirs.keyed.idempotency.request = uuid_new();
	struct registration registration = {
		.files = &record, .n = 1, .idempotency = &theirs.keyed.idempotency};
	assert_int_equal(metadata_register(scene->metadata, &registration, 1, &err), 0);
	struct uuid none = commit(scene, &mine);
	assert_true(uuid_is_nil(&none));
	assert_int_equal(mine.err.kind, ERR_CONFLICT);
	assert_int_equal(scene_blobs(scene), 1);
	assert_answered(scene, &mine, &record->id);
	leave(scene, &mine);
	file_record_unref(&record);
}

/* --- the database is away --- */

static void without_the_database_an_unknown_key_is_taken(void **state)
{
	struct scene *scene = *state;
	struct request request;
	enter(scene, &request, "key", 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_int_equal(settle(scene, &request), KEYED_YOURS);
	leave(scene, &request);
}

static void without_the_database_a_recent_answer_is_known(void **state)
{
	struct scene *scene = *state;
	struct uuid id = store(scene, "key", 1);
	struct request same, other;
	enter(scene, &same, "key", 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_answered(scene, &same, &id);
	leave(scene, &same);
	enter(scene, &other, "key", 2);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_int_equal(settle(scene, &other), KEYED_REFUSED);
	assert_int_equal(other.err.kind, ERR_UNPROCESSABLE);
	leave(scene, &other);
}

static void without_the_database_an_answer_that_cannot_be_told_is_no_second_upload(void **state)
{
	struct scene *scene = *state;
	struct uuid id = store(scene, "key", 1);
	struct request again;
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
	enter(scene, &again, "key", 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_int_equal(settle(scene, &again), KEYED_REFUSED);
	assert_int_equal(again.err.kind, ERR_UNAVAILABLE);
	leave(scene, &again);
}

static void a_database_that_fails_otherwise_refuses(void **state)
{
	struct scene *scene = *state;
	struct request request;
	enter(scene, &request, "key", 1);
	stub_store->fail_find_key = ERR_INTERNAL;
	assert_int_equal(settle(scene, &request), KEYED_REFUSED);
	assert_int_equal(request.err.kind, ERR_INTERNAL);
	leave(scene, &request);
}

/* As after a restart: the journal says what was answered and is not registered yet. */
static void a_pending_request_answers_its_repeats(void **state)
{
	struct scene *scene = *state;
	struct file_record *record = scene_store(scene, "pending.txt", "hello", NULL);
	struct idempotency idempotency = {.key = "key", .request = uuid_new()};
	struct request repeat, other;
	memset(idempotency.fingerprint, 1, SHA256_LEN);
	keyed_pending(scene->core, &idempotency, NULL, &record->id, 1);
	enter(scene, &repeat, "key", 1);
	assert_answered(scene, &repeat, &record->id);
	leave(scene, &repeat);
	enter(scene, &other, "key", 2);
	assert_int_equal(settle(scene, &other), KEYED_REFUSED);
	leave(scene, &other);
	/* Once it is registered the database has the word, and here it knows nothing. */
	keyed_registered(scene->core, &idempotency, NULL);
	enter(scene, &repeat, "key", 1);
	assert_int_equal(settle(scene, &repeat), KEYED_YOURS);
	leave(scene, &repeat);
	file_record_unref(&record);
}

static void old_answers_are_not_remembered(void **state)
{
	struct scene *scene = *state;
	struct request again;
	scene->config.idempotency_ttl_ms = -1;
	scene_restart(scene);
	store(scene, "key", 1);
	enter(scene, &again, "key", 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_int_equal(settle(scene, &again), KEYED_YOURS);
	leave(scene, &again);
}

static void ten_thousand_keys_take_bounded_memory_and_the_latest_are_known(void **state)
{
	struct scene *scene = *state;
	struct file_record *record = scene_store(scene, "x", "y", NULL);
	char key[32];
	struct request request;
	for (int i = 0; i < 10000; i++) {
		struct upload_commit done = {.records = &record, .n = 1};
		snprintf(key, sizeof(key), "key-%d", i);
		enter(scene, &request, key, 1);
		keyed_answered(scene->core, &request.keyed, &done);
		leave(scene, &request);
	}
	enter(scene, &request, key, 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_answered(scene, &request, &record->id);
	leave(scene, &request);
	enter(scene, &request, "key-0", 1);
	stub_store->fail_find_key = ERR_UNAVAILABLE;
	assert_int_equal(settle(scene, &request), KEYED_YOURS);
	leave(scene, &request);
	file_record_unref(&record);
}

/* --- a crowd --- */

enum { THREADS = 8, TRIES = 300, KEYS = 5 };

struct crowd {
	struct scene *scene;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned running[KEYS], most; /* requests that were told to commit, by key */
	unsigned seed;
};

struct member {
	struct request request; /* first */
	struct crowd *crowd;
	bool told;
};

static void tell(struct keyed *keyed)
{
	struct member *member = (struct member *)keyed;
	pthread_mutex_lock(&member->crowd->lock);
	member->told = true;
	pthread_cond_broadcast(&member->crowd->changed);
	pthread_mutex_unlock(&member->crowd->lock);
}

static void count(struct crowd *crowd, unsigned key, int by)
{
	pthread_mutex_lock(&crowd->lock);
	crowd->running[key] += (unsigned)by;
	crowd->most = crowd->running[key] > crowd->most ? crowd->running[key] : crowd->most;
	pthread_mutex_unlock(&crowd->lock);
}

static void try_once(struct crowd *crowd, unsigned key, unsigned chance)
{
	struct member member = {.crowd = crowd, .request.keyed.again = tell};
	struct core *core = crowd->scene->core;
	enum keyed_verdict verdict;
	snprintf(member.request.keyed.idempotency.key, 8, "k%u", key);
	assert_int_equal(keyed_enter(core, &member.request.keyed, NULL, &member.request.err), 0);
	for (;;) {
		verdict = settle(crowd->scene, &member.request);
		if (verdict != KEYED_LATER)
			break;
		pthread_mutex_lock(&crowd->lock);
		while (!member.told)
			pthread_cond_wait(&crowd->changed, &crowd->lock);
		member.told = false;
		pthread_mutex_unlock(&crowd->lock);
	}
	if (verdict == KEYED_YOURS) {
		count(crowd, key, 1);
		if (chance % 16 == 0)
			commit(crowd->scene, &member.request);
		count(crowd, key, -1);
	}
	leave(crowd->scene, &member.request);
}

static void *crowd_thread(void *context)
{
	struct crowd *crowd = context;
	pthread_mutex_lock(&crowd->lock);
	unsigned seed = ++crowd->seed;
	pthread_mutex_unlock(&crowd->lock);
	for (unsigned i = 0; i < TRIES; i++) {
		seed = seed * 1103515245U + 12345U;
		try_once(crowd, (seed >> 16) % KEYS, seed >> 20);
	}
	return NULL;
}

static void of_a_crowd_one_runs_for_each_key_and_one_is_stored(void **state)
{
	struct crowd crowd = {.scene = *state};
	pthread_t threads[THREADS];
	pthread_mutex_init(&crowd.lock, NULL);
	pthread_cond_init(&crowd.changed, NULL);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, crowd_thread, &crowd), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd.most, 1);
	assert_int_equal(stub_store->n, KEYS);
	pthread_cond_destroy(&crowd.changed);
	pthread_mutex_destroy(&crowd.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(the_first_one_runs_and_a_later_one_gets_its_answer),
		SCENE_TEST(those_who_come_meanwhile_wait_and_get_the_answer),
		SCENE_TEST(one_that_settles_after_the_answer_does_not_wait),
		SCENE_TEST(when_the_first_fails_one_of_those_who_wait_runs),
		SCENE_TEST(when_nobody_waits_yet_the_next_one_runs),
		SCENE_TEST(one_that_leaves_while_it_waits_is_never_called),
		SCENE_TEST(leaving_twice_or_without_entering_does_nothing),
		SCENE_TEST(another_meaning_is_refused_whoever_remembers_the_key),
		SCENE_TEST(the_loser_of_two_nodes_gets_the_winner_s_answer),
		SCENE_TEST(without_the_database_an_unknown_key_is_taken),
		SCENE_TEST(without_the_database_a_recent_answer_is_known),
		SCENE_TEST(without_the_database_an_answer_that_cannot_be_told_is_no_second_upload),
		SCENE_TEST(a_database_that_fails_otherwise_refuses),
		SCENE_TEST(a_pending_request_answers_its_repeats),
		SCENE_TEST(old_answers_are_not_remembered),
		SCENE_TEST(ten_thousand_keys_take_bounded_memory_and_the_latest_are_known),
		SCENE_TEST(of_a_crowd_one_runs_for_each_key_and_one_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
