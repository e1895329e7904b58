/*
 * The group committer: uploads that end together become durable together, and get their rows in one transaction.
 *
 * Small ones get their names, unsynced, from who brings them; one sync of the journal makes all of a batch durable. Large ones
 * are durable and have no names; publishers give them theirs first. Then the rows are written and all are answered. Journal and
 * database are two desks, one behind the other: while one batch is with the database the next is being journaled. Whoever
 * brings a request to a desk that nobody minds minds it, until no request waits there: a lone upload is handed to nobody, a
 * crowd has one at each desk. I1: no row is committed whose file is not there and durable. I2: a crash between leaves names
 * without rows; what the journal knows of them gets its rows at the next start, the rest is the sweep's. A request's files
 * all come to be, or none. What the journal has the database need not have written out yet (unconfirmed.c). While the
 * database is away the journal is the spool (pending.c). Thread: upload_commit() on any, publish_batch() on the publishers';
 * each desk is one thread's at a time.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/work/batcher.h"

#include "committer_private.h"

enum {
	/*
	 * So few requests have the journal's and the database's time at once, where both are free; more are faster served one batch
	 * behind the other.
	 */
	HEAD_START_MAX = 4,
	/*
	 * How many batches may wait for their directories' sync at once. The file system's journal gathers these once more, so
	 * whoever comes while one waits joins the journal's next commit instead of the one after. Measured at 64 uploads at once:
	 * 4 give half as many again as 1, 8 and 16 less than 4.
	 */
	PUBLISHERS = 4,
	QUEUE_MAX = 16384, /* requests that may wait: more than there are connections */
};

void commit_fail(struct upload_commit *commit, const struct err *err)
{
	commit->result = -1;
	commit->err = *err;
}

static void finish_stored(struct core *core, struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		upload_move(upload, UPLOAD_REGISTERED);
		if (!commit->deferred)
			intake_mark(core, &upload->id, MARK_REGISTERED);
		cache_put(core->cache, upload->record, NULL, upload->ticket);
		commit->records[k] = file_record_ref(upload->record);
	}
}

/* The records are there: see put_off(). */
static void finish_pending(struct core *core, struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		upload_move(upload, UPLOAD_PENDING);
		cache_put(core->cache, commit->records[k], NULL, upload->ticket);
	}
}

static void finish_failed(struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		upload_move(upload, UPLOAD_FAILED);
		file_record_unref(&commit->records[k]);
	}
}

void commit_finish(struct core *core, struct upload_commit *commit)
{
	if (commit->result < 0)
		finish_failed(commit);
	else if (commit->records[0])
		finish_pending(core, commit);
	else
		finish_stored(core, commit);
	for (size_t k = 0; k < commit->n; k++)
		upload_free(&commit->uploads[k]);
	commit->done(commit);
}

void commits_finish_all(struct core *core, struct upload_commit **commits, size_t n)
{
	struct err err;
	err_set(&err, ERR_NO_MEMORY, "committing %zu uploads", n);
	for (size_t i = 0; i < n; i++) {
		commit_fail(commits[i], &err);
		commit_finish(core, commits[i]);
	}
}

static bool committer_submit(struct core *core, struct batch_item *item);

/* --- names --- */

/* What a publication came to: on to the committer, or the answer. */
static void published(struct core *core, struct upload_commit *commit,
		      const struct blob_publication *publication)
{
	/* The writers were the publication's; where it failed they are the uploads' again. */
	size_t at = 0;
	for (size_t k = 0; k < commit->n; k++) {
		if (!commit->uploads[k]->writer)
			continue;
		commit->uploads[k]->writer = publication->writers[at++];
		commit->uploads[k]->named =
			commit->uploads[k]->named || !commit->uploads[k]->writer;
	}
	if (publication->result == 0) {
		if (committer_submit(core, &commit->item))
			return;
		commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
	} else {
		commit_fail(commit, &publication->err);
		if (publication->err.kind == ERR_IO)
			health_note_io_failure(core, &publication->err);
	}
	commit_finish(core, commit);
}

static void publish_batch(void *context, struct batch_item **items, size_t n)
{
	struct core *core = context;
	struct blob_publication *publications = calloc(n, sizeof(*publications));
	size_t files = 0;
	for (size_t i = 0; i < n; i++)
		files += ((struct upload_commit *)items[i])->n;
	struct blob_writer **writers = calloc(files, sizeof(struct blob_writer *));
	if (!publications || !writers) {
		for (size_t i = 0; i < n; i++) {
			struct upload_commit *commit = (struct upload_commit *)items[i];
			commits_finish_all(core, &commit, 1);
		}
		goto out;
	}
	struct blob_writer **at = writers;
	for (size_t i = 0; i < n; i++) {
		struct upload_commit *commit = (struct upload_commit *)items[i];
		publications[i] = (struct blob_publication){.writers = at};
		for (size_t k = 0; k < commit->n; k++)
			if (commit->uploads[k]->writer)
				*at++ = commit->uploads[k]->writer;
		publications[i].n = (size_t)(at - publications[i].writers);
	}
	blob_publish(core->blobs, publications, n);
	for (size_t i = 0; i < n; i++)
		published(core, (struct upload_commit *)items[i], &publications[i]);
out:
	free(publications);
	free(writers);
}

/* --- the desks; under the lock where it says so --- */

static void put_locked(struct desk *desk, struct batch_item *item)
{
	item->next = NULL;
	if (desk->head)
		desk->tail->next = item;
	else
		desk->head = item;
	desk->tail = item;
	desk->depth++;
}

/* What a request has for the journal. */
static size_t journal_bytes(const struct upload_commit *commit)
{
	size_t bytes = 0;
	for (size_t k = 0; k < commit->n; k++)
		if (commit->uploads[k]->small)
			bytes += (size_t)commit->uploads[k]->size +
				 commit->uploads[k]->description.len;
	return bytes;
}

/*
 * Takes what waits into the desk's commits, as long as it has no more than so many bytes for the journal; 0, and nobody minds
 * the desk any more, where nothing waits.
 */
static size_t take_locked(struct desk *desk, size_t most)
{
	_Static_assert(offsetof(struct upload_commit, item) == 0, "items are commits");
	size_t n = 0, bytes = 0;
	while (desk->head && n < BATCH_MAX) {
		struct upload_commit *commit = (struct upload_commit *)desk->head;
		bytes += journal_bytes(commit);
		if (n > 0 && bytes > most)
			break;
		desk->commits[n++] = commit;
		desk->head = desk->head->next;
	}
	desk->depth -= n;
	desk->minded = n > 0;
	return n;
}

/* Works at the database's desk, which the caller has, until nothing waits there. */
static void mind_database(struct core *core)
{
	struct committer *committer = core->committer;
	size_t n;
	pthread_mutex_lock(&committer->lock);
	while ((n = take_locked(&committer->database, SIZE_MAX)) > 0) {
		pthread_mutex_unlock(&committer->lock);
		rows_write(core, committer->database.commits, n, (struct registering){0});
		pthread_mutex_lock(&committer->lock);
	}
	pthread_mutex_unlock(&committer->lock);
}

/*
 * Both desks are the caller's, with one batch of n in his hands that is at the journal's: the database begins with its rows while
 * the journal is synced. The journal's desk is free after that, the database's in the end.
 */
static void mind_both(struct core *core, size_t n)
{
	struct committer *committer = core->committer;
	struct upload_commit **commits = committer->database.commits;
	struct registering registering = {0};
	memcpy(commits, committer->journal.commits, n * sizeof(*commits));
	size_t left = journal_batch(core, commits, n, &registering);
	if (left < n)
		rows_abandon(core, &registering);
	pthread_mutex_lock(&committer->lock);
	committer->journal.minded = false;
	pthread_mutex_unlock(&committer->lock);
	if (left > 0)
		rows_write(core, commits, left, registering);
	mind_database(core);
}

/* Journals the batch of n, and hands what is left of it to the database's desk. True: that one is the caller's from now on. */
static bool pass_on(struct core *core, size_t n)
{
	struct committer *committer = core->committer;
	n = journal_batch(core, committer->journal.commits, n, NULL);
	pthread_mutex_lock(&committer->lock);
	for (size_t i = 0; i < n; i++)
		put_locked(&committer->database, &committer->journal.commits[i]->item);
	bool mind = n > 0 && !committer->database.minded;
	if (mind) {
		committer->database.minded = true;
		committer->journal.minded = false;
	}
	pthread_mutex_unlock(&committer->lock);
	return mind;
}

/*
 * Works at the journal's desk, which the caller has. Who finds the database's desk empty goes there with his batch, and looks
 * back when he is done: whoever brings a request meanwhile has the journal's.
 */
static void mind_journal(struct core *core)
{
	struct committer *committer = core->committer;
	size_t n;
	pthread_mutex_lock(&committer->lock);
	while ((n = take_locked(&committer->journal, core->intake->batch_bytes)) > 0) {
		bool both = n <= HEAD_START_MAX && !committer->database.minded, left = both;
		committer->database.minded = committer->database.minded || both;
		pthread_mutex_unlock(&committer->lock);
		if (both)
			mind_both(core, n);
		else if ((left = pass_on(core, n)))
			mind_database(core);
		pthread_mutex_lock(&committer->lock);
		if (left && committer->journal.minded)
			break;
		committer->journal.minded = true;
	}
	pthread_mutex_unlock(&committer->lock);
}

/* False: too many wait. Else the request will be answered, maybe by this very call, together with others'. */
static bool committer_submit(struct core *core, struct batch_item *item)
{
	struct committer *committer = core->committer;
	pthread_mutex_lock(&committer->lock);
	bool taken = committer->journal.depth < QUEUE_MAX;
	bool mind = taken && !committer->journal.minded;
	if (taken) {
		put_locked(&committer->journal, item);
		committer->journal.minded = true;
	}
	pthread_mutex_unlock(&committer->lock);
	if (mind)
		mind_journal(core);
	return taken;
}

/*
 * Takes the journal's desk with a request whose file is not placed yet: that is done while the disk writes. False: somebody works
 * there, or is about to. If he placed what others bring, one thread would do it for all of a crowd, so they do it themselves before
 * they queue; and so does who brings many files, for whom others would wait.
 */
static bool submit_alone(struct core *core, struct upload_commit *commit)
{
	struct committer *committer = core->committer;
	if (commit->n > 1 || commit->uploads[0]->writer)
		return false;
	pthread_mutex_lock(&committer->lock);
	bool alone = !committer->journal.minded && !committer->journal.head;
	if (alone) {
		put_locked(&committer->journal, &commit->item);
		committer->journal.minded = true;
	}
	pthread_mutex_unlock(&committer->lock);
	if (alone)
		mind_journal(core);
	return alone;
}

size_t committer_depth(struct core *core)
{
	struct committer *committer = core->committer;
	pthread_mutex_lock(&committer->lock);
	size_t depth = committer->journal.depth + committer->database.depth;
	pthread_mutex_unlock(&committer->lock);
	return depth;
}

static bool has_writer(const struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++)
		if (commit->uploads[k]->writer)
			return true;
	return false;
}

void upload_commit(struct core *core, struct upload_commit *commit)
{
	assert(commit->n > 0);
	commit->result = 0;
	commit->journaled = commit->deferred = false;
	err_clear(&commit->err);
	for (size_t k = 0; k < commit->n; k++) {
		commit->records[k] = NULL;
		upload_move(commit->uploads[k], UPLOAD_COMMITTING);
		committer_enter(commit->uploads[k]); /* before there is a name */
	}
	if (submit_alone(core, commit))
		return;
	commit_place(core, commit);
	if (commit->result == 0 &&
	    (has_writer(commit) ? batcher_submit(core->publisher, &commit->item) == 0
				: committer_submit(core, &commit->item)))
		return;
	if (commit->result == 0)
		commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
	commit_finish(core, commit);
}

int committer_start(struct core *core, struct err *err)
{
	core->committer = calloc(1, sizeof(*core->committer));
	if (!core->committer)
		return err_set(err, ERR_NO_MEMORY, "the committer");
	pthread_mutex_init(&core->committer->lock, NULL);
	return batcher_new("publisher", PUBLISHERS, BATCH_MAX, QUEUE_MAX, publish_batch, core,
			   &core->publisher, err);
}

void committer_stop(struct core *core)
{
	batcher_free(&core->publisher); /* what it has, its threads commit */
	if (core->committer)
		pthread_mutex_destroy(&core->committer->lock);
	free(core->committer);
	core->committer = NULL;
}
