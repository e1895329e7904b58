/*
 * The page's languages. Their strings are embedded assets, parsed once at first use and kept for the life of the process.
 * Any thread.
 */

#include "language_private.h"

#include <pthread.h>
#include <stdbool.h>
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

/* What one element of Accept-Language says: `pt-BR;q=0.8`. */
struct preference {
	const char *range; /* not terminated */
	size_t n;
	int quality; /* thousandths; 0: not acceptable */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* RFC 9110 §12.4.2: 0 or 1, and up to three decimals, of which 1 has only noughts. In thousandths; -1: malformed. */
static int read_quality(const char *text, size_t n)
{
	int value = 0, unit = 1000;

	if (n == 0 || n > 5 || (text[0] != '0' && text[0] != '1') || (n > 1 && text[1] != '.'))
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (i == 1)
			continue; /* the point */
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value += (text[i] - '0') * unit;
		unit /= 10;
	}
	return value <= 1000 ? value : -1;
}

/* One element of the list, blanks around it and its weight allowed. False: malformed, which is passed over. */
static bool read_preference(const char *element, size_t n, struct preference *preference)
{
	const char *end = element + n, *weight = memchr(element, ';', n);

	preference->range = element;
	preference->n = weight ? (size_t)(weight - element) : n;
	preference->quality = 1000;
	while (preference->n > 0 && is_blank(element[preference->n - 1]))
		preference->n--;
	if (!weight)
		return preference->n > 0;
	for (weight++; weight < end && is_blank(*weight); weight++)
		;
	while (end > weight && is_blank(end[-1]))
		end--;
	if (end - weight < 3 || (weight[0] != 'q' && weight[0] != 'Q') || weight[1] != '=')
		return false;
	preference->quality = read_quality(weight + 2, (size_t)(end - weight) - 2);
	return preference->n > 0 && preference->quality >= 0;
}

/*
 * How a range fits a language: 2 by name, 1 as the wildcard, 0 not at all. Lookup (RFC 4647 §3.4) the other way round: there is one
 * Portuguese, so that `pt-BR` and `pt-PT` are both served by `pt`.
 */
static int fits(const struct language *language, const struct preference *preference)
{
	size_t length = strlen(language->tag);

	if (preference->n == 1 && preference->range[0] == '*')
		return 1;
	if (preference->n < length || strncasecmp(preference->range, language->tag, length) != 0)
		return 0;
	return preference->n == length || preference->range[length] == '-' ? 2 : 0;
}

/* What is known of one language after some of the header. */
struct standing {
	int fit, quality;
	size_t place; /* of the element that said so: the earlier one wins among equals */
};

/* A name outdoes the wildcard; among names the best counts, since `pt-BR` and `pt-PT` mean the same text here. */
static void weigh(struct standing *standing, const struct preference *preference, int fit,
		  size_t place)
{
	if (fit == 0 || fit < standing->fit ||
	    (fit == standing->fit && preference->quality <= standing->quality))
		return;
	standing->fit = fit;
	standing->quality = preference->quality;
	standing->place = place;
}

const struct language *language_choose(const char *accept_language)
{
	struct standing standings[LANGUAGE_COUNT] = {0};
	size_t place = 0, best = 0;

	for (const char *at = accept_language; at && *at; place++) {
		struct preference preference;

		at += strspn(at, ", \t");
		size_t n = strcspn(at, ",");
		bool is_whole = read_preference(at, n, &preference);

		for (size_t i = 0; is_whole && i < LANGUAGE_COUNT; i++)
			weigh(&standings[i], &preference, fits(&LANGUAGES[i], &preference), place);
		at += n;
	}
	for (size_t i = 1; i < LANGUAGE_COUNT; i++)
		if (standings[i].quality > standings[best].quality ||
		    (standings[i].quality > 0 && standings[i].quality == standings[best].quality &&
		     standings[i].place < standings[best].place))
			best = i;
	return &LANGUAGES[best];
}
