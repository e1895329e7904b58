/* The log. Standard error and output are pipes while a test runs; cmocka gets its own back for the verdicts. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depotd/base/buf.h"
#include "depotd/base/log.h"
#include "unit.h"

/* One of the two streams, caught. */
struct capture {
	int fd;    /* which: 1 or 2 */
	int saved; /* what it was */
	int read_end;
};

static struct capture caught_out, caught_err;

static void capture_begin(struct capture *c, int fd)
{
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	c->fd = fd;
	c->saved = dup(fd);
	c->read_end = ends[0];
	dup2(ends[1], fd);
	close(ends[1]);
}

static void capture_restore(struct capture *c)
{
	dup2(c->saved, c->fd);
	close(c->saved);
}

/* All that was written, once nobody can write any more. */
static char *capture_end(struct capture *c)
{
	struct buf text;
	char piece[4096];
	size_t n;
	capture_restore(c);
	buf_init(&text, 8 << 20);
	for (ssize_t got; (got = read(c->read_end, piece, sizeof(piece))) > 0;)
		buf_append(&text, piece, (size_t)got);
	close(c->read_end);
	return buf_take(&text, &n);
}

static int setup(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	log_set_level(LOG_LEVEL_INFO);
	capture_begin(&caught_out, STDOUT_FILENO);
	capture_begin(&caught_err, STDERR_FILENO);
	return 0;
}

/* cmocka speaks between test and teardown: every test gives the streams back by itself. */
static void finish(char **out, char **err)
{
	char *text_out = capture_end(&caught_out), *text_err = capture_end(&caught_err);
	if (out != NULL)
		*out = text_out;
	else
		free(text_out);
	*err = text_err;
}

static void before_the_start_a_line_is_written_at_once(void **state)
{
	(void)state;
	char *err;
	log_event(LOG_LEVEL_WARNING, NULL, "disk is %d%% full", 93);
	log_event(LOG_LEVEL_INFO, "0192f0c1", "stored");
	finish(NULL, &err);
	assert_int_equal(err[4], '-');
	assert_int_equal(err[23], 'Z');
	assert_string_equal(strchr(err, '\n') - strlen(" warning: disk is 93% full"),
			    strstr(err, " warning: disk is 93% full\n"));
	assert_non_null(strstr(err, " info: [0192f0c1] stored\n"));
	free(err);
}

static void what_the_writer_got_is_written_by_the_stop(void **state)
{
	(void)state;
	char *out, *err;
	int started = log_start();
	for (int i = 0; i < 1000; i++) {
		log_event(LOG_LEVEL_INFO, NULL, "line %d.", i);
		log_access("GET /", 5);
	}
	log_access("PUT /\n", 6);
	log_stop();
	finish(&out, &err);
	assert_int_equal(started, 0);
	const char *at = err;
	for (int i = 0; i < 1000; i++) {
		char expected[32];
		snprintf(expected, sizeof(expected), "line %d.\n", i);
		at = strstr(at, expected);
		assert_non_null(at);
	}
	assert_int_equal(strlen(out), 1001 * 6);
	assert_string_equal(out + 1000 * 6, "PUT /\n");
	free(out);
	free(err);
}

static void lines_below_the_level_are_not_written(void **state)
{
	(void)state;
	char *err;
	log_event(LOG_LEVEL_DEBUG, NULL, "hidden");
	log_set_level(LOG_LEVEL_ERROR);
	log_event(LOG_LEVEL_WARNING, NULL, "hidden");
	bool errors = log_enabled(LOG_LEVEL_ERROR), warnings = log_enabled(LOG_LEVEL_WARNING);
	log_event(LOG_LEVEL_ERROR, NULL, "shown");
	finish(NULL, &err);
	assert_true(errors);
	assert_false(warnings);
	assert_null(strstr(err, "hidden"));
	assert_non_null(strstr(err, "error: shown\n"));
	free(err);
}

static void a_client_cannot_forge_a_line(void **state)
{
	(void)state;
	char *out, *err;
	log_event(LOG_LEVEL_INFO, "id\n<0>", "name %s",
		  "a\r\n<0>panic\x1B[2J\x7F\xC2\x9B\xFF\xE2\x80\xA8 caf\xC3\xA9");
	log_access("GET /\n<0>panic", 14);
	finish(&out, &err);
	assert_non_null(strstr(err,
			       "[id\\x0a<0>] name a\\x0d\\x0a<0>panic\\x1b[2J\\x7f\\xc2\\x9b\\xff"
			       "\\xe2\\x80\\xa8 caf\xC3\xA9\n"));
	assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1);
	assert_string_equal(out, "GET /\\x0a<0>panic\n");
	free(out);
	free(err);
}

static void a_line_that_is_too_long_is_cut(void **state)
{
	(void)state;
	char *err, text[20000];
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_event(LOG_LEVEL_INFO, NULL, "%s", text);
	memset(text, '\n', sizeof(text) - 1);
	log_event(LOG_LEVEL_INFO, NULL, "%s", text);
	log_event(LOG_LEVEL_INFO, NULL, "next");
	finish(NULL, &err);
	assert_true(strlen(err) < 20000);
	assert_non_null(strstr(err, "x\n"));
	assert_non_null(strstr(err, "info: next\n"));
	free(err);
}

static void the_journal_gets_priorities_instead_of_times(void **state)
{
	(void)state;
	char *err, stream[64];
	struct stat st;
	fstat(STDERR_FILENO, &st);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	int started = log_start();
	log_set_level(LOG_LEVEL_DEBUG);
	log_event(LOG_LEVEL_ERROR, NULL, "a");
	log_event(LOG_LEVEL_WARNING, NULL, "b");
	log_event(LOG_LEVEL_INFO, "id", "c");
	log_event(LOG_LEVEL_DEBUG, NULL, "d");
	log_stop();
	finish(NULL, &err);
	assert_int_equal(started, 0);
	assert_string_equal(err, "<3>a\n<4>b\n<6>[id] c\n<7>d\n");
	free(err);
}

/* A daemon whose standard error was redirected inherits the variable all the same. */
static void another_stream_than_the_journals_gets_times(void **state)
{
	(void)state;
	char *err;
	setenv("JOURNAL_STREAM", "1:1", 1);
	int started = log_start();
	log_event(LOG_LEVEL_ERROR, NULL, "a");
	log_stop();
	finish(NULL, &err);
	assert_int_equal(started, 0);
	assert_int_not_equal(err[0], '<');
	assert_non_null(strstr(err, "error: a\n"));
	free(err);
}

enum { STALLED_LINES = 30000 };

struct stall {
	char *err;
};

static void *read_late(void *context)
{
	struct stall *stall = context;
	struct buf text;
	char piece[4096];
	size_t n;
	buf_init(&text, 8 << 20);
	for (ssize_t got; (got = read(caught_err.read_end, piece, sizeof(piece))) > 0;)
		buf_append(&text, piece, (size_t)got);
	stall->err = buf_take(&text, &n);
	return NULL;
}

/* Nobody reads while the lines come; whoever logs must get through all the same, and what was lost is told. */
static void a_stalled_reader_blocks_nobody_and_losses_are_counted(void **state)
{
	(void)state;
	char *out;
	struct stall stall = {NULL};
	pthread_t reader;
	int started = log_start();
	for (int i = 0; i < STALLED_LINES; i++)
		log_event(LOG_LEVEL_INFO, NULL, "%0100d", i);
	log_access("GET /", 5); /* the other stream is not held up */
	pthread_create(&reader, NULL, read_late, &stall);
	log_stop();
	capture_restore(&caught_err);
	pthread_join(reader, NULL);
	close(caught_err.read_end);
	out = capture_end(&caught_out);
	assert_int_equal(started, 0);
	assert_string_equal(out, "GET /\n");
	unsigned long lines = 0, lost = 0;
	for (char *line = stall.err, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		const char *report = strstr(line, "warning: ");
		if (report != NULL)
			lost += strtoul(report + 9, NULL, 10);
		else
			lines++;
	}
	assert_true(lost > 0);
	assert_int_equal(lines + lost, STALLED_LINES);
	free(out);
	free(stall.err);
}

static void a_reader_that_never_comes_back_does_not_hold_up_the_stop(void **state)
{
	(void)state;
	char *err;
	int started = log_start();
	for (int i = 0; i < 2000; i++)
		log_event(LOG_LEVEL_INFO, NULL, "%0100d", i);
	log_stop();
	finish(NULL, &err);
	assert_int_equal(started, 0);
	assert_true(strlen(err) > 0);
	free(err);
}

static void a_reader_that_is_gone_costs_its_lines_only(void **state)
{
	(void)state;
	char *out;
	close(caught_err.read_end);
	int started = log_start();
	for (int i = 0; i < 2000; i++)
		log_event(LOG_LEVEL_INFO, NULL, "%d", i);
	log_access("GET /", 5);
	log_stop();
	capture_restore(&caught_err);
	out = capture_end(&caught_out);
	assert_int_equal(started, 0);
	assert_string_equal(out, "GET /\n");
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(before_the_start_a_line_is_written_at_once, setup),
		cmocka_unit_test_setup(what_the_writer_got_is_written_by_the_stop, setup),
		cmocka_unit_test_setup(lines_below_the_level_are_not_written, setup),
		cmocka_unit_test_setup(a_client_cannot_forge_a_line, setup),
		cmocka_unit_test_setup(a_line_that_is_too_long_is_cut, setup),
		cmocka_unit_test_setup(the_journal_gets_priorities_instead_of_times, setup),
		cmocka_unit_test_setup(another_stream_than_the_journals_gets_times, setup),
		cmocka_unit_test_setup(a_stalled_reader_blocks_nobody_and_losses_are_counted,
				       setup),
		cmocka_unit_test_setup(a_reader_that_never_comes_back_does_not_hold_up_the_stop,
				       setup),
		cmocka_unit_test_setup(a_reader_that_is_gone_costs_its_lines_only, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
