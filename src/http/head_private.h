/*
 * The head of a request: request line and header fields, strictly by RFC 9112. Pure: no I/O, no allocation.
 *
 * libmicrohttpd forgives what lets one request hide in another (two lengths, bare LF, blanks before a colon), so it never
 * sees a client's bytes: the gate reads them, and this file decides.
 */
#ifndef DEPOTD_HTTP_HEAD_PRIVATE_H
#define DEPOTD_HTTP_HEAD_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"

enum {
	HEAD_FIELDS_MAX = 100,      /* more fields are 431 */
	HEAD_TARGET_MAX = 8 * 1024, /* a longer request target is 414 */
	HEAD_CHUNKED = -1,          /* content_length of a chunked body */
};

struct head_field {
	const char *name,
		*value; /* NUL-terminated, in the bytes that were parsed; value without the blanks round it */
	uint32_t name_len, value_len;
};

struct head {
	const char *method; /* NUL-terminated */
	const char *target; /* as sent, NUL-terminated */
	size_t target_len;
	struct head_field *fields; /* the caller's array */
	unsigned field_count;
	unsigned minor;         /* HTTP/1.minor: 0 or 1 */
	int64_t content_length; /* 0 without a body, HEAD_CHUNKED */
	bool has_length;        /* Content-Length or Transfer-Encoding was there */
	bool expect_continue;   /* the client waits for 100 Continue before it sends the body */
	bool keep_alive;        /* the client is ready to send another request */
	bool is_head;
};

/*
 * Where the head that starts at data ends: the bytes up to and including its empty line, 0 while that has not come. A bare
 * LF ends a line here, so that head_parse() can refuse it. *scanned (0 at first) is how far earlier calls looked.
 */
size_t head_end(const char *data, size_t n, size_t *scanned);
/* The empty line that RFC 9112 §2.2 wants skipped before a request: 2 or 0. */
size_t head_leading_crlf(const char *data, size_t n);
/* How many fields a head of these bytes can have at most: what the caller must offer. */
unsigned head_count_lines(const char *data, size_t n);
/*
 * Parses n bytes that head_end() found complete, in place: colons, blanks and line ends become NULs. data[n] must be writable.
 * -1: ERR_INVALID (400), ERR_URI_TOO_LONG, ERR_HEADERS_TOO_LARGE, ERR_EXPECTATION, ERR_NOT_IMPLEMENTED, ERR_VERSION; what was
 * understood until then stands in *out (method, target and minor are never NULL), and nothing behind it can be trusted.
 */
int head_parse(char *data, size_t n, struct head_field *fields, struct head *out, struct err *err);
/*
 * Looks at a head that is not complete yet: -1 when what is there can never become a request (err as above), so that a
 * client is answered at once instead of at its deadline. Reads only.
 */
int head_check_partial(const char *data, size_t n, struct err *err);
/* The first field of that name (any case) at or after index *i; NULL when there is none. */
const struct head_field *head_find(const struct head *head, const char *name, unsigned *i);

/* RFC 9110 §5.6.2. */
bool head_is_token(const char *text, size_t n);
/* One header or trailer field line without its line end; -1 malformed. Splits only: *name_len, value and its length. */
int head_split_field(const char *line, size_t n, size_t *name_len, const char **value,
		     size_t *value_len, struct err *err);

#endif
