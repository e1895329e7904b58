/*
 * Takes one upload from first byte to sealed bytes; committer.c gives it name and row. Worker threads only, one owner at a time.
 *
 * A small upload is kept in memory until it is complete; then the committer has it made whole under its name without a sync, and
 * its journal makes it durable together with others. What grows past that, or finds no room in memory, goes through a writer.
 *
 * Invariants: until UPLOAD_SEALED a crash leaves nothing; what failed once is never tried again; where nothing is lent, the digest
 * has seen exactly the bytes that the writer has taken.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/digest.h"
#include "depotd/journal/journal.h"
#include "depotd/model/file_name.h"

#include "backlog_private.h"
#include "upload_private.h"

/* Less than this is not worth having it looked after by somebody else. */
enum { LEND_MIN = 16 * 1024 };

#define TO(state) (1U << (state))

/* From each state, where an upload may go. Aborting is legal from every state but UPLOAD_COMMITTING, and ends the upload. */
static const unsigned legal[UPLOAD_STATES] = {
	[UPLOAD_RECEIVING] = TO(UPLOAD_SEALED) | TO(UPLOAD_FAILED),
	[UPLOAD_SEALED] = TO(UPLOAD_COMMITTING),
	[UPLOAD_COMMITTING] = TO(UPLOAD_REGISTERED) | TO(UPLOAD_PENDING) | TO(UPLOAD_FAILED),
	[UPLOAD_PENDING] = 0,
	[UPLOAD_REGISTERED] = 0,
	[UPLOAD_FAILED] = 0,
};

void upload_move(struct upload *upload, enum upload_state to)
{
	assert(legal[upload->state] & TO(to));
	upload->state = to;
}

static int fail(struct upload *upload, const struct err *err)
{
	if (err->kind == ERR_IO)
		health_note_io_failure(upload->core, err);
	upload_move(upload, UPLOAD_FAILED);
	return -1;
}

static int too_large(const struct core *core, struct err *err)
{
	return err_set(err, ERR_TOO_LARGE, "the file is larger than the %lld bytes allowed",
		       (long long)core->config.max_upload);
}

static int copy_intent(struct upload *upload, const struct upload_intent *intent, struct err *err)
{
	struct buf name;
	buf_init(&name, FILE_NAME_MAX_BYTES);
	if (file_name_clean(intent->name, intent->name_len, &name, err) < 0) {
		buf_release(&name);
		return -1;
	}
	size_t name_len;
	upload->name = buf_take(&name, &name_len);
	upload->client_type = intent->client_type ? strdup(intent->client_type) : NULL;
	upload->owner = intent->owner ? strdup(intent->owner) : NULL;
	upload->declared = intent->size;
	upload->room = intent->room;
	if (!upload->name || (intent->client_type && !upload->client_type) ||
	    (intent->owner && !upload->owner))
		return err_set(err, ERR_NO_MEMORY, "upload");
	for (size_t i = 0; i < 2; i++) {
		upload->has_expected[i] = intent->expected_sha256[i] != NULL;
		if (upload->has_expected[i])
			memcpy(upload->expected[i], intent->expected_sha256[i], SHA256_LEN);
	}
	return 0;
}

static int begin_writer(struct upload *upload, struct err *err)
{
	if (blob_create(upload->core->blobs, &upload->id, upload->declared, upload->room,
			&upload->writer, err) == 0)
		return 0;
	return fail(upload, err);
}

/* --- bytes in memory --- */

static void free_bytes(struct upload *upload)
{
	free(upload->bytes);
	atomic_fetch_sub(&upload->core->small_bytes, upload->bytes_cap);
	upload->bytes = NULL;
	upload->bytes_cap = 0;
}

/* Room for `needed` bytes in all. False: there is none, by the upload's limit or by that of all of them. */
static bool grow_bytes(struct upload *upload, size_t needed)
{
	enum { BYTES_MIN = 512 };
	struct core *core = upload->core;
	size_t cap = upload->bytes_cap ? upload->bytes_cap : BYTES_MIN;
	if (needed > core->config.journal_file_max)
		return false;
	while (cap < needed)
		cap *= 2;
	if (upload->declared >= (int64_t)needed && upload->bytes_cap == 0)
		cap = (size_t)upload->declared;
	size_t more = cap - upload->bytes_cap;
	if (atomic_fetch_add(&core->small_bytes, more) + more > SMALL_BYTES_MAX) {
		atomic_fetch_sub(&core->small_bytes, more);
		return false;
	}
	char *bytes = realloc(upload->bytes, cap);
	if (!bytes) {
		atomic_fetch_sub(&core->small_bytes, more);
		return false;
	}
	upload->bytes = bytes;
	upload->bytes_cap = cap;
	return true;
}

static int write_bytes(struct upload *upload, const void *data, size_t n, struct err *err)
{
	if (blob_write(upload->writer, data, n, err) < 0)
		return fail(upload, err);
	return 0;
}

/* From memory into a writer. */
static int spill(struct upload *upload, struct err *err)
{
	if (begin_writer(upload, err) < 0)
		return -1;
	if (upload->size > 0 && write_bytes(upload, upload->bytes, (size_t)upload->size, err) < 0)
		return -1;
	free_bytes(upload);
	return 0;
}

static int take_bytes(struct upload *upload, const void *data, size_t n, struct err *err)
{
	if (!upload->writer) {
		size_t needed = (size_t)upload->size + n;
		if (needed <= upload->bytes_cap || grow_bytes(upload, needed)) {
			if (n > 0)
				memcpy(upload->bytes + upload->size, data, n);
			return 0;
		}
		if (spill(upload, err) < 0)
			return -1;
	}
	return write_bytes(upload, data, n, err);
}

/* --- begin and write --- */

int upload_begin(struct core *core, const struct upload_intent *intent, struct upload **out,
		 struct err *err)
{
	if (core->config.max_upload >= 0 && intent->size > core->config.max_upload)
		return too_large(core, err);
	struct upload *upload = calloc(1, sizeof(*upload));
	if (!upload)
		return err_set(err, ERR_NO_MEMORY, "upload");
	upload->core = core;
	upload->state = UPLOAD_RECEIVING;
	upload->id = uuid_new();
	buf_init(&upload->description, BLOB_DESCRIPTION_MAX);
	metric_add(core->uploads_running, 1);
	if (copy_intent(upload, intent, err) < 0 || !(upload->digest = digest_new(err)))
		goto failed;
	if (intent->size > (int64_t)core->config.journal_file_max && begin_writer(upload, err) < 0)
		goto failed;
	*out = upload;
	return 0;
failed:
	upload_free(&upload);
	return -1;
}

/* Whether so many more bytes are allowed. */
static int check_size(struct upload *upload, size_t n, struct err *err)
{
	const struct core *core = upload->core;
	assert(upload->state == UPLOAD_RECEIVING);
	if (core->config.max_upload < 0 || upload->size + (int64_t)n <= core->config.max_upload)
		return 0;
	too_large(core, err);
	return fail(upload, err);
}

static void count(struct upload *upload, size_t n)
{
	upload->size += (int64_t)n;
	metric_add(upload->core->upload_bytes, (int64_t)n);
}

int upload_write(struct upload *upload, const void *data, size_t n, struct err *err)
{
	if (check_size(upload, n, err) < 0 || upload_settle(upload, NULL, 0, err) < 0)
		return -1;
	if (digest_update(upload->digest, data, n, err) < 0)
		return fail(upload, err);
	if (take_bytes(upload, data, n, err) < 0)
		return -1;
	count(upload, n);
	return 0;
}

/* A small stretch is not worth a second worker; but behind others that are not done yet it is one more of them. */
static bool may_lend(const struct upload *upload, size_t n)
{
	return upload->writer && upload->core->config.workers &&
	       (n >= LEND_MIN || (upload->backlog && !backlog_is_clear(upload->backlog)));
}

int upload_lend(struct upload *upload, const void *data, size_t n, struct err *err)
{
	if (n == 0 || !may_lend(upload, n))
		return upload_write(upload, data, n, err);
	if (!upload->backlog)
		upload->backlog =
			backlog_new(upload->core->config.workers, upload->digest, upload->writer);
	if (!upload->backlog)
		return upload_write(upload, data, n, err);
	if (check_size(upload, n, err) < 0)
		return -1;
	if (backlog_add(upload->backlog, data, n, err) < 0)
		return fail(upload, err);
	count(upload, n);
	return 0;
}

int upload_help(struct upload *upload, struct err *err)
{
	int rc = upload->backlog ? backlog_help(upload->backlog, err) : 0;
	return rc < 0 ? fail(upload, err) : rc;
}

int upload_settle(struct upload *upload, const void *data, size_t n, struct err *err)
{
	if (!upload->backlog || backlog_clear(upload->backlog, data, n, err) == 0)
		return 0;
	return fail(upload, err);
}

int upload_settle_all(struct upload *upload, struct err *err)
{
	if (upload_settle(upload, NULL, 0, err) < 0)
		return -1;
	(void)backlog_free(&upload->backlog, err);
	return 0;
}

static int check_content(struct upload *upload, const unsigned char sha256[SHA256_LEN],
			 struct err *err)
{
	int64_t size = upload->size;
	if (upload->declared >= 0 && size != upload->declared)
		return err_set(err, ERR_INVALID,
			       "the body has %lld bytes where %lld were announced", (long long)size,
			       (long long)upload->declared);
	for (size_t i = 0; i < 2; i++)
		if (upload->has_expected[i] && memcmp(sha256, upload->expected[i], SHA256_LEN) != 0)
			return err_set(
				err, ERR_INVALID,
				"the bytes do not have the SHA-256 digest that was announced");
	return 0;
}

static int print_labels(const struct file_labels *labels, struct buf *tags, struct buf *attributes,
			struct err *err)
{
	file_labels_print_tags(labels, tags);
	file_labels_print_attributes(labels, attributes);
	if (tags->no_memory || attributes->no_memory)
		return err_set(err, ERR_NO_MEMORY, "tags and attributes");
	if (tags->failed || attributes->failed)
		return err_set(err, ERR_INVALID, "tags or attributes are too large");
	return 0;
}

static int make_record(struct upload *upload, const struct file_labels *labels,
		       const unsigned char sha256[SHA256_LEN], struct err *err)
{
	struct buf tags, attributes;
	int64_t size = upload->size;
	size_t head_len = size < MEDIA_TYPE_SNIFF_LEN ? (size_t)size : MEDIA_TYPE_SNIFF_LEN;
	unsigned char first[MEDIA_TYPE_SNIFF_LEN];
	const void *head = upload->bytes ? (const void *)upload->bytes : first;
	/* Kept from the start it would be memory of each slow upload. */
	if (upload->writer && blob_first(upload->writer, first, head_len, err) < 0)
		return -1;
	struct media_type_verdict verdict = media_type_decide(
		head, head_len, size == (int64_t)head_len, upload->name, upload->client_type);
	buf_init(&tags, TAGS_MAX * TAG_MAX_CHARS * 8);
	buf_init(&attributes, ATTRIBUTES_MAX_BYTES * 2);
	int rc = print_labels(labels, &tags, &attributes, err);
	if (rc == 0) {
		struct file_record record = {
			.id = upload->id,
			.size = size,
			.created_ms = clock_wall_ms(),
			.expires_ms = FILE_EXPIRES_NEVER,
			.revision = 1,
			.visibility = labels ? labels->visibility : VISIBILITY_PRIVATE,
			.name = upload->name,
			.type = verdict.type,
			.sniffed = verdict.sniffed,
			.owner = upload->owner,
			.tags = buf_text(&tags),
			.attributes = buf_text(&attributes),
		};
		if (labels && labels->expires_in_ms > 0)
			record.expires_ms = record.created_ms + labels->expires_in_ms;
		memcpy(record.sha256, sha256, SHA256_LEN);
		upload->record = file_record_new(&record);
		if (!upload->record)
			rc = err_set(err, ERR_NO_MEMORY, "file record");
	}
	buf_release(&tags);
	buf_release(&attributes);
	return rc;
}

/* Whether it is small: it stays in memory until upload_place(), and what the journal is to have of it is ready. */
static bool seal_small(struct upload *upload)
{
	const struct buf *description = &upload->description;
	if (upload->writer || upload->core->config.journal_file_max == 0)
		return false;
	upload->small = true;
	upload->checksum = journal_checksum(description->data, description->len, upload->bytes,
					    (size_t)upload->size);
	return true;
}

int upload_place(struct upload *upload, struct err *err)
{
	const struct buf *placed = &upload->description;
	struct buf packed;
	assert(upload->small && !upload->named && upload->entered);
	buf_init(&packed, BLOB_DESCRIPTION_MAX);
	if (file_record_pack(upload->record, &packed))
		placed = &packed;
	int rc = blob_place(upload->core->blobs, &upload->id, upload->room, upload->bytes,
			    (size_t)upload->size, placed->data, placed->len, err);
	buf_release(&packed);
	upload->named = rc == 1;
	return rc;
}

int upload_write_out(struct upload *upload, struct err *err)
{
	const struct buf *description = &upload->description;
	assert(upload->small && !upload->named && !upload->writer);
	if (blob_create(upload->core->blobs, &upload->id, upload->size, upload->room,
			&upload->writer, err) < 0)
		return -1;
	if (upload->size > 0 &&
	    blob_write(upload->writer, upload->bytes, (size_t)upload->size, err) < 0)
		return -1;
	return blob_seal(upload->writer, description->data, description->len, err);
}

static int seal_described(struct upload *upload, struct err *err)
{
	struct buf *description = &upload->description;
	file_record_describe(upload->record, description);
	if (description->failed)
		return description_failed(description, err);
	if (seal_small(upload))
		return 0;
	if (!upload->writer && spill(upload, err) < 0)
		return -1;
	int rc = blob_seal(upload->writer, description->data, description->len, err);
	buf_release(description);
	return rc;
}

int upload_identify(struct upload *upload, const struct file_labels *labels, struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	assert(upload->state == UPLOAD_RECEIVING && !upload->record);
	if (upload_settle_all(upload, err) < 0)
		return -1;
	if (digest_final(upload->digest, sha256, err) < 0 ||
	    check_content(upload, sha256, err) < 0 || make_record(upload, labels, sha256, err) < 0)
		return fail(upload, err);
	return 0;
}

int upload_seal(struct upload *upload, const struct file_labels *labels, struct err *err)
{
	assert(upload->state == UPLOAD_RECEIVING);
	if (!upload->record && upload_identify(upload, labels, err) < 0)
		return -1;
	if (seal_described(upload, err) < 0)
		return upload->state == UPLOAD_FAILED ? -1 : fail(upload, err);
	digest_free(&upload->digest);
	upload_move(upload, UPLOAD_SEALED);
	return 0;
}

const struct file_record *upload_record(const struct upload *upload)
{
	assert(upload->record);
	return upload->record;
}

int64_t upload_size(const struct upload *upload)
{
	return upload->size;
}

void upload_free(struct upload **uploadp)
{
	struct upload *upload = *uploadp;
	*uploadp = NULL;
	bool stored = upload->state == UPLOAD_REGISTERED || upload->state == UPLOAD_PENDING;
	struct err ignored; /* what cannot be removed now is an orphan: the sweep's */
	struct err failure; /* that nobody has been told of */
	if (backlog_free(&upload->backlog, &failure) < 0 && failure.kind == ERR_IO)
		health_note_io_failure(upload->core, &failure);
	blob_discard(&upload->writer);
	if (upload->named && !stored)
		blob_remove(upload->core->blobs, &upload->id, &ignored);
	if (upload->entered)
		committer_leave(upload);
	free_bytes(upload);
	buf_release(&upload->description);
	digest_free(&upload->digest);
	file_record_unref(&upload->record);
	metric_add(upload->core->uploads_running, -1);
	metric_add(stored ? upload->core->uploads_done : upload->core->uploads_failed, 1);
	free(upload->name);
	free(upload->client_type);
	free(upload->owner);
	free(upload);
}

void upload_abort(struct upload **upload)
{
	if (!*upload)
		return;
	assert((*upload)->state != UPLOAD_COMMITTING);
	upload_free(upload);
}
