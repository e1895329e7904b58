/* When a small file gets its name: a lone one while the journal is written, others before they queue. */
#include <fcntl.h>
#include <sched.h>

#include "core_scene.h"
#include "placed_upload.h"
#include "stub_metadata.h"

#include "../../src/core/committer_private.h"
#include "../../src/journal/journal_private.h"

static bool stands(struct scene *scene, const struct uuid *id)
{
	char path[300];
	scene_path(scene, id, path, sizeof(path));
	return access(path, F_OK) == 0;
}

/* --- when --- */

struct seen {
	size_t begun;        /* of the database's, when the first file was placed */
	size_t transactions; /* the same */
	unsigned placed;
};

static void see_placing(void *context, enum blob_call call)
{
	struct seen *seen = context;
	if (call != BLOB_CALL_PLACE)
		return;
	if (seen->placed++ > 0)
		return;
	seen->begun = atomic_load(&stub_store->begun);
	seen->transactions = stub_store->transactions;
}

static void a_lone_file_is_placed_between_the_start_of_its_row_and_the_commit(void **state)
{
	struct scene *scene = *state;
	struct seen seen = {0};
	stub_store->head_starts = true;
	blob_fault_hook(scene->blobs, see_placing, &seen);
	struct uuid id = scene_put(scene, "x", "bytes");
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_int_equal(seen.placed, 1);
	assert_int_equal(seen.begun, 1);
	assert_int_equal(seen.transactions, 0);
	assert_true(stands(scene, &id) && scene_has_row(scene, &id));
}

static void files_of_one_request_are_placed_before_it_queues(void **state)
{
	struct scene *scene = *state;
	struct seen seen = {0};
	struct upload *uploads[3];
	struct file_record *records[3] = {NULL};
	stub_store->head_starts = true;
	for (int i = 0; i < 3; i++)
		uploads[i] = scene_sealed(scene, "f", "data", NULL);
	blob_fault_hook(scene->blobs, see_placing, &seen);
	assert_int_equal(scene_commit(scene, uploads, 3, records), 0);
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_int_equal(seen.placed, 3);
	assert_int_equal(seen.begun, 0);
	assert_int_equal(scene_blobs(scene), 3);
	for (int i = 0; i < 3; i++)
		file_record_unref(&records[i]);
}

struct hold {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned placed;
	bool let_go;
};

/* Holds whoever places the first file until let go. */
static void hold_first(void *context, enum blob_call call)
{
	struct hold *hold = context;
	if (call != BLOB_CALL_PLACE)
		return;
	pthread_mutex_lock(&hold->lock);
	unsigned nth = ++hold->placed;
	pthread_cond_broadcast(&hold->changed);
	while (nth == 1 && !hold->let_go)
		pthread_cond_wait(&hold->changed, &hold->lock);
	pthread_mutex_unlock(&hold->lock);
}

struct first {
	struct scene *scene;
	struct waiting_commit waiting;
	struct upload *upload;
	struct file_record *record;
};

static void *submit_first(void *context)
{
	struct first *first = context;
	scene_submit(first->scene, &first->waiting, &first->upload, 1, &first->record);
	return NULL;
}

static void who_comes_while_another_is_at_the_journal_places_his_file_himself(void **state)
{
	struct scene *scene = *state;
	struct hold hold = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct first first = {.scene = scene, .upload = scene_sealed(scene, "a", "1", NULL)};
	struct upload *upload = scene_sealed(scene, "b", "2", NULL);
	struct uuid id = upload_record(upload)->id;
	struct file_record *record = NULL;
	struct waiting_commit waiting;
	pthread_t thread;
	blob_fault_hook(scene->blobs, hold_first, &hold);
	assert_int_equal(pthread_create(&thread, NULL, submit_first, &first), 0);
	pthread_mutex_lock(&hold.lock);
	while (hold.placed == 0)
		pthread_cond_wait(&hold.changed, &hold.lock);
	pthread_mutex_unlock(&hold.lock);
	scene_submit(scene, &waiting, &upload, 1, &record);
	assert_int_equal(committer_depth(scene->core), 1);
	assert_true(stands(scene, &id));
	pthread_mutex_lock(&hold.lock);
	hold.let_go = true;
	pthread_cond_broadcast(&hold.changed);
	pthread_mutex_unlock(&hold.lock);
	pthread_join(thread, NULL);
	assert_int_equal(scene_await(&first.waiting, &scene->err), 0);
	assert_int_equal(scene_await(&waiting, &scene->err), 0);
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_int_equal(hold.placed, 2);
	file_record_unref(&first.record);
	file_record_unref(&record);
}

/* --- beside a checkpoint --- */

struct checkpointing {
	struct scene *scene;
	struct uuid id;
	pthread_t thread;
	atomic_bool begun, synced, stood;
};

static void *checkpoint(void *context)
{
	struct checkpointing *this = context;
	struct err err;
	atomic_store(&this->begun, true);
	(void)intake_checkpoint(this->scene->core, &err);
	return NULL;
}

/* A checkpoint comes before the file stands, and gets the time to do what it must not. */
static void checkpoint_while_placing(void *context, enum blob_call call)
{
	struct checkpointing *this = context;
	if (call == BLOB_CALL_SYNC) {
		atomic_store(&this->stood, stands(this->scene, &this->id));
		atomic_store(&this->synced, true);
	}
	if (call != BLOB_CALL_PLACE)
		return;
	assert_int_equal(pthread_create(&this->thread, NULL, checkpoint, this), 0);
	while (!atomic_load(&this->begun))
		sched_yield();
	int64_t until = clock_monotonic_ns() + 50 * 1000000;
	while (!atomic_load(&this->synced) && clock_monotonic_ns() < until)
		sched_yield();
}

/* Its sync would not have the file, and then it would drop the record: an answered upload lost with the power. */
static void a_checkpoint_does_not_pass_a_file_that_is_being_placed(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "before", "so that there is something to do");
	struct upload *upload = scene_sealed(scene, "x", "bytes", NULL);
	struct checkpointing this = {.scene = scene, .id = upload_record(upload)->id};
	struct file_record *record = NULL;
	blob_fault_hook(scene->blobs, checkpoint_while_placing, &this);
	assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
	pthread_join(this.thread, NULL);
	blob_fault_hook(scene->blobs, NULL, NULL);
	assert_true(atomic_load(&this.synced));
	assert_true(atomic_load(&this.stood));
	file_record_unref(&record);
}

/* --- where it fails --- */

static const struct {
	enum err_kind kind, expected;
	int sys_errno;
} faults[] = {
	{ERR_IO, ERR_DISK_FULL, ENOSPC},
	{ERR_IO, ERR_DISK_FULL, EDQUOT},
	{ERR_IO, ERR_IO, EIO},
	{ERR_UNAVAILABLE, ERR_UNAVAILABLE, 0},
	{ERR_NO_MEMORY, ERR_NO_MEMORY, 0},
};

static void a_lone_file_that_cannot_be_placed_fails_and_leaves_nothing(void **state)
{
	struct scene *scene = *state;
	stub_store->head_starts = true;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
		struct file_record *record = NULL;
		struct core_health health;
		blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, faults[i].kind,
			       faults[i].sys_errno);
		assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
		assert_int_equal(scene->err.kind, faults[i].expected);
		assert_null(upload);
		assert_null(record);
		assert_int_equal(scene_blobs(scene), 0);
		assert_int_equal(stub_store->n, 0);
		assert_int_equal(atomic_load(&stub_store->begun), i + 1);
		assert_int_equal(atomic_load(&stub_store->abandoned), i + 1);
		assert_int_equal(atomic_load(&scene->core->small_bytes), 0);
		core_health(scene->core, &health);
		assert_int_equal(health.data_ok, i < 2);
	}
}

/* One at the journal's desk, by hand: what upload_commit() does before. */
static void bring(struct waiting_commit *waiting, struct upload **upload,
		  struct file_record **record)
{
	*waiting = (struct waiting_commit){
		.commit = {.uploads = upload, .n = 1, .records = record, .done = scene_answered}};
	pthread_mutex_init(&waiting->lock, NULL);
	pthread_cond_init(&waiting->changed, NULL);
	upload_move(*upload, UPLOAD_COMMITTING);
	committer_enter(*upload);
}

static void who_shares_a_batch_with_it_is_stored(void **state)
{
	struct scene *scene = *state;
	enum { N = 3 };
	struct waiting_commit waiting[N];
	struct upload_commit *commits[N];
	struct upload *uploads[N] = {scene_placed(scene, "a", "1"),
				     scene_sealed(scene, "b", "2", NULL),
				     scene_placed(scene, "c", "3")};
	struct file_record *records[N] = {NULL};
	for (int i = 0; i < N; i++) {
		bring(&waiting[i], &uploads[i], &records[i]);
		commits[i] = &waiting[i].commit;
	}
	blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, ERR_IO, ENOSPC);
	assert_int_equal(journal_batch(scene->core, commits, N, NULL), N - 1);
	rows_write(scene->core, commits, N - 1, (struct registering){0});
	for (int i = 0; i < N; i++) {
		assert_int_equal(scene_await(&waiting[i], &scene->err), i == 1 ? -1 : 0);
		file_record_unref(&records[i]);
	}
	assert_int_equal(scene_blobs(scene), N - 1);
	assert_int_equal(stub_store->n, N - 1);
}

/* The next append goes there. */
static void lead_the_journal_to(struct scene *scene, const char *path, int flags)
{
	struct journal *journal = scene->core->intake->journal;
	struct segment *segment = &journal->segments[journal->current];
	int fd = open(path, flags);
	assert_true(fd >= 0);
	assert_true(dup2(fd, segment->fd) >= 0 && dup2(fd, segment->plain_fd) >= 0);
	close(fd);
}

static void a_journal_that_fails_leaves_no_file(void **state)
{
	struct scene *scene = *state;
	for (unsigned before = 1; before <= 2; before++) { /* the second append is another way */
		for (unsigned i = 0; i < before; i++)
			scene_put(scene, "before", "bytes");
		unsigned blobs = scene_blobs(scene);
		struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
		struct file_record *record = NULL;
		lead_the_journal_to(scene, "/dev/null", O_RDONLY);
		assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
		assert_int_equal(scene->err.kind, ERR_IO);
		assert_int_equal(scene_blobs(scene), blobs);
		assert_int_equal(stub_store->n, blobs);
	}
}

static void a_lone_file_for_which_the_journal_has_no_room_is_stored(void **state)
{
	struct scene *scene = *state;
	scene_put(scene, "before", "bytes");
	lead_the_journal_to(scene, "/dev/full", O_RDWR);
	struct uuid id = scene_put(scene, "x", "abc");
	assert_true(stands(scene, &id) && scene_has_row(scene, &id));
}

static void a_file_for_which_neither_has_room_fails(void **state)
{
	struct scene *scene = *state;
	struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
	struct file_record *record = NULL;
	scene_put(scene, "before", "bytes");
	lead_the_journal_to(scene, "/dev/full", O_RDWR);
	blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, ERR_IO, ENOSPC);
	assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
	assert_int_equal(scene->err.kind, ERR_DISK_FULL);
	assert_int_equal(scene_blobs(scene), 1);
}

/* --- the room, and file systems that cannot --- */

static struct upload *sealed_with_room(struct scene *scene, struct blob_reservation *room)
{
	struct upload_intent intent = {.name = "x", .name_len = 1, .size = 3, .room = room};
	struct upload *upload = NULL;
	assert_int_equal(core_admit(scene->core, 3, room, &scene->err), 0);
	assert_int_equal(upload_begin(scene->core, &intent, &upload, &scene->err), 0);
	assert_int_equal(upload_write(upload, "abc", 3, &scene->err), 0);
	assert_int_equal(upload_seal(upload, NULL, &scene->err), 0);
	return upload;
}

static void a_file_takes_its_room_of_what_its_request_was_promised(void **state)
{
	struct scene *scene = *state;
	for (unsigned without = 0; without <= BLOB_WITHOUT_XATTR; without += BLOB_WITHOUT_XATTR) {
		struct blob_reservation room = {0};
		struct file_record *record = NULL;
		scene->without = without;
		scene_restart(scene);
		struct upload *upload = sealed_with_room(scene, &room);
		int64_t promised = room.left;
		blob_fault_set(scene->blobs, BLOB_CALL_PLACE, 1, ERR_IO, ENOSPC);
		assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
		assert_int_equal(room.left, promised);
		core_admit_end(scene->core, &room);
		upload = sealed_with_room(scene, &room);
		assert_int_equal(scene_commit(scene, &upload, 1, &record), 0);
		assert_int_equal(room.left, promised - 3);
		core_admit_end(scene->core, &room);
		file_record_unref(&record);
	}
}

static void without_attributes_small_files_go_through_writers(void **state)
{
	struct scene *scene = *state;
	scene->without = BLOB_WITHOUT_XATTR;
	scene_restart(scene);
	struct uuid alone = scene_put(scene, "x", "abc");
	struct upload *uploads[2] = {scene_sealed(scene, "f", "1", NULL),
				     scene_sealed(scene, "g", "", NULL)};
	struct file_record *records[2] = {NULL};
	assert_int_equal(scene_commit(scene, uploads, 2, records), 0);
	assert_true(stands(scene, &alone));
	assert_int_equal(scene_blobs(scene), 3);
	assert_int_equal(stub_store->n, 3);
	assert_int_equal(atomic_load(&scene->core->small_bytes), 0);
	for (int i = 0; i < 2; i++)
		file_record_unref(&records[i]);
	blob_fault_set(scene->blobs, BLOB_CALL_SEAL, 1, ERR_IO, EIO);
	struct upload *upload = scene_sealed(scene, "x", "abc", NULL);
	struct file_record *record = NULL;
	assert_int_equal(scene_commit(scene, &upload, 1, &record), -1);
	assert_int_equal(scene->err.kind, ERR_IO);
	assert_int_equal(scene_blobs(scene), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(a_lone_file_is_placed_between_the_start_of_its_row_and_the_commit),
		SCENE_TEST(files_of_one_request_are_placed_before_it_queues),
		SCENE_TEST(who_comes_while_another_is_at_the_journal_places_his_file_himself),
		SCENE_TEST(a_checkpoint_does_not_pass_a_file_that_is_being_placed),
		SCENE_TEST(a_lone_file_that_cannot_be_placed_fails_and_leaves_nothing),
		SCENE_TEST(who_shares_a_batch_with_it_is_stored),
		SCENE_TEST(a_journal_that_fails_leaves_no_file),
		SCENE_TEST(a_lone_file_for_which_the_journal_has_no_room_is_stored),
		SCENE_TEST(a_file_for_which_neither_has_room_fails),
		SCENE_TEST(a_file_takes_its_room_of_what_its_request_was_promised),
		SCENE_TEST(without_attributes_small_files_go_through_writers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
