/*
 * The committer at the journal's desk: small files get their names, and become durable together.
 *
 * A lone upload's file is placed while the disk writes its record. Invariant: that is done inside the append, between two of which
 * a checkpoint turns the journal; so whatever stands below its mark has its file when it syncs them, or is given up. Thread: who
 * has the desk; commits_give_up() at either desk, commit_place() whoever brings a request.
 */
#include <assert.h>

#include "committer_private.h"

/* --- plain files --- */

static void fail(struct core *core, struct upload_commit *commit, const struct err *err)
{
	if (err->kind == ERR_IO)
		health_note_io_failure(core, err);
	commit_fail(commit, err);
}

static bool is_unplaced(const struct upload *upload)
{
	return upload->small && !upload->named;
}

void commit_place(struct core *core, struct upload_commit *commit)
{
	struct err err;
	for (size_t k = 0; k < commit->n && commit->result == 0; k++) {
		struct upload *upload = commit->uploads[k];
		if (!is_unplaced(upload))
			continue;
		int rc = upload_place(upload, &err);
		if (rc == 0 && (rc = upload_write_out(upload, &err)) == 0)
			upload->small = false; /* to be published, like a large one */
		if (rc < 0)
			fail(core, commit, &err);
	}
}

/* The same for one that the journal has, or is about to: by now it cannot go to the publishers. */
static int place_journaled(struct core *core, struct upload *upload, struct err *err)
{
	struct blob_publication publication = {.writers = &upload->writer, .n = 1};
	int rc = upload_place(upload, err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (upload_write_out(upload, err) < 0)
		return -1;
	if (blob_publish(core->blobs, &publication, 1) > 0) {
		*err = publication.err;
		return -1;
	}
	upload->named = true;
	return 0;
}

/* A request that fails here fails alone. */
static void place_rest(struct core *core, struct upload_commit **commits, size_t n)
{
	struct err err;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < commits[i]->n && commits[i]->result == 0; k++)
			if (is_unplaced(commits[i]->uploads[k]) &&
			    place_journaled(core, commits[i]->uploads[k], &err) < 0)
				fail(core, commits[i], &err);
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
	place_rest(this->core, this->commits, this->n);
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
	int rc = intake_append(core, commits, n, &meanwhile, &err);
	if (rc < 0 && err.kind == ERR_IO)
		health_note_io_failure(core, &err);
	bool no_room = rc < 0 && (err.kind == ERR_DISK_FULL || err.kind == ERR_BUSY);
	if (no_room)
		place_rest(core, commits, n); /* where the append did not come to it */
	assert(rc < 0 || work.begun);
	for (size_t i = 0; i < n; i++) {
		struct upload_commit *commit = commits[i];
		commit->journaled = rc == 0;
		if (commit->result == 0 && rc < 0 &&
		    !(no_room && restore_each(core, commit, &err) == 0))
			commit_fail(commit, &err);
		if (commit->result == 0)
			commits[left++] = commit;
		else
			failed[failed_n++] = commit;
	}
	commits_give_up(core, failed, failed_n);
	return left;
}
