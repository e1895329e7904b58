/*
 * JSON values: reading (jansson's, with bounds of our own before it), printing in one canonical form, merge patch.
 *
 * Numbers: an integer beyond 64 bits is refused rather than rounded, and a real is printed by the fewest digits that read
 * back as the same double. The process stays in the C locale. Any thread; a json_t belongs to one owner at a time.
 */
#include "depotd/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/utf8.h"

/* Nesting is counted before jansson descends. Quotes are the only other thing to know: brackets in strings do not nest. */
static int json_check_depth(const char *text, size_t n, struct err *err)
{
	unsigned depth = 0;
	bool in_string = false;
	int line = 1;
	size_t line_start = 0;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (c == '\n') {
			line++;
			line_start = i + 1;
		}
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSON_DEPTH_MAX)
				return err_set(err, ERR_INVALID,
					       "JSON: line %d, column %zu: nested deeper than %d",
					       line, i - line_start + 1, JSON_DEPTH_MAX);
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return 0;
}

/*
 * jansson's reader does not look whether a character found room in its buffer: it goes on without it, and then "abc" is "ac", or
 * its second walk of a string, which trusts the first, meets an assertion or runs past the end. So the first allocation that fails
 * gets a block that was put by beforehand, as large as that buffer can come to be; the text ends there, and what was read of it
 * counts for nothing.
 */
struct reading {
	const char *text;
	size_t left;
	void *reserve; /* NULL once it was given away */
	size_t reserve_size;
	bool starved;
};

static _Thread_local struct reading *reading; /* NULL outside of json_parse() */
static json_malloc_t plain_malloc;
static json_free_t plain_free;

static void *watched_malloc(size_t n)
{
	void *memory = plain_malloc(n);
	if (memory != NULL || reading == NULL)
		return memory;
	reading->starved = true;
	if (n > reading->reserve_size)
		return NULL;
	memory = reading->reserve;
	reading->reserve = NULL;
	return memory;
}

/* Before any thread: jansson does not lock what this sets. What malloc() gave to it before is given back by the same free(). */
__attribute__((constructor)) static void watch_jansson(void)
{
	json_get_alloc_funcs(&plain_malloc, &plain_free);
	json_set_alloc_funcs(watched_malloc, plain_free);
}

/* One character at a time, so that none is read after memory ended. */
static size_t next_character(void *buffer, size_t size, void *context)
{
	struct reading *r = context;
	if (size == 0 || r->left == 0 || r->starved)
		return 0;
	*(char *)buffer = *r->text++;
	r->left--;
	return 1;
}

static json_t *load(struct reading *r, json_error_t *error)
{
	r->reserve_size = 2 * r->left + 64; /* the buffer doubles when it is full */
	r->reserve = plain_malloc(r->reserve_size);
	r->starved = r->reserve == NULL;
	if (r->starved)
		return NULL;
	reading = r;
	json_t *value = json_load_callback(next_character, r,
					   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, error);
	reading = NULL;
	plain_free(r->reserve);
	if (value != NULL && r->starved) {
		json_decref(value);
		value = NULL;
	}
	return value;
}

/* Of a NUL, jansson speaks in the names of its macros. */
static bool is_nul(const json_error_t *error)
{
	enum json_error_code code = json_error_code(error);
	return code == json_error_null_character || code == json_error_null_byte_in_key;
}

json_t *json_parse(const char *text, size_t n, struct err *err)
{
	if (json_check_depth(text, n, err) < 0)
		return NULL;
	/* jansson takes a NUL for the end, and would never see what hides behind. */
	if (memchr(text, '\0', n) != NULL) {
		err_set(err, ERR_INVALID, "JSON: line 1: a NUL");
		return NULL;
	}
	struct reading r = {.text = text, .left = n};
	json_error_t error;
	json_t *value = load(&r, &error);
	if (r.starved)
		err_set(err, ERR_NO_MEMORY, "no memory for JSON");
	else if (value == NULL)
		err_set(err, ERR_INVALID, "JSON: line %d, column %d: %s", error.line, error.column,
			is_nul(&error) ? "\\u0000 is not allowed" : error.text);
	return value;
}

static void print_real(struct json_writer *w, double value)
{
	char text[40];
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	/* What was a real stays one: 1.0, not 1. */
	size_t length = strlen(text);
	if (strpbrk(text, ".e") == NULL && length + 2 < sizeof(text))
		memcpy(text + length, ".0", 3);
	json_raw(w, text);
}

static void print_value(struct json_writer *w, const json_t *value);

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_object(struct json_writer *w, const json_t *object)
{
	size_t n = json_object_size(object), i = 0;
	const char **keys = calloc(n + 1, sizeof(*keys));
	if (keys == NULL) {
		w->out->failed = w->out->no_memory = true;
		return;
	}
	json_t *unconst = (json_t *)(uintptr_t)
		object; /* jansson iterates without changing, but does not say so */
	for (void *at = json_object_iter(unconst); at != NULL;
	     at = json_object_iter_next(unconst, at))
		keys[i++] = json_object_iter_key(at);
	qsort(keys, n, sizeof(*keys), compare_keys);
	json_open_object(w);
	for (i = 0; i < n; i++) {
		json_key(w, keys[i]);
		print_value(w, json_object_get(object, keys[i]));
	}
	json_close_object(w);
	free(keys);
}

static void print_value(struct json_writer *w, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		print_object(w, value);
		break;
	case JSON_ARRAY:
		json_open_array(w);
		for (size_t i = 0; i < json_array_size(value); i++)
			print_value(w, json_array_get(value, i));
		json_close_array(w);
		break;
	case JSON_STRING:
		json_text_n(w, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		json_int(w, json_integer_value(value));
		break;
	case JSON_REAL:
		print_real(w, json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		json_bool(w, json_is_true(value));
		break;
	case JSON_NULL:
		json_nothing(w);
		break;
	}
}

void json_print(const json_t *value, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	print_value(&w, value);
}

/* RFC 7396 §2, word for word. The target's own reference stays the caller's. */
json_t *json_merge_patch(json_t *target, const json_t *patch)
{
	if (!json_is_object(patch))
		return json_deep_copy(patch);
	json_t *result = json_is_object(target) ? json_incref(target) : json_object();
	if (result == NULL)
		return NULL;
	json_t *unconst = (json_t *)(uintptr_t)patch;
	for (void *at = json_object_iter(unconst); at != NULL;
	     at = json_object_iter_next(unconst, at)) {
		const char *key = json_object_iter_key(at);
		const json_t *change = json_object_iter_value(at);
		if (json_is_null(change)) {
			json_object_del(result, key);
			continue;
		}
		json_t *merged = json_merge_patch(json_object_get(result, key), change);
		if (merged == NULL || json_object_set_new(result, key, merged) < 0) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}
