/*
 * Finding, opening, listing, changing and removing files.
 *
 * Invariants: a row read from the database is cached only under a ticket taken before reading it; every change voids the tickets
 * once it is committed; a change reads the row from the database, never from the cache. I3: removal takes the row first.
 * Threads: files_cached() on event threads, all else on workers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/digest.h"
#include "depotd/model/attributes.h"
#include "depotd/model/conditional.h"

#include "unconfirmed_private.h"
#include "upkeep_private.h"

enum { PATCH_TRIES = 32 };

static bool expired(const struct file_record *record)
{
	return record->expires_ms != FILE_EXPIRES_NEVER && record->expires_ms <= clock_wall_ms();
}

int files_cached(struct core *core, const struct uuid *id, struct file_record **record,
		 struct cached_body **body)
{
	struct file_record *found;
	struct cached_body *bytes = NULL;
	if (!cache_get(core->cache, id, &found, body ? &bytes : NULL)) {
		metric_add(core->cache_misses, 1);
		return 0;
	}
	if (expired(found)) {
		file_record_unref(&found);
		cached_body_unref(&bytes);
		return 0;
	}
	metric_add(core->cache_hits, 1);
	*record = found;
	if (body)
		*body = bytes;
	return 1;
}

/*
 * What the file says of itself: while the database is away, and while its row has still to come. A file without bytes has no row
 * (I1), so it is not there. It is not put into the cache: the database has the last word when it is back.
 */
static int find_description(struct core *core, const struct uuid *id, bool waits,
			    struct file_record **record, struct err *err)
{
	struct file_record *found = NULL;
	int rc = maintenance_described(core->blobs, id, &found, err);
	if (rc != 1)
		return rc;
	if (expired(found)) {
		file_record_unref(&found);
		return 0;
	}
	if (waits) {
		struct file_record *marked = file_record_unregistered(found);
		file_record_unref(&found);
		if (!marked)
			return err_set(err, ERR_NO_MEMORY, "file record");
		found = marked;
	}
	*record = found;
	return 1;
}

/* What a call to the database came to, which readiness is to know as soon as whoever asked. */
static int heard(struct core *core, int rc, const struct err *err)
{
	if (rc < 0)
		health_note_database(core, err);
	return rc;
}

static bool is_away(const struct err *err)
{
	return err->kind == ERR_UNAVAILABLE || err->kind == ERR_BUSY;
}

/*
 * Whether a row that is missing was committed, or will be: a server that crashed may have forgotten it. Where that may be, the
 * server is asked now: one that has not crashed had the row removed.
 */
static bool may_come(struct core *core, const struct uuid *id)
{
	struct err ignored; /* then nobody knows, and it may */
	if (unconfirmed_has(core, id))
		(void)unconfirmed_confirm(core, &ignored);
	return unconfirmed_has(core, id) || pending_has(core, id);
}

/* From the database, into the cache. *ticket is good for putting more of the same file. */
static int find_row(struct core *core, const struct uuid *id, struct file_record **record,
		    uint64_t *ticket, struct err *err)
{
	*ticket = cache_ticket(core->cache, id);
	struct file_record *found = NULL;
	if (pending_has(core, id)) /* asked first: it leaves the table after its row has come */
		return find_description(core, id, true, record, err);
	int rc = heard(core, metadata_find(core->metadata, id, &found, err), err);
	if (rc < 0 && is_away(err))
		return find_description(core, id, false, record, err);
	if (rc == 0 && may_come(core, id))
		return find_description(core, id, true, record, err);
	if (rc != 1)
		return rc;
	cache_put(core->cache, found, NULL, *ticket);
	*record = found;
	return 1;
}

int files_find(struct core *core, const struct uuid *id, struct file_record **record,
	       struct err *err)
{
	uint64_t ticket;
	if (files_cached(core, id, record, NULL) == 1)
		return 1;
	return find_row(core, id, record, &ticket, err);
}

/* --- opening --- */

static int read_body(struct core *core, const struct file_record *record,
		     struct blob_reader *reader, struct cached_body **out, struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	size_t n = (size_t)record->size;
	void *data;
	struct cached_body *body = cached_body_new(n, &data);
	if (!body)
		return err_set(err, ERR_NO_MEMORY, "reading a stored file");
	size_t at = 0, got = 1;
	int rc = 0;
	while (rc == 0 && at < n && got > 0) {
		rc = blob_read(reader, (int64_t)at, (char *)data + at, n - at, &got, err);
		at += rc == 0 ? got : 0;
	}
	/* What is kept in memory was right when it was read: one SHA-256 of what is small. */
	if (rc == 0)
		rc = digest_sha256(data, at, sha256, err);
	if (rc == 0 && (at < n || memcmp(sha256, record->sha256, SHA256_LEN) != 0))
		rc = damage_suspect(core, &record->id,
				    "they do not have the digest that they were stored with", err);
	if (rc < 0) {
		cached_body_unref(&body);
		return -1;
	}
	*out = body;
	return 0;
}

/* The bytes of a record: *reader, or *body for small ones. 1, 0 there are none, -1. */
static int open_bytes(struct core *core, struct file_record *record, uint64_t ticket,
		      struct cached_body **body, struct blob_reader **reader, struct err *err)
{
	struct blob_reader *opened = NULL;
	if (damage_known(core, &record->id))
		return err_set(err, ERR_DAMAGED, "the stored bytes are damaged, and marked so");
	int rc = blob_open(core->blobs, &record->id, &opened, err);
	if (rc != 1)
		return rc;
	if (blob_size(opened) != record->size) {
		rc = damage_suspect(core, &record->id, "they are more or less than the row says",
				    err);
	} else if ((uint64_t)record->size <= core->config.cache_body_max) {
		struct cached_body *bytes = NULL;
		rc = read_body(core, record, opened, &bytes, err);
		if (rc == 0) {
			cache_put(core->cache, record, bytes, ticket);
			*body = bytes;
			rc = 1;
		}
	} else {
		*reader = opened;
		return 1;
	}
	blob_reader_free(&opened);
	return rc;
}

int files_open(struct core *core, const struct uuid *id, struct file_record **record,
	       struct cached_body **body, struct blob_reader **reader, struct err *err)
{
	struct file_record *found = NULL;
	struct cached_body *bytes = NULL;
	struct blob_reader *opened = NULL;
	uint64_t ticket = cache_ticket(core->cache, id);
	int rc = files_cached(core, id, &found, &bytes);
	if (rc == 0)
		rc = find_row(core, id, &found, &ticket, err);
	if (rc == 1 && !bytes)
		rc = open_bytes(core, found, ticket, &bytes, &opened, err);
	else if (rc != 1)
		return rc;
	if (rc == 0) {
		/* Removed while we looked (row first, I3)? Then the row, read now, is gone too. */
		file_record_unref(&found);
		cache_drop(core->cache, id);
		rc = find_row(core, id, &found, &ticket, err);
		if (rc == 1)
			rc = damage_suspect(core, id, "they are missing", err);
	}
	if (rc != 1) {
		file_record_unref(&found);
		return rc;
	}
	*record = found;
	*body = bytes;
	*reader = opened;
	return 1;
}

int files_list(struct core *core, const struct list_query *query, struct file_list *out,
	       struct err *err)
{
	return heard(core, metadata_list(core->metadata, query, out, err), err);
}

/* --- changing --- */

int description_failed(const struct buf *text, struct err *err)
{
	if (text->no_memory)
		return err_set(err, ERR_NO_MEMORY, "a description");
	return err_set(err, ERR_INVALID, "name, tags and attributes are too large together");
}

static int describe_locked(struct core *core, const struct file_record *record, struct err *err)
{
	struct file_record *described = NULL;
	struct buf text;
	int rc = maintenance_described(core->blobs, &record->id, &described, err);
	if (rc < 0)
		return -1;
	bool newer = rc == 0 || described->revision < record->revision;
	file_record_unref(&described);
	if (!newer)
		return 0;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(record, &text);
	if (text.failed)
		rc = description_failed(&text, err);
	else
		rc = blob_describe(core->blobs, &record->id, buf_text(&text), text.len, err);
	buf_release(&text);
	if (rc < 0 && err->kind == ERR_IO)
		health_note_io_failure(core, err);
	return rc;
}

int describe_if_newer(struct core *core, const struct file_record *record, struct err *err)
{
	pthread_mutex_t *lock = &core->describing[record->id.bytes[15] % DESCRIBE_STRIPES];
	pthread_mutex_lock(lock);
	int rc = describe_locked(core, record, err);
	pthread_mutex_unlock(lock);
	return rc;
}

static int check_if_match(const struct file_record *record, const char *if_match, struct err *err)
{
	char etag[FILES_ETAG_MAX];
	if (!if_match)
		return 0;
	struct conditional_headers headers = {.if_match = if_match};
	files_metadata_etag(record, etag);
	if (conditional_evaluate(&headers, false, etag, -1) == CONDITIONAL_FAILED)
		return err_set(err, ERR_PRECONDITION, "the metadata is not as If-Match has it");
	return 0;
}

/* A description must hold what the row holds: what is too large for it is refused before the row is changed. */
static int check_describable(const struct file_record *record, struct err *err)
{
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(record, &text);
	int rc = text.failed ? description_failed(&text, err) : 0;
	buf_release(&text);
	return rc;
}

/* Its row comes with the database, within moments of its return: then it can be changed. */
static int not_registered_yet(struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE,
		       "the database has not registered this file yet: try again");
}

/*
 * One round of the optimistic loop. 1 committed (or nothing was to change), 0 no such file, 2 somebody else was faster, -1.
 */
static int patch_once(struct core *core, const struct uuid *id, const char *patch, size_t n,
		      const char *if_match, struct file_record **out, struct err *err)
{
	struct file_record *before = NULL, *after = NULL;
	if (pending_has(core, id))
		return not_registered_yet(err);
	int rc = heard(core, metadata_find(core->metadata, id, &before, err), err);
	if (rc == 0 && may_come(core, id))
		return not_registered_yet(err);
	if (rc != 1)
		return rc;
	if (check_if_match(before, if_match, err) < 0 ||
	    file_record_patch(before, patch, n, &after, err) < 0 ||
	    check_describable(after, err) < 0) {
		rc = -1;
	} else if (after->revision != before->revision) {
		rc = heard(core, metadata_update(core->metadata, after, before->revision, err),
			   err);
		cache_drop(core->cache, id); /* whatever came of it */
		rc = rc == 0 ? 2 : rc;
	}
	if (rc == 1)
		*out = file_record_ref(after);
	file_record_unref(&before);
	file_record_unref(&after);
	return rc;
}

int files_patch(struct core *core, const struct uuid *id, const char *patch, size_t n,
		const char *if_match, struct file_record **record, struct err *err)
{
	struct file_record *patched = NULL;
	int rc = 2;
	/* A COMMIT whose answer was lost is asked again: were it done, the second patch finds nothing left to change. */
	bool asked_again = false;
	for (int tries = 0; rc == 2 && tries < PATCH_TRIES; tries++) {
		rc = patch_once(core, id, patch, n, if_match, &patched, err);
		if (rc < 0 && err->kind == ERR_UNKNOWN_OUTCOME && !asked_again && !if_match) {
			asked_again = true;
			rc = 2;
		}
	}
	if (rc == 2)
		return err_set(err, ERR_BUSY, "others change this file's metadata all the time");
	if (rc < 0 && err->kind == ERR_UNKNOWN_OUTCOME) {
		descriptions_doubt(core);
		return err_set(err, ERR_UNAVAILABLE,
			       "the database did not say whether the change was made");
	}
	if (rc != 1)
		return rc;
	/* Even where nothing changed: an earlier patch may have failed just here. */
	if (describe_if_newer(core, patched, err) < 0) {
		descriptions_doubt(core);
		file_record_unref(&patched);
		return -1;
	}
	*record = patched;
	return 1;
}

/* --- removing --- */

static int remove_row(struct core *core, const struct uuid *id, struct err *err)
{
	struct err ignored;
	bool present;
	int rc = heard(core, metadata_remove(core->metadata, id, err), err);
	cache_drop(core->cache, id);
	if (rc == 0 || rc == 1 || err->kind != ERR_UNKNOWN_OUTCOME)
		return rc;
	if (metadata_present(core->metadata, id, 1, &present, &ignored) < 0 || present)
		return err_set(err, ERR_UNAVAILABLE,
			       "the database did not say whether the file was removed");
	return 1;
}

int files_remove(struct core *core, const struct uuid *id, struct err *err)
{
	struct file_record *record = NULL;
	struct err ignored;
	int rc = files_find(core, id, &record, err); /* what is expired is not there any more */
	if (rc != 1)
		return rc;
	file_record_unref(&record);
	unconfirmed_hold(core);
	/* A row that somebody may be about to write would be back after its removal. From here on nobody begins to. */
	rc = row_comes(core, id) ? not_registered_yet(err) : remove_row(core, id, err);
	unconfirmed_release(core, id, rc == 1);
	if (rc == 0 && may_come(core, id))
		return not_registered_yet(err);
	if (rc != 1)
		return rc;
	if (intake_removed(core, id, err) < 0) {
		if (err->kind == ERR_IO)
			health_note_io_failure(core, err);
		return -1;
	}
	/* Without its row it is removed; bytes that stay are an orphan (I2), and the sweep takes them. */
	if (blob_remove(core->blobs, id, &ignored) < 0 && ignored.kind == ERR_IO)
		health_note_io_failure(core, &ignored);
	return 1;
}

/* --- ETags --- */

void files_etag(const struct file_record *record, char out[FILES_ETAG_MAX])
{
	out[0] = '"';
	hex_encode(record->sha256, SHA256_LEN, out + 1);
	memcpy(out + 1 + SHA256_HEX_LEN, "\"", 2);
}

void files_metadata_etag(const struct file_record *record, char out[FILES_ETAG_MAX])
{
	char id[UUID_TEXT_LEN + 1];
	uuid_format(&record->id, id);
	snprintf(out, FILES_ETAG_MAX, "\"%s-%lld\"", id, (long long)record->revision);
}
