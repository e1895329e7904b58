/* Fast uploads: bytes that are lent, hashed and written by a second worker, and not read any more once they were settled. */
#include <semaphore.h>

#include "core_scene.h"

#include "depotd/work/pool.h"

enum { BUFFERS = 16, BUFFER = 256 * 1024, BODY = 24 * 1024 * 1024 };

static struct pool *pool;
static char *body;

static int setup(void **state)
{
	struct err err;
	if (scene_setup(state) < 0 || pool_new("lending", 3, 64, NULL, &pool, &err) < 0)
		return -1;
	struct scene *scene = *state;
	scene->config.workers = pool;
	scene_restart(scene);
	unsigned seed = 1;
	body = malloc(BODY);
	if (!body)
		return -1;
	for (size_t i = 0; i < BODY; i++) {
		seed = seed * 1103515245 + 12345;
		body[i] = (char)(seed >> 16);
	}
	return 0;
}

/* The pool first, as the daemon does it: what an upload has left behind there is run. */
static int teardown(void **state)
{
	free(body);
	pool_free(&pool);
	return scene_teardown(state);
}

/* Buffers of the exact size, so that AddressSanitizer sees who reads past them, or after they went. */
static void make_buffers(char *buffers[BUFFERS])
{
	for (int i = 0; i < BUFFERS; i++) {
		buffers[i] = malloc(BUFFER);
		assert_non_null(buffers[i]);
	}
}

static void free_buffers(char *buffers[BUFFERS])
{
	for (int i = 0; i < BUFFERS; i++)
		free(buffers[i]);
}

/*
 * Sends the body as the server does: into buffers in turn, each settled and scribbled over before it is used again, in stretches
 * of all sizes. -1 as soon as something fails.
 */
static int send_body(struct upload *upload, char *buffers[BUFFERS], size_t size, unsigned seed,
		     struct err *err)
{
	size_t sent = 0;
	for (unsigned turn = 0; sent < size; turn++) {
		char *buffer = buffers[turn % BUFFERS];
		if (upload_settle(upload, buffer, BUFFER, err) < 0)
			return -1;
		memset(buffer, 'X', BUFFER);
		seed = seed * 1103515245 + 12345;
		size_t n = turn % 7 == 6 ? 1 + seed % 5000 : BUFFER - seed % 9000;
		n = n < size - sent ? n : size - sent;
		memcpy(buffer, body + sent, n);
		/* Some lie in two stretches of one buffer, as a part's end and the next one's beginning do. */
		size_t first = turn % 5 == 4 ? n / 2 : n;
		if (upload_lend(upload, buffer, first, err) < 0 ||
		    (first < n && upload_lend(upload, buffer + first, n - first, err) < 0))
			return -1;
		sent += n;
	}
	return 0;
}

static void assert_stored(struct scene *scene, struct upload **upload, size_t size)
{
	struct file_record *record = NULL;
	unsigned char expected[SHA256_LEN], actual[SHA256_LEN];
	struct blob_reader *reader = NULL;
	assert_int_equal(upload_seal(*upload, NULL, &scene->err), 0);
	assert_int_equal(scene_commit(scene, upload, 1, &record), 0);
	assert_int_equal(record->size, (int64_t)size);
	assert_int_equal(digest_sha256(body, size, expected, &scene->err), 0);
	assert_memory_equal(record->sha256, expected, SHA256_LEN);
	assert_int_equal(blob_open(scene->blobs, &record->id, &reader, &scene->err), 1);
	assert_int_equal(blob_size(reader), (int64_t)size);
	char *read = malloc(size);
	assert_non_null(read);
	for (size_t at = 0, got; at < size; at += got) {
		assert_int_equal(
			blob_read(reader, (int64_t)at, read + at, size - at, &got, &scene->err), 0);
		assert_true(got > 0);
	}
	assert_int_equal(digest_sha256(read, size, actual, &scene->err), 0);
	assert_memory_equal(actual, expected, SHA256_LEN);
	free(read);
	blob_reader_free(&reader);
	file_record_unref(&record);
}

static void send_and_check(struct scene *scene)
{
	char *buffers[BUFFERS];
	make_buffers(buffers);
	for (unsigned seed = 1; seed <= 3; seed++) {
		struct upload *upload = scene_begin(scene, "lent.bin");
		assert_int_equal(send_body(upload, buffers, BODY, seed, &scene->err), 0);
		assert_int_equal(upload_settle_all(upload, &scene->err), 0);
		for (int i = 0; i < BUFFERS; i++)
			memset(buffers[i], 'Y', BUFFER);
		assert_stored(scene, &upload, BODY);
	}
	free_buffers(buffers);
}

static void what_was_lent_is_stored_byte_for_byte(void **state)
{
	send_and_check(*state);
}

static void without_workers_it_is_stored_just_the_same(void **state)
{
	struct scene *scene = *state;
	scene->config.workers = NULL;
	scene_restart(scene);
	send_and_check(scene);
}

struct occupied {
	struct task task; /* first */
	sem_t *begun, *go_on;
};

static void occupy(struct task *task)
{
	struct occupied *occupied = (struct occupied *)task;
	sem_post(occupied->begun);
	while (sem_wait(occupied->go_on) < 0)
		continue;
}

static void where_all_workers_are_busy_its_owner_does_it_all(void **state)
{
	struct scene *scene = *state;
	sem_t begun, go_on;
	struct occupied occupied[3];
	sem_init(&begun, 0, 0);
	sem_init(&go_on, 0, 0);
	for (int i = 0; i < 3; i++) {
		occupied[i] = (struct occupied){{.run = occupy}, &begun, &go_on};
		assert_int_equal(pool_submit(pool, &occupied[i].task), 0);
	}
	for (int i = 0; i < 3; i++)
		while (sem_wait(&begun) < 0)
			continue;
	send_and_check(scene);
	for (int i = 0; i < 3; i++)
		sem_post(&go_on);
	pool_free(&pool);
	sem_destroy(&begun);
	sem_destroy(&go_on);
}

static void a_body_may_be_lent_and_written_by_turns(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_begin(scene, "turns.bin");
	size_t at = 0;
	for (int turn = 0; at < BODY; turn++) {
		size_t n = BODY - at < BUFFER ? BODY - at : BUFFER;
		int rc = turn % 3 == 2 ? upload_write(upload, body + at, n, &scene->err)
				       : upload_lend(upload, body + at, n, &scene->err);
		assert_int_equal(rc, 0);
		at += n;
	}
	assert_stored(scene, &upload, BODY);
}

static void a_small_body_that_was_lent_is_a_small_one(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_begin(scene, "small.bin");
	char *lent = malloc(60000);
	assert_non_null(lent);
	memcpy(lent, body, 60000);
	assert_int_equal(upload_lend(upload, lent, 60000, &scene->err), 0);
	assert_int_equal(upload_settle(upload, lent, 60000, &scene->err), 0);
	free(lent);
	assert_stored(scene, &upload, 60000);
}

static void a_disk_that_fails_at_any_write_is_told_of_once_and_nothing_is_stored(void **state)
{
	struct scene *scene = *state;
	char *buffers[BUFFERS];
	make_buffers(buffers);
	unsigned failed = 0;
	for (unsigned nth = 1; nth <= 100; nth += nth < 4 ? 1 : 9) {
		struct upload *upload = scene_begin(scene, "x");
		blob_fault_set(scene->blobs, BLOB_CALL_WRITE, nth, ERR_IO, nth % 2 ? EIO : ENOSPC);
		int rc = send_body(upload, buffers, BODY, nth, &scene->err);
		if (rc == 0)
			rc = upload_seal(upload, NULL, &scene->err);
		assert_int_equal(rc, -1);
		assert_int_equal(scene->err.kind, nth % 2 ? ERR_IO : ERR_DISK_FULL);
		failed++;
		upload_abort(&upload);
		for (int i = 0; i < BUFFERS; i++)
			memset(buffers[i], 'Z', BUFFER);
		blob_fault_set(scene->blobs, BLOB_CALL_WRITE, 0, ERR_IO, 0);
	}
	assert_true(failed > 10);
	assert_int_equal(scene_blobs(scene), 0);
	free_buffers(buffers);
}

static void an_upload_that_is_dropped_leaves_its_buffers_alone(void **state)
{
	struct scene *scene = *state;
	for (unsigned turn = 0; turn < 40; turn++) {
		char *buffers[BUFFERS];
		make_buffers(buffers);
		struct upload *upload = scene_begin(scene, "dropped.bin");
		assert_int_equal(
			send_body(upload, buffers, (turn + 1) * BODY / 41, turn, &scene->err), 0);
		upload_abort(&upload);
		free_buffers(buffers); /* at once: AddressSanitizer sees a late reader */
	}
	assert_int_equal(scene_blobs(scene), 0);
}

/* The second worker met it; the client was refused for another reason, or has left. */
static void a_broken_disk_that_nobody_asked_about_is_noted_all_the_same(void **state)
{
	struct scene *scene = *state;
	struct core_health health;
	struct upload *upload = scene_begin(scene, "x");
	core_health(scene->core, &health);
	assert_true(health.data_ok);
	blob_fault_set(scene->blobs, BLOB_CALL_WRITE, 1, ERR_IO, EIO);
	for (size_t at = 0; at < 2 * BUFFER; at += BUFFER / 2)
		if (upload_lend(upload, body + at, BUFFER / 2, &scene->err) < 0)
			break;
	upload_abort(&upload);
	core_health(scene->core, &health);
	assert_false(health.data_ok);
	assert_int_equal(health.data_err.kind, ERR_IO);
}

static void what_grows_too_large_is_refused_while_it_is_lent(void **state)
{
	struct scene *scene = *state;
	scene->config.max_upload = BODY / 2;
	scene_restart(scene);
	struct upload *upload = scene_begin(scene, "large.bin");
	char *buffers[BUFFERS];
	make_buffers(buffers);
	assert_int_equal(send_body(upload, buffers, BODY, 1, &scene->err), -1);
	assert_int_equal(scene->err.kind, ERR_TOO_LARGE);
	upload_abort(&upload);
	free_buffers(buffers);
	assert_int_equal(scene_blobs(scene), 0);
}

static void *send_one(void *context)
{
	struct scene *scene = context;
	char *buffers[BUFFERS];
	struct upload_intent intent = {.name = "one.bin", .name_len = 7, .size = BODY};
	unsigned char sha256[SHA256_LEN];
	struct err err;
	make_buffers(buffers);
	assert_int_equal(digest_sha256(body, BODY, sha256, &err), 0);
	intent.expected_sha256[0] = sha256;
	for (unsigned turn = 0; turn < 3; turn++) {
		struct upload *upload = NULL;
		assert_int_equal(upload_begin(scene->core, &intent, &upload, &err), 0);
		assert_int_equal(send_body(upload, buffers, BODY, turn, &err), 0);
		assert_int_equal(upload_identify(upload, NULL, &err), 0);
		upload_abort(&upload);
	}
	free_buffers(buffers);
	return NULL;
}

static void several_at_once_share_the_workers(void **state)
{
	pthread_t threads[5];
	for (int i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_one, *state), 0);
	for (int i = 0; i < 5; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_lent_is_stored_byte_for_byte),
		T(without_workers_it_is_stored_just_the_same),
		T(where_all_workers_are_busy_its_owner_does_it_all),
		T(a_body_may_be_lent_and_written_by_turns),
		T(a_small_body_that_was_lent_is_a_small_one),
		T(a_disk_that_fails_at_any_write_is_told_of_once_and_nothing_is_stored),
		T(an_upload_that_is_dropped_leaves_its_buffers_alone),
		T(a_broken_disk_that_nobody_asked_about_is_noted_all_the_same),
		T(what_grows_too_large_is_refused_while_it_is_lent),
		T(several_at_once_share_the_workers),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
