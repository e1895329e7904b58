/* What a crash leaves, and what the next start makes of it; checkpoints over a disk that fails. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "core_scene.h"
#include "placed_upload.h"
#include "stub_metadata.h"

#include "../../src/core/unconfirmed_private.h"

/* --- a run that ends without a goodbye --- */

enum { FILES = 5 };

struct run {
	struct uuid ids[FILES]; /* of what it stored */
	bool done;              /* it came to its end */
	bool outage;            /* the database is away for all of it */
};

typedef void (*run_fn)(struct scene *scene, struct run *run);

static void stay_away(void *context)
{
	(void)context;
	stub_store->fail_register = ERR_UNAVAILABLE;
}

/*
 * Runs fn on a core of its own, in a process that is gone before anything is stopped. The stub's rows go with it: what is there
 * after the next start was registered by it.
 */
static void crash(struct scene *scene, struct run *run, run_fn fn)
{
	scene_close(scene);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		scene_open(scene);
		if (run->outage) {
			stub_store->in_register = stay_away;
			stub_store->fail_register = ERR_UNAVAILABLE;
		}
		fn(scene, run);
		run->done = true;
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && run->done);
}

static struct run *new_run(void)
{
	struct run *run =
		mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(run != MAP_FAILED);
	return run;
}

static void forget_run(struct run *run)
{
	munmap(run, sizeof(*run));
}

static void tear(struct scene *scene, const struct uuid *id)
{
	char path[300];
	scene_path(scene, id, path, sizeof(path));
	assert_int_equal(truncate(path, 2), 0);
}

static void lose(struct scene *scene, const struct uuid *id)
{
	char path[300];
	scene_path(scene, id, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
}

static void expect_bytes(struct scene *scene, const struct uuid *id, const char *bytes)
{
	struct blob_reader *reader = NULL;
	char got[64];
	size_t n;
	assert_int_equal(blob_open(scene->blobs, id, &reader, &scene->err), 1);
	assert_int_equal(blob_read(reader, 0, got, sizeof(got), &n, &scene->err), 0);
	blob_reader_free(&reader);
	assert_int_equal(n, strlen(bytes));
	assert_memory_equal(got, bytes, n);
}

static struct file_record *described(struct scene *scene, const struct uuid *id)
{
	struct file_record *record = NULL;
	assert_int_equal(maintenance_described(scene->blobs, id, &record, &scene->err), 1);
	return record;
}

/* --- runs --- */

static void store_one(struct scene *scene, struct run *run)
{
	run->ids[0] = scene_put(scene, "f", "the bytes");
}

static void store_three_together(struct scene *scene, struct run *run)
{
	struct upload *uploads[3];
	struct file_record *records[3];
	for (int i = 0; i < 3; i++) {
		uploads[i] = scene_sealed(scene, "f", "of a form", NULL);
		run->ids[i] = upload_record(uploads[i])->id;
	}
	assert_int_equal(scene_commit(scene, uploads, 3, records), 0);
}

static void store_and_remove(struct scene *scene, struct run *run)
{
	run->ids[0] = scene_put(scene, "f", "the bytes");
	assert_int_equal(files_remove(scene->core, &run->ids[0], &scene->err), 1);
}

static void store_three_and_remove_one(struct scene *scene, struct run *run)
{
	pthread_mutex_lock(&stub_store->lock);
	stub_store->life = "first";
	pthread_mutex_unlock(&stub_store->lock);
	assert_int_equal(unconfirmed_confirm(scene->core, &scene->err), 0);
	pthread_mutex_lock(&stub_store->lock);
	stub_store->unsettled = true;
	pthread_mutex_unlock(&stub_store->lock);
	store_three_together(scene, run);
	assert_int_equal(files_remove(scene->core, &run->ids[1], &scene->err), 1);
}

static void store_and_patch(struct scene *scene, struct run *run)
{
	static const char patch[] = "{\"name\":\"patched\"}";
	struct file_record *record = NULL;
	run->ids[0] = scene_put(scene, "f", "the bytes");
	assert_int_equal(files_patch(scene->core, &run->ids[0], patch, strlen(patch), NULL, &record,
				     &scene->err),
			 1);
}

static void store_and_be_refused(struct scene *scene, struct run *run)
{
	struct upload *upload = scene_sealed(scene, "f", "refused", NULL);
	struct file_record *record = NULL;
	run->ids[0] = stub_store->refuse = upload_record(upload)->id;
	assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
	run->ids[1] = scene_put(scene, "g", "stored"); /* takes the word of it into the journal */
}

static void store_what_cannot_be_placed(struct scene *scene, struct run *run)
{
	struct upload *upload = scene_sealed(scene, "f", "the journal has it", NULL);
	struct file_record *record = NULL;
	run->ids[0] = upload_record(upload)->id;
	blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, ERR_IO, EIO);
	assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
}

static void place_without_committing(struct scene *scene, struct run *run)
{
	struct upload *upload = scene_placed(scene, "f", "never answered");
	run->ids[0] = upload_record(upload)->id;
}

/* --- after them --- */

static void a_file_that_a_crash_tore_is_made_again(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_one);
	tear(scene, &run->ids[0]);
	scene_open(scene);
	expect_bytes(scene, &run->ids[0], "the bytes");
	struct file_record *record = described(scene, &run->ids[0]);
	assert_string_equal(record->name, "f");
	file_record_unref(&record);
	forget_run(run);
}

static void a_file_that_a_crash_lost_is_made_again(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_one);
	lose(scene, &run->ids[0]);
	scene_open(scene);
	expect_bytes(scene, &run->ids[0], "the bytes");
	forget_run(run);
}

static void a_row_that_is_not_there_after_a_crash_is_made(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_one);
	scene_open(scene);
	assert_true(scene_has_row(scene, &run->ids[0]));
	assert_false(pending_has(scene->core, &run->ids[0]));
	forget_run(run);
}

static void a_recovery_that_is_cut_short_is_done_again(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_one);
	lose(scene, &run->ids[0]);
	scene_open(scene); /* once, and away again without a checkpoint of what it found */
	scene_close(scene);
	scene_open(scene);
	expect_bytes(scene, &run->ids[0], "the bytes");
	forget_run(run);
}

static void the_files_of_one_request_come_back_together(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_three_together);
	tear(scene, &run->ids[0]);
	lose(scene, &run->ids[2]);
	scene_open(scene);
	for (int i = 0; i < 3; i++) {
		expect_bytes(scene, &run->ids[i], "of a form");
		assert_true(scene_has_row(scene, &run->ids[i]));
	}
	assert_int_equal(stub_store->registered_together, 1); /* one request */
	forget_run(run);
}

static void what_was_removed_does_not_come_back(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_and_remove);
	scene_open(scene);
	assert_false(scene_has_row(scene, &run->ids[0]));
	assert_false(scene_has_blob(scene, &run->ids[0]));
	forget_run(run);
}

/* A standby that lags behind takes over while the daemon is gone, too: it knows nothing of any of this. */
static void what_is_left_of_a_request_that_the_database_forgot_comes_back(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_three_and_remove_one);
	scene_open(scene);
	for (int i = 0; i < 3; i++) {
		assert_true(scene_has_row(scene, &run->ids[i]) == (i != 1));
		assert_true(scene_has_blob(scene, &run->ids[i]) == (i != 1));
	}
	forget_run(run);
}

static void what_was_refused_does_not_come_back(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_and_be_refused);
	scene_open(scene);
	assert_false(scene_has_row(scene, &run->ids[0]));
	assert_false(scene_has_blob(scene, &run->ids[0]));
	assert_true(scene_has_row(scene, &run->ids[1]));
	forget_run(run);
}

static void what_could_not_be_placed_does_not_come_back(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_what_cannot_be_placed);
	scene_open(scene);
	assert_false(scene_has_row(scene, &run->ids[0]));
	assert_false(scene_has_blob(scene, &run->ids[0]));
	forget_run(run);
}

static void what_was_never_committed_gets_no_row(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, place_without_committing);
	scene_open(scene);
	assert_false(scene_has_row(scene, &run->ids[0]));
	forget_run(run);
}

static void a_change_survives_the_making_again_of_its_file(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	crash(scene, run, store_and_patch);
	tear(scene, &run->ids[0]);
	scene_open(scene);
	expect_bytes(scene, &run->ids[0], "the bytes");
	struct file_record *record = described(scene, &run->ids[0]);
	assert_string_equal(record->name, "patched");
	assert_int_equal(record->revision, 2);
	file_record_unref(&record);
	forget_run(run);
}

static void what_waited_for_the_database_is_registered_after_a_crash(void **state)
{
	struct scene *scene = *state;
	struct run *run = new_run();
	run->outage = true;
	crash(scene, run, store_three_together);
	scene_open(scene);
	for (int i = 0; i < 3; i++)
		assert_true(scene_has_row(scene, &run->ids[i]));
	assert_int_equal(stub_store->n, 3);
	forget_run(run);
}

static void count_recovery(void *context, const struct core_recovery *recovery)
{
	*(int64_t *)context += recovery->records;
}

static void a_clean_stop_leaves_nothing_to_replay(void **state)
{
	struct scene *scene = *state;
	int64_t records = 0;
	scene_put(scene, "f", "the bytes");
	scene->config.recovered = count_recovery;
	scene->config.recovered_context = &records;
	scene_restart(scene);
	assert_int_equal(records, 0);
}

/* --- checkpoints --- */

static void a_checkpoint_empties_the_journal(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "f", "the bytes");
	assert_true(journal_live_bytes(scene->core->intake->journal) > 0);
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_int_equal(journal_live_bytes(scene->core->intake->journal), 0);
}

static void a_sync_that_fails_has_the_files_made_again_and_readiness_goes_down(void **state)
{
	struct scene *scene = *state;
	struct core_health health;
	struct uuid id = scene_put(scene, "f", "the bytes");
	blob_fault_set(scene->blobs, BLOB_CALL_SYNC, 1, ERR_IO, EIO);
	tear(scene, &id); /* as if its pages had been dropped */
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	expect_bytes(scene, &id, "the bytes");
	core_health(scene->core, &health);
	assert_false(health.data_ok);
	assert_int_equal(journal_live_bytes(scene->core->intake->journal), 0);
}

static void a_file_that_cannot_be_made_again_stays_in_the_journal(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "the bytes");
	blob_fault_set(scene->blobs, BLOB_CALL_SYNC, 1, ERR_IO, EIO);
	blob_fault_set(scene->blobs, BLOB_CALL_RESTORE, 1, ERR_IO, EIO);
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_IO);
	assert_true(journal_live_bytes(scene->core->intake->journal) > 0);
	tear(scene, &id);
	blob_fault_set(scene->blobs, BLOB_CALL_SYNC, 1, ERR_IO, EIO);
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	expect_bytes(scene, &id, "the bytes");
}

static void a_removed_file_is_not_made_again_by_a_failed_sync(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "the bytes");
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
	blob_fault_set(scene->blobs, BLOB_CALL_SYNC, 1, ERR_IO, EIO);
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_false(scene_has_blob(scene, &id));
}

static void what_waits_for_the_database_is_carried_over(void **state)
{
	struct scene *scene = *state;
	stub_store->in_register = stay_away;
	stub_store->fail_register = ERR_UNAVAILABLE;
	struct file_record *record = scene_store(scene, "f", "the bytes", NULL);
	assert_true(record->unregistered);
	assert_int_equal(intake_checkpoint(scene->core, &scene->err), 0);
	assert_true(journal_live_bytes(scene->core->intake->journal) > 0);
	scene_restart(scene); /* with a database that is back, and empty */
	assert_true(scene_has_row(scene, &record->id));
	file_record_unref(&record);
}

static void a_full_disk_refuses_a_small_file_and_leaves_nothing(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
	struct file_record *record = NULL;
	blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, ERR_IO, ENOSPC);
	assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
	assert_int_equal(scene->err.kind, ERR_DISK_FULL);
	assert_int_equal(scene_blobs(scene), 0);
	assert_int_equal(atomic_load(&scene->core->small_bytes), 0);
}

static void a_small_file_given_up_before_its_commit_leaves_nothing(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
	upload_abort(&upload);
	assert_int_equal(scene_blobs(scene), 0);
	upload = scene_placed(scene, "x", "abc");
	assert_int_equal(scene_blobs(scene), 1);
	upload_abort(&upload);
	assert_int_equal(scene_blobs(scene), 0);
	assert_int_equal(atomic_load(&scene->core->small_bytes), 0);
}

static void an_upload_that_outgrows_the_memory_for_small_ones_is_whole(void **state)
{
	struct scene *scene = *state;
	enum { PIECE = 10000, PIECES = 9 };
	char piece[PIECE];
	struct upload *upload = scene_begin(scene, "x");
	struct file_record *record = NULL;
	for (int i = 0; i < PIECES; i++) {
		memset(piece, 'a' + i, sizeof(piece));
		assert_int_equal(upload_write(upload, piece, sizeof(piece), &scene->err), 0);
	}
	assert_int_equal(upload_seal(upload, NULL, &scene->err), 0);
	assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
	assert_int_equal(record->size, PIECE * PIECES);
	unsigned char sha256[SHA256_LEN];
	int64_t size;
	assert_int_equal(maintenance_hash(scene->blobs, &record->id, sha256, &size, &scene->err),
			 1);
	assert_memory_equal(sha256, record->sha256, SHA256_LEN);
	file_record_unref(&record);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(a_file_that_a_crash_tore_is_made_again),
		SCENE_TEST(a_file_that_a_crash_lost_is_made_again),
		SCENE_TEST(a_row_that_is_not_there_after_a_crash_is_made),
		SCENE_TEST(what_is_left_of_a_request_that_the_database_forgot_comes_back),
		SCENE_TEST(a_recovery_that_is_cut_short_is_done_again),
		SCENE_TEST(the_files_of_one_request_come_back_together),
		SCENE_TEST(what_was_removed_does_not_come_back),
		SCENE_TEST(what_was_refused_does_not_come_back),
		SCENE_TEST(what_could_not_be_placed_does_not_come_back),
		SCENE_TEST(what_was_never_committed_gets_no_row),
		SCENE_TEST(a_change_survives_the_making_again_of_its_file),
		SCENE_TEST(what_waited_for_the_database_is_registered_after_a_crash),
		SCENE_TEST(a_clean_stop_leaves_nothing_to_replay),
		SCENE_TEST(a_checkpoint_empties_the_journal),
		SCENE_TEST(a_sync_that_fails_has_the_files_made_again_and_readiness_goes_down),
		SCENE_TEST(a_file_that_cannot_be_made_again_stays_in_the_journal),
		SCENE_TEST(a_removed_file_is_not_made_again_by_a_failed_sync),
		SCENE_TEST(what_waits_for_the_database_is_carried_over),
		SCENE_TEST(a_full_disk_refuses_a_small_file_and_leaves_nothing),
		SCENE_TEST(a_small_file_given_up_before_its_commit_leaves_nothing),
		SCENE_TEST(an_upload_that_outgrows_the_memory_for_small_ones_is_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
