/* File names, tags, and the Content-Disposition that gives a name back. Pure. */
#include "depotd/model/file_name.h"

#include <string.h>

static const char no_name[] = "unnamed";

/* Checks what people may have put into `what`; *chars is its length in characters. */
static int check_text(const char *what, const char *text, size_t n, long *chars, struct err *err)
{
	*chars = 0;
	for (size_t i = 0; i < n; ++*chars) {
		uint32_t code;
		unsigned length = utf8_decode(text + i, n - i, &code);
		if (length == 0)
			return err_set(err, ERR_INVALID, "%s: byte %zu is not UTF-8", what, i + 1);
		if (utf8_is_control(code))
			return err_set(err, ERR_INVALID,
				       "%s: byte %zu is a control character (U+%04X)", what, i + 1,
				       (unsigned)code);
		i += length;
	}
	return 0;
}

/* Nothing, ".", "..": no name that anybody gave. */
static bool is_no_name(const char *name, size_t n)
{
	return n == 0 || (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.');
}

int file_name_clean(const char *given, size_t n, struct buf *out, struct err *err)
{
	long chars;
	if (n == 0)
		given = ""; /* none was given: it may be NULL */
	/* All of the path, not its last component alone: what is malformed is refused, not made to look right. */
	if (check_text("name", given, n, &chars, err) < 0)
		return -1;
	size_t start = n;
	while (start > 0 && given[start - 1] != '/' && given[start - 1] != '\\')
		start--;
	const char *name = given + start;
	size_t length = n - start;
	if (is_no_name(name, length)) {
		name = no_name;
		length = sizeof(no_name) - 1;
	}
	chars = utf8_length(name, length);
	if (chars > FILE_NAME_MAX_CHARS)
		return err_set(err, ERR_INVALID, "name: %ld characters, at most %d are allowed",
			       chars, FILE_NAME_MAX_CHARS);
	buf_reset(out);
	buf_append(out, name, length);
	return out->failed ? err_set(err, ERR_NO_MEMORY, "no memory for a name") : 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

int tag_clean(const char *given, size_t n, struct buf *out, struct err *err)
{
	while (n > 0 && is_blank(given[0])) {
		given++;
		n--;
	}
	while (n > 0 && is_blank(given[n - 1]))
		n--;
	long chars;
	if (check_text("a tag", given, n, &chars, err) < 0)
		return -1;
	if (chars == 0)
		return err_set(err, ERR_INVALID, "a tag is empty");
	if (chars > TAG_MAX_CHARS)
		return err_set(err, ERR_INVALID, "a tag of %ld characters, at most %d are allowed",
			       chars, TAG_MAX_CHARS);
	if (memchr(given, ',', n) != NULL)
		return err_set(err, ERR_INVALID, "a tag has a comma");
	buf_append(out, given, n);
	return out->failed ? err_set(err, ERR_NO_MEMORY, "no memory for a tag") : 0;
}

/* Browsers unescape a quoted-string differently, and some decode %XX in it: such a name goes as ext-value too. */
static bool is_plain(uint32_t code)
{
	return code >= 0x20 && code < 0x7F && code != '"' && code != '\\' && code != '%';
}

/* attr-char of RFC 8187 §3.2.1 */
static bool is_attr_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$&+-.^_`|~", c) != NULL);
}

static void put_percent(struct buf *out, const char *bytes, size_t n)
{
	static const char digits[] = "0123456789ABCDEF";
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)bytes[i];
		if (is_attr_char(c)) {
			buf_putc(out, (char)c);
		} else {
			char escape[3] = {'%', digits[c >> 4], digits[c & 0x0F]};
			buf_append(out, escape, sizeof(escape));
		}
	}
}

/* filename="…": one underscore for each character that does not stand for itself. Returns whether there was one. */
static bool put_fallback(struct buf *out, const char *name)
{
	bool replaced = false;
	size_t n = strlen(name);
	buf_puts(out, "filename=\"");
	for (size_t i = 0; i < n;) {
		uint32_t code = 0;
		unsigned length = utf8_decode(name + i, n - i, &code);
		bool plain = length > 0 && is_plain(code);
		buf_putc(out, plain ? (char)code : '_');
		replaced = replaced || !plain;
		i += length > 0 ? length : 1;
	}
	buf_putc(out, '"');
	return replaced;
}

static void put_ext_value(struct buf *out, const char *name)
{
	size_t n = strlen(name);
	buf_puts(out, "; filename*=UTF-8''");
	for (size_t i = 0; i < n;) {
		uint32_t code = 0;
		unsigned length = utf8_decode(name + i, n - i, &code);
		if (length == 0)
			buf_puts(
				out,
				"%EF%BF%BD"); /* U+FFFD: what comes out is UTF-8 whatever goes in */
		else if (utf8_is_control(code))
			buf_putc(out, '_'); /* names have none; a saved file must not either */
		else
			put_percent(out, name + i, length);
		i += length > 0 ? length : 1;
	}
}

void disposition_format(bool is_inline, const char *name, struct buf *out)
{
	buf_puts(out, is_inline ? "inline; " : "attachment; ");
	if (put_fallback(out, name))
		put_ext_value(out, name);
}
