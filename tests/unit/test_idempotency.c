/* Idempotency-Key as it is sent, the fingerprint of a request, and a key as it is kept. */
#include "depotd/model/idempotency.h"
#include "unit.h"

/* --- the field --- */

static void assert_key(const char *value, const char *expected)
{
	char key[IDEMPOTENCY_KEY_MAX + 1];
	struct err err = {0};
	if (idempotency_key_parse(value, key, &err) < 0)
		fail_msg("%s: %s", value, err.message);
	assert_string_equal(key, expected);
}

static void assert_malformed(const char *value)
{
	char key[IDEMPOTENCY_KEY_MAX + 1] = "untouched";
	struct err err = {0};
	if (idempotency_key_parse(value, key, &err) == 0)
		fail_msg("%s was taken as %s", value, key);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.message, "Idempotency-Key"));
	assert_string_equal(key, "untouched");
}

static void a_key_is_a_string_in_double_quotes(void **state)
{
	(void)state;
	assert_key("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
		   "8e03978e-40d5-43dd-bc93-6894a57f9324");
	assert_key("\"a b, c; d\"", "a b, c; d");
	assert_key("\" \"", " ");
	assert_key("\"say \\\"x\\\\y\\\"\"", "say \"x\\y\"");
}

static void a_key_may_be_a_bare_word(void **state)
{
	(void)state;
	assert_key("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324");
	assert_key("YWJj+/8=", "YWJj+/8=");
	assert_key("order:17/retry", "order:17/retry");
	assert_key("7", "7");
}

static void blanks_around_and_parameters_behind_are_no_part_of_it(void **state)
{
	(void)state;
	assert_key(" \t\"k\" ", "k");
	assert_key("k\t", "k");
	assert_key("\"k\";a;b=1; c=\"x\";d=:YWJj:;e=?1;f=1.5;g=to/ken", "k");
}

static void what_is_neither_is_malformed(void **state)
{
	(void)state;
	static const char *const values[] = {
		"",
		" ",
		"\"\"",
		"\"",
		"\"open",
		"\"a\\\"",
		"\"a\\x\"",
		"a b",
		"a,b",
		"a, b",
		"a;b",
		"a\"b",
		"\"a\"b",
		"\"a\" b",
		"\"a\",\"b\"",
		"\"a\";",
		"\"a\";A",
		"\"a\";b=",
		"\"tab\there\"",
		"\x7F",
		"\"\x7F\"",
		"schl\xC3\xBCssel",
		"\"\xC3\xBC\"",
		"\\",
	};
	for (size_t i = 0; i < COUNT(values); i++)
		assert_malformed(values[i]);
}

static void a_key_has_at_most_255_characters(void **state)
{
	(void)state;
	char text[2 * 256 + 3], key[IDEMPOTENCY_KEY_MAX + 1];
	struct err err;
	for (size_t n = 255; n <= 256; n++) {
		memset(text, 'k', n);
		text[n] = '\0';
		assert_int_equal(idempotency_key_parse(text, key, &err), n == 255 ? 0 : -1);
		text[0] = '"';
		for (size_t i = 0; i < n; i++)
			memcpy(text + 1 + 2 * i, "\\\\", 2);
		memcpy(text + 1 + 2 * n, "\"", 2);
		assert_int_equal(idempotency_key_parse(text, key, &err), n == 255 ? 0 : -1);
	}
	assert_int_equal(strlen(key), 255);
}

/* --- the fingerprint --- */

struct meaning {
	const char *method, *tags, *name, *type, *attribute, *expires;
	int64_t size;
	unsigned char first_byte;
	size_t n;
};

static const struct meaning usual = {.method = "PUT",
				     .tags = "a",
				     .name = "report.pdf",
				     .type = "application/pdf",
				     .attribute = "1",
				     .expires = "1h",
				     .size = 5,
				     .n = 2};

static void add(struct file_labels *labels, const char *key, const char *value)
{
	struct err err;
	assert_int_equal(file_labels_add(labels, key, value, strlen(value), &err), 0);
}

static void fingerprint(const struct meaning *meaning, unsigned char out[SHA256_LEN])
{
	struct file_record record = {.name = meaning->name,
				     .size = meaning->size,
				     .type = meaning->type,
				     .id = uuid_new(),
				     .sha256 = {meaning->first_byte}};
	const struct file_record *files[] = {&record, &record, &record};
	struct file_labels labels;
	struct err err;
	assert_int_equal(file_labels_init(&labels, &err), 0);
	add(&labels, "tags", meaning->tags);
	add(&labels, "key", meaning->attribute);
	add(&labels, "expires_in", meaning->expires);
	assert_int_equal(idempotency_fingerprint(meaning->method, "/files", &labels, files,
						 meaning->n, out, &err),
			 0);
	file_labels_release(&labels);
}

static void the_same_meaning_has_the_same_fingerprint(void **state)
{
	(void)state;
	unsigned char one[SHA256_LEN], two[SHA256_LEN];
	struct meaning minutes = usual;
	minutes.expires = "60m";
	fingerprint(&usual, one);
	fingerprint(&minutes, two);
	assert_memory_equal(one, two, SHA256_LEN);
}

static void labels_that_say_nothing_are_the_same_whether_they_were_begun_or_not(void **state)
{
	(void)state;
	unsigned char one[SHA256_LEN], two[SHA256_LEN];
	struct file_record record = {.name = "a", .type = "text/plain"};
	const struct file_record *files[] = {&record};
	struct file_labels none = {0}, begun;
	struct err err;
	assert_int_equal(file_labels_init(&begun, &err), 0);
	assert_int_equal(idempotency_fingerprint("PUT", "/files", &none, files, 1, one, &err), 0);
	assert_int_equal(idempotency_fingerprint("PUT", "/files", &begun, files, 1, two, &err), 0);
	assert_memory_equal(one, two, SHA256_LEN);
	file_labels_release(&begun);
}

static void another_meaning_has_another_fingerprint(void **state)
{
	(void)state;
	struct meaning others[9];
	unsigned char one[SHA256_LEN], two[SHA256_LEN];
	for (size_t i = 0; i < COUNT(others); i++)
		others[i] = usual;
	others[0].method = "POST";
	others[1].tags = "a,b";
	others[2].name = "report.pdf2";
	others[3].type = "application/pd";
	others[4].attribute = "2";
	others[5].expires = "61m";
	others[6].size = 6;
	others[7].first_byte = 1;
	others[8].n = 3;
	fingerprint(&usual, one);
	for (size_t i = 0; i < COUNT(others); i++) {
		fingerprint(&others[i], two);
		assert_memory_not_equal(one, two, SHA256_LEN);
	}
}

/* A field's end is no part of its text: nothing may slide from one into the next. */
static void texts_do_not_run_into_each_other(void **state)
{
	(void)state;
	struct meaning left = usual, right = usual;
	unsigned char one[SHA256_LEN], two[SHA256_LEN];
	left.name = "a\",\"b";
	left.type = "c";
	right.name = "a";
	right.type = "b\",\"c";
	fingerprint(&left, one);
	fingerprint(&right, two);
	assert_memory_not_equal(one, two, SHA256_LEN);
}

/* Kept keys must answer repeats after an upgrade too. Another value here is a change of FINGERPRINT_VERSION, and of behaviour. */
static void the_fingerprint_of_a_request_never_changes(void **state)
{
	(void)state;
	unsigned char one[SHA256_LEN];
	char hex[SHA256_HEX_LEN + 1];
	fingerprint(&usual, one);
	hex_encode(one, SHA256_LEN, hex);
	assert_string_equal(hex,
			    "1d91808c87998f309ee98a6d0694f84712a65a73c1bbb4f09771a00e1923dd52");
}

/* --- kept --- */

static void a_kept_key_comes_back_as_it_was(void **state)
{
	(void)state;
	struct idempotency kept = {.key = "say \"x\\y\" ", .request = uuid_new()}, read = {0};
	struct err err;
	struct buf out;
	memset(kept.fingerprint, 0xA5, SHA256_LEN);
	buf_init(&out, 4096);
	idempotency_encode(&kept, &out);
	assert_int_equal(idempotency_decode(buf_text(&out), out.len, &read, &err), 1);
	assert_string_equal(read.key, kept.key);
	assert_memory_equal(read.fingerprint, kept.fingerprint, SHA256_LEN);
	assert_int_equal(uuid_compare(&read.request, &kept.request), 0);
	buf_release(&out);
}

#define HEX "00000000000000000000000000000000000000000000000000000000000000ff"
#define ID "0192f0c1-0000-7000-8000-000000000000"

static void what_is_damaged_is_no_key(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		"[]",
		"{}",
		"{\"key\":\"\",\"fingerprint\":\"" HEX "\",\"request\":\"" ID "\"}",
		"{\"key\":\"\xC3\xBC\",\"fingerprint\":\"" HEX "\",\"request\":\"" ID "\"}",
		"{\"key\":1,\"fingerprint\":\"" HEX "\",\"request\":\"" ID "\"}",
		"{\"key\":\"a\",\"fingerprint\":\"00\",\"request\":\"" ID "\"}",
		"{\"key\":\"a\",\"fingerprint\":\"" HEX "\",\"request\":\"no\"}",
		"{\"key\":\"a\",\"fingerprint\":\"" HEX "\",\"request\":\"" ID "\"} x",
	};
	struct idempotency read;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct err err = {0};
		assert_int_equal(idempotency_decode(texts[i], strlen(texts[i]), &read, &err), 0);
		assert_int_equal(err.kind, ERR_INVALID);
	}
}

static void members_that_a_later_version_adds_are_skipped(void **state)
{
	(void)state;
	static const char text[] =
		"{\"key\":\"a\",\"later\":[1],\"fingerprint\":\"" HEX "\",\"request\":\"" ID "\"}";
	struct idempotency read;
	struct err err;
	assert_int_equal(idempotency_decode(text, sizeof(text) - 1, &read, &err), 1);
	assert_string_equal(read.key, "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_a_string_in_double_quotes),
		cmocka_unit_test(a_key_may_be_a_bare_word),
		cmocka_unit_test(blanks_around_and_parameters_behind_are_no_part_of_it),
		cmocka_unit_test(what_is_neither_is_malformed),
		cmocka_unit_test(a_key_has_at_most_255_characters),
		cmocka_unit_test(the_same_meaning_has_the_same_fingerprint),
		cmocka_unit_test(
			labels_that_say_nothing_are_the_same_whether_they_were_begun_or_not),
		cmocka_unit_test(another_meaning_has_another_fingerprint),
		cmocka_unit_test(texts_do_not_run_into_each_other),
		cmocka_unit_test(the_fingerprint_of_a_request_never_changes),
		cmocka_unit_test(a_kept_key_comes_back_as_it_was),
		cmocka_unit_test(what_is_damaged_is_no_key),
		cmocka_unit_test(members_that_a_later_version_adds_are_skipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
