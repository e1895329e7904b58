/*
 * Compares rows and stored files both ways, and mends. Command line; may run beside a serving daemon.
 *
 * What looks wrong is looked at again before it is said: beside a daemon a file may be changed or removed between two looks. Bytes
 * without a row are a finding only when they are older than the grace. Of row and description the newer revision is right.
 *
 * Repair destroys no bytes. A row whose bytes are gone goes, and the output has all of it; but not where no bytes are left at
 * all, which is another directory or a volume that is not mounted rather than the loss of every file. Bytes without a row get it
 * back from their own description where the database was lost or set back (core/marks.c) and the bytes are right; else they are
 * moved aside, but beside a daemon, which alone knows what it has yet to register, they are left to its sweep. Damaged bytes
 * cannot be mended: they are marked, so that they are not served, and stay a finding.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/blob/upkeep.h"
#include "depotd/metadata/upkeep.h"

#include "upkeep_private.h"

enum {
	ROW_BATCH = 500,
	BLOB_BATCH = 500,
	DESCRIBE_TRIES = 8,
	MARKED_MAX = 1000000,
	/* More rows than this that have no file at all are another directory's. */
	ROWS_OF_NONE_MAX = 16,
};

/* A file that the scrub marked. */
struct marked {
	struct uuid id;
	char damage[DAMAGE_TEXT_MAX];
};

struct check {
	struct metadata *metadata;
	struct blob_store *blobs;
	const struct check_options *options;
	struct check_summary *summary;
	struct err *err;
	int64_t before_ms;     /* bytes that are younger may lack their row */
	bool behind;           /* the database was lost or set back */
	struct err behind_err; /* how */
	bool elsewhere;        /* the bytes of these rows are in another directory */
	int64_t left;          /* bytes without a row that stay so */
	struct marked *marked; /* sorted by id */
	size_t marked_n, marked_room;
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

static void report_row(struct check *check, const struct file_record *row)
{
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	buf_puts(&text, "the row is removed; it was ");
	file_record_describe(row, &text);
	report(check, FINDING_ROW_WITHOUT_BYTES, &row->id, true,
	       text.failed ? row->name : buf_text(&text));
	buf_release(&text);
}

/* Asked again in this order: a removal takes the row first, so a row that is still there after the bytes were missed lacks them. */
static int row_without_bytes(struct check *check, const struct file_record *row)
{
	struct file_record *still = NULL;
	int rc = maintenance_row(check->metadata, &row->id, &still, check->err);
	if (rc != 1)
		return rc;
	if (check->elsewhere)
		report(check, FINDING_ROW_WITHOUT_BYTES, &row->id, false,
		       "no file at all is in this data directory: is it the right one, and "
		       "mounted?");
	else if (!check->options->repair)
		report(check, FINDING_ROW_WITHOUT_BYTES, &row->id, false, row->name);
	else if (metadata_remove(check->metadata, &row->id, check->err) < 0)
		rc = -1;
	else
		report_row(check, still);
	file_record_unref(&still);
	return rc < 0 ? -1 : 0;
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

/* --- bytes of rows --- */

static int compare_marked(const void *a, const void *b)
{
	return uuid_compare(&((const struct marked *)a)->id, &((const struct marked *)b)->id);
}

static int take_marked(void *context, const struct uuid *id, int64_t damaged_ms, const char *damage,
		       struct err *err)
{
	struct check *check = context;
	char when[CLOCK_RFC3339_LEN + 1];
	if (check->marked_n == check->marked_room) {
		size_t room = check->marked_room ? check->marked_room * 2 : 64;
		struct marked *marked = realloc(check->marked, room * sizeof(*marked));
		if (!marked)
			return err_set(err, ERR_NO_MEMORY, "check");
		check->marked = marked;
		check->marked_room = room;
	}
	struct marked *marked = &check->marked[check->marked_n++];
	marked->id = *id;
	clock_format_rfc3339(damaged_ms, when);
	snprintf(marked->damage, sizeof(marked->damage), "%.120s (found %s)", damage, when);
	return 0;
}

static const struct marked *find_marked(const struct check *check, const struct uuid *id)
{
	struct marked key = {.id = *id};
	return check->marked_n == 0
		       ? NULL
		       : bsearch(&key, check->marked, check->marked_n, sizeof(key), compare_marked);
}

/* So that it is not served any more, or again (damage NULL). The daemon learns of it within seconds. */
static int mark(struct check *check, const struct uuid *id, const char *damage)
{
	struct scrub_result result = {*id, clock_wall_ms(), damage};
	return check->options->repair
		       ? metadata_scrub_record(check->metadata, &result, 1, check->err)
		       : 0;
}

static int damaged(struct check *check, enum finding_kind kind, const struct uuid *id,
		   const char *detail)
{
	report(check, kind, id, false, detail);
	return mark(check, id, detail);
}

/* Reads them again. 0, also when something was reported; -1. */
static int verify_bytes(struct check *check, const struct file_record *row, bool is_marked)
{
	unsigned char sha256[SHA256_LEN];
	struct err why;
	int64_t size;
	int rc = maintenance_hash_raw(check->blobs, &row->id, sha256, &size, &why);
	if (rc < 0 && why.kind == ERR_IO)
		return damaged(check, FINDING_UNREADABLE, &row->id, why.message);
	if (rc < 0) {
		*check->err = why;
		return -1;
	}
	if (rc == 1 && memcmp(sha256, row->sha256, SHA256_LEN) != 0)
		return damaged(check, FINDING_DIGEST_DIFFERS, &row->id,
			       "the bytes do not have the digest that they were stored with");
	if (rc == 0 || !is_marked)
		return 0;
	if (mark(check, &row->id, NULL) < 0)
		return -1;
	report(check, FINDING_HEALED, &row->id, check->options->repair,
	       "marked as damaged, but the bytes are right");
	return 0;
}

static int check_bytes(struct check *check, const struct file_record *row, int64_t size)
{
	const struct marked *marked = find_marked(check, &row->id);
	char detail[96];
	if (size != row->size) {
		snprintf(detail, sizeof(detail), "%lld bytes where the row says %lld",
			 (long long)size, (long long)row->size);
		return damaged(check, FINDING_SIZE_DIFFERS, &row->id, detail);
	}
	if (check->options->verify || (marked && check->options->repair))
		return verify_bytes(check, row, marked != NULL);
	if (marked)
		report(check, FINDING_DAMAGED, &row->id, false, marked->damage);
	return 0;
}

static int check_row(struct check *check, const struct file_record *row)
{
	struct blob_reader *reader = NULL;
	struct err why;
	int rc = blob_open(check->blobs, &row->id, &reader, &why);
	if (rc == 0)
		return row_without_bytes(check, row);
	if (rc < 0)
		return damaged(check, FINDING_UNREADABLE, &row->id, why.message);
	int64_t size = blob_size(reader);
	blob_reader_free(&reader);
	return check_bytes(check, row, size) < 0 ? -1 : check_description(check, &row->id);
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

static int register_again(struct check *check, struct file_record *record)
{
	struct registration registration = {.files = &record, .n = 1};
	struct blob_reader *reader = NULL;
	if (metadata_register(check->metadata, &registration, 1, check->err) < 0)
		return -1;
	if (registration.result < 0)
		return 0;
	/* Beside a daemon it may have been removed in this moment: then the row goes, too. */
	int there = blob_open(check->blobs, &record->id, &reader, check->err);
	blob_reader_free(&reader);
	if (there == 0)
		return metadata_remove(check->metadata, &record->id, check->err) < 0 ? -1 : 0;
	return 1;
}

/* The record of bytes that say what they are, and are what they say. 1, 0 not so, -1. */
static int vouched(struct check *check, const struct uuid *id, struct file_record **out)
{
	unsigned char sha256[SHA256_LEN];
	struct file_record *record = NULL;
	int64_t size = 0;
	if (maintenance_described(check->blobs, id, &record, check->err) != 1)
		return check->err->kind == ERR_NOT_FOUND || check->err->kind == ERR_INVALID ? 0
											    : -1;
	int rc = maintenance_hash_raw(check->blobs, id, sha256, &size, check->err);
	if (rc == 1 && (size != record->size || memcmp(sha256, record->sha256, SHA256_LEN) != 0))
		rc = 0;
	if (rc == 1)
		*out = record;
	else
		file_record_unref(&record);
	return rc;
}

static int set_aside(struct check *check, const struct uuid *id, const char **how)
{
	int served = blob_served(check->blobs, check->err);
	if (served < 0)
		return -1;
	if (served) {
		*how = "no row leads to these bytes; the sweep of the daemon that serves them "
		       "removes them";
		return 0;
	}
	*how = "no row leads to these bytes; they are moved to aside in the data directory";
	return blob_set_aside(check->blobs, id, check->err) < 0 ? -1 : 1;
}

/* 1 mended, 0 not, -1. *how says what was done. */
static int mend_orphan(struct check *check, const struct uuid *id, const char **how)
{
	struct file_record *record = NULL;
	if (!check->behind && check->summary->rows > 0)
		return set_aside(check, id, how);
	int rc = vouched(check, id, &record);
	if (rc == 0)
		return set_aside(check, id, how);
	if (rc == 1)
		rc = register_again(check, record);
	if (rc == 1)
		*how = "its row is made again from the file's own description";
	file_record_unref(&record);
	return rc;
}

static int orphan(struct check *check, const struct uuid *id)
{
	const char *how = check->behind || check->summary->rows == 0
				  ? "the database has lost its row: `depotd reindex` brings it back"
				  : "no row leads to these bytes";
	struct blob_reader *reader = NULL;
	/* Removed between walk and question? */
	int there = blob_open(check->blobs, id, &reader, check->err);
	blob_reader_free(&reader);
	if (there == 0)
		return 0;
	int mended = check->options->repair ? mend_orphan(check, id, &how) : 0;
	if (mended < 0)
		return -1;
	check->left += mended == 0;
	report(check, FINDING_BYTES_WITHOUT_ROW, id, mended == 1, how);
	return 0;
}

static int ask(struct check *check)
{
	bool present[BLOB_BATCH];
	int rc = 0;
	if (check->n > 0 &&
	    metadata_present(check->metadata, check->candidates, check->n, present, check->err) < 0)
		return -1;
	for (size_t i = 0; rc == 0 && i < check->n; i++)
		if (!present[i])
			rc = orphan(check, &check->candidates[i]);
	check->n = 0;
	return rc;
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

/* --- the whole --- */

static int any_file(void *context, const struct blob_info *info)
{
	(void)context, (void)info;
	return 1;
}

/* 1, 0, -1. */
static int is_elsewhere(struct check *check)
{
	struct file_list list = {0};
	int rc = blob_walk(check->blobs, any_file, NULL, check->err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	rc = metadata_walk(check->metadata, NULL, ROWS_OF_NONE_MAX + 1, &list, check->err);
	rc = rc < 0 ? -1 : list.n > ROWS_OF_NONE_MAX;
	file_list_release(&list);
	return rc;
}

/* Bytes of a database that was set back are no garbage, however young. */
static int begin(struct check *check)
{
	static const struct uuid none;
	int rc = marks_agree(check->metadata, check->blobs, &check->behind_err);
	if (rc < 0) {
		*check->err = check->behind_err;
		return -1;
	}
	check->behind = rc == 0;
	rc = check->options->repair ? is_elsewhere(check) : 0;
	if (rc < 0)
		return -1;
	check->elsewhere = rc == 1;
	check->before_ms = check->behind ? INT64_MAX : clock_wall_ms() - check->options->grace_ms;
	if (check->behind && !check->options->repair)
		report(check, FINDING_DATABASE_BEHIND, &none, false, check->behind_err.message);
	if (metadata_damaged(check->metadata, MARKED_MAX, take_marked, check, check->err) < 0)
		return -1;
	if (check->marked_n > 0)
		qsort(check->marked, check->marked_n, sizeof(check->marked[0]), compare_marked);
	return 0;
}

/* Once every file has its row, the two agree again. */
static int finish(struct check *check)
{
	static const struct uuid none;
	if (!check->options->repair)
		return 0;
	if (check->left == 0 && marks_settle(check->metadata, check->blobs, check->err) < 0)
		return -1;
	if (check->behind)
		report(check, FINDING_DATABASE_BEHIND, &none, check->left == 0,
		       check->behind_err.message);
	long cleaned = blob_clean(check->blobs, check->options->grace_ms, check->err);
	check->summary->cleaned = cleaned;
	return cleaned < 0 ? -1 : 0;
}

int maintenance_check(struct metadata *metadata, struct blob_store *blobs,
		      const struct check_options *options, struct check_summary *summary,
		      struct err *err)
{
	struct check *check = calloc(1, sizeof(*check));
	if (!check)
		return err_set(err, ERR_NO_MEMORY, "check");
	*summary = (struct check_summary){0};
	check->metadata = metadata;
	check->blobs = blobs;
	check->options = options;
	check->summary = summary;
	check->err = err;
	int rc = begin(check);
	if (rc == 0)
		rc = check_rows(check);
	if (rc == 0)
		rc = blob_walk(blobs, visit, check, err);
	if (rc == 0)
		rc = ask(check);
	if (rc == 0)
		rc = finish(check);
	free(check->marked);
	free(check);
	return rc < 0 ? -1 : 0;
}
