/*
 * The filters of a list as parameters of its statements, and the counts by which list.c chooses a way. Worker threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "depotd/base/utf8.h"
#include "list_private.h"
#include "search_private.h"

enum {
	LIST_MEMORY_MAX = 1024 * 1024,
	TEXT_MAX = 64 * 1024,
	QUERY_FACETS_MAX = LIST_TAGS_MAX + LIST_ATTRIBUTES_MAX + 3
};

/* --- parameters --- */

static const char *keep(struct listing *l, struct buf *text)
{
	const char *kept =
		text->failed ? NULL : arena_strndup(&l->memory, buf_text(text), text->len);

	buf_release(text);
	return kept;
}

/* The facets of the query, the one to walk by first (rule 4: attribute, tag, owner, type, major). */
static int gather_facets(const struct list_query *q, int64_t numbers[QUERY_FACETS_MAX], size_t *n,
			 struct err *err)
{
	int rc = 0;

	*n = 0;
	for (size_t i = 0; i < q->attribute_count && rc == 0; i++)
		rc = facet_number(FACET_ATTRIBUTE, q->attributes[i].path, q->attributes[i].value,
				  &numbers[(*n)++], err);
	for (size_t i = 0; i < q->tag_count && rc == 0; i++)
		rc = facet_number(FACET_TAG, q->tags[i], NULL, &numbers[(*n)++], err);
	if (q->owner && rc == 0)
		rc = facet_number(FACET_OWNER, q->owner, NULL, &numbers[(*n)++], err);
	if (q->type && rc == 0)
		rc = facet_number(FACET_TYPE, q->type, NULL, &numbers[(*n)++], err);
	if (q->type_major && rc == 0)
		rc = facet_number(FACET_MAJOR, q->type_major, NULL, &numbers[(*n)++], err);
	return rc;
}

static bool is_among(const int64_t *numbers, size_t n, int64_t number)
{
	for (size_t i = 0; i < n; i++) {
		if (numbers[i] == number)
			return true;
	}
	return false;
}

static int set_facets(struct listing *l, struct err *err)
{
	int64_t numbers[QUERY_FACETS_MAX];
	struct json_writer w;
	struct buf text;
	size_t n;

	if (gather_facets(l->query, numbers, &n, err) < 0)
		return -1;
	buf_init(&text, TEXT_MAX);
	json_writer_init(&w, &text);
	json_open_array(&w);
	for (size_t i = 0; i < n; i++) {
		if (is_among(numbers, i, numbers[i])) /* tag=a&tag=a */
			continue;
		json_int(&w, numbers[i]);
		l->facet_count++;
	}
	json_close_array(&w);
	l->params[LIST_FACETS] = value_text(keep(l, &text));
	l->params[LIST_FACET] = value_int(n > 0 ? numbers[0] : 0);
	l->params[LIST_FACET].null = n == 0;
	return 0;
}

static bool is_ascii(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text >= 0x80)
			return false;
	}
	return true;
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
	l->params[LIST_Q_ASCII] = value_text(folded && is_ascii(folded) ? folded : NULL);
}

static void set_ranges(struct listing *l)
{
	const struct list_query *q = l->query;

	l->has_created = q->created_after != INT64_MIN || q->created_before != INT64_MAX;
	l->has_size = q->min_size >= 0 || q->max_size >= 0;
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

/* Whether no one index holds all that is asked for. */
static bool has_other_filters(const struct listing *l)
{
	const struct list_query *q = l->query;

	return l->has_search || q->has_sha256 || q->name || l->facet_count > 1 ||
	       (l->has_created && q->sort != LIST_SORT_CREATED) ||
	       (l->has_size && q->sort != LIST_SORT_SIZE);
}

int listing_init(struct listing *l, struct metadata *store, const struct list_query *query,
		 struct err *err)
{
	struct list_sink sink;

	*l = (struct listing){.store = store, .query = query, .deadline_ns = store_deadline(store)};
	arena_init(&l->memory, LIST_MEMORY_MAX);
	l->wanted = (size_t)query->limit + 1;
	if (list_sink_init(&sink, l->wanted, err) < 0)
		return -1;
	l->page = sink.list;
	l->params[LIST_NOW] = value_int(clock_wall_ms());
	l->params[LIST_NAME] = value_text(query->name);
	set_ranges(l);
	set_search(l);
	set_sha256(l);
	set_start(l);
	if (set_facets(l, err) < 0)
		return -1;
	l->has_other_filters = has_other_filters(l);
	if (l->params[LIST_FACETS].null || (l->has_search && l->params[LIST_Q].null))
		return err_set(err, ERR_NO_MEMORY, "a list");
	return 0;
}

void listing_release(struct listing *l)
{
	file_list_release(&l->page);
	arena_release(&l->memory);
}

/* --- counts --- */

/* The smallest count so far, and what it would be fetched by. */
struct candidate {
	int64_t count;
	const char *source;
	bool by_facet;
	int64_t facet;
};

static void consider(struct candidate *best, int64_t cap, int64_t count, const char *source,
		     const int64_t *facet)
{
	if (count > cap || (best->source && count >= best->count))
		return;
	*best = (struct candidate){count, source, facet != NULL, facet ? *facet : 0};
}

struct all_probe {
	struct listing *listing;
	struct candidate *best;
	int64_t range_cap, facet_cap;
	bool created, size;
};

/* 0 created in the range 1 of the size 2 of the name 3 of the content */
static int take_all(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct all_probe *p = context;
	const struct list_query *q = p->listing->query;

	if (n < 4)
		return err_set(err, ERR_INTERNAL, "files_probe_all has too few columns");
	if (p->created)
		consider(p->best, p->range_cap, columns[0].number, "fetch_created", NULL);
	if (p->size)
		consider(p->best, p->range_cap, columns[1].number, "fetch_size", NULL);
	if (q->name)
		consider(p->best, p->range_cap, columns[2].number, "fetch_name", NULL);
	if (q->has_sha256)
		consider(p->best, p->facet_cap, columns[3].number, "fetch_sha256", NULL);
	return 0;
}

/* A range that is not to be counted is an empty one. All files are, where there is nothing else to count but facets or q. */
static int probe_all(struct all_probe *p, struct err *err)
{
	struct listing *l = p->listing;
	const struct value *all = l->params;
	bool anything;

	p->created = l->has_created && l->query->sort != LIST_SORT_CREATED;
	p->size = l->has_size && l->query->sort != LIST_SORT_SIZE;
	anything = p->created || p->size || l->query->name || l->query->has_sha256;
	if (!anything)
		p->created = true;

	struct value params[] = {
		all[LIST_NAME],
		value_int(p->range_cap + 1),
		p->created ? all[LIST_CREATED_LOW] : value_int(0),
		p->created ? all[LIST_CREATED_HIGH] : value_int(0),
		p->size ? all[LIST_SIZE_LOW] : value_int(1),
		p->size ? all[LIST_SIZE_HIGH] : value_int(0),
		all[LIST_SHA256],
	};
	return store_read(l->store, "files_probe_all", params, 7, take_all, p, l->deadline_ns, err);
}

/* 0 facet 1 files with it in the created range 2 of the size */
static int take_facet(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct all_probe *p = context;

	if (n < 3)
		return err_set(err, ERR_INTERNAL, "files_probe_facets has too few columns");
	consider(p->best, p->facet_cap, columns[1].number, "fetch_facet", &columns[0].number);
	if (p->listing->has_size)
		consider(p->best, p->facet_cap, columns[2].number, "fetch_facet_size",
			 &columns[0].number);
	return 0;
}

static int probe_facets(struct all_probe *p, struct err *err)
{
	struct listing *l = p->listing;
	const struct value *all = l->params;
	struct value params[] = {
		all[LIST_FACETS],      value_int(p->facet_cap + 1),
		all[LIST_CREATED_LOW], all[LIST_CREATED_HIGH],
		all[LIST_SIZE_LOW],    l->has_size ? all[LIST_SIZE_HIGH] : value_int(-1),
	};

	if (l->facet_count == 0)
		return 0;
	return store_read(l->store, "files_probe_facets", params, 6, take_facet, p, l->deadline_ns,
			  err);
}

int list_probe(struct listing *l, int64_t range_cap, int64_t facet_cap, char *out, size_t max,
	       struct err *err)
{
	struct candidate best = {0};
	struct all_probe probe = {
		.listing = l, .best = &best, .range_cap = range_cap, .facet_cap = facet_cap};

	if (probe_all(&probe, err) < 0 || probe_facets(&probe, err) < 0)
		return -1;
	if (!best.source)
		return 0;
	if (best.by_facet)
		l->params[LIST_FACET] = value_int(best.facet);
	snprintf(out, max, "%s", best.source);
	return 1;
}

static int take_number(void *context, const struct value *columns, size_t n, struct err *err)
{
	if (n < 1 || columns[0].kind != VALUE_INT)
		return err_set(err, ERR_INTERNAL, "the database gave no number");
	*(int64_t *)context = columns[0].number;
	return 0;
}

/* What an index of trigrams can look for (search_index). */
enum searchable {
	SEARCH_WALK,    /* there is none */
	SEARCH_ASCII,   /* ASCII letters or digits */
	SEARCH_LETTERS, /* letters or digits */
	SEARCH_ANY,     /* any characters */
};

/*
 * Letters beyond ASCII, roughly: what is not punctuation, symbols, ideographic punctuation or emoji. One too many costs a slow
 * search, never a wrong one.
 */
static bool is_letter(uint32_t c)
{
	if (c < 0x80)
		return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	return c >= 0xC0 && c != 0xD7 && c != 0xF7 && !(c >= 0x2000 && c < 0x2C00) &&
	       !(c >= 0x3000 && c < 0x3005) && !(c >= 0xE000 && c < 0xF900) &&
	       !(c >= 0xFE00 && c < 0xFE70) && !(c >= 0x1F000 && c < 0x20000);
}

static bool has_three(const char *text, int64_t searchable)
{
	size_t n = strlen(text), run = 0;

	for (size_t at = 0; at < n;) {
		uint32_t c = 0;
		unsigned length = utf8_decode(text + at, n - at, &c);
		bool counts = searchable == SEARCH_ANY ||
			      (is_letter(c) && (c < 0x80 || searchable == SEARCH_LETTERS));

		run = counts && length > 0 ? run + 1 : 0;
		if (run == 3)
			return true;
		at += length ? length : 1;
	}
	return false;
}

int list_probe_search(struct listing *l, int64_t most, int64_t *found, struct err *err)
{
	struct value params[] = {l->params[LIST_Q], value_int(most)};
	int64_t searchable = SEARCH_WALK;

	if (store_read(l->store, "search_index", NULL, 0, take_number, &searchable, l->deadline_ns,
		       err) < 0)
		return -1;
	*found = most;
	if (searchable == SEARCH_WALK || !has_three(params[0].text, searchable))
		return 0;
	return store_read(l->store, "files_probe_search", params, 2, take_number, found,
			  l->deadline_ns, err);
}
