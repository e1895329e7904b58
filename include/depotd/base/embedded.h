/* Files that the build turned into C (src/embed/embed.py): the SQL, the page's assets, the table of name extensions. */
#ifndef DEPOTD_BASE_EMBEDDED_H
#define DEPOTD_BASE_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
	/* relative: postgres/statements.sql, app.js; NULL ends a table. Tables are sorted by path */
	const char *path;
	const char *data; /* NUL-terminated beyond len */
	size_t len;
	const char *sha256; /* hexadecimal */
};

extern const struct embedded_file embedded_sql[];    /* below sql/ */
extern const struct embedded_file embedded_assets[]; /* below src/front/web/assets/ */
extern const struct embedded_file embedded_api[];    /* openapi.json */

struct media_extension {
	const char *extension; /* lower case, without the dot */
	const char *type;
};

extern const struct media_extension media_extensions[]; /* sorted by extension, bytewise */
extern const unsigned media_extension_count;

#endif
