/*
 * A small, safe template expander: pure, no I/O.
 *
 *   {{key}}    the value, escaped for HTML text and quoted attributes
 *   {{{key}}}  the value as it is: HTML that was expanded before
 *   {{t:key}}  the string of that key in the page's language, escaped
 *
 * An unknown key expands to nothing; tests hold every template against what its renderer fills.
 */
#ifndef TEMPLATE_PRIVATE_H
#define TEMPLATE_PRIVATE_H

#include <stddef.h>

#include "depotd/base/buf.h"

struct template_value {
	const char *key;
	const char *text; /* NULL expands to nothing */
};

struct template_scope {
	const struct template_value *values;
	size_t n;
	const char *(*translate)(const void *language,
				 const char *key); /* NULL where the key is unknown */
	const void *language;
};

void template_expand(const char *text, const struct template_scope *scope, struct buf *out);
/* & < > " ' as character references. */
void template_escape(const char *text, struct buf *out);

#endif
