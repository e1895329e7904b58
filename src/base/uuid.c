/* UUID version 7. One atomic word holds time and counter together, so ids never need a lock. Any thread. */
#include "depotd/base/uuid.h"

#include <stdatomic.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "uuid_private.h"

enum { COUNTER_BITS = 12 };

/*
 * Milliseconds << 12 | counter of the newest id. Always rises: a full counter carries into the milliseconds (so the time
 * runs ahead a little under more than 4 ids per microsecond), and a clock that steps back changes nothing.
 */
static _Atomic uint64_t newest;

static uint64_t next_stamp(void)
{
	uint64_t now = (uint64_t)clock_wall_ms() << COUNTER_BITS;
	uint64_t last = atomic_load_explicit(&newest, memory_order_relaxed);
	uint64_t stamp;
	do {
		stamp = now > last ? now : last + 1;
	} while (!atomic_compare_exchange_weak_explicit(&newest, &last, stamp, memory_order_relaxed,
							memory_order_relaxed));
	return stamp;
}

struct uuid uuid_new(void)
{
	struct uuid id;
	uuid_random_bytes(id.bytes); /* leaves the variant in byte 8 as RFC 9562 §4.1 wants it */
	uint64_t stamp = next_stamp();
	uint64_t ms = stamp >> COUNTER_BITS;
	for (unsigned i = 0; i < 6; i++)
		id.bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
	id.bytes[6] = (unsigned char)(0x70 | (stamp >> 8 & 0x0F));
	id.bytes[7] = (unsigned char)(stamp & 0xFF);
	id.bytes[8] = (unsigned char)(0x80 | (id.bytes[8] & 0x3F));
	return id;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_dash_before(unsigned byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

bool uuid_parse(const char *text, struct uuid *out)
{
	struct uuid id;
	const char *p = text;
	for (unsigned i = 0; i < sizeof(id.bytes); i++) {
		if (is_dash_before(i) && *p++ != '-')
			return false;
		int high = hex_value(p[0]);
		int low = high < 0 ? -1 : hex_value(p[1]);
		if (low < 0)
			return false;
		id.bytes[i] = (unsigned char)(high << 4 | low);
		p += 2;
	}
	if (*p != '\0')
		return false;
	*out = id;
	return true;
}

void uuid_format(const struct uuid *id, char out[UUID_TEXT_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";
	char *p = out;
	for (unsigned i = 0; i < sizeof(id->bytes); i++) {
		if (is_dash_before(i))
			*p++ = '-';
		*p++ = digits[id->bytes[i] >> 4];
		*p++ = digits[id->bytes[i] & 0x0F];
	}
	*p = '\0';
}

int uuid_compare(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

int64_t uuid_time_ms(const struct uuid *id)
{
	uint64_t ms = 0;
	for (unsigned i = 0; i < 6; i++)
		ms = ms << 8 | id->bytes[i];
	return (int64_t)ms;
}

bool uuid_is_nil(const struct uuid *id)
{
	static const struct uuid nil;
	return uuid_compare(id, &nil) == 0;
}
