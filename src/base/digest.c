/* SHA-256 by libcrypto, and the two text forms of bytes. Any thread. */
#include "depotd/base/digest.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct digest {
	EVP_MD_CTX *context;
};

/* Fetched once: EVP_sha256() looks the implementation up again with every init, under a lock. Never freed. */
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void sha256_fetch(void)
{
	/* Without memory for its own context OpenSSL 3.0 would go on with a lock that is not there. */
	if (OSSL_LIB_CTX_get0_global_default())
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static int digest_fail(const char *what, struct err *err)
{
	char reason[160];
	ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
	ERR_clear_error();
	return err_set(err, ERR_INTERNAL, "SHA-256: %s: %s", what, reason);
}

static int sha256_ready(struct err *err)
{
	pthread_once(&sha256_once, sha256_fetch);
	return sha256 != NULL ? 0 : digest_fail("libcrypto has none", err);
}

struct digest *digest_new(struct err *err)
{
	if (sha256_ready(err) < 0)
		return NULL;
	struct digest *d = malloc(sizeof(*d));
	if (d == NULL)
		goto no_memory;
	d->context = EVP_MD_CTX_new();
	if (d->context == NULL)
		goto no_memory;
	if (EVP_DigestInit_ex2(d->context, sha256, NULL) != 1) {
		digest_fail("init", err);
		digest_free(&d);
		return NULL;
	}
	return d;

no_memory:
	free(d);
	err_set(err, ERR_NO_MEMORY, "no memory for a digest");
	return NULL;
}

void digest_free(struct digest **d)
{
	if (*d == NULL)
		return;
	EVP_MD_CTX_free((*d)->context);
	free(*d);
	*d = NULL;
}

int digest_update(struct digest *d, const void *data, size_t n, struct err *err)
{
	return EVP_DigestUpdate(d->context, data, n) == 1 ? 0 : digest_fail("update", err);
}

int digest_final(struct digest *d, unsigned char out[SHA256_LEN], struct err *err)
{
	return EVP_DigestFinal_ex(d->context, out, NULL) == 1 ? 0 : digest_fail("final", err);
}

int digest_sha256(const void *data, size_t n, unsigned char out[SHA256_LEN], struct err *err)
{
	if (sha256_ready(err) < 0)
		return -1;
	return EVP_Digest(data, n, out, NULL, sha256, NULL) == 1 ? 0 : digest_fail("digest", err);
}

void hex_encode(const unsigned char *data, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[data[i] >> 4];
		*out++ = digits[data[i] & 0x0F];
	}
	*out = '\0';
}

int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, size_t n, unsigned char *out)
{
	if (n % 2 != 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (hex_value(text[i]) < 0)
			return 0;
	}
	for (size_t i = 0; i < n; i += 2)
		out[i / 2] = (unsigned char)(hex_value(text[i]) << 4 | hex_value(text[i + 1]));
	return 1;
}

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const unsigned char *data, size_t n, char *out)
{
	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t group = (uint32_t)data[i] << 16;
		if (left > 1)
			group |= (uint32_t)data[i + 1] << 8;
		if (left > 2)
			group |= data[i + 2];
		*out++ = base64_digits[group >> 18];
		*out++ = base64_digits[group >> 12 & 63];
		*out++ = left > 1 ? base64_digits[group >> 6 & 63] : '=';
		*out++ = left > 2 ? base64_digits[group & 63] : '=';
	}
	*out = '\0';
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

int base64_decode(const char *text, size_t n, unsigned char *out, size_t max, size_t *len)
{
	if (n % 4 != 0)
		return 0;
	size_t padding = n == 0 || text[n - 1] != '=' ? 0 : text[n - 2] != '=' ? 1 : 2;
	size_t digits = n - padding;
	size_t length = n / 4 * 3 - padding;
	if (length > max)
		return 0;
	uint32_t group = 0;
	unsigned bits = 0;
	/* A first pass without writing, since out stays as it was where the text is malformed. */
	for (size_t i = 0; i < digits; i++) {
		if (base64_value(text[i]) < 0)
			return 0;
	}
	/* The bits that no byte takes must be zero, or two texts would mean the same bytes. */
	if (padding > 0 && (base64_value(text[digits - 1]) & (padding == 1 ? 3 : 15)) != 0)
		return 0;
	for (size_t i = 0, at = 0; i < digits; i++) {
		group = group << 6 | (uint32_t)base64_value(text[i]);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[at++] = (unsigned char)(group >> bits & 0xFF);
		}
	}
	*len = length;
	return 1;
}
