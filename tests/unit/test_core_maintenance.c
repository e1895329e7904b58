/* check, reindex and the sweep, over SQLite. A grace of 0 makes everything old, one of an hour everything young. */
#include "core_scene.h"

static void with_grace(struct scene *scene, int64_t grace_ms)
{
	scene->config.grace_ms = grace_ms;
	scene_restart(scene);
}

static struct sweep_summary sweep(struct scene *scene)
{
	struct sweep_summary summary;
	if (maintenance_sweep(scene->core, &summary, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	return summary;
}

/* --- the sweep --- */

static void expired_files_go_with_row_and_bytes(void **state)
{
	struct scene *scene = *state;
	struct file_labels labels;
	assert_int_equal(file_labels_init(&labels, &scene->err), 0);
	labels.expires_in_ms = 1;
	struct file_record *record = scene_store(scene, "short", "x", &labels);
	struct uuid gone = record->id, stays = scene_put(scene, "long", "y");
	int64_t expires = record->expires_ms;
	file_record_unref(&record);
	while (clock_wall_ms() <= expires)
		;
	struct sweep_summary summary = sweep(scene);
	assert_int_equal(summary.expired, 1);
	assert_int_equal(summary.orphans, 0);
	assert_false(scene_has_row(scene, &gone));
	assert_false(scene_has_blob(scene, &gone));
	assert_true(scene_has_row(scene, &stays));
	assert_true(scene_has_blob(scene, &stays));
	file_labels_release(&labels);
}

static void orphans_go_after_the_grace_and_not_before(void **state)
{
	struct scene *scene = *state;
	struct uuid stays = scene_put(scene, "stays", "x"), orphan = scene_put(scene, "o", "y");
	scene_drop_row(scene, &orphan);
	assert_int_equal(sweep(scene).orphans, 0);
	assert_true(scene_has_blob(scene, &orphan));
	with_grace(scene, 0);
	assert_int_equal(sweep(scene).orphans, 1);
	assert_false(scene_has_blob(scene, &orphan));
	assert_true(scene_has_blob(scene, &stays));
}

static void uploads_under_way_are_never_swept(void **state)
{
	struct scene *scene = *state;
	with_grace(scene, 0);
	scene_put(scene, "other", "x");
	struct upload *half = scene_begin(scene, "half"),
		      *whole = scene_sealed(scene, "w", "y", NULL);
	struct file_record *record = NULL;
	assert_int_equal(upload_write(half, "abc", 3, &scene->err), 0);
	assert_int_equal(sweep(scene).orphans, 0);
	assert_int_equal(scene_commit(scene, &whole, 1, &record), 0);
	file_record_unref(&record);
	assert_int_equal(upload_write(half, "def", 3, &scene->err), 0);
	assert_int_equal(upload_seal(half, NULL, &scene->err), 0);
	assert_int_equal(scene_commit(scene, &half, 1, &record), 0);
	assert_true(scene_has_blob(scene, &record->id));
	file_record_unref(&record);
}

struct storing {
	struct scene *scene;
	bool failed;
};

static void *store_many(void *context)
{
	struct storing *storing = context;
	for (int i = 0; i < 100; i++) {
		struct file_record *record = scene_store(storing->scene, "f", "x", NULL);
		struct file_record *found = NULL;
		struct blob_reader *reader = NULL;
		struct err err;
		if (metadata_find(storing->scene->metadata, &record->id, &found, &err) != 1 ||
		    blob_open(storing->scene->blobs, &record->id, &reader, &err) != 1)
			storing->failed = true;
		file_record_unref(&found);
		blob_reader_free(&reader);
		file_record_unref(&record);
	}
	return NULL;
}

/* Without sparing them, a sweep with no grace takes bytes whose row is on its way: a row without bytes. */
static void a_sweep_without_grace_takes_no_file_that_is_being_committed(void **state)
{
	struct scene *scene = *state;
	struct check_summary summary;
	struct check_options options = {.grace_ms = 0};
	pthread_t thread;
	with_grace(scene, 0);
	scene_put(scene, "first", "x");
	struct storing storing = {scene, false};
	pthread_create(&thread, NULL, store_many, &storing);
	int64_t orphans = 0;
	for (int i = 0; i < 150; i++)
		orphans += sweep(scene).orphans;
	pthread_join(thread, NULL);
	assert_false(storing.failed);
	assert_int_equal(orphans, 0);
	assert_int_equal(
		maintenance_check(scene->metadata, scene->blobs, &options, &summary, &scene->err),
		0);
	assert_int_equal(summary.findings, 0);
	assert_int_equal(summary.rows, 101);
}

static void an_emptied_database_makes_the_sweep_refuse(void **state)
{
	struct scene *scene = *state;
	struct sweep_summary summary;
	struct uuid ids[40];
	for (int i = 0; i < 40; i++)
		ids[i] = scene_put(scene, "f", "x");
	for (int i = 0; i < 40; i++)
		scene_drop_row(scene, &ids[i]);
	with_grace(scene, 0);
	assert_int_equal(maintenance_sweep(scene->core, &summary, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_CONFLICT);
	assert_int_equal(scene_blobs(scene), 40);
	/* With a row there it is another story: these are what they look like. */
	scene_put(scene, "g", "y");
	assert_int_equal(sweep(scene).orphans, 40);
	assert_int_equal(scene_blobs(scene), 1);
}

static void a_database_that_was_empty_at_the_start_has_the_grace_to_be_noticed(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	scene_drop_row(scene, &id);
	with_grace(scene, 300);
	while (clock_wall_ms() <= uuid_time_ms(&id) + 301)
		;
	scene_restart(scene); /* old bytes, a daemon that has just started */
	assert_int_equal(sweep(scene).orphans, 0);
	int64_t started = clock_wall_ms();
	while (clock_wall_ms() <= started + 301)
		;
	assert_int_equal(sweep(scene).orphans, 1);
}

/* A change of which the file's own description knows nothing. */
static void change_row_alone(struct scene *scene, const struct uuid *id)
{
	struct file_record *row = NULL;
	assert_int_equal(metadata_find(scene->metadata, id, &row, &scene->err), 1);
	struct file_record copy = *row;
	copy.name = "new";
	copy.revision = 2;
	struct file_record *changed = file_record_new(&copy);
	assert_int_equal(metadata_update(scene->metadata, changed, 1, &scene->err), 1);
	file_record_unref(&row);
	file_record_unref(&changed);
}

/* kill -9 between the two left the description behind for good: check found it at every run, and reindex brought back what was. */
static void a_change_that_a_crash_left_undescribed_is_described_by_the_first_sweep(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "old", "x");
	struct check_summary summary;
	struct check_options options = {.grace_ms = 0};
	change_row_alone(scene, &id);
	assert_int_equal(sweep(scene).described, 1);
	assert_int_equal(
		maintenance_check(scene->metadata, scene->blobs, &options, &summary, &scene->err),
		0);
	assert_int_equal(summary.findings, 0);
	assert_int_equal(sweep(scene).described, 0);
}

/* A database that stood still commits, when it goes on, what the run that was killed had sent it: after the first walk. */
static void a_change_that_is_committed_after_the_first_sweep_is_described_by_the_next(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "old", "x");
	assert_int_equal(sweep(scene).described, 0);
	change_row_alone(scene, &id);
	assert_int_equal(sweep(scene).described, 1);
	assert_int_equal(sweep(scene).described, 0);
}

static void a_failing_disk_ends_the_sweep_with_an_error(void **state)
{
	struct scene *scene = *state;
	struct sweep_summary summary;
	blob_fault_set(scene->blobs, BLOB_CALL_WALK, 1, ERR_IO, EIO);
	assert_int_equal(maintenance_sweep(scene->core, &summary, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_IO);
}

struct told {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned sweeps;
	int64_t orphans;
};

static void hear(void *context, const struct sweep_summary *summary, const struct err *err)
{
	struct told *told = context;
	pthread_mutex_lock(&told->lock);
	told->sweeps += err == NULL;
	told->orphans += summary->orphans;
	pthread_cond_signal(&told->changed);
	pthread_mutex_unlock(&told->lock);
}

static void the_sweeper_sweeps_at_once_and_tells(void **state)
{
	struct scene *scene = *state;
	struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct uuid id = scene_put(scene, "f", "x");
	scene_put(scene, "stays", "y");
	scene_drop_row(scene, &id);
	scene->config.swept = hear;
	scene->config.swept_context = &told;
	with_grace(scene, 0);
	assert_int_equal(core_start_sweeper(scene->core, &scene->err), 0);
	pthread_mutex_lock(&told.lock);
	while (told.sweeps == 0)
		pthread_cond_wait(&told.changed, &told.lock);
	assert_int_equal(told.orphans, 1);
	pthread_mutex_unlock(&told.lock);
	core_free(&scene->core); /* ends the sweeper, which must not hear `told` any more */
	scene->config.swept = NULL;
	assert_int_equal(
		core_new(&scene->config, scene->metadata, scene->blobs, &scene->core, &scene->err),
		0);
}

/* --- check --- */

struct findings {
	unsigned of[FINDING_KINDS], repaired;
};

static void find(void *context, const struct finding *finding)
{
	struct findings *findings = context;
	findings->of[finding->kind]++;
	findings->repaired += finding->repaired;
	assert_non_null(finding->detail);
}

enum { VERIFY = 1, REPAIR = 2 };

static struct findings check(struct scene *scene, int how, int64_t grace_ms)
{
	struct findings findings = {0};
	struct check_summary summary;
	struct check_options options = {.verify = (how & VERIFY) != 0,
					.repair = (how & REPAIR) != 0,
					.grace_ms = grace_ms,
					.found = find,
					.context = &findings};
	if (maintenance_check(scene->metadata, scene->blobs, &options, &summary, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	return findings;
}

static unsigned all(const struct findings *findings)
{
	unsigned n = 0;
	for (size_t i = 0; i < COUNT(findings->of); i++)
		n += findings->of[i];
	return n;
}

static void a_sound_store_has_no_findings(void **state)
{
	struct scene *scene = *state;
	for (int i = 0; i < 20; i++)
		scene_put(scene, "f", "some bytes");
	struct findings findings = check(scene, VERIFY, 0);
	assert_int_equal(all(&findings), 0);
}

static void a_row_without_bytes_is_found_and_its_row_removed(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	scene_put(scene, "g", "y");
	assert_int_equal(blob_remove(scene->blobs, &id, &scene->err), 1);
	struct findings findings = check(scene, 0, 0);
	assert_int_equal(findings.of[FINDING_ROW_WITHOUT_BYTES], 1);
	assert_int_equal(all(&findings), 1);
	assert_true(scene_has_row(scene, &id));
	findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.repaired, 1);
	assert_false(scene_has_row(scene, &id));
	findings = check(scene, 0, 0);
	assert_int_equal(all(&findings), 0);
}

/* `check --repair` over an empty directory (a mistyped one, a volume that was not mounted) removed every row. */
static void a_repair_over_an_empty_directory_removes_no_rows(void **state)
{
	struct scene *scene = *state;
	struct uuid ids[17];
	for (size_t i = 0; i < COUNT(ids); i++) {
		ids[i] = scene_put(scene, "f", "x");
		assert_int_equal(blob_remove(scene->blobs, &ids[i], &scene->err), 1);
	}
	struct findings findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.of[FINDING_ROW_WITHOUT_BYTES], COUNT(ids));
	assert_int_equal(findings.repaired, 0);
	for (size_t i = 0; i < COUNT(ids); i++)
		assert_true(scene_has_row(scene, &ids[i]));
	scene_put(scene, "one that is there", "x");
	findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.repaired, COUNT(ids));
	assert_false(scene_has_row(scene, &ids[0]));
}

static void bytes_without_a_row_are_found_once_they_are_older_than_the_grace(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	scene_put(scene, "g", "y");
	scene_drop_row(scene, &id);
	struct findings findings = check(scene, REPAIR, 3600 * 1000);
	assert_int_equal(all(&findings), 0);
	findings = check(scene, 0, 0);
	assert_int_equal(findings.of[FINDING_BYTES_WITHOUT_ROW], 1);
	assert_true(scene_has_blob(scene, &id));
	findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.repaired, 1);
	assert_false(scene_has_blob(scene, &id));
}

static void a_repair_over_an_empty_database_brings_files_back_instead_of_removing_them(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "precious", "x");
	scene_drop_row(scene, &id);
	struct findings findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.of[FINDING_BYTES_WITHOUT_ROW], 1);
	assert_int_equal(findings.repaired, 1);
	assert_true(scene_has_row(scene, &id));
	assert_true(scene_has_blob(scene, &id));
}

static void a_size_that_differs_is_found(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "0123456789");
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(truncate(path, 4), 0);
	struct findings findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.of[FINDING_SIZE_DIFFERS], 1);
	assert_int_equal(findings.repaired, 0); /* the bytes are lost: nothing mends that */
}

static void flipped_bytes_are_found_by_verify_alone(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "0123456789");
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fputc('X', file);
	fclose(file);
	struct findings findings = check(scene, 0, 0);
	assert_int_equal(all(&findings), 0);
	findings = check(scene, VERIFY, 0);
	assert_int_equal(findings.of[FINDING_DIGEST_DIFFERS], 1);
	assert_int_equal(all(&findings), 1);
}

static void bytes_that_cannot_be_read_are_found(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	struct findings findings = check(scene, VERIFY, 0);
	assert_int_equal(findings.of[FINDING_UNREADABLE], 1);
}

static void a_description_that_says_nothing_is_found_and_written_anew(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	assert_int_equal(blob_describe(scene->blobs, &id, "nonsense", 8, &scene->err), 1);
	struct findings findings = check(scene, 0, 0);
	assert_int_equal(findings.of[FINDING_DESCRIPTION_MISSING], 1);
	findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.repaired, 1);
	findings = check(scene, 0, 0);
	assert_int_equal(all(&findings), 0);
}

/* A copy of a row, changed. */
static struct file_record *as(struct scene *scene, const struct uuid *id, const char *name,
			      int64_t revision)
{
	struct file_record *row = NULL;
	assert_int_equal(metadata_find(scene->metadata, id, &row, &scene->err), 1);
	struct file_record copy = *row;
	copy.name = name;
	copy.revision = revision;
	struct file_record *changed = file_record_new(&copy);
	file_record_unref(&row);
	return changed;
}

static void of_row_and_description_the_newer_revision_wins(void **state)
{
	struct scene *scene = *state;
	struct uuid row_newer = scene_put(scene, "old", "x"),
		    file_newer = scene_put(scene, "o", "y");
	struct file_record *changed = as(scene, &row_newer, "row", 2), *row = NULL;
	struct buf text;
	assert_int_equal(metadata_update(scene->metadata, changed, 1, &scene->err), 1);
	file_record_unref(&changed);
	changed = as(scene, &file_newer, "file", 5);
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(changed, &text);
	assert_int_equal(
		blob_describe(scene->blobs, &file_newer, buf_text(&text), text.len, &scene->err),
		1);
	buf_release(&text);
	file_record_unref(&changed);
	struct findings findings = check(scene, REPAIR, 0);
	assert_int_equal(findings.of[FINDING_DESCRIPTION_DIFFERS], 2);
	assert_int_equal(findings.repaired, 2);
	findings = check(scene, 0, 0);
	assert_int_equal(all(&findings), 0);
	assert_int_equal(metadata_find(scene->metadata, &row_newer, &row, &scene->err), 1);
	assert_string_equal(row->name, "row");
	file_record_unref(&row);
	assert_int_equal(metadata_find(scene->metadata, &file_newer, &row, &scene->err), 1);
	assert_string_equal(row->name, "file");
	assert_int_equal(row->revision, 5);
	file_record_unref(&row);
}

/* --- reindex --- */

struct failures {
	unsigned n;
};

static void count_failure(void *context, const struct uuid *id, const struct err *why)
{
	(void)id;
	assert_int_not_equal(why->kind, ERR_NONE);
	((struct failures *)context)->n++;
}

static struct reindex_summary reindex(struct scene *scene)
{
	struct reindex_summary summary;
	struct failures failures = {0};
	if (maintenance_reindex(scene->metadata, scene->blobs, count_failure, &failures, &summary,
				&scene->err) < 0)
		fail_msg("%s", scene->err.message);
	assert_int_equal(failures.n, summary.failed);
	return summary;
}

static char *as_text(const struct file_record *record)
{
	struct buf text;
	size_t n;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(record, &text);
	return buf_take(&text, &n);
}

static void an_emptied_database_comes_back_whole(void **state)
{
	struct scene *scene = *state;
	enum { N = 450 };
	static struct uuid ids[N];
	static char *before[N];
	struct file_labels labels;
	char *big = malloc(60001);
	memset(big, 'L', 60000);
	big[60000] = '\0';
	assert_int_equal(file_labels_init(&labels, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "tags", "q4,x", 4, &scene->err), 0);
	assert_int_equal(file_labels_add(&labels, "project", "apollo", 6, &scene->err), 0);
	for (int i = 0; i < N; i++) {
		struct file_record *record = scene_store(scene, "name", "bytes", &labels);
		ids[i] = record->id;
		if (i == 3 || i == 4) { /* attributes too large for an extended attribute */
			struct buf patch;
			buf_init(&patch, 100000);
			buf_printf(&patch, "{\"name\":\"patched\",\"attributes\":{\"big\":\"%s\"}}",
				   big);
			file_record_unref(&record);
			assert_int_equal(files_patch(scene->core, &ids[i], buf_text(&patch),
						     patch.len, NULL, &record, &scene->err),
					 1);
			buf_release(&patch);
		}
		before[i] = as_text(record);
		file_record_unref(&record);
	}
	for (int i = 0; i < N; i++)
		if (i != 10)
			scene_drop_row(scene, &ids[i]);
	struct reindex_summary summary = reindex(scene);
	assert_int_equal(summary.blobs, N);
	assert_int_equal(summary.registered, N - 1);
	assert_int_equal(summary.already, 1);
	assert_int_equal(summary.failed, 0);
	for (int i = 0; i < N; i++) {
		struct file_record *row = NULL;
		assert_int_equal(metadata_find(scene->metadata, &ids[i], &row, &scene->err), 1);
		char *after = as_text(row);
		assert_string_equal(after, before[i]);
		free(after);
		free(before[i]);
		file_record_unref(&row);
	}
	summary = reindex(scene);
	assert_int_equal(summary.already, N);
	file_labels_release(&labels);
	free(big);
}

static void a_file_that_does_not_describe_itself_is_described_from_its_bytes(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "lost name.png", "\x89PNG\r\n\x1a\nrest");
	struct file_record *row = NULL;
	assert_int_equal(blob_describe(scene->blobs, &id, "x", 1, &scene->err), 1);
	scene_drop_row(scene, &id);
	struct reindex_summary summary = reindex(scene);
	assert_int_equal(summary.registered, 1);
	assert_int_equal(metadata_find(scene->metadata, &id, &row, &scene->err), 1);
	assert_string_equal(row->name, "unnamed");
	assert_string_equal(row->type, "image/png");
	assert_int_equal(row->size, 12);
	file_record_unref(&row);
	struct findings findings = check(scene, VERIFY, 0);
	assert_int_equal(all(&findings), 0);
}

static void a_truncated_file_gets_no_row(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "0123456789");
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(truncate(path, 5), 0);
	scene_drop_row(scene, &id);
	struct reindex_summary summary = reindex(scene);
	assert_int_equal(summary.failed, 1);
	assert_int_equal(summary.registered, 0);
	assert_false(scene_has_row(scene, &id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(expired_files_go_with_row_and_bytes),
		SCENE_TEST(orphans_go_after_the_grace_and_not_before),
		SCENE_TEST(uploads_under_way_are_never_swept),
		SCENE_TEST(a_sweep_without_grace_takes_no_file_that_is_being_committed),
		SCENE_TEST(an_emptied_database_makes_the_sweep_refuse),
		SCENE_TEST(a_database_that_was_empty_at_the_start_has_the_grace_to_be_noticed),
		SCENE_TEST(a_change_that_a_crash_left_undescribed_is_described_by_the_first_sweep),
		SCENE_TEST(
			a_change_that_is_committed_after_the_first_sweep_is_described_by_the_next),
		SCENE_TEST(a_failing_disk_ends_the_sweep_with_an_error),
		SCENE_TEST(the_sweeper_sweeps_at_once_and_tells),
		SCENE_TEST(a_sound_store_has_no_findings),
		SCENE_TEST(a_row_without_bytes_is_found_and_its_row_removed),
		SCENE_TEST(a_repair_over_an_empty_directory_removes_no_rows),
		SCENE_TEST(bytes_without_a_row_are_found_once_they_are_older_than_the_grace),
		SCENE_TEST(
			a_repair_over_an_empty_database_brings_files_back_instead_of_removing_them),
		SCENE_TEST(a_size_that_differs_is_found),
		SCENE_TEST(flipped_bytes_are_found_by_verify_alone),
		SCENE_TEST(bytes_that_cannot_be_read_are_found),
		SCENE_TEST(a_description_that_says_nothing_is_found_and_written_anew),
		SCENE_TEST(of_row_and_description_the_newer_revision_wins),
		SCENE_TEST(an_emptied_database_comes_back_whole),
		SCENE_TEST(a_file_that_does_not_describe_itself_is_described_from_its_bytes),
		SCENE_TEST(a_truncated_file_gets_no_row),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
