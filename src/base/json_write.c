/* The streaming writer of JSON. Whatever bytes a text has, what comes out is valid UTF-8. */
#include <string.h>

#include "depotd/base/json.h"
#include "depotd/base/utf8.h"

void json_writer_init(struct json_writer *w, struct buf *out)
{
	*w = (struct json_writer){.out = out};
}

/* A value or a key comes: the comma before it, where one is due. */
static void json_separate(struct json_writer *w)
{
	if (w->need_comma && !w->after_key)
		buf_putc(w->out, ',');
	w->after_key = false;
	w->need_comma = true;
}

static void json_open(struct json_writer *w, char bracket)
{
	json_separate(w);
	buf_putc(w->out, bracket);
	w->need_comma = false;
	w->depth++;
}

static void json_close(struct json_writer *w, char bracket)
{
	buf_putc(w->out, bracket);
	w->need_comma = true;
	w->depth--;
}

void json_open_object(struct json_writer *w)
{
	json_open(w, '{');
}

void json_close_object(struct json_writer *w)
{
	json_close(w, '}');
}

void json_open_array(struct json_writer *w)
{
	json_open(w, '[');
}

void json_close_array(struct json_writer *w)
{
	json_close(w, ']');
}

/* What a byte must be written as (RFC 8259 §7), or NULL where it stands for itself. `six` is scratch. */
static const char *json_escape(unsigned char c, char six[7])
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	case '\b':
		return "\\b";
	case '\f':
		return "\\f";
	default:
		break;
	}
	if (c >= 0x20)
		return NULL;
	static const char digits[] = "0123456789abcdef";
	memcpy(six, "\\u00", 4);
	six[4] = digits[c >> 4];
	six[5] = digits[c & 0x0F];
	six[6] = '\0';
	return six;
}

/* Most of most texts. */
static bool stands_for_itself(char c)
{
	return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

static void json_quote(struct buf *out, const char *text, size_t n)
{
	buf_putc(out, '"');
	size_t copied = 0, i = 0;
	while (i < n) {
		if (stands_for_itself(text[i])) {
			i++;
			continue;
		}
		char six[7];
		uint32_t code;
		unsigned length = utf8_decode(text + i, n - i, &code);
		const char *instead = length == 0   ? "\xEF\xBF\xBD" /* U+FFFD */
				      : length == 1 ? json_escape((unsigned char)code, six)
						    : NULL;
		if (instead != NULL) {
			buf_append(out, text + copied, i - copied);
			buf_puts(out, instead);
			copied = i + 1;
		}
		i += length == 0 ? 1 : length;
	}
	buf_append(out, text + copied, n - copied);
	buf_putc(out, '"');
}

void json_key(struct json_writer *w, const char *key)
{
	json_separate(w);
	json_quote(w->out, key, strlen(key));
	buf_putc(w->out, ':');
	w->after_key = true;
}

void json_text(struct json_writer *w, const char *value)
{
	if (value == NULL)
		json_nothing(w);
	else
		json_text_n(w, value, strlen(value));
}

void json_text_n(struct json_writer *w, const char *value, size_t n)
{
	json_separate(w);
	json_quote(w->out, value, n);
}

void json_int(struct json_writer *w, int64_t value)
{
	json_separate(w);
	buf_printf(w->out, "%lld", (long long)value);
}

void json_bool(struct json_writer *w, bool value)
{
	json_raw(w, value ? "true" : "false");
}

void json_nothing(struct json_writer *w)
{
	json_raw(w, "null");
}

void json_raw(struct json_writer *w, const char *json)
{
	json_separate(w);
	buf_puts(w->out, json);
}
