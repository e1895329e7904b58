/* What the files of the REST front share. */
#ifndef REST_PRIVATE_H
#define REST_PRIVATE_H

#include "depotd/base/uuid.h"
#include "depotd/core/core.h"
#include "depotd/front/front.h"
#include "depotd/http/exchange.h"
#include "depotd/model/attributes.h"
#include "depotd/model/file_record.h"

enum {
	REST_ANSWER_MAX =
		64 << 20, /* a rendered answer; a page of 1,000 files with large attributes fits */
	REST_FIELD_MAX = ATTRIBUTES_MAX_BYTES, /* one text field of a form */
	REST_PATCH_MAX = 2 * ATTRIBUTES_MAX_BYTES,
};

struct front *rest_front(const struct exchange *x);
/* The {id} of the pattern. false: it answered 404 already (a malformed id names no file). */
bool rest_id(struct exchange *x, struct uuid *id);
void rest_not_found(struct exchange *x);
/* A finished JSON body with its Content-Type. */
void rest_reply_json(struct exchange *x, int status, struct buf *body);
/* 201 (202 while the rows wait for the database) with the file object, or {"files": […]} when `list`; Location where it is one. */
void rest_reply_created(struct exchange *x, struct file_record *const *records, size_t n,
			bool list);
/*
 * Refuses what no body may say: too large (413), coded (415), a part of something (400), no room (507). true: answered. Else the
 * room for its body is the request's, until core_admit_end().
 */
bool rest_refuse_upload(struct exchange *x, struct blob_reservation *room);
/* Adds what the query says of a file: `tags`, `expires_in`, `visibility`, attr.KEY. Anything else is a mistake worth naming. */
int rest_read_query(struct exchange *x, struct file_labels *labels, struct err *err);
/*
 * The digest that header `name` demands: 1 and out, 0 none, -1 answered with 400.
 */
int rest_expected_digest(struct exchange *x, const char *name, unsigned char out[SHA256_LEN]);

/* The Content-Type that a file's bytes are served with, whole or in parts. */
const char *rest_content_type(const struct file_record *record);

extern const struct http_handler rest_download;
extern const struct http_handler rest_put;
extern const struct http_handler rest_form;
extern const struct http_handler rest_list;
extern const struct http_handler rest_metadata;
extern const struct http_handler rest_patch;
extern const struct http_handler rest_delete;
extern const struct http_handler rest_healthz;
extern const struct http_handler rest_readyz;
extern const struct http_handler rest_metrics;
extern const struct http_handler rest_openapi;

#endif
