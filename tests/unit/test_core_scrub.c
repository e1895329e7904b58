/* The scrub, what is known of damage, and the marks that tie directory and database together; over SQLite. */
#include <fcntl.h>

#include "core_scene.h"

#include "depotd/blob/upkeep.h"
#include "depotd/core/download.h"
#include "depotd/metadata/upkeep.h"

static const char wrong_digest[] = "the bytes do not have the digest that they were stored with";

/* Files are due at once. */
static int setup(void **state)
{
	if (scene_setup(state) < 0)
		return -1;
	struct scene *scene = *state;
	scene->config.scrub_rate = INT64_C(1) << 32;
	scene->config.scrub_interval_ms = 0;
	scene->config.cache_body_max = 0; /* so that nobody but the scrub looks at the digest */
	scene_restart(scene);
	return 0;
}

static struct scrub_summary scrub(struct scene *scene)
{
	struct scrub_summary summary;
	if (maintenance_scrub(scene->core, &summary, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
	return summary;
}

static void flip(struct scene *scene, const struct uuid *id)
{
	char path[300];
	unsigned char byte;
	scene_path(scene, id, path, sizeof(path));
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
	close(fd);
}

/* 1 it can be read, else the kind of error. */
static int opened(struct scene *scene, const struct uuid *id)
{
	struct download *download = NULL;
	int rc = download_cached(scene->core, id, &download);
	if (rc == 0 || !download_data(download)) { /* not known, or headers only */
		download_free(&download);
		rc = download_open(scene->core, id, &download, &scene->err);
	}
	download_free(&download);
	return rc < 0 ? (int)scene->err.kind : rc;
}

static int take(void *context, const struct uuid *id, int64_t damaged_ms, const char *damage,
		struct err *err)
{
	(void)id, (void)damaged_ms, (void)err;
	snprintf(context, 200, "%s", damage);
	return 0;
}

/* What the database says of the one damaged file, or "". */
static void assert_marked(struct scene *scene, const char *damage)
{
	char found[200] = "";
	assert_int_equal(metadata_damaged(scene->metadata, 10, take, found, &scene->err), 0);
	assert_string_equal(found, damage);
}

/* --- scrub --- */

static void sound_files_of_every_size_stay_so(void **state)
{
	struct scene *scene = *state;
	static const size_t sizes[] = {
		0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1};
	char *data = malloc((1 << 20) + 2);
	assert_non_null(data);
	int64_t bytes = 0;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		memset(data, 'a' + (int)i, sizes[i]);
		data[sizes[i]] = '\0';
		scene_put(scene, "f", data);
		bytes += (int64_t)sizes[i];
	}
	free(data);
	struct scrub_summary summary = scrub(scene);
	assert_int_equal(summary.files, COUNT(sizes));
	assert_int_equal(summary.bytes, bytes);
	assert_int_equal(summary.damaged, 0);
	assert_marked(scene, "");
}

static void a_damaged_file_is_marked_and_not_opened_and_healed_by_right_bytes(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "some bytes"), other = scene_put(scene, "g", "more");
	assert_int_equal(opened(scene, &id), 1);
	flip(scene, &id);
	assert_int_equal(opened(scene, &id), 1); /* large, as it were: nobody knows */
	assert_int_equal(scrub(scene).damaged, 1);
	assert_marked(scene, wrong_digest);
	assert_int_equal(opened(scene, &id), ERR_DAMAGED);
	assert_int_equal(opened(scene, &other), 1);
	assert_int_equal(scrub(scene).damaged, 0); /* it is told once */
	flip(scene, &id);
	assert_int_equal(scrub(scene).healed, 1);
	assert_marked(scene, "");
	assert_int_equal(opened(scene, &id), 1);
}

static void a_missing_file_is_damaged_and_a_removed_one_is_not(void **state)
{
	struct scene *scene = *state;
	struct uuid missing = scene_put(scene, "f", "x"), removed = scene_put(scene, "g", "y");
	assert_int_equal(scrub(scene).files, 2);
	assert_int_equal(files_remove(scene->core, &removed, &scene->err), 1);
	assert_int_equal(blob_remove(scene->blobs, &missing, &scene->err), 1);
	assert_int_equal(scrub(scene).damaged, 1);
	assert_marked(scene, "the bytes are missing");
	assert_int_equal(opened(scene, &missing), ERR_DAMAGED);
}

static void a_file_that_cannot_be_read_is_damaged(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	char path[300];
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(scrub(scene).damaged, 1);
	assert_int_equal(opened(scene, &id), ERR_DAMAGED);
}

static void one_read_that_failed_is_no_damage(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "f", "x");
	blob_fault_set(scene->blobs, BLOB_CALL_READ, 1, ERR_IO, EIO);
	assert_int_equal(scrub(scene).damaged, 0);
	assert_marked(scene, "");
}

struct glitch {
	struct scene *scene;
	struct uuid id;
	unsigned opens;
};

/* The first look meets a wrong byte, the second does not. */
static void glitch(void *context, enum blob_call call)
{
	struct glitch *g = context;
	if (call == BLOB_CALL_OPEN && ++g->opens <= 2)
		flip(g->scene, &g->id);
}

static void bytes_that_were_wrong_once_are_no_damage(void **state)
{
	struct scene *scene = *state;
	struct glitch g = {.scene = scene, .id = scene_put(scene, "f", "x")};
	blob_fault_hook(scene->blobs, glitch, &g);
	assert_int_equal(scrub(scene).damaged, 0);
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_int_equal(g.opens, 2);
	assert_marked(scene, "");
}

static void a_lack_of_descriptors_says_nothing_of_a_file(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	struct scrub_summary summary;
	blob_fault_set(scene->blobs, BLOB_CALL_OPEN, 1, ERR_IO, EMFILE);
	assert_int_equal(maintenance_scrub(scene->core, &summary, &scene->err), -1);
	assert_marked(scene, "");
	assert_int_equal(opened(scene, &id), 1);
	assert_int_equal(scrub(scene).files, 1);
}

static void a_file_is_read_once_an_interval(void **state)
{
	struct scene *scene = *state;
	scene->config.scrub_interval_ms = 3600 * 1000;
	scene_restart(scene);
	struct uuid id = scene_put(scene, "f", "x");
	assert_int_equal(scrub(scene).files, 0); /* stored is verified */
	struct scrub_result result = {id, 1, NULL};
	assert_int_equal(metadata_scrub_record(scene->metadata, &result, 1, &scene->err), 0);
	assert_int_equal(scrub(scene).files, 1);
	assert_int_equal(scrub(scene).files, 0);
	scene_restart(scene);
	assert_int_equal(scrub(scene).files, 0); /* a restart forgets nothing */
}

static void reading_keeps_to_its_rate(void **state)
{
	struct scene *scene = *state;
	static char data[(1 << 20) + 1];
	memset(data, 'x', sizeof(data) - 1);
	scene_put(scene, "f", data);
	scene->config.scrub_rate =
		4 << 20; /* a quarter of a second, of which a tenth of one may be saved up */
	scene_restart(scene);
	int64_t before = clock_monotonic_ns();
	assert_int_equal(scrub(scene).bytes, 1 << 20);
	assert_true(clock_monotonic_ns() - before >= 150 * INT64_C(1000000));
}

static void without_a_rate_only_suspects_are_read(void **state)
{
	struct scene *scene = *state;
	scene->config.scrub_rate = 0;
	scene->config.cache_body_max = 1000;
	scene_restart(scene);
	struct uuid id = scene_put(scene, "f", "some bytes");
	flip(scene, &id);
	assert_int_equal(scrub(scene).files, 0);
	assert_int_equal(opened(scene, &id), ERR_DAMAGED); /* small: verified when it is read */
	assert_marked(scene, "");
	assert_int_equal(scrub(scene).damaged, 1);
	assert_marked(scene, wrong_digest);
}

static void a_suspect_whose_bytes_are_right_on_the_disk_is_none(void **state)
{
	struct scene *scene = *state;
	scene->config.scrub_rate = 0;
	scene->config.cache_body_max = 1000;
	scene_restart(scene);
	struct uuid id = scene_put(scene, "f", "some bytes");
	flip(scene, &id);
	assert_int_equal(opened(scene, &id), ERR_DAMAGED);
	flip(scene, &id);
	assert_int_equal(scrub(scene).damaged, 0);
	assert_int_equal(opened(scene, &id), 1);
}

static void what_others_marked_is_known_after_the_next_round(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	struct scrub_result result = {id, clock_wall_ms(), "somebody says so"};
	scene->config.scrub_rate = 0;
	scene_restart(scene);
	assert_int_equal(metadata_scrub_record(scene->metadata, &result, 1, &scene->err), 0);
	assert_int_equal(opened(scene, &id), 1);
	scrub(scene);
	assert_int_equal(opened(scene, &id), ERR_DAMAGED);
}

/* A second daemon on the same database, with a directory of its own, made the first one refuse sound files. */
static void bytes_that_others_miss_and_that_are_here_are_served(void **state)
{
	struct scene *scene = *state;
	char path[300];
	struct uuid here = scene_put(scene, "f", "x"), gone = scene_put(scene, "g", "y");
	struct scrub_result results[] = {{here, clock_wall_ms(), "the bytes are missing"},
					 {gone, clock_wall_ms(), "the bytes are missing"}};
	scene->config.scrub_rate = 0;
	scene_restart(scene);
	scene_path(scene, &gone, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(metadata_scrub_record(scene->metadata, results, 2, &scene->err), 0);
	scrub(scene);
	assert_int_equal(opened(scene, &here), 1);
	assert_int_equal(opened(scene, &gone), ERR_DAMAGED);
	scene_restart(scene);
	assert_int_equal(opened(scene, &here), 1);
}

/* --- marks --- */

static void write_mark(struct scene *scene, const char *text)
{
	assert_int_equal(blob_set_mark(scene->blobs, text, strlen(text), &scene->err), 0);
}

/* The directory has come further than the database. */
static void set_back(struct scene *scene)
{
	struct buf text;
	char id[37], ahead[100];
	buf_init(&text, BLOB_MARK_MAX);
	assert_int_equal(blob_mark(scene->blobs, &text, &scene->err), 1);
	assert_int_equal(sscanf(buf_text(&text), "depotd 1 %36s ", id), 1);
	snprintf(ahead, sizeof(ahead), "depotd 1 %s 1000\n", id);
	write_mark(scene, ahead);
	buf_release(&text);
}

static const char other_directory[] = "depotd 1 0192f0c1-0000-7000-8000-000000000001 1\n";

static int sweep(struct scene *scene, struct sweep_summary *summary)
{
	return maintenance_sweep(scene->core, summary, &scene->err);
}

static void assert_swept(struct scene *scene, int64_t orphans)
{
	struct sweep_summary summary;
	if (sweep(scene, &summary) < 0)
		fail_msg("%s", scene->err.message);
	assert_int_equal(summary.orphans, orphans);
}

static void assert_blocked(struct scene *scene)
{
	struct sweep_summary summary;
	assert_int_equal(sweep(scene, &summary), -1);
	assert_int_equal(scene->err.kind, ERR_CONFLICT);
	assert_int_equal(summary.orphans + summary.expired, 0);
}

static struct reindex_summary reindex(struct scene *scene)
{
	struct reindex_summary summary;
	assert_int_equal(maintenance_reindex(scene->metadata, scene->blobs, NULL, NULL, &summary,
					     &scene->err),
			 0);
	return summary;
}

static int setup_without_grace(void **state)
{
	if (scene_setup(state) < 0)
		return -1;
	struct scene *scene = *state;
	scene->config.grace_ms = 0;
	scene_restart(scene);
	assert_swept(scene, 0);
	return 0;
}

static void a_set_back_database_stops_the_sweep_until_reindex(void **state)
{
	struct scene *scene = *state;
	struct uuid stays = scene_put(scene, "g", "y"), id = scene_put(scene, "f", "x");
	set_back(scene);
	scene_drop_row(scene, &id);
	assert_blocked(scene);
	assert_blocked(scene); /* it does not catch up by itself */
	assert_true(scene_has_blob(scene, &id));
	assert_int_equal(reindex(scene).registered, 1);
	assert_swept(scene, 0);
	assert_true(scene_has_row(scene, &id) && scene_has_row(scene, &stays));
}

static void a_set_back_database_stops_expiry_too(void **state)
{
	struct scene *scene = *state;
	struct file_labels labels;
	assert_int_equal(file_labels_init(&labels, &scene->err), 0);
	labels.expires_in_ms = 1;
	struct file_record *record = scene_store(scene, "short", "x", &labels);
	while (clock_wall_ms() <= record->expires_ms)
		;
	set_back(scene);
	assert_blocked(scene);
	assert_true(scene_has_blob(scene, &record->id));
	file_record_unref(&record);
	file_labels_release(&labels);
}

static void a_reindex_that_could_not_bring_all_back_leaves_the_sweep_stopped(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "0123456789");
	char path[300];
	scene_put(scene, "g", "y");
	scene_path(scene, &id, path, sizeof(path));
	assert_int_equal(truncate(path, 3), 0);
	scene_drop_row(scene, &id);
	set_back(scene);
	assert_int_equal(reindex(scene).failed, 1);
	assert_blocked(scene);
}

static void a_mark_that_cannot_be_read_stops_the_sweep_until_reindex(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "f", "x");
	write_mark(scene, "nonsense");
	assert_blocked(scene);
	reindex(scene);
	assert_swept(scene, 0);
}

static void another_directorys_database_stops_the_sweep(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "f", "x");
	write_mark(scene, other_directory);
	assert_blocked(scene);
	reindex(scene);
	assert_swept(scene, 0);
}

static void an_empty_database_takes_a_directory_over_that_has_next_to_nothing(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "f", "x");
	scene_drop_row(scene, &id);
	write_mark(scene, other_directory);
	assert_swept(scene, 1);
	scene_put(scene, "g", "y");
	assert_swept(scene, 0);
}

static void an_empty_database_is_lost_where_there_are_files_whatever_comes_after(void **state)
{
	struct scene *scene = *state;
	for (int i = 0; i < 20; i++) {
		struct uuid id = scene_put(scene, "f", "x");
		scene_drop_row(scene, &id);
	}
	write_mark(scene, other_directory);
	assert_blocked(scene);
	scene_put(scene, "g", "y");
	assert_blocked(scene);
	assert_int_equal(reindex(scene).registered, 20);
	assert_swept(scene, 0);
}

static void a_directory_of_an_earlier_release_gets_its_mark(void **state)
{
	struct scene *scene = *state;
	char path[300];
	struct uuid id = scene_put(scene, "f", "x");
	scene_put(scene, "g", "y");
	snprintf(path, sizeof(path), "%s/.mark", scene->directory);
	assert_int_equal(unlink(path), 0);
	scene_drop_row(scene, &id);
	assert_swept(scene, 1);
	assert_int_equal(access(path, F_OK), 0);
}

/* --- repair --- */

static struct check_summary repair(struct scene *scene)
{
	struct check_summary summary;
	struct check_options options = {.repair = true, .grace_ms = 0};
	assert_int_equal(
		maintenance_check(scene->metadata, scene->blobs, &options, &summary, &scene->err),
		0);
	return summary;
}

static void repair_sets_aside_what_a_lost_row_cannot_be_made_from(void **state)
{
	struct scene *scene = *state;
	struct uuid wrong = scene_put(scene, "f", "0123456789"), right = scene_put(scene, "g", "y");
	scene_put(scene, "h", "z");
	flip(scene, &wrong);
	scene_drop_row(scene, &wrong);
	scene_drop_row(scene, &right);
	set_back(scene);
	struct check_summary summary = repair(scene);
	assert_int_equal(summary.findings, 3); /* two files, and the database itself */
	assert_int_equal(summary.repaired, 3);
	assert_true(scene_has_row(scene, &right));
	assert_false(scene_has_blob(scene, &wrong));
	char path[300], text[37];
	uuid_format(&wrong, text);
	snprintf(path, sizeof(path), "%s/aside/%s", scene->directory, text);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(repair(scene).findings, 0);
	assert_swept(scene, 0);
}

#define SCRUB(f) cmocka_unit_test_setup_teardown(f, setup, scene_teardown)
#define MARKS(f) cmocka_unit_test_setup_teardown(f, setup_without_grace, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRUB(sound_files_of_every_size_stay_so),
		SCRUB(a_damaged_file_is_marked_and_not_opened_and_healed_by_right_bytes),
		SCRUB(a_missing_file_is_damaged_and_a_removed_one_is_not),
		SCRUB(a_file_that_cannot_be_read_is_damaged),
		SCRUB(one_read_that_failed_is_no_damage),
		SCRUB(bytes_that_were_wrong_once_are_no_damage),
		SCRUB(a_lack_of_descriptors_says_nothing_of_a_file),
		SCRUB(a_file_is_read_once_an_interval),
		SCRUB(reading_keeps_to_its_rate),
		SCRUB(without_a_rate_only_suspects_are_read),
		SCRUB(a_suspect_whose_bytes_are_right_on_the_disk_is_none),
		SCRUB(what_others_marked_is_known_after_the_next_round),
		SCRUB(bytes_that_others_miss_and_that_are_here_are_served),
		MARKS(a_set_back_database_stops_the_sweep_until_reindex),
		MARKS(a_set_back_database_stops_expiry_too),
		MARKS(a_reindex_that_could_not_bring_all_back_leaves_the_sweep_stopped),
		MARKS(a_mark_that_cannot_be_read_stops_the_sweep_until_reindex),
		MARKS(another_directorys_database_stops_the_sweep),
		MARKS(an_empty_database_takes_a_directory_over_that_has_next_to_nothing),
		MARKS(an_empty_database_is_lost_where_there_are_files_whatever_comes_after),
		MARKS(a_directory_of_an_earlier_release_gets_its_mark),
		MARKS(repair_sets_aside_what_a_lost_row_cannot_be_made_from),
	};
	return cmocka_run_group_tests_name("core: scrub", tests, NULL, NULL);
}
