/* List requests and their cursor. */
#include <stdio.h>

#include "depotd/model/listing.h"
#include "unit.h"

static struct list_query query;
static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 16);
	list_query_init(&query);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static void add(const char *key, const char *value)
{
	struct err err;
	if (list_query_add(&query, &arena, key, value, &err) < 0)
		fail_msg("%s=%s: %s", key, value, err.message);
}

/* Refused, and the message begins with the parameter's name. */
static void refuse(const char *key, const char *value)
{
	struct err err = {.kind = ERR_NONE};
	if (list_query_add(&query, &arena, key, value, &err) == 0)
		fail_msg("%s=%s: taken", key, value);
	assert_int_equal(err.kind, ERR_INVALID);
	if (strncmp(err.message, key, strlen(key)) != 0)
		fail_msg("%s", err.message);
}

static void a_list_begins_with_the_newest_fifty(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(list_query_finish(&query, &arena, &err), 0);
	assert_int_equal(query.sort, LIST_SORT_CREATED);
	assert_true(query.descending);
	assert_int_equal(query.limit, 50);
	assert_false(query.has_position);
	assert_int_equal(query.min_size, -1);
	assert_true(query.created_after == INT64_MIN && query.created_before == INT64_MAX);
}

static void every_parameter_finds_its_place(void **state)
{
	(void)state;
	add("q", "rep");
	add("name", "report.pdf");
	add("type", "Image/PNG");
	add("tag", " q4 ");
	add("tag", "b");
	add("owner", "ana");
	add("sha256", "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	add("min_size", "512K");
	add("max_size", "10000");
	add("created_after", "2026-11-22");
	add("created_before", "2026-11-22T13:00:00.123Z");
	add("attr.project.phase", "two");
	add("attr.project.name", "three");
	add("attr.empty", "");
	add("sort", "-size");
	add("limit", "1000");
	assert_string_equal(query.q, "rep");
	assert_string_equal(query.name, "report.pdf");
	assert_string_equal(query.type, "image/png");
	assert_null(query.type_major);
	assert_int_equal(query.tag_count, 2);
	assert_string_equal(query.tags[0], "q4");
	assert_string_equal(query.owner, "ana");
	assert_true(query.has_sha256);
	assert_int_equal(query.sha256[0], 0xBA);
	assert_int_equal(query.min_size, 524288);
	assert_int_equal(query.max_size, 10000);
	assert_true(query.created_after == 1795305600000);
	assert_true(query.created_before == 1795352400123);
	assert_int_equal(query.attribute_count, 3);
	assert_string_equal(query.attributes[1].path, "project.name");
	assert_string_equal(query.attributes[1].value, "three");
	assert_string_equal(query.attributes[2].value, "");
	assert_int_equal(query.sort, LIST_SORT_SIZE);
	assert_true(query.descending);
	assert_int_equal(query.limit, 1000);
}

static void a_type_may_be_half_a_type(void **state)
{
	(void)state;
	add("type", "image/*");
	assert_null(query.type);
	assert_string_equal(query.type_major, "image");
}

static void a_type_of_anything_is_no_filter(void **state)
{
	(void)state;
	add("type", "*/*");
	assert_null(query.type);
	assert_null(query.type_major);
}

static void every_sort_has_two_directions(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum list_sort sort;
		bool descending;
	} rows[] = {
		{"created_at", LIST_SORT_CREATED, false}, {"-created_at", LIST_SORT_CREATED, true},
		{"name", LIST_SORT_NAME, false},          {"-name", LIST_SORT_NAME, true},
		{"size", LIST_SORT_SIZE, false},          {"-size", LIST_SORT_SIZE, true}};
	for (size_t i = 0; i < COUNT(rows); i++) {
		list_query_init(&query);
		add("sort", rows[i].text);
		assert_int_equal(query.sort, rows[i].sort);
		assert_int_equal(query.descending, rows[i].descending);
	}
}

/* A form for searching sends all of its fields. */
static void empty_fields_of_a_search_form_are_not_given(void **state)
{
	(void)state;
	struct err err;
	add("q", "");
	add("type", "");
	add("tag", "");
	add("tag", "");
	add("sort", "");
	add("cursor", "");
	assert_int_equal(list_query_finish(&query, &arena, &err), 0);
	assert_null(query.q);
	assert_null(query.type);
	assert_int_equal(query.tag_count, 0);
	assert_int_equal(query.sort, LIST_SORT_CREATED);
	assert_false(query.has_position);
}

static void only_tags_may_repeat(void **state)
{
	(void)state;
	add("q", "");
	refuse("q", "x");
	add("limit", "1");
	refuse("limit", "1");
	add("sort", "name");
	refuse("sort", "name");
	add("cursor", "x");
	refuse("cursor", "x");
	add("attr.a", "x");
	add("attr.a.b", "x");
	refuse("attr.a", "x");
	refuse("attr.a.b", "y");
	add("tag", "x");
	add("tag", "x");
}

static void an_unknown_parameter_is_named(void **state)
{
	(void)state;
	refuse("colour", "red");
	refuse("Q", "x");
	refuse("attr", "x");
	refuse("", "x");
}

static void wrong_values_are_refused_by_name(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
		{"q", "\xFF"},
		{"name", ""},
		{"name", "\xC0\xAF"},
		{"owner", ""},
		{"type", "image"},
		{"type", "image/"},
		{"type", "/png"},
		{"type", "*"},
		{"type", "*/png"},
		{"type", "image/png; q=1"},
		{"type", "image/p*;x"},
		{"type", "image /png"},
		{"type", "i mage/*"},
		{"tag", " "},
		{"tag", "a,b"},
		{"tag", "a\nb"},
		{"sha256", ""},
		{"sha256", "abc"},
		{"sha256", "zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"min_size", ""},
		{"min_size", "-1"},
		{"min_size", "1.5"},
		{"max_size", "big"},
		{"created_after", ""},
		{"created_after", "yesterday"},
		{"created_before", "2026-13-01"},
		{"sort", "date"},
		{"sort", "--name"},
		{"sort", "-"},
		{"sort", "name,size"},
		{"sort", "NAME"},
		{"limit", ""},
		{"limit", "0"},
		{"limit", "1001"},
		{"limit", "-5"},
		{"limit", "5x"},
		{"limit", "99999999999999999999999"},
		{"limit", "+5"},
		{"limit", " 5"},
		{"attr.", "x"},
		{"attr..a", "x"},
		{"attr.a.", "x"},
		{"attr.a..b", "x"},
		{"attr.a", "\xFF"},
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		list_query_init(&query);
		refuse(wrong[i][0], wrong[i][1]);
	}
}

static void tags_and_attributes_are_bounded(void **state)
{
	(void)state;
	for (int i = 0; i < LIST_TAGS_MAX; i++)
		add("tag", "x");
	refuse("tag", "x");
	for (int i = 0; i < LIST_ATTRIBUTES_MAX; i++) {
		char key[32];
		snprintf(key, sizeof(key), "attr.a%d", i);
		add(key, "x");
	}
	refuse("attr.b", "x");
}

static void memory_that_is_not_there_is_said_to_be(void **state)
{
	(void)state;
	struct err err;
	struct arena small;
	arena_init(&small, 0);
	assert_int_equal(list_query_add(&query, &small, "q", "x", &err), -1);
	assert_int_equal(err.kind, ERR_NO_MEMORY);
}

/* --- the cursor --- */

static const struct uuid some_id = {{1, 2, 3, 4, 5, 6, 0x77, 8, 0x99, 10, 11, 12, 13, 14, 15, 16}};

static void encode(int64_t number, const char *name, struct buf *out)
{
	buf_init(out, 4096);
	list_cursor_encode(&query, number, name, &some_id, out);
	assert_false(out->failed);
}

/* A new query with these parameters, and this cursor. */
static int resume(const char *const parameters[][2], size_t n, const char *cursor, struct err *err)
{
	list_query_init(&query);
	for (size_t i = 0; i < n; i++)
		add(parameters[i][0], parameters[i][1]);
	if (list_query_add(&query, &arena, "cursor", cursor, err) < 0)
		return -1;
	return list_query_finish(&query, &arena, err);
}

static void a_cursor_resumes_where_it_was_made(void **state)
{
	(void)state;
	static const char *const by_size[][2] = {
		{"sort", "size"}, {"tag", "a"}, {"tag", "b"}, {"limit", "10"}};
	static const char *const other_order[][2] = {
		{"limit", "20"}, {"tag", "b"}, {"tag", "a"}, {"sort", "size"}};
	struct err err;
	struct buf cursor;
	for (size_t i = 0; i < COUNT(by_size); i++)
		add(by_size[i][0], by_size[i][1]);
	encode(INT64_MAX, NULL, &cursor);
	assert_int_equal(strspn(buf_text(&cursor),
				"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
			 cursor.len);
	assert_int_equal(resume(by_size, COUNT(by_size), buf_text(&cursor), &err), 0);
	assert_true(query.has_position);
	assert_true(query.position_number == INT64_MAX);
	assert_memory_equal(&query.position_id, &some_id, sizeof(some_id));
	assert_int_equal(resume(other_order, COUNT(other_order), buf_text(&cursor), &err), 0);
	buf_release(&cursor);
}

static void the_order_of_attributes_does_not_matter_to_a_cursor(void **state)
{
	(void)state;
	static const char *const one[][2] = {{"attr.b", "1"}, {"attr.a", "2"}, {"attr.c", "1"}};
	static const char *const other[][2] = {{"attr.c", "1"}, {"attr.a", "2"}, {"attr.b", "1"}};
	static const char *const swapped[][2] = {{"attr.c", "1"}, {"attr.b", "2"}, {"attr.a", "1"}};
	struct err err;
	struct buf cursor;
	for (size_t i = 0; i < COUNT(one); i++)
		add(one[i][0], one[i][1]);
	encode(1, NULL, &cursor);
	assert_int_equal(resume(other, COUNT(other), buf_text(&cursor), &err), 0);
	assert_int_equal(resume(swapped, COUNT(swapped), buf_text(&cursor), &err), -1);
	buf_release(&cursor);
}

static void a_cursor_by_name_carries_the_name(void **state)
{
	(void)state;
	static const char *const by_name[][2] = {{"sort", "-name"}};
	struct err err;
	char name[255 * 4 + 1];
	for (size_t i = 0; i < 255; i++)
		memcpy(name + 4 * i, "\xF0\x9F\x98\x80", 4);
	name[sizeof(name) - 1] = '\0';
	const char *const names[] = {"a", "", "na\xC3\xAFve", name};
	for (size_t i = 0; i < COUNT(names); i++) {
		struct buf cursor;
		list_query_init(&query);
		add("sort", "-name");
		encode(0, names[i], &cursor);
		if (resume(by_name, 1, buf_text(&cursor), &err) < 0)
			fail_msg("%s: %s", names[i], err.message);
		assert_string_equal(query.position_name, names[i]);
		buf_release(&cursor);
	}
}

static void a_cursor_is_bound_to_sort_direction_and_filters(void **state)
{
	(void)state;
	static const char *const others[][1][2] = {
		{{"sort", "created_at"}},
		{{"sort", "name"}},
		{{"sort", "-size"}},
		{{"q", "x"}},
		{{"name", "x"}},
		{{"type", "image/png"}},
		{{"type", "image/*"}},
		{{"tag", "x"}},
		{{"owner", "x"}},
		{{"min_size", "0"}},
		{{"max_size", "0"}},
		{{"created_after", "2026-01-01"}},
		{{"attr.a", "b"}},
		{{"created_before", "2026-01-01"}},
		{{"sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}},
	};
	struct err err;
	struct buf cursor;
	encode(1795352400123, NULL, &cursor);
	assert_int_equal(resume(NULL, 0, buf_text(&cursor), &err), 0);
	for (size_t i = 0; i < COUNT(others); i++) {
		if (resume(others[i], 1, buf_text(&cursor), &err) == 0)
			fail_msg("%s=%s: taken", others[i][0][0], others[i][0][1]);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_int_equal(strncmp(err.message, "cursor: ", 8), 0);
	}
	buf_release(&cursor);
}

static void a_cursor_with_any_character_changed_is_refused(void **state)
{
	(void)state;
	struct err err;
	struct buf cursor;
	encode(1795352400123, NULL, &cursor);
	for (size_t i = 0; i < cursor.len; i++) {
		char was = cursor.data[i];
		for (const char *c = "A_-z9+/=. "; *c != '\0'; c++) {
			if (*c == was)
				continue;
			cursor.data[i] = *c;
			if (resume(NULL, 0, buf_text(&cursor), &err) == 0)
				fail_msg("%s: taken", buf_text(&cursor));
		}
		cursor.data[i] = was;
	}
	for (size_t n = 1; n < cursor.len; n++) {
		char was = cursor.data[n];
		cursor.data[n] = '\0';
		assert_int_equal(resume(NULL, 0, buf_text(&cursor), &err), -1);
		cursor.data[n] = was;
	}
	buf_putc(&cursor, 'A');
	assert_int_equal(resume(NULL, 0, buf_text(&cursor), &err), -1);
	buf_release(&cursor);
}

static void a_cursor_that_is_far_too_long_is_refused(void **state)
{
	(void)state;
	struct err err;
	char text[3000];
	memset(text, 'A', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(resume(NULL, 0, text, &err), -1);
	text[1600] = '\0';
	assert_int_equal(resume(NULL, 0, text, &err), -1);
}

/* Whoever knows the checksum can forge one; what they get must still be something a database can be asked. */
static void a_forged_number_that_no_file_has_is_refused(void **state)
{
	(void)state;
	static const char *const by_size[][2] = {{"sort", "size"}};
	struct err err;
	struct buf cursor;
	encode(INT64_MIN, NULL, &cursor);
	assert_int_equal(resume(NULL, 0, buf_text(&cursor), &err), -1);
	buf_release(&cursor);
	list_query_init(&query);
	add("sort", "size");
	encode(-1, NULL, &cursor);
	assert_int_equal(resume(by_size, 1, buf_text(&cursor), &err), -1);
	buf_release(&cursor);
}

static void a_forged_name_that_is_no_text_is_refused(void **state)
{
	(void)state;
	static const char *const by_name[][2] = {{"sort", "name"}};
	struct err err;
	struct buf cursor;
	add("sort", "name");
	encode(0, "a\xFF", &cursor);
	assert_int_equal(resume(by_name, 1, buf_text(&cursor), &err), -1);
	buf_release(&cursor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_list_begins_with_the_newest_fifty),
		TEST(every_parameter_finds_its_place),
		TEST(a_type_may_be_half_a_type),
		TEST(a_type_of_anything_is_no_filter),
		TEST(every_sort_has_two_directions),
		TEST(empty_fields_of_a_search_form_are_not_given),
		TEST(only_tags_may_repeat),
		TEST(an_unknown_parameter_is_named),
		TEST(wrong_values_are_refused_by_name),
		TEST(tags_and_attributes_are_bounded),
		TEST(memory_that_is_not_there_is_said_to_be),
		TEST(a_cursor_resumes_where_it_was_made),
		TEST(the_order_of_attributes_does_not_matter_to_a_cursor),
		TEST(a_cursor_by_name_carries_the_name),
		TEST(a_cursor_is_bound_to_sort_direction_and_filters),
		TEST(a_cursor_with_any_character_changed_is_refused),
		TEST(a_cursor_that_is_far_too_long_is_refused),
		TEST(a_forged_number_that_no_file_has_is_refused),
		TEST(a_forged_name_that_is_no_text_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
