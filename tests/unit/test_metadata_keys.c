/* The metadata store's contract (include/depotd/metadata/store.h) about idempotency keys, one suite against both kinds. */
#include <pthread.h>
#include <stdio.h>

#include "depotd/base/clock.h"
#include "metadata_fixture.h"

static struct idempotency key_of(const char *key)
{
	struct idempotency idempotency = {.request = uuid_new()};

	snprintf(idempotency.key, sizeof(idempotency.key), "%s", key);
	memset(idempotency.fingerprint, key[0], SHA256_LEN);
	return idempotency;
}

/* Registers n files of one request; their records are the caller's. */
static struct registration put_keyed(struct metadata *store, const struct idempotency *idempotency,
				     struct file_record **files, size_t n, bool answered)
{
	struct registration registration = {
		.files = files, .n = n, .idempotency = idempotency, .answered = answered};
	struct err err = {0};

	for (size_t i = 0; i < n; i++) {
		struct file_record record = sample();

		if (!files[i])
			files[i] = make(&record);
	}
	assert_ok(metadata_register(store, &registration, 1, &err), &err);
	return registration;
}

static void forget(struct file_record **files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		file_record_unref(&files[i]);
}

static int find_key(struct metadata *store, const char *owner, const char *key,
		    struct key_answer *out)
{
	struct err err = {0};
	int rc = metadata_find_key(store, owner, key, out, &err);

	if (rc < 0)
		fail_msg("%s", err.message);
	return rc;
}

static void assert_answer_has(struct metadata *store, const char *key,
			      struct file_record *const *files, size_t n)
{
	struct key_answer answer;

	assert_int_equal(find_key(store, NULL, key, &answer), 1);
	assert_int_equal(answer.n, n);
	for (size_t i = 0; i < n; i++)
		assert_same_record(answer.files[i], files[i]);
	key_answer_release(&answer);
}

static void a_key_that_nobody_used_is_absent(void **state)
{
	struct fixture *f = fixture(state);
	struct key_answer answer;

	assert_int_equal(find_key(f->store, NULL, "nobody's", &answer), 0);
}

static void a_key_gives_back_what_was_registered_under_it(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency idempotency = key_of("with \"quotes\" \\ and 'blanks' ");
	struct file_record *files[2] = {0};
	struct file_record full = sample();
	struct key_answer answer;
	int64_t before_ms = clock_wall_ms();

	full.name = "Ünïcode 'quoted\" %d_.tar.gz";
	full.expires_ms = clock_wall_ms() + 3600000;
	full.sniffed = "application/gzip";
	full.visibility = VISIBILITY_PUBLIC;
	full.tags = "[\"q4\",\"ärger\"]";
	full.attributes = "{\"a\":{\"b\":[1,2.5,1e+15,null,true]},\"é\":\"ü\\\\\"}";
	files[0] = make(&full);
	assert_int_equal(put_keyed(f->store, &idempotency, files, 2, false).result, 0);
	assert_answer_has(f->store, idempotency.key, files, 2);
	assert_int_equal(find_key(f->store, NULL, idempotency.key, &answer), 1);
	assert_int_equal(uuid_compare(&answer.request, &idempotency.request), 0);
	assert_memory_equal(answer.fingerprint, idempotency.fingerprint, SHA256_LEN);
	assert_true(answer.answered_ms >= before_ms && answer.answered_ms <= clock_wall_ms());
	key_answer_release(&answer);
	forget(files, 2);
}

static void labels_that_all_files_have_come_back_with_each(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency idempotency = key_of("form");
	struct file_record *files[3], record;

	for (size_t i = 0; i < COUNT(files); i++) {
		record = sample();
		record.tags = "[\"same\"]";
		record.attributes = "{\"project\":{\"name\":\"apollo\"}}";
		files[i] = make(&record);
	}
	assert_int_equal(put_keyed(f->store, &idempotency, files, 3, false).result, 0);
	assert_answer_has(f->store, "form", files, 3);
	forget(files, 3);
}

static void an_answer_outlives_changes_and_removal_of_its_file(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency idempotency = key_of("first answer");
	struct file_record *file = NULL, changed;
	struct err err = {0};

	put_keyed(f->store, &idempotency, &file, 1, false);
	changed = *file;
	changed.name = "renamed.txt";
	assert_int_equal(metadata_update(f->store, &changed, 1, &err), 1);
	assert_answer_has(f->store, "first answer", &file, 1);
	assert_int_equal(metadata_remove(f->store, &file->id, &err), 1);
	assert_answer_has(f->store, "first answer", &file, 1);
	forget(&file, 1);
}

static void a_key_of_another_request_is_a_conflict_and_registers_nothing(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency first = key_of("taken"), second = key_of("taken");
	struct file_record *one = NULL, *two[2] = {0};
	struct registration refused;

	put_keyed(f->store, &first, &one, 1, false);
	refused = put_keyed(f->store, &second, two, 2, false);
	assert_int_equal(refused.result, -1);
	assert_int_equal(refused.err.kind, ERR_CONFLICT);
	assert_false(is_there(f->store, &two[0]->id));
	assert_false(is_there(f->store, &two[1]->id));
	assert_answer_has(f->store, "taken", &one, 1);
	forget(&one, 1);
	forget(two, 2);
}

static void a_conflict_of_keys_leaves_the_neighbours_alone(void **state)
{
	struct fixture *f = fixture(state);
	enum { N = 6 };
	struct idempotency first = key_of("b"), keys[N];
	struct file_record *one = NULL, *files[N];
	struct registration registrations[N];
	struct err err = {0};

	put_keyed(f->store, &first, &one, 1, false);
	for (size_t i = 0; i < N; i++) {
		struct file_record record = sample();
		char text[2] = {(char)('f' - i), '\0'};

		keys[i] = key_of(text);
		files[i] = make(&record);
		registrations[i] = (struct registration){
			.files = &files[i], .n = 1, .idempotency = i == 2 ? NULL : &keys[i]};
	}
	assert_ok(metadata_register(f->store, registrations, N, &err), &err);
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(registrations[i].result, i == 4 ? -1 : 0);
		assert_int_equal(is_there(f->store, &files[i]->id), i != 4);
		if (i != 4 && i != 2)
			assert_answer_has(f->store, keys[i].key, &files[i], 1);
	}
	assert_int_equal(registrations[4].err.kind, ERR_CONFLICT);
	forget(&one, 1);
	forget(files, N);
}

static void of_two_with_one_key_in_a_batch_one_is_registered(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency keys[2] = {key_of("twice"), key_of("twice")};
	struct file_record record[2] = {sample(), sample()}, *files[2];
	struct registration registrations[2];
	struct err err = {0};

	for (size_t i = 0; i < 2; i++) {
		files[i] = make(&record[i]);
		registrations[i] =
			(struct registration){.files = &files[i], .n = 1, .idempotency = &keys[i]};
	}
	assert_ok(metadata_register(f->store, registrations, 2, &err), &err);
	assert_int_equal(registrations[0].result + registrations[1].result, -1);
	assert_int_not_equal(is_there(f->store, &files[0]->id), is_there(f->store, &files[1]->id));
	forget(files, 2);
}

/* A COMMIT whose answer was lost is sent again; the journal is replayed after a crash. */
static void registering_the_same_request_again_is_a_success(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency idempotency = key_of("replayed");
	struct file_record *files[2] = {0};

	assert_int_equal(put_keyed(f->store, &idempotency, files, 2, false).result, 0);
	assert_int_equal(put_keyed(f->store, &idempotency, files, 2, false).result, 0);
	assert_int_equal(put_keyed(f->store, &idempotency, files, 2, true).result, 0);
	assert_answer_has(f->store, "replayed", files, 2);
	forget(files, 2);
}

static void a_key_that_is_taken_does_not_stop_what_was_answered(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency first = key_of("taken"), second = key_of("taken");
	struct file_record *one = NULL, *two = NULL;

	put_keyed(f->store, &first, &one, 1, false);
	assert_int_equal(put_keyed(f->store, &second, &two, 1, true).result, 0);
	assert_true(is_there(f->store, &two->id));
	assert_answer_has(f->store, "taken", &one, 1);
	forget(&one, 1);
	forget(&two, 1);
}

static void a_request_that_is_refused_leaves_its_key_free(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency first = key_of("free"), second = key_of("free");
	struct file_record bad = sample(), *one, *two = NULL;

	bad.size = -1; /* what the program does not look at, but both schemas refuse */
	one = make(&bad);
	assert_int_equal(put_keyed(f->store, &first, &one, 1, false).result, -1);
	assert_int_equal(put_keyed(f->store, &second, &two, 1, false).result, 0);
	assert_answer_has(f->store, "free", &two, 1);
	forget(&one, 1);
	forget(&two, 1);
}

static void each_owner_has_keys_of_its_own(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency nobody = key_of("same"), zoe = key_of("same");
	struct file_record record = sample(), *one = NULL, *two;
	struct key_answer answer;

	record.owner = "zoë";
	two = make(&record);
	assert_int_equal(put_keyed(f->store, &nobody, &one, 1, false).result, 0);
	assert_int_equal(put_keyed(f->store, &zoe, &two, 1, false).result, 0);
	assert_int_equal(find_key(f->store, "zoë", "same", &answer), 1);
	assert_same_record(answer.files[0], two);
	key_answer_release(&answer);
	assert_answer_has(f->store, "same", &one, 1);
	forget(&one, 1);
	forget(&two, 1);
}

static void keys_are_told_apart_by_case_and_to_the_last_character(void **state)
{
	struct fixture *f = fixture(state);
	static const char *const texts[] = {"Key", "key", "key ", "kez"};
	struct key_answer answer;

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct idempotency idempotency = key_of(texts[i]);
		struct file_record *file = NULL;

		assert_int_equal(find_key(f->store, NULL, texts[i], &answer), 0);
		assert_int_equal(put_keyed(f->store, &idempotency, &file, 1, false).result, 0);
		forget(&file, 1);
	}
}

static void old_keys_are_removed_some_at_a_time(void **state)
{
	struct fixture *f = fixture(state);
	static const char *const texts[] = {"a", "b", "c"};
	struct key_answer answer;
	struct err err = {0};
	size_t removed = 9;

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct idempotency idempotency = key_of(texts[i]);
		struct file_record *file = NULL;

		put_keyed(f->store, &idempotency, &file, 1, false);
		forget(&file, 1);
	}
	assert_ok(metadata_remove_keys(f->store, clock_wall_ms() - 60000, 10, &removed, &err),
		  &err);
	assert_int_equal(removed, 0);
	assert_ok(metadata_remove_keys(f->store, clock_wall_ms() + 1, 2, &removed, &err), &err);
	assert_int_equal(removed, 2);
	assert_ok(metadata_remove_keys(f->store, clock_wall_ms() + 1, 2, &removed, &err), &err);
	assert_int_equal(removed, 1);
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_int_equal(find_key(f->store, NULL, texts[i], &answer), 0);
}

/* --- several nodes at once --- */

enum { RACERS = 8, ROUNDS = 12 };

struct racer {
	pthread_t thread;
	struct metadata *store;
	struct file_record *files[ROUNDS];
	struct registration registrations[ROUNDS];
	struct idempotency keys[ROUNDS];
	struct err err;
};

static void *race(void *context)
{
	struct racer *racer = context;

	metadata_register(racer->store, racer->registrations, ROUNDS, &racer->err);
	return NULL;
}

/* Each has all keys in one transaction, in an order of its own: none may wait for another in a circle. */
static void of_eight_nodes_with_the_same_keys_one_wins_each(void **state)
{
	struct fixture *f = fixture(state);
	struct racer *racers = calloc(RACERS, sizeof(*racers));
	int winners[ROUNDS] = {0};

	for (size_t r = 0; r < RACERS; r++) {
		racers[r].store = fixture_open(f, 1);
		for (size_t i = 0; i < ROUNDS; i++) {
			size_t k = (i * 5 + r) % ROUNDS;
			struct file_record record = sample();
			char text[2] = {(char)('a' + k), '\0'};

			racers[r].keys[k] = key_of(text);
			racers[r].files[k] = make(&record);
			racers[r].registrations[i] =
				(struct registration){.files = &racers[r].files[k],
						      .n = 1,
						      .idempotency = &racers[r].keys[k]};
		}
	}
	for (size_t r = 0; r < RACERS; r++)
		assert_int_equal(pthread_create(&racers[r].thread, NULL, race, &racers[r]), 0);
	for (size_t r = 0; r < RACERS; r++)
		pthread_join(racers[r].thread, NULL);
	for (size_t r = 0; r < RACERS; r++) {
		for (size_t i = 0; i < ROUNDS; i++) {
			const struct registration *registration = &racers[r].registrations[i];
			size_t k = (i * 5 + r) % ROUNDS;

			if (registration->result < 0 && registration->err.kind != ERR_CONFLICT)
				fail_msg("%s", registration->err.message);
			winners[k] += registration->result == 0;
			assert_int_equal(is_there(f->store, &racers[r].files[k]->id),
					 registration->result == 0);
			file_record_unref(&racers[r].files[k]);
		}
		metadata_close(&racers[r].store);
	}
	for (size_t i = 0; i < ROUNDS; i++)
		assert_int_equal(winners[i], 1);
	free(racers);
}

#define SUITE(setup)                                                                               \
	cmocka_unit_test_setup_teardown(a_key_that_nobody_used_is_absent, setup, fixture_end),     \
		cmocka_unit_test_setup_teardown(a_key_gives_back_what_was_registered_under_it,     \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(labels_that_all_files_have_come_back_with_each,    \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(                                                   \
			an_answer_outlives_changes_and_removal_of_its_file, setup, fixture_end),   \
		cmocka_unit_test_setup_teardown(                                                   \
			a_key_of_another_request_is_a_conflict_and_registers_nothing, setup,       \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(a_conflict_of_keys_leaves_the_neighbours_alone,    \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(of_two_with_one_key_in_a_batch_one_is_registered,  \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(registering_the_same_request_again_is_a_success,   \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(                                                   \
			a_key_that_is_taken_does_not_stop_what_was_answered, setup, fixture_end),  \
		cmocka_unit_test_setup_teardown(a_request_that_is_refused_leaves_its_key_free,     \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(each_owner_has_keys_of_its_own, setup,             \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(                                                   \
			keys_are_told_apart_by_case_and_to_the_last_character, setup,              \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(old_keys_are_removed_some_at_a_time, setup,        \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(of_eight_nodes_with_the_same_keys_one_wins_each,   \
						setup, fixture_end)

int main(void)
{
	const struct CMUnitTest sqlite[] = {SUITE(fixture_sqlite)};
	const struct CMUnitTest postgres[] = {SUITE(fixture_postgres)};
	int failed = cmocka_run_group_tests_name("keys sqlite", sqlite, NULL, NULL);

	return failed + cmocka_run_group_tests_name("keys postgresql", postgres, NULL, NULL);
}
