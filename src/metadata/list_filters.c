/*
 * The filters of a list as parameters of its statements, and the counts by which list.c chooses a way. Worker threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "list_private.h"
#include "search_private.h"

enum {
	LIST_MEMORY_MAX = 1024 * 1024,
	TEXT_MAX = 64 * 1024,
	FETCH_CAP = 12000,  /* most rows to fetch */
	FAR_CAP = 2000,     /* where each is looked up in its table */
	PROBE_MOST = 24000, /* rows to count of all facets and ranges together */
	COUNTED_MAX = 4, /* facets to count and to choose among: to go by one of them is enough */
	FAR_FEW = 50,    /* so many in any case */
	TOUCH_TIME_US = 4000, /* since the page was begun */
	TOUCH_LEAST_US = 500,
	NS_PER_US = 1000,
	RAREST_ROWS = 200, /* the facet that goes farthest in so many is the rarest */
};

/* --- parameters --- */

static const char *keep(struct listing *l, struct buf *text)
{
	const char *kept =
		text->failed ? NULL : arena_strndup(&l->memory, buf_text(text), text->len);

	buf_release(text);
	return kept;
}

static int add_facet(struct listing *l, enum facet_kind kind, const char *text, const char *value,
		     struct err *err)
{
	int64_t number = 0;

	if (facet_number(kind, text, value, &number, err) < 0)
		return -1;
	for (size_t i = 0; i < l->facet_count; i++) {
		if (l->facets[i] == number) /* tag=a&tag=a */
			return 0;
	}
	l->facets[l->facet_count++] = number;
	return 0;
}

/* F: of attributes, tags, owner, type or its family, in this order. */
static int gather_facets(struct listing *l, struct err *err)
{
	const struct list_query *q = l->query;
	int rc = 0;

	for (size_t i = 0; i < q->attribute_count && rc == 0; i++)
		rc = add_facet(l, FACET_ATTRIBUTE, q->attributes[i].path, q->attributes[i].value,
			       err);
	for (size_t i = 0; i < q->tag_count && rc == 0; i++)
		rc = add_facet(l, FACET_TAG, q->tags[i], NULL, err);
	if (q->owner && rc == 0)
		rc = add_facet(l, FACET_OWNER, q->owner, NULL, err);
	if (q->type && rc == 0)
		rc = add_facet(l, FACET_TYPE, q->type, NULL, err);
	if (q->type_major && rc == 0)
		rc = add_facet(l, FACET_MAJOR, q->type_major, NULL, err);
	return rc;
}

/* The first n facets as a JSON array, or NULL. */
static const char *facets_text(struct listing *l, size_t n)
{
	struct json_writer w;
	struct buf text;

	buf_init(&text, TEXT_MAX);
	json_writer_init(&w, &text);
	json_open_array(&w);
	for (size_t i = 0; i < n; i++)
		json_int(&w, l->facets[i]);
	json_close_array(&w);
	return keep(l, &text);
}

static int set_facets(struct listing *l, struct err *err)
{
	if (gather_facets(l, err) < 0)
		return -1;
	l->counted = l->facet_count < COUNTED_MAX ? l->facet_count : COUNTED_MAX;
	l->counted_text = facets_text(l, l->counted);
	l->params[LIST_FACETS] = value_text(facets_text(l, l->facet_count));
	l->params[LIST_FACET] = value_int(l->facet_count > 0 ? l->facets[0] : 0);
	l->params[LIST_FACET].null = l->facet_count == 0;
	return 0;
}

/*
 * The longest stretch of ASCII, or NULL: what lower() of any database finds of a name that has the whole, since no folding makes
 * ASCII of what is not.
 */
static const char *longest_ascii(struct listing *l, const char *text)
{
	const char *longest = text;
	size_t n = 0;

	while (text && *text) {
		size_t run = 0;

		while (text[run] && (unsigned char)text[run] < 0x80)
			run++;
		if (run > n) {
			longest = text;
			n = run;
		}
		text += run > 0 ? run : 1;
	}
	return n > 0 ? arena_strndup(&l->memory, longest, n) : NULL;
}

static void set_search(struct listing *l)
{
	const char *folded = NULL;
	struct buf text;

	l->has_search = l->query->q && l->query->q[0];
	if (l->has_search) {
		buf_init(&text, TEXT_MAX);
		search_fold(l->query->q, &text);
		folded = keep(l, &text);
	}
	l->params[LIST_Q] = value_text(folded);
	l->params[LIST_Q_ASCII] = value_text(longest_ascii(l, folded));
}

static void set_ranges(struct listing *l)
{
	const struct list_query *q = l->query;

	l->by_created = q->sort != LIST_SORT_CREATED &&
			(q->created_after != INT64_MIN || q->created_before != INT64_MAX);
	l->by_size = q->sort != LIST_SORT_SIZE && (q->min_size >= 0 || q->max_size >= 0);
	l->params[LIST_CREATED_LOW] = value_int(q->created_after);
	l->params[LIST_CREATED_HIGH] = value_int(q->created_before);
	l->params[LIST_SIZE_LOW] = value_int(q->min_size >= 0 ? q->min_size : 0);
	l->params[LIST_SIZE_HIGH] = value_int(q->max_size >= 0 ? q->max_size : INT64_MAX);
}

static void set_sha256(struct listing *l)
{
	char hex[SHA256_HEX_LEN + 1];

	hex_encode(l->query->sha256, SHA256_LEN, hex);
	l->params[LIST_SHA256] =
		value_text(l->query->has_sha256 ? arena_strdup(&l->memory, hex) : NULL);
}

/* The cursor's position, or the end of the order where it begins. */
static void set_start(struct listing *l)
{
	const struct list_query *q = l->query;
	int64_t size_low = l->params[LIST_SIZE_LOW].number,
		size_high = l->params[LIST_SIZE_HIGH].number;

	if (q->has_position) {
		l->from_number = q->position_number;
		l->from_name = q->position_name;
		l->from_id = q->position_id;
		return;
	}
	if (q->sort == LIST_SORT_CREATED)
		l->from_number = q->descending ? q->created_before : q->created_after;
	else if (q->sort == LIST_SORT_SIZE)
		l->from_number = !q->descending          ? size_low
				 : size_high < INT64_MAX ? size_high + 1
							 : INT64_MAX;
	else if (q->descending)
		memset(l->from_id.bytes, 0xFF, sizeof(l->from_id.bytes));
}

int listing_init(struct listing *l, struct metadata *store, const struct list_query *query,
		 struct err *err)
{
	struct list_sink sink;

	*l = (struct listing){.store = store,
			      .query = query,
			      .began_ns = clock_monotonic_ns(),
			      .deadline_ns = store_deadline(store)};
	arena_init(&l->memory, LIST_MEMORY_MAX);
	l->wanted = (size_t)query->limit + 1;
	if (list_sink_init(&sink, l->wanted, err) < 0)
		return -1;
	l->page = sink.list;
	l->params[LIST_NOW] = value_int(clock_wall_ms());
	l->params[LIST_NAME] = value_text(query->name);
	for (int i = LIST_PATTERN; i < LIST_PARAMS; i++)
		l->params[i] = value_text(NULL);
	set_ranges(l);
	set_search(l);
	set_sha256(l);
	set_start(l);
	if (set_facets(l, err) < 0)
		return -1;
	/* A filter without its value would let everything pass. */
	if (l->memory.failed || l->params[LIST_FACETS].null || !l->counted_text ||
	    (l->has_search && l->params[LIST_Q].null))
		return err_set(err, ERR_NO_MEMORY, "a list");
	return 0;
}

void listing_release(struct listing *l)
{
	file_list_release(&l->page);
	arena_release(&l->memory);
}

void list_statement(const struct listing *l, const char *what, char *out, size_t size)
{
	static const char *const sorts[] = {[LIST_SORT_CREATED] = "created",
					    [LIST_SORT_NAME] = "name",
					    [LIST_SORT_SIZE] = "size"};

	snprintf(out, size, "files_%s_%s_%s", what, sorts[l->query->sort],
		 l->query->descending ? "desc" : "asc");
}

/* --- counts --- */

struct probe {
	struct listing *listing;
	int64_t all_created, all_size, all_name, all_content; /* of files_probe_all */
	int64_t facet_cap;                                    /* of files_probe_facets */
	const char *source; /* the least of the counts so far that is within bounds, or NULL */
	int64_t least;
	int64_t facet; /* its facet, where F is not empty */
	bool far;      /* each row is looked up in its table */
};

/* `cap`: the most rows that are fetched from there. */
static void consider(struct probe *p, const char *source, int64_t count, int64_t cap, bool far)
{
	if (count > cap || (p->source && count >= p->least))
		return;
	p->source = source;
	p->least = count;
	p->far = far;
}

static int take_all(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct probe *p = context;

	if (n < 4)
		return err_set(err, ERR_INTERNAL, "files_probe_all has too few columns");
	p->all_created = columns[0].number;
	p->all_size = columns[1].number;
	p->all_name = columns[2].number;
	p->all_content = columns[3].number;
	return 0;
}

/* A range that is not to be counted is given as an empty one. */
static int probe_all(struct probe *p, struct err *err)
{
	struct listing *l = p->listing;
	bool created = l->by_created && l->facet_count == 0,
	     size = l->by_size && l->facet_count == 0;
	struct value params[] = {
		l->params[LIST_NAME],
		value_int(FETCH_CAP + 1),
		created ? l->params[LIST_CREATED_LOW] : value_int(INT64_MAX),
		created ? l->params[LIST_CREATED_HIGH] : value_int(INT64_MIN),
		size ? l->params[LIST_SIZE_LOW] : value_int(INT64_MAX),
		size ? l->params[LIST_SIZE_HIGH] : value_int(INT64_MIN),
		l->params[LIST_SHA256],
	};

	if (!l->query->name && !l->query->has_sha256 && !created && !size)
		return 0;
	if (store_read(l->store, "files_probe_all", params, sizeof(params) / sizeof(params[0]),
		       take_all, p, l->deadline_ns, err) < 0)
		return -1;
	if (l->query->has_sha256)
		consider(p, "fetch_sha256", p->all_content, FAR_CAP, true);
	if (l->query->name)
		consider(p, "fetch_name", p->all_name, FETCH_CAP, false);
	if (created)
		consider(p, "fetch_created", p->all_created, FETCH_CAP, false);
	if (size)
		consider(p, "fetch_size", p->all_size, FETCH_CAP, false);
	return 0;
}

/* 0 facet 1 files with it in the created range 2 of the size. */
static int take_facet(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct probe *p = context;
	struct listing *l = p->listing;
	bool far = l->query->sort == LIST_SORT_NAME;
	int64_t least = p->source ? p->least : INT64_MAX;

	if (n < 3)
		return err_set(err, ERR_INTERNAL, "files_probe_facets has too few columns");
	if (l->by_created)
		consider(p, "fetch_facet_created", columns[1].number, p->facet_cap, far);
	if (l->by_size)
		consider(p, "fetch_facet_size", columns[2].number, p->facet_cap, far);
	if (p->source && p->least < least)
		p->facet = columns[0].number;
	return 0;
}

/* Several facets and ranges are counted in the time of one: each not as far. */
static int probe_facets(struct probe *p, struct err *err)
{
	struct listing *l = p->listing;
	int64_t ranges = (l->by_created ? 1 : 0) + (l->by_size ? 1 : 0), share;

	if (l->facet_count == 0 || ranges == 0)
		return 0;
	share = PROBE_MOST / ((int64_t)l->counted * ranges);
	p->facet_cap = l->query->sort == LIST_SORT_NAME ? FAR_CAP : FETCH_CAP;
	if (p->facet_cap > share)
		p->facet_cap = share;
	struct value params[] = {
		value_text(l->counted_text),
		value_int(p->facet_cap + 1),
		l->by_created ? l->params[LIST_CREATED_LOW] : value_int(INT64_MAX),
		l->by_created ? l->params[LIST_CREATED_HIGH] : value_int(INT64_MIN),
		l->by_size ? l->params[LIST_SIZE_LOW] : value_int(INT64_MAX),
		l->by_size ? l->params[LIST_SIZE_HIGH] : value_int(INT64_MIN),
	};
	return store_read(l->store, "files_probe_facets", params,
			  sizeof(params) / sizeof(params[0]), take_facet, p, l->deadline_ns, err);
}

int list_take_number(void *context, const struct value *columns, size_t n, struct err *err)
{
	if (n < 1 || columns[0].kind != VALUE_INT)
		return err_set(err, ERR_INTERNAL, "the database gave no number");
	*(int64_t *)context = columns[0].number;
	return 0;
}

/*
 * Whether what is to be looked up in the table is there in time. Where it has to come from the disk, it is not, but each try brings
 * more of it into memory.
 */
static int touch(struct probe *p, struct err *err)
{
	struct listing *l = p->listing;
	bool by_created = strcmp(p->source, "fetch_facet_created") == 0,
	     by_size = strcmp(p->source, "fetch_facet_size") == 0;
	int64_t left_us = TOUCH_TIME_US - (clock_monotonic_ns() - l->began_ns) / NS_PER_US,
		touched = 0;
	struct value params[] = {
		value_int(p->facet),
		value_int(p->least + 1),
		value_int(left_us > TOUCH_LEAST_US ? left_us : TOUCH_LEAST_US),
		l->params[by_created ? LIST_CREATED_LOW : LIST_SIZE_LOW],
		l->params[by_created ? LIST_CREATED_HIGH : LIST_SIZE_HIGH],
		l->params[LIST_SHA256],
	};

	if (store_read(l->store,
		       by_created ? "files_touch_facet_created"
		       : by_size  ? "files_touch_facet_size"
				  : "files_touch_sha256",
		       params, sizeof(params) / sizeof(params[0]), list_take_number, &touched,
		       l->deadline_ns, err) < 0)
		return -1;
	return touched <= p->least ? 1 : 0;
}

int list_probe(struct listing *l, const char **source, int64_t *count, struct err *err)
{
	struct probe p = {.listing = l};
	int rc = 1;

	if (probe_all(&p, err) < 0 || probe_facets(&p, err) < 0)
		return -1;
	if (!p.source)
		return 0;
	if (p.far && p.least > FAR_FEW)
		rc = touch(&p, err);
	if (rc <= 0)
		return rc;
	if (l->facet_count > 0)
		l->params[LIST_FACET] = value_int(p.facet);
	*source = p.source;
	*count = p.least;
	return 1;
}

int list_find_rarest(struct listing *l, struct err *err)
{
	bool by_name = l->query->sort == LIST_SORT_NAME;
	char statement[LIST_STATEMENT_MAX], id[UUID_TEXT_LEN + 1];
	struct value params[] = {value_text(l->counted_text), value_int(RAREST_ROWS),
				 value_int(l->from_number),
				 value_text(by_name ? l->from_name : NULL), value_text(NULL)};
	int64_t facet = l->facets[0];

	if (l->facet_count < 2)
		return 0;
	uuid_format(&l->from_id, id);
	params[2].null = by_name;
	params[4] = value_text(id);
	list_statement(l, "rarest", statement, sizeof(statement));
	if (store_read(l->store, statement, params, sizeof(params) / sizeof(params[0]),
		       list_take_number, &facet, l->deadline_ns, err) < 0)
		return -1;
	l->params[LIST_FACET] = value_int(facet);
	return 0;
}
