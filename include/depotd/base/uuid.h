/*
 * Time-ordered ids: UUID version 7 (RFC 9562 §5.7) laid over the kernel's randomness, which libuuid gives too.
 *
 * 48 bits of Unix milliseconds, then a 12-bit counter that keeps ids of this process strictly increasing within a
 * millisecond, then 62 random bits. Text form: 36 characters, lower case. Thread: any.
 *
 * uuid_parse() and uuid_compare() are libuuid's names too: hidden visibility keeps ours out of libuuid's way, and no
 * file but uuid_random.c may include <uuid/uuid.h>.
 */
#ifndef DEPOTD_BASE_UUID_H
#define DEPOTD_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

enum { UUID_TEXT_LEN = 36 };

struct uuid {
	unsigned char bytes[16]; /* network order: memcmp sorts by time */
};

struct uuid uuid_new(void);
/* Only the canonical 8-4-4-4-12 form (either case) is accepted; false otherwise, out untouched. Any version parses. */
bool uuid_parse(const char *text, struct uuid *out);
void uuid_format(const struct uuid *id, char out[UUID_TEXT_LEN + 1]);
int uuid_compare(const struct uuid *a, const struct uuid *b);
/* The milliseconds since the epoch that a version 7 id carries. */
int64_t uuid_time_ms(const struct uuid *id);
bool uuid_is_nil(const struct uuid *id);

#pragma GCC visibility pop

#endif
