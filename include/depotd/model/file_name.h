/*
 * File names as people give them. Pure. A name is 1–255 characters of UTF-8 without controls (C0, DEL, C1, also U+2028/2029),
 * kept as given: it never touches a path.
 */
#ifndef DEPOTD_MODEL_FILE_NAME_H
#define DEPOTD_MODEL_FILE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "depotd/base/buf.h"
#include "depotd/base/err.h"
#include "depotd/base/utf8.h"

enum { FILE_NAME_MAX_CHARS = 255, FILE_NAME_MAX_BYTES = 255 * 4, TAG_MAX_CHARS = 64 };

/*
 * Takes the last component of a path with `/` or `\`, checks it; "unnamed" where none is left or none was given ("." and
 * ".." count as none; given may be NULL where n is 0). 0 and *out (in out, replaced), or -1 ERR_INVALID that says what is wrong.
 */
int file_name_clean(const char *given, size_t n, struct buf *out, struct err *err);
/* A tag: 1–64 characters without comma or controls, blanks round it trimmed. Appends the clean tag to out. */
int tag_clean(const char *given, size_t n, struct buf *out, struct err *err);
/*
 * RFC 6266 / RFC 8187: `attachment; filename="ascii fallback"; filename*=UTF-8''pct` (filename* only where needed).
 */
void disposition_format(bool is_inline, const char *name, struct buf *out);

#endif
