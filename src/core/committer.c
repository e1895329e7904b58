/*
 * The group committer: uploads that end together get their names together and their rows in one transaction.
 *
 * I1: every byte is durable when it comes here (upload_seal), names are durable before the rows are sent. I2: a crash between
 * leaves names without rows, which the sweep removes after the grace. A request's files all come to be, or none.
 * Thread: commit_batch() on the committer's own; upload_commit() on any.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/work/batcher.h"

#include "upload_private.h"

enum {
	BATCH_MAX = 256,   /* requests in one transaction */
	QUEUE_MAX = 16384, /* requests that may wait: more than there are connections */
};

struct batch {
	struct core *core;
	struct upload_commit **commits;
	size_t n;                              /* commits */
	size_t files;                          /* of all of them */
	struct blob_publication *publications; /* n */
	struct registration *registrations;    /* n; those of failed publications are left out */
	struct upload_commit **registering;    /* whose registration the k-th is */
	size_t registered;
	struct blob_writer **writers; /* files */
	struct file_record **records; /* files */
};

static bool batch_init(struct batch *batch, struct core *core, struct batch_item **items, size_t n)
{
	*batch = (struct batch){.core = core, .commits = (struct upload_commit **)items, .n = n};
	for (size_t i = 0; i < n; i++)
		batch->files += batch->commits[i]->n;
	batch->publications = calloc(n, sizeof(*batch->publications));
	batch->registrations = calloc(n, sizeof(*batch->registrations));
	batch->registering = calloc(n, sizeof(struct upload_commit *));
	batch->writers = calloc(batch->files, sizeof(struct blob_writer *));
	batch->records = calloc(batch->files, sizeof(struct file_record *));
	return batch->publications && batch->registrations && batch->registering &&
	       batch->writers && batch->records;
}

static void batch_release(struct batch *batch)
{
	free(batch->publications);
	free(batch->registrations);
	free(batch->registering);
	free(batch->writers);
	free(batch->records);
}

static void commit_fail(struct upload_commit *commit, const struct err *err)
{
	commit->result = -1;
	commit->err = *err;
}

/* Names for all; the writers are the publications' from here and the uploads' again where they failed. */
static void publish(struct batch *batch)
{
	struct blob_writer **at = batch->writers;
	for (size_t i = 0; i < batch->n; i++) {
		struct upload_commit *commit = batch->commits[i];
		batch->publications[i] = (struct blob_publication){.writers = at, .n = commit->n};
		for (size_t k = 0; k < commit->n; k++)
			*at++ = commit->uploads[k]->writer;
	}
	blob_publish(batch->core->blobs, batch->publications, batch->n);
	for (size_t i = 0; i < batch->n; i++) {
		struct blob_publication *publication = &batch->publications[i];
		for (size_t k = 0; k < publication->n; k++)
			batch->commits[i]->uploads[k]->writer = publication->writers[k];
		if (publication->result == 0)
			continue;
		commit_fail(batch->commits[i], &publication->err);
		if (publication->err.kind == ERR_IO)
			health_note_io_failure(batch->core, &publication->err);
	}
}

static void remove_bytes(struct core *core, struct upload_commit *commit)
{
	struct err ignored; /* what cannot be removed now is an orphan: the sweep's */
	for (size_t k = 0; k < commit->n; k++)
		blob_remove(core->blobs, &commit->uploads[k]->id, &ignored);
}

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

static void register_rows(struct batch *batch)
{
	struct core *core = batch->core;
	struct file_record **at = batch->records;
	struct err err;
	size_t n = 0;
	for (size_t i = 0; i < batch->n; i++) {
		struct upload_commit *commit = batch->commits[i];
		if (commit->result < 0)
			continue;
		batch->registering[n] = commit;
		batch->registrations[n++] = (struct registration){.files = at, .n = commit->n};
		for (size_t k = 0; k < commit->n; k++) {
			struct upload *upload = commit->uploads[k];
			upload->ticket = cache_ticket(core->cache, &upload->id);
			*at++ = upload->record;
		}
	}
	batch->registered = n;
	if (n == 0)
		return;
	/* -1 says the same of all, and each registration has it. */
	(void)metadata_register(core->metadata, batch->registrations, n, &err);
	for (size_t k = 0; k < n; k++)
		conclude(core, batch->registering[k], &batch->registrations[k]);
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
		upload_free(&commit->uploads[k]);
	}
	commit->done(commit);
}

static void commit_batch(void *context, struct batch_item **items, size_t n)
{
	struct core *core = context;
	struct batch batch;
	_Static_assert(offsetof(struct upload_commit, item) == 0, "items are commits");
	metric_add(core->commit_batches, 1);
	metric_add(core->commit_requests, (int64_t)n);
	if (batch_init(&batch, core, items, n)) {
		pthread_mutex_lock(&core->registering);
		publish(&batch);
		register_rows(&batch);
		pthread_mutex_unlock(&core->registering);
	} else {
		struct err err;
		err_set(&err, ERR_NO_MEMORY, "committing %zu uploads", n);
		for (size_t i = 0; i < n; i++)
			commit_fail(batch.commits[i], &err);
	}
	batch_release(&batch);
	for (size_t i = 0; i < n; i++)
		finish(core, (struct upload_commit *)items[i]);
}

void upload_commit(struct core *core, struct upload_commit *commit)
{
	assert(commit->n > 0);
	commit->result = 0;
	err_clear(&commit->err);
	for (size_t k = 0; k < commit->n; k++)
		upload_move(commit->uploads[k], UPLOAD_COMMITTING);
	if (batcher_submit(core->committer, &commit->item) == 0)
		return;
	commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
	finish(core, commit);
}

int committer_start(struct core *core, struct err *err)
{
	return batcher_new("committer", BATCH_MAX, QUEUE_MAX, commit_batch, core, &core->committer,
			   err);
}
