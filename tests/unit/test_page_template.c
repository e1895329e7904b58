/* The page's template expander and its choice of a language; every template against what its renderer fills. */
#include "../../src/front/web/language_private.h"
#include "../../src/front/web/template_private.h"
#include "depotd/base/embedded.h"
#include "depotd/base/json.h"
#include "unit.h"

static const char *shout(const void *language, const char *key)
{
	(void)language;
	return strcmp(key, "hello") == 0 ? "a < b" : NULL;
}

static void assert_expands(const char *template, const char *expected)
{
	static const struct template_value VALUES[] = {{"name", "<b>\"O'Neil\" & co</b>"},
						       {"none", NULL}};
	struct template_scope scope = {VALUES, 2, shout, NULL};
	struct buf out;
	buf_init(&out, 4096);
	template_expand(template, &scope, &out);
	assert_string_equal(buf_text(&out), expected);
	buf_release(&out);
}

static void a_value_is_escaped_for_text_and_attributes(void **state)
{
	(void)state;
	assert_expands("[{{name}}]", "[&lt;b&gt;&quot;O&#39;Neil&quot; &amp; co&lt;/b&gt;]");
}

static void a_value_in_three_braces_stays_as_it_is(void **state)
{
	(void)state;
	assert_expands("[{{{name}}}]", "[<b>\"O'Neil\" & co</b>]");
}

static void a_string_of_the_language_is_escaped(void **state)
{
	(void)state;
	assert_expands("{{t:hello}}{{t:unknown}}", "a &lt; b");
}

static void what_is_unknown_or_absent_expands_to_nothing(void **state)
{
	(void)state;
	assert_expands("a{{none}}{{other}}{{{other}}}z", "az");
}

static void braces_that_are_no_placeholder_stay(void **state)
{
	(void)state;
	assert_expands("{ {{ x", "{ {{ x");
	assert_expands("a{{", "a{{");
}

static void assert_language(const char *accept, const char *tag)
{
	assert_string_equal(language_choose(accept)->tag, tag);
}

static void the_language_with_the_highest_quality_is_chosen(void **state)
{
	(void)state;
	assert_language("en;q=0.3, pt;q=0.8", "pt");
	assert_language("pt;q=0.3, en;q=0.8", "en");
	assert_language("fr, de;q=0.9, pt-BR;q=0.1", "pt");
}

static void every_kind_of_portuguese_is_served_portuguese(void **state)
{
	(void)state;
	assert_language("pt-BR,pt;q=0.9,en;q=0.8", "pt");
	assert_language("PT-pt", "pt");
}

static void english_is_served_where_nothing_fits(void **state)
{
	(void)state;
	assert_language(NULL, "en");
	assert_language("", "en");
	assert_language("fr-CH, ptx, *;q=0.5", "en");
	assert_language("pt;q=0", "en");
	assert_language("pt;q=7, ,;;q=", "en");
}

static void among_equals_the_language_that_is_named_first_is_chosen(void **state)
{
	(void)state;
	assert_language("pt, en", "pt");
	assert_language("en, pt", "en");
	assert_language("pt-BR;q=0.5, en;q=0.5", "pt");
}

static void a_wildcard_means_the_languages_that_are_not_named(void **state)
{
	(void)state;
	assert_language("en;q=0, *", "pt");
	assert_language("en;q=0.2, *;q=0.5", "pt");
	assert_language("*, pt;q=0.1", "en");
	assert_language("*", "en");
}

static void a_weight_is_read_strictly_and_a_malformed_element_passed_over(void **state)
{
	(void)state;
	assert_language("en;q=0.8, pt ; Q=0.9 ", "pt");
	assert_language("en;q=0.998, pt;q=0.999", "pt");
	assert_language("en;q=0.5, pt;q=1.000", "pt");
	assert_language("en;q=0.5, pt;q=1.001", "en");
	assert_language("en;q=0.5, pt;q=0.9999", "en");
	assert_language("en;q=0.5, pt;q=.9", "en");
	assert_language("en;q=0.5, pt;q=0,9", "en");
	assert_language("en;q=0.5, pt;level=1", "en");
	assert_language("en;q=0.5, ;q=1, pt;q=0.", "en");
}

static json_t *strings_of(const char *path)
{
	for (const struct embedded_file *file = embedded_assets; file->path != NULL; file++) {
		if (strcmp(file->path, path) == 0) {
			struct err err;
			return json_parse(file->data, file->len, &err);
		}
	}
	return NULL;
}

static void both_languages_have_the_same_strings(void **state)
{
	(void)state;
	json_t *en = strings_of("strings.en.json"), *pt = strings_of("strings.pt.json"), *value;
	const char *key;
	assert_non_null(en);
	assert_non_null(pt);
	json_object_foreach(en, key, value)
	{
		if (json_object_get(pt, key) == NULL)
			fail_msg("pt lacks \"%s\"", key);
	}
	assert_int_equal(json_object_size(en), json_object_size(pt));
	json_decref(en);
	json_decref(pt);
}

static void every_string_that_a_template_names_exists(void **state)
{
	(void)state;
	size_t seen = 0;
	for (const struct embedded_file *file = embedded_assets; file->path != NULL; file++) {
		if (strstr(file->path, ".html") == NULL)
			continue;
		for (const char *at = strstr(file->data, "{{t:"); at != NULL;
		     at = strstr(at + 1, "{{t:")) {
			char key[64];
			size_t n = strcspn(at + 4, "}");
			assert_true(n < sizeof(key));
			memcpy(key, at + 4, n);
			key[n] = '\0';
			if (language_text(language_choose("en"), key) == NULL)
				fail_msg("%s names the string \"%s\", which does not exist",
					 file->path, key);
			seen++;
		}
	}
	assert_true(seen > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_is_escaped_for_text_and_attributes),
		cmocka_unit_test(a_value_in_three_braces_stays_as_it_is),
		cmocka_unit_test(a_string_of_the_language_is_escaped),
		cmocka_unit_test(what_is_unknown_or_absent_expands_to_nothing),
		cmocka_unit_test(braces_that_are_no_placeholder_stay),
		cmocka_unit_test(the_language_with_the_highest_quality_is_chosen),
		cmocka_unit_test(every_kind_of_portuguese_is_served_portuguese),
		cmocka_unit_test(english_is_served_where_nothing_fits),
		cmocka_unit_test(among_equals_the_language_that_is_named_first_is_chosen),
		cmocka_unit_test(a_wildcard_means_the_languages_that_are_not_named),
		cmocka_unit_test(a_weight_is_read_strictly_and_a_malformed_element_passed_over),
		cmocka_unit_test(both_languages_have_the_same_strings),
		cmocka_unit_test(every_string_that_a_template_names_exists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
