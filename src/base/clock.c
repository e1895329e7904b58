/* The clocks, and times as text. All calendar arithmetic is here, so no locale and no time zone can get in. */
#include "depotd/base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SECONDS_A_DAY = 86400, MS_A_SECOND = 1000 };

/* 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z: what four digits can say. */
static const int64_t EARLIEST_MS = -62167219200000;
static const int64_t LATEST_MS = 253402300799999;

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					"Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const day_names[7] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
					 "Thursday", "Friday", "Saturday"};

struct civil {
	int year, month, day; /* month and day from 1 */
	int hour, minute, second;
	int weekday; /* from Sunday 0; not read when converting back */
};

bool clock_representable(int64_t wall_ms)
{
	return wall_ms >= EARLIEST_MS && wall_ms <= LATEST_MS;
}

static int64_t clock_read_ns(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_wall_ms(void)
{
	return clock_read_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_monotonic_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
	return clock_monotonic_ns() / 1000000;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back: years begin in March, so that the leap day comes last. */
static int64_t days_of_date(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
	return era * 146097 + day_of_era - 719468;
}

static void date_of_days(int64_t days, struct civil *c)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	c->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
	c->month = (int)(month < 10 ? month + 3 : month - 9);
	c->year = (int)(year_of_era + era * 400 + (c->month <= 2));
	c->weekday = (int)(((days + 4) % 7 + 7) % 7);
}

static int64_t seconds_of_civil(const struct civil *c)
{
	return days_of_date(c->year, c->month, c->day) * SECONDS_A_DAY + c->hour * 3600 +
	       c->minute * 60 + c->second;
}

/* Splits a time, clamped to the years that four digits can say. Returns the milliseconds within the second. */
static int civil_of_ms(int64_t wall_ms, struct civil *c)
{
	if (wall_ms < EARLIEST_MS)
		wall_ms = EARLIEST_MS;
	if (wall_ms > LATEST_MS)
		wall_ms = LATEST_MS;
	int ms = (int)(wall_ms % MS_A_SECOND);
	int64_t seconds = wall_ms / MS_A_SECOND;
	if (ms < 0) {
		ms += MS_A_SECOND;
		seconds--;
	}
	int64_t days = seconds / SECONDS_A_DAY;
	int rest = (int)(seconds % SECONDS_A_DAY);
	if (rest < 0) {
		rest += SECONDS_A_DAY;
		days--;
	}
	date_of_days(days, c);
	c->hour = rest / 3600;
	c->minute = rest / 60 % 60;
	c->second = rest % 60;
	return ms;
}

static int days_in_month(int year, int month)
{
	static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return days[month - 1] + (month == 2 && leap);
}

/* A second of 60 is a leap second; whether it stands where one may stand is the caller's question. */
static bool civil_valid(const struct civil *c)
{
	return c->month >= 1 && c->month <= 12 && c->day >= 1 &&
	       c->day <= days_in_month(c->year, c->month) && c->hour <= 23 && c->minute <= 59 &&
	       c->second <= 60;
}

/* Writes value with leading zeros; snprintf would be half of what rendering a list costs. */
static char *put_digits(char *out, int value, int digits)
{
	for (int i = digits - 1; i >= 0; i--) {
		out[i] = (char)('0' + value % 10);
		value /= 10;
	}
	return out + digits;
}

static char *put_char(char *out, char c)
{
	*out = c;
	return out + 1;
}

static char *put_name(char *out, const char *name)
{
	memcpy(out, name, 3);
	return out + 3;
}

static char *put_time(char *out, const struct civil *c)
{
	out = put_char(put_digits(out, c->hour, 2), ':');
	out = put_char(put_digits(out, c->minute, 2), ':');
	return put_digits(out, c->second, 2);
}

void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN + 1])
{
	struct civil c;
	int ms = civil_of_ms(wall_ms, &c);
	char *p = put_char(put_digits(out, c.year, 4), '-');
	p = put_char(put_digits(p, c.month, 2), '-');
	p = put_char(put_digits(p, c.day, 2), 'T');
	p = put_char(put_time(p, &c), '.');
	p = put_char(put_digits(p, ms, 3), 'Z');
	*p = '\0';
}

void clock_format_http_date(int64_t wall_ms, char out[CLOCK_HTTP_DATE_LEN + 1])
{
	struct civil c;
	civil_of_ms(wall_ms, &c);
	char *p = put_name(out, day_names[c.weekday]);
	p = put_char(put_char(p, ','), ' ');
	p = put_char(put_digits(p, c.day, 2), ' ');
	p = put_char(put_name(p, month_names[c.month - 1]), ' ');
	p = put_char(put_digits(p, c.year, 4), ' ');
	p = put_time(p, &c);
	memcpy(p, " GMT", 5);
}

/* The readers: each takes what it wants from *p and moves it, or returns false. */

static bool take_digits(const char **p, int digits, int *value)
{
	int v = 0;
	for (int i = 0; i < digits; i++) {
		char c = (*p)[i];
		if (c < '0' || c > '9')
			return false;
		v = v * 10 + (c - '0');
	}
	*p += digits;
	*value = v;
	return true;
}

static bool take_text(const char **p, const char *text)
{
	size_t n = strlen(text);
	if (strncmp(*p, text, n) != 0)
		return false;
	*p += n;
	return true;
}

static bool take_time(const char **p, struct civil *c)
{
	return take_digits(p, 2, &c->hour) && take_text(p, ":") && take_digits(p, 2, &c->minute) &&
	       take_text(p, ":") && take_digits(p, 2, &c->second);
}

static bool take_month(const char **p, int *month)
{
	for (int i = 0; i < 12; i++) {
		if (take_text(p, month_names[i])) {
			*month = i + 1;
			return true;
		}
	}
	return false;
}

static bool take_date(const char **p, struct civil *c)
{
	return take_digits(p, 4, &c->year) && take_text(p, "-") && take_digits(p, 2, &c->month) &&
	       take_text(p, "-") && take_digits(p, 2, &c->day);
}

/* Any number of digits, of which three count; rounding up could reach the next day. */
static bool take_fraction(const char **p, int *ms)
{
	static const int weight[3] = {100, 10, 1};
	*ms = 0;
	if (!take_text(p, "."))
		return true;
	int digit, count = 0;
	while (take_digits(p, 1, &digit)) {
		if (count < 3)
			*ms += digit * weight[count++];
	}
	return count > 0;
}

static bool take_offset(const char **p, int *seconds)
{
	*seconds = 0;
	if (take_text(p, "Z") || take_text(p, "z"))
		return true;
	int sign = take_text(p, "+") ? 1 : -1;
	int hours, minutes;
	if (sign < 0 && !take_text(p, "-"))
		return false;
	if (!take_digits(p, 2, &hours) || !take_text(p, ":") || !take_digits(p, 2, &minutes) ||
	    hours > 23 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

int clock_parse_rfc3339(const char *text, int64_t *wall_ms)
{
	struct civil c = {0};
	int ms = 0, offset = 0;
	const char *p = text;
	if (!take_date(&p, &c))
		return 0;
	if (*p != '\0') {
		/* §5.6 names the blank too, and `date --rfc-3339` writes it. */
		if (!take_text(&p, "T") && !take_text(&p, "t") && !take_text(&p, " "))
			return 0;
		if (!take_time(&p, &c) || !take_fraction(&p, &ms) || !take_offset(&p, &offset))
			return 0;
	}
	if (*p != '\0' || !civil_valid(&c))
		return 0;
	int64_t seconds = seconds_of_civil(&c) - offset;
	/* A leap second is the last of a UTC day; Unix time counts it as the first of the next. */
	if (c.second == 60 && seconds % SECONDS_A_DAY != 0)
		return 0;
	int64_t result = seconds * MS_A_SECOND + ms;
	if (!clock_representable(result))
		return 0;
	*wall_ms = result;
	return 1;
}

/* "Sunday" or "Sun". Whether it is the right day for the date is nobody's business: servers have always looked past it. */
static bool take_day_name(const char **p, bool *is_long)
{
	for (int i = 0; i < 7; i++) {
		*is_long = true;
		if (take_text(p, day_names[i]))
			return true;
		*is_long = false;
		if (strncmp(*p, day_names[i], 3) == 0) {
			*p += 3;
			return true;
		}
	}
	return false;
}

/* "06 Nov 1994 08:49:37 GMT" */
static bool take_imf_fixdate(const char **p, struct civil *c)
{
	return take_digits(p, 2, &c->day) && take_text(p, " ") && take_month(p, &c->month) &&
	       take_text(p, " ") && take_digits(p, 4, &c->year) && take_text(p, " ") &&
	       take_time(p, c) && take_text(p, " GMT");
}

/* "06-Nov-94 08:49:37 GMT", in the century that puts it at most 50 years into the future (§5.6.7). */
static bool take_rfc850_date(const char **p, struct civil *c)
{
	int year;
	if (!take_digits(p, 2, &c->day) || !take_text(p, "-") || !take_month(p, &c->month) ||
	    !take_text(p, "-") || !take_digits(p, 2, &year) || !take_text(p, " ") ||
	    !take_time(p, c) || !take_text(p, " GMT"))
		return false;
	struct civil now;
	civil_of_ms(clock_wall_ms(), &now);
	c->year = now.year / 100 * 100 + year;
	if (c->year > now.year + 50)
		c->year -= 100;
	else if (c->year + 50 < now.year)
		c->year += 100;
	return true;
}

/* "Nov  6 08:49:37 1994" */
static bool take_asctime(const char **p, struct civil *c)
{
	if (!take_month(p, &c->month) || !take_text(p, " "))
		return false;
	int digits = take_text(p, " ") ? 1 : 2;
	return take_digits(p, digits, &c->day) && take_text(p, " ") && take_time(p, c) &&
	       take_text(p, " ") && take_digits(p, 4, &c->year);
}

int clock_parse_http_date(const char *text, int64_t *wall_s)
{
	struct civil c = {0};
	const char *p = text;
	bool is_long;
	if (!take_day_name(&p, &is_long))
		return 0;
	bool ok;
	if (take_text(&p, ", "))
		ok = is_long ? take_rfc850_date(&p, &c) : take_imf_fixdate(&p, &c);
	else
		ok = !is_long && take_text(&p, " ") && take_asctime(&p, &c);
	if (!ok || *p != '\0' || !civil_valid(&c))
		return 0;
	*wall_s = seconds_of_civil(&c);
	return 1;
}
