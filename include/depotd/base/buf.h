/*
 * A growable byte string born with a ceiling.
 *
 * Appending past `max`, or running out of memory, sets `failed` and leaves the content as it was; later appends are
 * ignored. So a renderer appends without checks and looks at `failed` once, at its end. `data` is always terminated by
 * a NUL that `len` does not count (data may be NULL while nothing was ever appended; buf_text() never is).
 * Thread: a buf belongs to one owner at a time.
 */
#ifndef DEPOTD_BASE_BUF_H
#define DEPOTD_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data;
	size_t len;
	size_t cap;
	size_t max; /* ceiling of len in bytes */
	bool failed;
	bool no_memory; /* it failed for want of memory, not for its ceiling */
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees; the buf may be used again as if new */
void buf_reset(struct buf *b);   /* len = 0, failed = false; keeps the memory */
void buf_append(struct buf *b, const void *data, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *buf_text(const struct buf *b);
/* Hands the memory (NUL-terminated, from malloc) to the caller, who frees it; NULL if failed. The buf is new again. */
char *buf_take(struct buf *b, size_t *len);

#endif
