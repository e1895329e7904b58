/* UUID version 7. One atomic word has time and counter together, so no two ids are alike whatever their random bits. Any thread. */
#include "depotd/base/uuid.h"

#include <stdatomic.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/digest.h"
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
	uuid_random_bytes(id.bytes);
	uint64_t stamp = next_stamp();
	uint64_t ms = stamp >> COUNTER_BITS;
	for (unsigned i = 0; i < 6; i++)
		id.bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
	id.bytes[6] = (unsigned char)(0x70 | (stamp >> 8 & 0x0F));
	id.bytes[7] = (unsigned char)(stamp & 0xFF);
	id.bytes[8] = (unsigned char)(0x80 | (id.bytes[8] & 0x3F));
	return id;
}

/* The groups of the text form: where each starts, in characters and in bytes, and how many bytes it has. */
static const struct {
	unsigned text, byte, length;
} groups[] = {{0, 0, 4}, {9, 4, 2}, {14, 6, 2}, {19, 8, 2}, {24, 10, 6}};

enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

bool uuid_parse(const char *text, struct uuid *out)
{
	struct uuid id;
	if (strnlen(text, UUID_TEXT_LEN + 1) != UUID_TEXT_LEN)
		return false;
	for (unsigned i = 0; i < GROUPS; i++) {
		if (i > 0 && text[groups[i].text - 1] != '-')
			return false;
		if (!hex_decode(text + groups[i].text, (size_t)groups[i].length * 2,
				id.bytes + groups[i].byte))
			return false;
	}
	*out = id;
	return true;
}

void uuid_format(const struct uuid *id, char out[UUID_TEXT_LEN + 1])
{
	for (unsigned i = 0; i < GROUPS; i++) {
		if (i > 0)
			out[groups[i].text - 1] = '-';
		hex_encode(id->bytes + groups[i].byte, groups[i].length, out + groups[i].text);
	}
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
