/* The journal: what was appended comes back, in order; torn tails end it; damage is told. */
#include <endian.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depotd/base/clock.h"

#include "scratch.h"
#include "unit.h"

#include "../../src/journal/journal_private.h"

enum { SEEN_MAX = 4096 };

struct scene {
	char directory[SCRATCH_MAX];
	struct journal *journal;
	struct err err;
	/* what the last replay saw */
	unsigned seen[SEEN_MAX];
	size_t n;
	struct journal_replay_summary summary;
};

static void open_journal(struct scene *scene)
{
	struct journal_config config = {
		.directory = scene->directory, .size = 4 << 20, .full_wait_ms = 50};
	if (journal_open(&config, &scene->journal, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
}

static int setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	if (!scene)
		return -1;
	if (!scratch_make(scene->directory, "journal"))
		return -1;
	open_journal(scene);
	*state = scene;
	return 0;
}

static int teardown(void **state)
{
	struct scene *scene = *state;
	journal_close(&scene->journal);
	scratch_remove(scene->directory);
	free(scene);
	return 0;
}

/* As after a crash: nothing is written any more. */
static void reopen(struct scene *scene)
{
	journal_close(&scene->journal);
	open_journal(scene);
}

/* A record whose body is `length` bytes that depend on its number, which is its kind. */
static struct journal_record make_record(unsigned number, char *body, size_t length)
{
	static const char head[] = "a head";
	memset(body, (int)(number % 251), length);
	return (struct journal_record){.kind = number,
				       .left = number % 3,
				       .head = head,
				       .head_len = sizeof(head),
				       .body = body,
				       .body_len = length,
				       .checksum =
					       journal_checksum(head, sizeof(head), body, length)};
}

/* As core appends: what finds no room waits for it. */
static int append_waiting(struct journal *journal, const struct journal_record *records, size_t n,
			  const struct journal_meanwhile *meanwhile, struct err *err)
{
	unsigned segments;
	while (journal_append(journal, records, n, meanwhile, &segments, err) < 0)
		if (err->kind != ERR_BUSY || journal_await_room(journal, segments, err) < 0)
			return -1;
	return 0;
}

static int append_one(struct scene *scene, unsigned number, size_t length)
{
	char *body = malloc(length ? length : 1);
	struct journal_record record = make_record(number, body, length);
	int rc = append_waiting(scene->journal, &record, 1, NULL, &scene->err);
	free(body);
	return rc;
}

static int see(void *context, const struct journal_record *record)
{
	struct scene *scene = context;
	const char *body = record->body;
	assert_int_equal(record->left, record->kind % 3);
	assert_int_equal(record->head_len, sizeof("a head"));
	assert_string_equal(record->head, "a head");
	for (size_t i = 0; i < record->body_len; i++)
		assert_int_equal((unsigned char)body[i], record->kind % 251);
	assert_true(scene->n < SEEN_MAX);
	scene->seen[scene->n++] = record->kind;
	return 0;
}

static void replay(struct scene *scene)
{
	scene->n = 0;
	if (journal_replay(scene->journal, 0, see, scene, &scene->summary, &scene->err) < 0)
		fail_msg("%s", scene->err.message);
}

static void expect_seen(struct scene *scene, unsigned from, unsigned to)
{
	assert_int_equal(scene->n, to - from + 1);
	for (unsigned i = 0; i < scene->n; i++)
		assert_int_equal(scene->seen[i], from + i);
}

/* Overwrites bytes of a segment's file. */
static void damage(struct scene *scene, unsigned segment, off_t at, size_t n)
{
	char path[256];
	char junk[8192];
	assert_true(n <= sizeof(junk));
	memset(junk, 0x5a, n);
	snprintf(path, sizeof(path), "%s/segment-%02u", scene->directory, segment);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, n, at), (ssize_t)n);
	close(fd);
}

static void what_was_appended_comes_back_in_order(void **state)
{
	struct scene *scene = *state;
	for (unsigned i = 1; i <= 20; i++)
		assert_int_equal(append_one(scene, i, i * 37), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, 20);
	assert_int_equal(scene->summary.damaged_places, 0);
	replay(scene); /* as often as anybody asks */
	expect_seen(scene, 1, 20);
}

static void a_batch_of_many_records_is_one(void **state)
{
	struct scene *scene = *state;
	enum { N = 300 };
	static char bodies[N][100];
	struct journal_record records[N];
	for (unsigned i = 0; i < N; i++)
		records[i] = make_record(i + 1, bodies[i], sizeof(bodies[i]));
	assert_int_equal(append_waiting(scene->journal, records, N, NULL, &scene->err), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, N);
}

static void a_batch_larger_than_the_memory_for_one_is_several(void **state)
{
	struct scene *scene = *state;
	enum { N = 20, LENGTH = 100 * 1024 };
	char *bodies = malloc((size_t)N * LENGTH);
	struct journal_record records[N];
	for (unsigned i = 0; i < N; i++)
		records[i] = make_record(i + 1, bodies + (size_t)i * LENGTH, LENGTH);
	assert_int_equal(append_waiting(scene->journal, records, N, NULL, &scene->err), 0);
	free(bodies);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, N);
	assert_true(scene->summary.segments > 1);
}

static void count(void *context)
{
	++*(unsigned *)context;
}

/* The second batch of a segment goes to the kernel, which writes it while something else is done; the first does not. */
static void something_else_is_done_once_while_the_disk_writes(void **state)
{
	struct scene *scene = *state;
	enum { N = 3, LENGTH = 350 * 1024 };
	char *body = malloc(N * LENGTH);
	struct journal_record records[N];
	for (unsigned i = 0; i < N; i++)
		records[i] = make_record(i + 1, body + i * LENGTH, LENGTH);
	for (size_t n = 1, all = 0; n <= N; n++) { /* the last ones are two batches */
		unsigned done = 0;
		struct journal_meanwhile meanwhile = {count, &done};
		assert_int_equal(
			append_waiting(scene->journal, records, n, &meanwhile, &scene->err), 0);
		assert_int_equal(done, 1);
		all += n;
		replay(scene);
		assert_int_equal(scene->n, all);
	}
	free(body);
}

/* A kernel or a container without io_submit(). */
static void without_asynchronous_writes_the_journal_is_the_same(void **state)
{
	struct scene *scene = *state;
	unsigned done = 0;
	struct journal_meanwhile meanwhile = {count, &done};
	char body[5000];
	struct journal_record record = make_record(3, body, sizeof(body));
	commit_close(scene->journal);
	for (unsigned i = 1; i <= 2; i++)
		assert_int_equal(append_one(scene, i, 5000), 0);
	assert_int_equal(append_waiting(scene->journal, &record, 1, &meanwhile, &scene->err), 0);
	assert_int_equal(done, 1);
	reopen(scene);
	replay(scene);
	assert_int_equal(scene->n, 3);
}

static void records_without_head_or_body_come_back(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 0), 0);
	assert_int_equal(append_one(scene, 2, JOURNAL_BODY_MAX), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, 2);
}

static void what_is_dropped_does_not_come_back(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 5000), 0);
	uint64_t mark = journal_rotate(scene->journal);
	assert_int_equal(append_one(scene, 2, 5000), 0);
	assert_int_equal(journal_drop(scene->journal, mark, &scene->err), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 2, 2);
}

static void a_segment_used_again_shows_nothing_of_its_first_use(void **state)
{
	struct scene *scene = *state;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(append_one(scene, 100 + i, 5000), 0);
	assert_int_equal(journal_drop(scene->journal, journal_rotate(scene->journal), &scene->err),
			 0);
	reopen(scene);
	assert_int_equal(append_one(scene, 1, 10), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, 1);
	assert_int_equal(scene->summary.damaged_places, 0);
}

static void a_full_journal_says_so_and_takes_more_after_a_drop(void **state)
{
	struct scene *scene = *state;
	unsigned n = 0;
	while (append_one(scene, 1, JOURNAL_BODY_MAX) == 0)
		assert_true(++n < 100);
	assert_int_equal(scene->err.kind, ERR_BUSY);
	assert_true(n >= 3);
	assert_int_equal(journal_drop(scene->journal, journal_rotate(scene->journal), &scene->err),
			 0);
	assert_int_equal(journal_live_bytes(scene->journal), 0);
	assert_int_equal(append_one(scene, 1, JOURNAL_BODY_MAX), 0);
}

struct waiting_append {
	struct scene *scene;
	struct err err;
	int rc;
};

static void *append_when_there_is_room(void *context)
{
	struct waiting_append *append = context;
	static char body[JOURNAL_BODY_MAX];
	struct journal_record record = make_record(1, body, sizeof(body));
	append->rc = append_waiting(append->scene->journal, &record, 1, NULL, &append->err);
	return NULL;
}

/* The checkpoint that it waits for begins with a turn. */
static void an_append_that_waits_for_room_lets_the_journal_turn(void **state)
{
	struct scene *scene = *state;
	struct waiting_append append = {.scene = scene};
	pthread_t thread;
	while (append_one(scene, 1, JOURNAL_BODY_MAX) == 0)
		;
	journal_close(&scene->journal);
	struct journal_config config = {
		.directory = scene->directory, .size = 4 << 20, .full_wait_ms = 60000};
	assert_int_equal(journal_open(&config, &scene->journal, &scene->err), 0);
	assert_int_equal(pthread_create(&thread, NULL, append_when_there_is_room, &append), 0);
	int64_t began = clock_monotonic_ns();
	assert_int_equal(journal_drop(scene->journal, journal_rotate(scene->journal), &scene->err),
			 0);
	pthread_join(thread, NULL);
	assert_int_equal(append.rc, 0);
	assert_true(clock_monotonic_ns() - began < INT64_C(30000000000));
	replay(scene);
	expect_seen(scene, 1, 1);
}

/* A ring filled to the last segment never got one back: what had to be carried over had no room, so nothing was dropped. */
static void what_a_checkpoint_carries_over_has_room_in_a_full_journal(void **state)
{
	struct scene *scene = *state;
	char waits[5], other[1];
	struct journal_record carried = make_record(1, waits, sizeof(waits)),
			      more = make_record(2, other, sizeof(other));
	unsigned segments;
	journal_keep(scene->journal, 100);
	while (append_one(scene, 7, JOURNAL_BODY_MAX) == 0)
		;
	assert_int_equal(scene->err.kind, ERR_BUSY);
	uint64_t mark = journal_rotate(scene->journal);
	assert_int_equal(journal_carry(scene->journal, &carried, 1, &scene->err), 0);
	/* There is room behind it, but it may not be all that is to be carried. */
	assert_int_equal(journal_append(scene->journal, &more, 1, NULL, &segments, &scene->err),
			 -1);
	assert_int_equal(scene->err.kind, ERR_BUSY);
	assert_int_equal(journal_carry(scene->journal, &carried, 1, &scene->err), 0);
	journal_carried(scene->journal);
	assert_int_equal(journal_drop(scene->journal, mark, &scene->err), 0);
	assert_int_equal(journal_append(scene->journal, &more, 1, NULL, &segments, &scene->err), 0);
	replay(scene);
	assert_int_equal(scene->summary.records, 3);
}

static void an_append_that_never_has_room_leaves_nothing_and_waits_for_nothing(void **state)
{
	struct scene *scene = *state;
	enum { N = 16 };
	static char body[JOURNAL_BODY_MAX];
	struct journal_record records[N];
	for (unsigned i = 0; i < N; i++)
		records[i] = make_record(i, body, sizeof(body));
	journal_close(&scene->journal);
	struct journal_config config = {
		.directory = scene->directory, .size = 4 << 20, .full_wait_ms = 3600 * 1000};
	assert_int_equal(journal_open(&config, &scene->journal, &scene->err), 0);
	assert_int_equal(append_waiting(scene->journal, records, N, NULL, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_BUSY);
	replay(scene);
	assert_int_equal(scene->summary.records, 0);
}

static void who_comes_when_the_journal_was_full_for_long_does_not_wait_as_long_again(void **state)
{
	struct scene *scene = *state;
	while (append_one(scene, 1, JOURNAL_BODY_MAX) == 0)
		;
	int64_t began = clock_monotonic_ns();
	for (int i = 0; i < 20; i++) /* a wait of 50 ms each would be a second */
		assert_int_equal(append_one(scene, 1, JOURNAL_BODY_MAX), -1);
	assert_true(clock_monotonic_ns() - began < INT64_C(900000000));
}

static void a_torn_tail_ends_the_replay_without_a_word(void **state)
{
	struct scene *scene = *state;
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(append_one(scene, i, 5000), 0); /* two blocks each */
	damage(scene, 0, BLOCK + 3 * 2 * BLOCK + BLOCK + 17, 1); /* in the last one's body */
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, 3);
	assert_int_equal(scene->summary.damaged_places, 0);
}

static void damage_before_the_tail_is_told_and_what_follows_comes_back(void **state)
{
	struct scene *scene = *state;
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(append_one(scene, i, 5000), 0);
	damage(scene, 0, BLOCK + 2 * BLOCK, 100); /* the second one's header */
	reopen(scene);
	replay(scene);
	assert_int_equal(scene->n, 3);
	assert_int_equal(scene->seen[0], 1);
	assert_int_equal(scene->seen[1], 3);
	assert_int_equal(scene->seen[2], 4);
	assert_int_equal(scene->summary.damaged_places, 1);
	assert_int_equal(scene->summary.damaged_bytes, 2 * BLOCK);
}

static void damage_in_one_body_costs_that_record_alone(void **state)
{
	struct scene *scene = *state;
	static char bodies[3][5000];
	struct journal_record records[3];
	for (unsigned i = 0; i < 3; i++)
		records[i] = make_record(i + 1, bodies[i], sizeof(bodies[i]));
	assert_int_equal(append_waiting(scene->journal, records, 3, NULL, &scene->err), 0);
	assert_int_equal(append_one(scene, 4, 10), 0);
	damage(scene, 0, BLOCK + 7000, 1); /* in the second one's */
	reopen(scene);
	replay(scene);
	assert_int_equal(scene->n, 3);
	assert_int_equal(scene->seen[1], 3);
	assert_int_equal(scene->summary.damaged_places, 1);
}

static void damage_at_the_end_of_a_segment_that_was_left_is_told(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 5000), 0);
	assert_int_equal(append_one(scene, 2, 5000), 0);
	journal_rotate(scene->journal);
	assert_int_equal(append_one(scene, 3, 5000), 0);
	damage(scene, 0, BLOCK + 2 * BLOCK, 100);
	reopen(scene);
	replay(scene);
	assert_int_equal(scene->n, 2);
	assert_int_equal(scene->summary.damaged_places, 1);
}

static void a_damaged_header_of_a_segment_is_told_and_its_records_come_back(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 5000), 0);
	damage(scene, 0, 3, 5);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 1, 1);
	assert_int_equal(scene->summary.damaged_places, 1);
}

static void a_journal_of_another_version_is_refused(void **state)
{
	struct scene *scene = *state;
	unsigned char block[BLOCK];
	char path[256];
	assert_int_equal(append_one(scene, 1, 10), 0);
	segment_header(scene->journal, 7, 0, block);
	block[8] = 99;
	uint32_t crc = htole32(journal_checksum(block, 40, NULL, 0));
	memcpy(block + 40, &crc, 4);
	snprintf(path, sizeof(path), "%s/segment-00", scene->directory);
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, block, sizeof(block), 0), (ssize_t)sizeof(block));
	close(fd);
	journal_close(&scene->journal);
	struct journal_config config = {.directory = scene->directory, .size = 4 << 20};
	assert_int_equal(journal_open(&config, &scene->journal, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_CONFLICT);
	assert_non_null(strstr(scene->err.message, "99"));
}

/* A write that fails is the segment's end: what comes next stands in another one, and what was durable stays. */
static void a_failed_write_costs_its_batch_and_no_other(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 5000), 0);
	struct segment *segment = &scene->journal->segments[scene->journal->current];
	int good = segment->fd;
	segment->fd = open("/dev/null", O_RDONLY);
	assert_int_equal(append_one(scene, 2, 5000), -1);
	assert_int_equal(scene->err.kind, ERR_IO);
	close(segment->fd);
	segment->fd = good;
	assert_int_equal(append_one(scene, 3, 5000), 0);
	reopen(scene);
	replay(scene);
	assert_int_equal(scene->n, 2);
	assert_int_equal(scene->seen[0], 1);
	assert_int_equal(scene->seen[1], 3);
	assert_int_equal(scene->summary.damaged_places, 0);
}

static void a_segment_that_failed_is_never_used_again(void **state)
{
	struct scene *scene = *state;
	char path[256];
	assert_int_equal(append_one(scene, 1, 10), 0);
	scene->journal->segments[scene->journal->current].failed = true;
	assert_int_equal(journal_drop(scene->journal, journal_rotate(scene->journal), &scene->err),
			 0);
	snprintf(path, sizeof(path), "%s/segment-00", scene->directory);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(append_one(scene, 2, 10), 0);
}

/*
 * A disk on which everything failed for a while: the file's name was gone, the sync of that had failed, and it counted as dropped.
 * Removals then had nothing to tell the journal, and a power cut brought it back with what they were about.
 */
static void what_is_not_known_to_be_dropped_counts_as_there(void **state)
{
	struct scene *scene = *state;
	struct journal *journal = scene->journal;
	assert_int_equal(append_one(scene, 1, 5000), 0);
	journal->segments[journal->current].failed = true;
	int64_t live = journal_live_bytes(journal);
	uint64_t mark = journal_rotate(journal);
	int good = journal->directory;
	journal->directory = open(scene->directory, O_PATH); /* takes names, and no sync */
	assert_true(journal->directory >= 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(journal_drop(journal, mark, &scene->err), -1);
		assert_true(live > 0 && journal_live_bytes(journal) == live);
	}
	close(journal->directory);
	journal->directory = good;
	replay(scene);
	expect_seen(scene, 1, 1);
	assert_int_equal(journal_drop(journal, mark, &scene->err), 0);
	assert_int_equal(journal_live_bytes(journal), 0);
	assert_int_equal(append_one(scene, 2, 10), 0);
	reopen(scene);
	replay(scene);
	expect_seen(scene, 2, 2);
}

static int stop_at_three(void *context, const struct journal_record *record)
{
	unsigned *seen = context;
	++*seen;
	return record->kind == 3 ? 42 : 0;
}

static void a_visitor_can_end_the_replay(void **state)
{
	struct scene *scene = *state;
	unsigned seen = 0;
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(append_one(scene, i, 10), 0);
	assert_int_equal(journal_replay(scene->journal, 0, stop_at_three, &seen, &scene->summary,
					&scene->err),
			 42);
	assert_int_equal(seen, 3);
}

static void a_replay_below_a_mark_leaves_out_what_came_after(void **state)
{
	struct scene *scene = *state;
	assert_int_equal(append_one(scene, 1, 10), 0);
	uint64_t mark = journal_rotate(scene->journal);
	assert_int_equal(append_one(scene, 2, 10), 0);
	scene->n = 0;
	assert_int_equal(
		journal_replay(scene->journal, mark, see, scene, &scene->summary, &scene->err), 0);
	expect_seen(scene, 1, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_appended_comes_back_in_order),
		TEST(a_batch_of_many_records_is_one),
		TEST(a_batch_larger_than_the_memory_for_one_is_several),
		TEST(something_else_is_done_once_while_the_disk_writes),
		TEST(without_asynchronous_writes_the_journal_is_the_same),
		TEST(records_without_head_or_body_come_back),
		TEST(what_is_dropped_does_not_come_back),
		TEST(a_segment_used_again_shows_nothing_of_its_first_use),
		TEST(a_full_journal_says_so_and_takes_more_after_a_drop),
		TEST(an_append_that_waits_for_room_lets_the_journal_turn),
		TEST(what_a_checkpoint_carries_over_has_room_in_a_full_journal),
		TEST(an_append_that_never_has_room_leaves_nothing_and_waits_for_nothing),
		TEST(who_comes_when_the_journal_was_full_for_long_does_not_wait_as_long_again),
		TEST(a_torn_tail_ends_the_replay_without_a_word),
		TEST(damage_before_the_tail_is_told_and_what_follows_comes_back),
		TEST(damage_in_one_body_costs_that_record_alone),
		TEST(damage_at_the_end_of_a_segment_that_was_left_is_told),
		TEST(a_damaged_header_of_a_segment_is_told_and_its_records_come_back),
		TEST(a_journal_of_another_version_is_refused),
		TEST(a_failed_write_costs_its_batch_and_no_other),
		TEST(a_segment_that_failed_is_never_used_again),
		TEST(what_is_not_known_to_be_dropped_counts_as_there),
		TEST(a_visitor_can_end_the_replay),
		TEST(a_replay_below_a_mark_leaves_out_what_came_after),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
