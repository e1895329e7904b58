/*
 * JSON (RFC 8259). Reading is jansson's; writing is a small streaming writer over a buf, since lists are long and
 * attributes come out of the database as JSON text already. Only this module emits a quote or a brace.
 */
#ifndef DEPOTD_BASE_JSON_H
#define DEPOTD_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "depotd/base/buf.h"
#include "depotd/base/err.h"

enum { JSON_DEPTH_MAX = 64 };

/* Commas and nesting are the writer's business; the caller only says what comes. Never fails but through its buf. */
struct json_writer {
	struct buf *out;
	unsigned depth;
	bool need_comma;
	bool after_key;
};

void json_writer_init(struct json_writer *w, struct buf *out);
void json_open_object(struct json_writer *w);
void json_close_object(struct json_writer *w);
void json_open_array(struct json_writer *w);
void json_close_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_text(struct json_writer *w, const char *value); /* NULL writes null; must be UTF-8 */
void json_text_n(struct json_writer *w, const char *value, size_t n);
void json_int(struct json_writer *w, int64_t value);
void json_bool(struct json_writer *w, bool value);
void json_nothing(struct json_writer *w);               /* null; json_null() is jansson's */
void json_raw(struct json_writer *w, const char *json); /* a value that is JSON text already */

/*
 * Parses one value (any kind) with nothing after it. Rejects duplicate keys, broken UTF-8, U+0000 in strings (PostgreSQL's
 * jsonb cannot hold it), nesting deeper than JSON_DEPTH_MAX; the error says line and column. The caller json_decref()s.
 */
json_t *json_parse(const char *text, size_t n, struct err *err);
/* Compact, keys sorted: equal values give equal text. Appends to out. */
void json_print(const json_t *value, struct buf *out);
/* RFC 7396 merge patch: a new reference to target as patched (target may be changed or not; use the result). */
json_t *json_merge_patch(json_t *target, const json_t *patch);

#endif
