/* The error value. */
#include <errno.h>

#include "depotd/base/err.h"
#include "depotd/base/utf8.h"
#include "unit.h"

static void every_kind_has_a_status_and_a_title(void **state)
{
	(void)state;
	for (int kind = ERR_NONE; kind < ERR_KIND_COUNT; kind++) {
		int status = err_http_status((enum err_kind)kind);
		assert_true(status == 200 || (status >= 400 && status <= 599));
		assert_non_null(err_title((enum err_kind)kind));
	}
	assert_int_equal(err_http_status(ERR_NOT_FOUND), 404);
	assert_int_equal(err_http_status(ERR_DISK_FULL), 507);
	assert_string_equal(err_title(ERR_NOT_FOUND), "Not found");
}

static void setting_returns_minus_one_and_fills_everything(void **state)
{
	(void)state;
	struct err err = {.sys_errno = 7};
	assert_int_equal(err_set(&err, ERR_INVALID, "%s: %d", "limit", 0), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(err.sys_errno, 0);
	assert_string_equal(err.message, "limit: 0");
}

static void a_long_message_is_cut_between_characters(void **state)
{
	(void)state;
	char text[ERR_MESSAGE_MAX * 2 + 1];
	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "\xC3\xA9", 2);
	text[sizeof(text) - 1] = '\0';
	struct err err;
	err_set(&err, ERR_INVALID, "%s", text);
	assert_true(strlen(err.message) >= ERR_MESSAGE_MAX - 3);
	assert_true(utf8_length(err.message, strlen(err.message)) > 0);
}

static void a_message_may_wrap_itself(void **state)
{
	(void)state;
	struct err err;
	err_set(&err, ERR_INVALID, "is empty");
	err_set(&err, err.kind, "name: %s", err.message);
	assert_string_equal(err.message, "name: is empty");
}

static void errno_decides_the_kind_where_it_says_more(void **state)
{
	(void)state;
	static const struct {
		int number;
		enum err_kind kind;
	} rows[] = {{ENOSPC, ERR_DISK_FULL}, {EDQUOT, ERR_DISK_FULL}, {ENOMEM, ERR_NO_MEMORY},
		    {EMFILE, ERR_BUSY},      {ENFILE, ERR_BUSY},      {EIO, ERR_IO},
		    {EACCES, ERR_IO}};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct err err;
		errno = rows[i].number;
		assert_int_equal(err_set_errno(&err, ERR_IO, "write %s", "x"), -1);
		assert_int_equal(err.kind, rows[i].kind);
		assert_int_equal(err.sys_errno, rows[i].number);
		assert_int_equal(errno, rows[i].number);
		assert_non_null(strstr(err.message, "write x: "));
	}
}

static void clearing_an_error_leaves_nothing_of_it(void **state)
{
	(void)state;
	struct err err;
	err_set(&err, ERR_IO, "x");
	err_clear(&err);
	assert_int_equal(err.kind, ERR_NONE);
	assert_string_equal(err.message, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_has_a_status_and_a_title),
		cmocka_unit_test(setting_returns_minus_one_and_fills_everything),
		cmocka_unit_test(a_long_message_is_cut_between_characters),
		cmocka_unit_test(a_message_may_wrap_itself),
		cmocka_unit_test(errno_decides_the_kind_where_it_says_more),
		cmocka_unit_test(clearing_an_error_leaves_nothing_of_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
