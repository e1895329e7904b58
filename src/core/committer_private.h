/*
 * The committer's desks and the batches that lie on them: committer.c has the queues, commit_journal.c and commit_rows.c what is
 * done at each. Threads: a desk's commits and whatever is handed to these functions are those of who has the desk.
 */
#ifndef DEPOTD_CORE_COMMITTER_PRIVATE_H
#define DEPOTD_CORE_COMMITTER_PRIVATE_H

#include "depotd/metadata/register.h"

#include "unconfirmed_private.h"

enum { BATCH_MAX = 256 }; /* requests in one transaction */

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

void commit_fail(struct upload_commit *commit, const struct err *err);
/* Gives the request its answer; it may be gone when this returns. */
void commit_finish(struct core *core, struct upload_commit *commit);
/* Nothing could be done for lack of memory. */
void commits_finish_all(struct core *core, struct upload_commit **commits, size_t n);

/* What the database's desk has in hand: a batch's records, and maybe a head start of its registration. */
struct registering {
	struct file_record **records;
	struct metadata_start *start;
};

/* --- the journal's desk: commit_journal.c --- */

/*
 * These requests have failed, and the journal may have their files: that it does not count is durable before anybody hears of
 * the failure, or a crash would bring back what its client sends again.
 */
void commits_give_up(struct core *core, struct upload_commit **commits, size_t n);
/*
 * Makes the small files of the request whole under their names. What is to go through a writer instead has one; the result is -1
 * where one failed.
 */
void commit_place(struct core *core, struct upload_commit *commit);
/*
 * Makes the small files of the batch durable, and places those that are not placed yet while the disk writes. What cannot be made
 * so is answered; how many are left, at the front. registering: the rows are begun meanwhile, too (rows_begin()), if it comes to
 * that; NULL: they are not.
 */
size_t journal_batch(struct core *core, struct upload_commit **commits, size_t n,
		     struct registering *registering);
/* --- the database's desk: commit_rows.c --- */

/*
 * Has the database write rows while the journal is still being synced: it commits them after. Nothing is lost where it cannot.
 * Begun when the disk is busy, and not before: a server on this machine may have this thread's processor for as long as it takes.
 * Two batches are not begun in this way at the same time, since who begins has both desks.
 */
void rows_begin(struct core *core, struct upload_commit **commits, size_t n,
		struct registering *registering);
/* The requests are not those that were begun with: some have failed meanwhile. */
void rows_abandon(struct core *core, struct registering *registering);
/* Writes the rows of the batch, or commits what was begun, and answers all of it. */
void rows_write(struct core *core, struct upload_commit **commits, size_t n,
		struct registering registering);

#endif
