/* Uploads from first byte to committed row, over a disk and a database that fail when they are told to. */
#include <sched.h>

#include "core_scene.h"
#include "stub_metadata.h"

#include "depotd/work/batcher.h"

#include "../../src/core/intake_private.h"

static void a_stored_file_is_there_with_row_bytes_and_description(void **state)
{
	struct scene *scene = *state;
	struct file_record *record = scene_store(scene, "notes.txt", "hello", NULL);
	static const char sha256[] =
		"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
	char hex[SHA256_HEX_LEN + 1];
	struct buf text;
	struct file_record *described = NULL;
	hex_encode(record->sha256, SHA256_LEN, hex);
	assert_string_equal(hex, sha256);
	assert_string_equal(record->name, "notes.txt");
	assert_string_equal(record->type, "text/plain");
	assert_int_equal(record->size, 5);
	assert_int_equal(record->revision, 1);
	assert_string_equal(record->tags, "[]");
	assert_string_equal(record->attributes, "{}");
	assert_true(scene_has_row(scene, &record->id));
	assert_true(scene_has_blob(scene, &record->id));
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	assert_int_equal(blob_description(scene->blobs, &record->id, &text, &scene->err), 1);
	assert_int_equal(
		file_record_unpack(&record->id, text.data, text.len, &described, &scene->err), 1);
	assert_string_equal(described->name, "notes.txt");
	assert_int_equal(described->created_ms, record->created_ms);
	file_record_unref(&described);
	file_record_unref(&record);
	buf_release(&text);
}

static void labels_become_tags_attributes_and_expiry(void **state)
{
	struct scene *scene = *state;
	struct file_labels labels;
	assert_int_equal(file_labels_init(&labels, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "tags", "b,a", 3, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "project", "apollo", 6, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "expires_in", "90m", 3, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "visibility", "public", 6, &scene->err), 0);
	struct file_record *record = scene_store(scene, "x", "y", &labels);
	assert_string_equal(record->tags, "[\"b\",\"a\"]");
	assert_string_equal(record->attributes, "{\"project\":\"apollo\"}");
	assert_int_equal(record->expires_ms, record->created_ms + 90 * 60 * 1000);
	assert_int_equal(record->visibility, VISIBILITY_PUBLIC);
	file_record_unref(&record);
	file_labels_release(&labels);
}

static void a_digest_that_does_not_match_stores_nothing(void **state)
{
	struct scene *scene = *state;
	unsigned char wrong[SHA256_LEN] = {1, 2, 3};
	struct upload_intent intent = {
		.name = "x", .name_len = 1, .size = -1, .expected_sha256 = {NULL, wrong}};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), 0);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	assert_int_equal(upload_seal(upload, NULL, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_INVALID);
	upload_abort(&upload);
	assert_null(upload);
	assert_int_equal(scene_blobs(scene), 0);
	assert_int_equal(stub_store->n, 0);
}

static void a_digest_that_matches_is_taken(void **state)
{
	struct scene *scene = *state;
	unsigned char right[SHA256_LEN];
	assert_int_equal(digest_sha256("abc", 3, right, &scene->err), 0);
	struct upload_intent intent = {
		.name = "x", .name_len = 1, .size = 3, .expected_sha256 = {right, right}};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), 0);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	assert_int_equal(upload_seal(upload, NULL, &scene->err), 0);
	upload_abort(&upload);
}

static void a_body_of_another_length_than_announced_is_refused(void **state)
{
	struct scene *scene = *state;
	struct upload_intent intent = {.name = "x", .name_len = 1, .size = 10};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), 0);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	assert_int_equal(upload_seal(upload, NULL, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_INVALID);
	upload_abort(&upload);
}

static void what_is_too_large_is_refused_early_or_when_it_gets_so(void **state)
{
	struct scene *scene = *state;
	scene->config.max_upload = 10;
	scene_restart(scene);
	struct upload_intent intent = {.name = "x", .name_len = 1, .size = 11};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_TOO_LARGE);
	upload = scene_begin(scene, "x");
	assert_int_equal(upload_write(upload, "0123456789", 10, &scene->err), 0);
	assert_int_equal(upload_write(upload, "0", 1, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_TOO_LARGE);
	upload_abort(&upload);
}

static void a_bad_name_is_refused(void **state)
{
	struct scene *scene = *state;
	struct upload_intent intent = {.name = "a\nb", .name_len = 3, .size = -1};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_INVALID);
}

static void a_full_disk_is_told_and_leaves_nothing(void **state)
{
	struct scene *scene = *state;
	scene->core->config.journal_file_max = 0; /* with a sync of its own */
	struct upload *upload = scene_begin(scene, "x");
	blob_fault_set(scene->blobs, BLOB_CALL_WRITE, 1, ERR_IO, ENOSPC);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_DISK_FULL);
	upload_abort(&upload);
	assert_int_equal(scene_blobs(scene), 0);
	scene_put(scene, "y", "fits again");
	assert_int_equal(scene_blobs(scene), 1);
}

static void a_failed_sync_is_never_answered_as_stored_and_readiness_goes_down(void **state)
{
	struct scene *scene = *state;
	scene->core->config.journal_file_max = 0; /* with a sync of its own */
	struct core_health health;
	struct blob_reservation room = {0};
	struct upload *upload = scene_begin(scene, "x");
	core_health(scene->core, &health);
	assert_true(health.data_ok);
	assert_int_equal(core_admit(scene->core, 10, &room, &scene->err), 0);
	core_admit_end(scene->core, &room);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	blob_fault_set(scene->blobs, BLOB_CALL_SEAL, 1, ERR_IO, EIO);
	assert_int_equal(upload_seal(upload, NULL, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_IO);
	upload_abort(&upload);
	assert_int_equal(scene_blobs(scene), 0);
	core_health(scene->core, &health);
	assert_false(health.data_ok);
	assert_int_equal(health.data_err.kind, ERR_IO);
	assert_int_equal(core_admit(scene->core, 10, &room, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
}

static void a_failed_publish_fails_its_request_and_no_other(void **state)
{
	struct scene *scene = *state;
	scene->core->config.journal_file_max = 0; /* with a sync of its own */
	struct upload *bad = scene_sealed(scene, "bad", "1", NULL);
	struct upload *good = scene_sealed(scene, "good", "2", NULL);
	struct file_record *record = NULL;
	blob_fault_set(scene->blobs, BLOB_CALL_PUBLISH, 1, ERR_IO, ENOSPC);
	assert_int_equal(scene_commit(scene, &bad, 1, &record), -1);
	assert_int_equal(scene->err.kind, ERR_DISK_FULL);
	assert_null(bad);
	assert_null(record);
	assert_int_equal(scene_commit(scene, &good, 1, &record), 0);
	file_record_unref(&record);
	assert_int_equal(scene_blobs(scene), 1);
	assert_int_equal(stub_store->n, 1);
}

static void many_files_of_one_request_come_all_or_none(void **state)
{
	struct scene *scene = *state;
	struct upload *uploads[5];
	struct file_record *records[5] = {NULL};
	for (int i = 0; i < 5; i++)
		uploads[i] = scene_sealed(scene, "f", "data", NULL);
	stub_store->refuse = upload_record(uploads[3])->id;
	assert_int_equal(scene_commit(scene, uploads, 5, records), -1);
	assert_int_equal(scene->err.kind, ERR_INVALID);
	assert_int_equal(scene_blobs(scene), 0);
	assert_int_equal(stub_store->n, 0);
	for (int i = 0; i < 5; i++) {
		assert_null(uploads[i]);
		assert_null(records[i]);
		uploads[i] = scene_sealed(scene, "f", "data", NULL);
	}
	assert_int_equal(scene_commit(scene, uploads, 5, records), 0);
	assert_int_equal(scene_blobs(scene), 5);
	assert_int_equal(stub_store->n, 5);
	for (int i = 0; i < 5; i++)
		file_record_unref(&records[i]);
}

/* Stored for whoever asks; its row comes without anybody's doing. */
static void expect_row_to_follow(struct scene *scene, struct file_record *record)
{
	assert_true(record->unregistered);
	while (pending_has(scene->core, &record->id))
		sched_yield();
	assert_true(scene_has_row(scene, &record->id));
	assert_int_equal(scene_blobs(scene), 1);
	assert_int_equal(stub_store->n, 1);
}

static void a_file_is_stored_while_the_database_is_away_and_its_row_follows(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "f", "data", NULL);
	struct file_record *record = NULL;
	stub_store->fail_register = ERR_UNAVAILABLE;
	assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
	assert_null(upload);
	expect_row_to_follow(scene, record);
	file_record_unref(&record);
}

static void a_lost_answer_to_a_commit_that_was_made_registers_nothing_twice(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "f", "data", NULL);
	struct file_record *record = NULL;
	stub_store->fail_register = ERR_UNKNOWN_OUTCOME;
	stub_store->done = true;
	assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
	expect_row_to_follow(scene, record);
	file_record_unref(&record);
}

static void a_lost_answer_to_a_commit_that_was_not_made_is_made_good(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "f", "data", NULL);
	struct file_record *record = NULL;
	stub_store->fail_register = ERR_UNKNOWN_OUTCOME;
	assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
	expect_row_to_follow(scene, record);
	file_record_unref(&record);
}

struct hold {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool holding, let_go;
};

/* Holds the registrar until let go, so that what comes meanwhile has to wait together. */
static void hold_register(void *context)
{
	struct hold *hold = context;
	pthread_mutex_lock(&hold->lock);
	hold->holding = true;
	pthread_cond_broadcast(&hold->changed);
	while (!hold->let_go)
		pthread_cond_wait(&hold->changed, &hold->lock);
	pthread_mutex_unlock(&hold->lock);
}

struct first {
	struct scene *scene;
	struct waiting_commit *waiting;
	struct upload **upload;
	struct file_record **record;
};

/* Whoever comes first commits for those who come meanwhile. */
static void *submit_first(void *context)
{
	struct first *first = context;
	scene_submit(first->scene, first->waiting, first->upload, 1, first->record);
	return NULL;
}

static void requests_that_end_together_share_one_transaction(void **state)
{
	struct scene *scene = *state;
	enum { N = 20 };
	struct hold hold = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct upload *uploads[N];
	struct file_record *records[N] = {NULL};
	struct waiting_commit waiting[N];
	for (int i = 0; i < N; i++)
		uploads[i] = scene_sealed(scene, "f", "data", NULL);
	struct uuid refused = upload_record(uploads[7])->id;
	stub_store->refuse = refused;
	stub_store->context = &hold;
	stub_store->in_register = hold_register;
	struct first first = {scene, &waiting[0], &uploads[0], &records[0]};
	pthread_t committer;
	assert_int_equal(pthread_create(&committer, NULL, submit_first, &first), 0);
	pthread_mutex_lock(&hold.lock);
	while (!hold.holding)
		pthread_cond_wait(&hold.changed, &hold.lock);
	pthread_mutex_unlock(&hold.lock);
	for (int i = 1; i < N; i++)
		scene_submit(scene, &waiting[i], &uploads[i], 1, &records[i]);
	while (committer_depth(scene->core) < N - 1)
		sched_yield();
	pthread_mutex_lock(&hold.lock);
	hold.let_go = true;
	pthread_cond_broadcast(&hold.changed);
	pthread_mutex_unlock(&hold.lock);
	pthread_join(committer, NULL);
	for (int i = 0; i < N; i++) {
		assert_int_equal(scene_await(&waiting[i], &scene->err), i == 7 ? -1 : 0);
		file_record_unref(&records[i]);
	}
	assert_int_equal(stub_store->transactions, 2); /* the first alone, all others together */
	assert_int_equal(stub_store->registered_together, N - 1);
	assert_int_equal(stub_store->n, N - 1);
	assert_false(scene_has_blob(scene, &refused));
	assert_int_equal(scene_blobs(scene), N - 1);
}

static void aborting_gives_everything_back_in_every_state(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_begin(scene, "x");
	upload_abort(&upload);
	upload = scene_begin(scene, "x");
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	assert_int_equal(upload_size(upload), 3);
	upload_abort(&upload);
	upload = scene_sealed(scene, "x", "abc", NULL);
	upload_abort(&upload);
	assert_null(upload);
	upload_abort(&upload);
	assert_int_equal(scene_blobs(scene), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(a_stored_file_is_there_with_row_bytes_and_description),
		SCENE_TEST(labels_become_tags_attributes_and_expiry),
		SCENE_TEST(a_digest_that_does_not_match_stores_nothing),
		SCENE_TEST(a_digest_that_matches_is_taken),
		SCENE_TEST(a_body_of_another_length_than_announced_is_refused),
		SCENE_TEST(what_is_too_large_is_refused_early_or_when_it_gets_so),
		SCENE_TEST(a_bad_name_is_refused),
		SCENE_TEST(a_full_disk_is_told_and_leaves_nothing),
		SCENE_TEST(a_failed_sync_is_never_answered_as_stored_and_readiness_goes_down),
		SCENE_TEST(a_failed_publish_fails_its_request_and_no_other),
		SCENE_TEST(many_files_of_one_request_come_all_or_none),
		SCENE_TEST(a_file_is_stored_while_the_database_is_away_and_its_row_follows),
		SCENE_TEST(a_lost_answer_to_a_commit_that_was_made_registers_nothing_twice),
		SCENE_TEST(a_lost_answer_to_a_commit_that_was_not_made_is_made_good),
		SCENE_TEST(requests_that_end_together_share_one_transaction),
		SCENE_TEST(aborting_gives_everything_back_in_every_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
