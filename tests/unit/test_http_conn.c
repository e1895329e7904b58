/* The memory that libmicrohttpd has for a connection: its pages go while nobody looks, and come back as they were. */
#include "unit.h"

#include <string.h>
#include <sys/mman.h>

#include "../../src/http/conn_private.h"
#include "depotd/base/clock.h"

enum { PAGE = 4096, PAGES = HTTP_CONNECTION_MEMORY / PAGE, LONG_AFTER_MS = 60 * 1000 };

static struct conn conn;

static int set_up(void **state)
{
	(void)state;
	memset(&conn, 0, sizeof(conn));
	conn.memory = mmap(NULL, HTTP_CONNECTION_MEMORY, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return conn.memory == MAP_FAILED;
}

static int tear_down(void **state)
{
	(void)state;
	conn_claim(&conn);
	return munmap(conn.memory, HTTP_CONNECTION_MEMORY);
}

static unsigned resident_pages_of(const struct conn *c)
{
	unsigned char resident[PAGES];
	unsigned n = 0;
	assert_int_equal(mincore(c->memory, HTTP_CONNECTION_MEMORY, resident), 0);
	for (size_t i = 0; i < PAGES; i++)
		n += resident[i] & 1U;
	return n;
}

static unsigned resident_pages(void)
{
	return resident_pages_of(&conn);
}

static bool give_back(void)
{
	return conn_give_pages_back(&conn, clock_monotonic_ms() + LONG_AFTER_MS);
}

static void memory_that_was_given_back_comes_back_as_it_was(void **state)
{
	static char before[HTTP_CONNECTION_MEMORY];
	(void)state;
	memset(conn.memory, 0, HTTP_CONNECTION_MEMORY);
	memcpy(conn.memory, "GET / HTTP/1.1", 15);
	conn.memory[2 * PAGE] = 'a';     /* a page's first byte, */
	conn.memory[4 * PAGE - 1] = 'b'; /* another's last, */
	memset(conn.memory + 5 * PAGE, 'c', PAGE);
	memset(conn.memory + HTTP_CONNECTION_MEMORY - 100, 'd', 100);
	memcpy(before, conn.memory, sizeof(before));
	conn_offer(&conn, true);
	assert_true(give_back());
	assert_int_equal(resident_pages(), 0);
	conn_claim(&conn);
	assert_memory_equal(conn.memory, before, sizeof(before));
	assert_null(conn.packed);
}

static void empty_memory_is_given_back_without_a_copy(void **state)
{
	(void)state;
	memset(conn.memory, 0, HTTP_CONNECTION_MEMORY);
	assert_int_equal(resident_pages(), PAGES);
	conn_offer(&conn, false);
	assert_true(give_back());
	assert_null(conn.packed);
	assert_int_equal(resident_pages(), 0);
}

static void memory_is_given_back_once_for_each_offer(void **state)
{
	(void)state;
	assert_false(give_back());
	conn_offer(&conn, true);
	assert_true(give_back());
	assert_false(give_back());
	conn_offer(&conn, true);
	assert_true(give_back());
}

static void memory_that_was_claimed_or_only_just_offered_is_left_alone(void **state)
{
	(void)state;
	conn.memory[0] = 'x';
	conn_offer(&conn, true);
	assert_false(conn_give_pages_back(&conn, clock_monotonic_ms() - 1));
	conn_claim(&conn);
	assert_false(give_back());
	assert_int_equal(conn.memory[0], 'x');
}

/* --- a crowd --- */

enum { MANY = 100, LONG_AGO_MS = 1000 };

struct crowd {
	struct event_thread thread;
	struct conn conns[MANY];
};

static int set_up_crowd(void **state)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	*state = crowd;
	for (size_t i = 0; crowd != NULL && i < MANY; i++) {
		crowd->conns[i].thread = &crowd->thread;
		crowd->conns[i].memory = mmap(NULL, HTTP_CONNECTION_MEMORY, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (crowd->conns[i].memory == MAP_FAILED)
			return -1;
		memset(crowd->conns[i].memory, (int)i + 1, HTTP_CONNECTION_MEMORY);
	}
	return crowd == NULL;
}

static int tear_down_crowd(void **state)
{
	struct crowd *crowd = *state;
	for (size_t i = 0; i < MANY; i++) {
		conn_claim(&crowd->conns[i]);
		munmap(crowd->conns[i].memory, HTTP_CONNECTION_MEMORY);
	}
	free(crowd);
	return 0;
}

/* `past` ms ago, as far as the connection can tell. */
static void offer(struct conn *c, int64_t past)
{
	conn_offer(c, true);
	atomic_fetch_sub(&c->offered_ms, past);
}

static size_t resident_ones(const struct crowd *crowd)
{
	size_t n = 0;
	for (size_t i = 0; i < MANY; i++)
		n += resident_pages_of(&crowd->conns[i]) > 0;
	return n;
}

static void of_a_crowd_the_oldest_give_back_without_the_timer(void **state)
{
	struct crowd *crowd = *state;
	for (size_t i = 0; i < MANY; i++)
		offer(&crowd->conns[i], LONG_AGO_MS);
	assert_in_range(resident_ones(crowd), 1, MANY - 1);
	assert_int_equal(resident_pages_of(&crowd->conns[0]), 0);
	assert_int_equal(resident_pages_of(&crowd->conns[MANY - 1]), PAGES);
	conn_claim(&crowd->conns[0]);
	assert_int_equal(crowd->conns[0].memory[HTTP_CONNECTION_MEMORY - 1], 1);
}

static void of_a_crowd_that_was_only_just_answered_all_keep_theirs(void **state)
{
	struct crowd *crowd = *state;
	for (size_t i = 0; i < MANY; i++)
		offer(&crowd->conns[i], -LONG_AGO_MS);
	assert_int_equal(resident_ones(crowd), MANY);
}

static void who_came_again_or_left_is_no_part_of_the_crowd(void **state)
{
	struct crowd *crowd = *state;
	for (size_t i = 0; i < MANY; i++) {
		offer(&crowd->conns[i], LONG_AGO_MS);
		if (i % 3 == 0)
			conn_claim(&crowd->conns[i]);
		else if (i % 3 == 1)
			pages_forget(&crowd->conns[i]);
	}
	assert_int_equal(resident_ones(crowd), MANY);
	assert_int_equal(crowd->thread.offered, MANY / 3);
}

static void the_timer_still_looks_at_them_once(void **state)
{
	struct crowd *crowd = *state;
	int64_t later = clock_monotonic_ms() + LONG_AFTER_MS;
	for (size_t i = 0; i < MANY; i++)
		offer(&crowd->conns[i], LONG_AGO_MS);
	assert_int_equal(resident_pages_of(&crowd->conns[0]), 0);
	assert_true(conn_give_pages_back(&crowd->conns[0], later));
	assert_false(conn_give_pages_back(&crowd->conns[0], later));
}

int main(void)
{
#define CROWD(test) cmocka_unit_test_setup_teardown(test, set_up_crowd, tear_down_crowd)
#define CONN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CONN(memory_that_was_given_back_comes_back_as_it_was),
		CONN(empty_memory_is_given_back_without_a_copy),
		CONN(memory_is_given_back_once_for_each_offer),
		CONN(memory_that_was_claimed_or_only_just_offered_is_left_alone),
		CROWD(of_a_crowd_the_oldest_give_back_without_the_timer),
		CROWD(of_a_crowd_that_was_only_just_answered_all_keep_theirs),
		CROWD(who_came_again_or_left_is_no_part_of_the_crowd),
		CROWD(the_timer_still_looks_at_them_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
