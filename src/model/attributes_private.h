/* The rules of labels that the form, PATCH and a file's own description share. Pure. */
#ifndef DEPOTD_MODEL_ATTRIBUTES_PRIVATE_H
#define DEPOTD_MODEL_ATTRIBUTES_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "depotd/model/attributes.h"
#include "depotd/model/file_name.h"

/* TAGS_MAX tags of 64 four-byte characters, or of 64 quotes that are escaped, with their quotes and commas. */
enum { TAGS_MAX_BYTES = TAGS_MAX * (TAG_MAX_CHARS * UTF8_MAX_BYTES + 3) + 2 };

/* "private" or "public". */
bool visibility_parse(const char *text, enum visibility *out);
/* RFC 3339 to expires_ms: 1 ok, 0 malformed. Never FILE_EXPIRES_NEVER: the epoch itself becomes its first millisecond. */
int expiry_parse(const char *text, int64_t *expires_ms);
/* Adds one clean tag where it is new. -1 ERR_INVALID beyond TAGS_MAX. */
int tags_add(json_t *tags, const char *tag, size_t n, struct err *err);
/* A JSON value that claims to be tags, cleaned and printed. NULL and null are none. -1 ERR_INVALID names the place. */
int tags_print(const json_t *value, struct buf *out, struct err *err);
/* A JSON value that claims to be attributes, printed. NULL and null are none. -1 ERR_INVALID. */
int attributes_print(const json_t *value, struct buf *out, struct err *err);

#endif
