/* The commands and their command line: one table, from which the usage texts come, too. Main thread. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app_private.h"
#include "depotd/app/app.h"

enum { PRINT_MAX = 1024 * 1024 };

static const char default_file[] = "/etc/depotd/depotd.conf";

/* "not built yet" is said once, for the names that later versions will give a meaning. */
static int not_built_run(struct invocation *invocation)
{
	app_complain("%s: not built yet", invocation->command->name);
	return EXIT_USAGE;
}

static const struct command commands[] = {
	{.name = "serve",
	 .summary = "run the daemon in the foreground",
	 .text = "Takes uploads over HTTP, stores them and serves them, until SIGTERM or SIGINT. "
		 "Then running requests\n"
		 "finish (at most server.drain_timeout) and it exits 0; a second signal ends it at "
		 "once. SIGHUP re-reads\n"
		 "what can change while running.\n",
	 .cannot_run = EXIT_FAILED,
	 .run = serve_run},
	{.name = "check",
	 .summary = "compare rows and stored files, both ways",
	 .text = "Prints a line for each finding and a summary. May run beside a serving daemon.\n"
		 "--verify reads every file and compares its SHA-256. --repair destroys no bytes: "
		 "it "
		 "writes descriptions\n"
		 "anew, removes (and prints) rows whose bytes are gone, makes lost rows again from "
		 "their files or moves bytes\n"
		 "without a row to aside/ in the data directory, and marks damaged files, which "
		 "stay a finding.\n"
		 "Exits 0 when nothing was found (or, with --repair, nothing is left to mend), 1 "
		 "with findings, 2 when it\n"
		 "could not run.\n",
	 .options = OPTION_REPAIR | OPTION_VERIFY,
	 .cannot_run = EXIT_USAGE,
	 .run = check_run},
	{.name = "reindex",
	 .summary = "rebuild the rows from the stored files alone",
	 .text = "Every stored file describes itself: an empty database comes back from the data "
		 "directory.\n"
		 "Rows that are there already stay as they are, unless the database was restored "
		 "to an earlier time\n"
		 "and is behind the files. Exits 0 when every file has its "
		 "row, else 1.\n",
	 .cannot_run = EXIT_FAILED,
	 .run = reindex_run},
	{.name = "migrate",
	 .summary = "bring the database's schema up to date",
	 .text = "serve does it too, unless database.migrate is off.\n",
	 .cannot_run = EXIT_FAILED,
	 .run = migrate_run},
	{.name = "config",
	 .summary = "print the effective configuration and where each value came from",
	 .text = "The output is a valid configuration file; passwords are masked.\n",
	 .options = OPTION_SAMPLE | OPTION_MANUAL,
	 .cannot_run = EXIT_FAILED,
	 .run = config_run},
	{.name = "user", .run = not_built_run},
	{.name = "token", .run = not_built_run},
};

static const struct {
	const char *flag;
	enum option option;
	const char *help;
} option_flags[] = {
	{"--repair", OPTION_REPAIR, "mend what can be mended"},
	{"--verify", OPTION_VERIFY, "read every file and compare its SHA-256"},
	{"--sample", OPTION_SAMPLE, "print a commented sample file instead"},
	{"--manual", OPTION_MANUAL, NULL},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };
enum { OPTION_COUNT = sizeof(option_flags) / sizeof(option_flags[0]) };

void app_complain(const char *format, ...)
{
	struct buf line;
	va_list args;
	char text[1024];
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* In one write, so that lines of several processes do not mix. */
	buf_init(&line, 2048);
	buf_printf(&line, "depotd: %s\n", text);
	fputs(buf_text(&line), stderr);
	buf_release(&line);
}

int app_print(struct buf *out)
{
	int result = EXIT_DONE;
	if (out->failed || fputs(buf_text(out), stdout) == EOF || fflush(stdout) != 0) {
		app_complain("standard output cannot be written");
		result = EXIT_FAILED;
	}
	buf_release(out);
	return result;
}

/* --- usage --- */

static void print_usage(struct buf *out)
{
	buf_puts(out, "Usage: depotd COMMAND [FLAG…]\n\n"
		      "Takes file uploads over HTTP, stores them on disk and serves "
		      "them.\n\nCommands:\n");
	for (int i = 0; i < COMMAND_COUNT; i++) {
		if (commands[i].summary != NULL)
			buf_printf(out, "  %-10s%s\n", commands[i].name, commands[i].summary);
	}
	buf_puts(out, "\n  depotd COMMAND --help says more of each; depotd --version prints the "
		      "version.\n"
		      "\nConfiguration: flags win over DEPOTD_SECTION_KEY in the environment, that "
		      "over the file.\n"
		      "  --config FILE       the file (/etc/depotd/depotd.conf where it exists)\n"
		      "  --listen ADDR:PORT  where to listen; repeatable (127.0.0.1:8080)\n"
		      "  --data-dir DIR      where the files are (./var/data)\n"
		      "  --database URL      sqlite:PATH or postgresql://… "
		      "(sqlite:DATA_DIR/metadata.db)\n"
		      "  --SECTION.KEY VALUE any key; depotd serve --help lists them\n");
}

static void print_command_help(const struct command *command, struct buf *out)
{
	buf_printf(out, "Usage: depotd %s [FLAG…]\n\n%s\nFlags:\n", command->name, command->text);
	for (int i = 0; i < OPTION_COUNT; i++) {
		if ((command->options & option_flags[i].option) != 0 &&
		    option_flags[i].help != NULL)
			buf_printf(out, "  %-20s%s\n", option_flags[i].flag, option_flags[i].help);
	}
	buf_puts(out, "  --help              this text\n"
		      "  --config FILE       the configuration file (/etc/depotd/depotd.conf where "
		      "it exists)\n"
		      "  --listen ADDR:PORT  short for --server.listen\n"
		      "  --data-dir DIR      short for --storage.data_dir\n"
		      "  --database URL      short for --database.url\n");
	config_print_flags(out);
}

static int refuse_usage(void)
{
	struct buf usage;
	buf_init(&usage, PRINT_MAX);
	print_usage(&usage);
	fputs(buf_text(&usage), stderr);
	buf_release(&usage);
	return EXIT_USAGE;
}

/* --- the command line --- */

/* --config FILE or --config=FILE. 1 taken, 0 another flag, -1 without a file. */
static int take_config_flag(const struct invocation *invocation, int *at, const char **file,
			    struct err *err)
{
	static const char flag[] = "--config";
	const char *argument = invocation->argv[*at];
	if (strncmp(argument, flag, sizeof(flag) - 1) != 0)
		return 0;
	if (argument[sizeof(flag) - 1] == '=') {
		*file = argument + sizeof(flag);
		*at += 1;
		return 1;
	}
	if (argument[sizeof(flag) - 1] != '\0')
		return 0;
	if (*at + 1 >= invocation->argc)
		return err_set(err, ERR_INVALID, "--config: a value has to follow (FILE)");
	*file = invocation->argv[*at + 1];
	*at += 2;
	return 1;
}

static bool is_option(const struct command *command, const char *argument, unsigned *options)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		if ((command->options & option_flags[i].option) != 0 &&
		    strcmp(argument, option_flags[i].flag) == 0) {
			*options |= option_flags[i].option;
			return true;
		}
	}
	return false;
}

static int read_flags(const struct invocation *invocation, struct config *config, const char **file,
		      unsigned *options, struct err *err)
{
	for (int at = 0; at < invocation->argc;) {
		const char *argument = invocation->argv[at];
		if (is_option(invocation->command, argument, options)) {
			at++;
			continue;
		}
		int taken = take_config_flag(invocation, &at, file, err);
		if (taken == 0)
			taken = config_read_flag(config, invocation->argc, invocation->argv, &at,
						 err);
		if (taken < 0)
			return -1;
		if (taken == 0)
			return err_set(err, ERR_INVALID,
				       "%.80s: no such flag; depotd %s --help lists them", argument,
				       invocation->command->name);
	}
	return 0;
}

static int load(const struct invocation *invocation, struct config **out, unsigned *options,
		bool *usage, struct err *err)
{
	const char *file = NULL;
	struct config *config = config_new();
	*usage = false;
	if (config == NULL)
		return err_set(err, ERR_NO_MEMORY, "configuration");
	if (read_flags(invocation, config, &file, options, err) != 0) {
		*usage = true;
		goto fail;
	}
	if (file == NULL && access(default_file, F_OK) == 0)
		file = default_file;
	if (file != NULL && config_read_file(config, file, err) != 0)
		goto fail;
	if (config_read_environment(config, invocation->environment, err) != 0)
		goto fail;
	*out = config;
	return 0;
fail:
	config_free(&config);
	return -1;
}

int app_load_config(const struct invocation *invocation, struct config **config, bool *usage,
		    struct err *err)
{
	unsigned ignored = 0;
	return load(invocation, config, &ignored, usage, err);
}

static bool wants_help(const struct invocation *invocation)
{
	for (int i = 0; i < invocation->argc; i++) {
		if (strcmp(invocation->argv[i], "--help") == 0 ||
		    strcmp(invocation->argv[i], "-h") == 0)
			return true;
	}
	return false;
}

static int run_command(struct invocation *invocation)
{
	const struct command *command = invocation->command;
	struct err err;
	bool usage;
	if (command->text == NULL)
		return command->run(invocation);
	if (wants_help(invocation)) {
		struct buf help;
		buf_init(&help, PRINT_MAX);
		print_command_help(command, &help);
		return app_print(&help);
	}
	if (load(invocation, &invocation->config, &invocation->options, &usage, &err) != 0) {
		app_complain("%s", err.message);
		return usage ? EXIT_USAGE : command->cannot_run;
	}
	int status = command->run(invocation);
	config_free(&invocation->config);
	return status;
}

int app_main(int argc, char *const *argv, char *const *environment)
{
	const char *name = argc > 1 ? argv[1] : "";
	struct buf out;
	buf_init(&out, PRINT_MAX);
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		print_usage(&out);
		return app_print(&out);
	}
	if (strcmp(name, "--version") == 0) {
		buf_printf(&out, "depotd %s\n", DEPOTD_VERSION);
		return app_print(&out);
	}
	for (int i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			struct invocation invocation = {.command = &commands[i],
							.argc = argc - 2,
							.argv = argv + 2,
							.environment = environment};
			return run_command(&invocation);
		}
	}
	if (name[0] != '\0')
		app_complain("%.80s: no such command", name);
	return refuse_usage();
}

int config_run(struct invocation *invocation)
{
	struct buf out;
	buf_init(&out, PRINT_MAX);
	if ((invocation->options & OPTION_MANUAL) != 0)
		config_print_manual(&out);
	else if ((invocation->options & OPTION_SAMPLE) != 0)
		config_print_sample(&out);
	else
		config_print(invocation->config, &out);
	return app_print(&out);
}
