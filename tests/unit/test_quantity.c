/* Sizes and durations. */
#include "depotd/model/quantity.h"
#include "unit.h"

static void sizes_are_bytes_or_powers_of_1024(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t bytes;
	} rows[] = {{"0", 0},
		    {"1", 1},
		    {"512K", 524288},
		    {"10G", 10737418240},
		    {"10g", 10737418240},
		    {"1KiB", 1024},
		    {"1kb", 1024},
		    {"2MB", 2097152},
		    {"1T", 1099511627776},
		    {"007", 7},
		    {"9223372036854775807", INT64_MAX},
		    {"8388607T", 8388607 * (INT64_C(1) << 40)}};
	for (size_t i = 0; i < COUNT(rows); i++) {
		int64_t bytes = -1;
		if (!quantity_parse_size(rows[i].text, &bytes) || bytes != rows[i].bytes)
			fail_msg("%s: %lld", rows[i].text, (long long)bytes);
	}
}

static void what_is_no_size_is_malformed(void **state)
{
	(void)state;
	static const char *const wrong[] = {"",
					    "-1",
					    "+1",
					    " 1",
					    "1 ",
					    "1 K",
					    "K",
					    "1.5G",
					    "1KK",
					    "1Ki",
					    "1iB",
					    "0x1",
					    "1B",
					    "1P",
					    "1e3",
					    "one",
					    "9223372036854775808",
					    "8388608T",
					    "99999999999999999999999"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		int64_t bytes = -42;
		if (quantity_parse_size(wrong[i], &bytes) || bytes != -42)
			fail_msg("%s: taken", wrong[i]);
	}
}

static void durations_are_seconds_or_have_a_unit(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t ms;
	} rows[] = {{"0", 0},           {"30", 30000},     {"30s", 30000}, {"5m", 300000},
		    {"36h", 129600000}, {"7d", 604800000}, {"250ms", 250}, {"5M", 300000}};
	for (size_t i = 0; i < COUNT(rows); i++) {
		int64_t ms = -1;
		if (!quantity_parse_duration(rows[i].text, &ms) || ms != rows[i].ms)
			fail_msg("%s: %lld", rows[i].text, (long long)ms);
	}
}

static void what_is_no_duration_is_malformed(void **state)
{
	(void)state;
	static const char *const wrong[] = {"",
					    "-1",
					    "s",
					    "1.5h",
					    "1h30m",
					    "1 h",
					    "1w",
					    "1y",
					    "ms",
					    "9223372036854775807",
					    "106751991168d"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		int64_t ms = -42;
		if (quantity_parse_duration(wrong[i], &ms) || ms != -42)
			fail_msg("%s: taken", wrong[i]);
	}
}

static void formatting_is_the_shortest_exact_form(void **state)
{
	(void)state;
	static const struct {
		int64_t value;
		const char *size, *duration;
	} rows[] = {{0, "0", "0s"},
		    {1, "1", "1ms"},
		    {1023, "1023", "1023ms"},
		    {1024, "1K", "1024ms"},
		    {90000, "90000", "90s"},
		    {5400000, "5400000", "90m"},
		    {86400000, "84375K", "1d"},
		    {10737418240, "10G", "10737418240ms"},
		    {INT64_MAX, "9223372036854775807", "9223372036854775807ms"}};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[24];
		int64_t back;
		quantity_format_size(rows[i].value, text);
		assert_string_equal(text, rows[i].size);
		assert_int_equal(quantity_parse_size(text, &back), 1);
		assert_true(back == rows[i].value);
		quantity_format_duration(rows[i].value, text);
		assert_string_equal(text, rows[i].duration);
		assert_int_equal(quantity_parse_duration(text, &back), 1);
		assert_true(back == rows[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_bytes_or_powers_of_1024),
		cmocka_unit_test(what_is_no_size_is_malformed),
		cmocka_unit_test(durations_are_seconds_or_have_a_unit),
		cmocka_unit_test(what_is_no_duration_is_malformed),
		cmocka_unit_test(formatting_is_the_shortest_exact_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
