/*
 * Lists by a part of the name: whether an index of trigrams finds it sooner than a walk, and what to ask the index for.
 * sql/postgres/statements.sql, HOW TO CHOOSE, rule 6. Worker threads.
 *
 * What such an index costs is the length of the lists that it intersects, and the rows that are left to look at. Names are full
 * of dates, so most trigrams of digits are in millions of names, while one or two of a word are in a few thousand: a sample of
 * the names says which, and the index is asked for these alone. The rest of the word is compared with the rows themselves.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/utf8.h"
#include "list_private.h"

enum {
	TRIGRAMS_MAX = 8, /* parameters of files_probe_search */
	PATTERNS = 3,     /* of files_count_search and the lists */
	WINDOWS_MAX = 512,
	TEXT_MAX = 4096,
	NAMES_MOST = 5000,     /* guesses beyond which a walk is better */
	LISTS_MOST = 100000,   /* for all of q's trigrams */
	SAMPLE_OF = 2048,      /* files for one of the sample: a guess knows no less */
	FREQUENT_FACTOR = 32,  /* so much longer a list costs more than it spares */
	FETCH_MOST = 2000,     /* files with q */
	COUNT_TIME_US = 30000, /* since the page was begun */
	COUNT_LEAST_US = 500,
	NS_PER_US = 1000,
};

/* What an index of trigrams can look for (search_index). */
enum searchable {
	SEARCH_WALK,    /* there is none */
	SEARCH_ASCII,   /* ASCII letters or digits */
	SEARCH_LETTERS, /* letters or digits */
	SEARCH_ANY,     /* any characters */
};

struct trigram {
	const char *text; /* of q; not terminated */
	size_t len;
	int64_t names; /* about so many have it */
};

struct search {
	struct listing *listing;
	struct trigram trigrams[TRIGRAMS_MAX];
	size_t n;
	int64_t names;    /* about so many have q */
	int64_t have_all; /* and so many all of the trigrams */
	bool one_word;
};

/* --- q's trigrams --- */

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

static bool is_indexed(uint32_t c, int64_t searchable)
{
	return searchable == SEARCH_ANY ||
	       (is_letter(c) && (c < 0x80 || searchable == SEARCH_LETTERS));
}

static bool is_there(const struct trigram *all, size_t n, const struct trigram *one)
{
	for (size_t i = 0; i < n; i++) {
		if (all[i].len == one->len && memcmp(all[i].text, one->text, one->len) == 0)
			return true;
	}
	return false;
}

/* Every three indexed characters in a row, none twice. */
static size_t find_windows(const char *text, int64_t searchable, struct trigram out[WINDOWS_MAX])
{
	size_t n = strlen(text), found = 0, run = 0;
	size_t starts[3] = {0}; /* of the last three characters */

	for (size_t at = 0; at < n && found < WINDOWS_MAX;) {
		uint32_t c = 0;
		unsigned length = utf8_decode(text + at, n - at, &c);

		memmove(starts, starts + 1, 2 * sizeof(starts[0]));
		starts[2] = at;
		run = length > 0 && is_indexed(c, searchable) ? run + 1 : 0;
		at += length ? length : 1;
		out[found] = (struct trigram){.text = text + starts[0], .len = at - starts[0]};
		if (run >= 3 && !is_there(out, found, &out[found]))
			found++;
	}
	return found;
}

/* Whether text is one word to the index. The beginnings of words are trigrams too, and very long lists. */
static bool is_one_word(const char *text, int64_t searchable)
{
	size_t n = strlen(text);

	for (size_t at = 0; at < n;) {
		uint32_t c = 0;
		unsigned length = utf8_decode(text + at, n - at, &c);

		if (length == 0 || !is_indexed(c, searchable))
			return false;
		at += length;
	}
	return true;
}

/* Of more than the statement takes, some from end to end. */
static void choose_windows(struct search *s, const char *text, int64_t searchable)
{
	struct trigram windows[WINDOWS_MAX];
	size_t n = find_windows(text, searchable, windows);

	s->one_word = is_one_word(text, searchable);
	s->n = n < TRIGRAMS_MAX ? n : TRIGRAMS_MAX;
	for (size_t i = 0; i < s->n; i++)
		s->trigrams[i] = windows[n <= TRIGRAMS_MAX ? i : i * (n - 1) / (TRIGRAMS_MAX - 1)];
}

/* --- guesses --- */

/* 0 names with q 1 with all of the trigrams 2 … 9 with each; null where there is no sample yet. */
static int take_guesses(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct search *s = context;

	if (n < 2 + TRIGRAMS_MAX)
		return err_set(err, ERR_INTERNAL, "files_probe_search has too few columns");
	s->names = columns[0].null ? 0 : columns[0].number;
	s->have_all = columns[1].null ? 0 : columns[1].number;
	for (size_t i = 0; i < s->n; i++)
		s->trigrams[i].names = columns[2 + i].null ? 0 : columns[2 + i].number;
	return 0;
}

static int guess(struct search *s, struct err *err)
{
	struct listing *l = s->listing;
	struct value params[1 + TRIGRAMS_MAX] = {l->params[LIST_Q]};

	for (size_t i = 0; i < TRIGRAMS_MAX; i++) {
		const struct trigram *t = &s->trigrams[i];
		const char *text = NULL;

		if (i < s->n) {
			text = arena_strndup(&l->memory, t->text, t->len);
			if (!text)
				return err_set(err, ERR_NO_MEMORY, "a search");
		}
		params[1 + i] = value_text(text);
	}
	return store_read(l->store, "files_probe_search", params,
			  sizeof(params) / sizeof(params[0]), take_guesses, s, l->deadline_ns, err);
}

/* --- patterns --- */

static int compare_names(const void *a, const void *b)
{
	const struct trigram *left = a, *right = b;

	return (left->names > right->names) - (left->names < right->names);
}

/* "%text%" for LIKE. */
static int set_pattern(struct listing *l, size_t i, const char *text, size_t n, struct err *err)
{
	struct buf pattern;
	const char *kept;

	buf_init(&pattern, TEXT_MAX);
	buf_putc(&pattern, '%');
	for (size_t k = 0; k < n; k++) {
		if (text[k] == '\\' || text[k] == '%' || text[k] == '_')
			buf_putc(&pattern, '\\');
		buf_putc(&pattern, text[k]);
	}
	buf_putc(&pattern, '%');
	kept = pattern.failed ? NULL : arena_strndup(&l->memory, buf_text(&pattern), pattern.len);
	buf_release(&pattern);
	if (!kept)
		return err_set(err, ERR_NO_MEMORY, "a search");
	l->params[LIST_PATTERN + i] = value_text(kept);
	return 0;
}

/* 1 the patterns are set, 0 nothing is worth asking for, -1. */
static int set_patterns(struct search *s, struct err *err)
{
	struct listing *l = s->listing;
	const char *q = l->params[LIST_Q].text;
	int64_t lists = 0, rarest;
	int rc = 0;

	qsort(s->trigrams, s->n, sizeof(s->trigrams[0]), compare_names);
	rarest = s->trigrams[0].names > SAMPLE_OF ? s->trigrams[0].names : SAMPLE_OF;
	for (size_t i = 0; i < s->n; i++)
		lists += s->trigrams[i].names;
	if (s->names > NAMES_MOST ||
	    (s->have_all > NAMES_MOST && (lists > LISTS_MOST || !s->one_word)))
		return 0;
	for (size_t i = 0; i < PATTERNS && rc == 0; i++) {
		const struct trigram *t = &s->trigrams[i < s->n ? i : 0];

		if (t->names > FREQUENT_FACTOR * rarest)
			t = &s->trigrams[0];
		rc = s->have_all > NAMES_MOST ? set_pattern(l, i, q, strlen(q), err)
					      : set_pattern(l, i, t->text, t->len, err);
	}
	return rc < 0 ? -1 : 1;
}

static int count(struct listing *l, int64_t *names, struct err *err)
{
	int64_t left_us = COUNT_TIME_US - (clock_monotonic_ns() - l->began_ns) / NS_PER_US;
	struct value params[] = {
		l->params[LIST_Q],
		value_int(FETCH_MOST + 1),
		value_int(left_us > COUNT_LEAST_US ? left_us : COUNT_LEAST_US),
		l->params[LIST_PATTERN],
		l->params[LIST_PATTERN + 1],
		l->params[LIST_PATTERN + 2],
	};

	return store_read(l->store, "files_count_search", params,
			  sizeof(params) / sizeof(params[0]), list_take_number, names,
			  l->deadline_ns, err);
}

int list_probe_search(struct listing *l, struct err *err)
{
	struct search s = {.listing = l};
	int64_t searchable = SEARCH_WALK, names = 0;
	int rc;

	if (store_read(l->store, "search_index", NULL, 0, list_take_number, &searchable,
		       l->deadline_ns, err) < 0)
		return -1;
	if (searchable != SEARCH_WALK)
		choose_windows(&s, l->params[LIST_Q].text, searchable);
	if (s.n == 0)
		return 0;
	if (guess(&s, err) < 0)
		return -1;
	rc = set_patterns(&s, err);
	if (rc <= 0)
		return rc;
	if (count(l, &names, err) < 0)
		return -1;
	return names <= FETCH_MOST ? 1 : 0;
}
