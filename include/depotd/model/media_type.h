/*
 * What the bytes are, as cheaply as can be had at upload time: a signature table (WHATWG MIME Sniffing §6 and common
 * archive/office/media formats), then the name's extension (Debian's media-types, embedded at build), then the client's
 * word, then application/octet-stream. Pure.
 */
#ifndef DEPOTD_MODEL_MEDIA_TYPE_H
#define DEPOTD_MODEL_MEDIA_TYPE_H

#include <stdbool.h>
#include <stddef.h>

enum { MEDIA_TYPE_SNIFF_LEN = 4096, MEDIA_TYPE_MAX = 127 };

/* The type by signature, a static string, or NULL. Plain text has no signature. */
const char *media_type_by_signature(const unsigned char *head, size_t n);
/* True when head (the file's first bytes; `whole` when that is all of it) is UTF-8 text without binary controls. */
bool media_type_looks_like_text(const unsigned char *head, size_t n, bool whole);
const char *media_type_by_extension(const char *name); /* static string or NULL */
/* type/subtype with optional parameters (RFC 9110 §8.3.1), at most MEDIA_TYPE_MAX bytes. */
bool media_type_valid(const char *type);

/* The decision. `sniffed` is a static string, or NULL where nothing is known; a client's word loses its parameters. */
struct media_type_verdict {
	char type[MEDIA_TYPE_MAX + 1]; /* lower case */
	/* signature's word, or "text/plain" for what looks like text and is called text/plain */
	const char *sniffed;
};
struct media_type_verdict media_type_decide(const unsigned char *head, size_t n, bool whole,
					    const char *name, const char *client);
/* Allow-list of what may be shown inline, decided by `sniffed` alone: raster images, audio, video, PDF, plain text. */
bool media_type_may_inline(const char *sniffed);

#endif
