/*
 * Multipart: a form is the same however it is cut. The first byte says where to cut, the second how; then a line with the
 * Content-Type's parameters, then the body.
 */
#include "depotd/base/buf.h"
#include "depotd/http/multipart.h"
#include "fuzz.h"

enum { TEXT_MAX = 1 << 20 };

static int on_begin(void *context, const struct multipart_part *part, struct err *err)
{
	struct buf *said = context;
	(void)err;
	MUST(part->name != NULL);
	buf_printf(said, "[%s|%zu|", part->name, part->filename_len);
	if (part->filename != NULL) {
		MUST(part->filename[part->filename_len] == '\0');
		buf_append(said, part->filename, part->filename_len);
	}
	buf_puts(said, part->content_type != NULL ? part->content_type : "-");
	buf_puts(said, part->repr_digest != NULL ? part->repr_digest : "-");
	buf_puts(said, "]");
	return 0;
}

static int on_data(void *context, const void *data, size_t n, struct err *err)
{
	(void)err;
	MUST(n > 0);
	buf_append(context, data, n);
	return 0;
}

static int on_end(void *context, struct err *err)
{
	(void)err;
	buf_puts(context, ".");
	return 0;
}

static int read_form(const char *type, const uint8_t *body, size_t n, size_t first, size_t then,
		     struct buf *said)
{
	static const struct multipart_events events = {on_begin, on_data, on_end};
	struct multipart *m = NULL;
	struct err err;
	int result = 0;
	buf_init(said, TEXT_MAX);
	if (multipart_new(type, &events, said, &m, &err) != 0)
		return -1;
	for (size_t at = 0, step = first; at < n && result == 0; at += step, step = then) {
		step = step < n - at ? step : n - at;
		char *piece = fuzz_text(body + at, step);
		result = multipart_feed(m, piece, step, &err);
		free(piece);
	}
	if (result == 0)
		result = multipart_finish(m, &err);
	multipart_free(&m);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	size_t cut = 1 + data[0], step = 1 + data[1] % 64;
	const uint8_t *line = data + 2, *end = memchr(line, '\n', size - 2);
	size_t parameters = end != NULL ? (size_t)(end - line) : 0;
	char *type = malloc(32 + parameters);
	MUST(type != NULL);
	memcpy(type, "multipart/form-data;", 20);
	memcpy(type + 20, line, parameters);
	type[20 + parameters] = '\0';
	const uint8_t *body = line + parameters + (end != NULL);
	size_t n = size - 2 - parameters - (end != NULL);
	struct buf whole, cut_up;
	int result = read_form(type, body, n, n + 1, n + 1, &whole);
	MUST(read_form(type, body, n, cut, step, &cut_up) == result);
	if (result == 0) {
		MUST(whole.len == cut_up.len);
		MUST(whole.len == 0 || memcmp(whole.data, cut_up.data, whole.len) == 0);
	}
	buf_release(&whole);
	buf_release(&cut_up);
	free(type);
	return 0;
}
