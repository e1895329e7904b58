/*
 * Tags and attributes as they are gathered from a form or a query, and as PATCH changes them. Pure.
 * A repeated attribute makes an array; a dot in the key nests. Bounded (limits below); the error names the field.
 */
#ifndef DEPOTD_MODEL_ATTRIBUTES_H
#define DEPOTD_MODEL_ATTRIBUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"
#include "depotd/base/json.h"
#include "depotd/model/file_record.h"

enum { TAGS_MAX = 64, ATTRIBUTES_MAX_BYTES = 64 * 1024, ATTRIBUTE_KEY_MAX = 255 };

/*
 * What an upload may say of its files beside name and bytes; text fields `tags`, `expires_in`, `visibility`, attributes.
 * {0} says nothing; before the first file_labels_add() it has to be initialised.
 */
struct file_labels {
	json_t *tags;          /* array of unique strings, in order of appearance; NULL: none */
	json_t *attributes;    /* object; NULL: none */
	int64_t expires_in_ms; /* 0: never */
	enum visibility visibility;
	bool seen_expires, seen_visibility;
	size_t attribute_bytes; /* what they take as JSON, at most; never above ATTRIBUTES_MAX_BYTES */
};

int file_labels_init(struct file_labels *labels, struct err *err);
void file_labels_release(struct file_labels *labels);
/* One text field: `tags`, `expires_in`, `visibility`, else an attribute `key`. -1 ERR_INVALID names the field. */
int file_labels_add(struct file_labels *labels, const char *key, const char *value, size_t n,
		    struct err *err);
/* Appended as compact JSON text, "[]" and "{}" where there are none; labels may be NULL. A failure is the buffer's. */
void file_labels_print_tags(const struct file_labels *labels, struct buf *out);
void file_labels_print_attributes(const struct file_labels *labels, struct buf *out);

/*
 * RFC 7396 merge patch `patch` (JSON text) of a record's name, tags, attributes, visibility, expires_at; anything else in
 * it, or a wrong type, is ERR_INVALID that names the member. A new record with revision + 1, or the same content.
 */
int file_record_patch(const struct file_record *record, const char *patch, size_t n,
		      struct file_record **out, struct err *err);

#endif
