/*
 * Repr-Digest and Content-Digest: RFC 9530 §2, §3. The field is a Dictionary of RFC 8941: all of it must be one, since a
 * half-understood list could hide the digest that the client counts on; members of other algorithms are read and skipped.
 * Pure.
 */
#include "depotd/model/digest_field.h"

#include <string.h>

#include "structured_field_private.h"

static const char key_sha256[] = "sha-256";

/* §4.2.1.2 */
static bool take_inner_list(const char **p)
{
	for (++*p;;) {
		*p = field_skip_spaces(*p);
		if (**p == ')') {
			++*p;
			return true;
		}
		const char *bytes;
		size_t n;
		if (!field_take_bare_item(p, &bytes, &n) || !field_take_parameters(p))
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
	if (!field_take_key(p, key, key_n))
		return false;
	if (**p == '=') {
		++*p;
		if (**p == '(' ? !take_inner_list(p) : !field_take_bare_item(p, bytes, n))
			return false;
	}
	return field_take_parameters(p);
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
	const char *p = field_skip_blanks(value);
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
		p = field_skip_blanks(p);
		if (*p == '\0')
			break;
		if (*p != ',')
			return malformed(value, p, err);
		p = field_skip_blanks(p + 1);
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
