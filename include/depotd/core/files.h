/* Finding, downloading, listing, changing and removing files. */
#ifndef DEPOTD_CORE_FILES_H
#define DEPOTD_CORE_FILES_H

#include "depotd/core/core.h"

/* --- the cache: event thread; memory only, never blocks --- */

struct cached_body; /* the bytes of a small file, immutable, counted by references */
const void *cached_body_data(const struct cached_body *body, size_t *n);
struct cached_body *cached_body_ref(struct cached_body *body);
void cached_body_unref(struct cached_body **body);

/*
 * What memory knows of this id. 1: *record has one more reference, the caller's, and *body too where its bytes are in
 * memory (else NULL; body itself may be NULL: not wanted). 0: ask files_find() on a worker. Expired ones are never given.
 */
int files_cached(struct core *core, const struct uuid *id, struct file_record **record,
		 struct cached_body **body);

/* --- worker threads --- */

/* 1 found (cache first, then the database), 0 absent or expired, -1. */
int files_find(struct core *core, const struct uuid *id, struct file_record **record,
	       struct err *err);
/* The same, with its bytes: small ones come as *body (and are kept in the cache), others as an open *reader. */
int files_open(struct core *core, const struct uuid *id, struct file_record **record,
	       struct cached_body **body, struct blob_reader **reader, struct err *err);
int files_list(struct core *core, const struct list_query *query, struct file_list *out,
	       struct err *err);
/*
 * RFC 7396 merge patch; if_match is the value of If-Match, held against files_metadata_etag(), or NULL. 1 changed (*record is
 * the new one), 0 absent, -1 (ERR_PRECONDITION, ERR_INVALID …). Row first, then the file's own description, then the answer.
 */
int files_patch(struct core *core, const struct uuid *id, const char *patch, size_t n,
		const char *if_match, struct file_record **record, struct err *err);
/* I3: row first, bytes after. 1 removed, 0 absent, -1. */
int files_remove(struct core *core, const struct uuid *id, struct err *err);

enum { FILES_ETAG_MAX = 80 };
/* The strong ETag (with quotes) of the file's bytes, and that of its metadata. */
void files_etag(const struct file_record *record, char out[FILES_ETAG_MAX]);
void files_metadata_etag(const struct file_record *record, char out[FILES_ETAG_MAX]);

#endif
