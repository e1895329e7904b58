/* A list while it is being gathered: its filters as parameters, and what is known of how many files they leave. */
#ifndef DEPOTD_METADATA_LIST_PRIVATE_H
#define DEPOTD_METADATA_LIST_PRIVATE_H

#include "depotd/base/arena.h"
#include "store_private.h"

/* The parameters of every list statement, in order (sql/postgres/statements.sql, "Lists"). */
enum list_param {
	LIST_WANTED,
	LIST_BUDGET,
	LIST_NOW,
	LIST_FACET,
	LIST_FACETS,
	LIST_FROM_NUMBER,
	LIST_FROM_NAME,
	LIST_FROM_ID,
	LIST_CREATED_LOW,
	LIST_CREATED_HIGH,
	LIST_SIZE_LOW,
	LIST_SIZE_HIGH,
	LIST_NAME,
	LIST_SHA256,
	LIST_Q,
	LIST_Q_ASCII,
	LIST_TIME_US,
	LIST_PATTERN, /* and two more */
	LIST_PARAMS = LIST_PATTERN + 3
};

enum { LIST_FACETS_MAX = LIST_TAGS_MAX + LIST_ATTRIBUTES_MAX + 3, LIST_STATEMENT_MAX = 64 };

struct listing {
	struct metadata *store;
	const struct list_query *query;
	struct arena memory;
	int64_t began_ns, deadline_ns;
	struct value params[LIST_PARAMS]; /* those that stay the same over all passes */
	int64_t facets[LIST_FACETS_MAX];  /* in the order of F, none twice */
	size_t facet_count;
	const char *counted_text; /* the first facets, as JSON: those that are counted */
	size_t counted;
	bool by_created, by_size; /* R: ranges that are given and not of the sort's key */
	bool has_search;          /* q */
	bool small;               /* of few rows in all: each pass may take its time */
	size_t wanted;            /* rows: one more than the page's limit */
	int64_t from_number;      /* where the next pass starts */
	const char *from_name;
	struct uuid from_id;
	struct file_list page;
	bool exhausted; /* the last pass came to the end of the rows */
};

int listing_init(struct listing *l, struct metadata *store, const struct list_query *query,
		 struct err *err);
void listing_release(struct listing *l);

/* The statement files_WHAT_SORT_DIR of this list's order. */
void list_statement(const struct listing *l, const char *what, char *out, size_t size);

/*
 * Counts, within bounds, what a name, a digest or a range leaves. 1: few enough, *count files to be fetched by *source
 * (LIST_FACET is set to fit). 0: too many. -1.
 */
int list_probe(struct listing *l, const char **source, int64_t *count, struct err *err);
/* Sets LIST_FACET to the facet to walk by: the one that is rarest where the list goes on. */
int list_find_rarest(struct listing *l, struct err *err);
/* A row_fn for statements that give one number, an int64_t. */
int list_take_number(void *context, const struct value *columns, size_t n, struct err *err);

/* --- src/metadata/list_search.c --- */

/* Whether an index finds the files with q, few as they are: 1 fetch search (LIST_PATTERN is set), 0 walk, -1. */
int list_probe_search(struct listing *l, struct err *err);

#endif
