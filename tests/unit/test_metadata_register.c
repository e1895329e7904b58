/* Registering in two halves and committing sooner, against both kinds of store: what SQLite has not it says so. */
#include "depotd/metadata/register.h"
#include "metadata_fixture.h"

enum { FILES = 3 };

/* Registrations of one file each. */
struct batch {
	struct registration registrations[FILES];
	struct file_record *files[FILES];
};

static void batch_begin(struct batch *batch)
{
	for (size_t i = 0; i < FILES; i++) {
		struct file_record record = sample();

		record.id = uuid_new();
		batch->files[i] = make(&record);
		batch->registrations[i] =
			(struct registration){.files = &batch->files[i], .n = 1, .result = 7};
	}
}

static void batch_end(struct batch *batch)
{
	for (size_t i = 0; i < FILES; i++)
		file_record_unref(&batch->files[i]);
}

static size_t present(struct metadata *store, const struct batch *batch)
{
	size_t n = 0;

	for (size_t i = 0; i < FILES; i++)
		n += is_there(store, &batch->files[i]->id);
	return n;
}

/* The start of what the fixture's store can begin; ends the test, as passed, where it has no head starts to give. */
static struct metadata_start *started(struct fixture *f, struct batch *batch, size_t n)
{
	struct metadata_start *start = metadata_register_begin(f->store, batch->registrations, n);

	assert_true((start != NULL) == f->postgres);
	return start;
}

static void what_was_begun_is_there_when_it_was_ended(void **state)
{
	struct fixture *f = fixture(state);

	for (size_t n = 1; n <= FILES; n++) {
		for (int how = METADATA_DURABLE; how <= METADATA_DEFERRED; how++) {
			struct batch batch;
			struct err err = {0};

			batch_begin(&batch);
			struct metadata_start *start = started(f, &batch, n);
			assert_int_equal(present(f->store, &batch), 0);
			if (start) {
				assert_ok(metadata_register_end(f->store, start,
								(enum metadata_commit)how, &err),
					  &err);
				assert_int_equal(present(f->store, &batch), n);
				for (size_t i = 0; i < n; i++)
					assert_int_equal(batch.registrations[i].result, 0);
			}
			batch_end(&batch);
		}
	}
}

static void what_was_abandoned_leaves_nothing(void **state)
{
	struct fixture *f = fixture(state);

	for (int round = 0; round < 2 * FIXTURE_CONNECTIONS; round++) {
		struct batch batch;
		struct err err = {0};

		batch_begin(&batch);
		struct metadata_start *start = started(f, &batch, FILES);
		if (start)
			metadata_register_abandon(f->store, start);
		assert_int_equal(present(f->store, &batch), 0);
		assert_ok(metadata_register(f->store, batch.registrations, FILES, &err), &err);
		assert_int_equal(present(f->store, &batch), FILES);
		batch_end(&batch);
	}
}

static void many_may_be_begun_at_once_as_far_as_connections_go(void **state)
{
	struct fixture *f = fixture(state);
	struct batch batches[FIXTURE_CONNECTIONS + 2];
	struct metadata_start *starts[FIXTURE_CONNECTIONS + 2];
	struct err err = {0};

	for (size_t i = 0; i < COUNT(batches); i++) {
		batch_begin(&batches[i]);
		starts[i] = metadata_register_begin(f->store, batches[i].registrations, FILES);
	}
	for (size_t i = 0; i < COUNT(batches); i++) {
		if (starts[i])
			assert_ok(
				metadata_register_end(f->store, starts[i], METADATA_DEFERRED, &err),
				&err);
		else
			assert_ok(metadata_register_as(f->store, batches[i].registrations, FILES,
						       METADATA_DEFERRED, &err),
				  &err);
		assert_int_equal(present(f->store, &batches[i]), FILES);
		batch_end(&batches[i]);
	}
	assert_int_equal(starts[0] != NULL, f->postgres);
}

/* The server refuses a row that is there under another id's key only when it sees it: a size that no check lets pass. */
static void a_row_that_is_refused_fails_alone_at_the_end(void **state)
{
	struct fixture *f = fixture(state);
	struct batch batch;
	struct err err = {0};

	batch_begin(&batch);
	struct file_record bad = *batch.files[1];
	bad.size = -1;
	struct file_record *refused = make(&bad);
	file_record_unref(&batch.files[1]);
	batch.files[1] = refused;
	struct metadata_start *start = started(f, &batch, FILES);
	if (start) {
		assert_ok(metadata_register_end(f->store, start, METADATA_DEFERRED, &err), &err);
		assert_int_equal(batch.registrations[0].result, 0);
		assert_int_equal(batch.registrations[1].result, -1);
		assert_int_equal(batch.registrations[1].err.kind, ERR_INVALID);
		assert_int_equal(batch.registrations[2].result, 0);
		assert_int_equal(present(f->store, &batch), FILES - 1);
	}
	batch_end(&batch);
}

static void a_connection_that_breaks_in_between_is_no_matter(void **state)
{
	struct fixture *f = fixture(state);
	struct batch batch;
	struct err err = {0};

	batch_begin(&batch);
	struct metadata_start *start = started(f, &batch, FILES);
	if (start) {
		postgres_cluster_query(postgres_cluster(), "postgres",
				       "SELECT count(pg_terminate_backend(pid)) FROM "
				       "pg_stat_activity WHERE datname = 'contract'");
		assert_ok(metadata_register_end(f->store, start, METADATA_DURABLE, &err), &err);
		assert_int_equal(present(f->store, &batch), FILES);
	}
	batch_end(&batch);
}

static void one_request_with_a_key_is_not_begun(void **state)
{
	struct fixture *f = fixture(state);
	struct idempotency key = {.request = uuid_new(), .key = "k"};
	struct batch batch;

	batch_begin(&batch);
	batch.registrations[1].idempotency = &key;
	assert_null(metadata_register_begin(f->store, batch.registrations, FILES));
	batch_end(&batch);
}

static void a_server_says_which_life_it_is_in(void **state)
{
	struct fixture *f = fixture(state);
	char first[METADATA_LIFE_MAX], second[METADATA_LIFE_MAX];
	struct err err = {0};

	if (!f->postgres) {
		assert_int_equal(metadata_settle(f->store, first, &err), 0);
		return;
	}
	assert_int_equal(metadata_settle(f->store, first, &err), 1);
	assert_int_equal(metadata_settle(f->store, second, &err), 1);
	assert_string_equal(first, second);
	/* What PostgreSQL does to the table when it recovers. */
	postgres_cluster_query(postgres_cluster(), "contract",
			       "TRUNCATE depot_internal.server_life");
	assert_int_equal(metadata_settle(f->store, second, &err), 1);
	assert_string_not_equal(first, second);
}

/*
 * From now on a standby is waited for that does not exist, so a commit that is written out never ends. A store of one connection
 * that does not wait for long.
 */
static struct metadata *store_that_waits_for_nobody(const struct fixture *f)
{
	struct metadata_config hurried = fixture_config(f);
	struct metadata *store = NULL;
	struct err err = {0};

	postgres_cluster_query(postgres_cluster(), "postgres",
			       "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	postgres_cluster_query(postgres_cluster(), "postgres", "SELECT pg_reload_conf()");
	hurried.connections = 1;
	hurried.statement_timeout_ms = 500;
	assert_ok(metadata_open(&hurried, &store, &err), &err);
	return store;
}

static void wait_for_nobody_no_more(struct metadata **store)
{
	postgres_cluster_query(postgres_cluster(), "postgres",
			       "ALTER SYSTEM RESET synchronous_standby_names");
	postgres_cluster_query(postgres_cluster(), "postgres", "SELECT pg_reload_conf()");
	metadata_close(store);
}

/* Whoever set up the server so meant other programs: what is answered as committed is written out. */
static void changes_are_written_out_where_the_server_would_not(void **state)
{
	struct fixture *f = fixture(state);
	struct batch batch;
	struct err err = {0};

	if (!f->postgres)
		return;
	postgres_cluster_query(postgres_cluster(), "postgres",
			       "ALTER DATABASE contract SET synchronous_commit = off");
	struct metadata *store = store_that_waits_for_nobody(f);
	batch_begin(&batch);
	assert_int_equal(
		metadata_register_as(store, batch.registrations, FILES, METADATA_DURABLE, &err),
		-1);
	wait_for_nobody_no_more(&store);
	postgres_cluster_query(postgres_cluster(), "postgres",
			       "ALTER DATABASE contract RESET synchronous_commit");
	batch_end(&batch);
}

/* A deferred registration must not make the next change a deferred one. */
static void changes_are_written_out_after_a_registration_that_was_not(void **state)
{
	struct fixture *f = fixture(state);
	struct batch batch;
	struct err err = {0};

	if (!f->postgres)
		return;
	struct metadata *one = fixture_open(f, 1);
	batch_begin(&batch);
	assert_ok(metadata_register_as(one, batch.registrations, FILES, METADATA_DEFERRED, &err),
		  &err);
	struct metadata *store = store_that_waits_for_nobody(f);
	struct batch more;
	batch_begin(&more);
	assert_ok(metadata_register_as(store, more.registrations, FILES, METADATA_DEFERRED, &err),
		  &err);
	assert_int_equal(metadata_remove(store, &more.files[0]->id, &err), -1);
	wait_for_nobody_no_more(&store);
	metadata_close(&one);
	batch_end(&more);
	batch_end(&batch);
}

/*
 * A server that was frozen commits, deferred, what the daemon had given up and kept as pending; registering that again found
 * the row, wrote nothing, waited for nothing, and the next crash took the row along that nobody remembered any more.
 */
static void rows_that_are_there_already_are_written_out_for_good(void **state)
{
	struct fixture *f = fixture(state);

	for (int refused = 0; f->postgres && refused <= 1; refused++) {
		struct metadata *store = store_that_waits_for_nobody(f);
		struct file_record *wrong = NULL;
		struct batch batch;
		struct err err = {0};

		batch_begin(&batch);
		size_t there = refused ? FILES - 1 : FILES;
		assert_ok(metadata_register_as(store, batch.registrations, there, METADATA_DEFERRED,
					       &err),
			  &err);
		if (refused) { /* each by itself, and one of them is no row */
			struct file_record record = *batch.files[there];
			record.size = -1;
			wrong = make(&record);
			batch.registrations[there].files = &wrong;
		}
		assert_int_equal(metadata_register_as(store, batch.registrations, FILES,
						      METADATA_FOR_GOOD, &err),
				 -1);
		wait_for_nobody_no_more(&store);
		assert_int_equal(metadata_register_as(f->store, batch.registrations, FILES,
						      METADATA_FOR_GOOD, &err),
				 0);
		for (size_t i = 0; i < FILES; i++)
			assert_int_equal(batch.registrations[i].result, i < there ? 0 : -1);
		file_record_unref(&wrong);
		batch_end(&batch);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)
#define SUITE                                                                                      \
	TEST(what_was_begun_is_there_when_it_was_ended), TEST(what_was_abandoned_leaves_nothing),  \
		TEST(many_may_be_begun_at_once_as_far_as_connections_go),                          \
		TEST(a_row_that_is_refused_fails_alone_at_the_end),                                \
		TEST(a_connection_that_breaks_in_between_is_no_matter),                            \
		TEST(one_request_with_a_key_is_not_begun),                                         \
		TEST(a_server_says_which_life_it_is_in),                                           \
		TEST(changes_are_written_out_where_the_server_would_not),                          \
		TEST(changes_are_written_out_after_a_registration_that_was_not),                   \
		TEST(rows_that_are_there_already_are_written_out_for_good)

int main(void)
{
#define setup fixture_sqlite
	const struct CMUnitTest sqlite[] = {SUITE};
#undef setup
#define setup fixture_postgres
	const struct CMUnitTest postgres[] = {SUITE};
#undef setup
	int failed = cmocka_run_group_tests_name("register sqlite", sqlite, NULL, NULL);

	return failed + cmocka_run_group_tests_name("register postgresql", postgres, NULL, NULL);
}
