/*
 * Takes one upload from first byte to sealed bytes; committer.c gives it name and row. Worker threads only, one owner at a time.
 *
 * Invariants: until UPLOAD_SEALED a crash leaves nothing; what failed once is never tried again; the digest has seen exactly
 * the bytes that the writer has taken.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/digest.h"
#include "depotd/model/file_name.h"

#include "upload_private.h"

#define TO(state) (1U << (state))

/* From each state, where an upload may go. Aborting is legal from every state but UPLOAD_COMMITTING, and ends the upload. */
static const unsigned legal[UPLOAD_STATES] = {
	[UPLOAD_RECEIVING] = TO(UPLOAD_SEALED) | TO(UPLOAD_FAILED),
	[UPLOAD_SEALED] = TO(UPLOAD_COMMITTING),
	[UPLOAD_COMMITTING] = TO(UPLOAD_REGISTERED) | TO(UPLOAD_FAILED),
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
	metric_add(core->uploads_running, 1);
	if (copy_intent(upload, intent, err) < 0 || !(upload->digest = digest_new(err)))
		goto failed;
	if (blob_create(core->blobs, &upload->id, intent->size, intent->room, &upload->writer,
			err) < 0) {
		fail(upload, err);
		goto failed;
	}
	*out = upload;
	return 0;
failed:
	upload_free(&upload);
	return -1;
}

int upload_write(struct upload *upload, const void *data, size_t n, struct err *err)
{
	const struct core *core = upload->core;
	assert(upload->state == UPLOAD_RECEIVING);
	int64_t after = blob_written(upload->writer) + (int64_t)n;
	if (core->config.max_upload >= 0 && after > core->config.max_upload) {
		too_large(core, err);
		return fail(upload, err);
	}
	if (upload->head_len < sizeof(upload->head)) {
		size_t more = sizeof(upload->head) - upload->head_len;
		more = n < more ? n : more;
		memcpy(upload->head + upload->head_len, data, more);
		upload->head_len += more;
	}
	if (digest_update(upload->digest, data, n, err) < 0 ||
	    blob_write(upload->writer, data, n, err) < 0)
		return fail(upload, err);
	metric_add(core->upload_bytes, (int64_t)n);
	return 0;
}

static int check_content(struct upload *upload, const unsigned char sha256[SHA256_LEN],
			 struct err *err)
{
	int64_t size = blob_written(upload->writer);
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

/* Tags and attributes as compact JSON text; "[]" and "{}" without labels. */
static int print_labels(const struct file_labels *labels, struct buf *tags, struct buf *attributes,
			struct err *err)
{
	if (labels && labels->tags)
		json_print(labels->tags, tags);
	else
		buf_puts(tags, "[]");
	if (labels && labels->attributes)
		json_print(labels->attributes, attributes);
	else
		buf_puts(attributes, "{}");
	if (tags->failed || attributes->failed)
		return err_set(err, ERR_INVALID, "tags or attributes are too large");
	return 0;
}

static int make_record(struct upload *upload, const struct file_labels *labels,
		       const unsigned char sha256[SHA256_LEN], struct err *err)
{
	struct buf tags, attributes;
	int64_t size = blob_written(upload->writer);
	struct media_type_verdict verdict =
		media_type_decide(upload->head, upload->head_len, size == (int64_t)upload->head_len,
				  upload->name, upload->client_type);
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

static int seal_described(struct upload *upload, struct err *err)
{
	struct buf description;
	buf_init(&description, BLOB_DESCRIPTION_MAX);
	file_record_describe(upload->record, &description);
	int rc;
	if (description.failed)
		rc = err_set(err, ERR_INVALID, "name, tags and attributes are too large together");
	else
		rc = blob_seal(upload->writer, buf_text(&description), description.len, err);
	buf_release(&description);
	return rc;
}

int upload_identify(struct upload *upload, const struct file_labels *labels, struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	assert(upload->state == UPLOAD_RECEIVING && !upload->record);
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
		return fail(upload, err);
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
	return upload->writer ? blob_written(upload->writer) : upload->record->size;
}

void upload_free(struct upload **uploadp)
{
	struct upload *upload = *uploadp;
	*uploadp = NULL;
	blob_discard(&upload->writer);
	digest_free(&upload->digest);
	file_record_unref(&upload->record);
	metric_add(upload->core->uploads_running, -1);
	metric_add(upload->state == UPLOAD_REGISTERED ? upload->core->uploads_done
						      : upload->core->uploads_failed,
		   1);
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
