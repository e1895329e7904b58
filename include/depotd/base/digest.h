/*
 * SHA-256 while streaming (libcrypto's EVP; one context per upload), hexadecimal and base64.
 * Thread: a digest belongs to one owner at a time.
 */
#ifndef DEPOTD_BASE_DIGEST_H
#define DEPOTD_BASE_DIGEST_H

#include <stddef.h>

#include "depotd/base/err.h"

enum { SHA256_LEN = 32, SHA256_HEX_LEN = 64, SHA256_BASE64_LEN = 44 };

struct digest; /* a running SHA-256 */

struct digest *digest_new(struct err *err);
void digest_free(struct digest **d);
int digest_update(struct digest *d, const void *data, size_t n, struct err *err);
/* Ends the digest; it may only be freed after. */
int digest_final(struct digest *d, unsigned char out[SHA256_LEN], struct err *err);
int digest_sha256(const void *data, size_t n, unsigned char out[SHA256_LEN], struct err *err);

int hex_value(char digit); /* -1: it is none */
void hex_encode(const unsigned char *data, size_t n, char *out /* 2n+1 */);
int hex_decode(const char *text, size_t n, unsigned char *out /* n/2 */); /* 1 ok, 0 malformed */
void base64_encode(const unsigned char *data, size_t n, char *out /* 4*((n+2)/3)+1 */);
/* Strict RFC 4648 §4 with padding. 1 ok (length in *len), 0 malformed or longer than max. */
int base64_decode(const char *text, size_t n, unsigned char *out, size_t max, size_t *len);

#endif
