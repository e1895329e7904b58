/* Time-ordered ids. */
#include <pthread.h>

#include "depotd/base/clock.h"
#include "depotd/base/uuid.h"
#include "unit.h"

static void a_new_id_is_version_7_of_now(void **state)
{
	(void)state;
	int64_t before = clock_wall_ms();
	struct uuid id = uuid_new();
	assert_int_equal(id.bytes[6] >> 4, 7);
	assert_int_equal(id.bytes[8] >> 6, 2);
	assert_true(uuid_time_ms(&id) >= before);
	assert_true(uuid_time_ms(&id) <= clock_wall_ms() + 1);
	assert_false(uuid_is_nil(&id));
}

static void ids_of_one_thread_rise(void **state)
{
	(void)state;
	struct uuid last = uuid_new();
	for (int i = 0; i < 20000; i++) {
		struct uuid id = uuid_new();
		assert_true(uuid_compare(&last, &id) < 0);
		last = id;
	}
}

enum { THREADS = 4, IDS_EACH = 5000 };

static void *make_ids(void *context)
{
	struct uuid *ids = context;
	for (int i = 0; i < IDS_EACH; i++)
		ids[i] = uuid_new();
	return NULL;
}

static int by_uuid(const void *a, const void *b)
{
	return uuid_compare(a, b);
}

static void ids_of_many_threads_differ_before_their_random_bits(void **state)
{
	(void)state;
	static struct uuid ids[THREADS * IDS_EACH];
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + i * IDS_EACH),
				 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	qsort(ids, COUNT(ids), sizeof(ids[0]), by_uuid);
	for (size_t i = 1; i < COUNT(ids); i++)
		assert_true(memcmp(ids[i - 1].bytes, ids[i].bytes, 8) < 0);
}

static void no_random_bits_are_given_out_twice(void **state)
{
	(void)state;
	enum { IDS = 2000 }; /* several fillings of the pool that they are drawn from */
	static struct uuid ids[IDS];
	for (int i = 0; i < IDS; i++) {
		ids[i] = uuid_new();
		memset(ids[i].bytes, 0, 8); /* what is left are the 62 bits and the variant */
	}
	qsort(ids, IDS, sizeof(ids[0]), by_uuid);
	for (int i = 1; i < IDS; i++)
		assert_true(uuid_compare(&ids[i - 1], &ids[i]) < 0);
}

static void text_and_id_go_there_and_back(void **state)
{
	(void)state;
	struct uuid id;
	char text[UUID_TEXT_LEN + 1];
	assert_true(uuid_parse("0192F0C1-0000-7abc-8def-0123456789aB", &id));
	uuid_format(&id, text);
	assert_string_equal(text, "0192f0c1-0000-7abc-8def-0123456789ab");
	assert_int_equal(uuid_time_ms(&id), 0x0192f0c10000);
}

static void only_the_canonical_form_is_an_id(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		"0192f0c1",
		"0192f0c1-0000-7abc-8def-0123456789a",
		"0192f0c1-0000-7abc-8def-0123456789abc",
		"0192f0c100007abc8def0123456789ab",
		"{192f0c1-0000-7abc-8def-0123456789a}",
		"0192f0c1-0000-7abc-8def-0123456789ag",
		"0192f0c1-0000-7abc-8def+0123456789ab",
		"0192f0c1-0000-7abc8-def-0123456789ab",
		" 192f0c1-0000-7abc-8def-0123456789ab",
	};
	struct uuid id = {{1}};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_false(uuid_parse(wrong[i], &id));
	assert_int_equal(id.bytes[0], 1);
}

static void the_nil_id_is_nil(void **state)
{
	(void)state;
	struct uuid id;
	assert_true(uuid_parse("00000000-0000-0000-0000-000000000000", &id));
	assert_true(uuid_is_nil(&id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_id_is_version_7_of_now),
		cmocka_unit_test(ids_of_one_thread_rise),
		cmocka_unit_test(ids_of_many_threads_differ_before_their_random_bits),
		cmocka_unit_test(no_random_bits_are_given_out_twice),
		cmocka_unit_test(text_and_id_go_there_and_back),
		cmocka_unit_test(only_the_canonical_form_is_an_id),
		cmocka_unit_test(the_nil_id_is_nil),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
