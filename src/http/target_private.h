/*
 * The request target taken apart: path and query, percent-decoding, and which of several media types an Accept field prefers.
 * Pure; memory from the request's arena. Event threads.
 */
#ifndef DEPOTD_HTTP_TARGET_PRIVATE_H
#define DEPOTD_HTTP_TARGET_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "depotd/base/arena.h"
#include "depotd/base/err.h"

struct target_parameter {
	const char *key, *value;
};

struct target {
	const char *path; /* as sent, without the query; "*" of OPTIONS * */
	struct target_parameter *parameters;
	size_t count;
};

/* target: what head_parse() accepted. ERR_INVALID for broken percent-encoding or UTF-8, ERR_NO_MEMORY. */
int target_parse(const char *target, struct arena *arena, struct target *out, struct err *err);
/*
 * Undoes percent-encoding into out (at least n + 1 bytes, terminated). plus: `+` is a blank. *len: how many bytes that made.
 * 1 ok; 0 broken encoding, a NUL, or no UTF-8.
 */
int target_decode(const char *text, size_t n, bool plus, char *out, size_t *len);
/* Whether an Accept value (NULL: none) gives text/html a higher weight than JSON (RFC 9110 §12.5.1). */
bool accept_prefers_html(const char *accept);

#endif
