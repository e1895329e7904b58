/* The REST front: its routes, and the few things that several of its handlers say. Event threads and workers. */

#include <stdlib.h>
#include <string.h>

#include "depotd/model/digest_field.h"
#include "rest_private.h"

static const struct http_route ROUTES[] = {
	{"GET", "/files/{id}", &rest_download},
	{"PUT", "/files/{name}", &rest_put},
	{"PUT", "/files/", &rest_put},          /* no name given: unnamed */
	{"PUT", "/files/{name...}", &rest_put}, /* of a path the last component counts */
	{"DELETE", "/files/{id}", &rest_delete},
	{"GET", "/files", &rest_list},
	{"GET", "/files/", &rest_list},
	{"POST", "/files", &rest_form},
	{"POST", "/files/", &rest_form},
	{"POST", "/", &rest_form},
	{"GET", "/files/{id}/metadata", &rest_metadata},
	{"PATCH", "/files/{id}/metadata", &rest_patch},
	{"GET", "/healthz", &rest_healthz},
	{"GET", "/readyz", &rest_readyz},
	{"GET", "/metrics", &rest_metrics},
	{"GET", "/openapi.json", &rest_openapi},
	{NULL, NULL, NULL},
};

const struct http_route *rest_routes(void)
{
	return ROUTES;
}

struct front *rest_front(const struct exchange *x)
{
	return exchange_context(x);
}

void rest_not_found(struct exchange *x)
{
	struct err err;

	err_set(&err, ERR_NOT_FOUND, "there is no such file");
	reply_error(x, &err);
}

bool rest_id(struct exchange *x, struct uuid *id)
{
	if (uuid_parse(exchange_param(x, 0), id))
		return true;
	rest_not_found(x);
	return false;
}

void rest_reply_json(struct exchange *x, int status, struct buf *body)
{
	reply_status(x, status);
	reply_header(x, "Content-Type", "application/json");
	reply_header(x, "Cache-Control", "no-cache");
	reply_buf(x, body);
}

void rest_reply_created(struct exchange *x, struct file_record *const *records, size_t n, bool list)
{
	struct buf body;
	struct json_writer w;

	buf_init(&body, REST_ANSWER_MAX);
	json_writer_init(&w, &body);
	if (list) {
		json_open_object(&w);
		json_key(&w, "files");
		json_open_array(&w);
	}
	for (size_t i = 0; i < n; i++)
		file_record_json(records[i], &w);
	if (list) {
		json_close_array(&w);
		json_close_object(&w);
	}
	if (n == 1) {
		char id[UUID_TEXT_LEN + 1];

		uuid_format(&records[0]->id, id);
		reply_headerf(x, "Location", "/files/%s", id);
	}
	/* RFC 9110 §15.3.3: stored, and its registration has still to come. */
	rest_reply_json(x, records[0]->unregistered ? 202 : 201, &body);
}

/* Content-Encoding: identity and nothing are the same (RFC 9110 §8.4). */
static bool is_coded(const char *encoding)
{
	return encoding && *encoding && strcasecmp(encoding, "identity") != 0;
}

bool rest_refuse_upload(struct exchange *x, struct blob_reservation *room)
{
	struct front *front = rest_front(x);
	int64_t length = exchange_content_length(x);
	struct err err;

	if (is_coded(exchange_header(x, "Content-Encoding")))
		err_set(&err, ERR_MEDIA_TYPE,
			"Content-Encoding is not supported: send the bytes as they are");
	else if (exchange_header(x, "Content-Range"))
		err_set(&err, ERR_INVALID,
			"Content-Range has no meaning here: a file is sent whole");
	else if (!exchange_has_length(x))
		err_set(&err, ERR_LENGTH_REQUIRED,
			"neither Content-Length nor Transfer-Encoding says how long the body is");
	else if (front->max_upload >= 0 && length > front->max_upload)
		err_set(&err, ERR_TOO_LARGE, "the body has %lld bytes, at most %lld are taken",
			(long long)length, (long long)front->max_upload);
	else if (core_admit(front->core, length > 0 ? length : 0, room, &err) == 0)
		return false;
	reply_error(x, &err);
	return true;
}

int rest_read_query(struct exchange *x, struct file_labels *labels, struct err *err)
{
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		const char *key, *value;

		exchange_query(x, i, &key, &value);
		if (!strncmp(key, "attr.", 5) && key[5])
			key += 5;
		else if (strcmp(key, "tags") != 0 && strcmp(key, "expires_in") != 0 &&
			 strcmp(key, "visibility") != 0)
			return err_set(err, ERR_INVALID, "unknown query parameter \"%s\"", key);
		if (file_labels_add(labels, key, value, strlen(value), err) < 0)
			return -1;
	}
	return 0;
}

int rest_expected_digest(struct exchange *x, const char *name, unsigned char out[SHA256_LEN])
{
	const char *value = exchange_header(x, name);
	struct err err, named;
	int found;

	if (!value)
		return 0;
	found = digest_field_parse(value, out, &err);
	if (found < 0) {
		err_set(&named, ERR_INVALID, "%s: %s", name, err.message);
		reply_error(x, &named);
	}
	return found;
}
