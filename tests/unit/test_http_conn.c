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

static unsigned resident_pages(void)
{
	unsigned char resident[PAGES];
	unsigned n = 0;
	assert_int_equal(mincore(conn.memory, HTTP_CONNECTION_MEMORY, resident), 0);
	for (size_t i = 0; i < PAGES; i++)
		n += resident[i] & 1U;
	return n;
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

int main(void)
{
#define CONN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CONN(memory_that_was_given_back_comes_back_as_it_was),
		CONN(empty_memory_is_given_back_without_a_copy),
		CONN(memory_is_given_back_once_for_each_offer),
		CONN(memory_that_was_claimed_or_only_just_offered_is_left_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
