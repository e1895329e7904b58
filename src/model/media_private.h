/* The matchers of media_type_by_signature(): each says a static type, or NULL. Reads head[0..n) only. Pure. */
#ifndef DEPOTD_MODEL_MEDIA_PRIVATE_H
#define DEPOTD_MODEL_MEDIA_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "depotd/base/embedded.h"

/* Whether those bytes stand at that place. */
bool media_has(const unsigned char *head, size_t n, size_t at, const char *bytes, size_t length);
#define MEDIA_HAS(head, n, at, literal) media_has(head, n, at, literal, sizeof(literal) - 1)

/* media_modern.c: extensions that win over media_extensions[] */
extern const struct media_extension media_modern[];
extern const unsigned media_modern_count;

/* media_container.c */
const char *media_match_iso_bmff(const unsigned char *head, size_t n);
const char *media_match_zip(const unsigned char *head, size_t n);
const char *media_match_matroska(const unsigned char *head, size_t n);
const char *media_match_ogg(const unsigned char *head, size_t n);
const char *media_match_mpeg_audio(const unsigned char *head, size_t n);
const char *media_match_mpeg_ts(const unsigned char *head, size_t n);

/* media_markup.c: HTML, XML, SVG */
const char *media_match_markup(const unsigned char *head, size_t n);

#endif
