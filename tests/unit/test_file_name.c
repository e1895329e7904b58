/* File names, tags, Content-Disposition. */
#include "depotd/model/file_name.h"
#include "unit.h"

static void assert_name(const char *given, const char *expected)
{
	struct buf out;
	struct err err;
	buf_init(&out, FILE_NAME_MAX_BYTES);
	buf_puts(&out, "what was there before");
	if (file_name_clean(given, strlen(given), &out, &err) < 0)
		fail_msg("%s: %s", given, err.message);
	assert_string_equal(buf_text(&out), expected);
	buf_release(&out);
}

static void assert_no_name(const char *given, size_t n)
{
	struct buf out;
	struct err err = {.kind = ERR_NONE};
	buf_init(&out, FILE_NAME_MAX_BYTES);
	assert_int_equal(file_name_clean(given, n, &out, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(strncmp(err.message, "name: ", 6), 0);
	buf_release(&out);
}

static void a_name_is_kept_as_it_was_given(void **state)
{
	(void)state;
	assert_name("report.pdf", "report.pdf");
	assert_name(" two  blanks ", " two  blanks ");
	assert_name("caf\xC3\xA9 \xF0\x9F\x98\x80.txt", "caf\xC3\xA9 \xF0\x9F\x98\x80.txt");
	assert_name(".hidden", ".hidden");
	assert_name("...", "...");
	assert_name("a:b*c?\"<>|.txt", "a:b*c?\"<>|.txt");
	assert_name("100%.txt", "100%.txt");
}

static void of_a_path_the_last_component_counts(void **state)
{
	(void)state;
	assert_name("/etc/passwd", "passwd");
	assert_name("C:\\fakepath\\photo.jpg", "photo.jpg");
	assert_name("../../x", "x");
	assert_name("a\\b/c\\d", "d");
}

static void where_no_name_is_left_it_is_unnamed(void **state)
{
	(void)state;
	static const char *const none[] = {"", "/", "a/", "a\\", ".", "..", "a/..", "a/.", "\\"};
	for (size_t i = 0; i < COUNT(none); i++)
		assert_name(none[i], "unnamed");
}

static void controls_and_broken_utf_8_are_refused_wherever_they_stand(void **state)
{
	(void)state;
	static const char *const wrong[] = {"a\nb",         "a\x01",     "\x7F",     "a\xC2\x85",
					    "\xFF",         "caf\xE9",   "\xC0\xAF", "\xED\xA0\x80",
					    "bad\xFF/good", "bad\n/good"};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_no_name(wrong[i], strlen(wrong[i]));
	assert_no_name("a\0b", 3);
}

static void what_is_no_control_may_stand_in_a_name(void **state)
{
	(void)state;
	/* U+2028, U+2029, U+202E, U+FEFF, U+FFFF */
	static const char *const names[] = {"a\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAE.txt",
					    "\xEF\xBB\xBFx", "\xEF\xBF\xBF"};
	for (size_t i = 0; i < COUNT(names); i++)
		assert_name(names[i], names[i]);
}

static void a_name_has_at_most_255_characters_not_bytes(void **state)
{
	(void)state;
	char text[4 * 256 + 2];
	for (size_t i = 0; i < 256; i++)
		memcpy(text + 4 * i, "\xF0\x9F\x98\x80", 4);
	text[sizeof(text) - 2] = text[sizeof(text) - 1] = '\0';
	assert_no_name(text, (size_t)4 * 256);
	text[4 * 255] = '\0';
	assert_name(text, text);
	char path[2000];
	memset(path, 'd', sizeof(path));
	memcpy(path + sizeof(path) - 5, "/a.b", 5);
	assert_name(path, "a.b");
}

static int clean_tag(const char *given, struct buf *out)
{
	struct err err = {.kind = ERR_NONE};
	buf_reset(out);
	int result = tag_clean(given, strlen(given), out, &err);
	assert_int_equal(err.kind, result < 0 ? ERR_INVALID : ERR_NONE);
	return result;
}

static void a_tag_loses_the_blanks_round_it(void **state)
{
	(void)state;
	struct buf out;
	buf_init(&out, 1000);
	assert_int_equal(clean_tag(" \t q4 report\t", &out), 0);
	assert_string_equal(buf_text(&out), "q4 report");
	buf_release(&out);
}

static void a_tag_that_is_none_is_refused(void **state)
{
	(void)state;
	struct buf out;
	buf_init(&out, 1000);
	static const char *const wrong[] = {"", " ", "a,b", "a\nb", "\xFF", "\xC2\x85"};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_int_equal(clean_tag(wrong[i], &out), -1);
	char text[2 * 65 + 1];
	for (size_t i = 0; i < 65; i++)
		memcpy(text + 2 * i, "\xC3\xA9", 2);
	text[2 * 65] = '\0';
	assert_int_equal(clean_tag(text, &out), -1);
	text[2 * 64] = '\0';
	assert_int_equal(clean_tag(text, &out), 0);
	buf_release(&out);
}

static void assert_disposition(bool is_inline, const char *name, const char *expected)
{
	struct buf out;
	buf_init(&out, 10000);
	disposition_format(is_inline, name, &out);
	assert_string_equal(buf_text(&out), expected);
	buf_release(&out);
}

static void a_plain_name_needs_no_extended_value(void **state)
{
	(void)state;
	assert_disposition(false, "report.pdf", "attachment; filename=\"report.pdf\"");
	assert_disposition(true, "a b;c=d'.txt", "inline; filename=\"a b;c=d'.txt\"");
}

static void another_name_has_a_fallback_and_an_extended_value(void **state)
{
	(void)state;
	assert_disposition(false, "na\xC3\xAFve \xE2\x82\xAC.txt",
			   "attachment; filename=\"na_ve _.txt\"; "
			   "filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt");
	assert_disposition(false, "50%\"\\.txt",
			   "attachment; filename=\"50___.txt\"; filename*=UTF-8''50%25%22%5C.txt");
	assert_disposition(true, "\xF0\x9F\x98\x80",
			   "inline; filename=\"_\"; filename*=UTF-8''%F0%9F%98%80");
}

/* No stored name has these; but a header must not be split by one that slipped through. */
static void nothing_in_a_name_can_end_the_header(void **state)
{
	(void)state;
	assert_disposition(false, "a\r\nSet-Cookie: x\x7F\xFF",
			   "attachment; filename=\"a__Set-Cookie: x__\"; "
			   "filename*=UTF-8''a__Set-Cookie%3A%20x_%EF%BF%BD");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_kept_as_it_was_given),
		cmocka_unit_test(of_a_path_the_last_component_counts),
		cmocka_unit_test(where_no_name_is_left_it_is_unnamed),
		cmocka_unit_test(controls_and_broken_utf_8_are_refused_wherever_they_stand),
		cmocka_unit_test(what_is_no_control_may_stand_in_a_name),
		cmocka_unit_test(a_name_has_at_most_255_characters_not_bytes),
		cmocka_unit_test(a_tag_loses_the_blanks_round_it),
		cmocka_unit_test(a_tag_that_is_none_is_refused),
		cmocka_unit_test(a_plain_name_needs_no_extended_value),
		cmocka_unit_test(another_name_has_a_fallback_and_an_extended_value),
		cmocka_unit_test(nothing_in_a_name_can_end_the_header),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
