/*
 * Requests whose rows are committed and answered, and which the database may still forget: a commit that the server answers before
 * it has written it out is gone if it crashes within the next moments. The journal has those requests, so nothing is lost by it:
 * from time to time the database is asked to write out what it has (metadata_settle()); if it has crashed meanwhile, or another
 * server has taken its place, they go to those that wait for their rows (pending.c). Until then the journal keeps them.
 *
 * Lock order: confirming, removing, pending.lock, lock; registering, lock.
 */
#ifndef DEPOTD_CORE_UNCONFIRMED_PRIVATE_H
#define DEPOTD_CORE_UNCONFIRMED_PRIVATE_H

#include "intake_private.h"

struct unconfirmed_batch;

int unconfirmed_new(struct core *core, struct err *err);
void unconfirmed_free(struct core *core);

/*
 * Whether the rows of these requests may be committed that way: all of them stand in the journal, in a part that no checkpoint
 * drops before they are confirmed. NULL: no. Else unconfirmed_end() is called with it after the registration; those with
 * `deferred` set are remembered. Holds up a checkpoint in between. The committer's thread.
 */
struct unconfirmed_batch *unconfirmed_begin(struct core *core, struct upload_commit **commits,
					    size_t n);
void unconfirmed_end(struct core *core, struct unconfirmed_batch *batch,
		     struct upload_commit **commits, size_t n);

/* Whether it is time to confirm, or to learn which server this is. Any thread. */
bool unconfirmed_due(struct core *core);
/* What a checkpoint writes if the database cannot say. Any thread. */
size_t unconfirmed_bytes(struct core *core);
/* Whether it will be, by and by. */
bool unconfirmed_waits(struct core *core);
/* Has the database write out what is remembered, or has it registered again. Workers. */
int unconfirmed_confirm(struct core *core, struct err *err);
/* The same for a checkpoint, after the journal was turned: if the database cannot say, all of it waits for its rows. */
int unconfirmed_clear(struct core *core, struct err *err);

/* Asked where a row is missing: it may come back. */
bool unconfirmed_has(struct core *core, const struct uuid *id);
/*
 * Around the removal of a row, so that it does not come back. In between no file that is not being committed begins to wait for its
 * row: who is neither in there nor pending stays so. removed: the row is gone for good.
 */
void unconfirmed_hold(struct core *core);
void unconfirmed_release(struct core *core, const struct uuid *id, bool removed);

#endif
