/*
 * What a blob driver must do. For drivers only; everybody else uses blob/store.h, whose facade asserts what must hold round
 * each slot, so a slot may rely on it: states are legal, n > 0 where it matters, out is written on success alone.
 *
 * A driver's struct begins with struct blob_store, its writer with struct blob_writer, its reader with struct blob_reader.
 * Every slot may be called from many threads at once; one writer (but for fill) or reader only ever from one. All slots may block,
 * must go on after EINTR, and fill err (and nothing else) when they fail.
 */
#ifndef DEPOTD_BLOB_DRIVER_H
#define DEPOTD_BLOB_DRIVER_H

#include <stdatomic.h>

#include "depotd/blob/store.h"

struct blob_driver;

struct blob_store {
	const struct blob_driver *driver;
};

enum blob_writer_state {
	BLOB_WRITER_OPEN,   /* takes bytes; nothing is durable, no name leads here */
	BLOB_WRITER_SEALED, /* bytes and description are durable; no name leads here */
	BLOB_WRITER_FAILED, /* a step failed: it can only be discarded */
};

struct blob_writer {
	struct blob_store *store;     /* set by create */
	enum blob_writer_state state; /* the facade's */
	_Atomic bool incomplete;      /* the facade's: bytes of it could not be written */
	int64_t written;              /* the facade's: bytes claimed so far */
};

struct blob_reader {
	struct blob_store *store; /* set by open */
	int64_t size;             /* set by open */
};

struct blob_driver {
	const char *name;

	/* Frees the store. No writer or reader is left. */
	void (*close)(struct blob_store *store);
	/* These two never block, and are called on event threads. out is zeroed before. */
	int (*reserve)(struct blob_store *store, int64_t n, struct blob_reservation *out,
		       struct err *err);
	void (*unreserve)(struct blob_store *store, struct blob_reservation *reservation);
	/*
	 * A new writer. ERR_DISK_FULL where size_hint (or -1) cannot fit beside the reserve and what others were promised. room
	 * (or NULL) outlives the writer and is only used by it meanwhile.
	 */
	int (*create)(struct blob_store *store, const struct uuid *id, int64_t size_hint,
		      struct blob_reservation *room, struct blob_writer **out, struct err *err);
	/* Takes room for n more bytes behind those before. */
	int (*claim)(struct blob_writer *writer, size_t n, struct err *err);
	/* Writes all n bytes, which were claimed, or fails. On any thread, beside claim and itself. */
	int (*fill)(struct blob_writer *writer, int64_t offset, const void *data, size_t n,
		    struct err *err);
	/* Reads the first n bytes back; no more than were written. */
	int (*first)(struct blob_writer *writer, void *data, size_t n, struct err *err);
	/*
	 * Makes bytes and description survive a power cut. A sync that failed is the writer's end (the kernel may have dropped
	 * the dirty pages: asking again would be told that all is well).
	 */
	int (*seal)(struct blob_writer *writer, const char *description, size_t n, struct err *err);
	/*
	 * Names all sealed writers of each publication, or none of it, then makes the names durable, each directory once. Fills
	 * result and err of each; frees and nulls published writers; takes names back where a publication failed.
	 * An id that exists already is ERR_CONFLICT.
	 */
	void (*publish)(struct blob_store *store, struct blob_publication *publications, size_t n);
	/* Frees an unpublished writer in any state; its space comes back at once. */
	void (*discard)(struct blob_writer *writer);

	/*
	 * Makes a small blob whole under its name, nothing of it synced: the caller has it in a journal until the next sync().
	 * 1 there, 0 its description needs more than this can do (the long way then), -1 and nothing is there.
	 */
	int (*place)(struct blob_store *store, const struct uuid *id, struct blob_reservation *room,
		     const void *data, size_t n, const char *description, size_t description_n,
		     struct err *err);
	/*
	 * Makes all that was placed before durable. After a failure nothing is known of any of it: the kernel may have dropped
	 * the dirty pages, and asking again would be told that all is well.
	 */
	int (*sync)(struct blob_store *store, struct err *err);
	/* Makes the blob be exactly this, durable, in place of whatever is there. Atomic. */
	int (*restore)(struct blob_store *store, const struct uuid *id, const void *data, size_t n,
		       const char *description, size_t description_n, struct err *err);

	/* 1 open, 0 absent, -1. An open reader outlives the removal of its blob. */
	int (*open)(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		    struct err *err);
	/* Up to n > 0 bytes at offset >= 0; *got 0 at the end alone. */
	int (*read)(struct blob_reader *reader, int64_t offset, void *data, size_t n, size_t *got,
		    struct err *err);
	/* A descriptor at any file position, good as long as the reader; -1 where there is none. */
	int (*descriptor)(const struct blob_reader *reader);
	/* A hint. May be NULL. */
	void (*will_read)(struct blob_reader *reader, int64_t offset, int64_t n);
	void (*reader_free)(struct blob_reader *reader);

	/* Appends the newest durable description to out. 1 found, 0 no blob or no description, -1. */
	int (*description)(struct blob_store *store, const struct uuid *id, struct buf *out,
			   struct err *err);
	/* Atomic: a crash leaves the old one or the new. 1 done and durable, 0 no such blob, -1: one of them, not known which. */
	int (*describe)(struct blob_store *store, const struct uuid *id, const char *description,
			size_t n, struct err *err);
	/* 1 removed with its description, 0 absent, -1. */
	int (*remove)(struct blob_store *store, const struct uuid *id, struct err *err);

	/* Every blob that was published before and not removed since is visited once; others may be. Constant memory. */
	int (*walk)(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err);
	/* Removes what no writer owns any more and is older than grace_ms. How many, or -1. */
	long (*clean)(struct blob_store *store, int64_t grace_ms, struct err *err);
	int (*space)(struct blob_store *store, struct blob_space *out, struct err *err);
	int (*probe)(struct blob_store *store, struct err *err);

	/* blob/upkeep.h */
	int (*open_raw)(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
			struct err *err);
	int (*set_aside)(struct blob_store *store, const struct uuid *id, struct err *err);
	int (*mark)(struct blob_store *store, struct buf *out, struct err *err); /* appends */
	int (*set_mark)(struct blob_store *store, const char *text, size_t n, struct err *err);
	int (*served)(struct blob_store *store, struct err *err);
};

#endif
