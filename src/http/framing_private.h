/*
 * The framing of a request body (RFC 9112 §6–§7): tells the bytes of the body from the chunking round them. Pure and
 * strict: every line ends in CRLF, sizes are hexadecimal and nothing else, extensions and trailers are bounded.
 */
#ifndef DEPOTD_HTTP_FRAMING_PRIVATE_H
#define DEPOTD_HTTP_FRAMING_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"

enum {
	FRAMING_LINE_MAX = 256, /* a chunk-size line with its extensions; longer is refused */
	FRAMING_TRAILER_MAX = 8 * 1024, /* all trailer fields together */
};

enum framing_state {
	FRAMING_LENGTH,    /* `left` bytes of body to come, then the end */
	FRAMING_SIZE,      /* within a chunk-size line */
	FRAMING_CHUNK,     /* `left` bytes of a chunk to come */
	FRAMING_CHUNK_END, /* the CRLF behind a chunk */
	FRAMING_TRAILER,   /* trailer lines, up to the empty one */
	FRAMING_DONE,      /* the body is complete */
	FRAMING_BROKEN,    /* it can never be: nothing that follows may be trusted */
};

struct framing {
	enum framing_state state;
	uint64_t left;
	size_t trailer_bytes;
	uint16_t line_len;
	char line[FRAMING_LINE_MAX +
		  2]; /* a line under way, only while it is split over two calls */
};

/* content_length: as in struct head, HEAD_CHUNKED or the number. */
void framing_init(struct framing *f, int64_t content_length);
/*
 * Takes from data[0..n) as much as makes one step: returns how much was consumed, and in *body_len how many of those bytes
 * (the last ones) are body. 0 consumed: the body is done, or broken (err set), or n is 0.
 */
size_t framing_step(struct framing *f, const void *data, size_t n, size_t *body_len,
		    struct err *err);
/* The fewest bytes that must still come before the body can be done (a lower bound; 0 when done). */
uint64_t framing_at_least(const struct framing *f);

static inline bool framing_done(const struct framing *f)
{
	return f->state == FRAMING_DONE;
}

#endif
