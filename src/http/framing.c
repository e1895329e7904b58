/* Undoes the chunked coding, byte for byte. Pure; event threads and workers. */
#include "framing_private.h"

#include <string.h>

#include "depotd/base/digest.h"
#include "head_private.h"

void framing_init(struct framing *f, int64_t content_length)
{
	f->left = 0;
	f->trailer_bytes = 0;
	f->line_len = 0;
	if (content_length == HEAD_CHUNKED) {
		f->state = FRAMING_SIZE;
	} else {
		f->left = (uint64_t)content_length;
		f->state = content_length > 0 ? FRAMING_LENGTH : FRAMING_DONE;
	}
}

static int broken(struct framing *f, struct err *err, const char *what)
{
	f->state = FRAMING_BROKEN;
	return err_set(err, ERR_INVALID, "the chunked body is malformed: %s", what);
}

/* chunk-size [ chunk-ext ]: extensions are not understood, so only their characters are checked. */
static int take_size(struct framing *f, const char *line, size_t n, struct err *err)
{
	uint64_t size = 0;
	size_t i = 0;
	for (; i < n && hex_value(line[i]) >= 0; i++) {
		if (size > INT64_MAX >> 4)
			return broken(f, err, "a chunk is too large to be true");
		size = size << 4 | (uint64_t)hex_value(line[i]);
	}
	if (i == 0)
		return broken(f, err, "a chunk's size is not hexadecimal");
	size_t ext = i;
	while (ext < n && (line[ext] == ' ' || line[ext] == '\t'))
		ext++;
	if (i < n && (ext == n || line[ext] != ';'))
		return broken(f, err, "something follows a chunk's size");
	for (; ext < n; ext++) {
		if (((unsigned char)line[ext] < ' ' && line[ext] != '\t') || line[ext] == 0x7f)
			return broken(f, err, "a chunk extension has a control character");
	}
	f->left = size;
	f->state = size > 0 ? FRAMING_CHUNK : FRAMING_TRAILER;
	return 0;
}

static int take_trailer(struct framing *f, const char *line, size_t n, struct err *err)
{
	if (n == 0) {
		f->state = FRAMING_DONE;
		return 0;
	}
	size_t name_len, value_len;
	const char *value;
	if (head_split_field(line, n, &name_len, &value, &value_len, err) != 0)
		return broken(f, err, "a trailer field is malformed");
	return 0;
}

static int take_line(struct framing *f, const char *line, size_t n, struct err *err)
{
	if (n == 0 || line[n - 1] != '\r')
		return broken(f, err, "a line does not end in CRLF");
	n--;
	if (memchr(line, '\r', n) != NULL || memchr(line, '\0', n) != NULL)
		return broken(f, err, "a line has a bare CR or a NUL");
	switch (f->state) {
	case FRAMING_SIZE:
		return take_size(f, line, n, err);
	case FRAMING_CHUNK_END:
		f->state = FRAMING_SIZE;
		return n == 0 ? 0 : broken(f, err, "a chunk is longer than its size");
	default:
		return take_trailer(f, line, n, err);
	}
}

/* The line end of a chunk's bytes is two characters; a size line is bounded; trailers have a budget of their own. */
static size_t line_max(const struct framing *f)
{
	return f->state == FRAMING_CHUNK_END ? 2 : FRAMING_LINE_MAX;
}

/* Reads a line, in place where it came whole. */
static size_t step_line(struct framing *f, const char *data, size_t n, struct err *err)
{
	const char *lf = memchr(data, '\n', n);
	size_t len = lf != NULL ? (size_t)(lf - data) : n; /* without the LF */
	if (f->state == FRAMING_CHUNK_END && f->line_len == 0 && data[0] != '\r') {
		(void)broken(f, err, "a chunk is longer than its size");
		return 0;
	}
	if (f->line_len + len + (lf != NULL) > line_max(f)) {
		(void)broken(f, err, "a line is too long");
		return 0;
	}
	if (f->state == FRAMING_TRAILER) {
		f->trailer_bytes += len;
		if (f->trailer_bytes > FRAMING_TRAILER_MAX) {
			(void)broken(f, err, "the trailers are too long");
			return 0;
		}
	}
	const char *line = data;
	size_t line_len = len;
	if (f->line_len > 0 || lf == NULL) {
		memcpy(f->line + f->line_len, data, len);
		f->line_len = (uint16_t)(f->line_len + len);
		line = f->line;
		line_len = f->line_len;
	}
	if (lf == NULL)
		return n;
	f->line_len = 0;
	return take_line(f, line, line_len, err) == 0 ? len + 1 : 0;
}

size_t framing_step(struct framing *f, const void *data, size_t n, size_t *body_len,
		    struct err *err)
{
	*body_len = 0;
	if (n == 0 || f->state == FRAMING_DONE || f->state == FRAMING_BROKEN)
		return 0;
	if (f->state != FRAMING_LENGTH && f->state != FRAMING_CHUNK)
		return step_line(f, data, n, err);
	size_t take = n < f->left ? n : (size_t)f->left;
	f->left -= take;
	*body_len = take;
	if (f->left == 0)
		f->state = f->state == FRAMING_LENGTH ? FRAMING_DONE : FRAMING_CHUNK_END;
	return take;
}

uint64_t framing_at_least(const struct framing *f)
{
	switch (f->state) {
	case FRAMING_LENGTH:
		return f->left;
	case FRAMING_CHUNK:
		return f->left + 7; /* CRLF 0 CRLF CRLF */
	case FRAMING_DONE:
	case FRAMING_BROKEN:
		return 0;
	default:
		return 1;
	}
}
