/*
 * The parameters of a list request. One table: name, whether an empty value counts as not given (an HTML form sends every
 * field), and what takes it. Pure.
 */
#include "depotd/model/listing.h"

#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/utf8.h"
#include "depotd/model/attributes.h"
#include "depotd/model/file_name.h"
#include "depotd/model/media_type.h"
#include "depotd/model/quantity.h"
#include "listing_private.h"

static int no_memory(struct err *err)
{
	return err_set(err, ERR_NO_MEMORY, "no memory for a list request");
}

/* A copy of what may be looked for: UTF-8 of at most max bytes. */
static int take_text(const char *key, const char *value, size_t max, struct arena *arena,
		     const char **out, struct err *err)
{
	size_t n = strlen(value);
	if (n == 0 || n > max)
		return err_set(err, ERR_INVALID, "%s: must have 1 to %zu bytes", key, max);
	if (utf8_length(value, n) < 0)
		return err_set(err, ERR_INVALID, "%s: is not UTF-8", key);
	char *copy = arena_strndup(arena, value, n);
	if (copy == NULL)
		return no_memory(err);
	*out = copy;
	return 0;
}

static int take_q(struct list_query *query, struct arena *arena, const char *value, struct err *err)
{
	return take_text("q", value, FILE_NAME_MAX_BYTES, arena, &query->q, err);
}

static int take_name(struct list_query *query, struct arena *arena, const char *value,
		     struct err *err)
{
	return take_text("name", value, FILE_NAME_MAX_BYTES, arena, &query->name, err);
}

static int take_owner(struct list_query *query, struct arena *arena, const char *value,
		      struct err *err)
{
	return take_text("owner", value, FILE_NAME_MAX_BYTES, arena, &query->owner, err);
}

static int take_cursor(struct list_query *query, struct arena *arena, const char *value,
		       struct err *err)
{
	return take_text("cursor", value, 2 * FILE_NAME_MAX_BYTES, arena, &query->cursor, err);
}

/* Types are compared without case (RFC 9110 §8.3.1) and stored in lower case. */
static int take_type(struct list_query *query, struct arena *arena, const char *value,
		     struct err *err)
{
	char *copy = arena_strdup(arena, value);
	if (copy == NULL)
		return no_memory(err);
	for (char *p = copy; *p != '\0'; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	}
	if (strcmp(copy, "*/*") == 0)
		return 0;
	char *slash = strchr(copy, '/');
	bool major = slash != NULL && strcmp(slash, "/*") == 0;
	if (major)
		slash[1] =
			'x'; /* so that the one rule of what a type is holds for the half as well */
	if (slash == NULL || strpbrk(copy, ";*") != NULL || !media_type_valid(copy))
		return err_set(err, ERR_INVALID, "type: must be like image/png or image/*");
	if (major) {
		*slash = '\0';
		query->type_major = copy;
	} else {
		query->type = copy;
	}
	return 0;
}

static int take_tag(struct list_query *query, struct arena *arena, const char *value,
		    struct err *err)
{
	if (query->tag_count == LIST_TAGS_MAX)
		return err_set(err, ERR_INVALID, "tag: at most %d are allowed", LIST_TAGS_MAX);
	struct buf clean;
	buf_init(&clean, TAG_MAX_CHARS * UTF8_MAX_BYTES);
	int result = tag_clean(value, strlen(value), &clean, err);
	if (result < 0) {
		err_set(err, err->kind, "tag: %s", err->message);
	} else {
		const char *copy = arena_strndup(arena, buf_text(&clean), clean.len);
		if (copy != NULL)
			query->tags[query->tag_count++] = copy;
		else
			result = no_memory(err);
	}
	buf_release(&clean);
	return result;
}

static int take_sha256(struct list_query *query, struct arena *arena, const char *value,
		       struct err *err)
{
	(void)arena;
	if (strlen(value) != SHA256_HEX_LEN || !hex_decode(value, SHA256_HEX_LEN, query->sha256))
		return err_set(err, ERR_INVALID, "sha256: must be %d hexadecimal digits",
			       SHA256_HEX_LEN);
	query->has_sha256 = true;
	return 0;
}

static int take_size(const char *key, const char *value, int64_t *out, struct err *err)
{
	if (!quantity_parse_size(value, out))
		return err_set(err, ERR_INVALID, "%s: must be bytes, or a number with K, M, G or T",
			       key);
	return 0;
}

static int take_min_size(struct list_query *query, struct arena *arena, const char *value,
			 struct err *err)
{
	(void)arena;
	return take_size("min_size", value, &query->min_size, err);
}

static int take_max_size(struct list_query *query, struct arena *arena, const char *value,
			 struct err *err)
{
	(void)arena;
	return take_size("max_size", value, &query->max_size, err);
}

static int take_time(const char *key, const char *value, int64_t *out, struct err *err)
{
	if (!clock_parse_rfc3339(value, out))
		return err_set(err, ERR_INVALID,
			       "%s: must be an RFC 3339 time like 2026-11-22T13:00:00Z, or a date",
			       key);
	return 0;
}

static int take_created_after(struct list_query *query, struct arena *arena, const char *value,
			      struct err *err)
{
	(void)arena;
	return take_time("created_after", value, &query->created_after, err);
}

static int take_created_before(struct list_query *query, struct arena *arena, const char *value,
			       struct err *err)
{
	(void)arena;
	return take_time("created_before", value, &query->created_before, err);
}

static int take_sort(struct list_query *query, struct arena *arena, const char *value,
		     struct err *err)
{
	static const char *const names[] = {
		[LIST_SORT_CREATED] = "created_at",
		[LIST_SORT_NAME] = "name",
		[LIST_SORT_SIZE] = "size",
	};
	(void)arena;
	bool descending = value[0] == '-';
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value + descending, names[i]) == 0) {
			query->sort = (enum list_sort)i;
			query->descending = descending;
			return 0;
		}
	}
	return err_set(err, ERR_INVALID,
		       "sort: must be created_at, name or size, with - in front for descending");
}

static int take_limit(struct list_query *query, struct arena *arena, const char *value,
		      struct err *err)
{
	(void)arena;
	unsigned limit = 0;
	const char *p = value;
	for (; *p >= '0' && *p <= '9' && limit <= LIST_LIMIT_MAX; p++)
		limit = limit * 10 + (unsigned)(*p - '0');
	if (*p != '\0' || limit < 1 || limit > LIST_LIMIT_MAX)
		return err_set(err, ERR_INVALID, "limit: must be a number from 1 to %d",
			       LIST_LIMIT_MAX);
	query->limit = limit;
	return 0;
}

static const struct parameter {
	const char *key;
	int (*take)(struct list_query *query, struct arena *arena, const char *value,
		    struct err *err);
	bool empty_is_none;
	bool may_repeat;
} parameters[] = {
	{"q", take_q, true, false},
	{"name", take_name, false, false},
	{"type", take_type, true, false},
	{"tag", take_tag, true, true},
	{"owner", take_owner, false, false},
	{"sha256", take_sha256, false, false},
	{"min_size", take_min_size, false, false},
	{"max_size", take_max_size, false, false},
	{"created_after", take_created_after, false, false},
	{"created_before", take_created_before, false, false},
	{"sort", take_sort, true, false},
	{"limit", take_limit, false, false},
	{"cursor", take_cursor, true, false},
};

void list_query_init(struct list_query *query)
{
	*query = (struct list_query){
		.min_size = -1,
		.max_size = -1,
		.created_after = INT64_MIN,
		.created_before = INT64_MAX,
		.sort = LIST_SORT_CREATED,
		.descending = true,
		.limit = LIST_LIMIT_DEFAULT,
	};
}

/* attr.KEY=VALUE. The value may be empty: an attribute's may be, too. */
static int take_attribute(struct list_query *query, struct arena *arena, const char *key,
			  const char *path, const char *value, struct err *err)
{
	size_t n = strlen(path);
	if (n == 0 || n > ATTRIBUTE_KEY_MAX || utf8_length(path, n) < 0)
		return err_set(err, ERR_INVALID, "attr.KEY: its key must be 1 to %d bytes of UTF-8",
			       ATTRIBUTE_KEY_MAX);
	if (path[0] == '.' || path[n - 1] == '.' || strstr(path, "..") != NULL)
		return err_set(err, ERR_INVALID, "%s: has an empty part between dots", key);
	for (size_t i = 0; i < query->attribute_count; i++) {
		if (strcmp(query->attributes[i].path, path) == 0)
			return err_set(err, ERR_INVALID, "%s: given twice", key);
	}
	if (query->attribute_count == LIST_ATTRIBUTES_MAX)
		return err_set(err, ERR_INVALID, "%s: at most %d attributes are allowed", key,
			       LIST_ATTRIBUTES_MAX);
	if (utf8_length(value, strlen(value)) < 0)
		return err_set(err, ERR_INVALID, "%s: is not UTF-8", key);
	const char *path_copy = arena_strdup(arena, path);
	const char *value_copy = arena_strdup(arena, value);
	if (path_copy == NULL || value_copy == NULL)
		return no_memory(err);
	query->attributes[query->attribute_count++] =
		(struct list_attribute){path_copy, value_copy};
	return 0;
}

int list_query_add(struct list_query *query, struct arena *arena, const char *key,
		   const char *value, struct err *err)
{
	if (strncmp(key, "attr.", 5) == 0)
		return take_attribute(query, arena, key, key + 5, value, err);
	for (unsigned i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
		const struct parameter *parameter = &parameters[i];
		if (strcmp(parameter->key, key) != 0)
			continue;
		if ((query->seen & 1u << i) != 0 && !parameter->may_repeat)
			return err_set(err, ERR_INVALID, "%s: given twice", key);
		query->seen |= 1u << i;
		if (value[0] == '\0' && parameter->empty_is_none)
			return 0;
		return parameter->take(query, arena, value, err);
	}
	return err_set(err, ERR_INVALID, "%.64s: no such parameter", key);
}

int list_query_finish(struct list_query *query, struct arena *arena, struct err *err)
{
	return query->cursor != NULL ? list_cursor_decode(query, arena, err) : 0;
}
