/*
 * The page's languages. Their strings are embedded assets, parsed once at first use and kept for the life of the process.
 * Any thread.
 */

#include "language_private.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/json.h"
#include "web_private.h"

static const struct language LANGUAGES[] = {
	{"en", "strings.en.json"}, /* first: where nothing fits */
	{"pt", "strings.pt.json"},
};

enum { LANGUAGE_COUNT = sizeof(LANGUAGES) / sizeof(LANGUAGES[0]) };

static json_t *strings[LANGUAGE_COUNT]; /* written once, by read_strings() */
static pthread_once_t strings_once = PTHREAD_ONCE_INIT;

static void read_strings(void)
{
	struct err err;

	for (size_t i = 0; i < LANGUAGE_COUNT; i++) {
		const struct embedded_file *file = web_asset(LANGUAGES[i].asset);

		strings[i] = file ? json_parse(file->data, file->len, &err) : NULL;
	}
}

const char *language_text(const void *language, const char *key)
{
	size_t i = (size_t)((const struct language *)language - LANGUAGES);
	const char *text;

	pthread_once(&strings_once, read_strings);
	text = json_string_value(json_object_get(strings[i], key));
	return text ? text : json_string_value(json_object_get(strings[0], key));
}

/* One element: `pt-BR;q=0.8`. Its quality in thousandths; -1: malformed. The range's length is set. */
static int quality(const char *element, size_t n, size_t *range)
{
	const char *semicolon = memchr(element, ';', n), *end = element + n;
	const char *q;
	double value;
	char *after;

	*range = semicolon ? (size_t)(semicolon - element) : n;
	while (*range > 0 && strchr(" \t", element[*range - 1]))
		--*range;
	if (!semicolon)
		return 1000;
	q = semicolon + 1 + strspn(semicolon + 1, " \t");
	if (end - q < 3 || (q[0] | 32) != 'q' || q[1] != '=' || q[2] < '0' || q[2] > '1')
		return -1;
	value = strtod(q + 2, &after);
	return after > end || value > 1 ? -1 : (int)(value * 1000);
}

/* Basic filtering the other way round (RFC 4647 §3.4, lookup): `pt-BR` is served by `pt`. */
static bool serves(const char *tag, const char *range, size_t n)
{
	size_t length = strlen(tag);

	return n >= length && !strncasecmp(range, tag, length) &&
	       (n == length || range[length] == '-');
}

const struct language *language_choose(const char *accept_language)
{
	const struct language *best = &LANGUAGES[0];
	int best_quality = 0;

	for (const char *at = accept_language; at && *at;) {
		size_t n, range;
		int q;

		at += strspn(at, ", \t");
		n = strcspn(at, ",");
		q = quality(at, n, &range);
		for (size_t i = 0; q > best_quality && i < LANGUAGE_COUNT; i++)
			if (serves(LANGUAGES[i].tag, at, range)) {
				best = &LANGUAGES[i];
				best_quality = q;
				break;
			}
		at += n;
	}
	return best;
}
