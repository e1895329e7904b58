/*
 * A list request: filters, sort, page. Pure; parsing of the query string into it is model's, running it is metadata's.
 */
#ifndef DEPOTD_MODEL_LISTING_H
#define DEPOTD_MODEL_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/base/digest.h"
#include "depotd/base/err.h"
#include "depotd/base/uuid.h"

enum {
	LIST_LIMIT_DEFAULT = 50,
	LIST_LIMIT_MAX = 1000,
	LIST_TAGS_MAX = 16,
	LIST_ATTRIBUTES_MAX = 16
};

enum list_sort { LIST_SORT_CREATED, LIST_SORT_NAME, LIST_SORT_SIZE };

struct list_attribute {
	const char *path; /* dotted: project.phase */
	const char *value;
};

struct list_query {
	/* substring of the name, any case; NULL none. So with all the pointers below */
	const char *q;
	const char *name;
	const char *type; /* exactly this, e.g. image/png */
	/* "image" of image/ * (without blank); never set together with type */
	const char *type_major;
	const char *owner;
	bool has_sha256;
	unsigned char sha256[SHA256_LEN];
	const char *tags[LIST_TAGS_MAX]; /* all of them */
	size_t tag_count;
	struct list_attribute attributes[LIST_ATTRIBUTES_MAX]; /* all of them */
	size_t attribute_count;
	int64_t min_size, max_size; /* inclusive; -1 none */
	int64_t created_after,
		created_before; /* ms; after inclusive, before exclusive; INT64_MIN / INT64_MAX none */
	enum list_sort sort;
	bool descending;
	unsigned limit;
	/* Where the page starts: strictly behind this (sort value, id), in the direction of the sort. */
	bool has_position;
	int64_t position_number;   /* created_ms or size */
	const char *position_name; /* name */
	struct uuid position_id;
	/* Of the parsing: the parameters that were given so far, and the cursor as it came, for list_query_finish(). */
	unsigned seen;
	const char *cursor;
};

void list_query_init(struct list_query *query);
/*
 * Adds one decoded query parameter, in any order. Strings are copied to the arena. 0 taken, -1 unknown or wrong: err
 * names the parameter. After the last one call list_query_finish(): it decodes the cursor against the sort.
 */
int list_query_add(struct list_query *query, struct arena *arena, const char *key,
		   const char *value, struct err *err);
int list_query_finish(struct list_query *query, struct arena *arena, struct err *err);
/*
 * The opaque cursor that starts behind this position: base64url, bound to sort and direction (a cursor used with another
 * sort or with other filters is 400). Written to out.
 */
void list_cursor_encode(const struct list_query *query, int64_t number, const char *name,
			const struct uuid *id, struct buf *out);

#endif
