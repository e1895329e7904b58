/* Targets, queries, Accept and routing as pure functions. */
#include "unit.h"

#include "../../src/http/router_private.h"
#include "../../src/http/target_private.h"

static struct arena arena;

static int set(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 20);
	return 0;
}

static int strike(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static void a_query_is_decoded_in_order(void **state)
{
	(void)state;
	struct target t;
	struct err err;
	assert_int_equal(
		target_parse("/a%20b?x=1+2&&y&=z&x=%26%3D&u=%E2%82%AC&w=a=b", &arena, &t, &err), 0);
	static const struct target_parameter expected[] = {
		{"x", "1 2"},          {"y", ""},   {"", "z"}, {"x", "&="},
		{"u", "\xE2\x82\xAC"}, {"w", "a=b"}};
	assert_string_equal(t.path, "/a%20b");
	assert_int_equal(t.count, COUNT(expected));
	for (size_t i = 0; i < t.count; i++) {
		assert_string_equal(t.parameters[i].key, expected[i].key);
		assert_string_equal(t.parameters[i].value, expected[i].value);
	}
}

static void an_absolute_target_loses_its_authority(void **state)
{
	(void)state;
	struct target t;
	struct err err;
	assert_int_equal(target_parse("http://h:80/a?b", &arena, &t, &err), 0);
	assert_string_equal(t.path, "/a");
	assert_string_equal(t.parameters[0].key, "b");
	assert_int_equal(target_parse("https://h", &arena, &t, &err), 0);
	assert_string_equal(t.path, "/");
	assert_int_equal(target_parse("http://h?x", &arena, &t, &err), 0);
	assert_string_equal(t.path, "/");
	assert_string_equal(t.parameters[0].key, "x");
	assert_int_equal(target_parse("/a?http://x/", &arena, &t, &err), 0);
	assert_string_equal(t.path, "/a");
}

static void broken_encoding_names_the_parameter(void **state)
{
	(void)state;
	static const char *const broken[] = {"/?name=%",        "/?name=%4",  "/?name=%g0",
					     "/?name=%00",      "/?name=%ff", "/?name=%c3%28",
					     "/?name=%ed%a0%80"};
	for (size_t i = 0; i < COUNT(broken); i++) {
		struct target t;
		struct err err;
		assert_int_equal(target_parse(broken[i], &arena, &t, &err), -1);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_non_null(strstr(err.message, "name"));
	}
}

static void html_is_preferred_only_where_accept_says_so(void **state)
{
	(void)state;
	assert_true(accept_prefers_html("text/html"));
	assert_true(accept_prefers_html(
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"));
	assert_true(accept_prefers_html("Text/*, application/json;q=0.5"));
	assert_true(accept_prefers_html("application/json; q=0.1 , text/html ; q=0.2"));
	assert_false(accept_prefers_html(NULL));
	assert_false(accept_prefers_html(""));
	assert_false(accept_prefers_html("*/*"));
	assert_false(accept_prefers_html("application/json"));
	assert_false(accept_prefers_html("text/html, application/json"));
	assert_false(accept_prefers_html("text/html;q=0"));
	assert_false(accept_prefers_html("text/html;q=0.5, application/problem+json"));
	assert_false(accept_prefers_html("text/html;level=1;q=0.3, */*"));
}

/* --- routing --- */

static const struct http_handler list, put, get, metadata, literal, root;

static const struct http_route routes[] = {
	{"GET", "/", &root},
	{"GET", "/files", &list},
	{"PUT", "/files/{name}", &put},
	{"PUT", "/files/{name...}", &put},
	{"GET", "/files/{id}", &get},
	{"GET", "/files/new", &literal},
	{"GET", "/files/{id}/metadata", &metadata},
	{NULL, NULL, NULL},
};

static int match(const char *method, const char *path, struct router_match *m, struct err *err)
{
	struct router *router = NULL;
	assert_int_equal(router_new(routes, &router, err), 0);
	int result = router_match(router, method, path, &arena, m, err);
	router_free(&router);
	assert_null(router);
	return result;
}

static void a_path_finds_its_row(void **state)
{
	(void)state;
	struct router_match m;
	struct err err;
	assert_int_equal(match("GET", "/files", &m, &err), 1);
	assert_ptr_equal(m.handler, &list);
	assert_int_equal(match("HEAD", "/files/a%20%C3%A9/metadata", &m, &err), 1);
	assert_ptr_equal(m.handler, &metadata);
	assert_string_equal(m.params[0], "a \xC3\xA9");
	assert_int_equal(match("PUT", "/files/a%2Fb+c", &m, &err), 1);
	assert_string_equal(m.params[0], "a/b+c");
	assert_int_equal(match("GET", "/", &m, &err), 1);
	assert_ptr_equal(m.handler, &root);
}

static void a_literal_segment_wins_over_a_parameter(void **state)
{
	(void)state;
	struct router_match m;
	struct err err;
	assert_int_equal(match("GET", "/files/new", &m, &err), 1);
	assert_ptr_equal(m.handler, &literal);
	assert_int_equal(match("PUT", "/files/new", &m, &err), 1);
	assert_ptr_equal(m.handler, &put);
}

static void an_encoded_letter_is_the_letter(void **state)
{
	(void)state;
	struct router_match m;
	struct err err;
	assert_int_equal(match("GET", "/%66iles/%6e%65w", &m, &err), 1);
	assert_ptr_equal(m.handler, &literal);
	assert_int_equal(match("GET", "/files/%2525", &m, &err), 1);
	assert_string_equal(m.params[0], "%25");
}

static void what_no_other_row_knows_is_the_rest_of_a_path(void **state)
{
	(void)state;
	static const char *const paths[][2] = {
		{"/files/a/b", "a/b"},
		{"/files/a/b%2F%20c/", "a/b/ c/"},
		{"/files//a", "/a"},
		{"/files/a/metadata", "a/metadata"}, /* known, but not by this method */
		{"/files/a/b/c/d/e/f/g/h/i/j", "a/b/c/d/e/f/g/h/i/j"},
	};
	struct router_match m;
	struct err err;
	for (size_t i = 0; i < COUNT(paths); i++) {
		assert_int_equal(match("PUT", paths[i][0], &m, &err), 1);
		assert_ptr_equal(m.handler, &put);
		assert_int_equal(m.param_count, 1);
		assert_string_equal(m.params[0], paths[i][1]);
	}
	assert_int_equal(match("PATCH", "/files/a/metadata", &m, &err), -1);
	assert_int_equal(err.kind, ERR_METHOD);
	assert_string_equal(m.allow, "GET, HEAD, OPTIONS");
	assert_int_equal(match("PUT", "/files/a/%ff", &m, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(match("PUT", "/other/a/b", &m, &err), 0);
	assert_int_equal(match("POST", "/files/a/b", &m, &err), 0);
}

static void other_paths_are_not_there(void **state)
{
	(void)state;
	static const char *const paths[] = {
		"/file",   "/files/", "/files//metadata",      "/files/a/b", "/files/a/metadata/",
		"//files", "*",       "/a/b/c/d/e/f/g/h/i/j/k"};
	for (size_t i = 0; i < COUNT(paths); i++) {
		struct router_match m;
		struct err err;
		assert_int_equal(match("GET", paths[i], &m, &err), 0);
	}
}

static void another_method_learns_which_there_are(void **state)
{
	(void)state;
	struct router_match m;
	struct err err;
	assert_int_equal(match("DELETE", "/files/a", &m, &err), -1);
	assert_int_equal(err.kind, ERR_METHOD);
	assert_string_equal(m.allow, "GET, HEAD, PUT, OPTIONS");
	assert_int_equal(match("FOO", "/files/a", &m, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_IMPLEMENTED);
}

static void a_path_that_is_not_utf8_is_a_wrong_name_or_nobody_s(void **state)
{
	(void)state;
	struct router_match m;
	struct err err;
	assert_int_equal(match("PUT", "/files/%ff", &m, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(match("GET", "/files/%ff", &m, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_int_equal(match("GET", "/files/%00", &m, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_int_equal(match("GET", "/files/%zz", &m, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_int_equal(match("GET", "/%ff", &m, &err), 0);
}

static void a_malformed_table_is_a_defect(void **state)
{
	(void)state;
	static const struct http_route bad[] = {{"FETCH", "/", &root}, {NULL, NULL, NULL}},
				       worse[] = {{"GET", "files", &root}, {NULL, NULL, NULL}};
	struct router *router = NULL;
	struct err err;
	assert_int_equal(router_new(bad, &router, &err), -1);
	assert_int_equal(router_new(worse, &router, &err), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set, strike)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_query_is_decoded_in_order),
		TEST(an_absolute_target_loses_its_authority),
		TEST(broken_encoding_names_the_parameter),
		TEST(html_is_preferred_only_where_accept_says_so),
		TEST(a_path_finds_its_row),
		TEST(a_literal_segment_wins_over_a_parameter),
		TEST(an_encoded_letter_is_the_letter),
		TEST(what_no_other_row_knows_is_the_rest_of_a_path),
		TEST(other_paths_are_not_there),
		TEST(another_method_learns_which_there_are),
		TEST(a_path_that_is_not_utf8_is_a_wrong_name_or_nobody_s),
		TEST(a_malformed_table_is_a_defect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
