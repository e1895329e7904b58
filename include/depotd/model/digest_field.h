/* Repr-Digest and Content-Digest: RFC 9530, a Dictionary of RFC 8941 byte sequences. Pure. */
#ifndef DEPOTD_MODEL_DIGEST_FIELD_H
#define DEPOTD_MODEL_DIGEST_FIELD_H

#include "depotd/base/digest.h"
#include "depotd/base/err.h"

/* 1: a sha-256 is there and in out; 0: well-formed (or empty) without sha-256; -1: malformed (400), err says what. */
int digest_field_parse(const char *value, unsigned char out[SHA256_LEN], struct err *err);
/* `sha-256=:…:` */
enum { DIGEST_FIELD_LEN = 9 + SHA256_BASE64_LEN + 1 };
void digest_field_format(const unsigned char sha256[SHA256_LEN], char out[DIGEST_FIELD_LEN + 1]);

#endif
