/* The readers of RFC 8941's grammar; the references are to its sections. Pure. */
#include "structured_field_private.h"

#include <string.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

const char *field_skip_spaces(const char *p)
{
	while (*p == ' ')
		p++;
	return p;
}

const char *field_skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* RFC 8941 §4.2.3.3 */
bool field_take_key(const char **p, const char **key, size_t *n)
{
	const char *start = *p, *at = start;
	if (!is_lower(*at) && *at != '*')
		return false;
	while (is_lower(*at) || is_digit(*at) || (*at != '\0' && strchr("_-.*", *at) != NULL))
		at++;
	*key = start;
	*n = (size_t)(at - start);
	*p = at;
	return true;
}

/* §4.2.4: at most 15 digits, or 12 before a point and 1 to 3 behind. */
static bool take_bare_number(const char **p)
{
	const char *at = *p;
	if (*at == '-')
		at++;
	size_t whole = strspn(at, "0123456789");
	at += whole;
	if (whole == 0 || whole > 15)
		return false;
	if (*at == '.') {
		size_t fraction = strspn(at + 1, "0123456789");
		if (whole > 12 || fraction == 0 || fraction > 3)
			return false;
		at += 1 + fraction;
	}
	*p = at;
	return true;
}

/* §4.2.5 */
bool field_take_string(const char **p)
{
	const char *at = *p + 1;
	for (; *at != '"'; at++) {
		unsigned char c = (unsigned char)*at;
		if (c < 0x20 || c > 0x7E)
			return false;
		if (c == '\\' && *++at != '"' && *at != '\\')
			return false;
	}
	*p = at + 1;
	return true;
}

/* §4.2.6 */
static bool take_bare_token(const char **p)
{
	const char *at = *p + 1;
	while (is_alpha(*at) || is_digit(*at) ||
	       (*at != '\0' && strchr("!#$%&'*+-.^_`|~:/", *at) != NULL))
		at++;
	*p = at;
	return true;
}

/* §4.2.7: what stands between the colons. */
static bool take_bare_bytes(const char **p, const char **bytes, size_t *n)
{
	const char *start = *p + 1, *at = start;
	while (is_alpha(*at) || is_digit(*at) || *at == '+' || *at == '/' || *at == '=')
		at++;
	if (*at != ':')
		return false;
	*bytes = start;
	*n = (size_t)(at - start);
	*p = at + 1;
	return true;
}

/* §4.2.3.1. *bytes is NULL unless it was a byte sequence. */
bool field_take_bare_item(const char **p, const char **bytes, size_t *n)
{
	*bytes = NULL;
	char c = **p;
	if (c == '-' || is_digit(c))
		return take_bare_number(p);
	if (c == '"')
		return field_take_string(p);
	if (c == ':')
		return take_bare_bytes(p, bytes, n);
	if (c == '*' || is_alpha(c))
		return take_bare_token(p);
	if (c != '?' || ((*p)[1] != '0' && (*p)[1] != '1'))
		return false;
	*p += 2;
	return true;
}

/* §4.2.3.2 */
bool field_take_parameters(const char **p)
{
	while (**p == ';') {
		const char *key, *bytes;
		size_t n;
		*p = field_skip_spaces(*p + 1);
		if (!field_take_key(p, &key, &n))
			return false;
		if (**p == '=') {
			++*p;
			if (!field_take_bare_item(p, &bytes, &n))
				return false;
		}
	}
	return true;
}
