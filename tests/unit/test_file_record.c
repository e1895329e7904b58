/* The file record, its two JSON forms, and the merge patch. */
#include <stdio.h>

#include "depotd/model/attributes.h"
#include "depotd/model/file_record.h"
#include "unit.h"

static const struct file_record sample = {
	.id = {{0x01, 0x92, 0xf0, 0xc1, 0, 0, 0x7a, 0xbc, 0x8d, 0xef, 1, 2, 3, 4, 5, 6}},
	.size = 12345,
	.created_ms = 1795352400123,
	.expires_ms = FILE_EXPIRES_NEVER,
	.revision = 3,
	.sha256 = {0xAB, 0xCD},
	.visibility = VISIBILITY_PRIVATE,
	.name = "report.pdf",
	.type = "application/pdf",
	.sniffed = "application/pdf",
	.owner = NULL,
	.tags = "[\"q4\"]",
	.attributes = "{\"project\":\"apollo\"}",
};

static void a_record_is_a_copy_of_its_own(void **state)
{
	(void)state;
	char name[] = "before";
	struct file_record from = sample;
	from.name = name;
	struct file_record *record = file_record_new(&from);
	memcpy(name, "after!", 6);
	assert_string_equal(record->name, "before");
	assert_null(record->owner);
	assert_int_equal(record->size, 12345);
	struct file_record *again = file_record_ref(record);
	assert_ptr_equal(again, record);
	file_record_unref(&record);
	assert_null(record);
	assert_string_equal(again->type, "application/pdf");
	file_record_unref(&again);
	file_record_unref(&again);
}

static void a_record_without_labels_has_empty_ones(void **state)
{
	(void)state;
	struct file_record from = sample;
	from.tags = from.attributes = NULL;
	struct file_record *record = file_record_new(&from);
	assert_string_equal(record->tags, "[]");
	assert_string_equal(record->attributes, "{}");
	file_record_unref(&record);
}

static void the_file_object_has_its_members_in_the_documented_order(void **state)
{
	(void)state;
	struct buf out;
	struct json_writer w;
	buf_init(&out, 10000);
	json_writer_init(&w, &out);
	file_record_json(&sample, &w);
	assert_string_equal(
		buf_text(&out),
		"{\"id\":\"0192f0c1-0000-7abc-8def-010203040506\",\"name\":\"report.pdf\","
		"\"size\":12345,\"type\":\"application/pdf\","
		"\"sha256\":\"abcd000000000000000000000000000000000000000000000000000000000000\","
		"\"created_at\":\"2026-11-22T13:00:00.123Z\",\"expires_at\":null,\"owner\":null,"
		"\"visibility\":\"private\",\"tags\":[\"q4\"],\"attributes\":{\"project\":"
		"\"apollo\"},"
		"\"url\":\"/files/0192f0c1-0000-7abc-8def-010203040506\"}");
	buf_release(&out);
}

static void assert_same(const struct file_record *a, const struct file_record *b)
{
	assert_memory_equal(&a->id, &b->id, sizeof(a->id));
	assert_memory_equal(a->sha256, b->sha256, SHA256_LEN);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->created_ms, b->created_ms);
	assert_int_equal(a->expires_ms, b->expires_ms);
	assert_int_equal(a->revision, b->revision);
	assert_int_equal(a->visibility, b->visibility);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->type, b->type);
	assert_int_equal(a->sniffed == NULL, b->sniffed == NULL);
	assert_string_equal(a->sniffed != NULL ? a->sniffed : "",
			    b->sniffed != NULL ? b->sniffed : "");
	assert_int_equal(a->owner == NULL, b->owner == NULL);
	assert_string_equal(a->owner != NULL ? a->owner : "", b->owner != NULL ? b->owner : "");
	assert_string_equal(a->tags, b->tags);
	assert_string_equal(a->attributes, b->attributes);
}

static void a_description_brings_the_whole_record_back(void **state)
{
	(void)state;
	struct file_record other = sample;
	other.name = "na\xC3\xAFve \"x\".txt";
	other.owner = "ana";
	other.sniffed = NULL;
	other.visibility = VISIBILITY_PUBLIC;
	other.expires_ms = 1795352400999;
	other.attributes = "{\"a\":{\"b\":[1,2.5,null]}}";
	const struct file_record *const records[] = {&sample, &other};
	for (size_t i = 0; i < COUNT(records); i++) {
		struct buf out;
		struct err err;
		struct file_record *back = NULL;
		buf_init(&out, 10000);
		file_record_describe(records[i], &out);
		assert_int_equal(strncmp(buf_text(&out), "{\"v\":1,", 7), 0);
		if (!file_record_from_description(buf_text(&out), out.len, &back, &err))
			fail_msg("%s", err.message);
		assert_same(records[i], back);
		file_record_unref(&back);
		buf_release(&out);
	}
}

static const struct file_record plain = {
	.id = {{0x01, 0x92, 0xF0, 0xC1, 0xAB, 0xCD, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 9}},
	.name = "IMG_2026.jpg",
	.type = "image/jpeg",
	.sniffed = "image/jpeg",
	.size = 4096,
	.created_ms = 0x0192F0C1ABCD + 130,
	.expires_ms = FILE_EXPIRES_NEVER,
	.revision = 1,
	.sha256 = {0xAB, 0, 0xFF},
	.tags = "[]",
	.attributes = "{}",
};

static void a_plain_record_has_a_short_description(void **state)
{
	(void)state;
	struct file_record records[] = {plain, plain, plain, plain, plain};
	records[1].sniffed = NULL;
	records[1].type = "text/plain";
	records[1].visibility = VISIBILITY_PUBLIC;
	records[1].name = "\xC3\xBC";
	records[2].size = INT64_C(1) << 60;
	records[2].created_ms -= 1000000;
	records[3].size = 0;
	records[3].created_ms = 0;
	records[4].created_ms = -55000000000000; /* a clock of the year 227 */
	for (size_t i = 0; i < COUNT(records); i++) {
		struct buf out;
		struct err err;
		struct file_record *back = NULL;
		buf_init(&out, 10000);
		assert_true(file_record_pack(&records[i], &out));
		assert_true(out.len <= FILE_PACKED_MAX);
		if (!file_record_unpack(&records[i].id, out.data, out.len, &back, &err))
			fail_msg("%s", err.message);
		assert_same(&records[i], back);
		file_record_unref(&back);
		for (size_t n = 0; n < out.len; n++) /* cut anywhere but in the name */
			if (n < out.len - strlen(records[i].name) + 1)
				assert_int_equal(file_record_unpack(&records[i].id, out.data, n,
								    &back, &err),
						 0);
		buf_release(&out);
	}
}

static void a_record_with_more_to_tell_has_a_long_description(void **state)
{
	(void)state;
	struct file_record records[9];
	struct buf out;
	for (size_t i = 0; i < COUNT(records); i++)
		records[i] = plain;
	records[0].owner = "ana";
	records[1].tags = "[\"q4\"]";
	records[2].attributes = "{\"a\":1}";
	records[3].expires_ms = 1795352400999;
	records[4].revision = 2;
	records[5].type = "application/x-rare";
	records[6].sniffed = "image/png";
	records[7].name = "a name that is too long for what an inode has room for.jpg";
	records[8].owner = "";
	buf_init(&out, 10000);
	for (size_t i = 0; i < COUNT(records); i++)
		assert_false(file_record_pack(&records[i], &out));
	buf_release(&out);
}

static void either_form_of_a_description_is_read(void **state)
{
	(void)state;
	struct buf out;
	struct err err;
	struct file_record *back = NULL;
	buf_init(&out, 10000);
	file_record_describe(&sample, &out);
	assert_int_equal(file_record_unpack(&plain.id, out.data, out.len, &back, &err), 1);
	assert_same(&sample, back);
	file_record_unref(&back);
	buf_release(&out);
}

static void what_is_no_short_description_is_refused(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		char byte;
	} wrong[] = {{0, 'x'}, {1, 4}, {2, 100}, {35, (char)0x80}, {38, '/'}, {38, 0}, {38, '\n'}};
	struct buf out;
	struct err err;
	struct file_record *back = NULL;
	buf_init(&out, 10000);
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct file_record record = plain;
		record.size = 5;
		assert_true(file_record_pack(&record, &out));
		out.data[wrong[i].at] = wrong[i].byte;
		if (wrong[i].at == 35)
			out.data[36] = 0; /* a number in more bytes than it takes */
		if (file_record_unpack(&plain.id, out.data, out.len, &back, &err))
			fail_msg("%zu: taken", i);
		assert_int_equal(err.kind, ERR_INVALID);
	}
	buf_release(&out);
}

/* The sample's description with one text in it replaced. */
static int describe_and_read(const char *from, const char *to)
{
	struct buf out, changed;
	struct err err = {.kind = ERR_NONE};
	struct file_record *back = NULL;
	buf_init(&out, 10000);
	buf_init(&changed, 10000);
	file_record_describe(&sample, &out);
	const char *text = buf_text(&out), *at = strstr(text, from);
	assert_non_null(at);
	buf_append(&changed, text, (size_t)(at - text));
	buf_puts(&changed, to);
	buf_puts(&changed, at + strlen(from));
	int result = file_record_from_description(buf_text(&changed), changed.len, &back, &err);
	assert_int_equal(err.kind, result ? ERR_NONE : ERR_INVALID);
	file_record_unref(&back);
	buf_release(&out);
	buf_release(&changed);
	return result;
}

static void what_is_no_description_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
		{"\"v\":1", "\"v\":2"},
		{"\"v\":1", "\"v\":\"1\""},
		{"0192f0c1-", "0192f0c1+"},
		{"\"report.pdf\"", "\"a/b\""},
		{"\"report.pdf\"", "\"\""},
		{"\"report.pdf\"", "null"},
		{"12345", "-1"},
		{"12345", "1.5"},
		{"abcd00", "abcd0"},
		{"2026-11-22", "2026-13-22"},
		{"\"expires_at\":null", "\"expires_at\":7"},
		{"\"owner\":null", "\"owner\":[]"},
		{"\"private\"", "\"secret\""},
		{"[\"q4\"]", "{}"},
		{"[\"q4\"]", "[4]"},
		{"{\"project\":\"apollo\"}", "[]"},
		{"\"revision\":3", "\"revision\":0"},
		{"\"application/pdf\",\"sha256\"", "\"nonsense\",\"sha256\""},
		{"\"sniffed\":\"application/pdf\"", "\"sniffed\":3"},
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (describe_and_read(wrong[i][0], wrong[i][1]))
			fail_msg("%s for %s: taken", wrong[i][1], wrong[i][0]);
	}
	struct err err;
	struct file_record *none = NULL;
	assert_int_equal(file_record_from_description("[]", 2, &none, &err), 0);
	assert_int_equal(file_record_from_description("", 0, &none, &err), 0);
}

static void a_description_may_know_more_than_we_do(void **state)
{
	(void)state;
	assert_int_equal(describe_and_read("\"v\":1", "\"v\":1,\"later\":{\"x\":[]}"), 1);
}

/* --- patch --- */

static struct file_record *patch(const char *text, struct err *err)
{
	struct file_record *out = NULL;
	err_clear(err);
	if (file_record_patch(&sample, text, strlen(text), &out, err) < 0) {
		assert_null(out);
		return NULL;
	}
	return out;
}

static struct file_record *patched(const char *text)
{
	struct err err;
	struct file_record *record = patch(text, &err);
	if (record == NULL)
		fail_msg("%s: %s", text, err.message);
	return record;
}

static void a_patch_changes_what_it_names_and_counts_the_revision(void **state)
{
	(void)state;
	struct file_record *r = patched(
		"{\"name\":\"new.pdf\",\"tags\":[\"a\",\" b \",\"a\"],\"visibility\":\"public\","
		"\"expires_at\":\"2030-01-01T00:00:00Z\",\"attributes\":{\"z\":[1,{\"y\":null}]}}");
	assert_string_equal(r->name, "new.pdf");
	assert_string_equal(r->tags, "[\"a\",\"b\"]");
	assert_int_equal(r->visibility, VISIBILITY_PUBLIC);
	assert_int_equal(r->expires_ms, 1893456000000);
	assert_string_equal(r->attributes, "{\"project\":\"apollo\",\"z\":[1,{\"y\":null}]}");
	assert_int_equal(r->revision, 4);
	assert_string_equal(r->type, sample.type);
	assert_int_equal(r->size, sample.size);
	file_record_unref(&r);
}

static void null_in_a_patch_removes_the_member(void **state)
{
	(void)state;
	struct file_record *r =
		patched("{\"tags\":null,\"attributes\":{\"project\":null,\"none\":null}}");
	assert_string_equal(r->tags, "[]");
	assert_string_equal(r->attributes, "{}");
	file_record_unref(&r);
	r = patched("{\"attributes\":null,\"expires_at\":null,\"visibility\":null}");
	assert_string_equal(r->attributes, "{}");
	assert_int_equal(r->expires_ms, FILE_EXPIRES_NEVER);
	assert_int_equal(r->visibility, VISIBILITY_PRIVATE);
	file_record_unref(&r);
}

static void a_patch_that_changes_nothing_keeps_the_revision(void **state)
{
	(void)state;
	static const char *const nothing[] = {
		"{}", "{\"name\":\"report.pdf\"}", "{\"tags\":[\"q4\"]}",
		"{\"attributes\":{\"project\":\"apollo\"}}", "{\"attributes\":{\"none\":null}}"};
	for (size_t i = 0; i < COUNT(nothing); i++) {
		struct file_record *r = patched(nothing[i]);
		assert_int_equal(r->revision, 3);
		assert_same(r, &sample);
		file_record_unref(&r);
	}
}

static void a_patched_name_is_cleaned_like_any_other(void **state)
{
	(void)state;
	struct file_record *r = patched("{\"name\":\"dir/x.txt\"}");
	assert_string_equal(r->name, "x.txt");
	file_record_unref(&r);
}

/* FILE_EXPIRES_NEVER is zero, and so is the epoch. */
static void a_file_that_expired_at_the_epoch_did_expire(void **state)
{
	(void)state;
	struct file_record *r = patched("{\"expires_at\":\"1970-01-01T00:00:00Z\"}");
	assert_true(r->expires_ms != FILE_EXPIRES_NEVER);
	file_record_unref(&r);
}

static void a_wrong_patch_names_the_member(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
		{"{\"size\":1}", "size"},
		{"{\"id\":null}", "id"},
		{"{\"name\":null}", "name"},
		{"{\"name\":7}", "name"},
		{"{\"name\":\"a\\nb\"}", "name"},
		{"{\"tags\":\"a\"}", "tags"},
		{"{\"tags\":[1]}", "tags[0]"},
		{"{\"tags\":[\"a\",\"b,c\"]}", "tags"},
		{"{\"tags\":[\"\"]}", "tags"},
		{"{\"attributes\":[]}", "attributes"},
		{"{\"attributes\":\"x\"}", "attributes"},
		{"{\"visibility\":\"secret\"}", "visibility"},
		{"{\"visibility\":true}", "visibility"},
		{"{\"expires_at\":\"tomorrow\"}", "expires_at"},
		{"{\"expires_at\":0}", "expires_at"},
		{"{\"expires_at\":\"\"}", "expires_at"},
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct err err;
		assert_null(patch(wrong[i][0], &err));
		assert_int_equal(err.kind, ERR_INVALID);
		if (strncmp(err.message, wrong[i][1], strlen(wrong[i][1])) != 0)
			fail_msg("%s: %s", wrong[i][0], err.message);
	}
}

static void what_is_no_json_object_is_no_patch(void **state)
{
	(void)state;
	static const char *const wrong[] = {"",
					    "[]",
					    "null",
					    "7",
					    "{",
					    "{\"name\":\"a\",\"name\":\"b\"}",
					    "{\"attributes\":{\"a\":\"\\u0000\"}}"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct err err;
		assert_null(patch(wrong[i], &err));
		assert_int_equal(err.kind, ERR_INVALID);
	}
}

static void tags_and_attributes_of_a_patch_are_bounded(void **state)
{
	(void)state;
	struct buf text;
	struct err err;
	buf_init(&text, 1 << 20);
	buf_puts(&text, "{\"tags\":[\"x\"");
	for (int i = 0; i < TAGS_MAX; i++)
		buf_printf(&text, ",\"t%d\"", i);
	buf_puts(&text, "]}");
	assert_null(patch(buf_text(&text), &err));
	assert_int_equal(err.kind, ERR_INVALID);
	buf_reset(&text);
	buf_puts(&text, "{\"attributes\":{\"a\":\"");
	for (int i = 0; i < ATTRIBUTES_MAX_BYTES; i++)
		buf_putc(&text, 'x');
	buf_puts(&text, "\"}}");
	assert_null(patch(buf_text(&text), &err));
	assert_int_equal(err.kind, ERR_INVALID);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_a_copy_of_its_own),
		cmocka_unit_test(a_record_without_labels_has_empty_ones),
		cmocka_unit_test(the_file_object_has_its_members_in_the_documented_order),
		cmocka_unit_test(a_description_brings_the_whole_record_back),
		cmocka_unit_test(a_plain_record_has_a_short_description),
		cmocka_unit_test(a_record_with_more_to_tell_has_a_long_description),
		cmocka_unit_test(either_form_of_a_description_is_read),
		cmocka_unit_test(what_is_no_short_description_is_refused),
		cmocka_unit_test(what_is_no_description_is_refused),
		cmocka_unit_test(a_description_may_know_more_than_we_do),
		cmocka_unit_test(a_patch_changes_what_it_names_and_counts_the_revision),
		cmocka_unit_test(null_in_a_patch_removes_the_member),
		cmocka_unit_test(a_patch_that_changes_nothing_keeps_the_revision),
		cmocka_unit_test(a_patched_name_is_cleaned_like_any_other),
		cmocka_unit_test(a_file_that_expired_at_the_epoch_did_expire),
		cmocka_unit_test(a_wrong_patch_names_the_member),
		cmocka_unit_test(what_is_no_json_object_is_no_patch),
		cmocka_unit_test(tags_and_attributes_of_a_patch_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
