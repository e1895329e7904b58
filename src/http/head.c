/*
 * Parses request heads (RFC 9112 §2–§6). Where the RFC gives a choice between tolerating and refusing, this refuses whatever
 * two parsers could read differently. Pure; event threads.
 */
#include "head_private.h"

#include <string.h>
#include <strings.h>

enum { VERSION_LEN = 8 /* HTTP/1.1 */ };

/* What a character may be part of. Looked up for every byte of a head, so it is a table. */
enum {
	IN_TOKEN = 1, /* RFC 9110 §5.6.2 */
	IN_PATH = 2,  /* what a path may have, see target_is_clean() */
	IN_QUERY = 4, /* the same for a query */
	IN_HOST = 8,  /* unreserved and sub-delims of RFC 3986; % is looked at apart */
	IN_DIGITS = 16,
	IN_HEX = 32,
};

#define EVERYWHERE (IN_TOKEN | IN_PATH | IN_QUERY | IN_HOST)
#define LETTERS(first, last) [first... last] = EVERYWHERE
#define TARGET (IN_PATH | IN_QUERY)

static const unsigned char classes[256] = {
	LETTERS('G', 'Z'),
	LETTERS('g', 'z'),
	['0' ... '9'] = EVERYWHERE | IN_DIGITS | IN_HEX,
	['A' ... 'F'] = EVERYWHERE | IN_HEX,
	['a' ... 'f'] = EVERYWHERE | IN_HEX,
	['!'] = EVERYWHERE,
	['$'] = EVERYWHERE,
	['&'] = EVERYWHERE,
	['\''] = EVERYWHERE,
	['*'] = EVERYWHERE,
	['+'] = EVERYWHERE,
	['-'] = EVERYWHERE,
	['.'] = EVERYWHERE,
	['_'] = EVERYWHERE,
	['~'] = EVERYWHERE,
	['#'] = IN_TOKEN,
	['%'] = IN_TOKEN | TARGET,
	['^'] = IN_TOKEN | TARGET,
	['|'] = IN_TOKEN | TARGET,
	['`'] = IN_TOKEN | IN_QUERY,
	['('] = TARGET | IN_HOST,
	[')'] = TARGET | IN_HOST,
	[','] = TARGET | IN_HOST,
	[';'] = TARGET | IN_HOST,
	['='] = TARGET | IN_HOST,
	['/'] = TARGET,
	[':'] = TARGET,
	['?'] = TARGET,
	['@'] = TARGET,
	['['] = TARGET,
	[']'] = TARGET,
	['\\'] = IN_QUERY,
	['{'] = IN_QUERY,
	['}'] = IN_QUERY,
	[0x80 ... 0xFF] = TARGET,
};

static bool is_in(char c, unsigned class)
{
	return (classes[(unsigned char)c] & class) != 0;
}

static bool is_digit(char c)
{
	return is_in(c, IN_DIGITS);
}

static bool is_tchar(char c)
{
	return is_in(c, IN_TOKEN);
}

static bool is_xdigit(char c)
{
	return is_in(c, IN_HEX);
}

bool head_is_token(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!is_tchar(text[i]))
			return false;
	}
	return n > 0;
}

size_t head_leading_crlf(const char *data, size_t n)
{
	return n >= 2 && data[0] == '\r' && data[1] == '\n' ? 2 : 0;
}

size_t head_end(const char *data, size_t n, size_t *scanned)
{
	size_t at = *scanned;
	const char *lf;
	while (at < n && (lf = memchr(data + at, '\n', n - at)) != NULL) {
		size_t next = (size_t)(lf - data) + 1;
		if (next < n && data[next] == '\n')
			return next + 1;
		if (next + 1 < n && data[next] == '\r' && data[next + 1] == '\n')
			return next + 2;
		if (n - next < 2) { /* the bytes that decide are still to come */
			*scanned = next - 1;
			return 0;
		}
		at = next;
	}
	*scanned = n;
	return 0;
}

unsigned head_count_lines(const char *data, size_t n)
{
	unsigned lines = 0;
	const char *end = data + n;
	for (const char *lf; (lf = memchr(data, '\n', (size_t)(end - data))) != NULL; data = lf + 1)
		lines++;
	return lines < HEAD_FIELDS_MAX ? lines : HEAD_FIELDS_MAX;
}

/*
 * Which characters a target may have: RFC 3986's, and of the others those that browsers and curl send as typed (WHATWG URL),
 * UTF-8 among them. Whether %XX and UTF-8 are right is found when the target is decoded.
 */
static bool target_is_clean(const char *target, size_t n)
{
	unsigned class = IN_PATH;
	for (size_t i = 0; i < n; i++) {
		if (target[i] == '?')
			class = IN_QUERY;
		if (!is_in(target[i], class))
			return false;
	}
	return true;
}

static bool port_is_valid(const char *text, size_t n)
{
	unsigned value = 0;
	for (size_t i = 0; i < n; i++) {
		if (!is_digit(text[i]))
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
		if (value > 65535)
			return false;
	}
	return true;
}

static bool host_char_is_valid(const char *text, size_t n, size_t *i)
{
	if (text[*i] == '%') {
		if (*i + 2 >= n || !is_xdigit(text[*i + 1]) || !is_xdigit(text[*i + 2]))
			return false;
		*i += 2;
		return true;
	}
	return is_in(text[*i], IN_HOST);
}

/* uri-host [":" port] of RFC 3986 §3.2.2; an empty host names nobody and is refused as nginx does. */
static bool host_is_valid(const char *text, size_t n)
{
	size_t i = 0;
	if (n > 0 && text[0] == '[') {
		for (i = 1; i < n && text[i] != ']'; i++) {
			if (!is_xdigit(text[i]) && text[i] != ':' && text[i] != '.')
				return false;
		}
		if (i < 3 || i == n)
			return false;
		i++;
	} else {
		for (; i < n && text[i] != ':'; i++) {
			if (!host_char_is_valid(text, n, &i))
				return false;
		}
	}
	if (i == 0)
		return false;
	return i == n || (text[i] == ':' && port_is_valid(text + i + 1, n - i - 1));
}

static size_t scheme_length(const char *target)
{
	if (strncasecmp(target, "http://", 7) == 0)
		return 7;
	return strncasecmp(target, "https://", 8) == 0 ? 8 : 0;
}

/* RFC 9112 §3.2: origin-form, absolute-form, and * for OPTIONS. */
static int check_target(const char *method, const char *target, size_t n, struct err *err)
{
	if (strcmp(method, "CONNECT") == 0)
		return err_set(err, ERR_NOT_IMPLEMENTED, "CONNECT is not served here");
	if (n > HEAD_TARGET_MAX)
		return err_set(err, ERR_URI_TOO_LONG, "the request target is longer than %d bytes",
			       (int)HEAD_TARGET_MAX);
	if (!target_is_clean(target, n))
		return err_set(err, ERR_INVALID,
			       "the request target has a character that must be percent-encoded");
	if (target[0] == '/')
		return 0;
	if (n == 1 && target[0] == '*' && strcmp(method, "OPTIONS") == 0)
		return 0;
	size_t scheme = scheme_length(target);
	size_t authority = scheme > 0 ? strcspn(target + scheme, "/?") : 0;
	if (scheme == 0 || !host_is_valid(target + scheme, authority))
		return err_set(err, ERR_INVALID,
			       "the request target is neither a path nor an http URL");
	return 0;
}

static int check_version(const char *version, size_t n, unsigned *minor, struct err *err)
{
	if (n != VERSION_LEN || memcmp(version, "HTTP/", 5) != 0 || !is_digit(version[5]) ||
	    version[6] != '.' || !is_digit(version[7]))
		return err_set(err, ERR_INVALID,
			       "the request line does not end in an HTTP version");
	if (version[5] != '1' || version[7] > '1')
		return err_set(err, ERR_VERSION, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	*minor = (unsigned)(version[7] - '0');
	return 0;
}

struct request_line {
	size_t method_len, target_len; /* the target starts behind method and one blank */
	unsigned minor;
};

/* Splits a request line (without its line end): exactly two single blanks. */
static int split_request_line(const char *line, size_t n, struct request_line *out, struct err *err)
{
	const char *first = memchr(line, ' ', n);
	if (first == NULL || !head_is_token(line, (size_t)(first - line)))
		return err_set(err, ERR_INVALID, "the request line does not start with a method");
	out->method_len = (size_t)(first - line);
	const char *target = first + 1;
	const char *second = memchr(target, ' ', (size_t)(line + n - target));
	if (second == NULL || second == target)
		return err_set(err, ERR_INVALID, "the request line has no target or no version");
	out->target_len = (size_t)(second - target);
	return check_version(second + 1, (size_t)(line + n - second - 1), &out->minor, err);
}

/* The line at data: its length without CRLF, and *next behind it. -1 for a bare LF, a bare CR or a NUL. */
static int next_line(const char *data, size_t n, size_t *len, size_t *next, struct err *err)
{
	const char *lf = memchr(data, '\n', n);
	if (lf == NULL || lf == data || lf[-1] != '\r')
		return err_set(err, ERR_INVALID, "a line of the request does not end in CRLF");
	*len = (size_t)(lf - data) - 1;
	*next = *len + 2;
	if (memchr(data, '\r', *len) != NULL || memchr(data, '\0', *len) != NULL)
		return err_set(err, ERR_INVALID, "a line of the request has a bare CR or a NUL");
	return 0;
}

int head_split_field(const char *line, size_t n, size_t *name_len, const char **value,
		     size_t *value_len, struct err *err)
{
	if (n > 0 && (line[0] == ' ' || line[0] == '\t'))
		return err_set(err, ERR_INVALID, "a header field is folded over several lines");
	const char *colon = memchr(line, ':', n);
	if (colon == NULL || !head_is_token(line, (size_t)(colon - line)))
		return err_set(err, ERR_INVALID, "a header field's name is not a token");
	const char *from = colon + 1, *to = line + n;
	while (from < to && (*from == ' ' || *from == '\t'))
		from++;
	while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
		to--;
	for (const char *c = from; c < to; c++) {
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
			return err_set(err, ERR_INVALID,
				       "the value of header field %.*s has a control character",
				       (int)(colon - line > 64 ? 64 : colon - line), line);
	}
	*name_len = (size_t)(colon - line);
	*value = from;
	*value_len = (size_t)(to - from);
	return 0;
}

const struct head_field *head_find(const struct head *head, const char *name, unsigned *i)
{
	size_t n = strlen(name);
	for (; *i < head->field_count; (*i)++) {
		const struct head_field *field = &head->fields[*i];
		if (field->name_len == n && strncasecmp(field->name, name, n) == 0)
			return field;
	}
	return NULL;
}

/* The one field of that name, NULL absent; -1 when there are several. */
static int find_single(const struct head *head, const char *name, const struct head_field **out,
		       struct err *err)
{
	unsigned i = 0;
	*out = head_find(head, name, &i);
	i++;
	if (*out != NULL && head_find(head, name, &i) != NULL)
		return err_set(err, ERR_INVALID, "the request has several %s fields", name);
	return 0;
}

static int check_host(struct head *head, struct err *err)
{
	const struct head_field *host;
	if (find_single(head, "Host", &host, err) != 0)
		return -1;
	if (host == NULL)
		return head->minor == 0 ? 0 : err_set(err, ERR_INVALID, "the request has no Host");
	if (!host_is_valid(host->value, host->value_len))
		return err_set(err, ERR_INVALID, "Host is not a host with an optional port");
	return 0;
}

static int parse_length(const struct head_field *field, int64_t *out, struct err *err)
{
	int64_t value = 0;
	for (uint32_t i = 0; i < field->value_len; i++) {
		if (!is_digit(field->value[i]))
			return err_set(err, ERR_INVALID, "Content-Length is not a plain number");
		if (value > (INT64_MAX - 9) / 10)
			return err_set(err, ERR_INVALID, "Content-Length is too large to be true");
		value = value * 10 + (field->value[i] - '0');
	}
	if (field->value_len == 0)
		return err_set(err, ERR_INVALID, "Content-Length is empty");
	*out = value;
	return 0;
}

/* RFC 9112 §6: how long the body is. Whatever leaves room for two opinions is refused. */
static int check_framing(struct head *head, struct err *err)
{
	const struct head_field *length, *coding;
	if (find_single(head, "Content-Length", &length, err) != 0 ||
	    find_single(head, "Transfer-Encoding", &coding, err) != 0)
		return -1;
	head->has_length = length != NULL || coding != NULL;
	if (coding != NULL) {
		if (length != NULL)
			return err_set(err, ERR_INVALID,
				       "the request has both Content-Length and Transfer-Encoding");
		if (head->minor == 0)
			return err_set(err, ERR_INVALID, "HTTP/1.0 knows no Transfer-Encoding");
		if (strcasecmp(coding->value, "chunked") != 0) {
			if (!head_is_token(coding->value, coding->value_len))
				return err_set(err, ERR_INVALID,
					       "Transfer-Encoding is malformed or a list");
			return err_set(err, ERR_NOT_IMPLEMENTED,
				       "the only transfer coding here is chunked");
		}
		head->content_length = HEAD_CHUNKED;
		return 0;
	}
	return length != NULL ? parse_length(length, &head->content_length, err) : 0;
}

/* Calls for a token in a comma-separated list, any case. */
static bool list_has(const char *list, const char *token)
{
	size_t n = strlen(token);
	while (*list != '\0') {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, " \t,");
		if (len == n && strncasecmp(list, token, n) == 0)
			return true;
		list += len;
	}
	return false;
}

static int check_connection(struct head *head, struct err *err)
{
	bool close = false, keep = head->minor > 0;
	for (unsigned i = 0; head_find(head, "Connection", &i) != NULL; i++) {
		close = close || list_has(head->fields[i].value, "close");
		keep = keep || list_has(head->fields[i].value, "keep-alive");
	}
	head->keep_alive = keep && !close;
	for (unsigned i = 0; head_find(head, "Expect", &i) != NULL; i++) {
		if (strcasecmp(head->fields[i].value, "100-continue") != 0)
			return err_set(err, ERR_EXPECTATION,
				       "the only expectation understood is 100-continue");
		/* RFC 9110 §10.1.1: HTTP/1.0 has no interim answers. */
		head->expect_continue = head->minor > 0 && head->content_length != 0;
	}
	return 0;
}

static int parse_fields(char *data, size_t n, struct head *head, struct err *err)
{
	for (size_t at = 0; at < n;) {
		size_t len, next, name_len, value_len;
		const char *value;
		if (next_line(data + at, n - at, &len, &next, err) != 0)
			return -1;
		if (len == 0)
			return 0;
		if (head->field_count == HEAD_FIELDS_MAX)
			return err_set(err, ERR_HEADERS_TOO_LARGE,
				       "the request has more than %d header fields",
				       (int)HEAD_FIELDS_MAX);
		char *line = data + at;
		if (head_split_field(line, len, &name_len, &value, &value_len, err) != 0)
			return -1;
		line[name_len] = '\0';
		line[(size_t)(value - line) + value_len] =
			'\0'; /* at the latest where the CR stood */
		head->fields[head->field_count++] = (struct head_field){
			.name = line,
			.value = value,
			.name_len = (uint32_t)name_len,
			.value_len = (uint32_t)value_len,
		};
		at += next;
	}
	return 0;
}

int head_parse(char *data, size_t n, struct head_field *fields, struct head *out, struct err *err)
{
	*out = (struct head){.method = "", .target = "", .fields = fields, .minor = 1};
	struct request_line line;
	size_t len, next;
	if (next_line(data, n, &len, &next, err) != 0 ||
	    split_request_line(data, len, &line, err) != 0)
		return -1;
	char *target = data + line.method_len + 1;
	data[line.method_len] = '\0';
	target[line.target_len] = '\0';
	out->method = data;
	out->target = target;
	out->target_len = line.target_len;
	out->minor = line.minor;
	out->is_head = strcmp(data, "HEAD") == 0;
	if (check_target(data, target, line.target_len, err) != 0 ||
	    parse_fields(data + next, n - next, out, err) != 0 || check_host(out, err) != 0 ||
	    check_framing(out, err) != 0)
		return -1;
	return check_connection(out, err);
}

int head_check_partial(const char *data, size_t n, struct err *err)
{
	struct request_line line;
	size_t len, next;
	if (n == 0 || (n == 1 && data[0] == '\r'))
		return 0;
	if (!is_tchar(data[0]))
		return err_set(err, ERR_INVALID, "the request line does not start with a method");
	if (memchr(data, '\n', n) == NULL)
		return 0;
	if (next_line(data, n, &len, &next, err) != 0)
		return -1;
	return split_request_line(data, len, &line, err);
}
