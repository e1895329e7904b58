/*
 * What every blob driver must do, run against each: the filesystem driver as this kernel lets it be, the same as if parts of
 * kernel and file system were missing, and wrapped in faults that do not strike.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "depotd/base/clock.h"
#include "depotd/blob/fault.h"
#include "depotd/blob/store.h"

#include "scratch.h"

struct variant {
	const char *name;
	unsigned without;
	bool fault;
};

static const struct variant variants[] = {
	{"filesystem", 0, false},
	{"filesystem without O_TMPFILE", BLOB_WITHOUT_TMPFILE, false},
	{"filesystem without attributes", BLOB_WITHOUT_XATTR, false},
	{"filesystem without openat2", BLOB_WITHOUT_OPENAT2, false},
	{"filesystem without any of them",
	 BLOB_WITHOUT_TMPFILE | BLOB_WITHOUT_XATTR | BLOB_WITHOUT_OPENAT2, false},
	{"fault round filesystem", 0, true},
};
static const struct variant *variant = &variants[0];

struct place {
	char directory[SCRATCH_MAX];
	struct blob_store *store;
};

static struct err err; /* the last failure's; tests run one after the other */

static void place_open(struct place *place)
{
	struct blob_filesystem_config config = {
		.directory = place->directory, .exclusive = true, .without = variant->without};
	struct blob_store *inner = NULL;
	assert_int_equal(blob_filesystem_open(&config, &inner, &err), 0);
	place->store = inner;
	if (variant->fault)
		assert_int_equal(blob_fault_new(inner, &place->store, &err), 0);
}

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	if (!scratch_make(place->directory, "blob"))
		return -1;
	place_open(place);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	blob_close(&place->store);
	scratch_remove(place->directory);
	free(place);
	return 0;
}

/* --- helpers --- */

static struct blob_writer *begin(struct blob_store *store, const struct uuid *id)
{
	struct blob_writer *writer = NULL;
	assert_int_equal(blob_create(store, id, -1, NULL, &writer, &err), 0);
	return writer;
}

static struct blob_writer *sealed(struct blob_store *store, const struct uuid *id, const void *data,
				  size_t n, const char *description)
{
	struct blob_writer *writer = begin(store, id);
	assert_int_equal(blob_write(writer, data, n, &err), 0);
	assert_int_equal(blob_seal(writer, description, strlen(description), &err), 0);
	return writer;
}

static struct uuid stored(struct blob_store *store, const void *data, size_t n,
			  const char *description)
{
	struct uuid id = uuid_new();
	struct blob_writer *writer = sealed(store, &id, data, n, description);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(store, &publication, 1), 0);
	assert_int_equal(publication.result, 0);
	assert_null(writer);
	return id;
}

static void assert_holds(struct blob_store *store, const struct uuid *id, const char *data,
			 size_t n)
{
	struct blob_reader *reader = NULL;
	size_t at = 0, got;
	assert_int_equal(blob_open(store, id, &reader, &err), 1);
	assert_int_equal(blob_size(reader), n);
	char *back = malloc(n + 1);
	do {
		assert_int_equal(blob_read(reader, (int64_t)at, back + at, n + 1 - at, &got, &err),
				 0);
		at += got;
	} while (got > 0);
	assert_int_equal(at, n);
	assert_memory_equal(back, data, n);
	free(back);
	blob_reader_free(&reader);
	assert_null(reader);
}

static void assert_absent(struct blob_store *store, const struct uuid *id)
{
	struct blob_reader *reader = NULL;
	assert_int_equal(blob_open(store, id, &reader, &err), 0);
}

static void assert_described(struct blob_store *store, const struct uuid *id, const char *expected)
{
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	assert_int_equal(blob_description(store, id, &text, &err), 1);
	assert_string_equal(buf_text(&text), expected);
	buf_release(&text);
}

static int count_blob(void *context, const struct blob_info *info)
{
	assert_true(info->size >= 0);
	assert_true(info->modified_ms > 1600000000000);
	++*(unsigned *)context;
	return 0;
}

static unsigned blobs_in(struct blob_store *store)
{
	unsigned n = 0;
	assert_int_equal(blob_walk(store, count_blob, &n, &err), 0);
	return n;
}

static unsigned files_on_disk;

static int count_file(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	files_on_disk += flag == FTW_F && !strstr(path, "/.lock");
	return 0;
}

/* Every file in the data directory but the lock. */
static unsigned files_below(const char *directory)
{
	files_on_disk = 0;
	nftw(directory, count_file, 16, FTW_PHYS);
	return files_on_disk;
}

static char *text_of(size_t n, char fill)
{
	char *text = malloc(n + 1);
	memset(text, fill, n);
	text[n] = '\0';
	return text;
}

/* --- the life of a blob --- */

static void what_was_published_comes_back_byte_for_byte(void **state)
{
	struct place *place = *state;
	char *data = text_of(300000, 'x');
	for (size_t i = 0; i < 300000; i++)
		data[i] = (char)(i * 31 % 251);
	struct uuid id = stored(place->store, data, 300000, "{\"name\":\"x\"}");
	assert_holds(place->store, &id, data, 300000);
	assert_described(place->store, &id, "{\"name\":\"x\"}");
	free(data);
}

static void many_writes_are_one_blob_in_order(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = begin(place->store, &id);
	for (int i = 0; i < 1000; i++) {
		char piece[16];
		snprintf(piece, sizeof(piece), "%07d", i);
		assert_int_equal(blob_write(writer, piece, 7, &err), 0);
	}
	assert_int_equal(blob_seal(writer, "{}", 2, &err), 0);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	struct blob_reader *reader = NULL;
	char piece[7];
	size_t got;
	assert_int_equal(blob_open(place->store, &id, &reader, &err), 1);
	assert_int_equal(blob_read(reader, 7 * 512, piece, 7, &got, &err), 0);
	assert_memory_equal(piece, "0000512", 7);
	blob_reader_free(&reader);
}

struct filler {
	struct blob_writer *writer;
	const char *data;
	int number, rc;
};

enum { PIECE = 1000, PIECES = 300, FILLERS = 3 };

static void *fill(void *context)
{
	struct filler *filler = context;
	struct err mine;
	for (int i = PIECES - 1 - filler->number; i >= 0; i -= FILLERS)
		filler->rc |= blob_fill(filler->writer, (int64_t)i * PIECE,
					filler->data + i * PIECE, PIECE, &mine);
	return NULL;
}

static void what_was_claimed_may_be_filled_in_any_order_by_several(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = begin(place->store, &id);
	char *data = text_of(PIECES * PIECE, 'x');
	for (size_t i = 0; i < PIECES * PIECE; i++)
		data[i] = (char)(i * 31 % 251);
	for (int64_t i = 0, offset; i < PIECES; i++) {
		assert_int_equal(blob_claim(writer, PIECE, &offset, &err), 0);
		assert_int_equal(offset, i * PIECE);
	}
	pthread_t threads[FILLERS];
	struct filler fillers[FILLERS];
	for (int i = 0; i < FILLERS; i++) {
		fillers[i] = (struct filler){.writer = writer, .data = data, .number = i};
		assert_int_equal(pthread_create(&threads[i], NULL, fill, &fillers[i]), 0);
	}
	for (int i = 0; i < FILLERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(fillers[i].rc, 0);
	}
	assert_int_equal(blob_write(writer, "the end", 7, &err), 0);
	assert_int_equal(blob_seal(writer, "{}", 2, &err), 0);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	char *whole = realloc(data, PIECES * PIECE + 7);
	assert_non_null(whole);
	memcpy(whole + PIECES * PIECE, "the end", 7);
	assert_holds(place->store, &id, whole, PIECES * PIECE + 7);
	free(whole);
}

static void a_writer_reads_its_first_bytes_back_and_goes_on(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = begin(place->store, &id);
	char first[5] = "----";
	assert_int_equal(blob_first(writer, first, 0, &err), 0);
	assert_int_equal(blob_write(writer, "abc", 3, &err), 0);
	assert_int_equal(blob_write(writer, "def", 3, &err), 0);
	assert_int_equal(blob_first(writer, first, 4, &err), 0);
	assert_memory_equal(first, "abcd", 4);
	assert_int_equal(blob_write(writer, "ghi", 3, &err), 0);
	assert_int_equal(blob_seal(writer, "{}", 2, &err), 0);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	assert_holds(place->store, &id, "abcdefghi", 9);
}

static void an_empty_blob_is_a_blob(void **state)
{
	struct place *place = *state;
	struct uuid id = stored(place->store, "", 0, "{}");
	assert_holds(place->store, &id, "", 0);
	assert_int_equal(blobs_in(place->store), 1);
}

static void nothing_is_visible_before_publish(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = sealed(place->store, &id, "abc", 3, "{}");
	assert_absent(place->store, &id);
	assert_int_equal(blobs_in(place->store), 0);
	blob_discard(&writer);
	assert_null(writer);
	assert_absent(place->store, &id);
}

static void a_discarded_blob_leaves_nothing(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = begin(place->store, &id);
	char *data = text_of(20000, 'd');
	assert_int_equal(blob_write(writer, data, 20000, &err), 0);
	blob_discard(&writer);
	writer = sealed(place->store, &id, data, 20000, data);
	blob_discard(&writer);
	free(data);
	assert_int_equal(files_below(place->directory), 0);
	blob_discard(&writer);
}

static void many_blobs_are_published_together(void **state)
{
	struct place *place = *state;
	enum { N = 40 };
	struct blob_writer *writers[N];
	struct uuid ids[N];
	struct blob_publication publications[N / 4];
	for (int i = 0; i < N; i++) {
		ids[i] = uuid_new();
		writers[i] = sealed(place->store, &ids[i], &ids[i], sizeof(ids[i]), "{}");
	}
	for (int i = 0; i < N / 4; i++)
		publications[i] = (struct blob_publication){.writers = writers + 4 * i, .n = 4};
	assert_int_equal(blob_publish(place->store, publications, N / 4), 0);
	for (int i = 0; i < N; i++) {
		assert_null(writers[i]);
		assert_holds(place->store, &ids[i], (char *)&ids[i], sizeof(ids[i]));
	}
	assert_int_equal(blobs_in(place->store), N);
}

static void a_taken_id_fails_its_own_publication_alone(void **state)
{
	struct place *place = *state;
	struct uuid taken = stored(place->store, "first", 5, "{\"v\":1}"), other = uuid_new(),
		    fine = uuid_new();
	struct blob_writer *bad[2] = {sealed(place->store, &other, "o", 1, "{}"),
				      sealed(place->store, &taken, "second", 6, "{\"v\":2}")};
	struct blob_writer *good = sealed(place->store, &fine, "f", 1, "{}");
	struct blob_publication publications[2] = {{.writers = bad, .n = 2},
						   {.writers = &good, .n = 1}};
	assert_int_equal(blob_publish(place->store, publications, 2), 1);
	assert_int_equal(publications[0].result, -1);
	assert_int_equal(publications[0].err.kind, ERR_CONFLICT);
	assert_non_null(bad[0]);
	assert_non_null(bad[1]);
	blob_discard(&bad[0]);
	blob_discard(&bad[1]);
	assert_int_equal(publications[1].result, 0);
	assert_null(good);
	assert_holds(place->store, &taken, "first", 5);
	assert_described(place->store, &taken, "{\"v\":1}");
	assert_absent(place->store, &other); /* all of a publication or none */
	assert_holds(place->store, &fine, "f", 1);
	assert_int_equal(blobs_in(place->store), 2);
}

static void a_removed_blob_is_gone_and_its_reader_reads_on(void **state)
{
	struct place *place = *state;
	char *big = text_of(50000, 'm');
	struct uuid id = stored(place->store, "still here", 10, big);
	struct blob_reader *reader = NULL;
	char back[10];
	size_t got;
	assert_int_equal(blob_open(place->store, &id, &reader, &err), 1);
	assert_int_equal(blob_remove(place->store, &id, &err), 1);
	assert_int_equal(blob_remove(place->store, &id, &err), 0);
	assert_absent(place->store, &id);
	assert_int_equal(files_below(place->directory), 0);
	assert_int_equal(blob_read(reader, 0, back, 10, &got, &err), 0);
	assert_int_equal(got, 10);
	assert_memory_equal(back, "still here", 10);
	blob_reader_free(&reader);
	free(big);
}

static void reading_stops_at_the_end(void **state)
{
	struct place *place = *state;
	struct uuid id = stored(place->store, "0123456789", 10, "{}");
	struct blob_reader *reader = NULL;
	char back[20];
	size_t got = 99;
	assert_int_equal(blob_open(place->store, &id, &reader, &err), 1);
	assert_int_equal(blob_read(reader, 7, back, 20, &got, &err), 0);
	assert_int_equal(got, 3);
	assert_memory_equal(back, "789", 3);
	assert_int_equal(blob_read(reader, 10, back, 20, &got, &err), 0);
	assert_int_equal(got, 0);
	assert_int_equal(blob_read(reader, 1 << 20, back, 20, &got, &err), 0);
	assert_int_equal(got, 0);
	blob_will_read(reader, 0, 10);
	blob_reader_free(&reader);
}

static void an_unknown_id_is_absent_everywhere(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct buf text;
	buf_init(&text, 1024);
	assert_absent(place->store, &id);
	assert_int_equal(blob_description(place->store, &id, &text, &err), 0);
	assert_int_equal(blob_describe(place->store, &id, "{}", 2, &err), 0);
	assert_int_equal(blob_remove(place->store, &id, &err), 0);
	buf_release(&text);
}

/* --- descriptions --- */

static void descriptions_of_any_size_up_to_the_maximum_are_kept(void **state)
{
	struct place *place = *state;
	static const size_t sizes[] = {1,    255,  3000,  3900,  4000,  4050,
				       4096, 5000, 65535, 65536, 65537, BLOB_DESCRIPTION_MAX};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *text = text_of(sizes[i], (char)('a' + i));
		struct uuid id = stored(place->store, "b", 1, text);
		assert_described(place->store, &id, text);
		free(text);
	}
	assert_int_equal(blobs_in(place->store), sizeof(sizes) / sizeof(sizes[0]));
}

static void a_description_can_grow_and_shrink(void **state)
{
	struct place *place = *state;
	struct uuid id = stored(place->store, "bytes", 5, "first");
	static const size_t sizes[] = {100, 100000, 50, 3500, 70000, BLOB_DESCRIPTION_MAX, 1};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *text = text_of(sizes[i], (char)('a' + i));
		assert_int_equal(blob_describe(place->store, &id, text, sizes[i], &err), 1);
		assert_described(place->store, &id, text);
		free(text);
	}
	assert_holds(place->store, &id, "bytes", 5);
	assert_int_equal(blobs_in(place->store), 1);
	assert_int_equal(blob_remove(place->store, &id, &err), 1);
	assert_int_equal(files_below(place->directory), 0);
}

static void everything_is_there_after_closing_and_opening(void **state)
{
	struct place *place = *state;
	char *big = text_of(90000, 'q');
	struct uuid a = stored(place->store, "one", 3, "{\"small\":1}");
	struct uuid b = stored(place->store, "two", 3, big);
	blob_close(&place->store);
	place_open(place);
	assert_holds(place->store, &a, "one", 3);
	assert_described(place->store, &a, "{\"small\":1}");
	assert_holds(place->store, &b, "two", 3);
	assert_described(place->store, &b, big);
	free(big);
}

/* --- walk and clean --- */

static int stop_at_third(void *context, const struct blob_info *info)
{
	(void)info;
	return ++*(int *)context == 3 ? 42 : 0;
}

static void a_walk_ends_when_the_visitor_says_so(void **state)
{
	struct place *place = *state;
	int seen = 0;
	for (int i = 0; i < 5; i++)
		stored(place->store, "x", 1, "{}");
	assert_int_equal(blob_walk(place->store, stop_at_third, &seen, &err), 42);
	assert_int_equal(seen, 3);
}

struct removing {
	struct blob_store *store;
	unsigned removed;
};

static int remove_visited(void *context, const struct blob_info *info)
{
	struct removing *removing = context;
	assert_int_equal(blob_remove(removing->store, &info->id, &err), 1);
	removing->removed++;
	return 0;
}

static void a_walk_may_remove_what_it_visits(void **state)
{
	struct place *place = *state;
	struct removing removing = {place->store, 0};
	char *big = text_of(9000, 'z');
	for (int i = 0; i < 200; i++)
		stored(place->store, "x", 1, i % 2 ? big : "{}");
	assert_int_equal(blob_walk(place->store, remove_visited, &removing, &err), 0);
	assert_int_equal(removing.removed, 200);
	assert_int_equal(blobs_in(place->store), 0);
	free(big);
}

static void cleaning_leaves_blobs_and_writers_alone(void **state)
{
	struct place *place = *state;
	struct uuid id = stored(place->store, "x", 1, "{}"), next = uuid_new();
	struct blob_writer *writer = sealed(place->store, &next, "y", 1, "{}");
	assert_true(blob_clean(place->store, 0, &err) >= 0);
	assert_holds(place->store, &id, "x", 1);
	struct blob_publication publication = {.writers = &writer, .n = 1};
	assert_int_equal(blob_publish(place->store, &publication, 1), 0);
	assert_holds(place->store, &next, "y", 1);
}

/* An id of long ago, so that its leaf directory is one that the store does not keep open. */
static struct uuid old_id(unsigned leaf, unsigned n)
{
	struct uuid id = uuid_new();
	id.bytes[0] = 0x01;
	id.bytes[1] = 0x80;
	id.bytes[2] = (unsigned char)(leaf >> 8);
	id.bytes[3] = (unsigned char)leaf;
	id.bytes[4] = (unsigned char)n;
	return id;
}

static void cleaning_races_with_creating_and_neither_loses(void **state);

struct churn {
	struct blob_store *store;
	unsigned number;
	int failures;
};

static void *churn(void *context)
{
	struct churn *churn = context;
	struct err mine;
	for (unsigned i = 0; i < 150; i++) {
		struct uuid id = old_id(i % 40, churn->number);
		struct blob_writer *writer = NULL;
		if (blob_create(churn->store, &id, 1, NULL, &writer, &mine) < 0 ||
		    blob_write(writer, "c", 1, &mine) < 0 ||
		    blob_seal(writer, "{}", 2, &mine) < 0) {
			churn->failures++;
			blob_discard(&writer);
			continue;
		}
		struct blob_publication publication = {.writers = &writer, .n = 1};
		if (blob_publish(churn->store, &publication, 1) != 0) {
			blob_discard(&writer);
			churn->failures++;
		} else if (blob_remove(churn->store, &id, &mine) != 1) {
			churn->failures++;
		}
	}
	return NULL;
}

static void cleaning_races_with_creating_and_neither_loses(void **state)
{
	struct place *place = *state;
	struct churn churns[3];
	pthread_t threads[3];
	for (unsigned i = 0; i < 3; i++) {
		churns[i] = (struct churn){place->store, i, 0};
		pthread_create(&threads[i], NULL, churn, &churns[i]);
	}
	for (int i = 0; i < 300; i++)
		assert_true(blob_clean(place->store, 0, &err) >= 0);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(churns[i].failures, 0);
	}
	assert_int_equal(blobs_in(place->store), 0);
}

/* --- space --- */

static void space_and_probe_answer(void **state)
{
	struct place *place = *state;
	struct blob_space space;
	assert_int_equal(blob_space(place->store, &space, &err), 0);
	assert_true(space.free > 0 && space.total >= space.free);
	assert_int_equal(blob_probe(place->store, &err), 0);
	assert_int_equal(files_below(place->directory), 0);
}

static void a_blob_that_cannot_fit_is_refused_before_its_bytes_come(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = NULL;
	assert_int_equal(blob_create(place->store, &id, INT64_MAX / 4, NULL, &writer, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	assert_null(writer);
}

static void what_is_promised_to_one_is_not_promised_to_another(void **state)
{
	struct place *place = *state;
	struct uuid a = uuid_new(), b = uuid_new();
	struct blob_writer *first = NULL, *second = NULL;
	struct blob_space space;
	assert_int_equal(blob_space(place->store, &space, &err), 0);
	int64_t most = space.free / 3 * 2;
	assert_int_equal(blob_create(place->store, &a, most, NULL, &first, &err), 0);
	assert_int_equal(blob_create(place->store, &b, most, NULL, &second, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	blob_discard(&first);
	assert_int_equal(blob_create(place->store, &b, most, NULL, &second, &err), 0);
	blob_discard(&second);
}

static void a_reserved_request_finishes_and_a_late_comer_is_told_at_once(void **state)
{
	struct place *place = *state;
	struct uuid id = uuid_new();
	struct blob_writer *writer = NULL;
	struct blob_reservation mine = {0}, late = {0};
	struct blob_space space;
	assert_int_equal(blob_space(place->store, &space, &err), 0);
	int64_t most = space.free / 3 * 2;
	assert_int_equal(blob_reserve(place->store, most, &mine, &err), 0);
	assert_int_equal(blob_reserve(place->store, most, &late, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	assert_int_equal(late.left, 0);
	assert_int_equal(blob_create(place->store, &id, 3, &mine, &writer, &err), 0);
	assert_int_equal(blob_write(writer, "abc", 3, &err), 0);
	blob_discard(&writer);
	blob_unreserve(place->store, &mine);
	blob_unreserve(place->store, &mine); /* again is nothing */
	assert_int_equal(blob_reserve(place->store, most, &late, &err), 0);
	blob_unreserve(place->store, &late);
}

static void a_reservation_pays_for_one_writer_after_the_other(void **state)
{
	struct place *place = *state;
	struct blob_reservation room = {0};
	assert_int_equal(blob_reserve(place->store, 10000, &room, &err), 0);
	int64_t before = room.left;
	for (int i = 0; i < 2; i++) {
		struct uuid id = uuid_new();
		struct blob_writer *writer = NULL;
		assert_int_equal(blob_create(place->store, &id, -1, &room, &writer, &err), 0);
		assert_int_equal(blob_write(writer, "0123456789", 10, &err), 0);
		blob_discard(&writer);
	}
	assert_int_equal(room.left, before - 20);
	blob_unreserve(place->store, &room);
	assert_int_equal(room.left, 0);
}

/* Threads that all want a third of what is free: never more than three may have it at once. */
struct contest {
	struct blob_store *store;
	int64_t each;
	atomic_int holding, most, won;
};

static void *contend(void *context)
{
	struct contest *contest = context;
	struct err mine;
	for (int i = 0; i < 2000; i++) {
		struct blob_reservation room = {0};
		if (blob_reserve(contest->store, contest->each, &room, &mine) < 0)
			continue;
		int now = atomic_fetch_add(&contest->holding, 1) + 1, most = contest->most;
		while (now > most && !atomic_compare_exchange_weak(&contest->most, &most, now))
			;
		atomic_fetch_add(&contest->won, 1);
		atomic_fetch_sub(&contest->holding, 1);
		blob_unreserve(contest->store, &room);
	}
	return NULL;
}

static void many_at_once_are_never_promised_the_same_bytes(void **state)
{
	struct place *place = *state;
	struct contest contest = {.store = place->store};
	struct blob_space space;
	pthread_t threads[8];
	assert_int_equal(blob_space(place->store, &space, &err), 0);
	contest.each = space.free / 10 * 3;
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, contend, &contest), 0);
	for (size_t i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_in_range(contest.most, 1, 3);
	assert_true(contest.won > 0);
	struct blob_space after; /* all of it came back */
	assert_int_equal(blob_space(place->store, &after, &err), 0);
	struct blob_reservation room = {0};
	assert_int_equal(blob_reserve(place->store, after.free / 10 * 9, &room, &err), 0);
	blob_unreserve(place->store, &room);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_published_comes_back_byte_for_byte),
		T(many_writes_are_one_blob_in_order),
		T(what_was_claimed_may_be_filled_in_any_order_by_several),
		T(a_writer_reads_its_first_bytes_back_and_goes_on),
		T(an_empty_blob_is_a_blob),
		T(nothing_is_visible_before_publish),
		T(a_discarded_blob_leaves_nothing),
		T(many_blobs_are_published_together),
		T(a_taken_id_fails_its_own_publication_alone),
		T(a_removed_blob_is_gone_and_its_reader_reads_on),
		T(reading_stops_at_the_end),
		T(an_unknown_id_is_absent_everywhere),
		T(descriptions_of_any_size_up_to_the_maximum_are_kept),
		T(a_description_can_grow_and_shrink),
		T(everything_is_there_after_closing_and_opening),
		T(a_walk_ends_when_the_visitor_says_so),
		T(a_walk_may_remove_what_it_visits),
		T(cleaning_leaves_blobs_and_writers_alone),
		T(cleaning_races_with_creating_and_neither_loses),
		T(space_and_probe_answer),
		T(a_reserved_request_finishes_and_a_late_comer_is_told_at_once),
		T(a_reservation_pays_for_one_writer_after_the_other),
		T(many_at_once_are_never_promised_the_same_bytes),
		T(a_blob_that_cannot_fit_is_refused_before_its_bytes_come),
		T(what_is_promised_to_one_is_not_promised_to_another),
	};
#undef T
	int failures = 0;
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		variant = &variants[i];
		failures += cmocka_run_group_tests_name(variant->name, tests, NULL, NULL);
	}
	return failures;
}
