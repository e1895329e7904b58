/* Labels gathered from text fields. */
#include <stdio.h>

#include "depotd/model/attributes.h"
#include "unit.h"

static struct file_labels labels;

static int setup(void **state)
{
	(void)state;
	struct err err;
	return file_labels_init(&labels, &err);
}

static int teardown(void **state)
{
	(void)state;
	file_labels_release(&labels);
	return 0;
}

static void add(const char *key, const char *value)
{
	struct err err;
	if (file_labels_add(&labels, key, value, strlen(value), &err) < 0)
		fail_msg("%s=%s: %s", key, value, err.message);
}

static void refuse_n(const char *key, const char *value, size_t n)
{
	struct err err = {.kind = ERR_NONE};
	if (file_labels_add(&labels, key, value, n, &err) == 0)
		fail_msg("%s=%s: taken", key, value);
	assert_int_equal(err.kind, ERR_INVALID);
}

static void refuse(const char *key, const char *value)
{
	refuse_n(key, value, strlen(value));
}

static void assert_json(const json_t *value, const char *expected)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	json_print(value, &out);
	assert_string_equal(buf_text(&out), expected);
	buf_release(&out);
}

static void labels_begin_with_nothing(void **state)
{
	(void)state;
	assert_json(labels.tags, "[]");
	assert_json(labels.attributes, "{}");
	assert_int_equal(labels.expires_in_ms, 0);
	assert_int_equal(labels.visibility, VISIBILITY_PRIVATE);
}

static void tags_are_split_at_commas_and_a_repeated_field_adds(void **state)
{
	(void)state;
	add("tags", "q4, report ,,q4");
	add("tags", "x");
	add("tags", "");
	add("tags", " , ");
	assert_json(labels.tags, "[\"q4\",\"report\",\"x\"]");
}

static void a_wrong_tag_names_the_field(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(file_labels_add(&labels, "tags", "ok,bad\n", 7, &err), -1);
	assert_int_equal(strncmp(err.message, "tags: ", 6), 0);
	refuse_n("tags", "a\0b", 3);
}

static void there_are_at_most_64_tags(void **state)
{
	(void)state;
	for (int i = 0; i < TAGS_MAX; i++) {
		char tag[16];
		snprintf(tag, sizeof(tag), "t%d", i);
		add("tags", tag);
	}
	add("tags", "t0");
	refuse("tags", "one-more");
}

static void expires_in_is_seconds_or_has_a_unit(void **state)
{
	(void)state;
	add("expires_in", "");
	assert_false(labels.seen_expires);
	add("expires_in", "90m");
	assert_int_equal(labels.expires_in_ms, 5400000);
	assert_true(labels.seen_expires);
	refuse("expires_in", "90m");
}

static void an_expiry_that_is_none_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"0", "-1", "soon", "1.5h", "0s", "400000d", "99999999999999999999"};
	for (size_t i = 0; i < COUNT(wrong); i++)
		refuse("expires_in", wrong[i]);
	refuse_n("expires_in", "90\0m", 4);
}

static void visibility_is_private_or_public(void **state)
{
	(void)state;
	refuse("visibility", "secret");
	refuse("visibility", "Public");
	refuse_n("visibility", "public\0", 7);
	add("visibility", "");
	add("visibility", "public");
	assert_int_equal(labels.visibility, VISIBILITY_PUBLIC);
	refuse("visibility", "private");
}

static void any_other_field_is_an_attribute(void **state)
{
	(void)state;
	add("project", "apollo");
	add("note", "two\r\nlines \xF0\x9F\x98\x80");
	add("empty", "");
	assert_json(labels.attributes, "{\"empty\":\"\",\"note\":\"two\\r\\nlines "
				       "\xF0\x9F\x98\x80\",\"project\":\"apollo\"}");
}

static void a_repeated_attribute_makes_an_array(void **state)
{
	(void)state;
	add("a", "1");
	add("a", "2");
	add("a", "3");
	assert_json(labels.attributes, "{\"a\":[\"1\",\"2\",\"3\"]}");
}

static void a_dot_in_the_key_nests(void **state)
{
	(void)state;
	add("a.b.c", "1");
	add("a.b.d", "2");
	add("a.e", "3");
	add("a.e", "4");
	assert_json(labels.attributes,
		    "{\"a\":{\"b\":{\"c\":\"1\",\"d\":\"2\"},\"e\":[\"3\",\"4\"]}}");
}

static void a_key_cannot_be_value_and_object_at_once(void **state)
{
	(void)state;
	add("a", "1");
	refuse("a.b", "2");
	add("c.d", "1");
	refuse("c", "2");
	add("e", "1");
	add("e", "2");
	refuse("e.f", "3");
}

static void wrong_keys_are_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"", ".", "a.", ".a", "a..b", "a\nb", "\xFF", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q"};
	for (size_t i = 0; i < COUNT(wrong); i++)
		refuse(wrong[i], "x");
	char key[ATTRIBUTE_KEY_MAX + 2];
	memset(key, 'k', sizeof(key));
	key[ATTRIBUTE_KEY_MAX + 1] = '\0';
	refuse(key, "x");
	key[ATTRIBUTE_KEY_MAX] = '\0';
	add(key, "x");
}

static void wrong_values_are_refused(void **state)
{
	(void)state;
	refuse("a", "\xFF");
	refuse_n("a", "x\0y", 3);
	assert_json(labels.attributes, "{}");
}

/* What was taken can always be printed within the bound, whatever its characters become. */
static void all_attributes_together_are_bounded_as_json(void **state)
{
	(void)state;
	struct err err;
	char value[1024];
	memset(value, '\x01', sizeof(value));
	int taken = 0;
	while (file_labels_add(&labels, "deep.er.key", value, sizeof(value), &err) == 0)
		taken++;
	assert_int_equal(err.kind, ERR_INVALID);
	assert_true(taken > 5);
	struct buf out;
	buf_init(&out, ATTRIBUTES_MAX_BYTES);
	json_print(labels.attributes, &out);
	assert_false(out.failed);
	buf_release(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(labels_begin_with_nothing),
		TEST(tags_are_split_at_commas_and_a_repeated_field_adds),
		TEST(a_wrong_tag_names_the_field),
		TEST(there_are_at_most_64_tags),
		TEST(expires_in_is_seconds_or_has_a_unit),
		TEST(an_expiry_that_is_none_is_refused),
		TEST(visibility_is_private_or_public),
		TEST(any_other_field_is_an_attribute),
		TEST(a_repeated_attribute_makes_an_array),
		TEST(a_dot_in_the_key_nests),
		TEST(a_key_cannot_be_value_and_object_at_once),
		TEST(wrong_keys_are_refused),
		TEST(wrong_values_are_refused),
		TEST(all_attributes_together_are_bounded_as_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
