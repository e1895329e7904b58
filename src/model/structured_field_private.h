/*
 * What structured fields (RFC 8941) are read with. Each reader moves *p past what it takes; false where it is malformed, with *p
 * anywhere before that.
 */
#ifndef MODEL_STRUCTURED_FIELD_PRIVATE_H
#define MODEL_STRUCTURED_FIELD_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

const char *field_skip_spaces(const char *p);
const char *field_skip_blanks(const char *p); /* tabs too */
/* §4.2.3.3 */
bool field_take_key(const char **p, const char **key, size_t *n);
/* §4.2.5: *p stands at the opening quote. */
bool field_take_string(const char **p);
/* §4.2.3.1. *bytes is NULL unless it was a byte sequence. */
bool field_take_bare_item(const char **p, const char **bytes, size_t *n);
/* §4.2.3.2: as many as there are, none too. */
bool field_take_parameters(const char **p);

#endif
