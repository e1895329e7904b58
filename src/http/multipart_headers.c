/* The headers of a form's part, as browsers, curl and mail libraries write them. Pure. */
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "depotd/base/digest.h"
#include "head_private.h"
#include "multipart_private.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *skip_blanks(char *at)
{
	while (is_blank(*at))
		at++;
	return at;
}

/* One parameter of a field value. `text` is NUL-terminated but may hold NULs of its own where `len` says more. */
struct parameter {
	char *name;
	size_t name_len;
	char *value;
	size_t len;
};

/*
 * A quoted string, unescaped in place. A backslash escapes a quote or a backslash; before anything else it is itself, as in
 * the paths of old Internet Explorer. Returns what follows the closing quote, NULL without one.
 */
static char *take_quoted(char *at, struct parameter *out)
{
	char *to = at;
	out->value = at;
	for (; *at != '"'; at++) {
		if (*at == '\\' && (at[1] == '"' || at[1] == '\\'))
			at++;
		if (*at == '\0')
			return NULL;
		*to++ = *at;
	}
	out->len = (size_t)(to - out->value);
	at++;
	*to = '\0';
	return at;
}

/* The next parameter at *at, which stands behind a value or another parameter. 1 found, 0 the end, -1 malformed. */
static int next_parameter(char **at, struct parameter *out)
{
	char *c = skip_blanks(*at);
	while (*c == ';')
		c = skip_blanks(c + 1);
	*at = c;
	if (*c == '\0')
		return 0;
	out->name = c;
	out->name_len = strcspn(c, "=; \t");
	c = skip_blanks(c + out->name_len);
	if (out->name_len == 0 || *c != '=')
		return -1;
	c = skip_blanks(c + 1);
	if (*c == '"') {
		c = take_quoted(c + 1, out);
		if (c == NULL)
			return -1;
		c = skip_blanks(c);
		if (*c != ';' && *c != '\0')
			return -1;
		*at = c;
		return 1;
	}
	out->value = c;
	out->len = strcspn(c, ";");
	*at = c + out->len;
	while (out->len > 0 && is_blank(c[out->len - 1]))
		out->len--;
	if (**at == ';')
		(*at)++;
	out->value[out->len] = '\0';
	return 1;
}

static bool is_named(const struct parameter *p, const char *name)
{
	return p->name_len == strlen(name) && strncasecmp(p->name, name, p->name_len) == 0;
}

/* Browsers write quote, CR and LF in names as %22, %0D and %0A, and escape nothing else (WHATWG HTML). In place. */
static size_t undo_browser_escapes(char *text, size_t n)
{
	size_t to = 0;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (c == '%' && i + 2 < n) {
			int value = hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]);
			if (value == 0x22 || value == 0x0D || value == 0x0A) {
				c = (char)value;
				i += 2;
			}
		}
		text[to++] = c;
	}
	text[to] = '\0';
	return to;
}

/* ISO-8859-1 takes two bytes of UTF-8 where percent-encoding took three, so it fits in place. */
static size_t append_latin1(char *out, unsigned char c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xC0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3F));
	return 2;
}

/* ext-value of RFC 8187 §3.2, decoded in place. -1 malformed or another charset. */
static int decode_extended(struct parameter *p)
{
	char *quote = strchr(p->value, '\'');
	char *second = quote != NULL ? strchr(quote + 1, '\'') : NULL;
	if (second == NULL)
		return -1;
	size_t charset = (size_t)(quote - p->value);
	bool utf8 = charset == 5 && strncasecmp(p->value, "UTF-8", 5) == 0;
	bool latin1 = charset == 10 && strncasecmp(p->value, "ISO-8859-1", 10) == 0;
	if (!utf8 && !latin1)
		return -1;
	char *to = p->value;
	for (const char *from = second + 1; *from != '\0'; from++) {
		unsigned char c = (unsigned char)*from;
		if (c >= 0x80)
			return -1;
		if (c == '%') {
			int high = hex_value(from[1]), low = high >= 0 ? hex_value(from[2]) : -1;
			if (low < 0)
				return -1;
			c = (unsigned char)(high * 16 + low);
			from += 2;
		}
		if (latin1)
			to += append_latin1(to, c);
		else
			*to++ = (char)c;
	}
	*to = '\0';
	p->len = (size_t)(to - p->value);
	return 0;
}

static int refuse(struct err *err, unsigned long long at, const char *what)
{
	return err_set(err, ERR_INVALID, "the part at byte %llu %s", at, what);
}

/* Each parameter counts once; filename* goes before filename, wherever it stands (RFC 6266 §4.3). */
static int parse_disposition(char *value, unsigned long long at, struct multipart_part *part,
			     struct err *err)
{
	size_t type = strcspn(value, "; \t");
	char *next = value + type;
	bool extended = false;
	struct parameter p;
	int found;
	if (part->name != NULL)
		return refuse(err, at, "has two Content-Disposition fields");
	if (type != 9 || strncasecmp(value, "form-data", 9) != 0)
		return refuse(err, at, "is not form-data");
	while ((found = next_parameter(&next, &p)) == 1) {
		if (is_named(&p, "name")) {
			if (part->name != NULL)
				return refuse(err, at, "has two names");
			(void)undo_browser_escapes(p.value, p.len);
			part->name = p.value;
		} else if (is_named(&p, "filename")) {
			if (part->filename != NULL && !extended)
				return refuse(err, at, "has two file names");
			if (extended)
				continue;
			part->filename_len = undo_browser_escapes(p.value, p.len);
			part->filename = p.value;
		} else if (is_named(&p, "filename*")) {
			if (extended || decode_extended(&p) != 0)
				return refuse(err, at, "has a malformed filename*");
			extended = true;
			part->filename = p.value;
			part->filename_len = p.len;
		}
	}
	if (found < 0)
		return refuse(err, at, "has a malformed Content-Disposition");
	return part->name != NULL ? 0 : refuse(err, at, "has no name");
}

static int check_encoding(const char *value, unsigned long long at, struct err *err)
{
	static const char *const plain[] = {"7bit", "8bit", "binary"};
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (strcasecmp(value, plain[i]) == 0)
			return 0;
	}
	return refuse(err, at, "has a Content-Transfer-Encoding, which forms do not have");
}

static int take_field(char *line, size_t n, unsigned long long at, struct multipart_part *part,
		      struct err *err)
{
	size_t name_len, value_len;
	const char *found;
	if (head_split_field(line, n, &name_len, &found, &value_len, err) != 0)
		return refuse(err, at, "has a malformed header field");
	char *value = line + (found - line);
	value[value_len] = '\0';
	line[name_len] = '\0';
	if (strcasecmp(line, "Content-Disposition") == 0)
		return parse_disposition(value, at, part, err);
	if (strcasecmp(line, "Content-Transfer-Encoding") == 0)
		return check_encoding(value, at, err);
	if (strcasecmp(line, "Content-Type") == 0)
		part->content_type = value;
	else if (strcasecmp(line, "Content-Digest") == 0)
		part->content_digest = value;
	else if (strcasecmp(line, "Repr-Digest") == 0)
		part->repr_digest = value;
	return 0;
}

/* The end of the logical line at block: folded lines (RFC 5322 §2.2.3) are joined with blanks. NULL: no CRLF. */
static char *join_folded(char *block, const char *end)
{
	char *at = block;
	for (;;) {
		char *lf = memchr(at, '\n', (size_t)(end - at));
		if (lf == NULL || lf == block || lf[-1] != '\r')
			return NULL;
		if (lf + 1 == end || !is_blank(lf[1]))
			return lf - 1;
		lf[-1] = ' ';
		lf[0] = ' ';
		at = lf + 1;
	}
}

int multipart_headers_parse(char *block, size_t n, unsigned long long at,
			    struct multipart_part *part, struct err *err)
{
	char *end = block + n;
	*part = (struct multipart_part){0};
	if (memchr(block, '\0', n) != NULL)
		return refuse(err, at, "has a NUL in its headers");
	while (block < end) {
		char *line_end = join_folded(block, end);
		if (line_end == NULL)
			return refuse(err, at, "has a header line that does not end in CRLF");
		if (take_field(block, (size_t)(line_end - block), at, part, err) != 0)
			return -1;
		block = line_end + 2;
	}
	return part->name != NULL ? 0 : refuse(err, at, "has no Content-Disposition");
}

/* RFC 2046 §5.1.1's characters, and those of a token, which some clients use. */
static bool boundary_is_valid(const char *text, size_t n)
{
	if (n == 0 || n > MULTIPART_BOUNDARY_MAX || text[n - 1] == ' ')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!head_is_token(text + i, 1) && strchr("()/:=?, ", text[i]) == NULL)
			return false;
	}
	return true;
}

int multipart_boundary(const char *content_type, char out[MULTIPART_BOUNDARY_MAX + 1],
		       struct err *err)
{
	static const char type[] = "multipart/form-data";
	enum { TYPE_LEN = sizeof(type) - 1, COPY_MAX = 1024 };
	char copy[COPY_MAX + 1];
	size_t n = content_type != NULL ? strlen(content_type) : 0;
	if (n < TYPE_LEN || strncasecmp(content_type, type, TYPE_LEN) != 0 ||
	    strchr("; \t", content_type[TYPE_LEN]) == NULL)
		return err_set(err, ERR_MEDIA_TYPE, "the body is not multipart/form-data");
	if (n > COPY_MAX)
		return err_set(err, ERR_INVALID, "Content-Type is too long");
	memcpy(copy, content_type, n + 1);
	char *next = copy + TYPE_LEN;
	struct parameter p, boundary = {0};
	int found;
	while ((found = next_parameter(&next, &p)) == 1) {
		if (!is_named(&p, "boundary"))
			continue;
		if (boundary.value != NULL)
			return err_set(err, ERR_INVALID, "Content-Type has two boundaries");
		boundary = p;
	}
	if (found < 0 || boundary.value == NULL || !boundary_is_valid(boundary.value, boundary.len))
		return err_set(err, ERR_INVALID, "Content-Type has no valid boundary");
	memcpy(out, boundary.value, boundary.len + 1);
	return 0;
}
