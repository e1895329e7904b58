/*
 * What the upkeep of a depot asks of a blob store beside its daily work (blob/store.h). Everything blocks: worker threads and
 * the command line. Errors as there.
 */
#ifndef DEPOTD_BLOB_UPKEEP_H
#define DEPOTD_BLOB_UPKEEP_H

#include "depotd/blob/store.h"

enum {
	BLOB_RAW_ALIGN = 4096,   /* of the memory that is read into, and of offset and length */
	BLOB_RAW_PIECE = 1 << 20 /* a good length */
};

/*
 * blob_open() for one who wants to know what is on the disk: reads pass by what the kernel keeps in memory, where the file
 * system can do that, and push nothing out of it. 1, 0 absent, -1.
 */
int blob_open_raw(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		  struct err *err);

/*
 * Moves bytes and description out of the store's sight, to where a person finds them (the filesystem driver: DATA/aside).
 * Durable. 1 moved, 0 absent, -1.
 */
int blob_set_aside(struct blob_store *store, const struct uuid *id, struct err *err);

enum { BLOB_MARK_MAX = 256 };
/* A short text that the store keeps for its owner. 1 found (replaces out), 0 none, -1. */
int blob_mark(struct blob_store *store, struct buf *out, struct err *err);
/* Atomic and durable. */
int blob_set_mark(struct blob_store *store, const char *text, size_t n, struct err *err);

/* Whether another process has opened the store exclusively: a daemon serves it. 1, 0, -1. */
int blob_served(struct blob_store *store, struct err *err);

#endif
