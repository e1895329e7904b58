/* The metadata store's contract (include/depotd/metadata/upkeep.h): scrub and marks, one suite against both kinds. */
#include <stdio.h>

#include "depotd/metadata/upkeep.h"
#include "metadata_fixture.h"

enum { DUE_MAX = 100 };

/* --- scrub --- */

static struct uuid put_at(struct metadata *store, int64_t created_ms)
{
	struct file_record record = sample();
	struct uuid id;

	record.id = id_at(created_ms);
	record.created_ms = created_ms;
	struct file_record *file = put(store, &record);
	id = file->id;
	file_record_unref(&file);
	return id;
}

static void enroll_all(struct metadata *store)
{
	struct uuid after = {0};
	struct err err = {0};
	int rc;

	do
		rc = metadata_scrub_enroll(store, &after, 2, &err);
	while (rc == 1);
	assert_ok(rc, &err);
}

/* The ids that are due, in order; asserts that their files are theirs. */
static size_t due(struct metadata *store, int64_t before_ms, int64_t damaged_before_ms,
		  struct uuid ids[DUE_MAX])
{
	struct scrub_due found[DUE_MAX];
	struct err err = {0};
	size_t n = 0;

	assert_ok(metadata_scrub_due(store, before_ms, damaged_before_ms, DUE_MAX, found, &n, &err),
		  &err);
	for (size_t i = 0; i < n; i++) {
		ids[i] = found[i].id;
		if (found[i].file)
			assert_int_equal(uuid_compare(&found[i].file->id, &ids[i]), 0);
		file_record_unref(&found[i].file);
	}
	return n;
}

static void record(struct metadata *store, const struct uuid *id, int64_t at_ms, const char *damage)
{
	struct scrub_result result = {*id, at_ms, damage};
	struct err err = {0};

	assert_ok(metadata_scrub_record(store, &result, 1, &err), &err);
}

struct marked {
	size_t n;
	struct uuid id;
	int64_t at_ms;
	char damage[200];
};

static int take(void *context, const struct uuid *id, int64_t damaged_ms, const char *damage,
		struct err *err)
{
	struct marked *marked = context;

	(void)err;
	marked->n++;
	marked->id = *id;
	marked->at_ms = damaged_ms;
	snprintf(marked->damage, sizeof(marked->damage), "%s", damage);
	return 0;
}

static struct marked marked(struct metadata *store)
{
	struct marked found = {0};
	struct err err = {0};

	assert_ok(metadata_damaged(store, DUE_MAX, take, &found, &err), &err);
	return found;
}

static void a_file_is_due_by_when_it_was_stored_and_then_by_when_it_was_verified(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid ids[DUE_MAX];
	struct uuid second = put_at(store, 2000), first = put_at(store, 1000),
		    third = put_at(store, 3000);

	assert_int_equal(due(store, 5000, 5000, ids), 0); /* nobody enrolled them */
	enroll_all(store);
	assert_int_equal(due(store, 2500, 2500, ids), 2);
	assert_int_equal(uuid_compare(&ids[0], &first), 0);
	assert_int_equal(uuid_compare(&ids[1], &second), 0);
	record(store, &first, 4000, NULL);
	assert_int_equal(due(store, 5000, 5000, ids), 3);
	assert_int_equal(uuid_compare(&ids[0], &second), 0);
	assert_int_equal(uuid_compare(&ids[1], &third), 0);
	assert_int_equal(uuid_compare(&ids[2], &first), 0);
	enroll_all(store); /* takes nothing back */
	assert_int_equal(due(store, 3500, 3500, ids), 2);
}

static void damaged_files_are_due_again_sooner(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid ids[DUE_MAX];
	struct uuid damaged = put_at(store, 1000), sound = put_at(store, 1001);

	record(store, &damaged, 5000, "torn");
	record(store, &sound, 5000, NULL);
	assert_int_equal(due(store, 2000, 6000, ids), 1);
	assert_int_equal(uuid_compare(&ids[0], &damaged), 0);
	assert_int_equal(due(store, 5000, 6000, ids), 2); /* each once */
}

static void a_mark_keeps_its_first_time_and_goes_with_the_first_right_reading(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid id = put_at(store, 1000);
	struct marked found;

	assert_int_equal(marked(store).n, 0);
	record(store, &id, 5000, "one \"thing\"");
	record(store, &id, 6000, "another ä");
	found = marked(store);
	assert_int_equal(found.n, 1);
	assert_int_equal(uuid_compare(&found.id, &id), 0);
	assert_int_equal(found.at_ms, 5000);
	assert_string_equal(found.damage, "another ä");
	record(store, &id, 7000, NULL);
	assert_int_equal(marked(store).n, 0);
}

static void what_is_known_of_a_file_goes_with_it_and_does_not_come_back(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid ids[DUE_MAX], id = put_at(store, 1000);
	struct err err = {0};

	record(store, &id, 5000, "torn");
	assert_int_equal(metadata_remove(store, &id, &err), 1);
	assert_int_equal(marked(store).n, 0);
	record(store, &id, 6000, "torn");
	assert_int_equal(due(store, 9000, 9000, ids), 0);
	assert_ok(metadata_scrub_forget(store, &id, 1, &err), &err);
}

static void forgetting_spares_files_that_are_there(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid id = put_at(store, 1000);
	struct err err = {0};

	record(store, &id, 5000, "torn");
	assert_ok(metadata_scrub_forget(store, &id, 1, &err), &err);
	assert_int_equal(marked(store).n, 1);
}

static void the_oldest_is_who_was_not_looked_at_for_longest(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct err err = {0};
	int64_t oldest = 0;

	assert_ok(metadata_scrub_oldest(store, &oldest, &err), &err);
	assert_int_equal(oldest, -1);
	struct uuid id = put_at(store, 1000);
	put_at(store, 2000);
	enroll_all(store);
	assert_ok(metadata_scrub_oldest(store, &oldest, &err), &err);
	assert_int_equal(oldest, 1000);
	record(store, &id, 5000, NULL);
	assert_ok(metadata_scrub_oldest(store, &oldest, &err), &err);
	assert_int_equal(oldest, 2000);
}

static void a_thousand_results_are_recorded_at_once(void **state)
{
	struct metadata *store = fixture(state)->store;
	static struct scrub_result results[METADATA_SCRUB_MAX];
	struct err err = {0};

	for (size_t i = 0; i < METADATA_SCRUB_MAX; i++)
		results[i] = (struct scrub_result){uuid_new(), 5000, i % 2 ? "torn" : NULL};
	results[METADATA_SCRUB_MAX - 1].id = put_at(store, 1000);
	assert_ok(metadata_scrub_record(store, results, METADATA_SCRUB_MAX, &err), &err);
	assert_int_equal(marked(store).n, 1);
}

/* --- marks --- */

static void a_directory_that_was_never_seen_has_no_mark(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid directory = uuid_new();
	struct err err = {0};
	int64_t mark = 7;

	assert_int_equal(metadata_mark(store, &directory, &mark, &err), 0);
	assert_int_equal(metadata_mark_advance(store, &directory, 1, &mark, &err), 0);
	assert_int_equal(mark, 7);
}

static void a_mark_advances_by_one_and_never_goes_back(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid directory = uuid_new(), other = uuid_new();
	struct err err = {0};
	int64_t mark;

	assert_ok(metadata_mark_set(store, &directory, 5, &err), &err);
	assert_ok(metadata_mark_set(store, &directory, 3, &err), &err);
	assert_ok(metadata_mark_set(store, &other, 1, &err), &err);
	assert_int_equal(metadata_mark_advance(store, &directory, 5, &mark, &err), 1);
	assert_int_equal(mark, 6);
	assert_int_equal(metadata_mark_advance(store, &directory, 2, &mark, &err), 1);
	assert_int_equal(mark, 7);
	assert_int_equal(metadata_mark(store, &other, &mark, &err), 1);
	assert_int_equal(mark, 1);
}

static void a_database_behind_its_directory_does_not_advance(void **state)
{
	struct metadata *store = fixture(state)->store;
	struct uuid directory = uuid_new();
	struct err err = {0};
	int64_t mark;

	assert_ok(metadata_mark_set(store, &directory, 5, &err), &err);
	assert_int_equal(metadata_mark_advance(store, &directory, 6, &mark, &err), 0);
	assert_int_equal(metadata_mark(store, &directory, &mark, &err), 1);
	assert_int_equal(mark, 5);
}

static void registering_moves_the_count_of_what_was_registered(void **state)
{
	struct metadata *store = fixture(state)->store;
	uint64_t before = metadata_registered(store);

	put_at(store, 1000);
	assert_true(metadata_registered(store) > before);
}

#define SUITE(setup_of)                                                                             \
	{                                                                                           \
		setup_of(a_file_is_due_by_when_it_was_stored_and_then_by_when_it_was_verified),     \
			setup_of(damaged_files_are_due_again_sooner),                               \
			setup_of(                                                                   \
				a_mark_keeps_its_first_time_and_goes_with_the_first_right_reading), \
			setup_of(what_is_known_of_a_file_goes_with_it_and_does_not_come_back),      \
			setup_of(forgetting_spares_files_that_are_there),                           \
			setup_of(the_oldest_is_who_was_not_looked_at_for_longest),                  \
			setup_of(a_thousand_results_are_recorded_at_once),                          \
			setup_of(a_directory_that_was_never_seen_has_no_mark),                      \
			setup_of(a_mark_advances_by_one_and_never_goes_back),                       \
			setup_of(a_database_behind_its_directory_does_not_advance),                 \
			setup_of(registering_moves_the_count_of_what_was_registered),               \
	}
#define ON_SQLITE(f) cmocka_unit_test_setup_teardown(f, fixture_sqlite, fixture_end)
#define ON_POSTGRES(f) cmocka_unit_test_setup_teardown(f, fixture_postgres, fixture_end)

int main(void)
{
	const struct CMUnitTest sqlite[] = SUITE(ON_SQLITE);
	const struct CMUnitTest postgres[] = SUITE(ON_POSTGRES);
	int failed = cmocka_run_group_tests_name("upkeep sqlite", sqlite, NULL, NULL);

	return failed + cmocka_run_group_tests_name("upkeep postgresql", postgres, NULL, NULL);
}
