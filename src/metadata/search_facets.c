/*
 * Facets: what a file can be filtered by, as numbers (sql/postgres/statements.sql, FACETS). Any thread.
 *
 * An attribute's leaves: a path is its keys joined by dots; each scalar of an array counts under the array's path; null,
 * and what lies inside of an array's objects and arrays, has no facet.
 */
#include <string.h>

#include "depotd/base/digest.h"
#include "depotd/base/json.h"
#include "search_private.h"

enum { FACET_TEXT_MAX = 256 * 1024 };

static int hash(enum facet_kind kind, const char *text, size_t n, const char *value, size_t value_n,
		struct buf *scratch, int64_t *out, struct err *err)
{
	unsigned char digest[SHA256_LEN];
	uint64_t number = 0;

	buf_reset(scratch);
	buf_putc(scratch, (char)kind);
	buf_append(scratch, text, n);
	if (value) {
		buf_putc(scratch, '\0');
		buf_append(scratch, value, value_n);
	}
	if (scratch->failed)
		return err_set(err, ERR_NO_MEMORY, "facet");
	if (digest_sha256(scratch->data, scratch->len, digest, err) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(number); i++)
		number = number << 8 | digest[i];
	memcpy(out, &number, sizeof(number));
	return 0;
}

int facet_number(enum facet_kind kind, const char *text, const char *value, int64_t *out,
		 struct err *err)
{
	struct buf scratch;
	int rc;

	buf_init(&scratch, FACET_TEXT_MAX);
	rc = hash(kind, text, strlen(text), value, value ? strlen(value) : 0, &scratch, out, err);
	buf_release(&scratch);
	return rc;
}

struct gatherer {
	struct facet_set *set;
	struct buf scratch, path, value;
	struct err *err;
};

static int add(struct gatherer *g, enum facet_kind kind, const char *text, size_t n,
	       const char *value, size_t value_n)
{
	int64_t number = 0;

	if (g->set->n == FACETS_MAX)
		return 0;
	if (hash(kind, text, n, value, value_n, &g->scratch, &number, g->err) < 0)
		return -1;
	for (size_t i = 0; i < g->set->n; i++) {
		if (g->set->numbers[i] == number)
			return 0;
	}
	g->set->numbers[g->set->n++] = number;
	return 0;
}

static int add_scalar(struct gatherer *g, const json_t *leaf)
{
	const char *path = buf_text(&g->path);

	if (json_is_string(leaf))
		return add(g, FACET_ATTRIBUTE, path, g->path.len, json_string_value(leaf),
			   json_string_length(leaf));
	if (!json_is_number(leaf) && !json_is_boolean(leaf))
		return 0;
	buf_reset(&g->value);
	json_print(leaf, &g->value);
	return add(g, FACET_ATTRIBUTE, path, g->path.len, buf_text(&g->value), g->value.len);
}

static void cut(struct buf *b, size_t length)
{
	b->len = length;
	if (b->data)
		b->data[length] = '\0';
}

/* Nested at most JSON_DEPTH_MAX deep: that is what json_parse() lets pass. */
static int add_leaves(struct gatherer *g, json_t *value, bool nested)
{
	size_t length = g->path.len, i = 0;
	const char *key;
	json_t *member;

	if (json_is_object(value)) {
		json_object_foreach(value, key, member)
		{
			if (nested)
				buf_putc(&g->path, '.');
			buf_puts(&g->path, key);
			if (add_leaves(g, member, true) < 0)
				return -1;
			cut(&g->path, length);
		}
		return 0;
	}
	if (!json_is_array(value))
		return add_scalar(g, value);
	json_array_foreach(value, i, member)
	{
		if (add_scalar(g, member) < 0)
			return -1;
	}
	return 0;
}

static int add_attributes(struct gatherer *g, const char *attributes)
{
	json_t *object;
	int rc;

	if (strcmp(attributes, "{}") == 0)
		return 0;
	object = json_parse(attributes, strlen(attributes), g->err);
	if (!object)
		return -1;
	rc = json_is_object(object) ? add_leaves(g, object, false)
				    : err_set(g->err, ERR_INVALID, "attributes: not an object");
	json_decref(object);
	return rc;
}

static int add_tags(struct gatherer *g, const char *tags)
{
	json_t *array, *tag;
	size_t i = 0;
	int rc = 0;

	if (strcmp(tags, "[]") == 0)
		return 0;
	array = json_parse(tags, strlen(tags), g->err);
	if (!array)
		return -1;
	if (!json_is_array(array))
		rc = err_set(g->err, ERR_INVALID, "tags: not an array");
	json_array_foreach(array, i, tag)
	{
		if (rc == 0 && !json_is_string(tag))
			rc = err_set(g->err, ERR_INVALID, "tags: member %zu is not a string", i);
		if (rc == 0)
			rc = add(g, FACET_TAG, json_string_value(tag), json_string_length(tag),
				 NULL, 0);
	}
	json_decref(array);
	return rc;
}

static uint64_t bit(uint64_t n)
{
	return UINT64_C(1) << (n & 63);
}

int64_t facet_bits(const struct facet_set *facets, const unsigned char sha256[SHA256_LEN])
{
	uint64_t bits = bit(sha256[0]) | bit(sha256[1]);
	int64_t out;

	for (size_t i = 0; i < facets->n; i++) {
		uint64_t facet = (uint64_t)facets->numbers[i];

		bits |= bit(facet) | bit(facet >> 6);
	}
	memcpy(&out, &bits, sizeof(out));
	return out;
}

int facet_set_of(const struct file_record *record, struct facet_set *out, struct err *err)
{
	struct gatherer g = {.set = out, .err = err};
	int rc;

	out->n = 0;
	buf_init(&g.scratch, FACET_TEXT_MAX);
	buf_init(&g.path, FACET_TEXT_MAX);
	buf_init(&g.value, FACET_TEXT_MAX);
	rc = add(&g, FACET_TYPE, record->type, strlen(record->type), NULL, 0);
	if (rc == 0)
		rc = add(&g, FACET_MAJOR, record->type, strcspn(record->type, "/"), NULL, 0);
	if (rc == 0 && record->owner)
		rc = add(&g, FACET_OWNER, record->owner, strlen(record->owner), NULL, 0);
	if (rc == 0)
		rc = add_tags(&g, record->tags);
	if (rc == 0)
		rc = add_attributes(&g, record->attributes);
	if (rc == 0 && (g.path.failed || g.value.failed))
		rc = err_set(err, ERR_NO_MEMORY, "facets");
	buf_release(&g.scratch);
	buf_release(&g.path);
	buf_release(&g.value);
	return rc;
}
