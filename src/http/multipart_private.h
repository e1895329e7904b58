/* What the two halves of the multipart reader share: the reader finds header blocks, the other half understands them. Pure. */
#ifndef DEPOTD_HTTP_MULTIPART_PRIVATE_H
#define DEPOTD_HTTP_MULTIPART_PRIVATE_H

#include <stddef.h>

#include "depotd/base/err.h"
#include "depotd/http/multipart.h"

/*
 * Takes a part's header block (n bytes, every line ending in CRLF, without the empty line) apart, in place: *part points into
 * block. block[n] must be writable. `at` is the block's offset in the body, for messages.
 */
int multipart_headers_parse(char *block, size_t n, unsigned long long at,
			    struct multipart_part *part, struct err *err);
/* The boundary of a multipart/form-data Content-Type: at most MULTIPART_BOUNDARY_MAX bytes and a NUL into out. */
int multipart_boundary(const char *content_type, char out[MULTIPART_BOUNDARY_MAX + 1],
		       struct err *err);

#endif
