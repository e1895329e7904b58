/* UTF-8 (RFC 3629), strictly: no overlong forms, no surrogates, nothing past U+10FFFF. Thread: any. */
#ifndef DEPOTD_BASE_UTF8_H
#define DEPOTD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UTF8_MAX_BYTES = 4 };

/* The character that starts at text: its length in bytes (1–4) and *code; 0 where it is malformed or cut off by n. */
unsigned utf8_decode(const char *text, size_t n, uint32_t *code);
/* The number of characters, or -1 where any is malformed. A NUL is a character. */
long utf8_length(const char *text, size_t n);
/* C0, DEL and C1: what Unicode has as controls (category Cc). */
bool utf8_is_control(uint32_t code);
/* The largest length <= n that does not cut a character in two. */
size_t utf8_cut(const char *text, size_t n);

#endif
