/*
 * The committer at the database's desk: rows, and the answers that wait for them. I1: what comes here is durable; what is begun
 * before it is so is committed after. Thread: who has the desk.
 */
#include <stdlib.h>

#include "committer_private.h"

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
		commit_finish(core, commit);
	}
	commits_give_up(core, failed, failed_n);
}

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

void rows_begin(struct core *core, struct upload_commit **commits, size_t n,
		struct registering *registering)
{
	if (prepare_rows(core, commits, n, registering))
		registering->start =
			metadata_register_begin(core->metadata, core->committer->registrations, n);
}

void rows_abandon(struct core *core, struct registering *registering)
{
	if (registering->start)
		metadata_register_abandon(core->metadata, registering->start);
	free(registering->records);
	*registering = (struct registering){0};
}

/* Each registration has what came of it. The database need not write out what the journal has (unconfirmed.c). */
static void register_rows(struct core *core, struct upload_commit **commits, size_t n,
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
			commit_finish(core, commits[i]);
			continue;
		}
		commit_fail(commits[i], &registration->err);
		if (may_wait(&registration->err)) {
			health_note_database(core, &registration->err);
			commits[waiting++] = commits[i];
		} else {
			failed[failed_n++] = commits[i];
		}
	}
	commits_give_up(core, failed, failed_n);
	put_off(core, commits, waiting);
}

void rows_write(struct core *core, struct upload_commit **commits, size_t n,
		struct registering registering)
{
	metric_add(core->commit_batches, 1);
	metric_add(core->commit_requests, (int64_t)n);
	if (registering.records || prepare_rows(core, commits, n, &registering)) {
		register_rows(core, commits, n, registering.start);
		answer_rows(core, commits, n);
	} else {
		commits_finish_all(core, commits, n);
	}
	free(registering.records);
}
