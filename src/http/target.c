/* Takes request targets apart. Pure; event threads. */
#include "target_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "depotd/base/digest.h"
#include "depotd/base/utf8.h"

int target_decode(const char *text, size_t n, bool plus, char *out, size_t *len)
{
	size_t at = 0;
	bool ascii = true;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '%') {
			int high = i + 1 < n ? hex_value(text[i + 1]) : -1;
			int low = i + 2 < n ? hex_value(text[i + 2]) : -1;
			if (high < 0 || low < 0)
				return 0;
			c = (unsigned char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == '\0')
			return 0;
		ascii = ascii && c < 0x80;
		out[at++] = (char)c;
	}
	if (!ascii && utf8_length(out, at) < 0)
		return 0;
	out[at] = '\0';
	*len = at;
	return 1;
}

static int decode_piece(const char *text, size_t n, struct arena *arena, const char **out,
			struct err *err)
{
	char *copy = arena_alloc(arena, n + 1);
	size_t len;
	if (copy == NULL)
		return err_set(err, ERR_NO_MEMORY, "the query is too long to take apart");
	if (!target_decode(text, n, true, copy, &len))
		return err_set(err, ERR_INVALID, "a query parameter is not percent-encoded UTF-8");
	*out = copy;
	return 0;
}

static int parse_parameter(const char *text, size_t n, struct arena *arena,
			   struct target_parameter *out, struct err *err)
{
	const char *equals = memchr(text, '=', n);
	size_t key = equals != NULL ? (size_t)(equals - text) : n;
	out->value = "";
	if (decode_piece(text, key, arena, &out->key, err) != 0)
		return -1;
	if (equals == NULL || decode_piece(equals + 1, n - key - 1, arena, &out->value, err) == 0)
		return 0;
	if (err->kind == ERR_INVALID)
		(void)err_set(err, ERR_INVALID,
			      "the query parameter %.64s is not percent-encoded UTF-8", out->key);
	return -1;
}

static size_t count_parameters(const char *query)
{
	size_t n = 1;
	for (; *query != '\0'; query++)
		n += *query == '&';
	return n;
}

static int parse_query(const char *query, struct arena *arena, struct target *out, struct err *err)
{
	out->parameters = arena_alloc(arena, count_parameters(query) * sizeof(*out->parameters));
	if (out->parameters == NULL)
		return err_set(err, ERR_NO_MEMORY, "the query is too long to take apart");
	for (;;) {
		size_t n = strcspn(query, "&");
		if (n > 0 &&
		    parse_parameter(query, n, arena, &out->parameters[out->count++], err) != 0)
			return -1;
		if (query[n] == '\0')
			return 0;
		query += n + 1;
	}
}

int target_parse(const char *target, struct arena *arena, struct target *out, struct err *err)
{
	*out = (struct target){.path = target};
	const char *colon = target[0] == '/' || target[0] == '*' ? NULL : strchr(target, ':');
	if (colon != NULL) { /* absolute-form: head_parse() has looked at scheme and authority */
		target = colon + 3;
		target += strcspn(target, "/?");
		out->path = target;
	}
	const char *query = strchr(target, '?');
	if (query == NULL) {
		if (*target == '\0')
			out->path = "/";
		return 0;
	}
	out->path = query == target ? "/" : arena_strndup(arena, target, (size_t)(query - target));
	if (out->path == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the request target");
	return parse_query(query + 1, arena, out, err);
}

/* A qvalue in thousandths (RFC 9110 §12.4.2); a malformed one counts as 1. */
static int quality(const char *parameters, size_t n)
{
	for (size_t i = 0; i + 2 < n; i++) {
		if (parameters[i] != ';')
			continue;
		size_t at = i + 1;
		while (at < n && (parameters[at] == ' ' || parameters[at] == '\t'))
			at++;
		if (at + 2 >= n || (parameters[at] | 0x20) != 'q' || parameters[at + 1] != '=')
			continue;
		int value = parameters[at + 2] == '1' ? 1000 : 0;
		if (parameters[at + 2] != '0' || at + 3 >= n || parameters[at + 3] != '.')
			return value == 0 && parameters[at + 2] != '0' ? 1000 : value;
		int scale = 100;
		for (at += 4; at < n && parameters[at] >= '0' && parameters[at] <= '9';
		     at++, scale /= 10)
			value += (parameters[at] - '0') * scale;
		return value;
	}
	return 1000;
}

/* How closely a media range matches type: 0 not at all, 1 for *, 2 for its family, 3 exactly. */
static int closeness(const char *range, size_t n, const char *type)
{
	size_t family = strcspn(type, "/") + 1;
	if (n == 3 && memcmp(range, "*/*", 3) == 0)
		return 1;
	if (n == family + 1 && range[n - 1] == '*' && strncasecmp(range, type, family) == 0)
		return 2;
	return n == strlen(type) && strncasecmp(range, type, n) == 0 ? 3 : 0;
}

/* The weight that the closest range gives to type; 0 where none matches. */
static int weight_of(const char *accept, const char *type)
{
	int best = 0, weight = 0;
	while (*accept != '\0') {
		accept += strspn(accept, " \t,");
		size_t n = strcspn(accept, ",");
		size_t name = strcspn(accept, ";, \t");
		int close = closeness(accept, name < n ? name : n, type);
		if (close > best) {
			best = close;
			weight = quality(accept + name, n > name ? n - name : 0);
		}
		accept += n;
	}
	return weight;
}

bool accept_prefers_html(const char *accept)
{
	if (accept == NULL)
		return false;
	int json = weight_of(accept, "application/json");
	int problem = weight_of(accept, "application/problem+json");
	return weight_of(accept, "text/html") > (json > problem ? json : problem);
}
