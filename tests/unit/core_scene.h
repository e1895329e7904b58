/*
 * A scene for core's tests: a data directory, the filesystem driver inside the fault driver, SQLite beside it (or the stub of
 * stub_metadata.h, for tests that include that), core over both. One scene a test.
 */
#ifndef DEPOTD_TESTS_CORE_SCENE_H
#define DEPOTD_TESTS_CORE_SCENE_H

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch.h"
#include "unit.h"

#include "depotd/base/clock.h"
#include "depotd/blob/fault.h"
#include "depotd/core/core.h"
#include "depotd/core/files.h"
#include "depotd/core/maintenance.h"
#include "depotd/core/upload.h"

struct scene {
	char directory[SCRATCH_MAX];
	char journal[200];
	struct blob_store *blobs;
	struct metadata *metadata;
	struct core *core;
	struct core_config config;
	unsigned without; /* what the file system is not to have: BLOB_WITHOUT_… */
	struct err err;   /* of the last failure */
};

static inline void scene_open_metadata(struct scene *scene)
{
	char url[200];
	snprintf(url, sizeof(url), "sqlite:%s/metadata.db", scene->directory);
	struct metadata_config config = {.url = url,
					 .connections = 2,
					 .connect_timeout_ms = 2000,
					 .statement_timeout_ms = 10000,
					 .migrate = true};
	if (metadata_open(&config, &scene->metadata, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
}

static inline void scene_open(struct scene *scene)
{
	struct blob_filesystem_config config = {
		.directory = scene->directory, .exclusive = true, .without = scene->without};
	struct blob_store *inner = NULL;
	if (blob_filesystem_open(&config, &inner, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	assert_int_equal(blob_fault_new(inner, &scene->blobs, &scene->err), 0);
	scene_open_metadata(scene);
	if (core_new(&scene->config, scene->metadata, scene->blobs, &scene->core, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
}

static inline void scene_close(struct scene *scene)
{
	core_free(&scene->core);
	metadata_close(&scene->metadata);
	blob_close(&scene->blobs);
}

/* As after a stop and a start. */
static inline void scene_restart(struct scene *scene)
{
	scene_close(scene);
	scene_open(scene);
}

static inline int scene_setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	if (!scene)
		return -1;
	if (!scratch_make(scene->directory, "core"))
		return -1;
	scene->config = (struct core_config){.max_upload = -1,
					     .grace_ms = 3600 * 1000,
					     .failure_hold_ms = 30 * 1000,
					     .idempotency_ttl_ms = 3600 * 1000,
					     .cache_records = 1000,
					     .cache_bytes = 16 << 20,
					     .cache_body_max = 64 << 10};
	snprintf(scene->journal, sizeof(scene->journal), "%s/journal", scene->directory);
	scene->config.journal_directory = scene->journal;
	scene->config.journal_size = 8 << 20;
	scene->config.journal_file_max = 64 << 10;
	scene_open(scene);
	*state = scene;
	return 0;
}

static inline int scene_teardown(void **state)
{
	struct scene *scene = *state;
	scene_close(scene);
	scratch_remove(scene->directory);
	free(scene);
	return 0;
}

#define SCENE_TEST(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)

/* --- uploads --- */

static inline struct upload *scene_begin(struct scene *scene, const char *name)
{
	struct upload_intent intent = {.name = name, .name_len = strlen(name), .size = -1};
	struct upload *upload = NULL;
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), 0);
	return upload;
}

static inline struct upload *scene_sealed(struct scene *scene, const char *name, const char *data,
					  const struct file_labels *labels)
{
	struct upload *upload = scene_begin(scene, name);
	assert_int_equal(upload_write(upload, data, strlen(data), &scene->err), 0);
	if (upload_seal(upload, labels, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	return upload;
}

struct waiting_commit {
	struct upload_commit commit; /* first */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool answered;
};

static inline void scene_answered(struct upload_commit *commit)
{
	struct waiting_commit *waiting = (struct waiting_commit *)commit;
	pthread_mutex_lock(&waiting->lock);
	waiting->answered = true;
	pthread_cond_signal(&waiting->changed);
	pthread_mutex_unlock(&waiting->lock);
}

static inline void scene_submit(struct scene *scene, struct waiting_commit *waiting,
				struct upload **uploads, size_t n, struct file_record **records)
{
	*waiting = (struct waiting_commit){
		.commit = {.uploads = uploads, .n = n, .records = records, .done = scene_answered}};
	pthread_mutex_init(&waiting->lock, NULL);
	pthread_cond_init(&waiting->changed, NULL);
	upload_commit(scene->core, &waiting->commit);
}

static inline int scene_await(struct waiting_commit *waiting, struct err *err)
{
	pthread_mutex_lock(&waiting->lock);
	while (!waiting->answered)
		pthread_cond_wait(&waiting->changed, &waiting->lock);
	pthread_mutex_unlock(&waiting->lock);
	pthread_cond_destroy(&waiting->changed);
	pthread_mutex_destroy(&waiting->lock);
	*err = waiting->commit.err;
	return waiting->commit.result;
}

static inline int scene_commit(struct scene *scene, struct upload **uploads, size_t n,
			       struct file_record **records)
{
	struct waiting_commit waiting;
	scene_submit(scene, &waiting, uploads, n, records);
	return scene_await(&waiting, &scene->err);
}

/* A file stored whole; the record is the caller's. */
static inline struct file_record *scene_store(struct scene *scene, const char *name,
					      const char *data, const struct file_labels *labels)
{
	struct upload *upload = scene_sealed(scene, name, data, labels);
	struct file_record *record = NULL;
	if (scene_commit(scene, &upload, 1, &record) < 0)
		fail_msg("%s", scene->err.message);
	assert_null(upload);
	return record;
}

/* The id alone of a file stored whole. */
static inline struct uuid scene_put(struct scene *scene, const char *name, const char *data)
{
	struct file_record *record = scene_store(scene, name, data, NULL);
	struct uuid id = record->id;
	file_record_unref(&record);
	return id;
}

/* --- what is there --- */

static inline int scene_count(void *context, const struct blob_info *info)
{
	(void)info;
	++*(unsigned *)context;
	return 0;
}

static inline unsigned scene_blobs(struct scene *scene)
{
	unsigned n = 0;
	assert_int_equal(blob_walk(scene->blobs, scene_count, &n, &scene->err), 0);
	return n;
}

static inline bool scene_has_blob(struct scene *scene, const struct uuid *id)
{
	struct blob_reader *reader = NULL;
	int rc = blob_open(scene->blobs, id, &reader, &scene->err);
	blob_reader_free(&reader);
	assert_true(rc >= 0);
	return rc == 1;
}

static inline bool scene_has_row(struct scene *scene, const struct uuid *id)
{
	bool present = false;
	assert_int_equal(metadata_present(scene->metadata, id, 1, &present, &scene->err), 0);
	return present;
}

static inline void scene_drop_row(struct scene *scene, const struct uuid *id)
{
	assert_int_equal(metadata_remove(scene->metadata, id, &scene->err), 1);
}

static inline void scene_path(struct scene *scene, const struct uuid *id, char *out, size_t n)
{
	char text[UUID_TEXT_LEN + 1];
	uuid_format(id, text);
	snprintf(out, n, "%s/objects/%.5s/%.3s/%s", scene->directory, text, text + 5, text);
}

#endif
