/* The growable byte string and the arena: both are born with a ceiling. */
#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/base/percent.h"
#include "unit.h"

#include <stdalign.h>

static void what_is_appended_comes_back_terminated(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1000);
	assert_string_equal(buf_text(&b), "");
	buf_puts(&b, "one");
	buf_putc(&b, ' ');
	buf_append(&b, "two\0three", 9);
	buf_printf(&b, " %d", 4);
	assert_int_equal(b.len, 15);
	assert_memory_equal(b.data, "one two\0three 4", 16);
	buf_release(&b);
	assert_null(b.data);
}

static void all_but_the_unreserved_characters_are_percent_encoded(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1000);
	percent_encode("aZ09-._~", &b);
	percent_encode(" /?&=+%\x01\xc3\xa9", &b);
	assert_string_equal(buf_text(&b), "aZ09-._~%20%2F%3F%26%3D%2B%25%01%C3%A9");
	buf_release(&b);
}

static void appending_past_the_ceiling_fails_and_keeps_what_was_there(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 5);
	buf_puts(&b, "12345");
	assert_false(b.failed);
	buf_putc(&b, '6');
	assert_true(b.failed);
	buf_append(&b, "", 0);
	assert_string_equal(buf_text(&b), "12345");
	buf_reset(&b);
	assert_false(b.failed);
	assert_string_equal(buf_text(&b), "");
	buf_printf(&b, "%s", "123456");
	assert_true(b.failed);
	assert_int_equal(b.len, 0);
	buf_release(&b);
}

static void a_buf_without_a_ceiling_still_terminates(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, SIZE_MAX);
	buf_puts(&b, "x");
	assert_string_equal(buf_text(&b), "x");
	buf_append(&b, "y", SIZE_MAX - 1);
	assert_true(b.failed);
	assert_string_equal(buf_text(&b), "x");
	buf_release(&b);
}

static void taking_hands_over_the_memory_and_leaves_a_new_buf(void **state)
{
	(void)state;
	struct buf b;
	size_t n = 99;
	buf_init(&b, 100);
	char *empty = buf_take(&b, &n);
	assert_non_null(empty);
	assert_int_equal(n, 0);
	assert_string_equal(empty, "");
	free(empty);
	buf_puts(&b, "text");
	char *text = buf_take(&b, &n);
	assert_string_equal(text, "text");
	assert_int_equal(n, 4);
	free(text);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.max, 100);
}

static void taking_what_failed_gives_nothing(void **state)
{
	(void)state;
	struct buf b;
	size_t n;
	buf_init(&b, 2);
	buf_puts(&b, "123");
	assert_null(buf_take(&b, &n));
	assert_false(b.failed);
}

static void pieces_of_an_arena_are_zeroed_aligned_and_apart(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, 1 << 20);
	unsigned char *last = NULL;
	for (size_t i = 1; i < 3000; i += 7) {
		unsigned char *piece = arena_alloc(&a, i);
		assert_non_null(piece);
		assert_int_equal((uintptr_t)piece % _Alignof(max_align_t), 0);
		for (size_t k = 0; k < i; k++)
			assert_int_equal(piece[k], 0);
		memset(piece, 0xAA, i);
		if (last != NULL)
			assert_int_equal(*last, 0xAA);
		last = piece;
	}
	arena_release(&a);
}

static void an_arena_gives_nothing_past_its_ceiling(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, 100);
	assert_non_null(arena_alloc(&a, 90));
	assert_null(arena_alloc(&a, 90));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_strdup(&a, "a text that is longer than what is left"));
	arena_release(&a);
	assert_non_null(arena_alloc(&a, 90));
	arena_release(&a);
}

static void an_arena_takes_its_first_pieces_from_the_callers_room(void **state)
{
	(void)state;
	alignas(max_align_t) unsigned char room[256];
	struct arena a;
	memset(room, 0xff, sizeof(room));
	arena_init_in(&a, 1 << 16, room, sizeof(room));
	unsigned char *first = arena_alloc(&a, 100), *large = arena_alloc(&a, 5000);
	unsigned char *second = arena_alloc(&a, 50), *later = arena_alloc(&a, 200);
	assert_true(first > room && first + 100 <= room + sizeof(room));
	assert_true(second >= first + 100 && second + 50 <= room + sizeof(room));
	assert_true(large + 5000 <= room || large >= room + sizeof(room));
	assert_true(later + 200 <= room || later >= room + sizeof(room));
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(first[i] | second[i], 0);
	arena_release(&a);
}

static void an_arena_copies_and_prints_texts(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, 1 << 16);
	assert_string_equal(arena_strdup(&a, "text"), "text");
	assert_string_equal(arena_strndup(&a, "text", 2), "te");
	assert_string_equal(arena_strndup(&a, "te", 100), "te");
	assert_string_equal(arena_printf(&a, "%s-%05d", "x", 42), "x-00042");
	char *large = arena_printf(&a, "%*d", 20000, 1);
	assert_int_equal(strlen(large), 20000);
	arena_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_appended_comes_back_terminated),
		cmocka_unit_test(all_but_the_unreserved_characters_are_percent_encoded),
		cmocka_unit_test(appending_past_the_ceiling_fails_and_keeps_what_was_there),
		cmocka_unit_test(a_buf_without_a_ceiling_still_terminates),
		cmocka_unit_test(taking_hands_over_the_memory_and_leaves_a_new_buf),
		cmocka_unit_test(taking_what_failed_gives_nothing),
		cmocka_unit_test(pieces_of_an_arena_are_zeroed_aligned_and_apart),
		cmocka_unit_test(an_arena_gives_nothing_past_its_ceiling),
		cmocka_unit_test(an_arena_takes_its_first_pieces_from_the_callers_room),
		cmocka_unit_test(an_arena_copies_and_prints_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
