/* SHA-256, hexadecimal, base64, and the digest fields of RFC 9530. */
#include "depotd/base/digest.h"
#include "depotd/model/digest_field.h"
#include "unit.h"

static const char abc_hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char abc_field[] = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";

static void streaming_gives_what_one_call_gives(void **state)
{
	(void)state;
	struct err err;
	unsigned char once[SHA256_LEN], streamed[SHA256_LEN];
	char hex[SHA256_HEX_LEN + 1];
	assert_int_equal(digest_sha256("abc", 3, once, &err), 0);
	struct digest *d = digest_new(&err);
	assert_non_null(d);
	assert_int_equal(digest_update(d, "a", 1, &err), 0);
	assert_int_equal(digest_update(d, "", 0, &err), 0);
	assert_int_equal(digest_update(d, "bc", 2, &err), 0);
	assert_int_equal(digest_final(d, streamed, &err), 0);
	digest_free(&d);
	assert_null(d);
	digest_free(&d);
	hex_encode(once, SHA256_LEN, hex);
	assert_string_equal(hex, abc_hex);
	assert_memory_equal(once, streamed, SHA256_LEN);
}

static void hexadecimal_goes_there_and_back(void **state)
{
	(void)state;
	unsigned char bytes[4] = {0, 0, 0, 0};
	assert_int_equal(hex_decode("00fFA0e1", 8, bytes), 1);
	assert_memory_equal(bytes, "\x00\xFF\xA0\xE1", 4);
	assert_int_equal(hex_decode("abc", 3, bytes), 0);
	assert_int_equal(hex_decode("zz", 2, bytes), 0);
	assert_int_equal(hex_decode("0g", 2, bytes), 0);
}

static void base64_is_that_of_rfc_4648(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[16];
		unsigned char bytes[16];
		size_t n;
		base64_encode((const unsigned char *)rows[i][0], strlen(rows[i][0]), text);
		assert_string_equal(text, rows[i][1]);
		assert_int_equal(base64_decode(text, strlen(text), bytes, sizeof(bytes), &n), 1);
		assert_int_equal(n, strlen(rows[i][0]));
		assert_memory_equal(bytes, rows[i][0], n);
	}
}

static void malformed_base64_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {"Z",    "Zg",    "Zg=",      "Zh==", "Zm9=",
					    "====", "Z===",  "Zg==Zg==", "Zm 9", "Zm-v",
					    "Zm_v", "Zm9v=", "=m9v",     "Zm=v", "Zm9v\n"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		unsigned char bytes[16];
		size_t n;
		if (base64_decode(wrong[i], strlen(wrong[i]), bytes, sizeof(bytes), &n))
			fail_msg("%s: taken", wrong[i]);
	}
}

static void base64_longer_than_its_place_is_refused(void **state)
{
	(void)state;
	unsigned char bytes[2];
	size_t n;
	assert_int_equal(base64_decode("Zm9v", 4, bytes, sizeof(bytes), &n), 0);
	assert_int_equal(base64_decode("Zm8=", 4, bytes, sizeof(bytes), &n), 1);
}

static int parse(const char *value, char hex[SHA256_HEX_LEN + 1])
{
	unsigned char sha256[SHA256_LEN] = {0};
	struct err err = {.kind = ERR_NONE};
	int result = digest_field_parse(value, sha256, &err);
	assert_int_equal(err.kind, result < 0 ? ERR_INVALID : ERR_NONE);
	hex_encode(sha256, SHA256_LEN, hex);
	return result;
}

static void a_digest_field_is_formatted_as_a_byte_sequence(void **state)
{
	(void)state;
	struct err err;
	unsigned char sha256[SHA256_LEN];
	char text[DIGEST_FIELD_LEN + 1];
	digest_sha256("abc", 3, sha256, &err);
	digest_field_format(sha256, text);
	assert_string_equal(text, abc_field);
	assert_int_equal(strlen(text), DIGEST_FIELD_LEN);
}

static void sha_256_is_found_among_other_algorithms(void **state)
{
	(void)state;
	char hex[SHA256_HEX_LEN + 1];
	static const char *const fields[] = {
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		"  sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=: ",
		"sha-512=:AAAA:, sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:\t,\tmd5=:AA==:",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:;p=1;q",
		("a, b=1, c=-1.5, d=\"x\\\"y\", e=tok/en, f=?0, g=(1 \"a\";p :AA==:);q=2, "
		 "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"),
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0:",
	};
	for (size_t i = 0; i < COUNT(fields); i++) {
		if (parse(fields[i], hex) != 1)
			fail_msg("%s", fields[i]);
		assert_string_equal(hex, abc_hex);
	}
}

static void given_twice_the_last_digest_stands(void **state)
{
	(void)state;
	char hex[SHA256_HEX_LEN + 1];
	assert_int_equal(parse("sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:, "
			       "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
			       hex),
			 1);
	assert_string_equal(hex, abc_hex);
}

static void a_field_without_sha_256_says_nothing(void **state)
{
	(void)state;
	char hex[SHA256_HEX_LEN + 1];
	assert_int_equal(parse("", hex), 0);
	assert_int_equal(parse("  ", hex), 0);
	assert_int_equal(parse("sha-512=:AAAA:", hex), 0);
	assert_int_equal(parse("id-sha-256=:AAAA:", hex), 0);
}

static void a_malformed_field_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"sha-256",
		"sha-256=",
		"sha-256=::",
		"sha-256=:AAAA:",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		"sha-256=ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		"sha-256=\"ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\"",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:,",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=: x",
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:;",
		",sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		"SHA-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		"sha-256=:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=:",
		"sha-256=(:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:)",
		"sha-256 =:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		"a=1234567890123456",
		"a=1.2345",
		"a=1234567890123.1",
		"a=.5",
		"a=-",
		"a=\"x",
		"a=\"\\n\"",
		"a=?2",
		"a=(1",
		"a=(1\"x\")",
		"a=@1",
		"1=2",
		"a=:@:",
	};
	char hex[SHA256_HEX_LEN + 1];
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (parse(wrong[i], hex) != -1)
			fail_msg("%s: taken", wrong[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streaming_gives_what_one_call_gives),
		cmocka_unit_test(hexadecimal_goes_there_and_back),
		cmocka_unit_test(base64_is_that_of_rfc_4648),
		cmocka_unit_test(malformed_base64_is_refused),
		cmocka_unit_test(base64_longer_than_its_place_is_refused),
		cmocka_unit_test(a_digest_field_is_formatted_as_a_byte_sequence),
		cmocka_unit_test(sha_256_is_found_among_other_algorithms),
		cmocka_unit_test(given_twice_the_last_digest_stands),
		cmocka_unit_test(a_field_without_sha_256_says_nothing),
		cmocka_unit_test(a_malformed_field_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
