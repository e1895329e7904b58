/* What people read of the configuration: effective values, sample file, manual page, flags; all from the table. Pure. */
#include <string.h>
#include <strings.h>

#include "depotd/app/config.h"

enum { TEXT_WIDTH = 96 };

/* --- masking --- */

/* Copies `n` bytes of text but shows *** for what follows the colon in user:password@. */
static void mask_userinfo(const char *text, size_t n, struct buf *out)
{
	const char *at = memrchr(text, '@', n);
	const char *colon = at != NULL ? memchr(text, ':', (size_t)(at - text)) : NULL;
	if (colon == NULL) {
		buf_append(out, text, n);
		return;
	}
	buf_append(out, text, (size_t)(colon - text) + 1);
	buf_puts(out, "***");
	buf_append(out, at, n - (size_t)(at - text));
}

/* Length of a connection string's value: quoted with ' (and \ inside) or up to a blank; in a URI up to &. */
static size_t secret_length(const char *value, bool uri)
{
	if (uri)
		return strcspn(value, "&#");
	if (value[0] != '\'') {
		size_t n = 0;
		while (value[n] != '\0' && strchr(" \t", value[n]) == NULL)
			n += value[n] == '\\' && value[n + 1] != '\0' ? 2 : 1;
		return n;
	}
	size_t n = 1;
	while (value[n] != '\0' && value[n] != '\'')
		n += value[n] == '\\' && value[n + 1] != '\0' ? 2 : 1;
	return value[n] == '\'' ? n + 1 : n;
}

/* Copies text with the value of every password= (and sslpassword=) shown as ***. libpq allows blanks round the =. */
static void mask_parameters(const char *text, bool uri, struct buf *out)
{
	static const char word[] = "password";
	while (*text != '\0') {
		if (strncasecmp(text, word, sizeof(word) - 1) != 0) {
			buf_putc(out, *text++);
			continue;
		}
		buf_puts(out, word);
		text += sizeof(word) - 1;
		size_t blanks = strspn(text, " \t");
		if (text[blanks] != '=')
			continue;
		blanks += 1 + strspn(text + blanks + 1, " \t");
		buf_append(out, text, blanks);
		buf_puts(out, "***");
		text += blanks;
		text += secret_length(text, uri);
	}
}

static void print_masked_url(const char *url, struct buf *out)
{
	const char *authority = strstr(url, "://");
	if (strncmp(url, "sqlite:", 7) == 0) {
		buf_puts(out, url);
		return;
	}
	if (authority != NULL && strncmp(url, "postgres", 8) == 0) {
		authority += 3;
		size_t n = strcspn(authority, "/?");
		buf_append(out, url, (size_t)(authority - url));
		mask_userinfo(authority, n, out);
		mask_parameters(authority + n, true, out);
		return;
	}
	mask_parameters(url, false, out);
}

/* --- depotd config --- */

static void print_value(const struct config *config, enum config_id id, struct buf *out)
{
	if (id == CONFIG_DATABASE_URL) {
		struct buf url;
		buf_init(&url, 64 * 1024);
		config_database_url(config, &url);
		print_masked_url(buf_text(&url), out);
		buf_release(&url);
	} else if (config_keys[id].type == CONFIG_BOOL) {
		buf_puts(out, config_on(config, id) ? "on" : "off");
	} else {
		buf_puts(out, config_text(config, id));
	}
}

static bool begins_section(enum config_id id)
{
	return id == 0 || strcmp(config_keys[id].section, config_keys[id - 1].section) != 0;
}

void config_print(const struct config *config, struct buf *out)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		const struct config_key *key = &config_keys[id];
		if (begins_section((enum config_id)id))
			buf_printf(out, "%s[%s]\n", id > 0 ? "\n" : "", key->section);
		size_t start = out->len;
		buf_printf(out, "%s = ", key->name);
		print_value(config, (enum config_id)id, out);
		size_t width = out->len - start;
		buf_printf(out, "%*s ; %s\n", width < 48 ? (int)(48 - width) : 0, "",
			   config_origin(config, (enum config_id)id));
	}
}

/* --- the texts made from the table --- */

/* Appends text in lines of at most TEXT_WIDTH columns, each with `prefix` in front. */
static void wrap(const char *text, const char *prefix, struct buf *out)
{
	size_t column = 0;
	while (*text != '\0') {
		size_t word = strcspn(text, " ");
		if (column > 0 && column + 1 + word > TEXT_WIDTH) {
			buf_putc(out, '\n');
			column = 0;
		}
		if (column == 0) {
			buf_puts(out, prefix);
			column = strlen(prefix);
		} else {
			buf_putc(out, ' ');
			column++;
		}
		buf_append(out, text, word);
		column += word;
		text += word;
		text += strspn(text, " ");
	}
	buf_putc(out, '\n');
}

void config_print_sample(struct buf *out)
{
	buf_puts(out,
		 "# depotd.conf: every key, at its default. See depotd.conf(5).\n"
		 "# Flags (--section.key VALUE) win over the environment (DEPOTD_SECTION_KEY), "
		 "that over this file.\n"
		 "# Made from the table in src/app/config_table.c by depotd config --sample.\n");
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		const struct config_key *key = &config_keys[id];
		if (begins_section((enum config_id)id))
			buf_printf(out, "\n[%s]\n", key->section);
		else
			buf_putc(out, '\n');
		wrap(key->help, "# ", out);
		buf_printf(out, "#%s =%s%s\n", key->name, key->initial[0] != '\0' ? " " : "",
			   key->initial);
	}
}

/* Text in roff: no escape, no request at the start of a line, and hyphens that stay hyphens. */
static void roff(const char *text, struct buf *out)
{
	for (; *text != '\0'; text++) {
		if (*text == '-')
			buf_puts(out, "\\-");
		else if (*text == '\\')
			buf_puts(out, "\\e");
		else if (*text == '\'')
			buf_puts(out, "\\(aq");
		else
			buf_putc(out, *text);
	}
}

void config_print_manual(struct buf *out)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		const struct config_key *key = &config_keys[id];
		if (begins_section((enum config_id)id))
			buf_printf(out, ".SS [%s]\n", key->section);
		buf_puts(out, ".TP\n.BI ");
		roff(key->name, out);
		buf_puts(out, "\\ =\\  ");
		roff(key->argument, out);
		buf_puts(out, "\n");
		roff(key->help, out);
		if (key->initial[0] != '\0') {
			buf_puts(out, " Default:\n.BR ");
			roff(key->initial, out);
			buf_puts(out, " .");
		}
		buf_puts(out, key->reloadable ? "\nSIGHUP re\\-reads it.\n" : "\n");
	}
}

void config_print_flags(struct buf *out)
{
	for (int id = 0; id < CONFIG_ID_COUNT; id++) {
		const struct config_key *key = &config_keys[id];
		buf_printf(out, "  --%s.%s %s", key->section, key->name, key->argument);
		if (key->initial[0] != '\0')
			buf_printf(out, " (%s)", key->initial);
		buf_putc(out, '\n');
		wrap(key->help, "        ", out);
	}
}
