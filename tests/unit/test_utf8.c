/* UTF-8, strictly. */
#include "depotd/base/utf8.h"
#include "unit.h"

static void every_character_is_decoded(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint32_t code;
		unsigned length;
	} rows[] = {
		{"A", 'A', 1},
		{"\x7F", 0x7F, 1},
		{"\xC2\x80", 0x80, 2},
		{"\xDF\xBF", 0x7FF, 2},
		{"\xE0\xA0\x80", 0x800, 3},
		{"\xED\x9F\xBF", 0xD7FF, 3},
		{"\xEE\x80\x80", 0xE000, 3},
		{"\xEF\xBF\xBF", 0xFFFF, 3},
		{"\xF0\x90\x80\x80", 0x10000, 4},
		{"\xF4\x8F\xBF\xBF", 0x10FFFF, 4},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint32_t code = 0;
		assert_int_equal(utf8_decode(rows[i].text, strlen(rows[i].text), &code),
				 rows[i].length);
		assert_int_equal(code, rows[i].code);
	}
}

static void what_is_not_utf_8_has_no_length(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"\x80",
		"\xBF",
		"\xC0\x80",
		"\xC1\xBF",
		"\xE0\x80\x80",
		"\xE0\x9F\xBF",
		"\xED\xA0\x80",
		"\xED\xBF\xBF",
		"\xF0\x80\x80\x80",
		"\xF0\x8F\xBF\xBF",
		"\xF4\x90\x80\x80",
		"\xF5\x80\x80\x80",
		"\xFE",
		"\xFF",
		"\xC2",
		"\xE2\x82",
		"\xF0\x9F\x98",
		"\xC2"
		"A",
		"\xE2\x82"
		"A",
		"ok\xFF",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_int_equal(utf8_length(wrong[i], strlen(wrong[i])), -1);
}

static void length_counts_characters_and_nul_is_one(void **state)
{
	(void)state;
	assert_int_equal(utf8_length("", 0), 0);
	assert_int_equal(utf8_length("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10), 4);
	assert_int_equal(utf8_length("a\0b", 3), 3);
}

static void cutting_keeps_characters_whole(void **state)
{
	(void)state;
	const char *text = "a\xE2\x82\xAC";
	assert_int_equal(utf8_cut(text, 4), 4);
	assert_int_equal(utf8_cut(text, 3), 1);
	assert_int_equal(utf8_cut(text, 2), 1);
	assert_int_equal(utf8_cut(text, 1), 1);
	assert_int_equal(utf8_cut(text, 0), 0);
}

static void controls_are_c0_del_and_c1(void **state)
{
	(void)state;
	static const uint32_t controls[] = {0, 0x1F, 0x7F, 0x80, 0x9F};
	static const uint32_t others[] = {' ', '~', 0xA0, 0x2028, 0x2029, 0x1F600};
	for (size_t i = 0; i < COUNT(controls); i++)
		assert_true(utf8_is_control(controls[i]));
	for (size_t i = 0; i < COUNT(others); i++)
		assert_false(utf8_is_control(others[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_character_is_decoded),
		cmocka_unit_test(what_is_not_utf_8_has_no_length),
		cmocka_unit_test(length_counts_characters_and_nul_is_one),
		cmocka_unit_test(cutting_keeps_characters_whole),
		cmocka_unit_test(controls_are_c0_del_and_c1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
