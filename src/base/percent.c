/* Percent-encoding. Any thread. */
#include "depotd/base/percent.h"

#include <stdbool.h>
#include <string.h>

/* ASCII alone, whatever the locale. */
static bool is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c) != NULL);
}

void percent_encode(const char *text, struct buf *out)
{
	static const char HEX[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (is_unreserved(c)) {
			buf_putc(out, (char)c);
		} else {
			buf_putc(out, '%');
			buf_putc(out, HEX[c >> 4]);
			buf_putc(out, HEX[c & 15]);
		}
	}
}
