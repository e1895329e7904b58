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
	LIST_PARAMS
};

struct listing {
	struct metadata *store;
	const struct list_query *query;
	struct arena memory;
	int64_t deadline_ns;
	struct value params[LIST_PARAMS]; /* those that stay the same over all passes */
	size_t facet_count;
	bool has_created, has_size; /* ranges */
	bool has_search;            /* q */
	bool has_other_filters; /* beside the sort's own range and one facet: some that no one index holds together */
	size_t wanted;       /* rows: one more than the page's limit */
	int64_t from_number; /* where the next pass starts */
	const char *from_name;
	struct uuid from_id;
	struct file_list page;
	bool exhausted; /* the last pass came to the end of the rows */
};

int listing_init(struct listing *l, struct metadata *store, const struct list_query *query,
		 struct err *err);
void listing_release(struct listing *l);

/*
 * Counts, within bounds, what the filters leave. 1: the one that leaves fewest leaves few enough to be fetched, by the source
 * named in out (fetch_name, …; LIST_FACET is set to fit). 0: none does; LIST_FACET is the one to walk by. -1.
 */
int list_probe(struct listing *l, int64_t range_cap, int64_t facet_cap, char *out, size_t max,
	       struct err *err);
/* About how many names hold q, up to most; more than that where no index could be used. */
int list_probe_search(struct listing *l, int64_t most, int64_t *found, struct err *err);

#endif
