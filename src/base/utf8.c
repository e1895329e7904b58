/* UTF-8 by the table of RFC 3629 §4: which second bytes are allowed depends on the first. */
#include "depotd/base/utf8.h"

unsigned utf8_decode(const char *text, size_t n, uint32_t *code)
{
	if (n == 0)
		return 0;
	const unsigned char *p = (const unsigned char *)text;
	unsigned first = p[0];
	if (first < 0x80) {
		*code = first;
		return 1;
	}
	unsigned length, low = 0x80, high = 0xBF;
	if (first >= 0xC2 && first <= 0xDF) {
		length = 2;
	} else if (first >= 0xE0 && first <= 0xEF) {
		length = 3;
		low = first == 0xE0 ? 0xA0 : 0x80;  /* no overlong form */
		high = first == 0xED ? 0x9F : 0xBF; /* no surrogate */
	} else if (first >= 0xF0 && first <= 0xF4) {
		length = 4;
		low = first == 0xF0 ? 0x90 : 0x80;
		high = first == 0xF4 ? 0x8F : 0xBF;
	} else {
		return 0;
	}
	if (n < length || p[1] < low || p[1] > high)
		return 0;
	uint32_t value = first & (0x7Fu >> length);
	for (unsigned i = 1; i < length; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3Fu);
	}
	*code = value;
	return length;
}

long utf8_length(const char *text, size_t n)
{
	long count = 0;
	for (size_t i = 0; i < n; count++) {
		uint32_t code;
		unsigned length = utf8_decode(text + i, n - i, &code);
		if (length == 0)
			return -1;
		i += length;
	}
	return count;
}

bool utf8_is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7F && code <= 0x9F);
}

size_t utf8_cut(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t start = n;
	/* Back to the first byte of the last character, at most three continuation bytes away. */
	while (start > 0 && n - start < UTF8_MAX_BYTES) {
		start--;
		if ((p[start] & 0xC0) != 0x80)
			break;
	}
	if (start == n || p[start] < 0xC0)
		return n;
	size_t whole = p[start] >= 0xF0 ? 4 : p[start] >= 0xE0 ? 3 : 2;
	return n - start < whole ? start : n;
}
