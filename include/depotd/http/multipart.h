/*
 * multipart/form-data, streaming: RFC 7578 and RFC 2046 §5.1, in the forms real clients send. Pure, no I/O: bytes go in, in
 * stretches of any size, events come out; memory is bounded by the header block of one part.
 *
 * Accepts: preamble and epilogue, LWSP after a boundary, quoted and unquoted boundaries, header folding, bare-CRLF empty parts,
 * browsers' %22 %0D %0A in names (WHATWG), raw UTF-8 names, backslash escapes, filename* (RFC 8187), IE paths (left to
 * file_name_clean). Refuses (ERR_INVALID, with the offset): no or bad boundary, a part without Content-Disposition: form-data or
 * without a name, overlong headers, Content-Transfer-Encoding other than 7bit/8bit/binary, a body that ends before the last
 * boundary.
 */
#ifndef DEPOTD_HTTP_MULTIPART_H
#define DEPOTD_HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "depotd/base/err.h"

enum {
	MULTIPART_BOUNDARY_MAX = 70,
	MULTIPART_HEADERS_MAX = 16 * 1024,
	MULTIPART_PARTS_MAX = 1000,
	MULTIPART_KEPT_MAX = 130, /* bytes of its own that the reader may give as data at once */
};

struct multipart_part {
	const char *name;     /* the field's name */
	const char *filename; /* NULL: a text field. "" : a file input with no file chosen */
	size_t filename_len;
	const char *content_type;                 /* as given, or NULL */
	const char *content_digest, *repr_digest; /* of the part's headers, or NULL */
};

/* Each returns 0, or -1 with err: the reader stops and returns that. Pointers live during the call. */
struct multipart_events {
	int (*part_begin)(void *context, const struct multipart_part *part, struct err *err);
	/* data is of the stretch that was fed, or at most MULTIPART_KEPT_MAX bytes of what the reader has kept. */
	int (*part_data)(void *context, const void *data, size_t n, struct err *err);
	int (*part_end)(void *context, struct err *err);
};

struct multipart;

/* content_type: the request's. -1 ERR_MEDIA_TYPE when not multipart/form-data, ERR_INVALID for a bad boundary. */
int multipart_new(const char *content_type, const struct multipart_events *events, void *context,
		  struct multipart **out, struct err *err);
int multipart_feed(struct multipart *m, const void *data, size_t n, struct err *err);
/* The body is complete: was it? */
int multipart_finish(struct multipart *m, struct err *err);
void multipart_free(struct multipart **m);

#endif
