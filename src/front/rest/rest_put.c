/*
 * PUT /files/NAME: the body is the file; tags, expires_in, visibility and attr.KEY stand in the query.
 * check() on the event thread reads headers and query; body() and finish() run on workers; the committer answers. finish() may
 * come more than once (rest_idempotency_private.h).
 */

#include <stdlib.h>
#include <string.h>

#include "depotd/core/upload.h"
#include "rest_idempotency_private.h"
#include "rest_private.h"

struct put {
	struct exchange *x;
	struct file_labels labels;
	bool has_content_digest, has_repr_digest;
	unsigned char content_digest[SHA256_LEN], repr_digest[SHA256_LEN];
	struct blob_reservation room; /* what the disk has kept for the body */
	struct upload *upload;
	bool identified;            /* the body's end has been seen to */
	struct rest_key *key;       /* NULL: none */
	struct put_commit *commit;  /* NULL before the body's end: not memory of each slow upload */
	struct file_record *record; /* the committer's answer */
};

struct put_commit {
	struct upload_commit base; /* first */
	struct put *put;
};

/* Gives the space back; before the answer, so that who reads it can have it. */
static void put_drop(struct put *put)
{
	upload_abort(&put->upload);
	core_admit_end(rest_front(put->x)->core, &put->room);
}

static void put_release(struct exchange *x)
{
	struct put *put = exchange_state(x);

	rest_key_free(&put->key);
	put_drop(put);
	free(put->commit);
	file_record_unref(&put->record);
	file_labels_release(&put->labels);
	free(put);
}

/* Whoever puts to /files/ID/metadata means the file's, and not a new one of that name. */
static bool refuse_metadata(struct exchange *x)
{
	const char *path = exchange_param(x, 0), *slash = path ? strchr(path, '/') : NULL;
	char id[UUID_TEXT_LEN + 1];
	struct uuid uuid;
	struct err err;

	if (!slash || slash - path != UUID_TEXT_LEN || strcmp(slash, "/metadata") != 0)
		return false;
	memcpy(id, path, UUID_TEXT_LEN);
	id[UUID_TEXT_LEN] = '\0';
	if (!uuid_parse(id, &uuid))
		return false;
	err_set(&err, ERR_METHOD, "PUT is not served here: PATCH changes metadata");
	reply_error(x, &err);
	reply_header(x, "Allow", "GET, HEAD, PATCH, OPTIONS");
	return true;
}

static enum http_verdict put_check(struct exchange *x)
{
	struct blob_reservation room = {0};
	struct put *put;
	struct err err;
	int content, repr;

	if (refuse_metadata(x) || rest_refuse_upload(x, &room))
		return HTTP_ANSWERED;
	put = calloc(1, sizeof(*put));
	/* Without any in the query they stay the empty ones. */
	if (!put || (exchange_query_count(x) > 0 && file_labels_init(&put->labels, &err) < 0)) {
		free(put);
		core_admit_end(rest_front(x)->core, &room);
		err_set(&err, ERR_NO_MEMORY, "an upload");
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	put->x = x;
	put->room = room;
	exchange_set_state(x, put);
	if (rest_read_query(x, &put->labels, &err) < 0) {
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	content = rest_expected_digest(x, "Content-Digest", put->content_digest);
	repr = content < 0 ? -1 : rest_expected_digest(x, "Repr-Digest", put->repr_digest);
	if (content < 0 || repr < 0)
		return HTTP_ANSWERED;
	put->has_content_digest = content == 1;
	put->has_repr_digest = repr == 1;
	return rest_key_enter(x, &put->key) ? HTTP_GO_ON : HTTP_ANSWERED;
}

static int begin(struct exchange *x, struct put *put, struct err *err)
{
	const char *name = exchange_param(x, 0);
	struct upload_intent intent = {
		.name = name,
		.name_len = name ? strlen(name) : 0,
		.client_type = exchange_header(x, "Content-Type"),
		.size = exchange_content_length(x),
		.room = &put->room,
		.expected_sha256 = {put->has_content_digest ? put->content_digest : NULL,
				    put->has_repr_digest ? put->repr_digest : NULL},
	};

	return upload_begin(rest_front(x)->core, &intent, &put->upload, err);
}

/* What body() and its like answer. */
static int go_on(struct put *put, int rc)
{
	if (rc < 0) {
		rest_key_leave(put->key);
		put_drop(put);
	}
	return rc;
}

static int put_body(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct put *put = exchange_state(x);
	int rc = put->upload ? 0 : begin(x, put, err);

	return go_on(put, rc < 0 ? rc : upload_write(put->upload, data, n, err));
}

static int put_lend(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct put *put = exchange_state(x);
	int rc = put->upload ? 0 : begin(x, put, err);

	return go_on(put, rc < 0 ? rc : upload_lend(put->upload, data, n, err));
}

static int put_help(struct exchange *x, struct err *err)
{
	struct put *put = exchange_state(x);

	return go_on(put, put->upload ? upload_help(put->upload, err) : 0);
}

static int put_settle(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct put *put = exchange_state(x);

	return go_on(put, put->upload ? upload_settle(put->upload, data, n, err) : 0);
}

/* The exchange was deferred. */
static void refuse(struct put *put, const struct err *err)
{
	rest_key_leave(put->key);
	put_drop(put);
	reply_error(put->x, err);
	exchange_complete(put->x);
}

/* The committer's thread: render and hand the exchange back, nothing more. */
static void put_committed(struct upload_commit *commit)
{
	struct put *put = ((struct put_commit *)commit)->put;

	if (!rest_key_committed(put->key, commit))
		return;
	put_drop(put);
	if (commit->result == 0)
		rest_reply_created(put->x, &put->record, 1, false);
	else
		reply_error(put->x, &commit->err);
	exchange_release_anywhere(put->x);
	exchange_complete(put->x);
}

static void put_commit(struct put *put)
{
	struct err err;

	if (!put->commit && !(put->commit = malloc(sizeof(*put->commit)))) {
		err_set(&err, ERR_NO_MEMORY, "an upload");
		refuse(put, &err);
		return;
	}
	if (upload_seal(put->upload, &put->labels, &err) < 0) {
		refuse(put, &err);
		return;
	}
	*put->commit = (struct put_commit){.base = {.uploads = &put->upload,
						    .n = 1,
						    .idempotency = rest_key_of(put->key),
						    .done = put_committed,
						    .records = &put->record},
					   .put = put};
	upload_commit(rest_front(put->x)->core, &put->commit->base);
}

/* What is done once, whatever comes of the key. */
static int identify(struct put *put, struct err *err)
{
	if (put->identified)
		return 0;
	put->identified = true;
	if (!put->upload && begin(put->x, put, err) < 0)
		return -1;
	return upload_identify(put->upload, &put->labels, err);
}

static void put_finish(struct exchange *x)
{
	struct put *put = exchange_state(x);
	struct key_answer first;
	struct err err;

	exchange_defer(x);
	if (identify(put, &err) < 0) {
		refuse(put, &err);
		return;
	}
	switch (rest_key_settle(put->key, "PUT", "/files/NAME", &put->labels, &put->upload, 1,
				&first, &err)) {
	case KEYED_YOURS:
		put_commit(put);
		return;
	case KEYED_ANSWERED:
		put_drop(put);
		rest_reply_created(x, first.files, first.n, false);
		key_answer_release(&first);
		exchange_complete(x);
		return;
	case KEYED_REFUSED:
		refuse(put, &err);
		return;
	case KEYED_LATER:
		return;
	}
}

const struct http_handler rest_put = {.check = put_check,
				      .body = put_body,
				      .lend = put_lend,
				      .help = put_help,
				      .settle = put_settle,
				      .finish = put_finish,
				      .release = put_release,
				      .takes_body = true};
