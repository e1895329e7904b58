/*
 * The checkpoint: makes the small files durable that so far only the journal holds, and begins the journal anew.
 *
 * Invariants: nothing leaves the journal before its files were synced by a call that said so, or written again and synced one
 * by one; what waits for the database is written into the new journal before the old one goes. Threads: the checkpoint's own,
 * that of the segments, and whoever starts or stops core.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "depotd/base/clock.h"

#include "unconfirmed_private.h"

#define SECOND_NS INT64_C(1000000000)

/*
 * A checkpoint writes beside the uploads what they wait for the disk to write, and the more files it takes at once the less each
 * costs. So it waits for a pause, though not for ever.
 */
enum { AGE_SECONDS = 5, PAUSE_SECONDS = 1, AGE_MAX_SECONDS = 30, RETRY_SECONDS = 5 };

int intake_newest_description(struct core *core, const struct file_record *journaled,
			      const struct journal_record *record, struct buf *out, struct err *err)
{
	struct file_record *newer = NULL;
	struct err why;
	buf_init(out, BLOB_DESCRIPTION_MAX);
	if (maintenance_described(core->blobs, &journaled->id, &newer, &why) == 1 &&
	    newer->revision > journaled->revision)
		file_record_describe(newer, out);
	else
		buf_append(out, record->head, record->head_len);
	file_record_unref(&newer);
	return out->failed ? err_set(err, ERR_NO_MEMORY, "a file of the journal") : 0;
}

struct write_again {
	struct core *core;
	struct err *err;
};

/*
 * After a sync that failed nobody knows which files are on the disk, and asking again proves nothing: each file of the journal
 * that is still there is made anew from it.
 */
static int write_again(void *context, const struct journal_record *record)
{
	struct core *core = ((struct write_again *)context)->core;
	struct err *err = ((struct write_again *)context)->err;
	struct file_record *journaled = NULL;
	struct buf text;
	struct err why;
	if (record->kind != INTAKE_FILE ||
	    file_record_from_description(record->head, record->head_len, &journaled, &why) != 1)
		return 0;
	pthread_mutex_t *lock = &core->describing[journaled->id.bytes[15] % DESCRIBE_STRIPES];
	pthread_mutex_lock(lock);
	struct blob_reader *reader = NULL;
	int rc = blob_open(core->blobs, &journaled->id, &reader, err);
	blob_reader_free(&reader);
	if (rc == 1) { /* 0: it was removed */
		rc = intake_newest_description(core, journaled, record, &text, err);
		if (rc == 0)
			rc = blob_restore(core->blobs, &journaled->id, record->body,
					  record->body_len, text.data, text.len, err);
		buf_release(&text);
	}
	pthread_mutex_unlock(lock);
	file_record_unref(&journaled);
	return rc < 0 ? -1 : 0;
}

int intake_write_again(struct core *core, uint64_t before, struct err *err)
{
	struct write_again context = {core, err};
	struct journal_replay_summary summary;
	return journal_replay(core->intake->journal, before, write_again, &context, &summary, err);
}

static int sync_files(struct core *core, uint64_t mark, struct err *err)
{
	if (blob_sync(core->blobs, err) == 0)
		return 0;
	health_note_io_failure(core, err);
	return intake_write_again(core, mark, err);
}

static int checkpoint(struct core *core, struct err *err)
{
	struct intake *intake = core->intake;
	pthread_mutex_lock(&intake->lock);
	bool nothing = intake->live_since == 0;
	intake->live_since = 0;
	intake->urgent = false;
	pthread_mutex_unlock(&intake->lock);
	if (nothing)
		return 0;
	uint64_t mark = journal_rotate(intake->journal);
	atomic_fetch_add(&intake->turn, 1);
	int rc = sync_files(core, mark, err);
	/* Who wrote down below the mark that files are pending has them in the table when he lets go. */
	pthread_mutex_lock(&intake->turning);
	pthread_mutex_unlock(&intake->turning);
	if (rc == 0)
		rc = unconfirmed_clear(core, err);
	if (rc == 0)
		rc = pending_carry_over(core, err);
	if (rc == 0)
		rc = journal_drop(intake->journal, mark, err);
	if (rc < 0 && err->kind == ERR_IO)
		health_note_io_failure(core, err);
	metric_add(rc == 0 ? intake->checkpoints : intake->checkpoint_failures, 1);
	metric_set(intake->live_bytes, journal_live_bytes(intake->journal));
	if (rc < 0) {
		pthread_mutex_lock(&intake->lock);
		if (intake->live_since == 0)
			intake->live_since = clock_monotonic_ns();
		pthread_mutex_unlock(&intake->lock);
	}
	return rc;
}

int intake_checkpoint(struct core *core, struct err *err)
{
	pthread_mutex_lock(&core->intake->checkpointing);
	int rc = checkpoint(core, err);
	pthread_mutex_unlock(&core->intake->checkpointing);
	return rc;
}

/* Until there is something to do: a second, or less where it is urgent. True: stop. Under the lock. */
static bool wait_locked(struct intake *intake, int64_t until_ns)
{
	struct timespec until = {.tv_sec = until_ns / SECOND_NS, .tv_nsec = until_ns % SECOND_NS};
	while (!intake->stopping && !intake->urgent &&
	       pthread_cond_timedwait(&intake->wake, &intake->lock, &until) != ETIMEDOUT)
		;
	return intake->stopping;
}

static bool is_due_locked(const struct intake *intake, int64_t now)
{
	int64_t age = now - intake->live_since;
	if (intake->live_since == 0)
		return false;
	return intake->urgent || age > AGE_MAX_SECONDS * SECOND_NS ||
	       (age > AGE_SECONDS * SECOND_NS &&
		now - intake->live_last > PAUSE_SECONDS * SECOND_NS);
}

static void *checkpoint_thread(void *context)
{
	struct core *core = context;
	struct intake *intake = core->intake;
	int64_t not_before = 0;
	bool marks_before = false;
	struct err err;
	pthread_mutex_lock(&intake->lock);
	while (!wait_locked(intake, clock_monotonic_ns() + SECOND_NS)) {
		int64_t now = clock_monotonic_ns();
		bool due = is_due_locked(intake, now);
		bool marks = intake->marks.len > 0;
		if (now < not_before)
			due = intake->urgent = false;
		pthread_mutex_unlock(&intake->lock);
		if (due && intake_checkpoint(core, &err) < 0)
			not_before = clock_monotonic_ns() + RETRY_SECONDS * SECOND_NS;
		/* Marks that no upload took along for a second go by themselves. */
		else if (!due && marks && marks_before)
			(void)intake_flush(core, &err);
		marks_before = marks;
		pthread_mutex_lock(&intake->lock);
	}
	pthread_mutex_unlock(&intake->lock);
	return NULL;
}

/* Makes segments before they are needed, until the journal has as many as it may. */
static void *maker_thread(void *context)
{
	struct core *core = context;
	struct intake *intake = core->intake;
	struct err ignored; /* an append that finds no segment tries by itself, and says so */
	pthread_mutex_lock(&intake->lock);
	while (!intake->stopping) {
		if (!intake->prepare) {
			pthread_cond_wait(&intake->wake_maker, &intake->lock);
			continue;
		}
		pthread_mutex_unlock(&intake->lock);
		int rc = journal_prepare(intake->journal, SEGMENTS_AHEAD, &ignored);
		int64_t until_ns = clock_monotonic_ns() + RETRY_SECONDS * SECOND_NS;
		struct timespec until = {.tv_sec = until_ns / SECOND_NS,
					 .tv_nsec = until_ns % SECOND_NS};
		pthread_mutex_lock(&intake->lock);
		while (rc < 0 && !intake->stopping &&
		       pthread_cond_timedwait(&intake->wake_maker, &intake->lock, &until) !=
			       ETIMEDOUT)
			;
		intake->prepare = false; /* the next append looks again */
	}
	pthread_mutex_unlock(&intake->lock);
	return NULL;
}

static int start_thread(struct core *core, pthread_t *thread, const char *name,
			void *(*run)(void *), struct err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(thread, NULL, run, core);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the %s", name);
	}
	pthread_setname_np(*thread, name);
	return 0;
}

int checkpoint_start(struct core *core, struct err *err)
{
	struct intake *intake = core->intake;
	if (start_thread(core, &intake->thread, "checkpoint", checkpoint_thread, err) < 0)
		return -1;
	intake->running = true;
	if (start_thread(core, &intake->maker, "segments", maker_thread, err) < 0)
		return -1;
	intake->making = true;
	return 0;
}

void intake_stop(struct core *core)
{
	struct intake *intake = core->intake;
	struct err ignored; /* what could not be made durable stays in the journal */
	if (!intake)
		return;
	if (intake->running) {
		pthread_mutex_lock(&intake->lock);
		intake->stopping = true;
		pthread_cond_signal(&intake->wake);
		pthread_cond_signal(&intake->wake_maker);
		pthread_mutex_unlock(&intake->lock);
		pthread_join(intake->thread, NULL);
		if (intake->making)
			pthread_join(intake->maker, NULL);
		(void)intake_checkpoint(core, &ignored);
	}
	journal_close(&intake->journal);
	buf_release(&intake->marks);
	buf_release(&intake->written);
	pthread_cond_destroy(&intake->wake_maker);
	pthread_cond_destroy(&intake->wake);
	pthread_mutex_destroy(&intake->turning);
	pthread_mutex_destroy(&intake->checkpointing);
	pthread_mutex_destroy(&intake->removing);
	pthread_mutex_destroy(&intake->appending);
	pthread_mutex_destroy(&intake->lock);
	free(intake);
	core->intake = NULL;
}
