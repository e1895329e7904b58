/*
 * Repr-Digest and Content-Digest: RFC 9530 §2, §3. The field is a Dictionary of RFC 8941: all of it must be one, since a
 * half-understood list could hide the digest that the client counts on; members of other algorithms are read and skipped.
 * Pure.
 */
#include "depotd/model/digest_field.h"

#include <stdbool.h>
#include <string.h>

static const char key_sha256[] = "sha-256";

/* The readers move *p past what they take; false where it is malformed. */

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

static const char *skip_spaces(const char *p)
{
	while (*p == ' ')
		p++;
	return p;
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* RFC 8941 §4.2.3.3 */
static bool take_key(const char **p, const char **key, size_t *n)
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
static bool take_bare_string(const char **p)
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
static bool take_bare_item(const char **p, const char **bytes, size_t *n)
{
	*bytes = NULL;
	char c = **p;
	if (c == '-' || is_digit(c))
		return take_bare_number(p);
	if (c == '"')
		return take_bare_string(p);
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
static bool take_parameters(const char **p)
{
	while (**p == ';') {
		const char *key, *bytes;
		size_t n;
		*p = skip_spaces(*p + 1);
		if (!take_key(p, &key, &n))
			return false;
		if (**p == '=') {
			++*p;
			if (!take_bare_item(p, &bytes, &n))
				return false;
		}
	}
	return true;
}

/* §4.2.1.2 */
static bool take_inner_list(const char **p)
{
	for (++*p;;) {
		*p = skip_spaces(*p);
		if (**p == ')') {
			++*p;
			return true;
		}
		const char *bytes;
		size_t n;
		if (!take_bare_item(p, &bytes, &n) || !take_parameters(p))
			return false;
		if (**p != ' ' && **p != ')')
			return false;
	}
}

/* One member: its key, and its byte sequence where its value is one. §4.2.2 */
static bool take_member(const char **p, const char **key, size_t *key_n, const char **bytes,
			size_t *n)
{
	*bytes = NULL;
	if (!take_key(p, key, key_n))
		return false;
	if (**p == '=') {
		++*p;
		if (**p == '(' ? !take_inner_list(p) : !take_bare_item(p, bytes, n))
			return false;
	}
	return take_parameters(p);
}

/* A parser should not mind padding that was left out (§4.2.7). */
static bool decode_sha256(const char *bytes, size_t n, unsigned char out[SHA256_LEN])
{
	char padded[SHA256_BASE64_LEN];
	unsigned char decoded[SHA256_LEN];
	size_t length;
	if (bytes == NULL || n > sizeof(padded))
		return false;
	memset(padded, '=', sizeof(padded));
	memcpy(padded, bytes, n);
	if (!base64_decode(padded, sizeof(padded), decoded, sizeof(decoded), &length) ||
	    length != SHA256_LEN)
		return false;
	memcpy(out, decoded, SHA256_LEN);
	return true;
}

static int malformed(const char *value, const char *at, struct err *err)
{
	return err_set(err, ERR_INVALID,
		       "digest: malformed at character %zu; expected sha-256=:base64:",
		       (size_t)(at - value) + 1);
}

int digest_field_parse(const char *value, unsigned char out[SHA256_LEN], struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	int found = 0;
	const char *p = skip_blanks(value);
	while (*p != '\0') {
		const char *start = p, *key, *bytes;
		size_t key_n, n = 0;
		if (!take_member(&p, &key, &key_n, &bytes, &n))
			return malformed(value, p, err);
		if (key_n == sizeof(key_sha256) - 1 && memcmp(key, key_sha256, key_n) == 0) {
			/* Given twice, the last one stands (RFC 8941 §3.2). */
			if (!decode_sha256(bytes, n, sha256))
				return malformed(value, start, err);
			found = 1;
		}
		p = skip_blanks(p);
		if (*p == '\0')
			break;
		if (*p != ',')
			return malformed(value, p, err);
		p = skip_blanks(p + 1);
		if (*p == '\0')
			return malformed(value, p, err);
	}
	if (found)
		memcpy(out, sha256, SHA256_LEN);
	return found;
}

void digest_field_format(const unsigned char sha256[SHA256_LEN], char out[DIGEST_FIELD_LEN + 1])
{
	memcpy(out, "sha-256=:", 9);
	base64_encode(sha256, SHA256_LEN, out + 9);
	memcpy(out + 9 + SHA256_BASE64_LEN, ":", 2);
}
