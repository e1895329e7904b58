/* Request heads and body framing as pure functions. What the server does with malformed ones: tests/http/test_malformed.py. */
#include "unit.h"

#include <stdio.h>

#include "../../src/http/framing_private.h"
#include "../../src/http/head_private.h"

static struct head_field fields[HEAD_FIELDS_MAX];

/* Parses a copy that is exactly as large as it may be. */
static int parse_n(const char *text, size_t n, struct head *head, struct err *err, char **copy)
{
	*copy = malloc(n + 1);
	memcpy(*copy, text, n);
	return head_parse(*copy, n, fields, head, err);
}

static void refused(const char *text, enum err_kind kind)
{
	struct head head;
	struct err err = {0};
	char *copy;
	int result = parse_n(text, strlen(text), &head, &err, &copy);
	if (result != -1 || err.kind != kind)
		fail_msg("%s: %d %s", text, result, err.message);
	assert_non_null(head.method);
	assert_non_null(head.target);
	free(copy);
}

static void a_head_is_taken_apart(void **state)
{
	(void)state;
	struct head head;
	struct err err;
	char *copy;
	unsigned i = 0;
	const char *text = "PUT /a?b=c HTTP/1.1\r\nHost: h:80\r\nContent-Length: 12\r\nX-A:  \t b "
			   "c \t\r\nx-a:\r\n\r\n";
	assert_int_equal(parse_n(text, strlen(text), &head, &err, &copy), 0);
	assert_string_equal(head.method, "PUT");
	assert_string_equal(head.target, "/a?b=c");
	assert_int_equal(head.content_length, 12);
	assert_int_equal(head.field_count, 4);
	assert_true(head.keep_alive);
	assert_false(head.expect_continue);
	assert_string_equal(head_find(&head, "X-A", &i)->value, "b c");
	i++;
	assert_string_equal(head_find(&head, "X-A", &i)->value, "");
	i++;
	assert_null(head_find(&head, "X-A", &i));
	free(copy);
}

static void connection_and_version_decide_who_stays(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool stays;
	} cases[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
		{"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct head head;
		struct err err;
		char *copy;
		assert_int_equal(parse_n(cases[i].text, strlen(cases[i].text), &head, &err, &copy),
				 0);
		assert_int_equal(head.keep_alive, cases[i].stays);
		free(copy);
	}
}

static void hosts_of_every_form_are_taken(void **state)
{
	(void)state;
	static const char *const hosts[] = {
		"a",  "a.b-c_d~e",       "192.0.2.1:8080", "[::1]", "[2001:db8::1]:443",
		"a:", "xn--n3h.example", "a%20b",          "a,b"};
	for (size_t i = 0; i < COUNT(hosts); i++) {
		char text[128];
		struct head head;
		struct err err;
		char *copy;
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
		if (parse_n(text, strlen(text), &head, &err, &copy) != 0)
			fail_msg("%s: %s", hosts[i], err.message);
		free(copy);
	}
}

static void each_defect_has_its_kind(void **state)
{
	(void)state;
	refused("GET / HTTP/2.0\r\n\r\n", ERR_VERSION);
	refused("GET / HTTP/1.2\r\nHost: a\r\n\r\n", ERR_VERSION);
	refused("GET / HTTP/1.1\r\n\r\n", ERR_INVALID);
	refused("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", ERR_NOT_IMPLEMENTED);
	refused("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
		ERR_NOT_IMPLEMENTED);
	refused("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		ERR_INVALID);
	refused("PUT / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", ERR_EXPECTATION);
	refused("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		ERR_INVALID);
	refused("\r\n\r\n", ERR_INVALID);
}

static void a_target_or_a_list_of_fields_that_is_too_long_is_told_apart(void **state)
{
	(void)state;
	size_t n = HEAD_TARGET_MAX + 64;
	char *text = malloc(n + 64), *copy;
	struct head head;
	struct err err;
	int at = snprintf(text, 16, "GET /");
	memset(text + at, 'a', HEAD_TARGET_MAX);
	at += HEAD_TARGET_MAX;
	at += snprintf(text + at, 64, " HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(parse_n(text, (size_t)at, &head, &err, &copy), -1);
	assert_int_equal(err.kind, ERR_URI_TOO_LONG);
	free(copy);
	at = snprintf(text, n, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HEAD_FIELDS_MAX; i++)
		at += snprintf(text + at, 16, "X: y\r\n");
	at += snprintf(text + at, 16, "\r\n");
	assert_int_equal(parse_n(text, (size_t)at, &head, &err, &copy), -1);
	assert_int_equal(err.kind, ERR_HEADERS_TOO_LARGE);
	free(copy);
	free(text);
}

static void the_end_of_a_head_is_found_however_it_is_cut(void **state)
{
	(void)state;
	static const char *const heads[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
					    "GET / HTTP/1.1\nHost: a\n\n", "G\r\n\n", "G\n\r\n"};
	for (size_t i = 0; i < COUNT(heads); i++) {
		char text[128];
		size_t n = strlen(heads[i]);
		snprintf(text, sizeof(text), "%srest", heads[i]);
		size_t scanned = 0;
		for (size_t have = 0; have < n; have++)
			assert_int_equal(head_end(text, have, &scanned), 0);
		assert_int_equal(head_end(text, n, &scanned), n);
		scanned = 0;
		assert_int_equal(head_end(text, n + 4, &scanned), n);
	}
}

static void a_hopeless_beginning_is_refused_before_the_head_is_whole(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(head_check_partial("", 0, &err), 0);
	assert_int_equal(head_check_partial("\r", 1, &err), 0);
	assert_int_equal(head_check_partial("G", 1, &err), 0);
	assert_int_equal(head_check_partial("GET / HTTP/1.1\r\nHo", 18, &err), 0);
	assert_int_equal(head_check_partial("\x16\x03", 2, &err), -1);
	assert_int_equal(head_check_partial("GET /\r\n", 7, &err), -1);
	assert_int_equal(head_check_partial("GET / HTTP/1.1\n", 15, &err), -1);
	assert_int_equal(head_check_partial("GET / HTTP/3.0\r\n", 16, &err), -1);
	assert_int_equal(err.kind, ERR_VERSION);
}

/* --- framing --- */

/* Undoes text fed in pieces of `step` bytes: the state at the end; body gathers what was body, *used what was consumed. */
static enum framing_state unframe(int64_t length, const char *text, size_t n, size_t step,
				  char *body, size_t *used)
{
	struct framing f;
	struct err err;
	size_t got = 0;
	framing_init(&f, length);
	*used = 0;
	while (*used < n && f.state != FRAMING_DONE && f.state != FRAMING_BROKEN) {
		size_t piece = n - *used < step ? n - *used : step, part;
		char *copy = malloc(piece);
		memcpy(copy, text + *used, piece);
		size_t taken = framing_step(&f, copy, piece, &part, &err);
		assert_true(taken <= piece && part <= taken);
		memcpy(body + got, copy + taken - part, part);
		got += part;
		*used += taken;
		free(copy);
		if (taken == 0)
			break;
	}
	body[got] = '\0';
	return f.state;
}

static void chunks_are_undone_however_they_are_cut(void **state)
{
	(void)state;
	static const char text[] = "5\r\nhello\r\n1;a=\"b;c\"\r\n,\r\n0000000A;"
				   "x\r\n0123456789\r\n0;last\r\nX: y\r\nZ:\r\n\r\nnext";
	char body[256];
	size_t used;
	for (size_t step = 1; step < sizeof(text); step++) {
		assert_int_equal(unframe(HEAD_CHUNKED, text, sizeof(text) - 1, step, body, &used),
				 FRAMING_DONE);
		assert_string_equal(body, "hello,0123456789");
		assert_int_equal(used, sizeof(text) - 1 - 4);
	}
}

static void a_length_is_counted(void **state)
{
	(void)state;
	char body[256];
	size_t used;
	assert_int_equal(unframe(5, "helloGET", 8, 3, body, &used), FRAMING_DONE);
	assert_string_equal(body, "hello");
	assert_int_equal(used, 5);
	assert_int_equal(unframe(0, "GET", 3, 3, body, &used), FRAMING_DONE);
	assert_int_equal(used, 0);
	assert_int_equal(unframe(9, "hello", 5, 2, body, &used), FRAMING_LENGTH);
}

static void broken_chunks_stay_broken_however_they_are_cut(void **state)
{
	(void)state;
	static const char *const cases[] = {"g\r\n",      "\r\n",           "1\n",
					    "1 \r\n",     " 1\r\n",         "+1\r\n",
					    "1\r\nab",    "1\r\na\n",       "8000000000000000\r\n",
					    "0\r\nX\r\n", "0\r\n X: y\r\n", "1;\001\r\n",
					    "0\n\r\n",    "1\r\na\r\r\n"};
	char body[256];
	size_t used;
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t step = 1; step <= strlen(cases[i]); step++) {
			if (unframe(HEAD_CHUNKED, cases[i], strlen(cases[i]), step, body, &used) !=
			    FRAMING_BROKEN)
				fail_msg("%s in steps of %zu", cases[i], step);
		}
	}
}

static void what_a_body_still_needs_is_never_overestimated(void **state)
{
	(void)state;
	static const char text[] = "5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n";
	struct framing f;
	struct err err;
	size_t part;
	framing_init(&f, HEAD_CHUNKED);
	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		assert_true(framing_at_least(&f) <= sizeof(text) - 1 - at);
		assert_true(framing_at_least(&f) > 0);
		assert_int_equal(framing_step(&f, text + at, 1, &part, &err), 1);
	}
	assert_int_equal(framing_at_least(&f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_is_taken_apart),
		cmocka_unit_test(connection_and_version_decide_who_stays),
		cmocka_unit_test(hosts_of_every_form_are_taken),
		cmocka_unit_test(each_defect_has_its_kind),
		cmocka_unit_test(a_target_or_a_list_of_fields_that_is_too_long_is_told_apart),
		cmocka_unit_test(the_end_of_a_head_is_found_however_it_is_cut),
		cmocka_unit_test(a_hopeless_beginning_is_refused_before_the_head_is_whole),
		cmocka_unit_test(chunks_are_undone_however_they_are_cut),
		cmocka_unit_test(a_length_is_counted),
		cmocka_unit_test(broken_chunks_stay_broken_however_they_are_cut),
		cmocka_unit_test(what_a_body_still_needs_is_never_overestimated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
