/*
 * Byte ranges: RFC 9110 §14. Pure. Any number of ranges is bounded by RANGE_MAX, and overlapping or too many ones are
 * answered as if there were no Range (RFC 9110 §14.2 allows it; CVE-2011-3192 is why).
 */
#ifndef DEPOTD_MODEL_RANGE_H
#define DEPOTD_MODEL_RANGE_H

#include <stddef.h>
#include <stdint.h>

enum { RANGE_MAX = 64 };

struct byte_range {
	int64_t first;  /* offset of the first byte */
	int64_t length; /* bytes, at least 1 */
};

enum range_verdict {
	RANGE_IGNORE, /* no Range, another unit, malformed, or abusive: send 200 with everything */
	RANGE_SATISFIABLE,   /* ranges[0..n) are to be sent, in the order asked for */
	RANGE_UNSATISFIABLE, /* 416 with Content-Range: bytes (star)/size */
};

/* `header` is the value of Range, or NULL; size the representation's length. Sets *n only when satisfiable. */
enum range_verdict range_parse(const char *header, int64_t size,
			       struct byte_range ranges[RANGE_MAX], size_t *n);

#endif
