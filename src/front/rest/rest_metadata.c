/* GET and PATCH /files/ID/metadata, DELETE /files/ID. */

#include <stdlib.h>
#include <string.h>

#include "depotd/core/files.h"
#include "rest_private.h"

/* The file object with its own strong ETag; 304 and 412 by the request's conditionals. Takes over the record. */
static void reply_metadata(struct exchange *x, struct file_record *record, bool conditional)
{
	struct conditional_headers conditionals;
	enum conditional_verdict verdict = CONDITIONAL_PROCEED;
	char etag[FILES_ETAG_MAX];
	struct json_writer w;
	struct buf body;
	struct err err;

	files_metadata_etag(record, etag);
	if (conditional) {
		exchange_conditionals(x, &conditionals);
		verdict = conditional_evaluate(&conditionals, true, etag, -1);
	}
	if (verdict == CONDITIONAL_FAILED) {
		err_set(&err, ERR_PRECONDITION,
			"the metadata is not what the request is conditional on");
		reply_error(x, &err);
	} else {
		/* 304 says how long the body would be (RFC 9110 §8.6); it is not sent. */
		bool modified = verdict != CONDITIONAL_NOT_MODIFIED;
		buf_init(&body, REST_ANSWER_MAX);
		json_writer_init(&w, &body);
		file_record_json(record, &w);
		reply_header(x, "ETag", etag);
		rest_reply_json(x, modified ? 200 : 304, &body);
	}
	file_record_unref(&record);
}

static enum http_verdict metadata_check(struct exchange *x)
{
	struct file_record *record;
	struct uuid id;

	if (!rest_id(x, &id))
		return HTTP_ANSWERED;
	if (files_cached(rest_front(x)->core, &id, &record, NULL) != 1)
		return HTTP_GO_ON;
	reply_metadata(x, record, true);
	return HTTP_ANSWERED;
}

static void metadata_finish(struct exchange *x)
{
	struct file_record *record;
	struct uuid id;
	struct err err;
	int found;

	if (!rest_id(x, &id))
		return;
	found = files_find(rest_front(x)->core, &id, &record, &err);
	if (found < 0)
		reply_error(x, &err);
	else if (found == 0)
		rest_not_found(x);
	else
		reply_metadata(x, record, true);
}

const struct http_handler rest_metadata = {.check = metadata_check, .finish = metadata_finish};

/* --- PATCH --- */

struct patch {
	struct buf body;
};

static void patch_release(struct exchange *x)
{
	struct patch *patch = exchange_state(x);

	buf_release(&patch->body);
	free(patch);
}

/* RFC 7396's own type, plain JSON, or none. */
static bool is_merge_patch(const char *type)
{
	size_t n = type ? strcspn(type, "; \t") : 0;

	return !type || (n == 16 && !strncasecmp(type, "application/json", n)) ||
	       (n == 28 && !strncasecmp(type, "application/merge-patch+json", n));
}

static enum http_verdict patch_check(struct exchange *x)
{
	struct patch *patch;
	struct uuid id;
	struct err err;

	if (!rest_id(x, &id))
		return HTTP_ANSWERED;
	patch = calloc(1, sizeof(*patch));
	if (!patch) {
		err_set(&err, ERR_NO_MEMORY, "a patch");
	} else {
		buf_init(&patch->body, REST_PATCH_MAX);
		exchange_set_state(x, patch);
		if (!is_merge_patch(exchange_header(x, "Content-Type"))) {
			reply_header(x, "Accept-Patch", "application/merge-patch+json");
			err_set(&err, ERR_MEDIA_TYPE,
				"send application/merge-patch+json (RFC 7396)");
		} else if (exchange_content_length(x) > REST_PATCH_MAX) {
			err_set(&err, ERR_TOO_LARGE, "a patch has at most %d bytes",
				REST_PATCH_MAX);
		} else {
			return HTTP_GO_ON;
		}
	}
	reply_error(x, &err);
	return HTTP_ANSWERED;
}

static int patch_body(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct patch *patch = exchange_state(x);

	buf_append(&patch->body, data, n);
	if (patch->body.no_memory)
		return err_set(err, ERR_NO_MEMORY, "a patch");
	if (patch->body.failed)
		return err_set(err, ERR_TOO_LARGE, "a patch has at most %d bytes", REST_PATCH_MAX);
	return 0;
}

static void patch_finish(struct exchange *x)
{
	struct patch *patch = exchange_state(x);
	struct file_record *record;
	struct uuid id;
	struct err err;
	int found;

	if (!rest_id(x, &id))
		return;
	found = files_patch(rest_front(x)->core, &id, buf_text(&patch->body), patch->body.len,
			    exchange_header(x, "If-Match"), &record, &err);
	if (found < 0)
		reply_error(x, &err);
	else if (found == 0)
		rest_not_found(x);
	else
		reply_metadata(x, record, false);
}

const struct http_handler rest_patch = {.check = patch_check,
					.body = patch_body,
					.finish = patch_finish,
					.release = patch_release,
					.takes_body = true};

/* --- DELETE --- */

static enum http_verdict delete_check(struct exchange *x)
{
	struct uuid id;

	return rest_id(x, &id) ? HTTP_GO_ON : HTTP_ANSWERED;
}

/* 1 go on, 0 absent, -1: whether the request's conditionals hold against the file's ETag (RFC 9110 §13.1). */
static int delete_allowed(struct exchange *x, const struct uuid *id, struct err *err)
{
	struct conditional_headers conditionals;
	struct file_record *record;
	char etag[FILES_ETAG_MAX];
	int found;

	exchange_conditionals(x, &conditionals);
	if (!conditionals.if_match && !conditionals.if_none_match &&
	    !conditionals.if_unmodified_since)
		return 1;
	found = files_find(rest_front(x)->core, id, &record, err);
	if (found != 1)
		return found;
	files_etag(record, etag);
	if (conditional_evaluate(&conditionals, false, etag, record->created_ms / 1000) !=
	    CONDITIONAL_PROCEED)
		found = err_set(err, ERR_PRECONDITION,
				"the file is not the one that the request is conditional on");
	file_record_unref(&record);
	return found;
}

static void delete_finish(struct exchange *x)
{
	struct uuid id;
	struct err err;
	int found;

	if (!rest_id(x, &id))
		return;
	found = delete_allowed(x, &id, &err);
	if (found == 1)
		found = files_remove(rest_front(x)->core, &id, &err);
	if (found < 0) {
		reply_error(x, &err);
	} else if (found == 0) {
		rest_not_found(x);
	} else {
		reply_status(x, 204);
		reply_empty(x);
	}
}

const struct http_handler rest_delete = {.check = delete_check, .finish = delete_finish};
