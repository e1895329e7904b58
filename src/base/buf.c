/* The growable byte string: doubles up to its ceiling, and remembers that it failed. */
#include "depotd/base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST = 64 };

void buf_init(struct buf *b, size_t max)
{
	/* One less than everything, so that the NUL always has a place. */
	*b = (struct buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1};
}

void buf_release(struct buf *b)
{
	free(b->data);
	buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = b->no_memory = false;
	if (b->data != NULL)
		b->data[0] = '\0';
}

/* Makes room for n more bytes and the NUL. */
static bool buf_reserve(struct buf *b, size_t n)
{
	if (b->failed)
		return false;
	if (n > b->max - b->len) {
		b->failed = true;
		return false;
	}
	size_t wanted = b->len + n + 1;
	if (wanted <= b->cap)
		return true;
	size_t cap = b->cap < BUF_FIRST ? BUF_FIRST : b->cap;
	while (cap < wanted)
		cap = cap > SIZE_MAX / 2 ? wanted : cap * 2;
	if (cap > b->max + 1)
		cap = b->max + 1;
	char *data = realloc(b->data, cap);
	if (data == NULL) {
		b->failed = b->no_memory = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_append(struct buf *b, const void *data, size_t n)
{
	if (!buf_reserve(b, n))
		return;
	if (n > 0)
		memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int wanted = vsnprintf(NULL, 0, format, args);
	if (wanted < 0) {
		b->failed = true;
	} else if (buf_reserve(b, (size_t)wanted)) {
		vsnprintf(b->data + b->len, (size_t)wanted + 1, format, again);
		b->len += (size_t)wanted;
	}
	va_end(again);
	va_end(args);
}

const char *buf_text(const struct buf *b)
{
	return b->data != NULL ? b->data : "";
}

char *buf_take(struct buf *b, size_t *len)
{
	char *data = NULL;
	if (buf_reserve(b, 0)) {
		data = b->data;
		data[b->len] = '\0';
		*len = b->len;
		b->data = NULL;
	}
	buf_release(b);
	return data;
}
