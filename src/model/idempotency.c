/* Idempotency-Key: reading it, the fingerprint of a request, and both as JSON for whoever keeps them. Pure. */
#include "depotd/model/idempotency.h"

#include <string.h>

#include "structured_field_private.h"

enum {
	MEANING_MAX = 256 << 20, /* thousands of files with long names, and the labels once */
	FINGERPRINT_VERSION = 1, /* a new one answers repeats across an upgrade with 422 */
};

/* --- the field --- */

static int malformed(struct err *err)
{
	return err_set(
		err, ERR_INVALID,
		"Idempotency-Key: expected one string in double quotes, or one word, of 1 to %d "
		"characters",
		IDEMPOTENCY_KEY_MAX);
}

/* A string's characters without its quotes and escapes (RFC 8941 §4.2.5). [start, end) is well-formed. */
static size_t unquote(const char *start, const char *end, char out[IDEMPOTENCY_KEY_MAX + 1])
{
	size_t n = 0;
	for (const char *at = start + 1; at < end - 1; at++) {
		if (*at == '\\')
			at++;
		if (n == IDEMPOTENCY_KEY_MAX)
			return 0;
		out[n++] = *at;
	}
	return n;
}

/* A word: what cannot be taken for a list, for parameters or for a string that broke. */
static size_t take_word(const char **p, char out[IDEMPOTENCY_KEY_MAX + 1])
{
	size_t n = 0;
	for (; **p > ' ' && **p < 0x7F && strchr("\",;\\", **p) == NULL; ++*p) {
		if (n == IDEMPOTENCY_KEY_MAX)
			return 0;
		out[n++] = **p;
	}
	return n;
}

int idempotency_key_parse(const char *value, char out[IDEMPOTENCY_KEY_MAX + 1], struct err *err)
{
	char key[IDEMPOTENCY_KEY_MAX + 1];
	const char *p = field_skip_blanks(value), *start = p;
	size_t n;
	if (*p != '"') {
		n = take_word(&p, key);
	} else {
		if (!field_take_string(&p))
			return malformed(err);
		n = unquote(start, p, key);
		if (!field_take_parameters(&p))
			return malformed(err);
	}
	if (n == 0 || *field_skip_blanks(p) != '\0')
		return malformed(err);
	key[n] = '\0';
	memcpy(out, key, n + 1);
	return 0;
}

/* --- the fingerprint --- */

static void write_labels(const struct file_labels *labels, struct json_writer *w)
{
	json_raw(w, ""); /* no more than the comma: both are printed as canonical text */
	file_labels_print_tags(labels, w->out);
	json_raw(w, "");
	file_labels_print_attributes(labels, w->out);
	json_int(w, labels->expires_in_ms);
	json_int(w, labels->visibility);
}

static void write_file(const struct file_record *file, struct json_writer *w)
{
	char hex[SHA256_HEX_LEN + 1];
	hex_encode(file->sha256, SHA256_LEN, hex);
	json_open_array(w);
	json_text(w, file->name);
	json_int(w, file->size);
	json_text(w, hex);
	json_text(w, file->type);
	json_close_array(w);
}

int idempotency_fingerprint(const char *method, const char *route, const struct file_labels *labels,
			    const struct file_record *const *files, size_t n,
			    unsigned char out[SHA256_LEN], struct err *err)
{
	struct buf meaning;
	struct json_writer w;
	buf_init(&meaning, MEANING_MAX);
	json_writer_init(&w, &meaning);
	json_open_array(&w);
	json_int(&w, FINGERPRINT_VERSION);
	json_text(&w, method);
	json_text(&w, route);
	write_labels(labels, &w);
	for (size_t i = 0; i < n; i++)
		write_file(files[i], &w);
	json_close_array(&w);
	int rc = meaning.failed ? err_set(err, ERR_NO_MEMORY, "the fingerprint of a request")
				: digest_sha256(buf_text(&meaning), meaning.len, out, err);
	buf_release(&meaning);
	return rc;
}

/* --- kept --- */

void idempotency_json(const struct idempotency *idempotency, struct json_writer *w)
{
	char hex[SHA256_HEX_LEN + 1], request[UUID_TEXT_LEN + 1];
	hex_encode(idempotency->fingerprint, SHA256_LEN, hex);
	uuid_format(&idempotency->request, request);
	json_open_object(w);
	json_key(w, "key");
	json_text(w, idempotency->key);
	json_key(w, "fingerprint");
	json_text(w, hex);
	json_key(w, "request");
	json_text(w, request);
	json_close_object(w);
}

void idempotency_encode(const struct idempotency *idempotency, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	idempotency_json(idempotency, &w);
}

static const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));
	return text != NULL ? text : "";
}

static bool key_is_one(const char *key)
{
	size_t n = strlen(key);
	if (n == 0 || n > IDEMPOTENCY_KEY_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (key[i] < ' ' || key[i] > '~')
			return false;
	return true;
}

int idempotency_from_json(const json_t *value, struct idempotency *out, struct err *err)
{
	struct idempotency read;
	const char *key = text_of(value, "key"), *hex = text_of(value, "fingerprint");
	if (!key_is_one(key) || strlen(hex) != SHA256_HEX_LEN ||
	    !hex_decode(hex, SHA256_HEX_LEN, read.fingerprint) ||
	    !uuid_parse(text_of(value, "request"), &read.request)) {
		(void)err_set(err, ERR_INVALID, "idempotency: a member is missing or malformed");
		return 0;
	}
	memset(read.key, 0, sizeof(read.key));
	memcpy(read.key, key, strlen(key));
	*out = read;
	return 1;
}

int idempotency_decode(const char *text, size_t n, struct idempotency *out, struct err *err)
{
	json_t *value = json_parse(text, n, err);
	if (value == NULL)
		return 0;
	int rc = idempotency_from_json(value, out, err);
	json_decref(value);
	return rc;
}
