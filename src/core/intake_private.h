/*
 * The intake journal in core's terms: what its records say, which of them count no more, and the checkpoint behind it.
 *
 * One request is one group of records, all of it replayed or none:
 *   INTAKE_REQUEST  its Idempotency-Key (head: JSON), where it has one
 *   INTAKE_STORED   a file that is durable by itself (head: its id)
 *   INTAKE_FILE     a small file (head: its description, body: its bytes)
 * and alone stand
 *   INTAKE_PENDING  files of one request that are durable and wait for the database (head: ids, body: the key's JSON or nothing)
 *   INTAKE_MARKS    what came of earlier ones (head: ids, each with one byte of enum intake_mark)
 *
 * Lock order: removing, checkpointing, turning, appending, pending.lock, lock. Threads: as each function says.
 */
#ifndef DEPOTD_CORE_INTAKE_PRIVATE_H
#define DEPOTD_CORE_INTAKE_PRIVATE_H

#include <pthread.h>

#include "depotd/journal/journal.h"

#include "upload_private.h"

enum intake_kind {
	INTAKE_REQUEST = 1,
	INTAKE_STORED = 2,
	INTAKE_FILE = 3,
	INTAKE_PENDING = 4,
	INTAKE_MARKS = 5,
};

enum intake_mark {
	MARK_REGISTERED = 1, /* its row was committed: without a row now it was removed since */
	MARK_DROPPED =
		2, /* never answered as stored, or removed: bytes and row are not to come back */
};

enum { SEGMENTS_AHEAD = 4 }; /* segments of the journal that wait to be used */

enum {
	MARK_LEN = sizeof(struct uuid) + 1,
	MARKS_PER_RECORD = 4096,
	RECORD_LEN = 20 /* of a record in the journal, beside its head and body */
};

struct intake {
	struct journal *journal;
	int64_t checkpoint_bytes; /* so many live ones are time for a checkpoint */
	int64_t carry_max;        /* of intake_carry_bytes(): more uploads are not taken */
	size_t batch_bytes; /* of files that are appended at once, where one request alone has no more */
	/* Counts checkpoints, each after it turned the journal: what is appended after reading a number outlives that one. */
	atomic_uint_fast64_t turn;

	/* one removal waits for its mark; others find theirs taken along */
	pthread_mutex_t removing;
	pthread_mutex_t checkpointing; /* two at a time would free the same segments */
	pthread_mutex_t appending;     /* one append at a time has `written` */
	/*
	 * Held while a request is written down as pending and put into the table; a checkpoint takes it once after the journal has
	 * turned to a new segment: then the table has whatever the old segments have.
	 */
	pthread_mutex_t turning;

	pthread_mutex_t lock; /* guards all below */
	/* MARK_LEN each; not in the journal yet, in the order that they were made */
	struct buf marks;
	struct buf written;                 /* those that an append under way is making durable */
	uint64_t marks_made, marks_durable; /* how many ever */
	int64_t live_since; /* monotonic ns of the first record since the last checkpoint; 0: none */
	int64_t live_last;  /* the same of the newest */
	bool stopping, urgent; /* the journal has as much as it should */
	bool prepare;          /* it is short of segments */
	pthread_cond_t wake;   /* the checkpoint's */
	pthread_cond_t wake_maker;
	pthread_t thread,
		maker; /* the checkpoint's; who makes segments, also while a checkpoint waits for the disk */
	bool running, making;

	struct metric *checkpoints, *checkpoint_failures, *live_bytes;
};

int intake_start(struct core *core, struct err *err);
/* Makes the last checkpoint. Nobody appends any more. */
void intake_stop(struct core *core);

/* Makes the small files of these requests durable, and the marks that wait. Nothing to do is 0. The committer's thread. */
int intake_append(struct core *core, struct upload_commit **commits, size_t n,
		  const struct journal_meanwhile *meanwhile, struct err *err);
/*
 * The same of requests whose files wait for the database. Never waits, as the caller has `turning`, which a checkpoint needs:
 * ERR_BUSY is to be tried again after intake_await_room() without it, with the number of segments that this says.
 */
int intake_append_pending(struct core *core, struct upload_commit **commits, size_t n,
			  unsigned *segments, struct err *err);
int intake_await_room(struct core *core, unsigned segments, struct err *err);
/* What a checkpoint may have to carry over, as it is now. Any thread. */
int64_t intake_carry_bytes(struct core *core);
/* Remembers what came of a file whose record is in the journal; durable with the next append. */
void intake_mark(struct core *core, const struct uuid *id, enum intake_mark mark);
/* A file was removed: sees to it that no replay brings it back. Durable before it returns. Workers. */
int intake_removed(struct core *core, const struct uuid *id, struct err *err);
/* Tells the checkpoint that the journal holds something, and when it is time. */
void intake_note_live(struct core *core);
/* Makes the marks that wait durable. */
int intake_flush(struct core *core, struct err *err);

/* Replays what the last run left; before anything else happens. */
int intake_recover(struct core *core, struct core_recovery *recovery, struct err *err);
/* Everything placed so far is made durable, and the journal begins anew. */
int intake_checkpoint(struct core *core, struct err *err);

/* --- checkpoint.c --- */

int checkpoint_start(struct core *core, struct err *err);
/* Makes each small file below the mark anew from the journal, one by one synced, unless it was removed. */
int intake_write_again(struct core *core, uint64_t before, struct err *err);

/*
 * What a file of the journal is to say of itself when it is made again: a change since had a sync of its own, and its description
 * may stand with bytes that are lost. Initialises out, which is the caller's to release either way.
 */
int intake_newest_description(struct core *core, const struct file_record *journaled,
			      const struct journal_record *record, struct buf *out,
			      struct err *err);

/* --- pending.c: what is durable and waits for the database --- */

enum {
	PENDING_MAX = 500000, /* files: 30 MiB */
	PENDING_FILES_MAX =
		8192 /* of one request; one with more is several, the first of which has its key */
};

int pending_new(struct core *core, struct err *err);
/* Starts the follower, the thread that registers what waits. */
int pending_start(struct core *core, struct err *err);
void pending_stop(struct core *core);
void pending_free(struct core *core);
/* One request's files. key: its Idempotency-Key's JSON (key_len 0: none). Files known already are not taken twice. */
int pending_add(struct core *core, const struct uuid *ids, size_t count, const char *key,
		size_t key_len, struct err *err);
bool pending_has(struct core *core, const struct uuid *id);
void pending_wake(struct core *core);    /* the follower looks what is to be done */
bool pending_full(struct core *core);    /* no more uploads until the database is back */
size_t pending_bytes(struct core *core); /* of the journal, to carry them over */
/* Registers what waits until it is done (0) or the database does not let it (-1). */
int pending_register(struct core *core, struct err *err);
/* Appends all that waits to the journal once more. */
int pending_carry_over(struct core *core, struct err *err);

#endif
