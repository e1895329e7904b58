/* Conditional requests: RFC 9110 §13. */
#include "depotd/model/conditional.h"
#include "unit.h"

static const char etag[] = "\"abc\"";
static const int64_t modified = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
static const char at[] = "Sun, 06 Nov 1994 08:49:37 GMT";
static const char before[] = "Sun, 06 Nov 1994 08:49:36 GMT";
static const char after[] = "Sunday, 06-Nov-94 08:49:38 GMT";

enum {
	PROCEED = CONDITIONAL_PROCEED,
	UNMODIFIED = CONDITIONAL_NOT_MODIFIED,
	FAILED = CONDITIONAL_FAILED
};

static int get(struct conditional_headers headers)
{
	return (int)conditional_evaluate(&headers, true, etag, modified);
}

static int patch(struct conditional_headers headers)
{
	return (int)conditional_evaluate(&headers, false, etag, modified);
}

#define GET(...) get((struct conditional_headers){__VA_ARGS__})
#define PATCH(...) patch((struct conditional_headers){__VA_ARGS__})

static void without_conditions_all_proceeds(void **state)
{
	(void)state;
	assert_int_equal(get((struct conditional_headers){.if_match = NULL}), PROCEED);
	assert_int_equal(patch((struct conditional_headers){.if_match = NULL}), PROCEED);
}

static void if_match_wants_our_tag_in_the_list(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_match = "\"abc\""), PROCEED);
	assert_int_equal(PATCH(.if_match = "\"x\", \"abc\""), PROCEED);
	assert_int_equal(PATCH(.if_match = "\"x\",,\t\"abc\" ,"), PROCEED);
	assert_int_equal(PATCH(.if_match = "\"x\""), FAILED);
	assert_int_equal(GET(.if_match = "\"ABC\""), FAILED);
	assert_int_equal(GET(.if_match = "\"abcd\""), FAILED);
	assert_int_equal(GET(.if_match = "\"ab\""), FAILED);
}

static void if_match_compares_strongly(void **state)
{
	(void)state;
	assert_int_equal(PATCH(.if_match = "W/\"abc\""), FAILED);
	assert_int_equal(PATCH(.if_match = "W/\"abc\", \"abc\""), PROCEED);
}

static void a_star_matches_whatever_is_there(void **state)
{
	(void)state;
	assert_int_equal(PATCH(.if_match = "*"), PROCEED);
	assert_int_equal(PATCH(.if_match = " * "), PROCEED);
	assert_int_equal(GET(.if_none_match = "*"), UNMODIFIED);
	assert_int_equal(PATCH(.if_none_match = "*"), FAILED);
}

static void a_star_matches_nothing_where_nothing_is(void **state)
{
	(void)state;
	struct conditional_headers headers = {.if_match = "*"};
	assert_int_equal(conditional_evaluate(&headers, false, NULL, -1), CONDITIONAL_FAILED);
	headers = (struct conditional_headers){.if_none_match = "*"};
	assert_int_equal(conditional_evaluate(&headers, false, NULL, -1), CONDITIONAL_PROCEED);
}

static void if_none_match_compares_weakly(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_none_match = "\"abc\""), UNMODIFIED);
	assert_int_equal(GET(.if_none_match = "W/\"abc\""), UNMODIFIED);
	assert_int_equal(GET(.if_none_match = "\"x\", W/\"abc\""), UNMODIFIED);
	assert_int_equal(GET(.if_none_match = "\"x\""), PROCEED);
	assert_int_equal(PATCH(.if_none_match = "\"abc\""), FAILED);
	assert_int_equal(PATCH(.if_none_match = "\"x\""), PROCEED);
}

/* A comma, a blank, anything printable may stand inside of quotes. */
static void a_comma_inside_a_tag_does_not_end_it(void **state)
{
	(void)state;
	struct conditional_headers headers = {.if_none_match = "\"x,\", \"a,b\""};
	assert_int_equal(conditional_evaluate(&headers, true, "\"a,b\"", -1),
			 CONDITIONAL_NOT_MODIFIED);
	headers.if_none_match = "\"x,\"a,b\"";
	assert_int_equal(conditional_evaluate(&headers, true, "\"a,b\"", -1), CONDITIONAL_PROCEED);
}

static void a_malformed_list_of_tags_matches_nothing(void **state)
{
	(void)state;
	static const char *const wrong[] = {"abc",
					    "\"abc",
					    "abc\"",
					    "'abc'",
					    "w/\"abc\"",
					    "W/ \"abc\"",
					    "W/abc",
					    "\"abc\" \"x\"",
					    "\"abc\";",
					    "*, \"abc\"",
					    "\"abc\", *",
					    "**",
					    "\"abc\", x",
					    "\"a bc\", \"abc\"",
					    "\"a\x7F\", \"abc\"",
					    ""};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(GET(.if_none_match = wrong[i]), PROCEED);
		assert_int_equal(GET(.if_match = wrong[i]), FAILED);
	}
}

static void if_modified_since_is_for_get_and_head(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_modified_since = at), UNMODIFIED);
	assert_int_equal(GET(.if_modified_since = after), UNMODIFIED);
	assert_int_equal(GET(.if_modified_since = before), PROCEED);
	assert_int_equal(PATCH(.if_modified_since = at), PROCEED);
}

static void if_unmodified_since_fails_when_it_was_modified(void **state)
{
	(void)state;
	assert_int_equal(PATCH(.if_unmodified_since = at), PROCEED);
	assert_int_equal(PATCH(.if_unmodified_since = after), PROCEED);
	assert_int_equal(PATCH(.if_unmodified_since = before), FAILED);
	assert_int_equal(GET(.if_unmodified_since = before), FAILED);
}

static void a_malformed_date_is_ignored(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"", "0", "yesterday", "1994-11-06T08:49:37Z",
		"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(GET(.if_modified_since = wrong[i]), PROCEED);
		assert_int_equal(PATCH(.if_unmodified_since = wrong[i]), PROCEED);
	}
}

static void a_date_is_ignored_where_there_is_none_to_compare(void **state)
{
	(void)state;
	struct conditional_headers headers = {.if_modified_since = at};
	assert_int_equal(conditional_evaluate(&headers, true, etag, -1), CONDITIONAL_PROCEED);
	headers = (struct conditional_headers){.if_unmodified_since = before};
	assert_int_equal(conditional_evaluate(&headers, true, etag, -1), CONDITIONAL_PROCEED);
}

static void blanks_round_a_date_do_not_matter(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_modified_since = " Sun, 06 Nov 1994 08:49:37 GMT\t"), UNMODIFIED);
}

static void a_tag_takes_precedence_over_a_date(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_none_match = "\"x\"", .if_modified_since = at), PROCEED);
	assert_int_equal(GET(.if_none_match = "\"abc\"", .if_modified_since = before), UNMODIFIED);
	assert_int_equal(PATCH(.if_match = "\"abc\"", .if_unmodified_since = before), PROCEED);
	assert_int_equal(PATCH(.if_match = "\"x\"", .if_unmodified_since = after), FAILED);
	/* Malformed or not, it was there. */
	assert_int_equal(GET(.if_none_match = "x", .if_modified_since = at), PROCEED);
}

static void match_comes_before_none_match(void **state)
{
	(void)state;
	assert_int_equal(GET(.if_match = "\"x\"", .if_none_match = "\"abc\""), FAILED);
	assert_int_equal(GET(.if_match = "\"abc\"", .if_none_match = "\"abc\""), UNMODIFIED);
	assert_int_equal(GET(.if_unmodified_since = before, .if_none_match = "\"abc\""), FAILED);
	assert_int_equal(GET(.if_unmodified_since = at, .if_modified_since = at), UNMODIFIED);
}

static void a_range_stands_without_if_range(void **state)
{
	(void)state;
	assert_true(conditional_range_stands(NULL, etag, modified));
}

static void if_range_compares_tags_strongly(void **state)
{
	(void)state;
	assert_true(conditional_range_stands("\"abc\"", etag, modified));
	assert_true(conditional_range_stands(" \"abc\" ", etag, modified));
	assert_false(conditional_range_stands("\"x\"", etag, modified));
	assert_false(conditional_range_stands("W/\"abc\"", etag, modified));
	assert_false(conditional_range_stands("\"abc\", \"x\"", etag, modified));
	assert_false(conditional_range_stands("\"abc", etag, modified));
	assert_false(conditional_range_stands("*", etag, modified));
	assert_false(conditional_range_stands("abc", etag, modified));
	assert_false(conditional_range_stands("", etag, modified));
}

static void if_range_compares_dates_exactly(void **state)
{
	(void)state;
	assert_true(conditional_range_stands(at, etag, modified));
	assert_true(conditional_range_stands("Sun Nov  6 08:49:37 1994", etag, modified));
	assert_false(conditional_range_stands(before, etag, modified));
	assert_false(conditional_range_stands(after, etag, modified));
	assert_false(conditional_range_stands(at, etag, -1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_conditions_all_proceeds),
		cmocka_unit_test(if_match_wants_our_tag_in_the_list),
		cmocka_unit_test(if_match_compares_strongly),
		cmocka_unit_test(a_star_matches_whatever_is_there),
		cmocka_unit_test(a_star_matches_nothing_where_nothing_is),
		cmocka_unit_test(if_none_match_compares_weakly),
		cmocka_unit_test(a_comma_inside_a_tag_does_not_end_it),
		cmocka_unit_test(a_malformed_list_of_tags_matches_nothing),
		cmocka_unit_test(if_modified_since_is_for_get_and_head),
		cmocka_unit_test(if_unmodified_since_fails_when_it_was_modified),
		cmocka_unit_test(a_malformed_date_is_ignored),
		cmocka_unit_test(a_date_is_ignored_where_there_is_none_to_compare),
		cmocka_unit_test(blanks_round_a_date_do_not_matter),
		cmocka_unit_test(a_tag_takes_precedence_over_a_date),
		cmocka_unit_test(match_comes_before_none_match),
		cmocka_unit_test(a_range_stands_without_if_range),
		cmocka_unit_test(if_range_compares_tags_strongly),
		cmocka_unit_test(if_range_compares_dates_exactly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
