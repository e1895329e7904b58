/*
 * The values of the configuration: checked when they are set, kept with their origin.
 *
 * Invariant: every value in a struct config parses under its key's type and lies within its bounds, so that readers of
 * numbers cannot fail. Thread: see config.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "depotd/app/config.h"
#include "depotd/model/quantity.h"

enum { LIST_MAX = 64 };

struct value {
	char *text;
	int64_t number;
	enum config_source source;
	char *origin;
	char *items[LIST_MAX]; /* LIST only; number of them are in use */
};

struct config {
	struct value values[CONFIG_ID_COUNT];
};

static void value_release(struct value *value)
{
	free(value->text);
	free(value->origin);
	for (size_t i = 0; i < LIST_MAX; i++)
		free(value->items[i]);
	memset(value, 0, sizeof(*value));
}

void config_free(struct config **config)
{
	if (*config == NULL)
		return;
	for (int id = 0; id < CONFIG_ID_COUNT; id++)
		value_release(&(*config)->values[id]);
	free(*config);
	*config = NULL;
}

int config_find(const char *section, const char *name)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		if (strcmp(config_keys[id].section, section) == 0 &&
		    strcmp(config_keys[id].name, name) == 0)
			return id;
	}
	return -1;
}

/* --- parsing: 1 ok, 0 malformed or out of bounds --- */

static int parse_int(const char *text, int64_t *number)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || text[0] == ' ' || text[0] == '\t')
		return 0;
	*number = n;
	return 1;
}

static int parse_bool(const char *text, int64_t *number)
{
	static const char *const words[][2] = {
		{"on", "off"}, {"yes", "no"}, {"true", "false"}, {"1", "0"}};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (int off = 0; off < 2; off++) {
			if (strcasecmp(text, words[i][off]) == 0) {
				*number = !off;
				return 1;
			}
		}
	}
	return 0;
}

static int parse_word(const char *words, const char *text, int64_t *number)
{
	size_t n = strlen(text);
	int64_t index = 0;
	for (const char *word = words;; word += strcspn(word, "|") + 1, index++) {
		size_t length = strcspn(word, "|");
		if (length == n && strncasecmp(word, text, n) == 0) {
			*number = index;
			return 1;
		}
		if (word[length] == '\0')
			return 0;
	}
}

static bool has_control(const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return true;
	}
	return false;
}

static int parse_scalar(const struct config_key *key, const char *text, int64_t *number)
{
	switch (key->type) {
	case CONFIG_SIZE:
		if (key->words != NULL && strcasecmp(text, key->words) == 0) {
			*number = -1;
			return 1;
		}
		if (!quantity_parse_size(text, number))
			return 0;
		break;
	case CONFIG_DURATION:
		if (!quantity_parse_duration(text, number))
			return 0;
		break;
	case CONFIG_INT:
		if (!parse_int(text, number))
			return 0;
		break;
	case CONFIG_BOOL:
		return parse_bool(text, number);
	case CONFIG_ENUM:
		return parse_word(key->words, text, number);
	case CONFIG_TEXT:
	case CONFIG_LIST:
		*number = 0;
		return !has_control(text) && (key->check == NULL || key->check(text));
	}
	return *number >= key->min && *number <= key->max;
}

/* "a size from 1M to 64G", for messages. */
static void describe_allowed(const struct config_key *key, struct buf *out)
{
	char min[24], max[24];
	switch (key->type) {
	case CONFIG_SIZE:
		quantity_format_size(key->min, min);
		quantity_format_size(key->max, max);
		if (key->words != NULL)
			buf_printf(out, "%s, or ", key->words);
		buf_puts(out, "a size such as 512K or 10G");
		if (key->max == INT64_MAX)
			buf_printf(out, ", at least %s", min);
		else
			buf_printf(out, ", from %s to %s", min, max);
		break;
	case CONFIG_DURATION:
		quantity_format_duration(key->min, min);
		quantity_format_duration(key->max, max);
		buf_printf(out, "a time such as 30s or 5m, from %s to %s", min, max);
		break;
	case CONFIG_INT:
		buf_printf(out, "a whole number from %lld to %lld", (long long)key->min,
			   (long long)key->max);
		break;
	case CONFIG_BOOL:
		buf_puts(out, "on or off");
		break;
	case CONFIG_ENUM:
		buf_puts(out, "one of ");
		for (const char *p = key->words; *p != '\0'; p++) {
			if (*p == '|')
				buf_puts(out, ", ");
			else
				buf_putc(out, *p);
		}
		break;
	case CONFIG_TEXT:
	case CONFIG_LIST:
		buf_puts(out,
			 key->allowed != NULL ? key->allowed : "text without control characters");
		break;
	}
}

static int refuse(const struct config_key *key, const char *text, const char *origin,
		  struct err *err)
{
	bool secret = key == &config_keys[CONFIG_DATABASE_URL]; /* there may be a password in it */
	struct buf allowed;
	buf_init(&allowed, 256);
	describe_allowed(key, &allowed);
	err_set(err, ERR_INVALID, "%s: %s.%s: \"%.60s\" is not allowed: it takes %s", origin,
		key->section, key->name, secret ? "…" : text, buf_text(&allowed));
	buf_release(&allowed);
	return -1;
}

/* --- setting --- */

static int replace_text(char **to, const char *from, struct err *err)
{
	char *copy = strdup(from);
	if (copy == NULL)
		return err_set(err, ERR_NO_MEMORY, "configuration");
	free(*to);
	*to = copy;
	return 0;
}

/* Appends the comma-separated items of text to the list. */
static int add_items(const struct config_key *key, struct value *value, const char *text,
		     const char *origin, struct err *err)
{
	const char *at = text;
	while (*at != '\0') {
		at += strspn(at, ", \t");
		size_t n = strcspn(at, ",");
		const char *next = at + n;
		while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t'))
			n--;
		if (n > 0) {
			if (value->number == LIST_MAX)
				return err_set(err, ERR_INVALID,
					       "%s: %s.%s takes at most %d values", origin,
					       key->section, key->name, LIST_MAX);
			char *item = strndup(at, n);
			if (item == NULL)
				return err_set(err, ERR_NO_MEMORY, "configuration");
			value->items[value->number++] = item;
			int64_t ignored;
			if (!parse_scalar(key, item, &ignored))
				return refuse(key, item, origin, err);
		}
		at = next;
	}
	return 0;
}

/* The list again as one text, so that it can be printed and compared like any other value. */
static int join_items(struct value *value, struct err *err)
{
	struct buf joined;
	size_t n;
	buf_init(&joined, 64 * 1024);
	for (int64_t i = 0; i < value->number; i++)
		buf_printf(&joined, "%s%s", i > 0 ? ", " : "", value->items[i]);
	free(value->text);
	value->text = joined.len > 0 ? buf_take(&joined, &n) : strdup("");
	buf_release(&joined);
	return value->text != NULL ? 0 : err_set(err, ERR_NO_MEMORY, "configuration");
}

static int set_list(const struct config_key *key, struct value *value, const char *text, bool grow,
		    const char *origin, struct err *err)
{
	if (!grow || text[0] == '\0') {
		for (size_t i = 0; i < LIST_MAX; i++) {
			free(value->items[i]);
			value->items[i] = NULL;
		}
		value->number = 0;
	}
	if (add_items(key, value, text, origin, err) != 0)
		return -1;
	return join_items(value, err);
}

static int set_scalar(const struct config_key *key, struct value *value, const char *text,
		      const char *origin, struct err *err)
{
	int64_t number;
	if (!parse_scalar(key, text, &number))
		return refuse(key, text, origin, err);
	if (replace_text(&value->text, text, err) != 0)
		return -1;
	value->number = number;
	return 0;
}

static int check_only(const struct config_key *key, const char *text, const char *origin,
		      struct err *err)
{
	struct value scratch = {0};
	int result = key->type == CONFIG_LIST ? add_items(key, &scratch, text, origin, err)
					      : set_scalar(key, &scratch, text, origin, err);
	value_release(&scratch);
	return result;
}

int config_set(struct config *config, enum config_id id, const char *text,
	       enum config_source source, const char *origin, struct err *err)
{
	const struct config_key *key = &config_keys[id];
	struct value *value = &config->values[id];
	bool again = value->origin != NULL && value->source == source;
	/* Outranked, but still checked: a mistake in the file does not wait until the flag is gone. */
	if (value->origin != NULL && source < value->source)
		return check_only(key, text, origin, err);
	if (again && source == CONFIG_FROM_FILE && key->type != CONFIG_LIST)
		return err_set(err, ERR_INVALID,
			       "%s: %s.%s stands a second time (first at %s); it takes one value",
			       origin, key->section, key->name, value->origin);
	if (key->type == CONFIG_LIST ? set_list(key, value, text, again, origin, err) != 0
				     : set_scalar(key, value, text, origin, err) != 0)
		return -1;
	if (replace_text(&value->origin, origin, err) != 0)
		return -1;
	value->source = source;
	return 0;
}

struct config *config_new(void)
{
	struct config *config = calloc(1, sizeof(*config));
	if (config == NULL)
		return NULL;
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		struct err err;
		if (config_set(config, (enum config_id)id, config_keys[id].initial,
			       CONFIG_FROM_DEFAULT, "default", &err) != 0) {
			config_free(&config);
			return NULL;
		}
	}
	return config;
}

/* --- reading --- */

const char *config_text(const struct config *config, enum config_id id)
{
	return config->values[id].text;
}

int64_t config_number(const struct config *config, enum config_id id)
{
	return config->values[id].number;
}

bool config_on(const struct config *config, enum config_id id)
{
	return config->values[id].number != 0;
}

const char *config_item(const struct config *config, enum config_id id, size_t i)
{
	const struct value *value = &config->values[id];
	return (int64_t)i < value->number ? value->items[i] : NULL;
}

enum config_source config_source(const struct config *config, enum config_id id)
{
	return config->values[id].source;
}

const char *config_origin(const struct config *config, enum config_id id)
{
	return config->values[id].origin;
}

void config_database_url(const struct config *config, struct buf *out)
{
	const char *url = config_text(config, CONFIG_DATABASE_URL);
	if (url[0] != '\0')
		buf_puts(out, url);
	else
		buf_printf(out, "sqlite:%s/metadata.db",
			   config_text(config, CONFIG_STORAGE_DATA_DIR));
}

/* Takes over a scalar's value; struct value owns its texts, so they are copied. */
static int copy_scalar(struct value *to, const struct value *from, struct err *err)
{
	if (replace_text(&to->text, from->text, err) != 0 ||
	    replace_text(&to->origin, from->origin, err) != 0)
		return -1;
	to->number = from->number;
	to->source = from->source;
	return 0;
}

int config_reload(struct config *config, const struct config *fresh,
		  void (*needs_restart)(void *context, const struct config_key *key), void *context,
		  struct err *err)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		struct value *old = &config->values[id];
		const struct value *new = &fresh->values[id];
		if (strcmp(old->text, new->text) == 0)
			continue;
		if (!config_keys[id].reloadable)
			needs_restart(context, &config_keys[id]);
		else if (copy_scalar(old, new, err) != 0)
			return -1;
	}
	return 0;
}
