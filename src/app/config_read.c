/*
 * The sources of the configuration: the INI file, the environment, the command line. Each ends in config_set().
 *
 * libinih tells its callback no line number, so it reads through a reader of ours that counts. Debian's libinih has its
 * limits in variables; ours are set before each use, on the one thread that reads configuration.
 */
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/app/config.h"

enum {
	LINE_MAX_BYTES =
		4096, /* of the file; libinih's own default of 200 is short for a connection string */
	NAME_MAX_BYTES = 128,
};

/* --- the file --- */

struct ini_source {
	struct config *config;
	FILE *stream;
	const char *name;
	int line;
	bool too_long;
	struct err *err;
	bool failed;
};

static char *read_line(char *line, int size, void *context)
{
	struct ini_source *source = context;
	char *got = fgets(line, size, source->stream);
	if (got == NULL)
		return NULL;
	source->line++;
	/* A line that does not fit would come as two, the second with a meaning of its own: end the reading instead. */
	if (strchr(line, '\n') == NULL && !feof(source->stream)) {
		source->too_long = true;
		return NULL;
	}
	return got;
}

static void list_keys(const char *section, struct buf *out)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		if (strcmp(config_keys[id].section, section) == 0)
			buf_printf(out, "%s%s", out->len > 0 ? ", " : "", config_keys[id].name);
	}
}

static void list_sections(struct buf *out)
{
	const char *last = "";
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		if (strcmp(config_keys[id].section, last) != 0)
			buf_printf(out, "%s[%s]", out->len > 0 ? ", " : "",
				   config_keys[id].section);
		last = config_keys[id].section;
	}
}

/* "no key X in [server]; there are …", or the same of the section. Always -1. */
static int unknown_key(const char *origin, const char *section, const char *name, struct err *err)
{
	struct buf known;
	buf_init(&known, 512);
	list_keys(section, &known);
	if (known.len > 0) {
		err_set(err, ERR_INVALID, "%s: no key \"%.60s\" in [%s]; it has %s", origin, name,
			section, buf_text(&known));
	} else {
		list_sections(&known);
		err_set(err, ERR_INVALID, "%s: %.60s: no section [%.60s]; there are %s", origin,
			name, section, buf_text(&known));
	}
	buf_release(&known);
	return -1;
}

static int take_pair(void *context, const char *section, const char *name, const char *value)
{
	struct ini_source *source = context;
	struct buf origin;
	buf_init(&origin, 4096);
	buf_printf(&origin, "%s:%d", source->name, source->line);
	int id = config_find(section, name);
	if (id < 0)
		source->failed = unknown_key(buf_text(&origin), section, name, source->err) != 0;
	else
		source->failed = config_set(source->config, (enum config_id)id, value,
					    CONFIG_FROM_FILE, buf_text(&origin), source->err) != 0;
	buf_release(&origin);
	return source->failed ? 0 : 1;
}

int config_read_stream(struct config *config, FILE *stream, const char *name, struct err *err)
{
	struct ini_source source = {.config = config, .stream = stream, .name = name, .err = err};
	ini_allow_multiline = false;
	ini_stop_on_first_error = true;
	ini_use_stack = false;
	ini_max_line = LINE_MAX_BYTES;
	ini_initial_alloc = LINE_MAX_BYTES;
	int line = ini_parse_stream(read_line, &source, take_pair, &source);
	if (source.failed)
		return -1;
	if (source.too_long)
		return err_set(err, ERR_INVALID, "%s:%d: a line takes at most %d bytes", name,
			       source.line, LINE_MAX_BYTES - 2);
	if (ferror(stream))
		return err_set_errno(err, ERR_IO, "%s", name);
	if (line != 0)
		return err_set(err, ERR_INVALID,
			       "%s:%d: neither [section] nor key = value nor a comment (# or ;)",
			       name, source.line);
	return 0;
}

int config_read_file(struct config *config, const char *path, struct err *err)
{
	FILE *stream = fopen(path, "re");
	if (stream == NULL)
		return err_set_errno(err, ERR_INVALID, "configuration file %s", path);
	int result = config_read_stream(config, stream, path, err);
	fclose(stream);
	return result;
}

/* --- the environment --- */

static void lower_case(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
	}
}

static bool is_section(const char *text, size_t n)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		if (strlen(config_keys[id].section) == n &&
		    memcmp(config_keys[id].section, text, n) == 0)
			return true;
	}
	return false;
}

static int read_variable(struct config *config, const char *variable, struct err *err)
{
	static const char prefix[] = "DEPOTD_";
	if (strncmp(variable, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	const char *equals = strchr(variable, '=');
	size_t n = equals == NULL ? 0 : (size_t)(equals - variable);
	if (n <= sizeof(prefix) || n >= NAME_MAX_BYTES)
		return 0;
	char name[NAME_MAX_BYTES], key[NAME_MAX_BYTES];
	memcpy(name, variable, n);
	name[n] = '\0';
	memcpy(key, name + sizeof(prefix) - 1, n - sizeof(prefix) + 2);
	lower_case(key);
	char *underscore = strchr(key, '_');
	if (underscore == NULL || !is_section(key, (size_t)(underscore - key)))
		return 0;
	*underscore = '\0';
	int id = config_find(key, underscore + 1);
	if (id < 0)
		return unknown_key(name, key, underscore + 1, err);
	return config_set(config, (enum config_id)id, equals + 1, CONFIG_FROM_ENVIRONMENT, name,
			  err);
}

int config_read_environment(struct config *config, char *const *environment, struct err *err)
{
	for (; environment != NULL && *environment != NULL; environment++) {
		if (read_variable(config, *environment, err) != 0)
			return -1;
	}
	return 0;
}

/* --- the command line --- */

/* "server.max-connections" → its id, -1 unknown. */
static int flag_id(const char *flag, size_t n)
{
	static const struct {
		const char *flag;
		enum config_id id;
	} shorts[] = {{"listen", CONFIG_SERVER_LISTEN},
		      {"data_dir", CONFIG_STORAGE_DATA_DIR},
		      {"database", CONFIG_DATABASE_URL}};
	char name[NAME_MAX_BYTES];
	if (n >= sizeof(name))
		return -1;
	for (size_t i = 0; i < n; i++)
		name[i] = flag[i] == '-' ? '_' : flag[i];
	name[n] = '\0';
	for (size_t i = 0; i < sizeof(shorts) / sizeof(shorts[0]); i++) {
		if (strcmp(shorts[i].flag, name) == 0)
			return (int)shorts[i].id;
	}
	char *dot = strchr(name, '.');
	if (dot == NULL)
		return -1;
	*dot = '\0';
	return config_find(name, dot + 1);
}

int config_read_flag(struct config *config, int argc, char *const *argv, int *at, struct err *err)
{
	const char *flag = argv[*at];
	if (strncmp(flag, "--", 2) != 0)
		return 0;
	size_t n = strcspn(flag, "=");
	int id = flag_id(flag + 2, n - 2);
	if (id < 0)
		return 0;
	const char *value;
	if (flag[n] == '=') {
		value = flag + n + 1;
		*at += 1;
	} else if (*at + 1 < argc) {
		value = argv[*at + 1];
		*at += 2;
	} else {
		return err_set(err, ERR_INVALID, "%s: a value has to follow (%s)", flag,
			       config_keys[id].argument);
	}
	char origin[NAME_MAX_BYTES + 2];
	snprintf(origin, sizeof(origin), "%.*s", (int)n, flag);
	if (config_set(config, (enum config_id)id, value, CONFIG_FROM_FLAG, origin, err) != 0)
		return -1;
	return 1;
}
