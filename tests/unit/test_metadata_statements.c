/* The parser of statements.sql, and what is made of names and attributes for search. */
#include <stdio.h>

#include "../../src/metadata/search_private.h"
#include "depotd/base/embedded.h"
#include "depotd/metadata/driver.h"
#include "depotd/metadata/store.h"
#include "unit.h"

/* --- statements --- */

static struct statements *parse(const char *text)
{
	struct statements *statements = NULL;
	struct err err = {0};

	if (statements_parse(text, strlen(text), &statements, &err) < 0)
		print_error("%s\n", err.message);
	return statements;
}

static void assert_text(const char *file, const char *name, const char *text)
{
	struct statements *statements = parse(file);
	const struct statement *statement;

	assert_non_null(statements);
	statement = statements_find(statements, name);
	assert_non_null(statement);
	assert_string_equal(statement->text, text);
	assert_true(statement->index < statements_count(statements));
	statements_free(&statements);
}

static void assert_refused(const char *file)
{
	struct statements *statements = NULL;
	struct err err = {0};

	assert_int_equal(statements_parse(file, strlen(file), &statements, &err), -1);
	assert_int_equal(err.kind, ERR_INTERNAL);
	assert_null(statements);
}

static void a_statement_is_the_lines_behind_its_name(void **state)
{
	(void)state;
	assert_text("-- about this file\n\n-- name: one\nSELECT 1;\n-- name: two\nSELECT\n\t2\n",
		    "one", "SELECT 1");
	assert_text("-- name: one\nSELECT 1;\n-- name: two\nSELECT\n\t2\n", "two", "SELECT\n2");
	assert_text("-- name: last\nSELECT 3", "last", "SELECT 3");
	assert_text("-- name:\ttabs \r\nSELECT 4 ;\r\n", "tabs", "SELECT 4");
}

static void comments_and_empty_lines_are_left_out(void **state)
{
	(void)state;
	assert_text("-- name: one\n-- $1 what\nSELECT $1 -- stays\n\n  -- not this\nFROM t\n",
		    "one", "SELECT $1 -- stays\nFROM t");
}

static void a_script_keeps_the_semicolons_inside(void **state)
{
	(void)state;
	assert_text("-- name: script\nPRAGMA a;\nPRAGMA b;\n", "script", "PRAGMA a;\nPRAGMA b");
}

static void a_statement_may_be_made_of_fragments(void **state)
{
	(void)state;
	assert_text("-- fragment: head\nSELECT *\n-- fragment: tail\nORDER BY 1\n-- name: list = "
		    "head tail\n",
		    "list", "SELECT *\nORDER BY 1\n");
	assert_text("-- name: list =  tail   head\n-- fragment: head\nA\n-- fragment: tail\nB\n",
		    "list", "B\nA\n");
}

static void fragments_are_no_statements(void **state)
{
	struct statements *statements =
		parse("-- fragment: piece\nSELECT\n-- name: one\nSELECT 1\n");

	(void)state;
	assert_null(statements_find(statements, "piece"));
	assert_null(statements_find(statements, "missing"));
	assert_int_equal(statements_count(statements), 1);
	statements_free(&statements);
	statements_free(&statements);
}

static void what_cannot_be_meant_is_refused(void **state)
{
	(void)state;
	assert_refused("-- name: empty\n-- name: other\nSELECT 1\n");
	assert_refused("-- name: empty\n");
	assert_refused("-- name: twice\nSELECT 1\n-- name: twice\nSELECT 2\n");
	assert_refused("-- name: list = nothing\n");
	assert_refused("-- name: list = piece\nSELECT 1\n-- fragment: piece\nSELECT 2\n");
}

static struct statements *load(const char *dialect)
{
	struct statements *statements = NULL;
	struct err err = {0};

	if (statements_load(dialect, &statements, &err) < 0)
		fail_msg("%s", err.message);
	return statements;
}

/* All that C asks for by name; lists are put together from parts and covered by their own tests. */
static void both_dialects_have_the_statements_that_the_store_runs(void **state)
{
	static const char *const names[] = {
		"session_setup",
		"ping",
		"migrations_lock",
		"migrations_unlock",
		"migrations_prepare",
		"migrations_present",
		"migrations_list",
		"migration_record",
		"file_insert",
		"file_update",
		"file_delete",
		"file_delete_expired",
		"notify",
		"listen",
		"file_by_id",
		"files_present",
		"files_walk",
		"files_expired",
		"search_index",
		"files_probe_search",
		"files_probe_facets",
		"files_probe_all",
	};
	static const char *const dialects[] = {"postgres", "sqlite"};

	(void)state;
	for (size_t d = 0; d < COUNT(dialects); d++) {
		struct statements *statements = load(dialects[d]);

		for (size_t i = 0; i < COUNT(names); i++) {
			if (!statements_find(statements, names[i]))
				fail_msg("%s has no statement %s", dialects[d], names[i]);
		}
		statements_free(&statements);
	}
}

static void an_unknown_dialect_is_refused(void **state)
{
	struct statements *statements = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(statements_load("oracle", &statements, &err), -1);
	assert_int_equal(err.kind, ERR_INTERNAL);
}

/* --- folding --- */

static void assert_folds(const char *text, const char *folded)
{
	struct buf out;

	buf_init(&out, 4096);
	search_fold(text, &out);
	assert_string_equal(buf_text(&out), folded);
	buf_release(&out);
}

static void names_fold_by_unicode_and_not_by_locale(void **state)
{
	(void)state;
	assert_folds("", "");
	assert_folds("Report-2024.PDF", "report-2024.pdf");
	assert_folds("ÄÖÜ É Ñ Ø Þ", "äöü é ñ ø þ");
	assert_folds("ΟΔΟΣ Οδός", "οδοσ οδόσ");
	assert_folds("ПРИВЕТ Ґ", "привет ґ");
	assert_folds("ŁÓDŹ Ǆǅ", "łódź ǆǆ");
	assert_folds("\xF0\x90\x90\x80",
		     "\xF0\x90\x90\xA8"); /* Deseret, beyond the Basic Multilingual Plane */
	assert_folds("Ⱥ", "ⱥ");           /* from two bytes to three */
	assert_folds("日本 \xF0\x9F\x90\x98 ß é", "日本 \xF0\x9F\x90\x98 ß é");
	assert_folds("ẞ", "ß");
}

static void nothing_but_ascii_folds_to_ascii(void **state)
{
	(void)state;
	assert_folds("\xE2\x84\xAA \xC5\xBF \xC4\xB0 \xC4\xB1",
		     "\xE2\x84\xAA \xC5\xBF \xC4\xB0 \xC4\xB1"); /* K ſ İ ı */
	assert_folds("\xE2\x84\xAB", "å");                       /* the Ångström sign */
}

static void broken_utf8_folds_to_itself(void **state)
{
	(void)state;
	assert_folds("A\xFF\xC3", "a\xFF\xC3");
}

/* --- facets --- */

static int64_t number_of(enum facet_kind kind, const char *text, const char *value)
{
	struct err err = {0};
	int64_t number = 0;

	assert_int_equal(facet_number(kind, text, value, &number, &err), 0);
	return number;
}

/* Rows hold these numbers: another one would lose every file stored before. */
static void the_numbers_of_facets_never_change(void **state)
{
	(void)state;
	assert_int_equal(number_of(FACET_TYPE, "image/png", NULL), INT64_C(3006292124302136280));
	assert_int_equal(number_of(FACET_ATTRIBUTE, "project", "apollo"),
			 INT64_C(4142146344981792296));
}

static struct facet_set set_of(const struct file_record *record)
{
	struct facet_set set;
	struct err err = {0};

	assert_int_equal(facet_set_of(record, &set, &err), 0);
	return set;
}

static bool has(const struct facet_set *set, int64_t number)
{
	for (size_t i = 0; i < set->n; i++) {
		if (set->numbers[i] == number)
			return true;
	}
	return false;
}

static void a_file_has_the_facets_of_all_it_can_be_filtered_by(void **state)
{
	struct file_record record = {
		.type = "image/png",
		.owner = "ann",
		.tags = "[\"a\",\"b\"]",
		.attributes = "{\"k\":{\"l\":[1,\"x\",null,[2],{\"m\":3}],\"t\":true},\"n\":null,"
			      "\"r\":2.5}",
	};
	struct facet_set set = set_of(&record);

	(void)state;
	assert_true(has(&set, number_of(FACET_TYPE, "image/png", NULL)));
	assert_true(has(&set, number_of(FACET_MAJOR, "image", NULL)));
	assert_true(has(&set, number_of(FACET_OWNER, "ann", NULL)));
	assert_true(has(&set, number_of(FACET_TAG, "a", NULL)));
	assert_true(has(&set, number_of(FACET_TAG, "b", NULL)));
	assert_true(has(&set, number_of(FACET_ATTRIBUTE, "k.l", "1")));
	assert_true(has(&set, number_of(FACET_ATTRIBUTE, "k.l", "x")));
	assert_true(has(&set, number_of(FACET_ATTRIBUTE, "k.t", "true")));
	assert_true(has(&set, number_of(FACET_ATTRIBUTE, "r", "2.5")));
	assert_int_equal(set.n, 9);
}

static void no_facet_counts_twice(void **state)
{
	struct file_record record = {
		.type = "a/b", .tags = "[\"a\",\"a\"]", .attributes = "{\"k\":[1,1,\"1\"]}"};
	struct facet_set set = set_of(&record);

	(void)state;
	assert_int_equal(set.n, 4);
}

static void facets_beyond_the_limit_are_left_out(void **state)
{
	struct file_record record = {.type = "a/b", .tags = "[]"};
	struct facet_set set;
	struct buf text;

	(void)state;
	buf_init(&text, 65536);
	buf_puts(&text, "{\"k\":[0");
	for (int i = 1; i < 2000; i++)
		buf_printf(&text, ",%d", i);
	buf_puts(&text, "]}");
	record.attributes = buf_text(&text);
	set = set_of(&record);
	assert_int_equal(set.n, FACETS_MAX);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_statement_is_the_lines_behind_its_name),
		cmocka_unit_test(comments_and_empty_lines_are_left_out),
		cmocka_unit_test(a_script_keeps_the_semicolons_inside),
		cmocka_unit_test(a_statement_may_be_made_of_fragments),
		cmocka_unit_test(fragments_are_no_statements),
		cmocka_unit_test(what_cannot_be_meant_is_refused),
		cmocka_unit_test(both_dialects_have_the_statements_that_the_store_runs),
		cmocka_unit_test(an_unknown_dialect_is_refused),
		cmocka_unit_test(names_fold_by_unicode_and_not_by_locale),
		cmocka_unit_test(nothing_but_ascii_folds_to_ascii),
		cmocka_unit_test(broken_utf8_folds_to_itself),
		cmocka_unit_test(the_numbers_of_facets_never_change),
		cmocka_unit_test(a_file_has_the_facets_of_all_it_can_be_filtered_by),
		cmocka_unit_test(no_facet_counts_twice),
		cmocka_unit_test(facets_beyond_the_limit_are_left_out),
	};

	return cmocka_run_group_tests_name("metadata statements and search", tests, NULL, NULL);
}
