/*
 * Lists: which statements answer a query, and how far they go. The rules are sql's: statements.sql, "Lists" and HOW TO CHOOSE,
 * whose numbers stand at the functions here; the figures were measured there (tests/bench/list_latency.py). Worker threads.
 *
 * A page is gathered by passes. A pass runs one statement, which looks at rows in the order of the list, for a bounded time
 * (PostgreSQL) or up to a bounded number (SQLite), and gives those that pass the filters; where it stopped, the next pass goes
 * on. A page that takes too long ends short, and says where to go on: file_list.end.
 */
#include <string.h>

#include "depotd/base/clock.h"
#include "list_private.h"

enum {
	PLAIN_SLACK = 16,     /* rows beyond those wanted that a plain walk looks at: the expired */
	WALK_FIRST_FAR = 200, /* where each row has to be looked up in the table */
	WALK_FIRST = 1000,    /* rows that a walk with filters looks at in its first pass */
	WALK_MOST = 16000,
	WALK_LEAST = 200, /* a pass that would be shorter is not worth it */
	WALK_ROWS = 256,  /* that one pass gives: to read them once more is not in its time */
	FETCH_ANY = 2000, /* files that are fetched however late */
	FETCH_GROWTH = 4, /* rows of the first pass for each one wanted */
	FETCH_MOST = 100000,
	FETCH_TO_COUNT = 2, /* a fetch takes more, but what it reads is in memory then */
	/* Rows of a large page that are read first: about as many as a page has that does not say how many. */
	PIECE_FIRST = 64,
	PIECE_GROWTH = 2,
	PIECE_LEAST = 16,  /* a piece that would be smaller is not worth it */
	LIST_TRY_MS = 2,   /* since the page was begun: a walk before there is more counting */
	LIST_TIME_MS = 6,  /* the same; no further pass after this */
	LARGE_TIME_MS = 5, /* the same for a large page, whose rows take a while on their way */
	PAGE_TIME_MS = 4,  /* the same, for finding what is then read all at once */
	PIECE_TIME_MS = 5, /* the same, for reading the rows of a large page, piece by piece */
	FETCH_TIME_MS = 7,
	SEARCH_TIME_MS = 35,
	SEARCH_REST_MS = 8,  /* that a walk for a word has, however late */
	LEAST_TIME_US = 500, /* that a pass has, however late */
	SMALL_ROWS = 20000,  /* up to so many are all looked at, in some 20 ms at the most */
	SMALL_TIME_MS = 1000,
	SMALL_FOR_MS = 1000, /* until they are counted again */
	LARGE_FOR_MS = 60 * 1000,
	US_PER_MS = 1000,
	NS_PER_US = 1000,
	NS_PER_MS = 1000000,
};

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

static int64_t elapsed_us(const struct listing *l)
{
	return (clock_monotonic_ns() - l->began_ns) / NS_PER_US;
}

/*
 * Where there are few rows, a page is never cut short: whoever lists a small depot on a busy machine would be surprised by an empty
 * page with a next one, and nobody gains by it.
 */
static bool is_small(struct metadata *store, int64_t deadline_ns)
{
	struct value most = value_int(SMALL_ROWS + 1);
	int64_t now_ns = clock_monotonic_ns(), rows = SMALL_ROWS + 1;
	struct err ignored; /* the list itself will meet it */

	if (now_ns < atomic_load(&store->small_until_ns))
		return atomic_load(&store->small);
	if (store_read(store, "files_count_some", &most, 1, list_take_number, &rows, deadline_ns,
		       &ignored) < 0)
		return false;
	bool small = rows <= SMALL_ROWS;
	atomic_store(&store->small, small);
	atomic_store(&store->small_until_ns,
		     now_ns + (small ? SMALL_FOR_MS : LARGE_FOR_MS) * (int64_t)NS_PER_MS);
	return small;
}

static size_t missing(const struct listing *l)
{
	return l->wanted - l->page.n;
}

/*
 * One run of files_KIND_SOURCE_SORT_DIR that gives at most `rows`: of `budget` rows, or until limit_ms have gone since the page was
 * begun.
 */
static int pass(struct listing *l, const char *source, size_t rows, int64_t budget,
		int64_t limit_ms, struct err *err)
{
	bool by_name = l->query->sort == LIST_SORT_NAME;
	int64_t left_us = limit_ms * US_PER_MS - elapsed_us(l);
	size_t before = l->page.n;
	char statement[LIST_STATEMENT_MAX], id[UUID_TEXT_LEN + 1];
	struct value params[LIST_PARAMS];

	uuid_format(&l->from_id, id);
	memcpy(params, l->params, sizeof(params));
	params[LIST_WANTED] = value_int((int64_t)rows);
	params[LIST_BUDGET] = value_int(budget);
	params[LIST_TIME_US] = value_int(left_us > LEAST_TIME_US ? left_us : LEAST_TIME_US);
	params[LIST_FROM_NUMBER] = value_int(l->from_number);
	params[LIST_FROM_NUMBER].null = by_name;
	params[LIST_FROM_NAME] = value_text(by_name ? l->from_name : NULL);
	params[LIST_FROM_ID] = value_text(id);
	list_statement(l, source, statement, sizeof(statement));
	l->exhausted = true;
	if (store_read(l->store, statement, params, LIST_PARAMS, take_row, l, l->deadline_ns, err) <
	    0)
		return -1;
	if (l->exhausted && l->page.n - before == rows) { /* it had no need to look at more */
		l->exhausted = false;
		file_record_unref(&l->page.end);
		l->page.end = file_record_ref(l->page.files[l->page.n - 1]);
	}
	if (!l->exhausted)
		move_behind(l, l->page.end);
	return 0;
}

static bool is_done(const struct listing *l)
{
	return l->exhausted || l->page.n == l->wanted;
}

/* For what comes after a word was looked up in the index. */
static int64_t search_limit_ms(const struct listing *l)
{
	int64_t limit_ms = elapsed_us(l) / US_PER_MS + SEARCH_REST_MS;

	return limit_ms > SEARCH_TIME_MS ? limit_ms : SEARCH_TIME_MS;
}

/*
 * Passes until the page is full, the rows are at their end, or limit_ms have gone since the page was begun. Each has the budget
 * that the time left allows at the pace of the one before.
 */
static int walk(struct listing *l, const char *source, int64_t budget, int64_t limit_ms,
		struct err *err)
{
	if (l->small)
		limit_ms = SMALL_TIME_MS;
	while (!is_done(l) && budget >= WALK_LEAST) {
		int64_t began_ns = clock_monotonic_ns(), now_ns;
		size_t rows = missing(l), before = l->page.n;

		if (rows > WALK_ROWS && !l->small)
			rows = WALK_ROWS;
		if (pass(l, source, rows, budget, limit_ms, err) < 0)
			return -1;
		now_ns = clock_monotonic_ns();
		if (l->page.n - before == rows) /* so many at the least: it stopped there */
			budget = (int64_t)rows;
		budget = budget * (l->began_ns + limit_ms * NS_PER_MS - now_ns) /
			 (now_ns - began_ns + 1);
		if (budget > WALK_MOST)
			budget = WALK_MOST;
	}
	return 0;
}

/*
 * A page of many rows is read in pieces, as each row may be another page of the table: how long that takes is known from the piece
 * before. How many rows the next one has that is done limit_ms after the page was begun; less than PIECE_LEAST: none.
 */
static int64_t next_piece(const struct listing *l, int64_t piece, int64_t began_us,
			  int64_t limit_ms)
{
	int64_t now_us = elapsed_us(l);
	int64_t fits = piece * (limit_ms * US_PER_MS - now_us) / (now_us - began_us + 1);

	return fits < piece * PIECE_GROWTH ? fits : piece * PIECE_GROWTH;
}

/* Whether a pass of `piece` rows may find all that the page lacks. */
static bool is_last_piece(const struct listing *l, int64_t piece)
{
	return l->small || (int64_t)missing(l) <= piece;
}

/* A few rows that hold all of the answer: read, sorted, filtered. Each pass begins with that anew. */
static int fetch(struct listing *l, const char *source, struct err *err)
{
	int64_t budget = (int64_t)l->wanted * FETCH_GROWTH, limit_ms = FETCH_TIME_MS;

	if (l->has_search)
		limit_ms = search_limit_ms(l);
	for (int64_t piece = PIECE_FIRST; !is_done(l) && piece >= PIECE_LEAST;) {
		int64_t began_us = elapsed_us(l);

		if (is_last_piece(l, piece)) {
			if (pass(l, source, missing(l), budget, 0, err) < 0)
				return -1;
			budget = FETCH_MOST;
		} else {
			if (pass(l, source, missing(l), piece, 0, err) < 0)
				return -1;
			piece = next_piece(l, piece, began_us, limit_ms);
		}
	}
	return 0;
}

/* --- choosing --- */

/* How long a walk may take, since the page was begun: to pass on many rows takes its time, too. */
static int64_t list_time_ms(const struct listing *l)
{
	return l->wanted > PIECE_FIRST ? LARGE_TIME_MS : LIST_TIME_MS;
}

/*
 * Where the index alone cannot tell whether a row passes, the first pass is short. (A matter of budgets in rows; time needs no
 * such care.)
 */
static int64_t first_budget(const struct listing *l)
{
	bool far = l->query->has_sha256 ||
		   (l->has_search && (l->params[LIST_Q_ASCII].null || l->facet_count > 0));

	return far ? WALK_FIRST_FAR : WALK_FIRST;
}

/*
 * Rule 3: fetches what a name, a digest or a range narrows down to a few files. 1 done, 0 there are more, or to count them took so
 * long that to fetch them would take too long.
 */
static int fetch_few(struct listing *l, struct err *err)
{
	int64_t began_us = elapsed_us(l), now_us, count = 0;
	const char *source = NULL;
	int found = list_probe(l, &source, &count, err);

	if (found <= 0)
		return found;
	now_us = elapsed_us(l);
	if (count > FETCH_ANY &&
	    now_us + (now_us - began_us) * FETCH_TO_COUNT > FETCH_TIME_MS * US_PER_MS)
		return 0;
	return fetch(l, source, err) < 0 ? -1 : 1;
}

/* Where the index tells which rows pass: all of a page is read at once, or of a large one a piece. */
static int read_page(struct listing *l, int64_t budget, struct err *err)
{
	const char *source = l->facet_count > 0 ? "page_facet" : "page_all";
	int64_t limit_ms = l->small ? SMALL_TIME_MS : PAGE_TIME_MS;

	for (int64_t piece = PIECE_FIRST; !is_last_piece(l, piece); limit_ms = PIECE_TIME_MS) {
		int64_t began_us = elapsed_us(l);

		if (pass(l, source, missing(l), piece, limit_ms, err) < 0)
			return -1;
		piece = next_piece(l, piece, began_us, PIECE_TIME_MS);
		if (is_done(l) || piece < PIECE_LEAST)
			return 0;
	}
	return pass(l, source, missing(l), budget, limit_ms, err);
}

/* Rules 2 and 5. The walk goes on where some of a page's rows had expired, and does everything else. */
static int walk_on(struct listing *l, bool told, int64_t budget, int64_t limit_ms, struct err *err)
{
	if (told) {
		if (read_page(l, budget, err) < 0)
			return -1;
		if (!l->small && elapsed_us(l) >= PAGE_TIME_MS * US_PER_MS)
			return 0;
	}
	return walk(l, l->facet_count > 0 ? "walk_facet" : "walk_all", first_budget(l), limit_ms,
		    err);
}

/* Rule 6: a walk finds a word that many names hold; an index one that few hold. */
static int search(struct listing *l, struct err *err)
{
	int indexed = list_probe_search(l, err);

	if (indexed != 0)
		return indexed < 0 ? -1 : fetch(l, "fetch_search", err);
	return walk_on(l, false, 0, search_limit_ms(l), err);
}

/* Rules 3 to 6: filters that no order of an index answers. */
static int choose_by_counting(struct listing *l, bool narrow, bool told, struct err *err)
{
	int fetched = narrow ? fetch_few(l, err) : 0;

	if (fetched != 0)
		return fetched < 0 ? -1 : 0;
	if (list_find_rarest(l, err) < 0)
		return -1;
	if (walk_on(l, told, WALK_FIRST, l->has_search ? LIST_TRY_MS : list_time_ms(l), err) < 0)
		return -1;
	return l->has_search && !is_done(l) ? search(l, err) : 0;
}

static int choose(struct listing *l, struct err *err)
{
	const struct list_query *query = l->query;
	bool narrow = query->name || query->has_sha256 || l->by_created || l->by_size;
	bool told = !query->name && !query->has_sha256 && !l->has_search && l->facet_count < 2;

	if (query->name && query->sort == LIST_SORT_NAME) /* rule 1 */
		return walk(l, "walk_same", WALK_FIRST, list_time_ms(l), err);
	if (query->has_sha256 && query->sort == LIST_SORT_CREATED)
		return walk(l, "walk_content", WALK_FIRST, list_time_ms(l), err);
	if (narrow || !told)
		return choose_by_counting(l, narrow, told, err);
	return walk_on(l, told, (int64_t)l->wanted + PLAIN_SLACK, list_time_ms(l),
		       err); /* rule 2 */
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

	if (rc == 0) {
		listing.small = is_small(store, listing.deadline_ns);
		rc = choose(&listing, err);
	}
	if (rc == 0) {
		close_page(&listing);
		*out = listing.page;
		listing.page = (struct file_list){0};
	}
	listing_release(&listing);
	return rc;
}
