/*
 * A write-ahead journal of opaque records: what was appended survives a power cut, at one fdatasync a batch.
 *
 * The journal is a ring of preallocated segment files. A batch goes behind the last one and is synced once; what a checkpoint
 * has made durable elsewhere is dropped, and its segments are used again. After a crash journal_replay() gives back every
 * record of every batch that was reported durable, in order; a torn tail ends it, damage before the tail is reported and never
 * skipped in silence. The format stands in src/journal/journal_private.h and docs/durability.md.
 *
 * Everything blocks: worker threads only. Locks of its own guard it: append, rotate and drop may come from different threads,
 * and appends queue behind one another. Errors: ERR_IO (a failed sync is never retried: the segment is given up and the next
 * batch begins another), ERR_DISK_FULL, ERR_BUSY (full of what no checkpoint has dropped yet).
 */
#ifndef DEPOTD_JOURNAL_JOURNAL_H
#define DEPOTD_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"

struct journal;

struct journal_config {
	const char *directory; /* made (0700) where it is missing */
	int64_t size;          /* bytes of all segments together, at the most */
	int64_t full_wait_ms;  /* how long appends wait for a checkpoint once the journal is full */
	/* Whether there is room for so many more bytes of segments; NULL: always. Any thread, never blocks. */
	bool (*may_grow)(void *context, int64_t bytes);
	void (*grown)(void *context); /* more of the disk is taken; NULL: nobody wants to know */
	void *context;
};

enum {
	JOURNAL_HEAD_MAX = 256 * 1024, /* bytes of a record's head */
	JOURNAL_BODY_MAX = 512 * 1024, /* bytes of a record's body */
};

/* One record: two opaque parts. The memory is the caller's. */
struct journal_record {
	uint32_t kind;
	/* how many records of the same group still come behind this one; 0 in the last */
	uint32_t left;
	const void *head, *body; /* NULL where there are none */
	size_t head_len, body_len;
	uint32_t checksum; /* journal_checksum() of both */
};

/* CRC-32 of head and body; taken apart from the append, so that it costs the one who made the record. */
uint32_t journal_checksum(const void *head, size_t head_len, const void *body, size_t body_len);

/* Opens the directory; writes nothing but the directory itself. What is in it waits for journal_replay(). */
int journal_open(const struct journal_config *config, struct journal **out, struct err *err);
void journal_close(struct journal **journal);

struct journal_replay_summary {
	int64_t segments, records, bytes;
	int64_t damaged_bytes;  /* of records that were durable once and cannot be read */
	int64_t damaged_places; /* how many holes */
};
/* head and body are valid during the call. Non-zero ends the replay and is returned. */
typedef int (*journal_visit_fn)(void *context, const struct journal_record *record);
/*
 * Visits the records of all live segments below `before` (a mark of journal_rotate(); 0: of all of them), oldest first. May be
 * asked again and beside appends. 0, what visit() returned, or -1 (a segment cannot be read at all).
 */
int journal_replay(struct journal *journal, uint64_t before, journal_visit_fn visit, void *context,
		   struct journal_replay_summary *summary, struct err *err);

/*
 * What whoever appends does while the disk writes. Called once, or not at all where the append fails before; not to append. It is
 * part of the append: no journal_rotate() returns before it is done, so it is done for all that stands below a mark.
 */
struct journal_meanwhile {
	void (*run)(void *context);
	void *context;
};
/*
 * Makes the records durable, in order, behind all that were appended before. 0 all of them are; -1 none counts (some may be
 * found by a replay all the same: the caller says later that they do not count). At least one record. meanwhile may be NULL.
 * Never waits for room, which a checkpoint makes. ERR_BUSY: there is none; the caller lets go of what a checkpoint needs, has
 * journal_await_room() make it or wait for it, and asks again. *segments: how many are wanted.
 */
int journal_append(struct journal *journal, const struct journal_record *records, size_t n,
		   const struct journal_meanwhile *meanwhile, unsigned *segments, struct err *err);
int journal_await_room(struct journal *journal, unsigned segments, struct err *err);
/*
 * What a checkpoint must write before it may drop anything has room kept for it: so many bytes, as the caller reckons.
 * journal_carry() writes it, in as many calls as it takes, and journal_carried() ends that.
 */
void journal_keep(struct journal *journal, int64_t bytes);
int journal_carry(struct journal *journal, const struct journal_record *records, size_t n,
		  struct err *err);
void journal_carried(struct journal *journal);
int64_t journal_capacity(const struct journal *journal); /* bytes of all segments together */
/* Ends the present segment: what comes next stands at or above the mark that this returns. */
uint64_t journal_rotate(struct journal *journal);
/* Everything below the mark is durable elsewhere: its segments are free. Durable before it returns. */
int journal_drop(struct journal *journal, uint64_t mark, struct err *err);
/* Bytes of live records, and whether a segment waits for the next one: a hint for the checkpoint. */
int64_t journal_live_bytes(struct journal *journal);
/*
 * How many segments wait to be used (UINT_MAX: no more can be made), and making more until there are so many, so that no append
 * has to wait for one to be made. Any thread, beside appends.
 */
unsigned journal_ready(struct journal *journal);
int journal_prepare(struct journal *journal, unsigned ahead, struct err *err);

#endif
