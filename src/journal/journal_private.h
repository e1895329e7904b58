/*
 * The journal's format, version 1, and what its files share.
 *
 * DIRECTORY/segment-NN is one of at most SEGMENTS_MAX files of equal size, written with zeros and synced when made, so that a
 * later fdatasync() changes no metadata. All numbers are little-endian; a CRC is zlib's crc32 (ISO 3309).
 *
 *   segment := header (one BLOCK, zero-padded), batches
 *   header  := magic "DEPOTDJ\n", u32 version, u32 block, u64 sequence, u64 size, u64 previous_end, u32 crc (of what precedes)
 *   batch   := u32 magic, u32 crc (of what follows, table included), u64 sequence, u32 length (of the batch), u32 count,
 *              table, payloads; begins at a multiple of BLOCK, so that no write touches a block that is durable already
 *   table   := count times u32 kind, u32 left, u32 head_len, u32 body_len, u32 crc (of head and body)
 *
 * Segments are in the order of their sequence; the sequence in each batch tells it from what an earlier use of the file left.
 * A batch is written when the one before it is durable. So one that does not read well is a torn tail if no other follows, and
 * damage otherwise. previous_end is where the segment before this one was left: what may stand behind it never was reported
 * durable; UINT64_MAX: not known. A segment whose header is none is free.
 */
#ifndef DEPOTD_JOURNAL_PRIVATE_H
#define DEPOTD_JOURNAL_PRIVATE_H

#include <pthread.h>

#include "depotd/journal/journal.h"

#define SEGMENT_MAGIC "DEPOTDJ\n"

enum {
	JOURNAL_VERSION = 1,
	BLOCK = 4096,
	SEGMENTS_MAX = 64,
	SEGMENT_BYTES_MAX = 8 * 1024 * 1024,
	SEGMENT_BYTES_MIN = 1024 * 1024, /* holds the largest record */
	SEGMENT_HEADER_LEN = 44,
	BATCH_HEADER_LEN = 24,
	BATCH_ENTRY_LEN = 20,
	BATCH_MAGIC = 0x424a5244,                /* "DRJB" */
	STAGING_BYTES = 2 * 1024 * 1024 - BLOCK, /* the largest batch; smaller where segments are */
};

struct segment {
	int fd;            /* -1: no file is there */
	int plain_fd;      /* the same file through the page cache, for reading */
	uint64_t sequence; /* 0: free */
	uint64_t previous_end;
	int64_t end; /* appended up to here; -1 for one found at the start, until it was replayed */
	int64_t size;
	bool making;     /* somebody makes the file: nobody else touches any of this */
	bool failed;     /* a write or sync failed: the file is not used again */
	bool bad_header; /* its header was damaged: the sequence is its first batch's */
};

struct journal {
	int directory;
	int64_t segment_bytes, full_wait_ms;
	bool (*may_grow)(void *context, int64_t bytes);
	void (*grown)(void *context);
	void *context;
	unsigned segments_max;

	/* Lock order: appending before lock. */
	/* one append or rotate at a time; held during I/O. Guards all down to `lock` */
	pthread_mutex_t appending;
	char *staging;     /* STAGING_BYTES + BLOCK, aligned to BLOCK */
	unsigned long aio; /* of the kernel's aio_context_t; 0: none, see journal_commit.c */
	unsigned current;  /* index of the segment that is appended to; SEGMENTS_MAX: none */
	uint64_t last_end; /* where the segment before the next one was left */

	/* guards the segments' sequences and ends; not held during appends' I/O */
	pthread_mutex_t lock;
	pthread_cond_t dropped; /* there may be room */
	unsigned kept;          /* segments that only what is carried over may begin */
	bool carrying;          /* it is being carried over */
	int64_t full_since_ns;  /* monotonic: somebody waits for room since; 0: nobody */
	struct segment segments[SEGMENTS_MAX];
	uint64_t next_sequence;
};

/* --- segments: journal_segment.c --- */

/* Opens segment-NN if it is there. 1, 0 absent, -1. */
int segment_open(struct journal *journal, unsigned index, struct err *err);
/* Makes segment-NN of zeros, durable. */
int segment_make(struct journal *journal, unsigned index, struct err *err);
void segment_close(struct segment *segment);
/* Reads the header: sets sequence (0 where it is none) and previous_end. */
int segment_read_header(struct segment *segment, struct err *err);
/* Puts a header at the start of a block, for the first write into a segment. */
void segment_header(const struct journal *journal, uint64_t sequence, uint64_t previous_end,
		    unsigned char block[BLOCK]);
/* Makes its header one of a free segment, durable. */
int segment_erase(const struct segment *segment, struct err *err);
/* Removes the name; durable with the directory's next sync. What is open stays so. */
int segment_unlink(struct journal *journal, unsigned index, struct err *err);
int segment_write(const struct segment *segment, const void *data, size_t n, int64_t offset);
int segment_sync(const struct segment *segment);

/* --- batches on their way to the disk: journal_commit.c --- */

void commit_open(struct journal *journal);
void commit_close(struct journal *journal);
/* Writes n bytes (a multiple of BLOCK, aligned to it) at the segment's end and syncs. 0, or -1 with errno: not to be used again. */
int segment_commit(struct journal *journal, const struct segment *segment, const void *data,
		   size_t n, const struct journal_meanwhile *meanwhile);

/* --- room: journal_room.c; carry: journal_carry() asks --- */

/* A segment to be begun; SEGMENTS_MAX: none. Appending is held. */
unsigned room_free_segment(struct journal *journal);
/* Whether an append that begins so many segments may begin now. Appending is held. */
bool room_is_there(struct journal *journal, unsigned segments, bool carry);
/* journal_await_room(); what is carried over waits for nothing but a segment that is being made. */
int room_await(struct journal *journal, unsigned segments, bool carry, struct err *err);
void room_grew_locked(struct journal *journal); /* a segment is free */

/* --- batches: journal_batch.c; pure --- */

/* How many of the n records one batch of at most `most` bytes can take: at least one. */
size_t batch_take(const struct journal_record *records, size_t n, size_t most);
/* Writes them to out (STAGING_BYTES), zero-padded to a multiple of BLOCK: its length with the padding. */
size_t batch_encode(const struct journal_record *records, size_t n, uint64_t sequence,
		    unsigned char *out);

/* What batch_encode() will return. */
size_t batch_length(const struct journal_record *records, size_t n);
/* The sequence that the bytes at data (BATCH_HEADER_LEN) claim; 0 where they are no batch's. Checks nothing else. */
uint64_t batch_sequence(const unsigned char *data);

struct segment_scan {
	uint64_t sequence;
	int64_t known_end; /* the segment after this one says where it ended; -1: nobody does */
	journal_visit_fn visit;
	void *context;
	struct journal_replay_summary *summary;
	int64_t end; /* out: behind the last good batch */
};
/* Visits the records in the n bytes of a segment, its header included. 0, or what visit() returned. */
int segment_scan(const unsigned char *data, size_t n, struct segment_scan *scan);

#endif
