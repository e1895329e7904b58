/* What the filesystem driver alone promises: its layout, modes, mounts, locks, full disks, links planted below it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "depotd/base/clock.h"
#include "depotd/blob/fault.h"
#include "depotd/blob/store.h"

#include "scratch.h"

static struct err err;
static char scratch[SCRATCH_MAX];

static int setup(void **state)
{
	(void)state;
	return scratch_make(scratch, "fs") ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	scratch_remove(scratch);
	return 0;
}

static struct blob_store *open_with(const struct blob_filesystem_config *config)
{
	struct blob_store *store = NULL;
	if (blob_filesystem_open(config, &store, &err) < 0)
		return NULL;
	return store;
}

static struct blob_store *open_plain(const char *directory)
{
	struct blob_filesystem_config config = {.directory = directory};
	return open_with(&config);
}

static int store_one(struct blob_store *store, const struct uuid *id, const char *data, size_t n,
		     const char *description)
{
	struct blob_writer *writer = NULL;
	if (blob_create(store, id, -1, NULL, &writer, &err) < 0)
		return -1;
	struct blob_publication publication = {.writers = &writer, .n = 1};
	int rc = -1;
	if (blob_write(writer, data, n, &err) == 0 &&
	    blob_seal(writer, description, strlen(description), &err) == 0) {
		rc = blob_publish(store, &publication, 1) == 0 ? 0 : -1;
		if (rc < 0)
			err = publication.err;
	}
	blob_discard(&writer);
	return rc;
}

static void path_of(const struct uuid *id, const char *suffix, char *out, size_t n)
{
	char text[UUID_TEXT_LEN + 1];
	uuid_format(id, text);
	snprintf(out, n, "%s/objects/%.5s/%.3s/%s%s", scratch, text, text + 5, text, suffix);
}

static void a_blob_lies_where_its_id_says_and_only_the_owner_may_touch_it(void **state)
{
	(void)state;
	char path[300];
	struct stat st;
	struct uuid id = uuid_new();
	struct blob_store *store = open_plain(scratch);
	assert_int_equal(store_one(store, &id, "abc", 3, "{}"), 0);
	path_of(&id, "", path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	blob_close(&store);
}

static void a_missing_data_directory_is_made_with_its_parents(void **state)
{
	(void)state;
	char path[300];
	struct stat st;
	snprintf(path, sizeof(path), "%s/var/data/", scratch);
	struct blob_store *store = open_plain(path);
	assert_non_null(store);
	blob_close(&store);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void a_directory_that_is_no_mount_is_refused_when_one_is_required(void **state)
{
	(void)state;
	char missing[256];
	struct stat st;
	struct blob_filesystem_config config = {.directory = scratch, .require_mount = true};
	assert_null(open_with(&config));
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	snprintf(missing, sizeof(missing), "%s/missing", scratch);
	config.directory = missing;
	assert_null(open_with(&config));
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_int_equal(stat(missing, &st), -1);
}

/* Mounts a small tmpfs on the scratch directory; false (and the test is skipped) where that is not allowed. */
static bool mount_small(const char *options)
{
	return mount("depotd-test", scratch, "tmpfs", 0, options) == 0;
}

/* A file without a name on the small mount: its room is free again as soon as it is closed. */
static int room_taken_by_another_program(off_t size)
{
	int fd = open(scratch, O_TMPFILE | O_RDWR, 0600);
	if (fd >= 0 && posix_fallocate(fd, 0, size) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void a_mount_of_its_own_is_taken(void **state)
{
	(void)state;
	struct blob_filesystem_config config = {.directory = scratch, .require_mount = true};
	if (!mount_small("size=1m"))
		skip();
	struct blob_store *store = open_with(&config);
	bool opened = store != NULL;
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_true(opened);
}

static void a_bind_mount_is_a_mount_of_its_own(void **state)
{
	(void)state;
	struct blob_filesystem_config config = {.directory = scratch, .require_mount = true};
	if (mount(scratch, scratch, NULL, MS_BIND, NULL) < 0)
		skip();
	struct blob_store *store = open_with(&config);
	bool opened = store != NULL;
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_true(opened);
}

static void a_full_disk_is_told_and_its_space_comes_back(void **state)
{
	(void)state;
	static char chunk[65536];
	struct blob_writer *writer = NULL;
	struct blob_space before, after;
	struct uuid id = uuid_new();
	int rc = 0;
	if (!mount_small("size=4m"))
		skip();
	struct blob_store *store = open_plain(scratch);
	blob_space(store, &before, &err);
	blob_create(store, &id, -1, NULL, &writer, &err);
	for (int i = 0; i < 100 && rc == 0; i++)
		rc = blob_write(writer, chunk, sizeof(chunk), &err);
	enum err_kind kind = err.kind;
	blob_discard(&writer);
	blob_space(store, &after, &err);
	int small = store_one(store, &id, "small", 5, "{}");
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_int_equal(rc, -1);
	assert_int_equal(kind, ERR_DISK_FULL);
	assert_true(after.free >= before.free - 65536);
	assert_int_equal(small, 0);
}

/*
 * Only the health probe looked at the disk for admissions, once a second: until then uploads were taken though another program
 * had filled the disk below the reserve, and refused though it had been emptied.
 */
static void what_other_programs_take_and_give_back_counts_for_the_next_admission(void **state)
{
	(void)state;
	struct blob_reservation room = {0}, none = {0};
	if (!mount_small("size=16m"))
		skip();
	struct blob_filesystem_config config = {.directory = scratch, .reserve = 4 << 20};
	struct blob_store *store = open_with(&config);
	int64_t looked = clock_monotonic_ms();
	int fd = room_taken_by_another_program(14 << 20);
	while (clock_monotonic_ms() == looked)
		; /* the same millisecond is not asked for twice */
	int full = blob_reserve(store, 1, &none, &err);
	enum err_kind kind = err.kind;
	close(fd);
	int empty = blob_reserve(store, 1, &room, &err);
	blob_unreserve(store, &room);
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_true(fd >= 0);
	assert_int_equal(full, -1);
	assert_int_equal(kind, ERR_DISK_FULL);
	assert_int_equal(empty, 0);
}

static void the_reserve_stays_free(void **state)
{
	(void)state;
	static char chunk[1 << 20];
	struct blob_writer *writer = NULL;
	struct uuid id = uuid_new();
	int rc = 0, written = 0;
	if (!mount_small("size=64m"))
		skip();
	struct blob_filesystem_config config = {.directory = scratch, .reserve = 40 << 20};
	struct blob_store *store = open_with(&config);
	int hinted = blob_create(store, &id, 30 << 20, NULL, &writer, &err);
	enum err_kind hinted_kind = err.kind;
	blob_create(store, &id, -1, NULL, &writer, &err);
	while (rc == 0 && written < 64) {
		rc = blob_write(writer, chunk, sizeof(chunk), &err);
		written += rc == 0;
	}
	enum err_kind kind = err.kind;
	blob_discard(&writer);
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_int_equal(hinted, -1);
	assert_int_equal(hinted_kind, ERR_DISK_FULL);
	assert_int_equal(rc, -1);
	assert_int_equal(kind, ERR_DISK_FULL);
	assert_in_range(written, 16, 24);
}

/* The free space was looked at every 8 MiB alone, and by each upload for itself: a reserve smaller than that held nothing. */
static void many_uploads_of_unknown_size_leave_even_a_small_reserve_free(void **state)
{
	(void)state;
	enum { WRITERS = 8, RESERVE = 4 << 20 };
	static char chunk[256 << 10];
	struct blob_writer *writers[WRITERS] = {NULL};
	struct statvfs st = {0};
	bool room = true;
	if (!mount_small("size=32m"))
		skip();
	struct blob_filesystem_config config = {.directory = scratch, .reserve = RESERVE};
	struct blob_store *store = open_with(&config);
	for (int i = 0; i < WRITERS; i++) {
		struct uuid id = uuid_new();
		blob_create(store, &id, -1, NULL, &writers[i], &err);
	}
	for (int i = 0; room && i < 1024; i++)
		room = blob_write(writers[i % WRITERS], chunk, sizeof(chunk), &err) == 0;
	statvfs(scratch, &st);
	enum err_kind kind = err.kind;
	for (int i = 0; i < WRITERS; i++)
		blob_discard(&writers[i]);
	blob_close(&store);
	umount2(scratch, MNT_DETACH);
	assert_false(room);
	assert_int_equal(kind, ERR_DISK_FULL);
	assert_true(st.f_bavail * st.f_frsize >= RESERVE - (64 << 10));
}

static void one_data_directory_is_served_by_one_process(void **state)
{
	(void)state;
	struct blob_filesystem_config config = {.directory = scratch, .exclusive = true};
	struct blob_store *first = open_with(&config);
	assert_non_null(first);
	assert_null(open_with(&config));
	assert_int_equal(err.kind, ERR_CONFLICT);
	struct blob_store *beside = open_plain(scratch); /* check */
	assert_non_null(beside);
	blob_close(&beside);
	blob_close(&first);
	first = open_with(&config);
	assert_non_null(first);
	blob_close(&first);
}

static void temporaries_of_a_killed_daemon_go_at_the_next_start(void **state)
{
	(void)state;
	struct blob_filesystem_config config = {
		.directory = scratch, .exclusive = true, .without = BLOB_WITHOUT_TMPFILE};
	char path[300];
	struct stat st;
	pid_t child = fork();
	if (child == 0) {
		struct blob_writer *writer = NULL;
		struct uuid id = uuid_new();
		struct blob_store *store = open_with(&config);
		if (!store || blob_create(store, &id, -1, NULL, &writer, &err) < 0 ||
		    blob_write(writer, "half", 4, &err) < 0)
			_exit(1);
		_exit(0); /* as if killed: nothing is tidied */
	}
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	struct blob_store *store = open_with(&config);
	assert_non_null(store);
	blob_close(&store);
	snprintf(path, sizeof(path), "%s/tmp", scratch);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(rmdir(path), 0); /* empty */
}

static void a_link_planted_below_the_data_directory_is_not_followed(void **state)
{
	(void)state;
	for (unsigned without = 0; without <= BLOB_WITHOUT_OPENAT2;
	     without += BLOB_WITHOUT_OPENAT2) {
		struct blob_filesystem_config config = {.directory = scratch, .without = without};
		char path[300];
		struct uuid id = uuid_new(), other;
		struct blob_reader *reader = NULL;
		struct blob_store *store = open_with(&config);
		assert_int_equal(store_one(store, &id, "abc", 3, "{}"), 0);
		path_of(&id, "", path, sizeof(path));
		assert_int_equal(unlink(path), 0);
		assert_int_equal(symlink("/etc/passwd", path), 0);
		assert_int_equal(blob_open(store, &id, &reader, &err), -1);
		assert_int_equal(err.kind, ERR_IO);
		/* A directory on the way. */
		other = id;
		other.bytes[0] ^= 0x40;
		path_of(&other, "", path, sizeof(path));
		*strrchr(path, '/') = '\0';
		*strrchr(path, '/') = '\0';
		assert_int_equal(symlink("/tmp", path), 0);
		assert_int_equal(blob_open(store, &other, &reader, &err), -1);
		assert_int_equal(store_one(store, &other, "abc", 3, "{}"), -1);
		unlink(path);
		blob_close(&store);
	}
}

static void a_large_description_lies_beside_and_is_no_blob(void **state)
{
	(void)state;
	char path[300], big[9001];
	struct stat st;
	struct uuid id = uuid_new();
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	struct blob_store *store = open_plain(scratch);
	assert_int_equal(store_one(store, &id, "abc", 3, "small"), 0);
	path_of(&id, ".meta", path, sizeof(path));
	int had = stat(path, &st);
	assert_int_equal(blob_describe(store, &id, big, sizeof(big) - 1, &err), 1);
	if (had == 0 || stat(path, &st) < 0) {
		blob_close(&store);
		skip(); /* a file system with no attributes, or with ones as large as that */
	}
	assert_int_equal(st.st_size, sizeof(big) - 1);
	assert_int_equal(st.st_mode & 07777, 0600);
	blob_close(&store);
}

static void a_description_without_its_blob_is_swept_away(void **state)
{
	(void)state;
	char path[300];
	struct stat st;
	struct uuid id = uuid_new();
	struct blob_filesystem_config config = {.directory = scratch,
						.without = BLOB_WITHOUT_XATTR};
	struct blob_store *store = open_with(&config);
	assert_int_equal(store_one(store, &id, "abc", 3, "described"), 0);
	path_of(&id, "", path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(blob_clean(store, 3600000, &err), 0); /* younger than grace */
	path_of(&id, ".meta", path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(blob_clean(store, 0, &err), 1);
	assert_int_equal(stat(path, &st), -1);
	blob_close(&store);
}

static void empty_directories_are_swept_away_once_nobody_keeps_them(void **state)
{
	(void)state;
	char path[300];
	struct stat st;
	struct uuid id = uuid_new();
	struct blob_store *store = open_plain(scratch);
	assert_int_equal(store_one(store, &id, "abc", 3, "{}"), 0);
	assert_int_equal(blob_remove(store, &id, &err), 1);
	blob_close(&store);
	store = open_plain(scratch);
	path_of(&id, "", path, sizeof(path));
	*strrchr(path, '/') = '\0';
	assert_int_equal(blob_clean(store, 3600000, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(blob_clean(store, 0, &err), 1);
	assert_int_equal(stat(path, &st), -1);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), -1);
	blob_close(&store);
}

static int collect(void *context, const struct blob_info *info)
{
	*(struct blob_info *)context = *info;
	return 0;
}

static void strangers_in_the_directories_are_no_blobs(void **state)
{
	(void)state;
	char path[300], stranger[400];
	struct uuid id = uuid_new(), misplaced = id;
	struct blob_info info = {.size = -1};
	struct blob_store *store = open_plain(scratch);
	assert_int_equal(store_one(store, &id, "abcd", 4, "{}"), 0);
	path_of(&id, "", path, sizeof(path));
	char *slash = strrchr(path, '/');
	*slash = '\0';
	snprintf(stranger, sizeof(stranger), "%s/lost+found", path);
	assert_int_equal(mkdir(stranger, 0700), 0);
	misplaced.bytes[0] ^= 0x40;
	char text[UUID_TEXT_LEN + 1];
	uuid_format(&misplaced, text);
	snprintf(stranger, sizeof(stranger), "%s/%s", path, text);
	close(open(stranger, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	int64_t before = clock_wall_ms();
	assert_int_equal(blob_walk(store, collect, &info, &err), 0);
	assert_int_equal(info.size, 4);
	assert_int_equal(uuid_compare(&info.id, &id), 0);
	assert_in_range(info.modified_ms, before - 60000, before + 1000);
	blob_close(&store);
}

/* --- faults --- */

static void the_nth_call_of_a_kind_fails_once(void **state)
{
	(void)state;
	struct uuid id = uuid_new();
	struct blob_store *store = NULL;
	assert_int_equal(blob_fault_new(open_plain(scratch), &store, &err), 0);
	blob_fault_set(store, BLOB_CALL_SEAL, 2, ERR_IO, EIO);
	assert_int_equal(store_one(store, &id, "a", 1, "{}"), 0);
	id = uuid_new();
	assert_int_equal(store_one(store, &id, "a", 1, "{}"), -1);
	assert_int_equal(err.kind, ERR_IO);
	assert_int_equal(err.sys_errno, EIO);
	assert_int_equal(store_one(store, &id, "a", 1, "{}"), 0);
	blob_fault_set(store, BLOB_CALL_WRITE, 1, ERR_IO, ENOSPC);
	id = uuid_new();
	assert_int_equal(store_one(store, &id, "a", 1, "{}"), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	blob_close(&store);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_blob_lies_where_its_id_says_and_only_the_owner_may_touch_it),
		T(a_missing_data_directory_is_made_with_its_parents),
		T(a_directory_that_is_no_mount_is_refused_when_one_is_required),
		T(a_mount_of_its_own_is_taken),
		T(a_bind_mount_is_a_mount_of_its_own),
		T(a_full_disk_is_told_and_its_space_comes_back),
		T(what_other_programs_take_and_give_back_counts_for_the_next_admission),
		T(the_reserve_stays_free),
		T(many_uploads_of_unknown_size_leave_even_a_small_reserve_free),
		T(one_data_directory_is_served_by_one_process),
		T(temporaries_of_a_killed_daemon_go_at_the_next_start),
		T(a_link_planted_below_the_data_directory_is_not_followed),
		T(a_large_description_lies_beside_and_is_no_blob),
		T(a_description_without_its_blob_is_swept_away),
		T(empty_directories_are_swept_away_once_nobody_keeps_them),
		T(strangers_in_the_directories_are_no_blobs),
		T(the_nth_call_of_a_kind_fails_once),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
