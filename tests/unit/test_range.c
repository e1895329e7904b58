/* Byte ranges: RFC 9110 §14. The file has 1000 bytes unless it says otherwise. */
#include <stdio.h>

#include "depotd/base/buf.h"
#include "depotd/model/range.h"
#include "unit.h"

static struct byte_range ranges[RANGE_MAX];
static size_t n;

static enum range_verdict parse(const char *header, int64_t size)
{
	n = 99;
	return range_parse(header, size, ranges, &n);
}

/* One range, or several: "first+length first+length". */
static void assert_ranges(const char *header, int64_t size, const char *expected)
{
	if (parse(header, size) != RANGE_SATISFIABLE)
		fail_msg("%s: not satisfiable", header);
	struct buf text;
	buf_init(&text, 10000);
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s%lld+%lld", i > 0 ? " " : "", (long long)ranges[i].first,
			   (long long)ranges[i].length);
	assert_string_equal(buf_text(&text), expected);
	buf_release(&text);
}

static void assert_verdict(const char *header, int64_t size, enum range_verdict verdict)
{
	if (parse(header, size) != verdict)
		fail_msg("%s", header != NULL ? header : "no header");
	assert_int_equal(n, 99);
}

static void one_range_is_first_to_last_inclusive(void **state)
{
	(void)state;
	assert_ranges("bytes=0-0", 1000, "0+1");
	assert_ranges("bytes=0-499", 1000, "0+500");
	assert_ranges("bytes=500-999", 1000, "500+500");
	assert_ranges("bytes=007-008", 1000, "7+2");
}

static void a_range_without_an_end_goes_to_the_end(void **state)
{
	(void)state;
	assert_ranges("bytes=0-", 1000, "0+1000");
	assert_ranges("bytes=999-", 1000, "999+1");
}

static void a_suffix_is_the_last_bytes(void **state)
{
	(void)state;
	assert_ranges("bytes=-1", 1000, "999+1");
	assert_ranges("bytes=-1000", 1000, "0+1000");
	assert_ranges("bytes=-5000", 1000, "0+1000");
}

static void a_last_position_past_the_end_is_clamped(void **state)
{
	(void)state;
	assert_ranges("bytes=990-5000", 1000, "990+10");
	assert_ranges("bytes=0-9223372036854775807", 1000, "0+1000");
	assert_ranges("bytes=0-99999999999999999999999999", 1000, "0+1000");
	assert_ranges("bytes=-99999999999999999999999999", 1000, "0+1000");
}

static void a_range_past_the_end_is_unsatisfiable(void **state)
{
	(void)state;
	assert_verdict("bytes=1000-", 1000, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=1000-1000", 1000, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=99999999999999999999999999-", 1000, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=1000-,2000-3000,-0", 1000, RANGE_UNSATISFIABLE);
}

static void the_last_no_bytes_are_unsatisfiable(void **state)
{
	(void)state;
	assert_verdict("bytes=-0", 1000, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=-000", 1000, RANGE_UNSATISFIABLE);
}

static void of_several_ranges_the_satisfiable_are_sent_in_their_order(void **state)
{
	(void)state;
	assert_ranges("bytes=500-599,0-99,-1", 1000, "500+100 0+100 999+1");
	assert_ranges("bytes=5000-6000,0-99", 1000, "0+100");
}

static void blanks_and_empty_elements_are_allowed_between_ranges(void **state)
{
	(void)state;
	assert_ranges("bytes=0-1, 5-6", 1000, "0+2 5+2");
	assert_ranges("bytes=0-1 \t,\t 5-6", 1000, "0+2 5+2");
	assert_ranges("bytes=,,0-1,, ,5-6,", 1000, "0+2 5+2");
	assert_ranges("bytes= 0-1 ", 1000, "0+2");
}

static void the_unit_has_no_case(void **state)
{
	(void)state;
	assert_ranges("Bytes=0-1", 1000, "0+2");
	assert_ranges("BYTES=0-1", 1000, "0+2");
}

static void no_header_or_another_unit_is_ignored(void **state)
{
	(void)state;
	assert_verdict(NULL, 1000, RANGE_IGNORE);
	assert_verdict("", 1000, RANGE_IGNORE);
	assert_verdict("items=0-1", 1000, RANGE_IGNORE);
	assert_verdict("bytesx=0-1", 1000, RANGE_IGNORE);
}

static void a_malformed_header_is_ignored_whole(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"bytes",          "bytes=",
		"bytes=,",        "bytes= ",
		"bytes=-",        "bytes=--1",
		"bytes=a-b",      "bytes=0",
		"bytes=0-1-2",    "bytes=0 -1",
		"bytes=0- 1",     "bytes=0-1;2-3",
		"bytes=1.5-2",    "bytes=+1-2",
		"bytes=0x1-2",    "bytes 0-1",
		"bytes =0-1",     "bytes=0-1 5-6",
		"bytes=0-1,x",    "bytes=0-1,5-4",
		"bytes=5-4",      "bytes=0-1,-",
		"bytes=0-1\n",    "bytes=\xFF",
		"bytes=1000-999", "bytes=99999999999999999999999999-99999999999999999999999998",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_verdict(wrong[i], 1000, RANGE_IGNORE);
}

static void an_empty_file_has_no_range(void **state)
{
	(void)state;
	assert_verdict("bytes=0-", 0, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=0-0", 0, RANGE_UNSATISFIABLE);
	assert_verdict("bytes=-0", 0, RANGE_UNSATISFIABLE);
	/* Its last bytes are all of it: satisfiable, but no Content-Range can say so. */
	assert_verdict("bytes=-5", 0, RANGE_IGNORE);
	assert_verdict("bytes=0-0,-5", 0, RANGE_IGNORE);
}

static void the_largest_file_there_can_be_does_not_overflow(void **state)
{
	(void)state;
	assert_ranges("bytes=9223372036854775806-", INT64_MAX, "9223372036854775806+1");
	assert_ranges("bytes=-1", INT64_MAX, "9223372036854775806+1");
	assert_ranges("bytes=0-", INT64_MAX, "0+9223372036854775807");
	assert_verdict("bytes=9223372036854775807-", INT64_MAX, RANGE_UNSATISFIABLE);
}

static void two_overlaps_are_sent_and_three_are_ignored(void **state)
{
	(void)state;
	assert_ranges("bytes=0-10,5-15", 1000, "0+11 5+11");
	assert_ranges("bytes=0-10,5-15,8-20", 1000, "0+11 5+11 8+13");
	assert_verdict("bytes=0-10,5-15,8-20,9-30", 1000, RANGE_IGNORE);
	assert_verdict("bytes=0-,0-,0-,0-", 1000, RANGE_IGNORE);
}

static void neighbours_do_not_overlap(void **state)
{
	(void)state;
	assert_ranges("bytes=0-9,10-19,20-29,30-39,40-49", 1000, "0+10 10+10 20+10 30+10 40+10");
}

static void more_ranges_than_the_bound_are_ignored(void **state)
{
	(void)state;
	struct buf header;
	buf_init(&header, 100000);
	buf_puts(&header, "bytes=0-0");
	for (int i = 1; i < RANGE_MAX; i++)
		buf_printf(&header, ",%d-%d", 2 * i, 2 * i);
	assert_int_equal(parse(buf_text(&header), 1000), RANGE_SATISFIABLE);
	assert_int_equal(n, RANGE_MAX);
	/* One that could not be satisfied counts as well: it costs as much to read. */
	buf_puts(&header, ",5000-");
	assert_verdict(buf_text(&header), 1000, RANGE_IGNORE);
	buf_release(&header);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_range_is_first_to_last_inclusive),
		cmocka_unit_test(a_range_without_an_end_goes_to_the_end),
		cmocka_unit_test(a_suffix_is_the_last_bytes),
		cmocka_unit_test(a_last_position_past_the_end_is_clamped),
		cmocka_unit_test(a_range_past_the_end_is_unsatisfiable),
		cmocka_unit_test(the_last_no_bytes_are_unsatisfiable),
		cmocka_unit_test(of_several_ranges_the_satisfiable_are_sent_in_their_order),
		cmocka_unit_test(blanks_and_empty_elements_are_allowed_between_ranges),
		cmocka_unit_test(the_unit_has_no_case),
		cmocka_unit_test(no_header_or_another_unit_is_ignored),
		cmocka_unit_test(a_malformed_header_is_ignored_whole),
		cmocka_unit_test(an_empty_file_has_no_range),
		cmocka_unit_test(the_largest_file_there_can_be_does_not_overflow),
		cmocka_unit_test(two_overlaps_are_sent_and_three_are_ignored),
		cmocka_unit_test(neighbours_do_not_overlap),
		cmocka_unit_test(more_ranges_than_the_bound_are_ignored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
