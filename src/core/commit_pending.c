/*
 * Writing down that requests wait for their rows: in the journal first, then in the table (pending.c), and in no other order.
 *
 * A checkpoint drops the journal that a request stands in when it has carried over what the table has. So between the two it is
 * kept from looking (`turning`), and nothing in between waits for what only a checkpoint can give. The committer's thread.
 */
#include <stdlib.h>

#include "unconfirmed_private.h"

/* Makes the answer's records. False: out of memory. */
static bool make_unregistered(struct upload_commit *commit)
{
	for (size_t k = 0; k < commit->n; k++)
		if (!(commit->records[k] = file_record_unregistered(commit->uploads[k]->record)))
			return false;
	return true;
}

static int remember_pending(struct core *core, const struct upload_commit *commit, struct err *err)
{
	struct uuid *ids = malloc(commit->n * sizeof(*ids));
	struct buf key;
	if (!ids)
		return err_set(err, ERR_NO_MEMORY, "files that wait for the database");
	for (size_t k = 0; k < commit->n; k++)
		ids[k] = commit->uploads[k]->id;
	buf_init(&key, 64 * 1024);
	if (commit->idempotency)
		idempotency_encode(commit->idempotency, &key);
	int rc = key.failed ? err_set(err, ERR_NO_MEMORY, "files that wait for the database")
			    : pending_add(core, ids, commit->n, key.data, key.len, err);
	buf_release(&key);
	free(ids);
	return rc;
}

int commits_write_pending(struct core *core, struct upload_commit **commits, size_t n,
			  struct err *err)
{
	struct err ignored;
	for (;;) {
		unsigned segments = 0;
		pthread_mutex_lock(&core->intake->turning);
		int rc = intake_append_pending(core, commits, n, &segments, err);
		for (size_t i = 0; rc == 0 && i < n; i++)
			if (make_unregistered(commits[i]) &&
			    remember_pending(core, commits[i], &ignored) == 0)
				commits[i]->result = 0;
		pthread_mutex_unlock(&core->intake->turning);
		if (rc == 0 || err->kind != ERR_BUSY || intake_await_room(core, segments, err) < 0)
			return rc;
	}
}
