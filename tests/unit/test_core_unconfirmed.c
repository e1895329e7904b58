/* Rows that are committed before the database has written them out: what becomes of them when it crashes, over a stub of one. */
#include "core_scene.h"
#include "placed_upload.h"
#include "stub_metadata.h"

#include "../../src/core/unconfirmed_private.h"

/* A scene whose database defers, once it was asked. */
static int deferring_setup(void **state)
{
	stub_first_life = "first";
	int rc = scene_setup(state);
	if (rc == 0 &&
	    unconfirmed_confirm(((struct scene *)*state)->core, &((struct scene *)*state)->err) < 0)
		rc = -1;
	return rc;
}

static int deferring_teardown(void **state)
{
	stub_first_life = NULL;
	return scene_teardown(state);
}

#define DEFERRING_TEST(f) cmocka_unit_test_setup_teardown(f, deferring_setup, deferring_teardown)

/* From now on the database does not say what it has written out. */
static void keep_silent(bool silent)
{
	pthread_mutex_lock(&stub_store->lock);
	stub_store->unsettled = silent;
	pthread_mutex_unlock(&stub_store->lock);
}

/* The database crashes, forgets these rows, and is there again. */
static void crash(const struct uuid *forgotten, size_t n)
{
	pthread_mutex_lock(&stub_store->lock);
	for (size_t i = 0; i < n; i++) {
		size_t at = stub_at(stub_store, &forgotten[i]);
		assert_true(at < stub_store->n);
		file_record_unref(&stub_store->rows[at]);
		stub_store->rows[at] = stub_store->rows[--stub_store->n];
	}
	stub_store->life = "second";
	pthread_mutex_unlock(&stub_store->lock);
}

static size_t deferred(void)
{
	pthread_mutex_lock(&stub_store->lock);
	size_t n = stub_store->deferred;
	pthread_mutex_unlock(&stub_store->lock);
	return n;
}

/* Everything that waits for its row has it. */
static void settle(struct scene *scene)
{
	keep_silent(false);
	assert_int_equal(unconfirmed_confirm(scene->core, &scene->err), 0);
	assert_int_equal(pending_register(scene->core, &scene->err), 0);
}

static void rows_that_a_crash_forgot_come_back(void **state)
{
	struct scene *scene = *state;
	struct uuid ids[3];
	keep_silent(true);
	for (size_t i = 0; i < 3; i++)
		ids[i] = scene_put(scene, "x", "bytes");
	assert_int_equal(deferred(), 3);
	crash(ids, 2);
	assert_false(scene_has_row(scene, &ids[0]));
	settle(scene);
	for (size_t i = 0; i < 3; i++)
		assert_true(scene_has_row(scene, &ids[i]));
	assert_int_equal(stub_store->n, 3);
}

static void rows_that_were_written_out_are_not_looked_for(void **state)
{
	struct scene *scene = *state;
	struct uuid early = scene_put(scene, "early", "bytes");
	settle(scene);
	keep_silent(true);
	struct uuid late = scene_put(scene, "late", "bytes");
	assert_false(unconfirmed_has(scene->core, &early));
	assert_true(unconfirmed_has(scene->core, &late));
	/* A database that is set back further than its crash explains: not for us to mend. */
	crash((struct uuid[]){early, late}, 2);
	settle(scene);
	assert_false(scene_has_row(scene, &early));
	assert_true(scene_has_row(scene, &late));
}

static void nothing_is_written_twice_where_the_database_forgot_nothing(void **state)
{
	struct scene *scene = *state;
	keep_silent(true);
	struct uuid id = scene_put(scene, "x", "bytes");
	crash(NULL, 0);
	settle(scene);
	assert_true(scene_has_row(scene, &id));
	assert_int_equal(stub_store->n, 1);
}

static void a_file_that_was_removed_does_not_come_back(void **state)
{
	struct scene *scene = *state;
	keep_silent(true);
	struct uuid gone = scene_put(scene, "gone", "bytes"), kept = scene_put(scene, "kept", "b");
	assert_int_equal(files_remove(scene->core, &gone, &scene->err), 1);
	crash(&kept, 1);
	settle(scene);
	assert_false(scene_has_row(scene, &gone));
	assert_true(scene_has_row(scene, &kept));
}

/*
 * Its row is committed, anybody may see it, and it is not remembered yet that the database may forget it: removed now it would come
 * back with the next crash, or, where the answer to the commit got lost, with the next try.
 */
static void a_file_that_is_still_being_committed_is_not_removed(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "bytes", NULL);
	struct file_record *record =
		file_record_ref((struct file_record *)(uintptr_t)upload_record(upload));
	struct registration registration = {.files = &record, .n = 1};
	committer_enter(upload);
	assert_int_equal(metadata_register(scene->metadata, &registration, 1, &scene->err), 0);
	assert_int_equal(files_remove(scene->core, &record->id, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	assert_true(scene_has_row(scene, &record->id));
	committer_leave(upload);
	assert_int_equal(files_remove(scene->core, &record->id, &scene->err), 1);
	file_record_unref(&record);
	upload_abort(&upload);
}

static void a_forgotten_file_is_there_and_says_that_its_row_follows(void **state)
{
	struct scene *scene = *state;
	struct file_record *record = NULL, *patched = NULL;
	static const char patch[] = "{\"name\":\"y\"}";
	keep_silent(true);
	struct uuid id = scene_put(scene, "x", "bytes");
	crash(&id, 1);
	stub_store->on_change(stub_store->change_context, NULL); /* the cache is emptied */
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	assert_true(record->unregistered);
	file_record_unref(&record);
	assert_int_equal(files_remove(scene->core, &id, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	assert_int_equal(files_patch(scene->core, &id, patch, sizeof(patch) - 1, NULL, &patched,
				     &scene->err),
			 -1);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	settle(scene);
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
}

static void a_row_that_another_node_removed_is_not_waited_for(void **state)
{
	struct scene *scene = *state;
	struct file_record *record = NULL;
	struct uuid ids[2] = {scene_put(scene, "x", "bytes"), scene_put(scene, "y", "bytes")};
	for (size_t i = 0; i < 2; i++)
		scene_drop_row(scene, &ids[i]);
	stub_store->on_change(stub_store->change_context, NULL);
	assert_int_equal(files_find(scene->core, &ids[0], &record, &scene->err), 0);
	assert_int_equal(files_remove(scene->core, &ids[1], &scene->err), 0);
}

static void a_sweep_spares_a_file_whose_row_was_forgotten(void **state)
{
	struct scene *scene = *state;
	keep_silent(true);
	struct uuid id = scene_put(scene, "x", "bytes"), candidate = id;
	crash(&id, 1);
	assert_int_equal(committer_spare(scene->core, &candidate, 1), 0);
	settle(scene);
	assert_true(scene_has_row(scene, &id));
}

static void the_journal_keeps_what_the_database_may_forget(void **state)
{
	struct scene *scene = *state;
	keep_silent(true);
	struct uuid id = scene_put(scene, "x", "bytes");
	crash(&id, 1);
	/* It waits for its row again: what it stands in is dropped. */
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_false(unconfirmed_has(scene->core, &id));
	assert_int_equal(pending_register(scene->core, &scene->err), 0);
	assert_true(scene_has_row(scene, &id));
}

static void a_checkpoint_has_the_database_write_out_what_it_has(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "x", "bytes");
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_false(unconfirmed_has(scene->core, &id));
	assert_false(pending_has(scene->core, &id));
}

static void what_was_journaled_before_a_checkpoint_is_not_deferred_after_it(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "bytes", NULL);
	struct upload_commit commit = {.uploads = &upload, .n = 1, .journaled = true};
	struct upload_commit *commits = &commit;
	commit.turn = atomic_load(&scene->core->intake->turn);
	struct unconfirmed_batch *batch = unconfirmed_begin(scene->core, &commits, 1);
	assert_non_null(batch);
	unconfirmed_end(scene->core, batch, &commits, 1);
	scene_put(scene, "y", "for the checkpoint");
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_null(unconfirmed_begin(scene->core, &commits, 1));
	upload_abort(&upload);
}

static void who_commits_while_the_database_crashes_is_in_doubt(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_placed(scene, "x", "bytes");
	struct upload_commit commit = {.uploads = &upload, .n = 1, .journaled = true};
	struct upload_commit *commits = &commit;
	commit.turn = atomic_load(&scene->core->intake->turn);
	struct unconfirmed_batch *batch = unconfirmed_begin(scene->core, &commits, 1);
	assert_non_null(batch);
	crash(NULL, 0);
	assert_int_equal(unconfirmed_confirm(scene->core, &scene->err), 0); /* the second life */
	commit.deferred = true;
	unconfirmed_end(scene->core, batch, &commits, 1);
	assert_int_equal(unconfirmed_confirm(scene->core, &scene->err), 0);
	assert_true(pending_has(scene->core, &upload->id) ||
		    scene_has_row(scene, &upload->id)); /* the follower is awake, too */
	assert_int_equal(pending_register(scene->core, &scene->err), 0);
	assert_true(scene_has_row(scene, &upload->id));
	upload_move(upload, UPLOAD_COMMITTING);
	upload_move(upload, UPLOAD_REGISTERED);
	upload_free(&upload);
}

static void a_request_with_a_key_is_not_deferred(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "bytes", NULL);
	struct idempotency key = {.key = "k"};
	struct upload_commit commit = {
		.uploads = &upload, .n = 1, .journaled = true, .idempotency = &key};
	struct upload_commit *commits = &commit;
	commit.turn = atomic_load(&scene->core->intake->turn);
	assert_null(unconfirmed_begin(scene->core, &commits, 1));
	upload_abort(&upload);
}

static void one_upload_has_the_database_begin_before_the_journal_is_synced(void **state)
{
	struct scene *scene = *state;
	stub_store->head_starts = true;
	struct uuid id = scene_put(scene, "x", "bytes");
	assert_int_equal(atomic_load(&stub_store->begun), 1);
	assert_int_equal(atomic_load(&stub_store->abandoned), 0);
	assert_true(scene_has_row(scene, &id));
	assert_true(unconfirmed_has(scene->core, &id));
	stub_store->fail_register = ERR_UNAVAILABLE;
	struct file_record *record = scene_store(scene, "y", "bytes", NULL);
	assert_true(record->unregistered);
	assert_int_equal(atomic_load(&stub_store->begun), 2);
	file_record_unref(&record);
}

static void stay_away(void *context)
{
	(void)context;
	pthread_mutex_lock(&stub_store->lock);
	stub_store->fail_register = ERR_UNAVAILABLE;
	pthread_mutex_unlock(&stub_store->lock);
}

static void go_away(bool away)
{
	pthread_mutex_lock(&stub_store->lock);
	stub_store->in_register = away ? stay_away : NULL;
	stub_store->fail_register = ERR_NONE;
	pthread_mutex_unlock(&stub_store->lock);
}

/*
 * What waits for the database is carried over by the checkpoint before it frees anything. A journal that was filled to the
 * last segment had no room for that, and so none for anything until the database was back.
 */
static void a_full_journal_gets_room_without_the_database(void **state)
{
	struct scene *scene = *state;
	enum { SIZE = 60000, MOST = 500 };
	char *data = calloc(1, SIZE + 1);
	unsigned n = 0;
	int rc;
	memset(data, 'x', SIZE);
	go_away(true);
	pthread_mutex_lock(&scene->core->intake->checkpointing);
	do {
		struct upload *upload = scene_sealed(scene, "x", data, NULL);
		struct file_record *record = NULL;
		rc = scene_commit(scene, &upload, 1, &record);
		n += rc == 0;
		file_record_unref(&record);
		upload_abort(&upload);
	} while (rc == 0 && n < MOST);
	assert_true(n < MOST);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	pthread_mutex_unlock(&scene->core->intake->checkpointing);
	if (intake_checkpoint(scene->core, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	struct file_record *record = scene_store(scene, "y", data, NULL);
	assert_true(record->unregistered);
	file_record_unref(&record);
	go_away(false);
	settle(scene);
	assert_int_equal(stub_store->n, n + 1);
	free(data);
}

static void a_store_that_does_not_defer_is_not_asked_to(void **state)
{
	struct scene *scene = *state; /* the stub's first life is NULL */
	assert_int_equal(unconfirmed_confirm(scene->core, &scene->err), 0);
	scene_put(scene, "x", "bytes");
	assert_int_equal(deferred(), 0);
	assert_false(unconfirmed_waits(scene->core));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DEFERRING_TEST(rows_that_a_crash_forgot_come_back),
		DEFERRING_TEST(rows_that_were_written_out_are_not_looked_for),
		DEFERRING_TEST(nothing_is_written_twice_where_the_database_forgot_nothing),
		DEFERRING_TEST(a_file_that_was_removed_does_not_come_back),
		DEFERRING_TEST(a_file_that_is_still_being_committed_is_not_removed),
		DEFERRING_TEST(a_forgotten_file_is_there_and_says_that_its_row_follows),
		DEFERRING_TEST(a_row_that_another_node_removed_is_not_waited_for),
		DEFERRING_TEST(a_sweep_spares_a_file_whose_row_was_forgotten),
		DEFERRING_TEST(the_journal_keeps_what_the_database_may_forget),
		DEFERRING_TEST(a_checkpoint_has_the_database_write_out_what_it_has),
		DEFERRING_TEST(what_was_journaled_before_a_checkpoint_is_not_deferred_after_it),
		DEFERRING_TEST(who_commits_while_the_database_crashes_is_in_doubt),
		DEFERRING_TEST(a_request_with_a_key_is_not_deferred),
		DEFERRING_TEST(one_upload_has_the_database_begin_before_the_journal_is_synced),
		DEFERRING_TEST(a_full_journal_gets_room_without_the_database),
		SCENE_TEST(a_store_that_does_not_defer_is_not_asked_to),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
