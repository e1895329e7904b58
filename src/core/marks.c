/*
 * What ties a data directory and its database together, so that nobody takes a database that was restored to an earlier time, lost
 * or mixed up for many files that nobody wants.
 *
 * The directory has an id and a number (blob_mark()), the database a row with the same. Whenever files were registered both are
 * counted up, the database first, the directory after: so a database is never behind its directory, whatever crashes in between,
 * unless it was set back. Then the mark does not move any more, and nothing is removed, until `reindex` (or `check --repair`) has
 * given every file its row and settles the two. A directory without a mark is new or was written by an earlier release: it gets
 * one. A database without a row for a directory that has a mark is another one, or was lost; unless it is empty and the directory
 * nearly so, as after trying things out: then it takes the directory over, and what little is in there is garbage like any.
 * Each directory has its own row, so nodes that share a database do not hide each other's loss. Counted within a second or
 * two of a registration (sweep.c), so what can be missed is a database set back to a moment in the last two seconds before a
 * crash.
 * Threads: the sweeper's; the command line, beside it: then one more than the other is as good.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/blob/upkeep.h"
#include "depotd/metadata/upkeep.h"

#include "upkeep_private.h"

enum { FEW = 16 }; /* files */

struct mark {
	struct uuid directory;
	int64_t number;
};

/* "depotd 1 UUID NUMBER\n", the number in 20 digits: of one length, so that it can be written over */
static bool parse(const struct buf *text, struct mark *out)
{
	static const char begin[] = "depotd 1 ";
	const size_t at = sizeof(begin) - 1;
	char id[UUID_TEXT_LEN + 1], *end;
	const char *line = buf_text(text);
	if (text->len < at + UUID_TEXT_LEN + 3 || memcmp(line, begin, at) != 0 ||
	    line[at + UUID_TEXT_LEN] != ' ')
		return false;
	memcpy(id, line + at, UUID_TEXT_LEN);
	id[UUID_TEXT_LEN] = '\0';
	errno = 0;
	out->number = strtoll(line + at + UUID_TEXT_LEN + 1, &end, 10);
	return errno == 0 && end == line + text->len - 1 && *end == '\n' && out->number > 0 &&
	       uuid_parse(id, &out->directory);
}

static int read_mark(struct blob_store *blobs, struct mark *out, struct err *err)
{
	struct buf text;
	buf_init(&text, BLOB_MARK_MAX + 1);
	int rc = blob_mark(blobs, &text, err);
	if (rc == 1 && !parse(&text, out)) {
		err_set(err, ERR_CONFLICT, "the data directory's mark cannot be read");
		rc = 2;
	}
	buf_release(&text);
	return rc;
}

static int write_mark(struct blob_store *blobs, const struct mark *mark, struct err *err)
{
	char id[UUID_TEXT_LEN + 1], text[BLOB_MARK_MAX];
	uuid_format(&mark->directory, id);
	int n = snprintf(text, sizeof(text), "depotd 1 %s %020" PRId64 "\n", id, mark->number);
	return blob_set_mark(blobs, text, (size_t)n, err);
}

static int begin(struct metadata *metadata, struct blob_store *blobs, struct err *err)
{
	struct mark mark = {uuid_new(), 1};
	if (metadata_mark_set(metadata, &mark.directory, mark.number, err) < 0 ||
	    write_mark(blobs, &mark, err) < 0)
		return -1;
	return 1;
}

/* Which of the two it is: 0 always. */
static int disagree(bool known, int64_t database, const struct mark *mark, struct err *err)
{
	if (!known)
		err_set(err, ERR_CONFLICT,
			"this database does not know this data directory: it is new, another's, or "
			"restored from long ago. Nothing is removed; `depotd reindex` brings the "
			"rows back");
	else
		err_set(err, ERR_CONFLICT,
			"the database is behind the data directory (%" PRId64 " of %" PRId64
			"): it was restored to an earlier time. Nothing is removed; `depotd "
			"reindex` brings the rows back",
			database, mark->number);
	return 0;
}

static int count(void *context, const struct blob_info *info)
{
	(void)info;
	return ++*(unsigned *)context > FEW;
}

/* 1 there is nothing to lose: no rows, and few files; 0, -1. */
static int is_fresh(struct metadata *metadata, struct blob_store *blobs, struct err *err)
{
	struct file_list list = {0};
	unsigned n = 0;
	if (metadata_walk(metadata, NULL, 1, &list, err) < 0)
		return -1;
	bool empty = list.n == 0;
	file_list_release(&list);
	if (!empty)
		return 0;
	return blob_walk(blobs, count, &n, err) < 0 ? -1 : n <= FEW;
}

int marks_agree(struct metadata *metadata, struct blob_store *blobs, struct err *err)
{
	struct mark mark = {0};
	int64_t database = 0;
	int rc = read_mark(blobs, &mark, err);
	if (rc == 0)
		return 1;
	if (rc != 1)
		return rc < 0 ? -1 : 0;
	rc = metadata_mark(metadata, &mark.directory, &database, err);
	if (rc < 0)
		return -1;
	if (rc == 1)
		return database >= mark.number ? 1 : disagree(true, database, &mark, err);
	rc = is_fresh(metadata, blobs, err);
	return rc == 0 ? disagree(false, 0, &mark, err) : rc;
}

int marks_advance(struct metadata *metadata, struct blob_store *blobs, struct err *err)
{
	struct mark mark = {0};
	int64_t next;
	int rc = read_mark(blobs, &mark, err);
	if (rc == 0)
		return begin(metadata, blobs, err);
	if (rc != 1)
		return rc < 0 ? -1 : 0;
	rc = metadata_mark_advance(metadata, &mark.directory, mark.number, &next, err);
	if (rc == 0) {
		rc = marks_agree(metadata, blobs, err);
		next = mark.number;
		if (rc == 1 && metadata_mark_set(metadata, &mark.directory, next, err) < 0)
			rc = -1;
	}
	if (rc != 1)
		return rc;
	mark.number = next;
	return write_mark(blobs, &mark, err) < 0 ? -1 : 1;
}

int marks_settle(struct metadata *metadata, struct blob_store *blobs, struct err *err)
{
	struct mark mark = {0};
	int64_t database = 0;
	int rc = read_mark(blobs, &mark, err);
	if (rc == 0) /* the next sweep makes one */
		return 0;
	if (rc == 2)
		return begin(metadata, blobs, err) < 0 ? -1 : 0;
	if (rc < 0 || metadata_mark(metadata, &mark.directory, &database, err) < 0)
		return -1;
	if (database >= mark.number)
		return 0;
	return metadata_mark_set(metadata, &mark.directory, mark.number, err);
}
