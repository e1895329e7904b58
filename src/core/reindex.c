/*
 * Rebuilds the rows from the stored files' descriptions alone. Command line; rows that are there stay as they are, so it may be run
 * twice, and beside a serving daemon.
 *
 * A file whose size contradicts its description gets no row: a row never leads to bytes that are not all there. One without a
 * description is described anew from its bytes, under the name `unnamed`.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/model/media_type.h"

#include "upkeep_private.h"

enum { BATCH = 200 };

struct reindex {
	struct metadata *metadata;
	struct blob_store *blobs;
	void (*failed)(void *context, const struct uuid *id, const struct err *why);
	void *context;
	struct reindex_summary *summary;
	struct err *err;
	bool behind; /* the database was lost or set back: rows that are there may be old */
	struct blob_info waiting[BATCH]; /* visited, not registered yet */
	size_t n;
};

static void fail(struct reindex *reindex, const struct uuid *id, const struct err *why)
{
	reindex->summary->failed++;
	if (reindex->failed)
		reindex->failed(reindex->context, id, why);
}

static int read_head(struct blob_store *blobs, const struct uuid *id,
		     unsigned char head[MEDIA_TYPE_SNIFF_LEN], size_t *n, struct err *err)
{
	struct blob_reader *reader = NULL;
	size_t got = 1;
	int rc = blob_open(blobs, id, &reader, err);
	*n = 0;
	while (rc == 1 && got > 0 && *n < MEDIA_TYPE_SNIFF_LEN) {
		if (blob_read(reader, (int64_t)*n, head + *n, MEDIA_TYPE_SNIFF_LEN - *n, &got,
			      err) < 0)
			rc = -1;
		else
			*n += got;
	}
	blob_reader_free(&reader);
	return rc;
}

/* What can be known from the bytes alone, written down with them. 1, 0 (gone meanwhile), -1. */
static int describe_anew(struct reindex *reindex, const struct blob_info *info,
			 struct file_record **out, struct err *err)
{
	unsigned char head[MEDIA_TYPE_SNIFF_LEN];
	struct file_record record = {
		.id = info->id,
		.created_ms = info->modified_ms,
		.revision = 1,
		.name = "unnamed",
		.tags = "[]",
		.attributes = "{}",
	};
	size_t n = 0;
	int rc = maintenance_hash(reindex->blobs, &info->id, record.sha256, &record.size, err);
	if (rc == 1)
		rc = read_head(reindex->blobs, &info->id, head, &n, err);
	if (rc != 1)
		return rc;
	struct media_type_verdict verdict =
		media_type_decide(head, n, (int64_t)n == record.size, record.name, NULL);
	record.type = verdict.type;
	record.sniffed = verdict.sniffed;
	struct file_record *made = file_record_new(&record);
	if (!made)
		return err_set(err, ERR_NO_MEMORY, "file record");
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(made, &text);
	rc = blob_describe(reindex->blobs, &info->id, buf_text(&text), text.len, err);
	buf_release(&text);
	if (rc == 1)
		*out = made;
	else
		file_record_unref(&made);
	return rc;
}

/* The record that a stored file speaks of. 1, 0 (gone meanwhile), -1. */
static int record_of(struct reindex *reindex, const struct blob_info *info,
		     struct file_record **out, struct err *err)
{
	struct file_record *record = NULL;
	int rc = maintenance_described(reindex->blobs, &info->id, &record, err);
	if (rc == 0)
		return describe_anew(reindex, info, out, err);
	if (rc == 1 && record->size != info->size) {
		rc = err_set(err, ERR_IO, "%lld bytes where its description says %lld",
			     (long long)info->size, (long long)record->size);
		file_record_unref(&record);
	}
	if (rc == 1)
		*out = record;
	return rc;
}

static int register_records(struct reindex *reindex, struct file_record **records, size_t n)
{
	struct registration registrations[BATCH];
	memset(registrations, 0, sizeof(registrations));
	for (size_t i = 0; i < n; i++)
		registrations[i] = (struct registration){.files = &records[i], .n = 1};
	if (n == 0)
		return 0;
	if (metadata_register(reindex->metadata, registrations, n, reindex->err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (registrations[i].result == 0)
			reindex->summary->registered++;
		else
			fail(reindex, &records[i]->id, &registrations[i].err);
	}
	return 0;
}

/* A row that was there: one of a database that was set back may be older than what its file says. */
static int bring_up(struct reindex *reindex, const struct uuid *id)
{
	struct file_record *row = NULL, *described = NULL;
	struct err why;
	int rc = 0;
	reindex->summary->already++;
	if (!reindex->behind || maintenance_described(reindex->blobs, id, &described, &why) != 1)
		return 0;
	rc = maintenance_row(reindex->metadata, id, &row, reindex->err);
	if (rc == 1 && described->revision > row->revision) {
		rc = metadata_update(reindex->metadata, described, row->revision, reindex->err);
		reindex->summary->updated += rc == 1;
	}
	file_record_unref(&row);
	file_record_unref(&described);
	return rc < 0 ? -1 : 0;
}

static int flush(struct reindex *reindex)
{
	struct uuid ids[BATCH];
	bool present[BATCH];
	struct file_record *records[BATCH];
	size_t n = 0;
	int rc = 0;
	for (size_t i = 0; i < reindex->n; i++)
		ids[i] = reindex->waiting[i].id;
	if (reindex->n > 0 &&
	    metadata_present(reindex->metadata, ids, reindex->n, present, reindex->err) < 0)
		return -1;
	for (size_t i = 0; rc == 0 && i < reindex->n; i++) {
		struct err why;
		if (present[i]) {
			rc = bring_up(reindex, &ids[i]);
			continue;
		}
		int found = record_of(reindex, &reindex->waiting[i], &records[n], &why);
		if (found < 0)
			fail(reindex, &ids[i], &why);
		n += found == 1;
	}
	if (rc == 0)
		rc = register_records(reindex, records, n);
	for (size_t i = 0; i < n; i++)
		file_record_unref(&records[i]);
	reindex->n = 0;
	return rc;
}

static int visit(void *context, const struct blob_info *info)
{
	struct reindex *reindex = context;
	reindex->summary->blobs++;
	reindex->waiting[reindex->n++] = *info;
	return reindex->n == BATCH ? flush(reindex) : 0;
}

int maintenance_reindex(struct metadata *metadata, struct blob_store *blobs,
			void (*failed)(void *context, const struct uuid *id, const struct err *why),
			void *context, struct reindex_summary *summary, struct err *err)
{
	struct reindex *reindex = calloc(1, sizeof(*reindex));
	if (!reindex)
		return err_set(err, ERR_NO_MEMORY, "reindex");
	*summary = (struct reindex_summary){0};
	reindex->metadata = metadata;
	reindex->blobs = blobs;
	reindex->failed = failed;
	reindex->context = context;
	reindex->summary = summary;
	reindex->err = err;
	int rc = marks_agree(metadata, blobs, err);
	reindex->behind = rc == 0;
	if (rc >= 0)
		rc = blob_walk(blobs, visit, reindex, err);
	if (rc == 0)
		rc = flush(reindex);
	/* Files that got no row would be swept: with them it stays as it is. */
	if (rc == 0 && summary->failed == 0)
		rc = marks_settle(metadata, blobs, err);
	free(reindex);
	return rc;
}
