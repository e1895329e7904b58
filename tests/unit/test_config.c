/* The configuration: its table, its sources and their order, and what it says of mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "depotd/app/config.h"

static int setup(void **state)
{
	*state = config_new();
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	config_free((struct config **)state);
	return 0;
}

static int read_text(struct config *config, const char *text, struct err *err)
{
	FILE *stream = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	assert_non_null(stream);
	int result = config_read_stream(config, stream, "depotd.conf", err);
	fclose(stream);
	return result;
}

static void assert_refused(struct config *config, const char *text, const char *message)
{
	struct err err = {0};
	assert_int_equal(read_text(config, text, &err), -1);
	assert_string_equal(err.message, message);
}

static int read_flags(struct config *config, int argc, const char *const *argv, struct err *err)
{
	for (int at = 0; at < argc;) {
		int taken =
			config_read_flag(config, argc, (char *const *)(uintptr_t)argv, &at, err);
		if (taken != 1)
			return taken;
	}
	return 1;
}

/* --- the table --- */

static void every_default_is_allowed_by_its_own_row(void **state)
{
	const struct config *config = *state;
	assert_non_null(config);
	assert_int_equal(config_number(config, CONFIG_SERVER_IDLE_TIMEOUT), 60000);
	assert_int_equal(config_number(config, CONFIG_SERVER_BUFFER_MEMORY), 16 << 20);
	assert_int_equal(config_number(config, CONFIG_LIMITS_MAX_UPLOAD), -1);
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 0), "127.0.0.1:8080");
	assert_null(config_item(config, CONFIG_SERVER_LISTEN, 1));
}

static void every_row_has_a_section_a_name_and_help(void **state)
{
	(void)state;
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		const struct config_key *key = &config_keys[id];
		assert_non_null(key->section);
		assert_non_null(key->name);
		assert_non_null(key->argument);
		assert_int_equal(key->help[strlen(key->help) - 1], '.');
		assert_int_equal(config_find(key->section, key->name), id);
	}
}

static void the_database_is_in_the_data_directory_unless_it_is_named(void **state)
{
	struct config *config = *state;
	struct err err;
	struct buf url;
	buf_init(&url, 1024);
	assert_int_equal(read_text(config, "[storage]\ndata_dir = /srv/depot\n", &err), 0);
	config_database_url(config, &url);
	assert_string_equal(buf_text(&url), "sqlite:/srv/depot/metadata.db");
	buf_release(&url);
}

/* --- the file --- */

static void a_file_sets_values_of_every_type(void **state)
{
	struct config *config = *state;
	struct err err;
	assert_int_equal(
		read_text(config,
			  "# a comment\n[server]\nworkers = 7 ; why not\nidle_timeout=90s\n"
			  "[limits]\nmax_upload = 2G\n[storage]\nrequire_mount = yes\n"
			  "[log]\naccess = json\n[access]\nmode = open\n",
			  &err),
		0);
	assert_int_equal(config_number(config, CONFIG_SERVER_WORKERS), 7);
	assert_int_equal(config_number(config, CONFIG_SERVER_IDLE_TIMEOUT), 90000);
	assert_int_equal(config_number(config, CONFIG_LIMITS_MAX_UPLOAD), INT64_C(2) << 30);
	assert_true(config_on(config, CONFIG_STORAGE_REQUIRE_MOUNT));
	assert_int_equal(config_number(config, CONFIG_LOG_ACCESS), 2);
	assert_string_equal(config_origin(config, CONFIG_SERVER_WORKERS), "depotd.conf:3");
	assert_int_equal(config_source(config, CONFIG_ACCESS_MODE), CONFIG_FROM_FILE);
}

static void a_list_grows_line_by_line_and_at_commas(void **state)
{
	struct config *config = *state;
	struct err err;
	assert_int_equal(
		read_text(config, "[server]\nlisten = 127.0.0.1:1, [::1]:2\nlisten = localhost:3\n",
			  &err),
		0);
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 0), "127.0.0.1:1");
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 1), "[::1]:2");
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 2), "localhost:3");
	assert_null(config_item(config, CONFIG_SERVER_LISTEN, 3));
}

static void an_empty_assignment_empties_a_list(void **state)
{
	struct config *config = *state;
	struct err err;
	assert_int_equal(read_text(config,
				   "[server]\nlisten = 127.0.0.1:1\nlisten =\nlisten = [::1]:2\n",
				   &err),
			 0);
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 0), "[::1]:2");
	assert_null(config_item(config, CONFIG_SERVER_LISTEN, 1));
}

static void an_unknown_key_is_named_with_its_line_and_what_there_is(void **state)
{
	assert_refused(*state, "[log]\n\nlvel = info\n",
		       "depotd.conf:3: no key \"lvel\" in [log]; it has level, access");
}

static void an_unknown_section_is_named_with_its_line_and_what_there_is(void **state)
{
	assert_refused(*state, "[sever]\nlisten = 127.0.0.1:1\n",
		       "depotd.conf:2: listen: no section [sever]; there are [server], [limits], "
		       "[storage], [database], "
		       "[cache], [log], [access]");
}

static void a_scalar_that_stands_twice_is_refused_with_both_places(void **state)
{
	assert_refused(*state, "[storage]\ngrace = 1h\n[log]\n[storage]\ngrace = 2h\n",
		       "depotd.conf:5: storage.grace stands a second time (first at "
		       "depotd.conf:2); it takes one value");
}

static void a_bad_value_is_named_with_what_is_allowed(void **state)
{
	assert_refused(*state, "[server]\nworkers = many\n",
		       "depotd.conf:2: server.workers: \"many\" is not allowed: it takes a whole "
		       "number from 1 to 1024");
	assert_refused(*state, "[log]\nlevel = loud\n",
		       "depotd.conf:2: log.level: \"loud\" is not allowed: it takes one of error, "
		       "warning, info, debug");
	assert_refused(*state, "[storage]\nrequire_mount = maybe\n",
		       "depotd.conf:2: storage.require_mount: \"maybe\" is not allowed: it takes "
		       "on or off");
}

static void a_value_out_of_bounds_is_refused(void **state)
{
	struct err err;
	assert_int_equal(read_text(*state, "[server]\nworkers = 0\n", &err), -1);
	assert_int_equal(read_text(*state, "[server]\nbuffer_memory = 1K\n", &err), -1);
	assert_int_equal(read_text(*state, "[server]\nheader_timeout = 99ms\n", &err), -1);
	assert_int_equal(
		read_text(*state, "[server]\nmax_connections = 99999999999999999999\n", &err), -1);
}

static void a_line_that_is_neither_key_nor_section_is_named(void **state)
{
	assert_refused(*state, "[server]\nlisten\n",
		       "depotd.conf:2: neither [section] nor key = value nor a comment (# or ;)");
	assert_refused(*state, "[server\n",
		       "depotd.conf:1: neither [section] nor key = value nor a comment (# or ;)");
}

static void an_indented_line_is_a_line_like_any_other(void **state)
{
	struct config *config = *state;
	struct err err;
	assert_int_equal(read_text(config, "[server]\n  workers = 3\n  event_threads = 2\n", &err),
			 0);
	assert_int_equal(config_number(config, CONFIG_SERVER_WORKERS), 3);
	assert_int_equal(config_number(config, CONFIG_SERVER_EVENT_THREADS), 2);
}

static void a_connection_string_of_a_thousand_bytes_is_kept_whole(void **state)
{
	struct config *config = *state;
	struct err err;
	char url[1001], text[1100];
	memset(url, 'x', 1000);
	memcpy(url, "host=", 5);
	url[1000] = '\0';
	snprintf(text, sizeof(text), "[database]\nurl = %s\n", url);
	assert_int_equal(read_text(config, text, &err), 0);
	assert_string_equal(config_text(config, CONFIG_DATABASE_URL), url);
}

static void a_line_that_does_not_fit_is_refused_instead_of_split(void **state)
{
	static char text[9000];
	struct err err;
	memset(text, 'x', sizeof(text) - 1);
	memcpy(text, "[database]\nurl = ", 17);
	assert_int_equal(read_text(*state, text, &err), -1);
	assert_string_equal(err.message, "depotd.conf:2: a line takes at most 4094 bytes");
}

static void a_file_with_windows_line_ends_reads_the_same(void **state)
{
	struct config *config = *state;
	struct err err;
	assert_int_equal(read_text(config, "[server]\r\nworkers = 5\r\n", &err), 0);
	assert_int_equal(config_number(config, CONFIG_SERVER_WORKERS), 5);
}

/* --- precedence --- */

static void flags_win_over_the_environment_and_that_over_the_file(void **state)
{
	struct config *config = *state;
	struct err err;
	char variable[] = "DEPOTD_SERVER_WORKERS=20", second[] = "DEPOTD_STORAGE_GRACE=20m";
	char *const environment[] = {variable, second, NULL};
	const char *const flags[] = {"--server.workers", "30"};
	/* In the "wrong" order of reading: the order of sources does not matter, their rank does. */
	assert_int_equal(read_flags(config, 2, flags, &err), 1);
	assert_int_equal(
		read_text(config, "[server]\nworkers = 10\n[storage]\ngrace = 10m\ndata_dir = /d\n",
			  &err),
		0);
	assert_int_equal(config_read_environment(config, environment, &err), 0);
	assert_int_equal(config_number(config, CONFIG_SERVER_WORKERS), 30);
	assert_string_equal(config_origin(config, CONFIG_SERVER_WORKERS), "--server.workers");
	assert_int_equal(config_number(config, CONFIG_STORAGE_GRACE), 20 * 60 * 1000);
	assert_string_equal(config_origin(config, CONFIG_STORAGE_GRACE), "DEPOTD_STORAGE_GRACE");
	assert_string_equal(config_text(config, CONFIG_STORAGE_DATA_DIR), "/d");
}

static void a_list_of_a_stronger_source_replaces_the_weaker_ones(void **state)
{
	struct config *config = *state;
	struct err err;
	const char *const flags[] = {"--listen", "127.0.0.1:1", "--listen=127.0.0.1:2"};
	assert_int_equal(read_text(config, "[server]\nlisten = 127.0.0.1:9\n", &err), 0);
	assert_int_equal(read_flags(config, 3, flags, &err), 1);
	assert_string_equal(config_text(config, CONFIG_SERVER_LISTEN), "127.0.0.1:1, 127.0.0.1:2");
}

static void an_outranked_mistake_is_still_a_mistake(void **state)
{
	struct config *config = *state;
	struct err err;
	const char *const flags[] = {"--server.workers", "30", "--listen", "127.0.0.1:1"};
	assert_int_equal(read_flags(config, 4, flags, &err), 1);
	assert_int_equal(read_text(config, "[server]\nworkers = many\n", &err), -1);
	assert_int_equal(read_text(config, "[server]\nlisten = nowhere\n", &err), -1);
}

/* --- the environment --- */

static void an_unknown_variable_of_a_known_section_is_refused(void **state)
{
	struct err err;
	char variable[] = "DEPOTD_LOG_LVEL=info";
	char *const environment[] = {variable, NULL};
	assert_int_equal(config_read_environment(*state, environment, &err), -1);
	assert_string_equal(err.message,
			    "DEPOTD_LOG_LVEL: no key \"lvel\" in [log]; it has level, access");
}

static void variables_of_others_are_left_alone(void **state)
{
	struct err err;
	char a[] = "DEPOTD_PORT=tcp://10.0.0.1", b[] = "DEPOTD_=x", c[] = "DEPOTD_HOME=/x",
	     d[] = "DEPOT_SERVER_WORKERS=x";
	char *const environment[] = {a, b, c, d, NULL};
	assert_int_equal(config_read_environment(*state, environment, &err), 0);
}

static void listen_addresses_in_the_environment_are_separated_by_commas(void **state)
{
	struct config *config = *state;
	struct err err;
	char variable[] = "DEPOTD_SERVER_LISTEN=127.0.0.1:1,[::1]:2";
	char *const environment[] = {variable, NULL};
	assert_int_equal(config_read_environment(config, environment, &err), 0);
	assert_string_equal(config_item(config, CONFIG_SERVER_LISTEN, 1), "[::1]:2");
}

/* --- flags --- */

static void hyphens_and_underscores_in_flags_are_alike(void **state)
{
	struct config *config = *state;
	struct err err;
	const char *const flags[] = {"--server.max-connections=11", "--data_dir", "/x",
				     "--storage.require_mount=on"};
	assert_int_equal(read_flags(config, 4, flags, &err), 1);
	assert_int_equal(config_number(config, CONFIG_SERVER_MAX_CONNECTIONS), 11);
	assert_string_equal(config_text(config, CONFIG_STORAGE_DATA_DIR), "/x");
	assert_string_equal(config_origin(config, CONFIG_STORAGE_DATA_DIR), "--data_dir");
}

static void a_flag_without_its_value_is_wrong(void **state)
{
	struct err err;
	const char *const flags[] = {"--listen"};
	assert_int_equal(read_flags(*state, 1, flags, &err), -1);
	assert_string_equal(err.message, "--listen: a value has to follow (ADDR:PORT)");
}

static void what_is_no_configuration_flag_is_left_to_others(void **state)
{
	struct err err;
	const char *const unknown[] = {"--repair", "--server.prot", "serve",   "--",
				       "-x",       "--.=",          "--server"};
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		int at = 0;
		assert_int_equal(config_read_flag(*state, 1, (char *const *)(uintptr_t)&unknown[i],
						  &at, &err),
				 0);
		assert_int_equal(at, 0);
	}
}

static void listen_takes_addresses_with_a_port_only(void **state)
{
	static const char *const good[] = {"127.0.0.1:0", "[::1]:65535", "localhost:80",
					   "0.0.0.0:1", "[fe80::1%eth0]:80"};
	static const char *const bad[] = {"8080",
					  ":8080",
					  "127.0.0.1",
					  "127.0.0.1:",
					  "127.0.0.1:65536",
					  "::1:80",
					  "[]:80",
					  "[::1]",
					  "a b:80",
					  "127.0.0.1:8o",
					  "http://localhost:80",
					  "127.0.0.1:-1"};
	struct config *config = *state;
	struct err err;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(config_set(config, CONFIG_SERVER_LISTEN, good[i], CONFIG_FROM_FLAG,
					    "--listen", &err),
				 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (config_set(config, CONFIG_SERVER_LISTEN, bad[i], CONFIG_FROM_FLAG, "--listen",
			       &err) != -1)
			fail_msg("taken: %s", bad[i]);
	}
}

static void text_with_control_characters_is_refused(void **state)
{
	struct err err;
	assert_int_equal(config_set(*state, CONFIG_STORAGE_DATA_DIR, "a\nb", CONFIG_FROM_FLAG,
				    "--data-dir", &err),
			 -1);
}

/* --- printing --- */

static void assert_url_prints_as(struct config *config, const char *url, const char *shown)
{
	struct err err;
	struct buf out;
	char line[512];
	buf_init(&out, 64 * 1024);
	assert_int_equal(
		config_set(config, CONFIG_DATABASE_URL, url, CONFIG_FROM_FLAG, "--database", &err),
		0);
	config_print(config, &out);
	snprintf(line, sizeof(line), "\nurl = %s ", shown);
	if (strstr(buf_text(&out), line) == NULL)
		fail_msg("%s is not shown as %s", url, shown);
	buf_release(&out);
}

static void passwords_are_never_printed(void **state)
{
	struct config *config = *state;
	assert_url_prints_as(config, "postgresql://u:s3cret@h:5432/d?sslmode=verify-full",
			     "postgresql://u:***@h:5432/d?sslmode=verify-full");
	assert_url_prints_as(config, "postgres://u:p@ss@h/d", "postgres://u:***@h/d");
	assert_url_prints_as(config, "postgresql:///d?user=u&password=s3cret&host=/run",
			     "postgresql:///d?user=u&password=***&host=/run");
	assert_url_prints_as(config, "host=h password=s3cret dbname=d",
			     "host=h password=*** dbname=d");
	assert_url_prints_as(config, "host=h password = 's3 \\' cret' dbname=d",
			     "host=h password = *** dbname=d");
	assert_url_prints_as(config, "host=h sslpassword=s3cret", "host=h sslpassword=***");
	assert_url_prints_as(config, "postgresql://u@h/d", "postgresql://u@h/d");
	assert_url_prints_as(config, "sqlite:/srv/password=x.db", "sqlite:/srv/password=x.db");
}

static void what_is_printed_reads_back_as_the_same_configuration(void **state)
{
	struct config *config = *state, *again = config_new();
	struct err err;
	struct buf out;
	buf_init(&out, 64 * 1024);
	assert_int_equal(
		read_text(config,
			  "[server]\nlisten = 127.0.0.1:1, [::1]:2\n[storage]\nreserve = 1G\n",
			  &err),
		0);
	config_print(config, &out);
	assert_int_equal(read_text(again, buf_text(&out), &err), 0);
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		if (id != CONFIG_DATABASE_URL)
			assert_string_equal(config_text(config, (enum config_id)id),
					    config_text(again, (enum config_id)id));
	}
	buf_release(&out);
	config_free(&again);
}

static void the_sample_file_is_one_of_comments_only(void **state)
{
	struct err err;
	struct buf out;
	buf_init(&out, 64 * 1024);
	config_print_sample(&out);
	assert_int_equal(read_text(*state, buf_text(&out), &err), 0);
	for (int id = 0; id < CONFIG_ID_COUNT; id++)
		assert_int_equal(config_source(*state, (enum config_id)id), CONFIG_FROM_DEFAULT);
	buf_release(&out);
}

static void the_sample_file_without_its_comment_marks_is_the_default_configuration(void **state)
{
	struct config *config = *state;
	struct err err;
	struct buf out, bare;
	buf_init(&out, 64 * 1024);
	buf_init(&bare, 64 * 1024);
	config_print_sample(&out);
	for (const char *p = buf_text(&out); *p != '\0'; p++) {
		bool mark = *p == '#' && p[1] != ' ' && (p == buf_text(&out) || p[-1] == '\n');
		if (!mark)
			buf_putc(&bare, *p);
	}
	assert_int_equal(read_text(config, buf_text(&bare), &err), 0);
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		assert_int_equal(config_source(config, (enum config_id)id), CONFIG_FROM_FILE);
		assert_string_equal(config_text(config, (enum config_id)id),
				    config_keys[id].initial);
	}
	buf_release(&out);
	buf_release(&bare);
}

/* --- reloading --- */

static void note_key(void *context, const struct config_key *key)
{
	const struct config_key **noted = context;
	*noted = key;
}

static void reloading_takes_what_may_change_and_names_the_rest(void **state)
{
	struct config *config = *state, *fresh = config_new();
	const struct config_key *noted = NULL;
	struct err err;
	assert_int_equal(read_text(fresh, "[log]\nlevel = debug\n[server]\nworkers = 5\n", &err),
			 0);
	assert_int_equal(config_reload(config, fresh, note_key, &noted, &err), 0);
	assert_int_equal(config_number(config, CONFIG_LOG_LEVEL), 3);
	assert_int_equal(config_number(config, CONFIG_SERVER_WORKERS), 64);
	assert_ptr_equal(noted, &config_keys[CONFIG_SERVER_WORKERS]);
	config_free(&fresh);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(every_default_is_allowed_by_its_own_row),
		CASE(every_row_has_a_section_a_name_and_help),
		CASE(the_database_is_in_the_data_directory_unless_it_is_named),
		CASE(a_file_sets_values_of_every_type),
		CASE(a_list_grows_line_by_line_and_at_commas),
		CASE(an_empty_assignment_empties_a_list),
		CASE(an_unknown_key_is_named_with_its_line_and_what_there_is),
		CASE(an_unknown_section_is_named_with_its_line_and_what_there_is),
		CASE(a_scalar_that_stands_twice_is_refused_with_both_places),
		CASE(a_bad_value_is_named_with_what_is_allowed),
		CASE(a_value_out_of_bounds_is_refused),
		CASE(a_line_that_is_neither_key_nor_section_is_named),
		CASE(an_indented_line_is_a_line_like_any_other),
		CASE(a_connection_string_of_a_thousand_bytes_is_kept_whole),
		CASE(a_line_that_does_not_fit_is_refused_instead_of_split),
		CASE(a_file_with_windows_line_ends_reads_the_same),
		CASE(flags_win_over_the_environment_and_that_over_the_file),
		CASE(a_list_of_a_stronger_source_replaces_the_weaker_ones),
		CASE(an_outranked_mistake_is_still_a_mistake),
		CASE(an_unknown_variable_of_a_known_section_is_refused),
		CASE(variables_of_others_are_left_alone),
		CASE(listen_addresses_in_the_environment_are_separated_by_commas),
		CASE(hyphens_and_underscores_in_flags_are_alike),
		CASE(a_flag_without_its_value_is_wrong),
		CASE(what_is_no_configuration_flag_is_left_to_others),
		CASE(listen_takes_addresses_with_a_port_only),
		CASE(text_with_control_characters_is_refused),
		CASE(passwords_are_never_printed),
		CASE(what_is_printed_reads_back_as_the_same_configuration),
		CASE(the_sample_file_is_one_of_comments_only),
		CASE(the_sample_file_without_its_comment_marks_is_the_default_configuration),
		CASE(reloading_takes_what_may_change_and_names_the_rest),
	};
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
