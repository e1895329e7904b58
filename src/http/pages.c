/*
 * The pages of connections' memory, which are given back while nobody looks at them.
 *
 * libmicrohttpd 0.9.75 clears all of a connection's memory after each request and half of it within, so that stays resident
 * while the connection idles or its client reads slowly: 10,000 of them would cost 360 MiB. After a while the pages are given
 * back. Read again they are zeros, which is what most of them were; the few bytes that were none are kept, and put back before
 * libmicrohttpd can look.
 *
 * `spare` holds the memory's address while nobody looks at it: from the end of a request until the event thread reads from the
 * connection again, which it also does before it closes an idle one; and from when a client takes no more of a file until the
 * event thread sends it more, or ends the request (gate.c, exchange_ended()). So while the address stands there the memory
 * exists. Whoever gives it back puts in_hand in its place while he works.
 *
 * Threads: offering, claiming and forgetting on the connection's event thread. The timer gives back what was offered for a
 * while. When a crowd is answered within that while, its event thread does it itself, oldest first.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "conn_private.h"
#include "depotd/base/clock.h"

enum {
	PAGE = 4096,
	PAGES = HTTP_CONNECTION_MEMORY / PAGE,
	SPARE_MS = 30, /* memory that is not looked at for so long gives its pages back */
	CROWD = 64, /* with more on offer than this an event thread does not wait for the timer, */
	CROWD_MS = 15, /* but those who come again as soon as they are answered keep theirs */
};

/* In the place of an address: somebody is giving the pages back; they were given back, and the timer did not look yet. */
static char in_hand, given_back;

/* --- those on offer of one event thread, oldest first; the timer does not take them out --- */

static void list(struct conn *c)
{
	struct event_thread *t = c->thread;
	c->listed = true;
	c->older = t->newest;
	c->newer = NULL;
	if (t->newest != NULL)
		t->newest->newer = c;
	else
		t->oldest = c;
	t->newest = c;
	t->offered++;
}

static void unlist(struct conn *c)
{
	struct event_thread *t = c->thread;
	if (!c->listed)
		return;
	c->listed = false;
	if (c->older != NULL)
		c->older->newer = c->newer;
	else
		t->oldest = c->newer;
	if (c->newer != NULL)
		c->newer->older = c->older;
	else
		t->newest = c->older;
	t->offered--;
}

/* --- packing --- */

/* What was not zero on each page: from its first such byte to its last. */
struct packed {
	uint16_t from[PAGES], len[PAGES];
	char bytes[];
};

static void unpack(struct conn *c)
{
	const struct packed *p = c->packed;
	const char *bytes = p->bytes;
	for (size_t i = 0; i < PAGES; i++) {
		memcpy(c->memory + i * PAGE + p->from[i], bytes, p->len[i]);
		bytes += p->len[i];
	}
	free(c->packed);
	c->packed = NULL;
}

/* It is on offer no more, and in nobody's hands. */
static void withdraw(struct conn *c)
{
	unlist(c);
	char *spare = atomic_load_explicit(&c->spare, memory_order_acquire);
	while (spare != NULL) {
		if (spare == &in_hand) /* some microseconds, at most once an idle time */
			spare = atomic_load(&c->spare);
		else if (atomic_compare_exchange_weak(&c->spare, &spare, NULL))
			return;
	}
}

void conn_claim(struct conn *c)
{
	withdraw(c);
	if (c->packed != NULL)
		unpack(c);
}

void pages_forget(struct conn *c)
{
	withdraw(c);
	free(c->packed); /* the memory itself has gone */
}

/* False: out of memory. */
static bool pack(struct conn *c, const char *memory)
{
	static const char zeros[PAGE];
	struct packed found = {.len = {0}};
	size_t total = 0;
	for (size_t i = 0; i < PAGES; i++) {
		const char *page = memory + i * PAGE;
		size_t from = 0, to = PAGE;
		if (memcmp(page, zeros, PAGE) == 0)
			continue;
		while (page[from] == 0)
			from++;
		while (page[to - 1] == 0)
			to--;
		found.from[i] = (uint16_t)from;
		found.len[i] = (uint16_t)(to - from);
		total += to - from;
	}
	if (total == 0)
		return true;
	struct packed *p = malloc(sizeof(*p) + total);
	if (p == NULL)
		return false;
	*p = found;
	char *bytes = p->bytes;
	for (size_t i = 0; i < PAGES; i++) {
		memcpy(bytes, memory + i * PAGE + p->from[i], p->len[i]);
		bytes += p->len[i];
	}
	c->packed = p;
	return true;
}

/* If it is still on offer; its place then says `after`. */
static bool give_back(struct conn *c, char *spare, char *after)
{
	if (spare == NULL || spare == &in_hand || spare == &given_back ||
	    !atomic_compare_exchange_strong(&c->spare, &spare, &in_hand))
		return false;
	if (!c->spare_is_full || pack(c, spare))
		(void)madvise(spare, HTTP_CONNECTION_MEMORY, MADV_DONTNEED);
	atomic_store(&c->spare, after);
	return true;
}

bool conn_give_pages_back(struct conn *c, int64_t now)
{
	char *spare = atomic_load(&c->spare);
	if (spare == NULL ||
	    now - atomic_load_explicit(&c->offered_ms, memory_order_relaxed) < SPARE_MS)
		return false;
	if (spare == &given_back)
		return atomic_compare_exchange_strong(&c->spare, &spare, NULL);
	return give_back(c, spare, NULL);
}

void conn_offer(struct conn *c, bool full)
{
	struct event_thread *t = c->thread;
	int64_t now = clock_monotonic_ms();
	if (c->memory == NULL)
		return;
	withdraw(c);
	c->spare_is_full = full;
	atomic_store_explicit(&c->offered_ms, now, memory_order_relaxed);
	atomic_store(&c->spare, c->memory);
	if (t == NULL)
		return;
	list(c);
	while (t->offered > CROWD) {
		struct conn *oldest = t->oldest;
		if (now - atomic_load_explicit(&oldest->offered_ms, memory_order_relaxed) <
		    CROWD_MS)
			return;
		unlist(oldest);
		(void)give_back(oldest, atomic_load(&oldest->spare), &given_back);
	}
}
