/*
 * Takes uploads from first byte to committed row. Worker threads only; one upload has one owner at a time.
 *
 *   upload_begin → upload_write* → upload_seal → upload_commit (asynchronous) → done callback
 *                                            ↘ upload_abort at any point before commit
 */
#ifndef DEPOTD_CORE_UPLOAD_H
#define DEPOTD_CORE_UPLOAD_H

#include "depotd/core/core.h"
#include "depotd/model/attributes.h"
#include "depotd/model/idempotency.h"
#include "depotd/work/batcher.h"

struct upload;

struct upload_intent {
	const char *name; /* as given; cleaned here (file_name_clean) */
	size_t name_len;
	const char *client_type; /* Content-Type as given, or NULL */
	int64_t size;            /* declared bytes, or -1 */
	/* what core_admit() promised the request, or NULL; outlives its uploads */
	struct blob_reservation *room;
	const char *owner; /* or NULL */
	/* Digests the bytes must have (Content-Digest, Repr-Digest of RFC 9530), NULL where none was given. */
	const unsigned char *expected_sha256[2];
};

int upload_begin(struct core *core, const struct upload_intent *intent, struct upload **out,
		 struct err *err);
/* ERR_TOO_LARGE past core_config.max_upload, ERR_DISK_FULL, ERR_IO. */
int upload_write(struct upload *upload, const void *data, size_t n, struct err *err);
enum { UPLOAD_COPIED = 192 };
/*
 * The same for what comes fast: another worker may read data until upload_settle() says that nobody does, or the upload was
 * identified or aborted; of UPLOAD_COPIED bytes or less a copy is taken. A failure may only show there.
 */
int upload_lend(struct upload *upload, const void *data, size_t n, struct err *err);
/* For who waits for more to lend: does a piece of what is left of that. 1; 0 there is nothing to do; -1. */
int upload_help(struct upload *upload, struct err *err);
/* Nobody reads data[0..n) any more. */
int upload_settle(struct upload *upload, const void *data, size_t n, struct err *err);
int upload_settle_all(struct upload *upload, struct err *err); /* nor anything else that was lent */
/*
 * Ends the bytes: checks digests (ERR_INVALID on mismatch) and decides the type; nothing is durable yet. For who has to know what
 * the file is before it is worth a sync; upload_seal() does it otherwise.
 */
int upload_identify(struct upload *upload, const struct file_labels *labels, struct err *err);
/*
 * The same, where it has not been done, and makes bytes and description durable; those of a small upload become so by
 * upload_commit().
 */
int upload_seal(struct upload *upload, const struct file_labels *labels, struct err *err);
/* After upload_identify() or upload_seal(): what will be the row. The upload's reference. */
const struct file_record *upload_record(const struct upload *upload);
int64_t upload_size(const struct upload *upload);
/* Drops it all; space is given back. Takes NULL inside. */
void upload_abort(struct upload **upload);

/* One request's sealed uploads: all of them become files, or none. Embedded in the request; lives until done() is called. */
struct upload_commit {
	struct batch_item item;   /* the committer's; first */
	uint64_t turn;            /* the committer's: the journal's, before it was journaled */
	bool journaled, deferred; /* the committer's: how it was made durable */
	struct upload **uploads; /* taken over by upload_commit(): freed and nulled before done() */
	size_t n;
	/* the request's key, registered with the files; or NULL */
	const struct idempotency *idempotency;
	void (*done)(struct upload_commit *commit);
	/*
	 * When done() runs: result 0 and records[] (n references that are now the request's), or -1 and err. While the database is
	 * away the records are `unregistered`: stored and durable, their rows follow by themselves.
	 */
	struct file_record **records; /* the caller's array of n */
	int result;
	struct err err;
};

/*
 * Hands the request to the group committer. done() is called exactly once, on the thread that commits (maybe this one, and
 * before this returns; at once when too many wait: result -1, ERR_BUSY); it must not block: it submits the next step
 * elsewhere.
 */
void upload_commit(struct core *core, struct upload_commit *commit);

#endif
