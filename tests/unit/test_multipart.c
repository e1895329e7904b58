/* The multipart reader: every form that real clients send, each fed whole and cut at every offset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/buf.h"
#include "depotd/http/multipart.h"

#define TYPE "multipart/form-data; boundary=B"
#define FIELD(name) "Content-Disposition: form-data; name=\"" name "\"\r\n"
#define FILE_PART(params)                                                                          \
	"--B\r\nContent-Disposition: form-data; name=\"f\"; " params "\r\n\r\nx\r\n--B--\r\n"

/* What the reader said, one line an event: [name|filename|type] data . */
struct record {
	struct buf text;
	size_t calls;
};

static int on_begin(void *context, const struct multipart_part *part, struct err *err)
{
	struct record *r = context;
	(void)err;
	buf_printf(&r->text, "[%s|%s", part->name, part->filename != NULL ? part->filename : "-");
	if (part->filename != NULL)
		assert_int_equal(strlen(part->filename), part->filename_len);
	if (part->content_type != NULL)
		buf_printf(&r->text, "|%s", part->content_type);
	if (part->content_digest != NULL)
		buf_printf(&r->text, "|%s", part->content_digest);
	buf_puts(&r->text, "]");
	return 0;
}

static int on_data(void *context, const void *data, size_t n, struct err *err)
{
	struct record *r = context;
	(void)err;
	assert_true(n > 0);
	r->calls++;
	buf_append(&r->text, data, n);
	return 0;
}

static int on_end(void *context, struct err *err)
{
	struct record *r = context;
	(void)err;
	buf_puts(&r->text, ".");
	return 0;
}

static const struct multipart_events events = {on_begin, on_data, on_end};

/* Feeds a body in pieces: 0 and the events in r, or -1. */
static int read_in_pieces(const char *type, const char *body, size_t n, size_t first, size_t then,
			  struct record *r, struct err *err)
{
	struct multipart *m = NULL;
	int result = 0;
	buf_init(&r->text, 1 << 20);
	if (multipart_new(type, &events, r, &m, err) != 0)
		return -1;
	for (size_t at = 0, step = first; at < n && result == 0; at += step, step = then) {
		if (step > n - at)
			step = n - at;
		/* Exactly as large as the piece: a read past it is a sanitizer's finding. */
		char *piece = malloc(step > 0 ? step : 1);
		memcpy(piece, body + at, step);
		result = multipart_feed(m, piece, step, err);
		free(piece);
		if (step == 0)
			break;
	}
	if (result == 0)
		result = multipart_finish(m, err);
	multipart_free(&m);
	return result;
}

static void expect_body(const char *type, const char *body, size_t n, const char *expected)
{
	struct record r = {0};
	struct err err;
	for (size_t cut = 1; cut <= n; cut++) {
		if (read_in_pieces(type, body, n, cut, n, &r, &err) != 0)
			fail_msg("cut at %zu: %s", cut, err.message);
		assert_string_equal(buf_text(&r.text), expected);
		buf_release(&r.text);
	}
	for (size_t step = 1; step <= 7 && n > 0; step++) {
		assert_int_equal(read_in_pieces(type, body, n, step, step, &r, &err), 0);
		assert_string_equal(buf_text(&r.text), expected);
		buf_release(&r.text);
	}
}

static void expect(const char *body, const char *expected)
{
	expect_body(TYPE, body, strlen(body), expected);
}

static void refuse_type(const char *type, const char *body, enum err_kind kind)
{
	struct record r = {0};
	size_t n = strlen(body);
	for (size_t cut = 1; cut <= n; cut++) {
		struct err err;
		assert_int_equal(read_in_pieces(type, body, n, cut, n, &r, &err), -1);
		assert_int_equal(err.kind, kind);
		assert_true(strlen(err.message) > 0);
		buf_release(&r.text);
	}
}

static void refuse(const char *body)
{
	refuse_type(TYPE, body, ERR_INVALID);
}

static void a_text_field_is_read(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\nhello\r\n--B--\r\n", "[a|-]hello.");
}

static void several_parts_come_in_order(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\n1\r\n--B\r\n" FIELD("b") "\r\n2\r\n--B\r\n" FIELD(
		       "a") "\r\n3\r\n--B--",
	       "[a|-]1.[b|-]2.[a|-]3.");
}

static void a_file_has_its_name_type_and_digest(void **state)
{
	(void)state;
	expect("--B\r\nContent-Disposition: form-data; name=\"f\"; "
	       "filename=\"a.txt\"\r\nContent-Type: text/plain\r\n"
	       "Content-Digest: sha-256=:x:\r\n\r\nabc\r\n--B--\r\n",
	       "[f|a.txt|text/plain|sha-256=:x:]abc.");
}

static void preamble_and_epilogue_are_dropped(void **state)
{
	(void)state;
	expect("This is a preamble\r\nof two lines --B\r\n--B\r\n" FIELD(
		       "a") "\r\n1\r\n--B--\r\nepilogue\r\n--B\r\n",
	       "[a|-]1.");
}

static void blanks_may_follow_a_boundary(void **state)
{
	(void)state;
	expect("--B \t \r\n" FIELD("a") "\r\n1\r\n--B\t\r\n" FIELD("b") "\r\n2\r\n--B--  \r\n",
	       "[a|-]1.[b|-]2.");
}

static void an_empty_part_is_a_part(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\n\r\n--B--\r\n", "[a|-].");
}

static void the_empty_line_may_serve_as_the_delimiters_line_end(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\n--B\r\n" FIELD("b") "\r\nx\r\n--B--\r\n", "[a|-].[b|-]x.");
}

static void a_file_input_with_no_file_chosen_has_an_empty_name(void **state)
{
	(void)state;
	expect("--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\r\n"
	       "Content-Type: application/octet-stream\r\n\r\n\r\n--B--\r\n",
	       "[f||application/octet-stream].");
}

static void data_that_looks_like_the_beginning_of_a_delimiter_is_data(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\n\r\r\n\r\n-\r\n--\r\n--A\r\r\n--B\r\n" FIELD(
		       "b") "\r\n--\r\n--B--\r\n",
	       "[a|-]\r\r\n\r\n-\r\n--\r\n--A\r.[b|-]--.");
}

static void a_longer_line_that_begins_like_the_boundary_is_data(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\nx\r\n--BB\r\n--B-\r\n--B x\r\n--B\r\r\n--B--\r\n",
	       "[a|-]x\r\n--BB\r\n--B-\r\n--B x\r\n--B\r.");
}

static void a_part_may_begin_with_dashes(void **state)
{
	(void)state;
	expect("--B\r\n" FIELD("a") "\r\n--A\r\n--B--\r\n", "[a|-]--A.");
}

static void a_quoted_boundary_may_hold_any_of_its_characters(void **state)
{
	(void)state;
	const char *body = "--a b'()+_,-./:=?\r\n" FIELD("a") "\r\n1\r\n--a b'()+_,-./:=?--\r\n";
	expect_body("Multipart/Form-Data ; charset=utf-8; Boundary=\"a b'()+_,-./:=?\"", body,
		    strlen(body), "[a|-]1.");
}

static void a_boundary_of_seventy_characters_is_taken(void **state)
{
	(void)state;
	char type[160], body[512], boundary[71];
	memset(boundary, 'b', 70);
	boundary[70] = '\0';
	snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundary);
	snprintf(body, sizeof(body), "--%s\r\n" FIELD("a") "\r\n1\r\n--%s--\r\n", boundary,
		 boundary);
	expect_body(type, body, strlen(body), "[a|-]1.");
	snprintf(type, sizeof(type), "multipart/form-data; boundary=%sb", boundary);
	refuse_type(type, body, ERR_INVALID);
}

static void names_may_be_raw_utf8(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"r\xC3\xA9sum\xC3\xA9 \xF0\x9F\x98\x80.pdf\""),
	       "[f|r\xC3\xA9sum\xC3\xA9 \xF0\x9F\x98\x80.pdf]x.");
}

static void browsers_escape_quotes_and_line_ends_with_percent(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"a%22b%0D%0Ac%20%41%2\""), "[f|a\"b\r\nc%20%41%2]x.");
}

static void a_backslash_escapes_a_quote_and_itself(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"a\\\"b\\\\c\""), "[f|a\"b\\c]x.");
}

static void a_backslash_before_anything_else_is_itself(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"C:\\Users\\me\\x.txt\""), "[f|C:\\Users\\me\\x.txt]x.");
}

static void a_semicolon_inside_quotes_is_part_of_the_name(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"a;b; name=c\""), "[f|a;b; name=c]x.");
}

static void an_unquoted_name_ends_at_the_semicolon(void **state)
{
	(void)state;
	expect("--B\r\nContent-Disposition: form-data; filename=a b.txt ;name=f\r\n\r\nx\r\n--B--",
	       "[f|a b.txt]x.");
}

static void filename_star_goes_before_filename(void **state)
{
	(void)state;
	expect(FILE_PART("filename=\"plain\"; filename*=UTF-8'en'na%C3%AFve%20%E2%82%AC.txt"),
	       "[f|na\xC3\xAFve \xE2\x82\xAC.txt]x.");
	expect(FILE_PART("filename*=utf-8''a; filename=\"plain\""), "[f|a]x.");
}

static void filename_star_may_be_latin1(void **state)
{
	(void)state;
	expect(FILE_PART("filename*=iso-8859-1''%E9t%E9"), "[f|\xC3\xA9t\xC3\xA9]x.");
}

static void a_malformed_filename_star_is_refused(void **state)
{
	(void)state;
	refuse(FILE_PART("filename*=UTF-8''%C3%"));
	refuse(FILE_PART("filename*=UTF-8''%G1"));
	refuse(FILE_PART("filename*=KOI8-R''a"));
	refuse(FILE_PART("filename*=plain"));
}

static void header_lines_may_be_folded(void **state)
{
	(void)state;
	expect("--B\r\nContent-Disposition: form-data;\r\n "
	       "name=\"f\";\r\n\tfilename=\"a\"\r\n\r\nx\r\n--B--\r\n",
	       "[f|a]x.");
}

static void header_names_are_of_any_case_and_others_are_ignored(void **state)
{
	(void)state;
	expect("--B\r\nX-Other: "
	       "1\r\ncontent-DISPOSITION:FORM-data;NAME=f\r\nContent-Transfer-Encoding: Binary\r\n"
	       "Content-Length: 1\r\n\r\nx\r\n--B--\r\n",
	       "[f|-]x.");
}

static void binary_data_passes_unchanged(void **state)
{
	(void)state;
	static const char head[] = "--B\r\n" FIELD("a") "\r\n", tail[] = "\r\n--B--\r\n";
	size_t n = sizeof(head) - 1 + 256 + sizeof(tail) - 1;
	char *body = malloc(n);
	memcpy(body, head, sizeof(head) - 1);
	for (size_t i = 0; i < 256; i++)
		body[sizeof(head) - 1 + i] = (char)(unsigned char)(255 - i);
	memcpy(body + sizeof(head) - 1 + 256, tail, sizeof(tail) - 1);
	for (size_t cut = 1; cut <= n; cut++) {
		struct record r = {0};
		struct err err;
		assert_int_equal(read_in_pieces(TYPE, body, n, cut, n, &r, &err), 0);
		assert_int_equal(r.text.len, 5 + 256 + 1);
		assert_memory_equal(r.text.data + 5, body + sizeof(head) - 1, 256);
		buf_release(&r.text);
	}
	free(body);
}

/* Long stretches are looked through in strides: whatever stands where, and wherever the delimiter is. */
static void the_delimiter_is_found_at_any_place_in_long_data(void **state)
{
	static const char *const boundaries[] = {
		"B", "BB", "-----------------------------x1",
		"0123456789012345678901234567890123456789012345678901234567890123456789"};
	(void)state;
	unsigned seed = 7;
	for (size_t b = 0; b < 4; b++) {
		char type[120], delimiter[80], body[4000], data[3000];
		snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundaries[b]);
		int length = snprintf(delimiter, sizeof(delimiter), "\r\n--%s", boundaries[b]);
		for (size_t size = 0; size < 1500; size++) {
			/* Made of pieces of the delimiter, or of anything else; never of the whole of it. */
			size_t n = 0;
			while (n < size) {
				seed = seed * 1103515245 + 12345;
				unsigned r = seed >> 16;
				size_t from = r % (unsigned)length, piece = 1 + (r >> 4) % 9;
				if (size % 2)
					data[n++] = (char)('a' + r % 26);
				else
					for (; piece > 0 && from < (size_t)length && n < size;
					     piece--)
						data[n++] = delimiter[from++];
			}
			data[n] = '\0';
			/* At its very beginning the empty line is half of a delimiter. */
			if (memmem(data, n, delimiter, (size_t)length) != NULL ||
			    strncmp(data, delimiter + 2, (size_t)length - 2) == 0)
				continue;
			int head = snprintf(body, sizeof(body), "--%s\r\n" FIELD("f") "\r\n",
					    boundaries[b]);
			memcpy(body + head, data, n);
			int tail = snprintf(body + head + n, sizeof(body) - (size_t)head - n,
					    "%s--\r\n", delimiter);
			struct record r = {0};
			struct err err;
			assert_int_equal(read_in_pieces(type, body, (size_t)head + n + (size_t)tail,
							(size_t)head + n + (size_t)tail, 1, &r,
							&err),
					 0);
			assert_int_equal(r.text.len, strlen("[f|-]") + n + 1);
			assert_memory_equal(r.text.data + strlen("[f|-]"), data, n);
			buf_release(&r.text);
		}
	}
}

static void a_large_stretch_is_passed_on_where_it_lies(void **state)
{
	(void)state;
	static const char head[] = "--B\r\n" FIELD("a") "\r\n", tail[] = "\r\n--B--\r\n";
	size_t size = 100000, n = sizeof(head) - 1 + size + sizeof(tail) - 1;
	char *body = malloc(n);
	struct record r = {0};
	struct err err;
	memcpy(body, head, sizeof(head) - 1);
	memset(body + sizeof(head) - 1, 'x', size);
	memcpy(body + sizeof(head) - 1 + size, tail, sizeof(tail) - 1);
	assert_int_equal(read_in_pieces(TYPE, body, n, n, n, &r, &err), 0);
	assert_int_equal(r.calls, 1);
	buf_release(&r.text);
	free(body);
}

static void hundreds_of_parts_are_taken_and_thousands_refused(void **state)
{
	(void)state;
	struct buf body;
	struct record r = {0};
	struct err err;
	buf_init(&body, 1 << 20);
	for (int i = 0; i < MULTIPART_PARTS_MAX; i++)
		buf_puts(&body, "--B\r\n" FIELD("a") "\r\n1\r\n");
	size_t n = body.len;
	buf_puts(&body, "--B--\r\n");
	assert_int_equal(read_in_pieces(TYPE, body.data, body.len, body.len, body.len, &r, &err),
			 0);
	buf_release(&r.text);
	body.len = n;
	buf_puts(&body, "--B\r\n" FIELD("a") "\r\n1\r\n--B--\r\n");
	assert_int_equal(read_in_pieces(TYPE, body.data, body.len, body.len, body.len, &r, &err),
			 -1);
	assert_int_equal(err.kind, ERR_TOO_LARGE);
	buf_release(&r.text);
	buf_release(&body);
}

static void a_form_without_parts_is_whole(void **state)
{
	(void)state;
	expect("--B--\r\n", "");
	expect("preamble\r\n--B--", "");
}

static void a_body_that_ends_early_is_refused_wherever_it_ends(void **state)
{
	(void)state;
	static const char body[] = "--B\r\n" FIELD("a") "\r\nhello\r\n--B--";
	for (size_t n = 0; n < sizeof(body) - 1; n++) {
		struct record r = {0};
		struct err err;
		assert_int_equal(read_in_pieces(TYPE, body, n, n, n, &r, &err), -1);
		assert_int_equal(err.kind, ERR_INVALID);
		buf_release(&r.text);
	}
}

static void a_part_that_is_no_form_data_is_refused(void **state)
{
	(void)state;
	refuse("--B\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\n" FIELD("a") FIELD("b") "\r\nx\r\n--B--\r\n");
}

static void malformed_headers_are_refused(void **state)
{
	(void)state;
	refuse("--B\r\n" FIELD("a") "no colon\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\n" FIELD("a") "Blank : 1\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\n " FIELD("a") "\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; name=\"a\" b\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; name\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\n" FIELD("a") "X: \001\r\n\r\nx\r\n--B--\r\n");
	refuse("--B\r\nContent-Disposition: form-data; name=\"a\"\n\r\nx\r\n--B--\r\n");
}

static void a_transfer_encoding_is_refused(void **state)
{
	(void)state;
	refuse("--B\r\n" FIELD("a") "Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--B--\r\n");
}

static void overlong_headers_are_refused(void **state)
{
	(void)state;
	struct buf body;
	struct record r = {0};
	struct err err;
	buf_init(&body, 1 << 20);
	buf_puts(&body, "--B\r\n" FIELD("a") "X: ");
	for (int i = 0; i < MULTIPART_HEADERS_MAX; i++)
		buf_putc(&body, 'x');
	assert_int_equal(read_in_pieces(TYPE, body.data, body.len, 1000, 1000, &r, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	buf_release(&r.text);
	buf_release(&body);
}

static void another_media_type_is_refused_as_such(void **state)
{
	(void)state;
	refuse_type("application/x-www-form-urlencoded", "a=b", ERR_MEDIA_TYPE);
	refuse_type("multipart/form-data-x; boundary=B", "--B--", ERR_MEDIA_TYPE);
	refuse_type("multipart/mixed; boundary=B", "--B--", ERR_MEDIA_TYPE);
}

static void a_missing_or_malformed_boundary_is_refused(void **state)
{
	(void)state;
	refuse_type("multipart/form-data; charset=utf-8", "--B--", ERR_INVALID);
	refuse_type("multipart/form-data; boundary=", "--B--", ERR_INVALID);
	refuse_type("multipart/form-data; boundary=\"B ", "--B--", ERR_INVALID);
	refuse_type("multipart/form-data; boundary=\"B \"", "--B--", ERR_INVALID);
	refuse_type("multipart/form-data; boundary=B; boundary=C", "--B--", ERR_INVALID);
}

static int refuse_begin(void *context, const struct multipart_part *part, struct err *err)
{
	(void)context, (void)part;
	return err_set(err, ERR_DISK_FULL, "no room");
}

static void a_callbacks_error_stops_the_reader_for_good(void **state)
{
	(void)state;
	static const char body[] = "--B\r\n" FIELD("a") "\r\nhello\r\n--B--\r\n";
	struct multipart_events failing = events;
	struct multipart *m = NULL;
	struct record r = {0};
	struct err err = {0};
	failing.part_begin = refuse_begin;
	assert_int_equal(multipart_new(TYPE, &failing, &r, &m, &err), 0);
	assert_int_equal(multipart_feed(m, body, sizeof(body) - 1, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	err_clear(&err);
	assert_int_equal(multipart_feed(m, body, sizeof(body) - 1, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	err_clear(&err);
	assert_int_equal(multipart_finish(m, &err), -1);
	assert_int_equal(err.kind, ERR_DISK_FULL);
	multipart_free(&m);
	assert_null(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_field_is_read),
		cmocka_unit_test(several_parts_come_in_order),
		cmocka_unit_test(a_file_has_its_name_type_and_digest),
		cmocka_unit_test(preamble_and_epilogue_are_dropped),
		cmocka_unit_test(blanks_may_follow_a_boundary),
		cmocka_unit_test(an_empty_part_is_a_part),
		cmocka_unit_test(the_empty_line_may_serve_as_the_delimiters_line_end),
		cmocka_unit_test(a_file_input_with_no_file_chosen_has_an_empty_name),
		cmocka_unit_test(data_that_looks_like_the_beginning_of_a_delimiter_is_data),
		cmocka_unit_test(a_longer_line_that_begins_like_the_boundary_is_data),
		cmocka_unit_test(a_part_may_begin_with_dashes),
		cmocka_unit_test(a_quoted_boundary_may_hold_any_of_its_characters),
		cmocka_unit_test(a_boundary_of_seventy_characters_is_taken),
		cmocka_unit_test(names_may_be_raw_utf8),
		cmocka_unit_test(browsers_escape_quotes_and_line_ends_with_percent),
		cmocka_unit_test(a_backslash_escapes_a_quote_and_itself),
		cmocka_unit_test(a_backslash_before_anything_else_is_itself),
		cmocka_unit_test(a_semicolon_inside_quotes_is_part_of_the_name),
		cmocka_unit_test(an_unquoted_name_ends_at_the_semicolon),
		cmocka_unit_test(filename_star_goes_before_filename),
		cmocka_unit_test(filename_star_may_be_latin1),
		cmocka_unit_test(a_malformed_filename_star_is_refused),
		cmocka_unit_test(header_lines_may_be_folded),
		cmocka_unit_test(header_names_are_of_any_case_and_others_are_ignored),
		cmocka_unit_test(binary_data_passes_unchanged),
		cmocka_unit_test(the_delimiter_is_found_at_any_place_in_long_data),
		cmocka_unit_test(a_large_stretch_is_passed_on_where_it_lies),
		cmocka_unit_test(hundreds_of_parts_are_taken_and_thousands_refused),
		cmocka_unit_test(a_form_without_parts_is_whole),
		cmocka_unit_test(a_body_that_ends_early_is_refused_wherever_it_ends),
		cmocka_unit_test(a_part_that_is_no_form_data_is_refused),
		cmocka_unit_test(malformed_headers_are_refused),
		cmocka_unit_test(a_transfer_encoding_is_refused),
		cmocka_unit_test(overlong_headers_are_refused),
		cmocka_unit_test(another_media_type_is_refused_as_such),
		cmocka_unit_test(a_missing_or_malformed_boundary_is_refused),
		cmocka_unit_test(a_callbacks_error_stops_the_reader_for_good),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
