/*
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): the key as it is sent, and what it is held against. Pure.
 *
 * The fingerprint is of what a request means, not of how it was framed: a form with another boundary, or a body that is
 * chunked this time, is the same request.
 */
#ifndef DEPOTD_MODEL_IDEMPOTENCY_H
#define DEPOTD_MODEL_IDEMPOTENCY_H

#include <stddef.h>

#include "depotd/base/buf.h"
#include "depotd/base/digest.h"
#include "depotd/base/err.h"
#include "depotd/base/json.h"
#include "depotd/base/uuid.h"
#include "depotd/model/attributes.h"
#include "depotd/model/file_record.h"

enum { IDEMPOTENCY_KEY_MAX = 255 };

/*
 * One request with a key. It belongs to the registration of all of that request's files together. Plain memory: copy it, keep it.
 * Keys are each owner's own; the owner stands in the files' records.
 */
struct idempotency {
	char key[IDEMPOTENCY_KEY_MAX + 1]; /* 1–255 visible characters or blanks of ASCII */
	unsigned char fingerprint[SHA256_LEN];
	/* this attempt: one that registers twice never stands in its own way */
	struct uuid request;
};

/*
 * The field's value: an RFC 8941 string ("…"; parameters are ignored), or what many clients send, the bare token or UUID.
 * 0 and out[], or -1 ERR_INVALID. Both spellings of a key are the same key; a list of two (a repeated field) is malformed.
 */
int idempotency_key_parse(const char *value, char out[IDEMPOTENCY_KEY_MAX + 1], struct err *err);

/*
 * What the request means: `method` and `route` (as the front names its use case, "POST /files"), the labels, and each file's
 * name, size, digest and type, in order.
 */
int idempotency_fingerprint(const char *method, const char *route, const struct file_labels *labels,
			    const struct file_record *const *files, size_t n,
			    unsigned char out[SHA256_LEN], struct err *err);

/* As a JSON object, {"key": …, "fingerprint": …, "request": …}: a value of somebody's record, or a text of its own. */
void idempotency_json(const struct idempotency *idempotency, struct json_writer *w);
void idempotency_encode(const struct idempotency *idempotency, struct buf *out);
/* The way back. 1 ok, 0 it is none (err says why); other members are skipped. */
int idempotency_from_json(const json_t *value, struct idempotency *out, struct err *err);
int idempotency_decode(const char *text, size_t n, struct idempotency *out, struct err *err);

#endif
