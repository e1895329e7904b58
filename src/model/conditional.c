/*
 * Conditional requests: RFC 9110 §13. Pure.
 *
 * The RFC says what to do with a malformed date (ignore the field, §13.1.3 and §13.1.4), and nothing of a malformed list of
 * entity tags. Here it matches nothing: If-None-Match then lets a GET have its 200, and If-Match refuses to change what the
 * client may not have meant. Ignoring the latter would be the lost update that it was sent against.
 */
#include "depotd/model/conditional.h"

#include <string.h>

#include "depotd/base/clock.h"

enum comparison { COMPARE_STRONG, COMPARE_WEAK };

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* One entity-tag at p (§8.8.3): where it ends, or NULL. *opaque is where its quotes begin. */
static const char *skip_entity_tag(const char *p, const char **opaque, bool *weak)
{
	*weak = strncmp(p, "W/", 2) == 0;
	if (*weak)
		p += 2;
	*opaque = p;
	if (*p != '"')
		return NULL;
	for (p++; *p != '"'; p++) {
		unsigned char c = (unsigned char)*p;
		if (c < 0x21 || c == 0x7F) /* etagc, and the end of the field */
			return NULL;
	}
	return p + 1;
}

/* §8.8.3.2. Ours is strong; so strongly comparing means that theirs must be, too. */
static bool tags_match(const char *opaque, size_t n, bool weak, const char *etag,
		       enum comparison comparison)
{
	if (weak && comparison == COMPARE_STRONG)
		return false;
	return strlen(etag) == n && memcmp(etag, opaque, n) == 0;
}

/* Whether the list has our tag. A list that is malformed anywhere has nothing. etag is NULL where there is no file. */
static bool list_matches(const char *field, const char *etag, enum comparison comparison)
{
	const char *p = skip_blanks(field);
	if (*p == '*' && *skip_blanks(p + 1) == '\0')
		return etag != NULL;
	bool found = false;
	for (;;) {
		p = skip_blanks(p);
		if (*p != ',' && *p != '\0') {
			const char *opaque;
			bool weak;
			const char *end = skip_entity_tag(p, &opaque, &weak);
			if (end == NULL)
				return false;
			if (etag != NULL &&
			    tags_match(opaque, (size_t)(end - opaque), weak, etag, comparison))
				found = true;
			p = skip_blanks(end);
		}
		if (*p == '\0')
			return found;
		if (*p++ != ',')
			return false;
	}
}

/* The field's date; 0 where the condition is to be ignored: no date, or nothing to compare it with. */
static int usable_date(const char *field, int64_t modified_s, int64_t *date)
{
	char text[64];
	if (field == NULL || modified_s < 0)
		return 0;
	field = skip_blanks(field);
	size_t n = strlen(field);
	while (n > 0 && (field[n - 1] == ' ' || field[n - 1] == '\t'))
		n--;
	if (n >= sizeof(text))
		return 0;
	memcpy(text, field, n);
	text[n] = '\0';
	return clock_parse_http_date(text, date);
}

enum conditional_verdict conditional_evaluate(const struct conditional_headers *headers,
					      bool get_or_head, const char *etag,
					      int64_t modified_s)
{
	int64_t date;
	/* The steps of §13.2.2; 5 (If-Range) is conditional_range_stands(). */
	if (headers->if_match != NULL) {
		if (!list_matches(headers->if_match, etag, COMPARE_STRONG))
			return CONDITIONAL_FAILED;
	} else if (usable_date(headers->if_unmodified_since, modified_s, &date)) {
		if (modified_s > date)
			return CONDITIONAL_FAILED;
	}
	if (headers->if_none_match != NULL) {
		if (list_matches(headers->if_none_match, etag, COMPARE_WEAK))
			return get_or_head ? CONDITIONAL_NOT_MODIFIED : CONDITIONAL_FAILED;
	} else if (get_or_head && usable_date(headers->if_modified_since, modified_s, &date)) {
		if (modified_s <= date)
			return CONDITIONAL_NOT_MODIFIED;
	}
	return CONDITIONAL_PROCEED;
}

bool conditional_range_stands(const char *if_range, const char *etag, int64_t modified_s)
{
	if (if_range == NULL)
		return true;
	const char *p = skip_blanks(if_range), *opaque;
	if (*p == '"' || strncmp(p, "W/", 2) == 0) {
		bool weak;
		const char *end = skip_entity_tag(p, &opaque, &weak);
		return end != NULL && *skip_blanks(end) == '\0' && etag != NULL &&
		       tags_match(opaque, (size_t)(end - opaque), weak, etag, COMPARE_STRONG);
	}
	int64_t date;
	return usable_date(if_range, modified_s, &date) && date == modified_s;
}
