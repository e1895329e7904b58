/* JSON: the writer, the reader's bounds, the canonical print, merge patch. */
#include "depotd/base/json.h"

#include <limits.h>

#include "unit.h"

static void the_writer_puts_commas_where_they_belong(void **state)
{
	(void)state;
	struct buf out;
	struct json_writer w;
	buf_init(&out, 1000);
	json_writer_init(&w, &out);
	json_open_object(&w);
	json_key(&w, "a");
	json_open_array(&w);
	json_int(&w, 1);
	json_open_object(&w);
	json_close_object(&w);
	json_open_array(&w);
	json_close_array(&w);
	json_text(&w, "x");
	json_close_array(&w);
	json_key(&w, "b");
	json_bool(&w, true);
	json_key(&w, "c");
	json_nothing(&w);
	json_key(&w, "d");
	json_raw(&w, "{\"e\":[]}");
	json_key(&w, "f");
	json_text(&w, NULL);
	json_key(&w, "g");
	json_int(&w, INT64_MIN);
	json_close_object(&w);
	assert_string_equal(buf_text(&out),
			    "{\"a\":[1,{},[],\"x\"],\"b\":true,\"c\":null,"
			    "\"d\":{\"e\":[]},\"f\":null,\"g\":-9223372036854775808}");
	buf_release(&out);
}

static void texts_are_escaped_no_more_than_they_must(void **state)
{
	(void)state;
	struct buf out;
	struct json_writer w;
	buf_init(&out, 1000);
	json_writer_init(&w, &out);
	json_text(&w, "\"\\/\b\f\n\r\t\x01\x1F\x7F<&>\xC3\xA9\xF0\x9F\x98\x80");
	assert_string_equal(buf_text(&out), "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F<&>"
					    "\xC3\xA9\xF0\x9F\x98\x80\"");
	buf_reset(&out);
	json_writer_init(&w, &out);
	json_text_n(&w, "a\0b", 3);
	assert_string_equal(buf_text(&out), "\"a\\u0000b\"");
	buf_release(&out);
}

static void broken_bytes_come_out_as_replacement_characters(void **state)
{
	(void)state;
	struct buf out;
	struct json_writer w;
	buf_init(&out, 1000);
	json_writer_init(&w, &out);
	json_text(&w, "a\xFF"
		      "b\xE2\x82");
	assert_string_equal(buf_text(&out), "\"a\xEF\xBF\xBD"
					    "b\xEF\xBF\xBD\xEF\xBF\xBD\"");
	buf_release(&out);
}

/* What json_parse makes of text, printed; NULL and the error where it is refused. */
static char *reprint(const char *text, size_t n, struct err *err)
{
	json_t *value = json_parse(text, n, err);
	if (value == NULL)
		return NULL;
	struct buf out;
	size_t length;
	buf_init(&out, 1 << 20);
	json_print(value, &out);
	json_decref(value);
	return buf_take(&out, &length);
}

static void assert_prints(const char *text, const char *expected)
{
	struct err err;
	char *printed = reprint(text, strlen(text), &err);
	if (printed == NULL)
		fail_msg("%s: %s", text, err.message);
	assert_string_equal(printed, expected);
	free(printed);
}

static void assert_refused(const char *text, size_t n)
{
	struct err err = {.kind = ERR_NONE};
	char *printed = reprint(text, n, &err);
	if (printed != NULL)
		fail_msg("%s: taken", text);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.message, "line"));
}

static void printing_sorts_keys_and_drops_blanks(void **state)
{
	(void)state;
	assert_prints(" { \"b\" : [ 1 , 2 ] , \"a\" : { \"z\":null, \"y\":true } } ",
		      "{\"a\":{\"y\":true,\"z\":null},\"b\":[1,2]}");
}

static void numbers_come_back_as_they_were_given(void **state)
{
	(void)state;
	assert_prints("9223372036854775807", "9223372036854775807");
	assert_prints("-9223372036854775808", "-9223372036854775808");
	assert_prints("0.1", "0.1");
	assert_prints("1.0", "1.0");
	assert_prints("1e300", "1e+300");
	assert_prints("3.141592653589793", "3.141592653589793");
	assert_prints("5e-324", "4.94065645841247e-324");
	assert_prints("0.30000000000000004", "0.30000000000000004");
	assert_prints("-0.0", "-0.0");
}

static void numbers_that_would_not_survive_are_refused(void **state)
{
	(void)state;
	assert_refused("9223372036854775808", 19);
	assert_refused("-9223372036854775809", 20);
	assert_refused("1e999", 5);
}

static void any_kind_of_value_may_stand_alone(void **state)
{
	(void)state;
	assert_prints("null", "null");
	assert_prints("\"x\"", "\"x\"");
	assert_prints("[]", "[]");
}

static void what_is_no_json_is_refused_with_its_place(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		" ",
		"{",
		"[1,]",
		"{\"a\":1,}",
		"{\"a\":1,\"a\":2}",
		"{a:1}",
		"'x'",
		"01",
		"+1",
		"NaN",
		"nul",
		"1 2",
		"{} x",
		"\"\x01\"",
		"\"\xFF\"",
		"\"\xED\xA0\x80\"",
		"\"\\ud800\"",
		"\"\\u0000\"",
		"{\"\\u0000\":1}",
		"// x\n1",
		"[1}",
		"\"x",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_refused(wrong[i], strlen(wrong[i]));
	assert_refused("1\0", 2);
	assert_refused("\"a\0b\"", 5);
}

static void nesting_has_a_bound_and_brackets_in_strings_are_none(void **state)
{
	(void)state;
	char text[2 * (JSON_DEPTH_MAX + 1)];
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	struct err err;
	json_t *value = json_parse(text, (size_t)2 * JSON_DEPTH_MAX, &err);
	assert_non_null(value);
	json_decref(value);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_refused(text, sizeof(text));
	/* Brackets in strings are no nesting, whatever is escaped before them. */
	struct buf deep;
	buf_init(&deep, 1000);
	buf_puts(&deep, "\"\\\"");
	for (int i = 0; i < 100; i++)
		buf_putc(&deep, '[');
	buf_puts(&deep, "\"");
	value = json_parse(buf_text(&deep), deep.len, &err);
	assert_non_null(value);
	json_decref(value);
	buf_release(&deep);
}

static void a_million_brackets_are_refused_at_once(void **state)
{
	(void)state;
	size_t n = 1 << 20;
	char *text = malloc(n);
	memset(text, '[', n);
	struct err err;
	assert_null(json_parse(text, n, &err));
	free(text);
}

/* The examples of RFC 7396, Appendix A. */
static void merge_patch_does_what_its_rfc_shows(void **state)
{
	(void)state;
	static const char *const rows[][3] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		 "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
		{"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
		{"{\"a\":\"foo\"}", "null", "null"},
		{"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
		{"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
		{"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct err err;
		struct buf out;
		buf_init(&out, 1000);
		json_t *target = json_parse(rows[i][0], strlen(rows[i][0]), &err);
		json_t *patch = json_parse(rows[i][1], strlen(rows[i][1]), &err);
		json_t *result = json_merge_patch(target, patch);
		json_print(result, &out);
		assert_string_equal(buf_text(&out), rows[i][2]);
		json_decref(result);
		json_decref(target);
		json_decref(patch);
		buf_release(&out);
	}
}

static unsigned allocations_left = UINT_MAX; /* until one fails, and those after it */
static bool fails_once;

static void *scarce_malloc(size_t n)
{
	if (allocations_left == 0) {
		allocations_left = fails_once ? UINT_MAX : 0;
		return NULL;
	}
	allocations_left -= allocations_left < UINT_MAX;
	return malloc(n);
}

/* Before the constructor of the code under test, which goes on from what it finds. */
__attribute__((constructor(101))) static void be_scarce(void)
{
	json_set_alloc_funcs(scarce_malloc, free);
}

/* Parses with the nth allocation failing, n from 0 on, until it comes through. Returns how many failed. */
static unsigned parse_with_failures(const char *text, bool once)
{
	for (unsigned n = 0; n < 1000; n++) {
		struct err err;
		allocations_left = n;
		fails_once = once;
		json_t *value = json_parse(text, strlen(text), &err);
		bool failed = allocations_left == 0 || (once && allocations_left == UINT_MAX);
		allocations_left = UINT_MAX;
		json_decref(value);
		if (value != NULL)
			return n;
		assert_true(failed);
		assert_int_equal(err.kind, ERR_NO_MEMORY);
	}
	fail_msg("no end of failures");
	return 0;
}

static void wherever_memory_ends_the_text_is_not_called_wrong(void **state)
{
	(void)state;
	static const char members[] =
		"{\"name\":\"fifteen and more\\n\",\"tags\":[\"\\u00e9\\ud83d\\ude00\"],"
		"\"n\":12345678901234567,\"x\":1.2345678901234567890123}";
	static const char *const texts[] = {
		members,
		"\"12345678901234\\\"\"",
		"\"12345678901234\\u0041\"",
		"\"12345678901234\xC3\xA9\"",
	};
	for (size_t i = 0; i < COUNT(texts); i++) {
		assert_in_range(parse_with_failures(texts[i], true), 4, 100);
		assert_in_range(parse_with_failures(texts[i], false), 4, 100);
	}
	/* Some of these need more room for the quote at their end. */
	for (int length = 1; length < 70; length++) {
		char text[80];
		snprintf(text, sizeof(text), "\"%0*d\"", length, 0);
		assert_in_range(parse_with_failures(text, true), 3, 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_writer_puts_commas_where_they_belong),
		cmocka_unit_test(texts_are_escaped_no_more_than_they_must),
		cmocka_unit_test(broken_bytes_come_out_as_replacement_characters),
		cmocka_unit_test(printing_sorts_keys_and_drops_blanks),
		cmocka_unit_test(numbers_come_back_as_they_were_given),
		cmocka_unit_test(numbers_that_would_not_survive_are_refused),
		cmocka_unit_test(any_kind_of_value_may_stand_alone),
		cmocka_unit_test(what_is_no_json_is_refused_with_its_place),
		cmocka_unit_test(nesting_has_a_bound_and_brackets_in_strings_are_none),
		cmocka_unit_test(a_million_brackets_are_refused_at_once),
		cmocka_unit_test(merge_patch_does_what_its_rfc_shows),
		cmocka_unit_test(wherever_memory_ends_the_text_is_not_called_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
