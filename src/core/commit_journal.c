/*
 * The committer at the journal's desk: what is small becomes durable here, or fails here. Thread: who has the desk; commits_give_up()
 * at either.
 */
#include "committer_private.h"

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

void commits_give_up(struct core *core, struct upload_commit **commits, size_t n)
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
		commit_finish(core, commits[i]);
}

/* What is done while the disk writes. */
struct meanwhile {
	struct core *core;
	struct upload_commit **commits;
	size_t n;
	struct registering *registering;
	bool begun; /* an append that is tried again asks again */
};

static void do_meanwhile(void *context)
{
	struct meanwhile *this = context;
	if (this->begun)
		return;
	this->begun = true;
	if (this->registering)
		rows_begin(this->core, this->commits, this->n, this->registering);
}

size_t journal_batch(struct core *core, struct upload_commit **commits, size_t n,
		     struct registering *registering)
{
	struct upload_commit **failed = core->committer->journal.failed;
	struct meanwhile work = {
		.core = core, .commits = commits, .n = n, .registering = registering};
	struct journal_meanwhile meanwhile = {do_meanwhile, &work};
	struct err err;
	size_t left = 0, failed_n = 0;
	uint64_t turn = atomic_load(&core->intake->turn);
	for (size_t i = 0; i < n; i++)
		commits[i]->turn = turn;
	if (intake_append(core, commits, n, &meanwhile, &err) == 0) {
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
	commits_give_up(core, failed, failed_n);
	return left;
}
