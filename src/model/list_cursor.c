/*
 * The cursor: version, sort, direction, the last row's id and sort value, and a checksum over these and the filters, in
 * base64url. The checksum is against mistakes (a cursor cut short, used with another query), not against forgery: whoever
 * forges a position gets rows that they could have asked for.  Pure.
 *
 *	1 version | 1 sort | 1 descending | 16 id | 8 number, or the name | 8 checksum
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/utf8.h"
#include "depotd/model/file_name.h"
#include "listing_private.h"

enum {
	CURSOR_VERSION = 1,
	CURSOR_HEAD = 3,
	CURSOR_ID = 16,
	CURSOR_NUMBER = 8,
	CURSOR_CHECKSUM = 8,
	CURSOR_VALUE_AT = CURSOR_HEAD + CURSOR_ID,
	CURSOR_MAX = CURSOR_VALUE_AT + FILE_NAME_MAX_BYTES + CURSOR_CHECKSUM,
	CURSOR_TEXT_MAX = 4 * ((CURSOR_MAX + 2) / 3),
};

/* --- the checksum: FNV-1a, 64 bits --- */

static void hash_bytes(uint64_t *hash, const void *data, size_t n)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < n; i++)
		*hash = (*hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void hash_number(uint64_t *hash, int64_t number)
{
	unsigned char bytes[8];
	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (unsigned char)((uint64_t)number >> (56 - 8 * i));
	hash_bytes(hash, bytes, sizeof(bytes));
}

/* NULL and "" differ; the NUL at the end keeps neighbours apart. */
static void hash_text(uint64_t *hash, const char *text)
{
	hash_bytes(hash, text != NULL ? "+" : "-", 1);
	if (text != NULL)
		hash_bytes(hash, text, strlen(text) + 1);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_attributes(const void *a, const void *b)
{
	const struct list_attribute *x = a, *y = b;
	int order = strcmp(x->path, y->path);
	return order != 0 ? order : strcmp(x->value, y->value);
}

/* The filters, whatever the order they came in. The limit is none of them: pages may change their size. */
static void hash_filters(uint64_t *hash, const struct list_query *query)
{
	const char *tags[LIST_TAGS_MAX];
	struct list_attribute attributes[LIST_ATTRIBUTES_MAX];
	memcpy(tags, query->tags, sizeof(tags));
	memcpy(attributes, query->attributes, sizeof(attributes));
	qsort(tags, query->tag_count, sizeof(tags[0]), compare_texts);
	qsort(attributes, query->attribute_count, sizeof(attributes[0]), compare_attributes);
	hash_text(hash, query->q);
	hash_text(hash, query->name);
	hash_text(hash, query->type);
	hash_text(hash, query->type_major);
	hash_text(hash, query->owner);
	hash_number(hash, query->has_sha256);
	hash_bytes(hash, query->sha256, sizeof(query->sha256));
	hash_number(hash, query->min_size);
	hash_number(hash, query->max_size);
	hash_number(hash, query->created_after);
	hash_number(hash, query->created_before);
	hash_number(hash, (int64_t)query->tag_count);
	for (size_t i = 0; i < query->tag_count; i++)
		hash_text(hash, tags[i]);
	for (size_t i = 0; i < query->attribute_count; i++) {
		hash_text(hash, attributes[i].path);
		hash_text(hash, attributes[i].value);
	}
}

static uint64_t checksum(const struct list_query *query, const unsigned char *bytes, size_t n)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	hash_bytes(&hash, bytes, n);
	hash_filters(&hash, query);
	return hash;
}

static void put_u64(unsigned char *out, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		out[i] = (unsigned char)(value >> (56 - 8 * i));
}

static uint64_t get_u64(const unsigned char *in)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | in[i];
	return value;
}

/* --- base64url without padding: RFC 4648 §5 --- */

static void swap_chars(char *text, size_t n, const char *from, const char *to)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] == from[0])
			text[i] = to[0];
		else if (text[i] == from[1])
			text[i] = to[1];
	}
}

static void put_base64url(const unsigned char *bytes, size_t n, struct buf *out)
{
	char text[CURSOR_TEXT_MAX + 1];
	base64_encode(bytes, n, text);
	size_t length = strcspn(text, "=");
	swap_chars(text, length, "+/", "-_");
	buf_append(out, text, length);
}

static bool get_base64url(const char *given, unsigned char *bytes, size_t max, size_t *n)
{
	char text[CURSOR_TEXT_MAX + 4];
	size_t length = strlen(given);
	if (length > CURSOR_TEXT_MAX || strpbrk(given, "+/=") != NULL)
		return false;
	memcpy(text, given, length);
	swap_chars(text, length, "-_", "+/");
	while (length % 4 != 0)
		text[length++] = '=';
	return base64_decode(text, length, bytes, max, n) != 0;
}

/* --- the cursor --- */

void list_cursor_encode(const struct list_query *query, int64_t number, const char *name,
			const struct uuid *id, struct buf *out)
{
	unsigned char bytes[CURSOR_MAX] = {CURSOR_VERSION, (unsigned char)query->sort,
					   query->descending};
	memcpy(bytes + CURSOR_HEAD, id->bytes, CURSOR_ID);
	size_t n = CURSOR_VALUE_AT;
	if (query->sort == LIST_SORT_NAME) {
		size_t length = strnlen(name, FILE_NAME_MAX_BYTES);
		memcpy(bytes + n, name, length);
		n += length;
	} else {
		put_u64(bytes + n, (uint64_t)number);
		n += CURSOR_NUMBER;
	}
	put_u64(bytes + n, checksum(query, bytes, n));
	put_base64url(bytes, n + CURSOR_CHECKSUM, out);
}

/* What a stored file can have, so that a forged position is no number that a database chokes on. */
static bool number_possible(enum list_sort sort, int64_t number)
{
	const int64_t year_0_ms = -62167219200000, year_10000_ms = 253402300800000;
	if (sort == LIST_SORT_SIZE)
		return number >= 0;
	return number >= year_0_ms && number < year_10000_ms;
}

static int refuse(struct err *err)
{
	return err_set(err, ERR_INVALID,
		       "cursor: is damaged, or was given for another sort or other filters");
}

int list_cursor_decode(struct list_query *query, struct arena *arena, struct err *err)
{
	unsigned char bytes[CURSOR_MAX];
	size_t n;
	if (!get_base64url(query->cursor, bytes, sizeof(bytes), &n) ||
	    n < CURSOR_VALUE_AT + CURSOR_CHECKSUM)
		return refuse(err);
	n -= CURSOR_CHECKSUM;
	if (bytes[0] != CURSOR_VERSION || bytes[1] != (unsigned char)query->sort ||
	    bytes[2] != (unsigned char)query->descending ||
	    get_u64(bytes + n) != checksum(query, bytes, n))
		return refuse(err);
	const char *value = (const char *)bytes + CURSOR_VALUE_AT;
	size_t length = n - CURSOR_VALUE_AT;
	if (query->sort == LIST_SORT_NAME) {
		/* A forged one must still be a text that the database can hold. */
		if (utf8_length(value, length) < 0 || memchr(value, '\0', length) != NULL)
			return refuse(err);
		query->position_name = arena_strndup(arena, value, length);
		if (query->position_name == NULL)
			return err_set(err, ERR_NO_MEMORY, "no memory for a cursor");
	} else {
		int64_t number = 0;
		if (length == CURSOR_NUMBER)
			number = (int64_t)get_u64(bytes + CURSOR_VALUE_AT);
		if (length != CURSOR_NUMBER || !number_possible(query->sort, number))
			return refuse(err);
		query->position_number = number;
	}
	memcpy(query->position_id.bytes, bytes + CURSOR_HEAD, CURSOR_ID);
	query->has_position = true;
	return 0;
}
