/* One upload, between upload.c (which takes its bytes) and committer.c (which gives it name and row). */
#ifndef DEPOTD_CORE_UPLOAD_PRIVATE_H
#define DEPOTD_CORE_UPLOAD_PRIVATE_H

#include "core_private.h"

#include "depotd/model/media_type.h"

enum upload_state {
	UPLOAD_RECEIVING, /* bytes come; nothing is durable, a crash leaves nothing */
	/*
	 * Complete, and no name leads to it. Either its writer has made bytes and description durable, or it is small: all in
	 * memory, and the journal has still to make it durable.
	 */
	UPLOAD_SEALED,
	UPLOAD_COMMITTING, /* the committer's alone; a name may lead to the bytes (I2) */
	UPLOAD_PENDING, /* durable, and the journal will have it registered: it is a file, its row follows */
	UPLOAD_REGISTERED, /* the row is committed (I1): it is a file */
	UPLOAD_FAILED,     /* a step failed; it is only to be aborted */
	UPLOAD_STATES
};

struct upload {
	struct core *core;
	enum upload_state state;
	struct uuid id;
	struct blob_writer *writer; /* NULL while it may be small, and once published */
	/* The bytes, while they are few: no file is begun before they are all there. NULL once they are in a writer. */
	char *bytes;
	size_t bytes_cap; /* of them, this much is taken from core.small_bytes */
	int64_t size;     /* bytes so far */
	bool small; /* it was sealed the short way: `bytes` and `description` go into the journal */
	bool named; /* a name leads to the bytes: whoever frees it before it is a file removes them */
	bool entered;                  /* it stands in core.committing */
	struct buf description;        /* of a small one, for the journal */
	uint32_t checksum;             /* journal_checksum() of description and bytes */
	struct digest *digest;         /* NULL once sealed */
	struct backlog *backlog;       /* what was lent to a large one, or NULL: backlog.c */
	struct blob_reservation *room; /* the request's, or NULL */
	int64_t declared;              /* bytes that the client announced, or -1 */
	unsigned char expected[2][SHA256_LEN];
	bool has_expected[2];
	char *name, *client_type, *owner; /* the last two may be NULL */
	struct file_record *record;       /* NULL until sealed */
	uint64_t ticket; /* the cache's, taken by the committer before the row is written */
	struct upload *next_committing, *prev_committing; /* guarded by core.committing_lock */
};

/* The one place where a state changes; asserts that the change is legal. */
void upload_move(struct upload *upload, enum upload_state to);
/*
 * Makes a small one whole under its name, unsynced; it was entered, so the sweep spares it. 1; 0 this store has no such way for it,
 * see upload_write_out(); -1, and nothing is there. The journal may have it already, and may not drop it before (committer.c).
 */
int upload_place(struct upload *upload, struct err *err);
/* The other way: through a writer, which is sealed and has still to be published. Its bytes stay in memory, too. */
int upload_write_out(struct upload *upload, struct err *err);
/* Frees it with whatever it still holds; unpublished bytes are discarded. */
void upload_free(struct upload **upload);

/*
 * The rows of these requests have to wait: makes that durable and has the follower see to it (commit_pending.c). Those for
 * which that worked have the result 0 and the records of their answer.
 */
int commits_write_pending(struct core *core, struct upload_commit **commits, size_t n,
			  struct err *err);

#endif
