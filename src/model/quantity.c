/* Sizes and durations as people write them. Pure; integers only, and overflow is malformed. */
#include "depotd/model/quantity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* Both tables go from small to large: formatting looks for the largest that divides. */
static const struct unit sizes[] = {
	{"", 1},
	{"K", INT64_C(1) << 10},
	{"M", INT64_C(1) << 20},
	{"G", INT64_C(1) << 30},
	{"T", INT64_C(1) << 40},
};
static const struct unit durations[] = {
	{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
};

enum {
	SIZE_UNITS = sizeof(sizes) / sizeof(sizes[0]),
	DURATION_UNITS = sizeof(durations) / sizeof(durations[0]),
	BARE_DURATION = 1, /* a bare number is seconds */
};

/* The digits at text: where they end, or NULL where there is none or too many. */
static const char *take_number(const char *text, int64_t *value)
{
	int64_t v = 0;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return NULL;
	}
	*value = v;
	return p > text ? p : NULL;
}

static bool scale(int64_t value, int64_t factor, int64_t *out)
{
	int64_t product;
	if (__builtin_mul_overflow(value, factor, &product))
		return false;
	*out = product;
	return true;
}

int quantity_parse_size(const char *text, int64_t *bytes)
{
	int64_t value;
	const char *suffix = take_number(text, &value);
	if (suffix == NULL)
		return 0;
	for (size_t i = 1; i < SIZE_UNITS; i++) {
		if (strncasecmp(suffix, sizes[i].name, 1) != 0)
			continue;
		const char *rest = suffix + 1;
		if (*rest != '\0' && strcasecmp(rest, "B") != 0 && strcasecmp(rest, "iB") != 0)
			return 0;
		return scale(value, sizes[i].factor, bytes);
	}
	return *suffix == '\0' && scale(value, 1, bytes);
}

int quantity_parse_duration(const char *text, int64_t *ms)
{
	int64_t value;
	const char *suffix = take_number(text, &value);
	if (suffix == NULL)
		return 0;
	if (*suffix == '\0')
		return scale(value, durations[BARE_DURATION].factor, ms);
	for (size_t i = 0; i < DURATION_UNITS; i++) {
		if (strcasecmp(suffix, durations[i].name) == 0)
			return scale(value, durations[i].factor, ms);
	}
	return 0;
}

static void format_largest(int64_t value, const struct unit *units, size_t n,
			   const struct unit *zero, char out[24])
{
	const struct unit *unit = value == 0 ? zero : &units[0];
	for (size_t i = 1; value > 0 && i < n && value % units[i].factor == 0; i++)
		unit = &units[i];
	snprintf(out, 24, "%lld%s", (long long)(value / unit->factor), unit->name);
}

void quantity_format_size(int64_t bytes, char out[24])
{
	format_largest(bytes, sizes, SIZE_UNITS, &sizes[0], out);
}

void quantity_format_duration(int64_t ms, char out[24])
{
	format_largest(ms, durations, DURATION_UNITS, &durations[BARE_DURATION], out);
}
