/* Tags and attributes, gathered from text fields. Pure. */
#include "depotd/model/attributes.h"

#include <string.h>

#include "attributes_private.h"
#include "depotd/base/clock.h"
#include "depotd/model/file_name.h"
#include "depotd/model/quantity.h"

/* A thousand years: what is created now still expires in a year of four digits. */
static const int64_t EXPIRES_IN_MAX_MS = INT64_C(1000) * 365 * 86400 * 1000;

enum { ATTRIBUTE_DEPTH_MAX = 16 };

static int no_memory(struct err *err)
{
	return err_set(err, ERR_NO_MEMORY, "no memory for attributes");
}

bool visibility_parse(const char *text, enum visibility *out)
{
	bool is_public = strcmp(text, "public") == 0;
	if (!is_public && strcmp(text, "private") != 0)
		return false;
	*out = is_public ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	return true;
}

int expiry_parse(const char *text, int64_t *expires_ms)
{
	int64_t ms;
	if (!clock_parse_rfc3339(text, &ms))
		return 0;
	*expires_ms = ms == FILE_EXPIRES_NEVER ? ms + 1 : ms;
	return 1;
}

int tags_add(json_t *tags, const char *tag, size_t n, struct err *err)
{
	for (size_t i = 0; i < json_array_size(tags); i++) {
		const json_t *there = json_array_get(tags, i);
		if (json_string_length(there) == n && memcmp(json_string_value(there), tag, n) == 0)
			return 0;
	}
	if (json_array_size(tags) >= TAGS_MAX)
		return err_set(err, ERR_INVALID, "tags: at most %d are allowed", TAGS_MAX);
	return json_array_append_new(tags, json_stringn(tag, n)) < 0 ? no_memory(err) : 0;
}

static int tags_add_cleaned(json_t *tags, const char *given, size_t n, struct err *err)
{
	struct buf clean;
	buf_init(&clean, TAG_MAX_CHARS * UTF8_MAX_BYTES);
	int result = tag_clean(given, n, &clean, err);
	if (result < 0)
		err_set(err, err->kind, "tags: %s", err->message);
	else
		result = tags_add(tags, buf_text(&clean), clean.len, err);
	buf_release(&clean);
	return result;
}

int tags_print(const json_t *value, struct buf *out, struct err *err)
{
	if (value == NULL || json_is_null(value)) {
		buf_puts(out, "[]");
		return out->failed ? no_memory(err) : 0;
	}
	if (!json_is_array(value))
		return err_set(err, ERR_INVALID, "tags: must be an array of strings");
	json_t *tags = json_array();
	if (tags == NULL)
		return no_memory(err);
	int result = 0;
	for (size_t i = 0; result == 0 && i < json_array_size(value); i++) {
		const json_t *tag = json_array_get(value, i);
		if (!json_is_string(tag))
			result = err_set(err, ERR_INVALID, "tags[%zu]: must be a string", i);
		else
			result = tags_add_cleaned(tags, json_string_value(tag),
						  json_string_length(tag), err);
	}
	if (result == 0) {
		json_print(tags, out);
		if (out->failed)
			result = no_memory(err);
	}
	json_decref(tags);
	return result;
}

int attributes_print(const json_t *value, struct buf *out, struct err *err)
{
	if (value == NULL || json_is_null(value)) {
		buf_puts(out, "{}");
		return out->failed ? no_memory(err) : 0;
	}
	if (!json_is_object(value))
		return err_set(err, ERR_INVALID, "attributes: must be an object");
	json_print(value, out);
	if (out->no_memory)
		return no_memory(err);
	if (out->failed)
		return err_set(err, ERR_INVALID, "attributes: more than %zu bytes as JSON",
			       out->max);
	return 0;
}

/* --- text fields --- */

int file_labels_init(struct file_labels *labels, struct err *err)
{
	*labels = (struct file_labels){.tags = json_array(), .attributes = json_object()};
	if (labels->tags != NULL && labels->attributes != NULL)
		return 0;
	file_labels_release(labels);
	return no_memory(err);
}

void file_labels_release(struct file_labels *labels)
{
	json_decref(labels->tags);
	json_decref(labels->attributes);
	*labels = (struct file_labels){0};
}

void file_labels_print_tags(const struct file_labels *labels, struct buf *out)
{
	if (labels != NULL && labels->tags != NULL)
		json_print(labels->tags, out);
	else
		buf_puts(out, "[]");
}

void file_labels_print_attributes(const struct file_labels *labels, struct buf *out)
{
	if (labels != NULL && labels->attributes != NULL)
		json_print(labels->attributes, out);
	else
		buf_puts(out, "{}");
}

/* A comma-separated list; empty pieces are nothing ("a,,b" and an untouched field of a form). */
static int add_tags(json_t *tags, const char *value, size_t n, struct err *err)
{
	const char *end = value + n;
	for (const char *piece = value; piece <= end;) {
		const char *comma = memchr(piece, ',', (size_t)(end - piece));
		const char *stop = comma != NULL ? comma : end;
		const char *p = piece;
		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if (p < stop && tags_add_cleaned(tags, p, (size_t)(stop - p), err) < 0)
			return -1;
		piece = stop + 1;
	}
	return 0;
}

/* The value as a string, where it fits into room bytes and has no NUL. */
static bool copy_text(const char *value, size_t n, char *out, size_t room)
{
	if (n >= room || memchr(value, '\0', n) != NULL)
		return false;
	memcpy(out, value, n);
	out[n] = '\0';
	return true;
}

static int add_expires(struct file_labels *labels, const char *value, size_t n, struct err *err)
{
	char text[32];
	int64_t ms;
	if (labels->seen_expires)
		return err_set(err, ERR_INVALID, "expires_in: given twice");
	if (!copy_text(value, n, text, sizeof(text)) || !quantity_parse_duration(text, &ms))
		return err_set(err, ERR_INVALID,
			       "expires_in: must be seconds, or a number with ms, s, m, h or d");
	if (ms == 0 || ms > EXPIRES_IN_MAX_MS)
		return err_set(err, ERR_INVALID,
			       "expires_in: must be more than 0 and at most 1000 years");
	labels->expires_in_ms = ms;
	labels->seen_expires = true;
	return 0;
}

static int add_visibility(struct file_labels *labels, const char *value, size_t n, struct err *err)
{
	char text[16];
	if (labels->seen_visibility)
		return err_set(err, ERR_INVALID, "visibility: given twice");
	if (!copy_text(value, n, text, sizeof(text)) ||
	    !visibility_parse(text, &labels->visibility))
		return err_set(err, ERR_INVALID, "visibility: must be private or public");
	labels->seen_visibility = true;
	return 0;
}

/* What a key must be: 1–255 bytes of UTF-8 without controls, and no part between dots empty. */
static int check_key(const char *key, struct err *err)
{
	size_t n = strlen(key);
	if (n == 0 || n > ATTRIBUTE_KEY_MAX)
		return err_set(err, ERR_INVALID,
			       "attribute \"%.40s\": its name must have 1 to %d bytes", key,
			       ATTRIBUTE_KEY_MAX);
	unsigned depth = 1;
	for (size_t i = 0; i < n;) {
		uint32_t code;
		unsigned length = utf8_decode(key + i, n - i, &code);
		if (length == 0 || utf8_is_control(code))
			return err_set(
				err, ERR_INVALID,
				"attribute name: not UTF-8, or a control character, at byte %zu",
				i + 1);
		if (code == '.' &&
		    (i == 0 || key[i - 1] == '.' || i + 1 == n || ++depth > ATTRIBUTE_DEPTH_MAX))
			return err_set(err, ERR_INVALID,
				       "attribute \"%s\": an empty part between dots, or more than "
				       "%d parts",
				       key, ATTRIBUTE_DEPTH_MAX);
		i += length;
	}
	return 0;
}

/* The object that holds the last part of key; *last is that part. NULL with err where a part is no object. */
static json_t *descend(json_t *root, const char *key, const char **last, struct err *err)
{
	json_t *object = root;
	const char *part = key;
	for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
		size_t n = (size_t)(dot - part);
		json_t *next = json_object_getn(object, part, n);
		if (next == NULL) {
			next = json_object();
			if (json_object_setn_new(object, part, n, next) < 0) {
				no_memory(err);
				return NULL;
			}
		}
		if (!json_is_object(next)) {
			err_set(err, ERR_INVALID,
				"attribute \"%s\": \"%.*s\" has a value of its own", key,
				(int)(dot - key), key);
			return NULL;
		}
		object = next;
	}
	*last = part;
	return object;
}

/* Puts text under key; where there is one already the two become an array. */
static int put_attribute(json_t *object, const char *key, const char *full, json_t *text,
			 struct err *err)
{
	json_t *there = json_object_get(object, key);
	int failed;
	if (there == NULL) {
		failed = json_object_set(object, key, text);
	} else if (json_is_array(there)) {
		failed = json_array_append(there, text);
	} else if (json_is_string(there)) {
		failed = json_object_set_new(object, key, json_pack("[OO]", there, text));
	} else {
		return err_set(err, ERR_INVALID, "attribute \"%s\": has parts of its own", full);
	}
	return failed < 0 ? no_memory(err) : 0;
}

/* The most that n bytes take once they are printed as JSON. */
static size_t printed_size(const char *text, size_t n)
{
	size_t size = 0;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		size += c < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : 1;
	}
	return size;
}

/* The most that an attribute adds to the printed object: quotes, colon, comma, and for each dot as much and braces. */
static size_t printed_cost(const char *key, const char *value, size_t n)
{
	size_t parts = 1;
	for (const char *p = key; (p = strchr(p, '.')) != NULL; p++)
		parts++;
	return printed_size(key, strlen(key)) + printed_size(value, n) + parts * 8;
}

static int add_attribute(struct file_labels *labels, const char *key, const char *value, size_t n,
			 struct err *err)
{
	if (check_key(key, err) < 0)
		return -1;
	size_t cost = printed_cost(key, value, n);
	if (cost > ATTRIBUTES_MAX_BYTES - labels->attribute_bytes)
		return err_set(err, ERR_INVALID,
			       "attribute \"%s\": all together have more than %d bytes", key,
			       ATTRIBUTES_MAX_BYTES);
	if (utf8_length(value, n) < 0 || memchr(value, '\0', n) != NULL)
		return err_set(err, ERR_INVALID, "attribute \"%s\": not UTF-8, or a NUL", key);
	const char *last;
	json_t *object = descend(labels->attributes, key, &last, err);
	if (object == NULL)
		return -1;
	json_t *text = json_stringn(value, n);
	if (text == NULL)
		return no_memory(err);
	int result = put_attribute(object, last, key, text, err);
	json_decref(text);
	if (result == 0)
		labels->attribute_bytes += cost;
	return result;
}

int file_labels_add(struct file_labels *labels, const char *key, const char *value, size_t n,
		    struct err *err)
{
	if (strcmp(key, "tags") == 0)
		return add_tags(labels->tags, value, n, err);
	/* An untouched field of a form comes empty: not given. */
	if (strcmp(key, "expires_in") == 0)
		return n == 0 ? 0 : add_expires(labels, value, n, err);
	if (strcmp(key, "visibility") == 0)
		return n == 0 ? 0 : add_visibility(labels, value, n, err);
	return add_attribute(labels, key, value, n, err);
}
