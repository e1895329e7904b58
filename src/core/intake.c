/*
 * Writes the intake journal: requests, pending files, marks.
 *
 * Invariants: a mark is remembered before the answer that it is about, and durable before a removal is answered; marks that an
 * append failed to make durable are written again with the next; one append at a time has the marks in its hands. Threads: the
 * committer's, workers' (removals), the checkpoint's.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/arena.h"
#include "depotd/base/clock.h"

#include "unconfirmed_private.h"

/*
 * Of the journal's size, what is time for a checkpoint: the more files one takes along, the less each costs, and uploads need the
 * other part until it is done.
 */
enum { CHECKPOINT_PART = 2 };
/*
 * What waits for the database is twice in the journal while a checkpoint carries it over: this part of the size at the most,
 * so that uploads have the other half. What is appended at once is a small part.
 */
enum { CARRY_PART = 4, BATCH_PART = 8 };
/* Uploads wait for a checkpoint so long; with what the database may take they are answered in five seconds. */
enum { FULL_WAIT_MS = 2000 };
enum { MARKS_MAX_BYTES = 64 * 1024 * 1024, KEYS_MAX_BYTES = 16 * 1024 * 1024 };

/* --- marks --- */

/* Returns its number: they become durable in the order of these. Under the lock. */
static uint64_t add_mark(struct intake *intake, const struct uuid *id, enum intake_mark mark)
{
	buf_append(&intake->marks, id->bytes, sizeof(id->bytes));
	buf_putc(&intake->marks, (char)mark);
	return ++intake->marks_made;
}

void intake_mark(struct core *core, const struct uuid *id, enum intake_mark mark)
{
	struct intake *intake = core->intake;
	pthread_mutex_lock(&intake->lock);
	(void)add_mark(intake, id, mark);
	pthread_mutex_unlock(&intake->lock);
}

/* How many records the marks that wait will take, or a few less if more come meanwhile. */
static size_t count_mark_records(struct intake *intake)
{
	const size_t most = (size_t)MARKS_PER_RECORD * MARK_LEN;
	pthread_mutex_lock(&intake->lock);
	size_t n = (intake->marks.len + most - 1) / most;
	pthread_mutex_unlock(&intake->lock);
	return n;
}

/* Takes the marks that wait into at most n records. How many records. */
static size_t take_marks(struct intake *intake, struct journal_record *records, size_t n)
{
	const size_t most = (size_t)MARKS_PER_RECORD * MARK_LEN;
	size_t taken = 0;
	pthread_mutex_lock(&intake->lock);
	struct buf swap = intake->written; /* empty; its memory is used again */
	intake->written = intake->marks;
	intake->marks = swap;
	for (size_t at = 0; at < intake->written.len && taken < n; at += most) {
		size_t left = intake->written.len - at;
		size_t length = left < most ? left : most;
		records[taken++] = (struct journal_record){
			.kind = INTAKE_MARKS,
			.head = intake->written.data + at,
			.head_len = length,
			.checksum = journal_checksum(intake->written.data + at, length, NULL, 0)};
	}
	if (taken * most < intake->written.len) { /* more came meanwhile: with the next append */
		buf_append(&intake->marks, intake->written.data + taken * most,
			   intake->written.len - taken * most);
		intake->written.len = taken * most;
	}
	pthread_mutex_unlock(&intake->lock);
	return taken;
}

/* The append is over. */
static void settle_marks(struct intake *intake, bool durable)
{
	pthread_mutex_lock(&intake->lock);
	if (durable) {
		intake->marks_durable += intake->written.len / MARK_LEN;
	} else { /* to the front again */
		struct buf later = intake->marks;
		buf_append(&intake->written, later.data, later.len);
		intake->marks = intake->written;
		intake->written = later;
	}
	buf_reset(&intake->written);
	pthread_mutex_unlock(&intake->lock);
}

/* --- appending --- */

/* Tells the checkpoint that there is something, and when it is time. */
void intake_note_live(struct core *core)
{
	struct intake *intake = core->intake;
	int64_t live = journal_live_bytes(intake->journal);
	bool short_of = journal_ready(intake->journal) < SEGMENTS_AHEAD;
	metric_set(intake->live_bytes, live);
	pthread_mutex_lock(&intake->lock);
	intake->live_last = clock_monotonic_ns();
	if (intake->live_since == 0)
		intake->live_since = intake->live_last;
	if (short_of && !intake->prepare) {
		intake->prepare = true;
		pthread_cond_signal(&intake->wake_maker);
	}
	if (live >= intake->checkpoint_bytes && !intake->urgent) {
		intake->urgent = true;
		pthread_cond_signal(&intake->wake);
	}
	pthread_mutex_unlock(&intake->lock);
}

int64_t intake_carry_bytes(struct core *core)
{
	/* Half as much again for what batches leave unused: padding, and the ends of segments. */
	return (int64_t)(pending_bytes(core) + unconfirmed_bytes(core)) * 3 / 2;
}

int intake_await_room(struct core *core, unsigned segments, struct err *err)
{
	struct intake *intake = core->intake;
	bool may_be_made = journal_ready(intake->journal) != UINT_MAX;
	pthread_mutex_lock(&intake->lock);
	if (!may_be_made && !intake->urgent) {
		intake->urgent = true;
		pthread_cond_signal(&intake->wake);
	}
	pthread_mutex_unlock(&intake->lock);
	return journal_await_room(intake->journal, segments, err);
}

/* Appends n records with room for `marks` more behind them, if there is room for them now; else ERR_BUSY and *segments. */
static int try_append(struct core *core, struct journal_record *records, size_t n, size_t marks,
		      const struct journal_meanwhile *meanwhile, unsigned *segments,
		      struct err *err)
{
	struct intake *intake = core->intake;
	int rc = 0;
	journal_keep(intake->journal, intake_carry_bytes(core));
	pthread_mutex_lock(&intake->appending);
	n += take_marks(intake, records + n, marks);
	if (n > 0)
		rc = journal_append(intake->journal, records, n, meanwhile, segments, err);
	settle_marks(intake, rc == 0);
	pthread_mutex_unlock(&intake->appending);
	if (rc == 0 && n > 0)
		intake_note_live(core);
	return rc;
}

/* The same, but waits for room. A checkpoint is what makes it, so nothing is held meanwhile that one needs. */
static int append(struct core *core, struct journal_record *records, size_t n, size_t marks,
		  const struct journal_meanwhile *meanwhile, struct err *err)
{
	unsigned segments;
	while (try_append(core, records, n, marks, meanwhile, &segments, err) < 0)
		if (err->kind != ERR_BUSY || intake_await_room(core, segments, err) < 0)
			return -1;
	return 0;
}

static struct journal_record of_file(const struct upload *upload)
{
	if (upload->small)
		return (struct journal_record){.kind = INTAKE_FILE,
					       .head = upload->description.data,
					       .head_len = upload->description.len,
					       .body = upload->bytes,
					       .body_len = (size_t)upload->size,
					       .checksum = upload->checksum};
	return (struct journal_record){
		.kind = INTAKE_STORED,
		.head = upload->id.bytes,
		.head_len = sizeof(upload->id.bytes),
		.checksum = journal_checksum(upload->id.bytes, sizeof(upload->id.bytes), NULL, 0)};
}

/* What records point to and nobody else keeps. */
struct scratch {
	struct arena arena;
	bool failed; /* out of memory: the records are not to be used */
};

static const char *key_json(const struct upload_commit *commit, struct scratch *scratch, size_t *n)
{
	struct buf text;
	buf_init(&text, KEYS_MAX_BYTES);
	idempotency_encode(commit->idempotency, &text);
	const char *copy = arena_strndup(&scratch->arena, buf_text(&text), text.len);
	*n = text.len;
	if (!copy || text.failed) {
		scratch->failed = true;
		*n = 0;
	}
	buf_release(&text);
	return copy;
}

static size_t put_request(const struct upload_commit *commit, struct journal_record *records,
			  struct scratch *scratch)
{
	size_t n = 0, length;
	if (commit->idempotency) {
		const char *text = key_json(commit, scratch, &length);
		records[n++] = (struct journal_record){
			.kind = INTAKE_REQUEST,
			.head = text,
			.head_len = length,
			.checksum = journal_checksum(text, length, NULL, 0)};
	}
	for (size_t k = 0; k < commit->n; k++)
		records[n++] = of_file(commit->uploads[k]);
	for (size_t k = 0; k < n; k++)
		records[k].left = (uint32_t)(n - 1 - k);
	return n;
}

static size_t put_pending(const struct upload_commit *commit, struct journal_record *records,
			  struct scratch *scratch)
{
	size_t n = 0, key_len = 0;
	const char *key = commit->idempotency ? key_json(commit, scratch, &key_len) : NULL;
	struct uuid *ids = arena_alloc(&scratch->arena, commit->n * sizeof(*ids));
	if (!ids) {
		scratch->failed = true;
		return 0;
	}
	for (size_t from = 0; from < commit->n; from += PENDING_FILES_MAX) {
		size_t left = commit->n - from;
		size_t files = left < PENDING_FILES_MAX ? left : PENDING_FILES_MAX;
		for (size_t k = from; k < from + files; k++)
			ids[k] = commit->uploads[k]->id;
		struct journal_record *record = &records[n++];
		*record = (struct journal_record){.kind = INTAKE_PENDING,
						  .head = ids + from,
						  .head_len = files * sizeof(*ids),
						  .body = from == 0 ? key : NULL,
						  .body_len = from == 0 ? key_len : 0};
		record->checksum = journal_checksum(record->head, record->head_len, record->body,
						    record->body_len);
	}
	return n;
}

typedef size_t (*put_fn)(const struct upload_commit *commit, struct journal_record *records,
			 struct scratch *scratch);

/* segments: as of try_append(); NULL: waits for room. */
static int append_commits(struct core *core, struct upload_commit **commits, size_t n, put_fn put,
			  const struct journal_meanwhile *meanwhile, unsigned *segments,
			  struct err *err)
{
	size_t most = 0, marks = count_mark_records(core->intake), count = 0;
	struct scratch scratch = {.failed = false};
	int rc = 0;
	for (size_t i = 0; i < n; i++)
		most += commits[i]->n + 1;
	struct journal_record *records = calloc(most + marks, sizeof(*records));
	if (!records)
		return err_set(err, ERR_NO_MEMORY, "the intake journal");
	arena_init(&scratch.arena, KEYS_MAX_BYTES);
	for (size_t i = 0; i < n; i++)
		count += put(commits[i], records + count, &scratch);
	if (scratch.failed)
		rc = err_set(err, ERR_NO_MEMORY, "the intake journal");
	else if (count > 0 && segments)
		rc = try_append(core, records, count, marks, meanwhile, segments, err);
	else if (count > 0) /* marks alone do not need a sync of their own */
		rc = append(core, records, count, marks, meanwhile, err);
	arena_release(&scratch.arena);
	free(records);
	return rc;
}

int intake_append(struct core *core, struct upload_commit **commits, size_t n,
		  const struct journal_meanwhile *meanwhile, struct err *err)
{
	return append_commits(core, commits, n, put_request, meanwhile, NULL, err);
}

int intake_append_pending(struct core *core, struct upload_commit **commits, size_t n,
			  unsigned *segments, struct err *err)
{
	return append_commits(core, commits, n, put_pending, NULL, segments, err);
}

/* Where none waits an append under way may have them in its hands: its end is waited for. */
int intake_flush(struct core *core, struct err *err)
{
	size_t marks = count_mark_records(core->intake);
	struct journal_record *records = calloc(marks + 1, sizeof(*records));
	if (!records)
		return err_set(err, ERR_NO_MEMORY, "the intake journal");
	int rc = append(core, records, 0, marks, NULL, err);
	free(records);
	return rc;
}

static bool waits(struct intake *intake, uint64_t mark)
{
	pthread_mutex_lock(&intake->lock);
	bool waiting = intake->marks_durable < mark;
	pthread_mutex_unlock(&intake->lock);
	return waiting;
}

/*
 * Removals that come together share a sync: who waits for the lock finds that another has taken his mark along.
 */
int intake_removed(struct core *core, const struct uuid *id, struct err *err)
{
	struct intake *intake = core->intake;
	if (journal_live_bytes(intake->journal) == 0 && !committer_has(core, id))
		return 0; /* no record of it, and none to come */
	pthread_mutex_lock(&intake->lock);
	uint64_t mark = add_mark(intake, id, MARK_DROPPED);
	bool failed = intake->marks.failed;
	pthread_mutex_unlock(&intake->lock);
	if (failed)
		return err_set(err, ERR_NO_MEMORY, "the intake journal");
	int rc = 0;
	pthread_mutex_lock(&intake->removing);
	if (waits(intake, mark))
		rc = intake_flush(core, err);
	if (rc == 0 && waits(intake, mark)) /* an append that had it in its hands failed */
		rc = intake_flush(core, err);
	if (rc == 0 && waits(intake, mark))
		rc = err_set(err, ERR_IO, "the removal could not be written to the journal");
	/* A full disk takes removals: without room for the mark, what it is about leaves the journal instead. */
	if (rc < 0 && (err->kind == ERR_DISK_FULL || err->kind == ERR_BUSY)) {
		intake_note_live(core);
		rc = intake_checkpoint(core, err);
	}
	pthread_mutex_unlock(&intake->removing);
	return rc;
}

/* --- start and stop --- */

static void register_metrics(struct intake *intake, struct metrics *m)
{
	if (!m)
		return;
	intake->checkpoints =
		metrics_counter(m, "depotd_checkpoints_total", "Checkpoints of the intake journal.",
				"result=\"done\"");
	intake->checkpoint_failures =
		metrics_counter(m, "depotd_checkpoints_total", "Checkpoints of the intake journal.",
				"result=\"failed\"");
	intake->live_bytes =
		metrics_gauge(m, "depotd_journal_bytes",
			      "Bytes of the intake journal that no checkpoint has dropped.", NULL);
}

/* A small disk is not for the journal: no more than a part of it. */
static int64_t journal_size(struct core *core)
{
	enum { PART = 32 };
	struct blob_space space;
	struct err ignored;
	int64_t size = core->config.journal_size;
	if (blob_space(core->blobs, &space, &ignored) == 0 && size > space.total / PART)
		size = space.total / PART;
	return size;
}

/* The last room on the disk is for uploads. */
static bool may_grow(void *context, int64_t bytes)
{
	struct core *core = context;
	struct blob_space space;
	struct err ignored;
	return blob_space(core->blobs, &space, &ignored) == 0 && space.free >= 4 * bytes;
}

/* The ledger of the room looks again, before uploads count on what the journal has taken. */
static void grown(void *context)
{
	struct core *core = context;
	struct blob_space space;
	struct err ignored;
	(void)blob_space(core->blobs, &space, &ignored);
}

int intake_start(struct core *core, struct err *err)
{
	struct intake *intake = calloc(1, sizeof(*intake));
	pthread_condattr_t monotonic;
	struct journal_config config = {.directory = core->config.journal_directory,
					.size = journal_size(core),
					.full_wait_ms = FULL_WAIT_MS,
					.may_grow = may_grow,
					.grown = grown,
					.context = core};
	if (!intake)
		return err_set(err, ERR_NO_MEMORY, "the intake journal");
	core->intake = intake;
	intake->checkpoint_bytes = config.size / CHECKPOINT_PART;
	intake->prepare =
		core->config.journal_file_max > 0; /* the first upload is not to wait either */
	pthread_mutex_init(&intake->lock, NULL);
	pthread_mutex_init(&intake->appending, NULL);
	pthread_mutex_init(&intake->removing, NULL);
	pthread_mutex_init(&intake->checkpointing, NULL);
	pthread_mutex_init(&intake->turning, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&intake->wake, &monotonic);
	pthread_cond_init(&intake->wake_maker, &monotonic);
	pthread_condattr_destroy(&monotonic);
	buf_init(&intake->marks, MARKS_MAX_BYTES);
	buf_init(&intake->written, MARKS_MAX_BYTES);
	register_metrics(intake, core->config.metrics);
	if (journal_open(&config, &intake->journal, err) < 0)
		return -1; /* core_free() ends it */
	intake->carry_max = journal_capacity(intake->journal) / CARRY_PART;
	intake->batch_bytes = (size_t)journal_capacity(intake->journal) / BATCH_PART;
	return 0;
}
