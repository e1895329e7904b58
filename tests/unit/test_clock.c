/* Times as text: RFC 3339 and the three forms of RFC 9110 §5.6.7. */
#include <stdio.h>
#include <time.h>

#include "depotd/base/clock.h"
#include "unit.h"

static void assert_rfc3339(const char *text, int64_t expected)
{
	int64_t ms = -1;
	if (!clock_parse_rfc3339(text, &ms) || ms != expected)
		fail_msg("%s: %lld", text, (long long)ms);
}

static void assert_no_rfc3339(const char *text)
{
	int64_t ms = -42;
	if (clock_parse_rfc3339(text, &ms) || ms != -42)
		fail_msg("%s: taken", text);
}

static void assert_http_date(const char *text, int64_t expected)
{
	int64_t s = -1;
	if (!clock_parse_http_date(text, &s) || s != expected)
		fail_msg("%s: %lld", text, (long long)s);
}

static void assert_no_http_date(const char *text)
{
	int64_t s = -42;
	if (clock_parse_http_date(text, &s) || s != -42)
		fail_msg("%s: taken", text);
}

static void a_time_is_formatted_with_milliseconds(void **state)
{
	(void)state;
	char text[CLOCK_RFC3339_LEN + 1];
	clock_format_rfc3339(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	clock_format_rfc3339(1795352400123, text);
	assert_string_equal(text, "2026-11-22T13:00:00.123Z");
	clock_format_rfc3339(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
	clock_format_rfc3339(951782400000, text);
	assert_string_equal(text, "2000-02-29T00:00:00.000Z");
}

static void times_beyond_four_digits_stop_at_the_last(void **state)
{
	(void)state;
	char text[CLOCK_RFC3339_LEN + 1];
	clock_format_rfc3339(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
	clock_format_rfc3339(INT64_MIN, text);
	assert_string_equal(text, "0000-01-01T00:00:00.000Z");
}

/* Against the C library, over all lengths of months and both kinds of centuries. */
static void formatting_agrees_with_gmtime_on_every_day_of_four_centuries(void **state)
{
	(void)state;
	for (int64_t day = -90000; day < 110000; day++) {
		time_t seconds = (time_t)day * 86400 + 45296;
		struct tm tm;
		char expected[64], text[CLOCK_RFC3339_LEN + 1], date[CLOCK_HTTP_DATE_LEN + 1];
		gmtime_r(&seconds, &tm);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.007Z", &tm);
		clock_format_rfc3339((int64_t)seconds * 1000 + 7, text);
		assert_string_equal(text, expected);
		assert_rfc3339(text, (int64_t)seconds * 1000 + 7);
		strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		clock_format_http_date((int64_t)seconds * 1000 + 7, date);
		assert_string_equal(date, expected);
		assert_http_date(date, seconds);
	}
}

static void every_form_of_rfc_3339_is_read(void **state)
{
	(void)state;
	assert_rfc3339("1985-04-12T23:20:50.52Z", 482196050520);
	assert_rfc3339("1996-12-19T16:39:57-08:00", 851042397000);
	assert_rfc3339("1937-01-01T12:00:27.87+00:20", -1041337172130);
	assert_rfc3339("2026-11-22t13:00:00z", 1795352400000);
	assert_rfc3339("2026-11-22 13:00:00Z", 1795352400000);
	assert_rfc3339("2026-11-22T13:00:00.1239999999Z", 1795352400123);
	assert_rfc3339("2026-11-22T13:00:00-00:00", 1795352400000);
}

static void a_bare_date_is_its_midnight(void **state)
{
	(void)state;
	assert_rfc3339("2026-11-22", 1795305600000);
}

static void a_leap_second_stands_only_at_the_end_of_a_day(void **state)
{
	(void)state;
	assert_rfc3339("1990-12-31T23:59:60Z", 662688000000);
	assert_rfc3339("1990-12-31T15:59:60-08:00", 662688000000);
	assert_no_rfc3339("1990-12-31T22:59:60Z");
	assert_no_rfc3339("1990-12-31T23:59:61Z");
}

static void what_is_not_rfc_3339_is_malformed(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		"2026",
		"2026-11",
		"2026-11-22T",
		"2026-11-22T13",
		"2026-11-22T13:00",
		"2026-11-22T13:00:00",
		"2026-11-22T13:00:00.Z",
		"2026-11-22T13:00:00+0100",
		"2026-11-22T13:00:00+24:00",
		"2026-11-22T13:00:00+01:60",
		"2026-13-22",
		"2026-00-22",
		"2026-11-31",
		"2026-11-00",
		"2025-02-29",
		"1900-02-29",
		"2026-11-22T24:00:00Z",
		"2026-11-22T13:60:00Z",
		"26-11-22",
		"2026/11/22",
		"2026-11-22Z",
		"2026-11-22T13:00:00ZZ",
		" 2026-11-22",
		"2026-11-22 ",
		"-026-11-22",
		"2026-11-2x",
		"now",
		"1795352400",
		"9999-12-31T23:59:59-00:01",
		"0000-01-01T00:00:00+00:01",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_no_rfc3339(wrong[i]);
}

static void all_three_forms_of_an_http_date_mean_the_same(void **state)
{
	(void)state;
	assert_http_date("Sun, 06 Nov 1994 08:49:37 GMT", 784111777);
	assert_http_date("Sunday, 06-Nov-94 08:49:37 GMT", 784111777);
	assert_http_date("Sun Nov  6 08:49:37 1994", 784111777);
	assert_http_date("Wed Nov 16 08:49:37 1994", 784975777);
}

static void a_two_digit_year_is_never_far_in_the_future(void **state)
{
	(void)state;
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	int year = tm.tm_year + 1900;
	for (int ahead = -49; ahead <= 50; ahead++) {
		char text[64];
		int64_t s;
		snprintf(text, sizeof(text), "Monday, 01-Jan-%02d 00:00:00 GMT",
			 (year + ahead) % 100);
		assert_true(clock_parse_http_date(text, &s));
		time_t seconds = (time_t)s;
		gmtime_r(&seconds, &tm);
		assert_int_equal(tm.tm_year + 1900, year + ahead);
	}
}

static void what_is_no_http_date_is_malformed(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		"0",
		"Sun",
		"Sun,",
		"Sun, 06 Nov 1994",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 08:49:37 +0000",
		"sun, 06 nov 1994 08:49:37 GMT",
		"Sun, 6 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 94 08:49:37 GMT",
		"Sun, 31 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sun, 06-Nov-94 08:49:37 GMT",
		"Sunday, 06-Nov-1994 08:49:37 GMT",
		"Sunday Nov  6 08:49:37 1994",
		"Sun Nov 6 08:49:37 1994",
		"Sun Nov 06 08:49:37 94",
		"Son, 06 Nov 1994 08:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT",
		"1994-11-06T08:49:37Z",
		"Sun, 06 Nov 1994 08:49:61 GMT",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_no_http_date(wrong[i]);
}

static void the_monotonic_clock_does_not_go_back(void **state)
{
	(void)state;
	int64_t before = clock_monotonic_ns();
	assert_true(clock_monotonic_ns() >= before);
	assert_true(clock_monotonic_ms() >= before / 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_time_is_formatted_with_milliseconds),
		cmocka_unit_test(times_beyond_four_digits_stop_at_the_last),
		cmocka_unit_test(formatting_agrees_with_gmtime_on_every_day_of_four_centuries),
		cmocka_unit_test(every_form_of_rfc_3339_is_read),
		cmocka_unit_test(a_bare_date_is_its_midnight),
		cmocka_unit_test(a_leap_second_stands_only_at_the_end_of_a_day),
		cmocka_unit_test(what_is_not_rfc_3339_is_malformed),
		cmocka_unit_test(all_three_forms_of_an_http_date_mean_the_same),
		cmocka_unit_test(a_two_digit_year_is_never_far_in_the_future),
		cmocka_unit_test(what_is_no_http_date_is_malformed),
		cmocka_unit_test(the_monotonic_clock_does_not_go_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
