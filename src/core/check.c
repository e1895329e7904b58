/*
 * Compares rows and stored files both ways. Command line; may run beside a serving daemon.
 *
 * What looks wrong is looked at again before it is said: beside a daemon a file may be changed or removed between two looks. Bytes
 * without a row are a finding only when they are older than the grace. Of row and description the newer revision is right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"

#include "core_private.h"

enum { ROW_BATCH = 500, BLOB_BATCH = 500, DESCRIBE_TRIES = 8 };

struct check {
	struct metadata *metadata;
	struct blob_store *blobs;
	const struct check_options *options;
	struct check_summary *summary;
	struct err *err;
	int64_t before_ms;                  /* bytes that are younger may lack their row */
	struct uuid candidates[BLOB_BATCH]; /* old enough bytes whose rows were not asked for yet */
	size_t n;
};

static void report(struct check *check, enum finding_kind kind, const struct uuid *id,
		   bool repaired, const char *detail)
{
	struct finding finding = {.kind = kind, .id = *id, .detail = detail, .repaired = repaired};
	check->summary->findings++;
	check->summary->repaired += repaired;
	if (check->options->found)
		check->options->found(check->options->context, &finding);
}

/* --- rows --- */

/* Asked again in this order: a removal takes the row first, so a row that is still there after the bytes were missed lacks them. */
static int row_without_bytes(struct check *check, const struct file_record *row)
{
	struct file_record *still = NULL;
	bool repaired = false;
	int rc = maintenance_row(check->metadata, &row->id, &still, check->err);
	if (rc != 1)
		return rc;
	file_record_unref(&still);
	if (check->options->repair) {
		if (metadata_remove(check->metadata, &row->id, check->err) < 0)
			return -1;
		repaired = true;
	}
	report(check, FINDING_ROW_WITHOUT_BYTES, &row->id, repaired, row->name);
	return 0;
}

static bool same_description(const struct file_record *a, const struct file_record *b)
{
	struct buf left, right;
	buf_init(&left, BLOB_DESCRIPTION_MAX);
	buf_init(&right, BLOB_DESCRIPTION_MAX);
	file_record_describe(a, &left);
	file_record_describe(b, &right);
	bool same = !left.failed && !right.failed && left.len == right.len &&
		    memcmp(left.data, right.data, left.len) == 0;
	buf_release(&left);
	buf_release(&right);
	return same;
}

/* Reads row and description again. 1 they are there and differ (or the description is missing: *described NULL), 0, -1. */
static int differs(struct check *check, const struct uuid *id, struct file_record **row,
		   struct file_record **described)
{
	struct err why;
	int rc = maintenance_row(check->metadata, id, row, check->err);
	if (rc != 1)
		return rc;
	rc = maintenance_described(check->blobs, id, described, &why);
	if (rc < 0) {
		*check->err = why;
		return -1;
	}
	return rc == 0 || !same_description(*row, *described);
}

static int describe(struct check *check, const struct file_record *row)
{
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	file_record_describe(row, &text);
	int rc = text.failed ? err_set(check->err, ERR_INVALID, "the description is too large")
			     : blob_describe(check->blobs, &row->id, buf_text(&text), text.len,
					     check->err);
	buf_release(&text);
	return rc < 0 ? -1 : 0;
}

/* Beside a daemon the row may move on while the description is written: until both agree. 1 mended, 0 not, -1. */
static int mend_description(struct check *check, const struct uuid *id)
{
	int rc = 1;
	for (int tries = 0; rc == 1 && tries < DESCRIBE_TRIES; tries++) {
		struct file_record *row = NULL, *described = NULL;
		rc = differs(check, id, &row, &described);
		if (rc == 0) {
			file_record_unref(&row);
			file_record_unref(&described);
			return 1;
		}
		if (rc == 1 && described && described->revision > row->revision) {
			if (metadata_update(check->metadata, described, row->revision, check->err) <
			    0)
				rc = -1;
		} else if (rc == 1 && describe(check, row) < 0) {
			rc = -1;
		}
		file_record_unref(&row);
		file_record_unref(&described);
	}
	return rc < 0 ? -1 : 0;
}

static int check_description(struct check *check, const struct uuid *id)
{
	struct file_record *row = NULL, *described = NULL;
	int rc = differs(check, id, &row, &described);
	if (rc == 1 && described) { /* once more: a change writes the row first */
		file_record_unref(&row);
		file_record_unref(&described);
		rc = differs(check, id, &row, &described);
	}
	if (rc == 1) {
		int mended = check->options->repair ? mend_description(check, id) : 0;
		if (mended < 0)
			rc = -1;
		else
			report(check,
			       described ? FINDING_DESCRIPTION_DIFFERS
					 : FINDING_DESCRIPTION_MISSING,
			       id, mended == 1,
			       described ? "row and description do not say the same"
					 : "the file does not describe itself");
	}
	file_record_unref(&row);
	file_record_unref(&described);
	return rc < 0 ? -1 : 0;
}

/* Re-hashes. 0 as it should be, 1 reported, -1. */
static int verify_bytes(struct check *check, const struct file_record *row)
{
	unsigned char sha256[SHA256_LEN];
	struct err why;
	int64_t size;
	int rc = maintenance_hash(check->blobs, &row->id, sha256, &size, &why);
	if (rc < 0) {
		report(check, FINDING_UNREADABLE, &row->id, false, why.message);
		return 1;
	}
	if (rc == 1 && memcmp(sha256, row->sha256, SHA256_LEN) != 0) {
		report(check, FINDING_DIGEST_DIFFERS, &row->id, false,
		       "the bytes do not have the digest that they were stored with");
		return 1;
	}
	return 0;
}

static int check_row(struct check *check, const struct file_record *row)
{
	struct blob_reader *reader = NULL;
	struct err why;
	char detail[96];
	int rc = blob_open(check->blobs, &row->id, &reader, &why);
	if (rc == 0)
		return row_without_bytes(check, row);
	if (rc < 0) {
		report(check, FINDING_UNREADABLE, &row->id, false, why.message);
		return 0;
	}
	int64_t size = blob_size(reader);
	blob_reader_free(&reader);
	if (size != row->size) {
		snprintf(detail, sizeof(detail), "%lld bytes where the row says %lld",
			 (long long)size, (long long)row->size);
		report(check, FINDING_SIZE_DIFFERS, &row->id, false, detail);
	} else if (check->options->verify && verify_bytes(check, row) < 0) {
		return -1;
	}
	return check_description(check, &row->id);
}

static int check_rows(struct check *check)
{
	struct uuid after;
	bool more = true, first = true;
	int rc = 0;
	while (rc == 0 && more) {
		struct file_list list = {0};
		if (metadata_walk(check->metadata, first ? NULL : &after, ROW_BATCH, &list,
				  check->err) < 0)
			return -1;
		for (size_t i = 0; rc == 0 && i < list.n; i++) {
			check->summary->rows++;
			after = list.files[i]->id;
			rc = check_row(check, list.files[i]);
		}
		more = list.more && list.n > 0;
		first = false;
		file_list_release(&list);
	}
	return rc;
}

/* --- bytes --- */

/*
 * Bytes without a row go; but where the database has no rows at all it is the database that was lost, and the file comes back
 * from its own description.
 */
static int mend_orphan(struct check *check, const struct uuid *id)
{
	struct file_record *record = NULL;
	struct err why;
	if (check->summary->rows > 0)
		return blob_remove(check->blobs, id, check->err) < 0 ? -1 : 1;
	if (maintenance_described(check->blobs, id, &record, &why) != 1)
		return 0;
	struct registration registration = {.files = &record, .n = 1};
	int rc = metadata_register(check->metadata, &registration, 1, check->err);
	file_record_unref(&record);
	if (rc < 0)
		return -1;
	return registration.result == 0;
}

static int ask(struct check *check)
{
	bool present[BLOB_BATCH];
	if (check->n > 0 &&
	    metadata_present(check->metadata, check->candidates, check->n, present, check->err) < 0)
		return -1;
	for (size_t i = 0; i < check->n; i++) {
		const struct uuid *id = &check->candidates[i];
		struct blob_reader *reader = NULL;
		if (present[i])
			continue;
		/* Removed between walk and question? */
		int there = blob_open(check->blobs, id, &reader, check->err);
		blob_reader_free(&reader);
		if (there == 0)
			continue;
		int mended = check->options->repair ? mend_orphan(check, id) : 0;
		if (mended < 0)
			return -1;
		report(check, FINDING_BYTES_WITHOUT_ROW, id, mended == 1,
		       check->summary->rows == 0
			       ? "the database has no rows: `depotd reindex` brings them back"
			       : "no row leads to these bytes");
	}
	check->n = 0;
	return 0;
}

static int visit(void *context, const struct blob_info *info)
{
	struct check *check = context;
	check->summary->blobs++;
	check->summary->bytes += info->size;
	if (info->modified_ms > check->before_ms)
		return 0;
	check->candidates[check->n++] = info->id;
	return check->n == BLOB_BATCH ? ask(check) : 0;
}

int maintenance_check(struct metadata *metadata, struct blob_store *blobs,
		      const struct check_options *options, struct check_summary *summary,
		      struct err *err)
{
	struct check *check = calloc(1, sizeof(*check));
	if (!check)
		return err_set(err, ERR_NO_MEMORY, "check");
	*summary = (struct check_summary){0};
	*check = (struct check){
		.metadata = metadata,
		.blobs = blobs,
		.options = options,
		.summary = summary,
		.err = err,
		.before_ms = clock_wall_ms() - options->grace_ms,
	};
	int rc = check_rows(check);
	if (rc == 0)
		rc = blob_walk(blobs, visit, check, err);
	if (rc == 0)
		rc = ask(check);
	free(check);
	return rc < 0 ? -1 : 0;
}
