/*
 * The checkpoint: makes the small files durable that so far only the journal holds, and begins the journal anew.
 *
 * Invariants: nothing leaves the journal before its files were synced by a call that said so, or written again and synced one by one;
 * what waits for the database is written into the new journal before the old one goes. Thread: the checkpoint's own, and whoever
 * starts or stops core.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "depotd/base/clock.h"

#include "unconfirmed_private.h"

#define SECOND_NS INT64_C(1000000000)

enum { AGE_SECONDS = 5, RETRY_SECONDS = 5 };

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
	pthread_mutex_lock(&intake->turning);
	uint64_t mark = journal_rotate(intake->journal);
	atomic_fetch_add(&intake->turn, 1);
	pthread_mutex_unlock(&intake->turning);
	int rc = sync_files(core, mark, err);
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
	while (!intake->stopping && !intake->urgent && !intake->prepare &&
	       pthread_cond_timedwait(&intake->wake, &intake->lock, &until) != ETIMEDOUT)
		;
	return intake->stopping;
}

static void *checkpoint_thread(void *context)
{
	struct core *core = context;
	struct intake *intake = core->intake;
	int64_t not_before = 0, no_segments_before = 0;
	bool marks_before = false;
	struct err err;
	pthread_mutex_lock(&intake->lock);
	while (!wait_locked(intake, clock_monotonic_ns() + SECOND_NS)) {
		int64_t now = clock_monotonic_ns();
		bool due = intake->live_since != 0 &&
			   (intake->urgent || now - intake->live_since > AGE_SECONDS * SECOND_NS);
		bool marks = intake->marks.len > 0;
		if (now < not_before)
			due = intake->urgent = false;
		bool urgent = intake->urgent, prepare = intake->prepare;
		intake->prepare = false;
		pthread_mutex_unlock(&intake->lock);
		if ((prepare || urgent) && now >= no_segments_before &&
		    journal_prepare(intake->journal,
				    urgent ? SEGMENTS_FOR_CHECKPOINT : SEGMENTS_AHEAD, &err) < 0)
			no_segments_before = clock_monotonic_ns() + RETRY_SECONDS * SECOND_NS;
		if (due && intake_checkpoint(core, &err) < 0)
			not_before = clock_monotonic_ns() + RETRY_SECONDS * SECOND_NS;
		/* Marks that no upload took along for a second go by themselves. */
		else if (!due && marks && marks_before)
			(void)intake_flush(core, &err);
		marks_before = marks && !prepare;
		pthread_mutex_lock(&intake->lock);
	}
	pthread_mutex_unlock(&intake->lock);
	return NULL;
}

int checkpoint_start(struct core *core, struct err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&core->intake->thread, NULL, checkpoint_thread, core);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the checkpoint");
	}
	pthread_setname_np(core->intake->thread, "checkpoint");
	core->intake->running = true;
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
		pthread_mutex_unlock(&intake->lock);
		pthread_join(intake->thread, NULL);
		(void)intake_checkpoint(core, &ignored);
	}
	journal_close(&intake->journal);
	buf_release(&intake->marks);
	buf_release(&intake->written);
	pthread_cond_destroy(&intake->wake);
	pthread_mutex_destroy(&intake->turning);
	pthread_mutex_destroy(&intake->checkpointing);
	pthread_mutex_destroy(&intake->removing);
	pthread_mutex_destroy(&intake->appending);
	pthread_mutex_destroy(&intake->lock);
	free(intake);
	core->intake = NULL;
}
