/*
 * The bytes: a blob store behind a vtable; this face asserts what must hold round each slot.
 *
 * A blob is written once, sealed (bytes and self-description durable, no name yet), published (a durable name), read
 * many times, removed. Names are ids; what a user typed never comes here except inside the opaque description.
 * All calls block: worker threads only. A writer or reader belongs to one owner at a time.
 * Errors: ERR_DISK_FULL (ENOSPC, EDQUOT, below the reserve), ERR_IO (EIO and every failed fsync: never retried), ERR_NOT_FOUND.
 */
#ifndef DEPOTD_BLOB_STORE_H
#define DEPOTD_BLOB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/buf.h"
#include "depotd/base/err.h"
#include "depotd/base/uuid.h"

struct blob_store; /* `struct blob_store { const struct blob_driver *driver; }` first in every driver's struct */
struct blob_writer;
struct blob_reader;

enum { BLOB_DESCRIPTION_MAX = 128 * 1024 };

struct blob_filesystem_config {
	const char *directory; /* made (0700) where it is missing, unless require_mount forbids */
	bool require_mount;    /* refuse when directory is not on a mount of its own */
	int64_t reserve;       /* bytes that stay free: below it every write is ERR_DISK_FULL */
	bool exclusive; /* serve: ERR_CONFLICT while another process holds the directory so. check goes beside */
	unsigned without; /* BLOB_WITHOUT_*: do as if kernel or file system lacked these (tests) */
};
enum {
	BLOB_WITHOUT_TMPFILE = 1,
	BLOB_WITHOUT_XATTR = 2,
	BLOB_WITHOUT_OPENAT2 = 4,
	BLOB_WITHOUT_FALLOCATE = 8,
};
/* The driver on a directory. ERR_NOT_FOUND names a missing mount, ERR_CONFLICT another daemon. */
int blob_filesystem_open(const struct blob_filesystem_config *config, struct blob_store **out,
			 struct err *err);

void blob_close(struct blob_store **store);

/*
 * Room on the disk that one request was promised: what is not written of it yet. {0} is none. One owner at a time, which gives it
 * to its writers one after the other; it outlives them.
 */
struct blob_reservation {
	int64_t left;
};
/*
 * Promises n bytes (0: just asks whether there is room at all) or says ERR_DISK_FULL. Never blocks (event thread), knows what
 * other programs took since a second or so; two at once never get the same bytes.
 */
int blob_reserve(struct blob_store *store, int64_t n, struct blob_reservation *out,
		 struct err *err);
/* Gives back what was not written; again does nothing. Never blocks. */
void blob_unreserve(struct blob_store *store, struct blob_reservation *reservation);

/*
 * Begins a blob. size_hint: expected bytes or -1. room: what its bytes are taken from, or NULL; what goes beyond it is taken of
 * the room that is promised to nobody.
 */
int blob_create(struct blob_store *store, const struct uuid *id, int64_t size_hint,
		struct blob_reservation *room, struct blob_writer **out, struct err *err);
int blob_write(struct blob_writer *writer, const void *data, size_t n, struct err *err);
/* The same in two steps, for two threads: its next n > 0 bytes are at *offset, to be filled before blob_first() or blob_seal(). */
int blob_claim(struct blob_writer *writer, size_t n, int64_t *offset, struct err *err);
/* Any thread, and several at once: bytes that were claimed. After a failure the writer can only be discarded. */
int blob_fill(struct blob_writer *writer, int64_t offset, const void *data, size_t n,
	      struct err *err);
/* Reads the first n bytes back, of those that were written. Before blob_seal(). After a failure it can only be discarded. */
int blob_first(struct blob_writer *writer, void *data, size_t n, struct err *err);
/* Makes the bytes and their description durable (I1). After a failure the writer can only be discarded. */
int blob_seal(struct blob_writer *writer, const char *description, size_t n, struct err *err);
/* The blobs of one request: all of them get their names, or none. */
struct blob_publication {
	struct blob_writer **
		writers; /* sealed, of one store; each published one is freed and its place nulled */
	size_t n;
	int result; /* out: 0 published, -1 see err: writers are as they were and can only be discarded */
	struct err err; /* out */
};
/*
 * Gives many requests' blobs durable names, syncing each directory once. A bad request fails alone; a failed sync fails
 * all that it covered, with ERR_IO. The number of publications that failed.
 */
size_t blob_publish(struct blob_store *store, struct blob_publication *publications, size_t n);
/* Drops an unpublished blob; its space is given back. Takes NULL inside. */
void blob_discard(struct blob_writer **writer);

/*
 * The short way for small blobs whose bytes are in a journal: whole under its name at once, durable with the next blob_sync()
 * that succeeds. room as for
 * blob_create(). 1 there, 0 this one has to go the long way, -1 and nothing is there. An id that exists is ERR_CONFLICT.
 */
int blob_place(struct blob_store *store, const struct uuid *id, struct blob_reservation *room,
	       const void *data, size_t n, const char *description, size_t description_n,
	       struct err *err);
/* Makes all placed blobs durable. -1: any of them may be lost, and asking again proves nothing: blob_restore() them. */
int blob_sync(struct blob_store *store, struct err *err);
/* Makes the blob be exactly this, durably and atomically, whatever was there: from a journal, after a crash or a failed sync. */
int blob_restore(struct blob_store *store, const struct uuid *id, const void *data, size_t n,
		 const char *description, size_t description_n, struct err *err);

/* 1 open, 0 absent, -1. */
int blob_open(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
	      struct err *err);
int64_t blob_size(const struct blob_reader *reader);
/* Reads up to n bytes at offset; *got 0 only at the end. */
int blob_read(struct blob_reader *reader, int64_t offset, void *data, size_t n, size_t *got,
	      struct err *err);
/* A descriptor to sendfile from (still the reader's), or -1 where the driver has none. */
int blob_descriptor(const struct blob_reader *reader);
/* Tells that [offset, offset+n) is about to be read in order (posix_fadvise, readahead). Never fails. */
void blob_will_read(struct blob_reader *reader, int64_t offset, int64_t n);
void blob_reader_free(struct blob_reader **reader);

/* The self-description. 1 found (replaces out), 0 no blob or no description, -1. */
int blob_description(struct blob_store *store, const struct uuid *id, struct buf *out,
		     struct err *err);
/* Replaces it, atomically and durably; calls for one id must not overlap. 1 done, 0 no such blob, -1. */
int blob_describe(struct blob_store *store, const struct uuid *id, const char *description,
		  size_t n, struct err *err);
/* Removes bytes and description. 1 removed, 0 absent, -1. Durable before the space is counted on; not before return. */
int blob_remove(struct blob_store *store, const struct uuid *id, struct err *err);

struct blob_info {
	struct uuid id;
	int64_t size;
	int64_t modified_ms; /* wall clock: when it was published or last described, never before its bytes */
};
/* Walks all published blobs, any order; a callback's non-zero ends the walk and is returned. -1 with err on failure. */
typedef int (*blob_visit_fn)(void *context, const struct blob_info *info);
int blob_walk(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err);
/* Removes what a crash left (temporaries older than grace_ms, empty directories). How many, or -1. */
long blob_clean(struct blob_store *store, int64_t grace_ms, struct err *err);

struct blob_space {
	int64_t free; /* bytes that can be written before the reserve is touched; 0 when below */
	int64_t total;
};
/* Never blocks longer than statvfs does. */
int blob_space(struct blob_store *store, struct blob_space *out, struct err *err);
/* Writes, syncs and removes a probe: 0 the store takes writes, -1 why not. */
int blob_probe(struct blob_store *store, struct err *err);

#endif
