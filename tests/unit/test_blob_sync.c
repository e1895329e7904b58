/*
 * When the filesystem driver syncs what, and what it does when a sync fails. This program has an fsync() of its own, which the
 * linker prefers to libc's: it counts, and fails when it is told to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scratch.h"
#include "unit.h"

#include "depotd/blob/store.h"

static struct {
	unsigned files, directories; /* synced since reset */
	unsigned fail_in;            /* the how many-th fsync from now fails; 0 none */
	bool directories_only;       /* fail_in counts these alone */
	int with;                    /* errno */
} syncs;

int fsync(int fd)
{
	struct stat st;
	bool directory = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	if (syncs.fail_in > 0 && (directory || !syncs.directories_only) && --syncs.fail_in == 0) {
		errno = syncs.with;
		return -1;
	}
	if (directory)
		syncs.directories++;
	else
		syncs.files++;
	return (int)syscall(SYS_fsync, fd);
}

static void fail_sync(unsigned nth, bool directories_only, int with)
{
	memset(&syncs, 0, sizeof(syncs));
	syncs.fail_in = nth;
	syncs.directories_only = directories_only;
	syncs.with = with;
}

struct place {
	char directory[SCRATCH_MAX];
	struct blob_store *store;
};

static struct err err;

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	if (!scratch_make(place->directory, "sync"))
		return -1;
	struct blob_filesystem_config config = {.directory = place->directory};
	if (blob_filesystem_open(&config, &place->store, &err) < 0)
		return -1;
	fail_sync(0, false, 0);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	fail_sync(0, false, 0);
	blob_close(&place->store);
	scratch_remove(place->directory);
	free(place);
	return 0;
}

/* An id of its own leaf directory. */
static struct uuid id_in_leaf(unsigned leaf)
{
	struct uuid id = uuid_new();
	id.bytes[2] = (unsigned char)(leaf >> 8);
	id.bytes[3] = (unsigned char)leaf;
	return id;
}

static struct blob_writer *sealed(struct place *place, const struct uuid *id)
{
	struct blob_writer *writer = NULL;
	assert_int_equal(blob_create(place->store, id, -1, NULL, &writer, &err), 0);
	assert_int_equal(blob_write(writer, "bytes", 5, &err), 0);
	assert_int_equal(blob_seal(writer, "{}", 2, &err), 0);
	return writer;
}

static bool is_there(struct place *place, const struct uuid *id)
{
	struct blob_reader *reader = NULL;
	int rc = blob_open(place->store, id, &reader, &err);
	blob_reader_free(&reader);
	return rc == 1;
}

static void sealing_syncs_the_file_and_publishing_each_directory_once(void **state)
{
	struct place *place = *state;
	enum { N = 12 };
	struct uuid ids[N];
	struct blob_writer *writers[N];
	struct blob_publication publications[N];
	for (unsigned i = 0; i < N; i++) {
		ids[i] = id_in_leaf(i % 2);
		writers[i] = sealed(place, &ids[i]);
		publications[i] = (struct blob_publication){.writers = &writers[i], .n = 1};
	}
	assert_true(syncs.files >= N); /* more where descriptions are files of their own */
	assert_int_equal(syncs.directories, 0);
	unsigned files = syncs.files;
	assert_int_equal(blob_publish(place->store, publications, N), 0);
	assert_int_equal(syncs.files, files);
	/* Two leaves, each new: its own entries, its own in its parent, that one's in objects/. */
	assert_int_equal(syncs.directories, 6);
	fail_sync(0, false, 0);
	struct uuid id = id_in_leaf(0);
	struct blob_writer *writer = sealed(place, &id);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	assert_int_equal(syncs.directories, 1); /* the parents are known to be durable */
}

static void a_file_whose_sync_failed_is_never_synced_again(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = NULL;
	assert_int_equal(blob_create(place->store, &id, -1, NULL, &writer, &err), 0);
	assert_int_equal(blob_write(writer, "bytes", 5, &err), 0);
	fail_sync(1, false, EIO);
	assert_int_equal(blob_seal(writer, "{}", 2, &err), -1);
	assert_int_equal(err.kind, ERR_IO);
	assert_int_equal(err.sys_errno, EIO);
	blob_discard(&writer);
	assert_int_equal(syncs.files, 0);
	assert_false(is_there(place, &id));
}

static void a_sync_that_finds_the_disk_full_says_so(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = NULL;
	assert_int_equal(blob_create(place->store, &id, -1, NULL, &writer, &err), 0);
	fail_sync(1, false, ENOSPC);
	assert_int_equal(blob_seal(writer, "{}", 2, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	blob_discard(&writer);
}

static void an_interrupted_sync_goes_on(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	fail_sync(1, false, EINTR);
	struct blob_writer *writer = sealed(place, &id);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	fail_sync(1, true, EINTR);
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	assert_true(is_there(place, &id));
}

static void a_failed_sync_of_a_directory_takes_back_what_it_covered_and_nothing_else(void **state)
{
	struct place *place = *state;
	struct uuid ids[4] = {id_in_leaf(1), id_in_leaf(1), id_in_leaf(2), id_in_leaf(3)};
	struct blob_writer *first = sealed(place, &ids[0]), *other = sealed(place, &ids[3]);
	struct blob_writer *both[2] = {sealed(place, &ids[2]), sealed(place, &ids[1])};
	/* The second request lies in two directories; the one that fails takes all of it. */
	struct blob_publication publications[3] = {{.writers = &first, .n = 1},
						   {.writers = both, .n = 2},
						   {.writers = &other, .n = 1}};
	fail_sync(1, true, EIO);
	assert_int_equal(blob_publish(place->store, publications, 3), 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(publications[i].result, -1);
		assert_int_equal(publications[i].err.kind, ERR_IO);
	}
	assert_int_equal(publications[2].result, 0);
	assert_null(other);
	for (int i = 0; i < 3; i++)
		assert_false(is_there(place, &ids[i]));
	assert_true(is_there(place, &ids[3]));
	blob_discard(&first);
	blob_discard(&both[0]);
	blob_discard(&both[1]);
}

static void a_parent_that_was_not_synced_is_synced_the_next_time(void **state)
{
	struct place *place = *state;
	struct uuid a = id_in_leaf(7), b = id_in_leaf(7);
	struct blob_writer *writer = sealed(place, &a);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	fail_sync(2, true, EIO); /* the leaf is synced, its parent is not */
	assert_int_equal(blob_publish(place->store, &publication, 1), 1);
	blob_discard(&writer);
	fail_sync(0, false, 0);
	writer = sealed(place, &b);
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	assert_int_equal(syncs.directories, 3);
	assert_true(is_there(place, &b));
}

static void a_new_description_is_synced_and_the_old_one_stands_when_that_fails(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	char big[20000];
	struct buf text;
	struct blob_writer *writer = sealed(place, &id);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	memset(big, 'b', sizeof(big));
	assert_int_equal(blob_describe(place->store, &id, big, sizeof(big), &err), 1);
	assert_true(syncs.files > 0);
	fail_sync(1, false, EIO);
	assert_int_equal(blob_describe(place->store, &id, big, 15000, &err), -1);
	assert_int_equal(err.kind, ERR_IO);
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	assert_int_equal(blob_description(place->store, &id, &text, &err), 1);
	assert_true(text.len == sizeof(big) || text.len == 15000);
	buf_release(&text);
}

static void a_probe_says_that_the_disk_does_not_sync(void **state)
{
	struct place *place = *state;
	fail_sync(1, false, EIO);
	assert_int_equal(blob_probe(place->store, &err), -1);
	assert_int_equal(err.kind, ERR_IO);
	assert_int_equal(blob_probe(place->store, &err), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(sealing_syncs_the_file_and_publishing_each_directory_once),
		T(a_file_whose_sync_failed_is_never_synced_again),
		T(a_sync_that_finds_the_disk_full_says_so),
		T(an_interrupted_sync_goes_on),
		T(a_failed_sync_of_a_directory_takes_back_what_it_covered_and_nothing_else),
		T(a_parent_that_was_not_synced_is_synced_the_next_time),
		T(a_new_description_is_synced_and_the_old_one_stands_when_that_fails),
		T(a_probe_says_that_the_disk_does_not_sync),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
