/*
 * Byte ranges: RFC 9110 §14.1.2. Pure. Positions of any length are compared as digits, so no number of bytes overflows.
 */
#include "depotd/model/range.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { OVERLAPS_MAX = 2 /* RFC 9110 §14.2: more than two are a sign of attack */ };

/* A run of digits without its leading zeros, and its value, which stops at INT64_MAX. */
struct number {
	const char *digits;
	size_t length;
	int64_t value;
};

/* One element of the list: first-last, first- or -last (a suffix). */
struct spec {
	bool has_first, has_last;
	struct number first, last;
};

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

static const char *take_number(const char *p, struct number *out, bool *there)
{
	const char *start = p;
	while (*p >= '0' && *p <= '9')
		p++;
	*there = p > start;
	while (start + 1 < p && *start == '0')
		start++;
	*out = (struct number){start, (size_t)(p - start), 0};
	for (const char *d = start; d < p; d++) {
		if (__builtin_mul_overflow(out->value, 10, &out->value) ||
		    __builtin_add_overflow(out->value, *d - '0', &out->value)) {
			out->value = INT64_MAX;
			break;
		}
	}
	return p;
}

static bool number_greater(const struct number *a, const struct number *b)
{
	if (a->length != b->length)
		return a->length > b->length;
	return memcmp(a->digits, b->digits, a->length) > 0;
}

/* One range-spec at *p; moves *p behind it. False where it is none. */
static bool take_spec(const char **p, struct spec *spec)
{
	const char *dash = take_number(*p, &spec->first, &spec->has_first);
	if (*dash != '-')
		return false;
	*p = take_number(dash + 1, &spec->last, &spec->has_last);
	if (!spec->has_first)
		return spec->has_last;
	/* §14.1.2: a last position before the first makes the whole header invalid. */
	return !spec->has_last || !number_greater(&spec->first, &spec->last);
}

/* What the spec means for this size; false where nothing of it is there. */
static bool resolve(const struct spec *spec, int64_t size, struct byte_range *out)
{
	if (!spec->has_first) {
		int64_t length = spec->last.value < size ? spec->last.value : size;
		*out = (struct byte_range){size - length, length};
		return length > 0;
	}
	if (spec->first.value >= size)
		return false;
	int64_t last = spec->has_last && spec->last.value < size ? spec->last.value : size - 1;
	*out = (struct byte_range){spec->first.value, last - spec->first.value + 1};
	return true;
}

static bool overlap(const struct byte_range *a, const struct byte_range *b)
{
	return a->first < b->first + b->length && b->first < a->first + a->length;
}

static bool overlaps_any(const struct byte_range *ranges, size_t n, const struct byte_range *with)
{
	for (size_t i = 0; i < n; i++) {
		if (overlap(&ranges[i], with))
			return true;
	}
	return false;
}

/* "bytes=", in any case (§14.1: range units are compared without). */
static const char *skip_unit(const char *header)
{
	return strncasecmp(header, "bytes=", 6) == 0 ? header + 6 : NULL;
}

enum range_verdict range_parse(const char *header, int64_t size,
			       struct byte_range ranges[RANGE_MAX], size_t *n)
{
	const char *p = header != NULL ? skip_unit(skip_blanks(header)) : NULL;
	if (p == NULL)
		return RANGE_IGNORE;
	size_t specs = 0, found = 0, overlaps = 0;
	bool whole_of_nothing = false;
	struct byte_range list[RANGE_MAX];
	for (;;) {
		p = skip_blanks(p);
		if (*p != ',' && *p != '\0') {
			struct spec spec;
			if (!take_spec(&p, &spec) || ++specs > RANGE_MAX)
				return RANGE_IGNORE;
			struct byte_range range;
			if (resolve(&spec, size, &range)) {
				overlaps += overlaps_any(list, found, &range);
				list[found++] = range;
			} else if (!spec.has_first && spec.last.value > 0) {
				whole_of_nothing = true;
			}
			p = skip_blanks(p);
		}
		if (*p == '\0')
			break;
		if (*p++ != ',') /* empty elements are allowed: §5.6.1.2 */
			return RANGE_IGNORE;
	}
	if (specs == 0 || overlaps > OVERLAPS_MAX)
		return RANGE_IGNORE;
	/* The last bytes of an empty file are all of it, which Content-Range cannot say: 200 can. */
	if (whole_of_nothing)
		return RANGE_IGNORE;
	if (found == 0)
		return RANGE_UNSATISFIABLE;
	memcpy(ranges, list, found * sizeof(list[0]));
	*n = found;
	return RANGE_SATISFIABLE;
}
