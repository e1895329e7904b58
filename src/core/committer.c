/*
 * The group committer: uploads that end together become durable together, and get their rows in one transaction.
 *
 * Small ones stand under their names already, unsynced; one sync of the journal makes all of a batch durable. Large ones are
 * durable and have no names; publishers give them theirs first. Then the rows are written and all are answered. Journal and
 * database are two desks, one behind the other: while one batch is with the database the next is being journaled. Whoever
 * brings a request to a desk that nobody minds minds it, until no request waits there: a lone upload is handed to nobody, a
 * crowd has one at each desk. I1: nothing is sent to the database that is not durable. I2: a crash between leaves names
 * without rows; what the journal knows of them gets its rows at the next start, the rest is the sweep's. A request's files
 * all come to be, or none. What the journal has the database need not have written out yet (unconfirmed.c). While the
 * database is away the journal is the spool (pending.c). Thread: upload_commit() on any, publish_batch() on the publishers';
 * each desk is one thread's at a time.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/metadata/register.h"
#include "depotd/work/batcher.h"

#include "unconfirmed_private.h"

enum {
	BATCH_MAX = 256, /* requests in one transaction */
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

/* Requests that wait, and whose turn it is. */
struct desk {
	struct batch_item *head, *tail;
	size_t depth;
	bool minded; /* somebody has the desk: what stands below is his */
	struct upload_commit *commits[BATCH_MAX], *failed[BATCH_MAX];
};

struct committer {
	pthread_mutex_t lock; /* guards the desks' queues; not held while a batch is worked on */
	struct desk journal, database;
	struct registration registrations[BATCH_MAX]; /* of who has the database's desk */
};

static void commit_fail(struct upload_commit *commit, const struct err *err)
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

/* Gives the request its answer; it may be gone when this returns. */
static void finish(struct core *core, struct upload_commit *commit)
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

/* Nothing could be done for lack of memory. */
static void finish_all(struct core *core, struct upload_commit **commits, size_t n)
{
	struct err err;
	err_set(&err, ERR_NO_MEMORY, "committing %zu uploads", n);
	for (size_t i = 0; i < n; i++) {
		commit_fail(commits[i], &err);
		finish(core, commits[i]);
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
	finish(core, commit);
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
			finish_all(core, &commit, 1);
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

/* --- the journal --- */

/* The long way for small files, each by itself: where the journal has no room. */
static int restore_each(struct core *core, const struct upload_commit *commit, struct err *err)
{
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		if (!upload->small)
			continue;
		if (blob_restore(core->blobs, &upload->id, upload->bytes, (size_t)upload->size,
				 upload->description.data, upload->description.len, err) < 0)
			return -1;
		upload->small = false; /* the journal knows nothing of it */
	}
	return 0;
}

/*
 * These requests have failed, and the journal may have their files: that it does not count is durable before anybody hears of
 * the failure, or a crash would bring back what its client sends again.
 */
static void give_up(struct core *core, struct upload_commit **commits, size_t n)
{
	struct err err;
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < commits[i]->n; k++)
			intake_mark(core, &commits[i]->uploads[k]->id, MARK_DROPPED);
	if (intake_flush(core, &err) < 0 && err.kind == ERR_IO)
		health_note_io_failure(core,
				       &err); /* the marks go with the next append that works */
	for (size_t i = 0; i < n; i++)
		finish(core, commits[i]);
}

/* Makes the small files of the batch durable. What cannot be made so is answered; how many are left, at the front. */
static size_t journal_batch(struct core *core, struct upload_commit **commits, size_t n,
			    const struct journal_meanwhile *meanwhile)
{
	struct upload_commit **failed = core->committer->journal.failed;
	struct err err;
	size_t left = 0, failed_n = 0;
	uint64_t turn = atomic_load(&core->intake->turn);
	for (size_t i = 0; i < n; i++)
		commits[i]->turn = turn;
	if (intake_append(core, commits, n, meanwhile, &err) == 0) {
		for (size_t i = 0; i < n; i++)
			commits[i]->journaled = true;
		return n;
	}
	if (err.kind == ERR_IO)
		health_note_io_failure(core, &err);
	bool no_room = err.kind == ERR_DISK_FULL || err.kind == ERR_BUSY;
	for (size_t i = 0; i < n; i++) {
		if (no_room && restore_each(core, commits[i], &err) == 0) {
			commits[left++] = commits[i];
		} else {
			commit_fail(commits[i], &err);
			failed[failed_n++] = commits[i];
		}
	}
	give_up(core, failed, failed_n);
	return left;
}

/* --- rows --- */

/*
 * Whether the files are to wait for the database instead of failing: it is away, or a COMMIT's answer was lost. Registering is
 * idempotent, so doing it again later settles what became of that COMMIT.
 */
static bool may_wait(const struct err *err)
{
	return err->kind == ERR_UNAVAILABLE || err->kind == ERR_UNKNOWN_OUTCOME ||
	       err->kind == ERR_BUSY;
}

/*
 * The rows of these requests have to wait. That they do is made durable before anybody is told that the files are stored: the
 * record of their bytes may be gone with the next checkpoint.
 */
static void put_off(struct core *core, struct upload_commit **commits, size_t n)
{
	struct err err;
	if (n == 0)
		return;
	if (commits_write_pending(core, commits, n, &err) < 0 && err.kind == ERR_IO)
		health_note_io_failure(core, &err);
	struct upload_commit **failed = core->committer->database.failed;
	size_t failed_n = 0;
	for (size_t i = 0; i < n; i++) {
		struct upload_commit *commit = commits[i];
		if (commit->result == 0) {
			err_clear(&commit->err);
		} else if (commit->err.kind == ERR_UNKNOWN_OUTCOME) {
			/* Rows may come yet, and must find their bytes: without rows they are the sweep's. */
			for (size_t k = 0; k < commit->n; k++)
				commit->uploads[k]->named = false;
			err_set(&commit->err, ERR_UNAVAILABLE,
				"the database did not say whether the file was registered");
		} else {
			failed[failed_n++] = commit;
			continue;
		}
		finish(core, commit);
	}
	give_up(core, failed, failed_n);
}

/* What the database's desk has in hand: a batch's records, and maybe a head start of its registration. */
struct registering {
	struct file_record **records;
	struct metadata_start *start;
};

/* Fills in the registrations of the batch. False: no memory. */
static bool prepare_rows(struct core *core, struct upload_commit **commits, size_t n,
			 struct registering *registering)
{
	struct registration *registrations = core->committer->registrations;
	size_t files = 0;
	for (size_t i = 0; i < n; i++)
		files += commits[i]->n;
	struct file_record **records = calloc(files, sizeof(struct file_record *));
	registering->records = records;
	for (size_t i = 0; records && i < n; i++) {
		const struct upload_commit *commit = commits[i];
		registrations[i] = (struct registration){
			.files = records, .n = commit->n, .idempotency = commit->idempotency};
		for (size_t k = 0; k < commit->n; k++) {
			struct upload *upload = commit->uploads[k];
			upload->ticket = cache_ticket(core->cache, &upload->id);
			*records++ = upload->record;
		}
	}
	return registering->records != NULL;
}

/* What begin_rows() works on. */
struct head_start {
	struct core *core;
	size_t n; /* at the database's desk */
	struct registering registering;
};

/*
 * Has the database write rows while the journal is still being synced: it commits them after. Nothing is lost where it cannot.
 * Begun when the disk is busy, and not before: a server on this machine may have this thread's processor for as long as it takes.
 * Two batches are not begun in this way at the same time, since who begins has both desks.
 */
static void begin_rows(void *context)
{
	struct head_start *head_start = context;
	struct core *core = head_start->core;
	if (prepare_rows(core, core->committer->database.commits, head_start->n,
			 &head_start->registering))
		head_start->registering.start = metadata_register_begin(
			core->metadata, core->committer->registrations, head_start->n);
}

/* The requests are not those that were begun with: some have failed meanwhile. */
static void abandon_rows(struct core *core, struct registering *registering)
{
	if (registering->start)
		metadata_register_abandon(core->metadata, registering->start);
	free(registering->records);
	*registering = (struct registering){0};
}

/* Each registration has what came of it. The database need not write out what the journal has (unconfirmed.c). */
static void write_rows(struct core *core, struct upload_commit **commits, size_t n,
		       struct metadata_start *start)
{
	struct registration *registrations = core->committer->registrations;
	struct unconfirmed_batch *deferred = unconfirmed_begin(core, commits, n);
	enum metadata_commit how = deferred ? METADATA_DEFERRED : METADATA_DURABLE;
	struct err err; /* says the same of all */
	if (start)
		(void)metadata_register_end(core->metadata, start, how, &err);
	else
		(void)metadata_register_as(core->metadata, registrations, n, how, &err);
	if (!deferred)
		return;
	for (size_t i = 0; i < n; i++)
		commits[i]->deferred = registrations[i].result == 0;
	unconfirmed_end(core, deferred, commits, n);
}

static void answer_rows(struct core *core, struct upload_commit **commits, size_t n)
{
	struct upload_commit **failed = core->committer->database.failed;
	size_t waiting = 0, failed_n = 0;
	for (size_t i = 0; i < n; i++) {
		const struct registration *registration = &core->committer->registrations[i];
		if (registration->result == 0) {
			finish(core, commits[i]);
			continue;
		}
		commit_fail(commits[i], &registration->err);
		if (may_wait(&registration->err))
			commits[waiting++] = commits[i];
		else
			failed[failed_n++] = commits[i];
	}
	give_up(core, failed, failed_n);
	put_off(core, commits, waiting);
}

static void database_batch(struct core *core, struct upload_commit **commits, size_t n,
			   struct registering registering)
{
	metric_add(core->commit_batches, 1);
	metric_add(core->commit_requests, (int64_t)n);
	if (registering.records || prepare_rows(core, commits, n, &registering)) {
		write_rows(core, commits, n, registering.start);
		answer_rows(core, commits, n);
	} else {
		finish_all(core, commits, n);
	}
	free(registering.records);
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
		database_batch(core, committer->database.commits, n, (struct registering){0});
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
	struct head_start head_start = {.core = core, .n = n};
	struct journal_meanwhile meanwhile = {begin_rows, &head_start};
	memcpy(commits, committer->journal.commits, n * sizeof(*commits));
	size_t left = journal_batch(core, commits, n, &meanwhile);
	if (left < n)
		abandon_rows(core, &head_start.registering);
	pthread_mutex_lock(&committer->lock);
	committer->journal.minded = false;
	pthread_mutex_unlock(&committer->lock);
	if (left > 0)
		database_batch(core, commits, left, head_start.registering);
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

size_t committer_depth(struct core *core)
{
	struct committer *committer = core->committer;
	pthread_mutex_lock(&committer->lock);
	size_t depth = committer->journal.depth + committer->database.depth;
	pthread_mutex_unlock(&committer->lock);
	return depth;
}

void upload_commit(struct core *core, struct upload_commit *commit)
{
	bool large = false;
	assert(commit->n > 0);
	commit->result = 0;
	commit->journaled = commit->deferred = false;
	err_clear(&commit->err);
	for (size_t k = 0; k < commit->n; k++) {
		struct upload *upload = commit->uploads[k];
		commit->records[k] = NULL;
		upload_move(upload, UPLOAD_COMMITTING);
		committer_enter(upload);
		large = large || upload->writer;
	}
	if (large ? batcher_submit(core->publisher, &commit->item) == 0
		  : committer_submit(core, &commit->item))
		return;
	commit->result = err_set(&commit->err, ERR_BUSY, "too many uploads end at once");
	finish(core, commit);
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
