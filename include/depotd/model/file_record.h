/*
 * What is known of one stored file: the row, and the file's own description of itself.
 *
 * Immutable once made and counted by references, so that the cache, a download and a list can share one. All of it is
 * one allocation. Thread: any (the count is atomic).
 */
#ifndef DEPOTD_MODEL_FILE_RECORD_H
#define DEPOTD_MODEL_FILE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/buf.h"
#include "depotd/base/digest.h"
#include "depotd/base/err.h"
#include "depotd/base/json.h"
#include "depotd/base/uuid.h"

enum visibility {
	VISIBILITY_PRIVATE, /* owner and admins */
	VISIBILITY_PUBLIC,  /* anyone who has the URL */
};

enum { FILE_EXPIRES_NEVER = 0 };

struct file_record {
	struct uuid id;
	int64_t size;       /* bytes */
	int64_t created_ms; /* Unix ms, UTC: when the upload was complete */
	int64_t expires_ms; /* Unix ms, or FILE_EXPIRES_NEVER */
	int64_t revision;   /* 1 at birth, +1 with every change of metadata */
	unsigned char sha256[SHA256_LEN];
	enum visibility visibility;
	bool unregistered; /* stored, and its row follows when the database is back; no part of the description */
	const char *name; /* 1–255 characters of UTF-8 */
	const char *type; /* media type served as Content-Type */
	/* what the bytes' signature says, or NULL; only this decides what may be shown inline */
	const char *sniffed;
	const char *owner;      /* or NULL */
	const char *tags;       /* JSON array of strings, compact: ["q4"] */
	const char *attributes; /* JSON object, compact, keys sorted */
};

/* Copies everything `from` points to. One reference, the caller's. NULL out of memory. */
struct file_record *file_record_new(const struct file_record *from);
/* The same file, whose row is still to come. A new record, as file_record_new() makes. */
struct file_record *file_record_unregistered(const struct file_record *from);
struct file_record *file_record_ref(struct file_record *record); /* returns its argument */
/* takes NULL inside; nulls the owner's pointer */
void file_record_unref(struct file_record **record);

/* The file object of the contract, one JSON object with keys in the contract's order. */
void file_record_json(const struct file_record *record, struct json_writer *w);
/* The description that travels with the bytes: the record as JSON with "v":1, "revision", "sniffed". */
void file_record_describe(const struct file_record *record, struct buf *out);
/*
 * The same in at most FILE_PACKED_MAX bytes, without the id; false (out has anything) where the record has more to tell. Most have
 * not. What such a description costs beside a longer one: file_description.c.
 */
enum { FILE_PACKED_MAX = 64 };
bool file_record_pack(const struct file_record *record, struct buf *out);
/* The way back, from either form; the id is what a short one belongs to, a long one has its own. 1 ok, 0 no description. */
int file_record_unpack(const struct uuid *id, const char *text, size_t n, struct file_record **out,
		       struct err *err);
/* From the long form alone. 1 ok, 0 not a description (err says why). */
int file_record_from_description(const char *text, size_t n, struct file_record **out,
				 struct err *err);

#endif
