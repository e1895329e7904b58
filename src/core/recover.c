/*
 * What the start does with the journal of the last run: files that a crash has torn are made again, rows that are missing follow.
 *
 * All of it may be done twice: a crash in the middle leaves the old journal, and the next start begins anew. Invariants: the old
 * segments go only when every file is synced and every request without a row stands in the new journal; a request is brought
 * back whole or not at all; what was removed or never answered does not come back. Thread: the main one, before anybody else.
 */
#include <stdlib.h>
#include <string.h>

#include "intake_private.h"

enum { GROUP_MAX = 1 << 20 }; /* files of one request */

struct recovery {
	struct core *core;
	struct err *err;
	struct core_recovery *summary;
	unsigned char *marks; /* sorted by id, MARK_LEN each */
	size_t marks_n, marks_cap;
	/* the request that is being read */
	struct uuid *ids;
	size_t n, cap;
	char *key;
	size_t key_len;
	uint32_t left; /* of its last record */
	bool open;     /* records are to come */
};

/* --- marks --- */

static int compare_marks(const void *a, const void *b)
{
	return memcmp(a, b, MARK_LEN);
}

static int collect_marks(void *context, const struct journal_record *record)
{
	struct recovery *r = context;
	if (record->kind != INTAKE_MARKS)
		return 0;
	size_t n = record->head_len / MARK_LEN;
	if (r->marks_n + n > r->marks_cap) {
		size_t cap = 2 * (r->marks_n + n);
		unsigned char *grown = realloc(r->marks, cap * MARK_LEN);
		if (!grown)
			return err_set(r->err, ERR_NO_MEMORY, "replaying the journal");
		r->marks = grown;
		r->marks_cap = cap;
	}
	memcpy(r->marks + r->marks_n * MARK_LEN, record->head, n * MARK_LEN);
	r->marks_n += n;
	return 0;
}

/* What is known of a file; of two marks the later enum value counts. 0: nothing. */
static int mark_of(const struct recovery *r, const struct uuid *id)
{
	size_t low = 0, high = r->marks_n;
	int found = 0;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (memcmp(r->marks + middle * MARK_LEN, id->bytes, sizeof(id->bytes)) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	while (low < r->marks_n &&
	       memcmp(r->marks + low * MARK_LEN, id->bytes, sizeof(id->bytes)) == 0)
		found = r->marks[low++ * MARK_LEN + sizeof(id->bytes)];
	return found;
}

/* --- files --- */

/* Whether the stored file is as the journal has it. 1, 0 (torn, or not there), -1. */
static int is_whole(struct core *core, const struct file_record *record, struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	int64_t size;
	int rc = maintenance_hash(core->blobs, &record->id, sha256, &size, err);
	if (rc != 1)
		return rc;
	return size == record->size && memcmp(sha256, record->sha256, SHA256_LEN) == 0;
}

static int make_again(struct recovery *r, const struct file_record *journaled,
		      const struct journal_record *record)
{
	struct core *core = r->core;
	struct buf text;
	int rc = intake_newest_description(core, journaled, record, &text, r->err);
	if (rc == 0)
		rc = blob_remove(core->blobs, &journaled->id, r->err);
	/* Synced with all others in the end. */
	if (rc >= 0)
		rc = blob_place(core->blobs, &journaled->id, NULL, record->body, record->body_len,
				text.data, text.len, r->err);
	/* Below the reserve it is still to be there, if there is room at all: restore() does not ask for more. */
	if (rc == 0 || (rc < 0 && r->err->kind == ERR_DISK_FULL))
		rc = blob_restore(core->blobs, &journaled->id, record->body, record->body_len,
				  text.data, text.len, r->err);
	buf_release(&text);
	r->summary->restored += rc >= 0;
	return rc < 0 ? -1 : 0;
}

/* Brings a small file back, if it is to be there. */
static int recover_file(struct recovery *r, const struct journal_record *record, struct uuid *id)
{
	struct file_record *journaled = NULL;
	struct err why;
	int rc = file_record_from_description(record->head, record->head_len, &journaled, &why);
	if (rc != 1)
		return err_set(r->err, ERR_INTERNAL, "the journal has a file that is none: %s",
			       why.message);
	*id = journaled->id;
	int mark = mark_of(r, id);
	if (mark == MARK_DROPPED)
		rc = blob_remove(r->core->blobs, id, r->err) < 0 ? -1 : 1;
	else
		rc = is_whole(r->core, journaled, r->err);
	if (rc < 0 && r->err->kind == ERR_IO && mark != MARK_DROPPED)
		rc = 0; /* unreadable: made again */
	if (rc == 0)
		rc = make_again(r, journaled, record);
	file_record_unref(&journaled);
	return rc < 0 ? -1 : 0;
}

/* --- requests --- */

static void begin_group(struct recovery *r)
{
	free(r->key);
	r->key = NULL;
	r->key_len = 0;
	r->n = 0;
	r->open = true;
}

static int add_pending(struct recovery *r, const struct uuid *ids, size_t n, const char *key,
		       size_t key_len)
{
	r->summary->unregistered += (int64_t)n;
	return pending_add(r->core, ids, n, key, key_len, r->err);
}

/*
 * A request that was registered or failed has a mark at each file; one whose row the database may have forgotten, at those that
 * were removed since: the others are to have theirs.
 */
static int end_group(struct recovery *r)
{
	size_t n = 0;
	r->open = false;
	for (size_t k = 0; k < r->n; k++)
		if (mark_of(r, &r->ids[k]) == 0)
			r->ids[n++] = r->ids[k];
	return n == 0 ? 0 : add_pending(r, r->ids, n, r->key, r->key_len);
}

static int add_id(struct recovery *r, const struct uuid *id)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 64;
		struct uuid *grown =
			cap <= GROUP_MAX ? realloc(r->ids, cap * sizeof(*grown)) : NULL;
		if (!grown)
			return err_set(r->err, ERR_NO_MEMORY, "replaying the journal");
		r->ids = grown;
		r->cap = cap;
	}
	r->ids[r->n++] = *id;
	return 0;
}

static int recover_member(struct recovery *r, const struct journal_record *record)
{
	struct uuid id;
	/* A request whose end is missing: never answered, or damaged. It gets no rows by this. */
	if (!r->open || record->left + 1 != r->left)
		begin_group(r);
	r->left = record->left;
	if (record->kind == INTAKE_REQUEST) {
		r->key = record->head_len > 0 ? strndup(record->head, record->head_len) : NULL;
		r->key_len = r->key ? record->head_len : 0;
	} else if (record->kind == INTAKE_FILE) {
		if (recover_file(r, record, &id) < 0 || add_id(r, &id) < 0)
			return -1;
	} else if (record->head_len == sizeof(id)) {
		memcpy(&id, record->head, sizeof(id));
		if (add_id(r, &id) < 0)
			return -1;
	}
	return record->left == 0 ? end_group(r) : 0;
}

static int recover_pending(struct recovery *r, const struct journal_record *record)
{
	size_t n = record->head_len / sizeof(struct uuid);
	struct uuid *ids = malloc(n ? n * sizeof(*ids) : 1);
	int rc = 0;
	if (!ids)
		return err_set(r->err, ERR_NO_MEMORY, "replaying the journal");
	memcpy(ids, record->head, n * sizeof(*ids));
	size_t left = 0;
	for (size_t k = 0; k < n; k++)
		if (mark_of(r, &ids[k]) == 0)
			ids[left++] = ids[k];
	if (left > 0)
		rc = add_pending(r, ids, left, record->body, record->body_len);
	free(ids);
	return rc;
}

static int recover_record(void *context, const struct journal_record *record)
{
	struct recovery *r = context;
	switch ((enum intake_kind)record->kind) {
	case INTAKE_REQUEST:
	case INTAKE_STORED:
	case INTAKE_FILE:
		return recover_member(r, record);
	case INTAKE_PENDING:
		return recover_pending(r, record);
	case INTAKE_MARKS:
		return 0;
	}
	return err_set(r->err, ERR_CONFLICT, "the journal has a record of an unknown kind, %u",
		       record->kind);
}

static int replay(struct recovery *r)
{
	struct journal *journal = r->core->intake->journal;
	struct journal_replay_summary summary;
	if (journal_replay(journal, 0, collect_marks, r, &summary, r->err) < 0)
		return -1;
	if (r->marks_n > 0)
		qsort(r->marks, r->marks_n, MARK_LEN, compare_marks);
	if (journal_replay(journal, 0, recover_record, r, &summary, r->err) < 0)
		return -1;
	r->summary->records = summary.records;
	r->summary->damaged_bytes = summary.damaged_bytes;
	r->summary->damaged_places = summary.damaged_places;
	return 0;
}

int intake_recover(struct core *core, struct core_recovery *recovery, struct err *err)
{
	struct recovery r = {.core = core, .err = err, .summary = recovery};
	struct journal *journal = core->intake->journal;
	*recovery = (struct core_recovery){0};
	uint64_t mark = journal_rotate(journal);
	int rc = replay(&r);
	if (rc == 0 && recovery->records > 0) {
		rc = blob_sync(core->blobs, err);
		if (rc < 0)
			rc = intake_write_again(core, mark, err);
		if (rc == 0)
			rc = pending_carry_over(core, err);
		/* A full disk or journal does not keep downloads and removals from starting: the records stay till later. */
		if (rc < 0 && (err->kind == ERR_DISK_FULL || err->kind == ERR_BUSY)) {
			intake_note_live(core);
			rc = 0;
			mark = 0;
		}
	}
	if (rc == 0 && mark != 0)
		rc = journal_drop(journal, mark, err);
	free(r.marks);
	free(r.ids);
	free(r.key);
	return rc;
}
