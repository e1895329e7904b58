/*
 * POST /files, multipart/form-data: every file part becomes a file, all of them or none; text fields say what holds for every
 * file of the request, wherever they stand.
 *
 * check() runs on the event thread; the multipart reader is fed on workers, so its events run there too; the committer answers.
 * Files are written as they come and sealed when the whole form has been read, since the labels may stand last. finish() may come
 * more than once (rest_idempotency_private.h).
 */

#include <stdlib.h>
#include <string.h>

#include "depotd/core/upload.h"
#include "depotd/http/multipart.h"
#include "depotd/model/digest_field.h"
#include "rest_idempotency_private.h"
#include "rest_private.h"

enum part_kind {
	PART_IGNORED, /* `_charset_`, or a field without a name */
	PART_FIELD,   /* a text field: gathered in `field` */
	PART_FILE,    /* a file: its upload begins with its first byte or its end */
};

struct form {
	struct exchange *x;
	struct multipart *reader;
	struct file_labels labels;
	/* over the whole body, where the request's Content-Digest asks for it */
	struct digest *content_digest;
	unsigned char expected_body[SHA256_LEN];
	int64_t received;     /* bytes of the body */
	bool has_repr_digest; /* the request's Repr-Digest: of its one file */
	unsigned char repr_digest[SHA256_LEN];
	/* what the disk has kept for the body; each part takes of it */
	struct blob_reservation room;
	/* the part that is being read */
	enum part_kind kind;
	struct buf field_name, field, client_type;
	bool has_client_type, no_file_name;
	bool lent; /* what is being fed stays as it is until form_settle() */
	bool has_part_digest[2];
	unsigned char part_digest[2][SHA256_LEN];
	struct upload *current;
	/* the parts that were read */
	struct upload **uploads;
	struct file_record **records;
	size_t n, cap;
	bool identified;      /* the form's end has been seen to */
	struct rest_key *key; /* NULL: none */
	struct upload_commit commit;
};

/* Gives the space back; before the answer, so that who reads it can have it. */
static void form_drop(struct form *form)
{
	upload_abort(&form->current);
	for (size_t i = 0; i < form->n; i++)
		upload_abort(&form->uploads[i]);
	core_admit_end(rest_front(form->x)->core, &form->room);
}

static void form_release(struct exchange *x)
{
	struct form *form = exchange_state(x);

	rest_key_free(&form->key);
	multipart_free(&form->reader);
	digest_free(&form->content_digest);
	form_drop(form);
	for (size_t i = 0; i < form->n; i++)
		file_record_unref(&form->records[i]);
	free(form->uploads);
	free(form->records);
	buf_release(&form->field_name);
	buf_release(&form->field);
	buf_release(&form->client_type);
	file_labels_release(&form->labels);
	free(form);
}

/* --- the multipart reader's events --- */

static int read_part_digest(struct form *form, int which, const char *header, const char *value,
			    struct err *err)
{
	struct err why;
	int found = value ? digest_field_parse(value, form->part_digest[which], &why) : 0;

	if (found < 0)
		return err_set(err, ERR_INVALID, "%s of a part: %s", header, why.message);
	form->has_part_digest[which] = found == 1;
	return 0;
}

/* Both digests a part's header may have are over the same bytes: a part has no coding and no range. */
static int read_part_digests(struct form *form, const struct multipart_part *part, struct err *err)
{
	if (read_part_digest(form, 0, "Content-Digest", part->content_digest, err) < 0)
		return -1;
	return read_part_digest(form, 1, "Repr-Digest", part->repr_digest, err);
}

/* A file's digests are its upload's business. */
static int check_field_digests(const struct form *form, struct err *err)
{
	unsigned char actual[SHA256_LEN];

	if (!form->has_part_digest[0] && !form->has_part_digest[1])
		return 0;
	if (digest_sha256(buf_text(&form->field), form->field.len, actual, err) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		if (form->has_part_digest[i] &&
		    memcmp(actual, form->part_digest[i], SHA256_LEN) != 0)
			return err_set(err, ERR_INVALID,
				       "the field \"%.64s\" does not have the SHA-256 digest that "
				       "was announced",
				       buf_text(&form->field_name));
	}
	return 0;
}

static int part_begin(void *context, const struct multipart_part *part, struct err *err)
{
	struct form *form = context;

	buf_reset(&form->field_name);
	buf_reset(&form->field);
	buf_reset(&form->client_type);
	if (!part->filename) {
		form->kind = *part->name && strcmp(part->name, "_charset_") != 0 ? PART_FIELD
										 : PART_IGNORED;
		buf_puts(&form->field_name, part->name);
		return read_part_digests(form, part, err);
	}
	form->kind = PART_FILE;
	form->no_file_name = part->filename_len == 0;
	form->has_client_type = part->content_type != NULL;
	buf_append(&form->field, part->filename, part->filename_len);
	if (part->content_type)
		buf_puts(&form->client_type, part->content_type);
	if (form->field.failed || form->client_type.failed)
		return err_set(err, ERR_NO_MEMORY, "the headers of a part");
	return read_part_digests(form, part, err);
}

static int grow(struct form *form, struct err *err)
{
	size_t cap = form->cap ? 2 * form->cap : 4;
	struct upload **uploads = realloc(form->uploads, cap * sizeof(*uploads));
	struct file_record **records;

	if (uploads)
		form->uploads = uploads;
	records = uploads ? realloc(form->records, cap * sizeof(*records)) : NULL;
	if (!records)
		return err_set(err, ERR_NO_MEMORY, "a form of many files");
	form->records = records;
	form->cap = cap;
	return 0;
}

static int begin_file(struct form *form, struct err *err)
{
	bool first = form->n == 0;
	struct upload_intent intent = {
		.name = buf_text(&form->field),
		.name_len = form->field.len,
		.client_type = form->has_client_type ? buf_text(&form->client_type) : NULL,
		.size = -1,
		.room = &form->room,
		.expected_sha256 = {form->has_part_digest[0] ? form->part_digest[0] : NULL,
				    form->has_part_digest[1] ? form->part_digest[1] : NULL},
	};

	if (form->has_repr_digest) {
		if (!first)
			return err_set(err, ERR_INVALID,
				       "Repr-Digest of a request with several files: "
				       "put it into the parts' headers");
		if (!intent.expected_sha256[1])
			intent.expected_sha256[1] = form->repr_digest;
	}
	if (form->n == form->cap && grow(form, err) < 0)
		return -1;
	return upload_begin(rest_front(form->x)->core, &intent, &form->current, err);
}

/* The reader's own bytes do not stay. */
_Static_assert((int)MULTIPART_KEPT_MAX <= (int)UPLOAD_COPIED, "what the reader has kept is copied");

static int part_data(void *context, const void *data, size_t n, struct err *err)
{
	struct form *form = context;

	if (form->kind == PART_FILE) {
		if (!form->current && begin_file(form, err) < 0)
			return -1;
		return form->lent ? upload_lend(form->current, data, n, err)
				  : upload_write(form->current, data, n, err);
	}
	if (form->kind == PART_FIELD) {
		buf_append(&form->field, data, n);
		if (form->field.no_memory)
			return err_set(err, ERR_NO_MEMORY, "a field");
		if (form->field.failed)
			return err_set(err, ERR_TOO_LARGE,
				       "the field \"%.64s\" has more than %d bytes",
				       buf_text(&form->field_name), REST_FIELD_MAX);
	}
	return 0;
}

static int part_end(void *context, struct err *err)
{
	struct form *form = context;

	if (form->kind == PART_FIELD) {
		if (check_field_digests(form, err) < 0)
			return -1;
		return file_labels_add(&form->labels, buf_text(&form->field_name),
				       buf_text(&form->field), form->field.len, err);
	}
	if (form->kind != PART_FILE)
		return 0;
	if (!form->current) {
		/* A file input in which no file was chosen arrives as an empty part with an empty name. */
		if (form->no_file_name)
			return 0;
		if (begin_file(form, err) < 0)
			return -1;
	}
	if (upload_settle_all(form->current, err) < 0)
		return -1;
	form->records[form->n] = NULL;
	form->uploads[form->n++] = form->current;
	form->current = NULL;
	return 0;
}

static const struct multipart_events EVENTS = {part_begin, part_data, part_end};

/* --- the exchange --- */

static int form_prepare(struct exchange *x, struct form *form, struct err *err)
{
	const char *type = exchange_header(x, "Content-Type");

	if (file_labels_init(&form->labels, err) < 0 || rest_read_query(x, &form->labels, err) < 0)
		return -1;
	if (!type)
		return err_set(err, ERR_MEDIA_TYPE,
			       "send multipart/form-data, or PUT the bytes to /files/NAME");
	return multipart_new(type, &EVENTS, form, &form->reader, err);
}

static enum http_verdict form_check(struct exchange *x)
{
	struct blob_reservation room = {0};
	struct form *form;
	struct err err;
	int body, repr;

	if (rest_refuse_upload(x, &room))
		return HTTP_ANSWERED;
	form = calloc(1, sizeof(*form));
	if (!form) {
		core_admit_end(rest_front(x)->core, &room);
		err_set(&err, ERR_NO_MEMORY, "a form");
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	form->x = x;
	form->room = room;
	buf_init(&form->field_name, MULTIPART_HEADERS_MAX);
	buf_init(&form->field, REST_FIELD_MAX);
	buf_init(&form->client_type, MULTIPART_HEADERS_MAX);
	exchange_set_state(x, form);
	if (form_prepare(x, form, &err) < 0) {
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	body = rest_expected_digest(x, "Content-Digest", form->expected_body);
	repr = body < 0 ? -1 : rest_expected_digest(x, "Repr-Digest", form->repr_digest);
	if (body < 0 || repr < 0)
		return HTTP_ANSWERED;
	form->has_repr_digest = repr == 1;
	if (body == 1 && !(form->content_digest = digest_new(&err))) {
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	return rest_key_enter(x, &form->key) ? HTTP_GO_ON : HTTP_ANSWERED;
}

/* What body() and its like answer. */
static int go_on(struct form *form, int rc)
{
	if (rc < 0) {
		rest_key_leave(form->key);
		form_drop(form);
	}
	return rc;
}

static int feed(struct form *form, bool lent, const void *data, size_t n, struct err *err)
{
	int64_t most = rest_front(form->x)->max_upload;

	form->lent = lent;
	form->received += (int64_t)n;
	if (most >= 0 && form->received > most) {
		err_set(err, ERR_TOO_LARGE, "the body has more than the %lld bytes that are taken",
			(long long)most);
		return go_on(form, -1);
	}
	if (form->content_digest && digest_update(form->content_digest, data, n, err) < 0)
		return go_on(form, -1);
	return go_on(form, multipart_feed(form->reader, data, n, err));
}

static int form_body(struct exchange *x, const void *data, size_t n, struct err *err)
{
	return feed(exchange_state(x), false, data, n, err);
}

static int form_lend(struct exchange *x, const void *data, size_t n, struct err *err)
{
	return feed(exchange_state(x), true, data, n, err);
}

static int form_help(struct exchange *x, struct err *err)
{
	struct form *form = exchange_state(x);

	return go_on(form, form->current ? upload_help(form->current, err) : 0);
}

static int form_settle(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct form *form = exchange_state(x);

	return go_on(form, form->current ? upload_settle(form->current, data, n, err) : 0);
}

static int check_body_digest(struct form *form, struct err *err)
{
	unsigned char actual[SHA256_LEN];

	if (!form->content_digest)
		return 0;
	if (digest_final(form->content_digest, actual, err) < 0)
		return -1;
	if (memcmp(actual, form->expected_body, SHA256_LEN) != 0)
		return err_set(err, ERR_INVALID,
			       "Content-Digest: the body's SHA-256 is another one");
	return 0;
}

static void reply_stored(struct exchange *x, struct file_record *const *records, size_t n)
{
	if (exchange_wants_html(x)) {
		reply_status(x, 303);
		reply_header(x, "Location", "/");
		reply_empty(x);
	} else {
		rest_reply_created(x, records, n, true);
	}
}

/* The exchange was deferred. */
static void refuse(struct form *form, const struct err *err)
{
	rest_key_leave(form->key);
	form_drop(form);
	reply_error(form->x, err);
	exchange_complete(form->x);
}

/* The committer's thread: render and hand the exchange back, nothing more. */
static void form_committed(struct upload_commit *commit)
{
	struct form *form = (struct form *)((char *)commit - offsetof(struct form, commit));
	struct exchange *x = form->x;

	if (!rest_key_committed(form->key, commit))
		return;
	form_drop(form);
	if (commit->result < 0)
		reply_error(x, &commit->err);
	else
		reply_stored(x, form->records, form->n);
	exchange_release_anywhere(x);
	exchange_complete(x);
}

static void form_commit(struct form *form)
{
	struct err err;

	for (size_t i = 0; i < form->n; i++) {
		if (upload_seal(form->uploads[i], &form->labels, &err) < 0) {
			refuse(form, &err);
			return;
		}
	}
	form->commit = (struct upload_commit){.uploads = form->uploads,
					      .n = form->n,
					      .idempotency = rest_key_of(form->key),
					      .done = form_committed,
					      .records = form->records};
	upload_commit(rest_front(form->x)->core, &form->commit);
}

/* What is done once, whatever comes of the key. */
static int identify(struct form *form, struct err *err)
{
	if (form->identified)
		return 0;
	form->identified = true;
	if (multipart_finish(form->reader, err) < 0 || check_body_digest(form, err) < 0)
		return -1;
	if (form->n == 0)
		return err_set(err, ERR_INVALID, "the form has no file");
	for (size_t i = 0; i < form->n; i++)
		if (upload_identify(form->uploads[i], &form->labels, err) < 0)
			return -1;
	return 0;
}

static void form_finish(struct exchange *x)
{
	struct form *form = exchange_state(x);
	struct key_answer first;
	struct err err;

	exchange_defer(x);
	if (identify(form, &err) < 0) {
		refuse(form, &err);
		return;
	}
	switch (rest_key_settle(form->key, "POST", "/files", &form->labels, form->uploads, form->n,
				&first, &err)) {
	case KEYED_YOURS:
		form_commit(form);
		return;
	case KEYED_ANSWERED:
		form_drop(form);
		reply_stored(x, first.files, first.n);
		key_answer_release(&first);
		exchange_complete(x);
		return;
	case KEYED_REFUSED:
		refuse(form, &err);
		return;
	case KEYED_LATER:
		return;
	}
}

const struct http_handler rest_form = {.check = form_check,
				       .body = form_body,
				       .lend = form_lend,
				       .help = form_help,
				       .settle = form_settle,
				       .finish = form_finish,
				       .release = form_release,
				       .takes_body = true};
