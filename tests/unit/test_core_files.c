/* Finding, opening, changing and removing files, over SQLite and a data directory that fails when it is told to. */
#include "core_scene.h"

static struct file_record *patched(struct scene *scene, const struct uuid *id, const char *patch)
{
	struct file_record *record = NULL;
	if (files_patch(scene->core, id, patch, strlen(patch), NULL, &record, &scene->err) != 1)
		fail_msg("%s", scene->err.message);
	return record;
}

static struct file_record *described(struct scene *scene, const struct uuid *id)
{
	struct file_record *record = NULL;
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	assert_int_equal(blob_description(scene->blobs, id, &text, &scene->err), 1);
	assert_int_equal(file_record_unpack(id, text.data, text.len, &record, &scene->err), 1);
	buf_release(&text);
	return record;
}

static void a_small_file_comes_from_memory_the_second_time(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "a", "small");
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	size_t n;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(files_open(scene->core, &id, &record, &body, &reader, &scene->err),
				 1);
		assert_null(reader);
		assert_memory_equal(cached_body_data(body, &n), "small", 5);
		assert_int_equal(n, 5);
		cached_body_unref(&body);
		file_record_unref(&record);
		blob_fault_set(scene->blobs, BLOB_CALL_OPEN, 1, ERR_IO, EIO);
	}
	assert_int_equal(files_cached(scene->core, &id, &record, &body), 1);
	assert_non_null(body);
	cached_body_unref(&body);
	file_record_unref(&record);
}

static void a_large_file_comes_as_a_reader(void **state)
{
	struct scene *scene = *state;
	char *big = malloc(100001);
	memset(big, 'l', 100000);
	big[100000] = '\0';
	struct uuid id = scene_put(scene, "a", big);
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	assert_int_equal(files_open(scene->core, &id, &record, &body, &reader, &scene->err), 1);
	assert_null(body);
	assert_int_equal(blob_size(reader), 100000);
	assert_true(blob_descriptor(reader) >= 0);
	blob_reader_free(&reader);
	file_record_unref(&record);
	free(big);
}

static void a_file_is_found_after_a_restart_and_an_unknown_one_never(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "kept", "x"), other = uuid_new();
	struct file_record *record = NULL;
	scene_restart(scene);
	assert_int_equal(files_cached(scene->core, &id, &record, NULL), 0);
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	assert_string_equal(record->name, "kept");
	file_record_unref(&record);
	assert_int_equal(files_cached(scene->core, &id, &record, NULL), 1);
	file_record_unref(&record);
	assert_int_equal(files_find(scene->core, &other, &record, &scene->err), 0);
}

static void a_row_without_bytes_is_an_error_and_never_an_empty_file(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "a", "b");
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	assert_int_equal(blob_remove(scene->blobs, &id, &scene->err), 1);
	assert_int_equal(files_open(scene->core, &id, &record, &body, &reader, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_DAMAGED);
	/* Removed by somebody else, row first: then it is simply not there, whatever the cache thinks. */
	scene_drop_row(scene, &id);
	assert_int_equal(files_open(scene->core, &id, &record, &body, &reader, &scene->err), 0);
}

static void a_truncated_file_is_an_error(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "a", "0123456789");
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(truncate(path, 5), 0);
	assert_int_equal(files_open(scene->core, &id, &record, &body, &reader, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_DAMAGED);
}

/* --- PATCH --- */

static void a_patch_changes_row_cache_and_description(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "before", "x");
	struct file_record *record = patched(
		scene, &id, "{\"name\":\"after\",\"tags\":[\"t\"],\"attributes\":{\"a\":1}}");
	assert_string_equal(record->name, "after");
	assert_int_equal(record->revision, 2);
	file_record_unref(&record);
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	assert_string_equal(record->name, "after");
	assert_string_equal(record->attributes, "{\"a\":1}");
	file_record_unref(&record);
	record = described(scene, &id);
	assert_string_equal(record->name, "after");
	assert_int_equal(record->revision, 2);
	file_record_unref(&record);
}

static void a_patch_that_changes_nothing_is_no_revision(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "same", "x");
	struct file_record *record = patched(scene, &id, "{\"name\":\"same\"}");
	assert_int_equal(record->revision, 1);
	file_record_unref(&record);
}

static void if_match_is_held_against_the_metadata_etag(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	char before[FILES_ETAG_MAX], after[FILES_ETAG_MAX];
	struct file_record *record = NULL;
	static const char patch[] = "{\"name\":\"m\"}";
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	files_metadata_etag(record, before);
	file_record_unref(&record);
	assert_int_equal(files_patch(scene->core, &id, patch, strlen(patch), "\"other\"", &record,
				     &scene->err),
			 -1);
	assert_int_equal(scene->err.kind, ERR_PRECONDITION);
	assert_int_equal(
		files_patch(scene->core, &id, patch, strlen(patch), before, &record, &scene->err),
		1);
	files_metadata_etag(record, after);
	assert_string_not_equal(before, after);
	file_record_unref(&record);
	assert_int_equal(
		files_patch(scene->core, &id, patch, strlen(patch), before, &record, &scene->err),
		-1);
	assert_int_equal(scene->err.kind, ERR_PRECONDITION);
}

static void a_bad_patch_or_an_unknown_file_changes_nothing(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x"), other = uuid_new();
	struct file_record *record = NULL;
	assert_int_equal(
		files_patch(scene->core, &id, "{\"size\":1}", 10, NULL, &record, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_INVALID);
	assert_int_equal(files_patch(scene->core, &other, "{}", 2, NULL, &record, &scene->err), 0);
}

/* The change stands, but would be lost with the database: the answer is an error, and asking again mends it. */
static void a_patch_whose_description_fails_is_an_error_that_a_repeat_mends(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	struct file_record *record = NULL;
	blob_fault_set(scene->blobs, BLOB_CALL_DESCRIBE, 1, ERR_IO, ENOSPC);
	assert_int_equal(
		files_patch(scene->core, &id, "{\"name\":\"m\"}", 12, NULL, &record, &scene->err),
		-1);
	assert_int_equal(scene->err.kind, ERR_DISK_FULL);
	record = described(scene, &id);
	assert_string_equal(record->name, "n");
	file_record_unref(&record);
	record = patched(scene, &id, "{\"name\":\"m\"}");
	assert_int_equal(record->revision, 2);
	file_record_unref(&record);
	record = described(scene, &id);
	assert_string_equal(record->name, "m");
	file_record_unref(&record);
}

struct patcher {
	struct scene *scene;
	struct uuid id;
	int number, failures;
};

enum { PATCHERS = 4, PATCHES = 12 };

static void *patch_often(void *context)
{
	struct patcher *patcher = context;
	for (int i = 0; i < PATCHES; i++) {
		char patch[64];
		struct err err;
		struct file_record *record = NULL;
		snprintf(patch, sizeof(patch), "{\"attributes\":{\"p%d\":%d}}", patcher->number, i);
		if (files_patch(patcher->scene->core, &patcher->id, patch, strlen(patch), NULL,
				&record, &err) != 1)
			patcher->failures++;
		file_record_unref(&record);
	}
	return NULL;
}

static void patches_at_once_all_count_and_the_description_ends_as_the_row(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	struct patcher patchers[PATCHERS];
	pthread_t threads[PATCHERS];
	for (int i = 0; i < PATCHERS; i++) {
		patchers[i] = (struct patcher){scene, id, i, 0};
		pthread_create(&threads[i], NULL, patch_often, &patchers[i]);
	}
	for (int i = 0; i < PATCHERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(patchers[i].failures, 0);
	}
	struct file_record *row = NULL, *description = described(scene, &id);
	assert_int_equal(metadata_find(scene->metadata, &id, &row, &scene->err), 1);
	assert_int_equal(row->revision, 1 + PATCHERS * PATCHES);
	assert_int_equal(description->revision, row->revision);
	assert_string_equal(row->attributes, "{\"p0\":11,\"p1\":11,\"p2\":11,\"p3\":11}");
	assert_string_equal(description->attributes, row->attributes);
	file_record_unref(&row);
	file_record_unref(&description);
}

/* --- removal --- */

static void a_removed_file_has_neither_row_nor_bytes(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	struct file_record *record = NULL;
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
	assert_false(scene_has_row(scene, &id));
	assert_false(scene_has_blob(scene, &id));
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 0);
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 0);
}

/* I3: seen from the moment when the bytes are about to go. */
static void look_for_row(void *context, enum blob_call call)
{
	struct scene *scene = ((void **)context)[0];
	const struct uuid *id = ((void **)context)[1];
	if (call == BLOB_CALL_REMOVE)
		*(int *)((void **)context)[2] = scene_has_row(scene, id);
}

static void removal_takes_the_row_first(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	int row_there = -1;
	void *context[3] = {scene, &id, &row_there};
	blob_fault_hook(scene->blobs, look_for_row, context);
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_int_equal(row_there, 0);
}

static void bytes_that_do_not_go_are_an_orphan_and_the_file_is_removed(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "n", "x");
	struct file_record *record = NULL;
	blob_fault_set(scene->blobs, BLOB_CALL_REMOVE, 1, ERR_IO, EIO);
	assert_int_equal(files_remove(scene->core, &id, &scene->err), 1);
	assert_true(scene_has_blob(scene, &id));
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 0);
}

static void etags_are_strong_and_follow_what_they_stand_for(void **state)
{
	struct scene *scene = *state;
	struct file_record *a = scene_store(scene, "a", "same bytes", NULL);
	struct file_record *b = scene_store(scene, "b", "same bytes", NULL);
	char left[FILES_ETAG_MAX], right[FILES_ETAG_MAX];
	files_etag(a, left);
	files_etag(b, right);
	assert_string_equal(left, right);
	assert_int_equal(strlen(left), 66);
	assert_int_equal(left[0], '"');
	files_metadata_etag(a, left);
	files_metadata_etag(b, right);
	assert_string_not_equal(left, right);
	file_record_unref(&a);
	file_record_unref(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(a_small_file_comes_from_memory_the_second_time),
		SCENE_TEST(a_large_file_comes_as_a_reader),
		SCENE_TEST(a_file_is_found_after_a_restart_and_an_unknown_one_never),
		SCENE_TEST(a_row_without_bytes_is_an_error_and_never_an_empty_file),
		SCENE_TEST(a_truncated_file_is_an_error),
		SCENE_TEST(a_patch_changes_row_cache_and_description),
		SCENE_TEST(a_patch_that_changes_nothing_is_no_revision),
		SCENE_TEST(if_match_is_held_against_the_metadata_etag),
		SCENE_TEST(a_bad_patch_or_an_unknown_file_changes_nothing),
		SCENE_TEST(a_patch_whose_description_fails_is_an_error_that_a_repeat_mends),
		SCENE_TEST(patches_at_once_all_count_and_the_description_ends_as_the_row),
		SCENE_TEST(a_removed_file_has_neither_row_nor_bytes),
		SCENE_TEST(removal_takes_the_row_first),
		SCENE_TEST(bytes_that_do_not_go_are_an_orphan_and_the_file_is_removed),
		SCENE_TEST(etags_are_strong_and_follow_what_they_stand_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
