/*
 * Lists: which statements answer a query, and how far they go. The rules are sql's (statements.sql, "Lists" and HOW TO CHOOSE;
 * the figures were measured there); the numbers of its rules stand at the functions here. Worker threads.
 *
 * A page is gathered by passes. A pass runs one statement, which looks at a bounded number of rows in the order of the list
 * and gives those that pass the filters; where its budget ends, the next pass goes on. A page that takes too long ends short,
 * and says where to go on: files.end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "list_private.h"

enum {
	WALK_SLACK = 16, /* rows beyond those wanted that a plain walk looks at: the expired */
	GROWTH = 4,
	RANGE_CAP = 20000, /* fewer candidates than this are fetched and sorted */
	FACET_CAP = 3000,
	SEARCH_CAP = 15000,
	WALK_FIRST = 2000, /* rows that a walk with filters looks at in its first pass */
	WALK_FIRST_SEARCH = 10000,
	WALK_NEXT = 4000,
	WALK_TIME_MS = 6, /* no further pass after this */
	WALK_TIME_SEARCH_MS = 40,
	STATEMENT_NAME_MAX = 64,
	NS_PER_MS = 1000000,
};

static const char *const sort_names[] = {
	[LIST_SORT_CREATED] = "created", [LIST_SORT_NAME] = "name", [LIST_SORT_SIZE] = "size"};

/* --- passes --- */

/* A row of a list statement: a file row, 13 ok, 14 end. */
static int take_row(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct listing *l = context;
	struct file_record *record = NULL;

	if (n < FILE_COLUMNS + 2 || columns[FILE_COLUMNS].kind != VALUE_INT ||
	    columns[FILE_COLUMNS + 1].kind != VALUE_INT)
		return err_set(err, ERR_INTERNAL, "the database gave a row that is no list's");
	if (row_record(columns, n, &record, err) < 0)
		return -1;
	if (columns[FILE_COLUMNS + 1].number) {
		l->exhausted = false;
		file_record_unref(&l->page.end);
		l->page.end = file_record_ref(record);
	}
	if (columns[FILE_COLUMNS].number && l->page.n < l->wanted) {
		l->page.files[l->page.n++] = record;
		return 0;
	}
	file_record_unref(&record);
	return 0;
}

/* Where the next pass starts. */
static void move_behind(struct listing *l, const struct file_record *record)
{
	l->from_number = l->query->sort == LIST_SORT_SIZE ? record->size : record->created_ms;
	l->from_name = record->name; /* lives as long as page.end */
	l->from_id = record->id;
}

/* One run of files_KIND_SOURCE_SORT_DIR. */
static int pass(struct listing *l, const char *source, int64_t budget, struct err *err)
{
	bool by_name = l->query->sort == LIST_SORT_NAME;
	char statement[STATEMENT_NAME_MAX], id[UUID_TEXT_LEN + 1];
	struct value params[LIST_PARAMS];

	uuid_format(&l->from_id, id);
	memcpy(params, l->params, sizeof(params));
	params[LIST_WANTED] = value_int((int64_t)(l->wanted - l->page.n));
	params[LIST_BUDGET] = value_int(budget);
	params[LIST_FROM_NUMBER] = value_int(l->from_number);
	params[LIST_FROM_NUMBER].null = by_name;
	params[LIST_FROM_NAME] = value_text(by_name ? l->from_name : NULL);
	params[LIST_FROM_ID] = value_text(id);
	snprintf(statement, sizeof(statement), "files_%s_%s_%s", source, sort_names[l->query->sort],
		 l->query->descending ? "desc" : "asc");
	l->exhausted = true;
	if (store_read(l->store, statement, params, LIST_PARAMS, take_row, l, l->deadline_ns, err) <
	    0)
		return -1;
	if (!l->exhausted)
		move_behind(l, l->page.end);
	return 0;
}

static bool is_done(const struct listing *l)
{
	return l->exhausted || l->page.n == l->wanted;
}

/* Passes until the page is full, the rows are at their end, or time_ms are over. */
static int walk(struct listing *l, const char *source, int64_t budget, int64_t growth,
		int64_t time_ms, struct err *err)
{
	int64_t stop_ns = clock_monotonic_ns() + time_ms * NS_PER_MS;

	do {
		if (pass(l, source, budget, err) < 0)
			return -1;
		budget *= growth;
	} while (!is_done(l) && clock_monotonic_ns() < stop_ns);
	return 0;
}

/* As long as a statement may take; a page that is not full by then ends short. */
static int64_t long_time_ms(const struct listing *l)
{
	return l->store->call_timeout_ms / 4;
}

/* --- choosing --- */

/* Where all files are to be looked at: by the facet to go by, if there is one. */
static const char *walk_source(const struct listing *l)
{
	return l->facet_count > 0 ? "walk_facet" : "walk_all";
}

/* Rule 2: nothing has to be filtered but what the index says, and the expired. */
static int list_plainly(struct listing *l, struct err *err)
{
	return walk(l, walk_source(l), (int64_t)l->wanted + WALK_SLACK, GROWTH, long_time_ms(l),
		    err);
}

/* Rule 3: files of one name, in the order of names. */
static int list_same_name(struct listing *l, struct err *err)
{
	return walk(l, "walk_same", (int64_t)l->wanted + WALK_SLACK, GROWTH, long_time_ms(l), err);
}

/* A few rows that hold all of the answer: read, sorted, filtered. */
static int fetch(struct listing *l, const char *source, struct err *err)
{
	return walk(l, source, (int64_t)l->wanted * GROWTH, GROWTH, long_time_ms(l), err);
}

/* Rule 4, at its end: no filter leaves few rows, so enough of those that a walk meets pass them. */
static int list_by_walking(struct listing *l, struct err *err)
{
	if (pass(l, walk_source(l), WALK_FIRST, err) < 0)
		return -1;
	return is_done(l) ? 0 : walk(l, walk_source(l), WALK_NEXT, 1, WALK_TIME_MS, err);
}

/* Rule 5: a walk finds a word that many names hold; an index one that few hold. */
static int list_by_searching(struct listing *l, struct err *err)
{
	int64_t first = l->facet_count > 0 ? WALK_FIRST : WALK_FIRST_SEARCH, found = SEARCH_CAP + 1;

	if (pass(l, walk_source(l), first, err) < 0)
		return -1;
	if (is_done(l))
		return 0;
	if (list_probe_search(l, SEARCH_CAP + 1, &found, err) < 0)
		return -1;
	if (found > SEARCH_CAP)
		return walk(l, walk_source(l), WALK_NEXT, 1, WALK_TIME_SEARCH_MS, err);
	return fetch(l, "fetch_search", err);
}

static int choose(struct listing *l, struct err *err)
{
	const struct list_query *query = l->query;
	char source[STATEMENT_NAME_MAX];
	int found;

	if (query->name && query->sort == LIST_SORT_NAME)
		return list_same_name(l, err);
	if (!l->has_other_filters)
		return list_plainly(l, err);
	found = list_probe(l, RANGE_CAP, FACET_CAP, source, sizeof(source), err);
	if (found < 0)
		return -1;
	if (found > 0)
		return fetch(l, source, err);
	return l->has_search ? list_by_searching(l, err) : list_by_walking(l, err);
}

/* --- the page --- */

/* One row more than the page holds was asked for: if it is there, there is a next page. */
static void close_page(struct listing *l)
{
	struct file_list *page = &l->page;

	page->more = page->n > l->query->limit || !l->exhausted;
	if (page->n > l->query->limit) {
		page->n--;
		file_record_unref(&page->files[page->n]);
		file_record_unref(&page->end);
		page->end = page->n > 0 ? file_record_ref(page->files[page->n - 1]) : NULL;
	}
	if (!page->more)
		file_record_unref(&page->end);
}

int metadata_list(struct metadata *store, const struct list_query *query, struct file_list *out,
		  struct err *err)
{
	struct listing listing;
	int rc = listing_init(&listing, store, query, err);

	if (rc == 0)
		rc = choose(&listing, err);
	if (rc == 0) {
		close_page(&listing);
		*out = listing.page;
		listing.page = (struct file_list){0};
	}
	listing_release(&listing);
	return rc;
}
