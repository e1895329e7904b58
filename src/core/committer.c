/*
 * The group committer: uploads that end together get their names together and their rows in one transaction.
 *
 * Two steps, one behind the other, each with threads of its own: while the registrar waits for the database, publishers name the
 * next ones; each takes whatever has gathered before it. One registrar: two were no faster. I1: every byte is durable when it comes here (upload_seal), its name is durable before its row
 * is sent. I2: a crash between leaves names without rows, which the sweep removes after the grace. A request's files all come to
 * be, or none. Thread: upload_commit() on any, publish_batch() and register_batch() on the two.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/work/batcher.h"

#include "upload_private.h"

enum {
	BATCH_MAX = 256, /* requests in one transaction */
	/*
	 * How many batches may wait for their directories' sync at once. The file system's journal gathers these once more, so
	 * whoever comes while one waits joins the journal's next commit instead of the one after. Measured at 64 uploads at once:
	 * 4 give half as many again as 1, 8 and 16 less than 4.
	 */
	PUBLISHERS = 4,
	QUEUE_MAX = 16384, /* requests that may wait: more than there are connections */
};

static void commit_fail(struct upload_commit *commit, const struct err *err)
{
	commit->result = -1;
	commit->err = *err;
}

static void remove_bytes(struct core *core, struct upload_commit *commit)
{
	struct err ignored; /* what cannot be removed now is an orphan: the sweep's */
	for (size_t k = 0; k < commit->n; k++)
		blob_remove(core->blobs, &commit->uploads[k]->id, &ignored);
}

/* --- who is being committed --- */

static void enter(struct core *core, struct upload *upload)
{
	pthread_mutex_lock(&core->committing_lock);
	upload->prev_committing = NULL;
	upload->next_committing = core->committing;
	if (core->committing)
		core->committing->prev_committing = upload;
	core->committing = upload;
	pthread_mutex_unlock(&core->committing_lock);
}

static void leave(struct core *core, struct upload *upload)
{
	pthread_mutex_lock(&core->committing_lock);
	if (upload->prev_committing)
		upload->prev_committing->next_committing = upload->next_committing;
	else
		core->committing = upload->next_committing;
	if (upload->next_committing)
		upload->next_committing->prev_committing = upload->prev_committing;
	pthread_mutex_unlock(&core->committing_lock);
}

size_t committer_spare(struct core *core, struct uuid *ids, size_t n)
{
	pthread_mutex_lock(&core->committing_lock);
	for (const struct upload *upload = core->committing; upload;
	     upload = upload->next_committing)
		for (size_t i = 0; i < n; i++)
			if (uuid_compare(&ids[i], &upload->id) == 0)
				ids[i--] = ids[--n];
	pthread_mutex_unlock(&core->committing_lock);
	return n;
}

/* Gives the request its answer; it may be gone when this returns. */
static void finish(struct core *core, struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		if (commit->result == 0) {
			upload_move(upload, UPLOAD_REGISTERED);
			cache_put(core->cache, upload->record, NULL, upload->ticket);
			commit->records[k] = file_record_ref(upload->record);
		} else {
			upload_move(upload, UPLOAD_FAILED);
		}
		leave(core, upload);
		upload_free(&commit->uploads[k]);
	}
	commit->done(commit);
}

static size_t count_files(struct batch_item **items, size_t n)
{
	size_t files = 0;
	for (size_t i = 0; i < n; i++)
		files += ((struct upload_commit *)items[i])->n;
	return files;
}

/* Nothing could be done for lack of memory. */
static void finish_all(struct core *core, struct batch_item **items, size_t n)
{
	struct err err;
	err_set(&err, ERR_NO_MEMORY, "committing %zu uploads", n);
	for (size_t i = 0; i < n; i++) {
		commit_fail((struct upload_commit *)items[i], &err);
		remove_bytes(core, (struct upload_commit *)items[i]);
		finish(core, (struct upload_commit *)items[i]);
	}
}

/* --- names --- */

/* What a publication came to: on to the registrar, or the answer. */
static void published(struct core *core, struct upload_commit *commit,
		      const struct blob_publication *publication)
{
	/* The writers were the publication's; where it failed they are the uploads' again. */
	for (size_t k = 0; k < commit->n; k++)
		commit->uploads[k]->writer = publication->writers[k];
	if (publication->result == 0) {
		if (batcher_submit(core->registrar, &commit->item) == 0)
			return;
		commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
		remove_bytes(core, commit);
	} else {
		commit_fail(commit, &publication->err);
		if (publication->err.kind == ERR_IO)
			health_note_io_failure(core, &publication->err);
	}
	finish(core, commit);
}

static void publish_batch(void *context, struct batch_item **items, size_t n)
{
	struct core *core = context;
	struct blob_publication *publications = calloc(n, sizeof(*publications));
	struct blob_writer **writers = calloc(count_files(items, n), sizeof(struct blob_writer *));
	if (!publications || !writers) {
		finish_all(core, items, n);
		goto out;
	}
	struct blob_writer **at = writers;
	for (size_t i = 0; i < n; i++) {
		struct upload_commit *commit = (struct upload_commit *)items[i];
		publications[i] = (struct blob_publication){.writers = at, .n = commit->n};
		for (size_t k = 0; k < commit->n; k++)
			*at++ = commit->uploads[k]->writer;
	}
	blob_publish(core->blobs, publications, n);
	for (size_t i = 0; i < n; i++)
		published(core, (struct upload_commit *)items[i], &publications[i]);
out:
	free(publications);
	free(writers);
}

/* --- rows --- */

/* 1 all of the request's rows are there, 0 not all, -1 it cannot be known now. */
static int look_up(struct core *core, const struct upload_commit *commit)
{
	struct uuid ids[64];
	bool present[64];
	struct err ignored;
	for (size_t from = 0; from < commit->n; from += 64) {
		size_t n = commit->n - from < 64 ? commit->n - from : 64;
		for (size_t k = 0; k < n; k++)
			ids[k] = commit->uploads[from + k]->id;
		if (metadata_present(core->metadata, ids, n, present, &ignored) < 0)
			return -1;
		for (size_t k = 0; k < n; k++)
			if (!present[k])
				return 0;
	}
	return 1;
}

/*
 * What one registration came to. After a COMMIT whose answer was lost rows that are not there may still come: the bytes stay,
 * and if no row leads to them they are the sweep's (I2).
 */
static void conclude(struct core *core, struct upload_commit *commit,
		     const struct registration *registration)
{
	if (registration->result == 0)
		return;
	if (registration->err.kind != ERR_UNKNOWN_OUTCOME) {
		commit_fail(commit, &registration->err);
		remove_bytes(core, commit);
		return;
	}
	if (look_up(core, commit) == 1)
		return;
	err_set(&commit->err, ERR_UNAVAILABLE,
		"the database did not say whether the file was registered");
	commit->result = -1;
}

static void register_batch(void *context, struct batch_item **items, size_t n)
{
	struct core *core = context;
	struct err err;
	_Static_assert(offsetof(struct upload_commit, item) == 0, "items are commits");
	struct registration *registrations = calloc(n, sizeof(*registrations));
	struct file_record **records = calloc(count_files(items, n), sizeof(struct file_record *));
	metric_add(core->commit_batches, 1);
	metric_add(core->commit_requests, (int64_t)n);
	if (!registrations || !records) {
		finish_all(core, items, n);
		goto out;
	}
	struct file_record **at = records;
	for (size_t i = 0; i < n; i++) {
		const struct upload_commit *commit = (struct upload_commit *)items[i];
		registrations[i] = (struct registration){
			.files = at, .n = commit->n, .idempotency = commit->idempotency};
		for (size_t k = 0; k < commit->n; k++) {
			struct upload *upload = commit->uploads[k];
			upload->ticket = cache_ticket(core->cache, &upload->id);
			*at++ = upload->record;
		}
	}
	/* -1 says the same of all, and each registration has it. */
	(void)metadata_register(core->metadata, registrations, n, &err);
	for (size_t i = 0; i < n; i++) {
		conclude(core, (struct upload_commit *)items[i], &registrations[i]);
		finish(core, (struct upload_commit *)items[i]);
	}
out:
	free(registrations);
	free(records);
}

void upload_commit(struct core *core, struct upload_commit *commit)
{
	assert(commit->n > 0);
	commit->result = 0;
	err_clear(&commit->err);
	for (size_t k = 0; k < commit->n; k++) {
		upload_move(commit->uploads[k], UPLOAD_COMMITTING);
		enter(core, commit->uploads[k]);
	}
	if (batcher_submit(core->publisher, &commit->item) == 0)
		return;
	commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
	finish(core, commit);
}

int committer_start(struct core *core, struct err *err)
{
	if (batcher_new("registrar", 1, BATCH_MAX, QUEUE_MAX, register_batch, core,
			&core->registrar, err) < 0)
		return -1;
	return batcher_new("publisher", PUBLISHERS, BATCH_MAX, QUEUE_MAX, publish_batch, core,
			   &core->publisher, err);
}

void committer_stop(struct core *core)
{
	batcher_free(
		&core->publisher); /* in the order of the work: what it has goes to the other */
	batcher_free(&core->registrar);
}
