/* The template expander. Pure; any thread. */

#include "template_private.h"

#include <stdbool.h>
#include <string.h>

enum { TEMPLATE_KEY_MAX = 64 };

void template_escape(const char *text, struct buf *out)
{
	for (; text && *text; text++) {
		size_t plain = strcspn(text, "&<>\"'");

		buf_append(out, text, plain);
		text += plain;
		switch (*text) {
		case '&':
			buf_puts(out, "&amp;");
			break;
		case '<':
			buf_puts(out, "&lt;");
			break;
		case '>':
			buf_puts(out, "&gt;");
			break;
		case '"':
			buf_puts(out, "&quot;");
			break;
		case '\'':
			buf_puts(out, "&#39;");
			break;
		default:
			return; /* the end */
		}
	}
}

static const char *lookup(const struct template_scope *scope, const char *key)
{
	if (!strncmp(key, "t:", 2))
		return scope->translate ? scope->translate(scope->language, key + 2) : NULL;
	for (size_t i = 0; i < scope->n; i++)
		if (!strcmp(scope->values[i].key, key))
			return scope->values[i].text;
	return NULL;
}

/* One placeholder at text, which begins with two braces. Returns what follows it, or NULL: it is none. */
static const char *expand_one(const char *text, const struct template_scope *scope, struct buf *out)
{
	bool as_it_is = text[2] == '{';
	const char *begin = text + (as_it_is ? 3 : 2),
		   *end = strstr(begin, as_it_is ? "}}}" : "}}");
	char key[TEMPLATE_KEY_MAX];
	const char *value;

	if (!end || (size_t)(end - begin) >= sizeof(key))
		return NULL;
	memcpy(key, begin, (size_t)(end - begin));
	key[end - begin] = '\0';
	value = lookup(scope, key);
	if (as_it_is)
		buf_puts(out, value ? value : "");
	else
		template_escape(value, out);
	return end + (as_it_is ? 3 : 2);
}

void template_expand(const char *text, const struct template_scope *scope, struct buf *out)
{
	const char *next;

	while ((next = strstr(text, "{{")) != NULL) {
		buf_append(out, text, (size_t)(next - text));
		text = expand_one(next, scope, out);
		if (!text) {
			buf_puts(out, "{{");
			text = next + 2;
		}
	}
	buf_puts(out, text);
}
