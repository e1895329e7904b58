/*
 * Records and rows: the only place that knows the columns (sql/postgres/statements.sql, VALUES and FILE ROWS). Any thread.
 *
 * jsonb loses two things on the way through PostgreSQL: blanks and the order of keys (mended by printing anew what comes
 * out) and whether a large number was an integer: 1e+15 comes back as 1000000000000000. So reals of that size go in as
 * 1000000000000000.0, which comes back as the same real. A record is the same, to the byte, whichever store held it.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/utf8.h"
#include "search_private.h"
#include "store_private.h"

enum {
	FOLDED_MAX = 4 * 1024,
	JSON_MAX = 4 * 1024 * 1024,
	REAL_TEXT_MAX = 340,
	NAME_CHARACTERS_MAX = 255
};

struct value value_int(int64_t number)
{
	return (struct value){.kind = VALUE_INT, .number = number};
}

struct value value_text(const char *text)
{
	return (struct value){
		.kind = VALUE_TEXT, .null = !text, .text = text, .len = text ? strlen(text) : 0};
}

struct value value_uuid(struct arena *arena, const struct uuid *id)
{
	char text[UUID_TEXT_LEN + 1];

	uuid_format(id, text);
	return value_text(arena_strndup(arena, text, UUID_TEXT_LEN));
}

/* --- in --- */

/* A number as JSON has it, or as much of one as matters here. */
static size_t number_length(const char *text)
{
	return strspn(text, "+-.0123456789eE");
}

static void put_number(struct buf *out, const char *text, size_t n)
{
	char digits[REAL_TEXT_MAX];
	double value = memchr(text, 'e', n) ? strtod(text, NULL) : 0;

	if (fabs(value) < 1e15) {
		buf_append(out, text, n);
		return;
	}
	snprintf(digits, sizeof(digits), "%.1f", value);
	buf_puts(out, digits);
}

/* Writes large reals of canonical JSON text with their point. */
static void widen_reals(const char *json, struct buf *out)
{
	bool in_string = false;

	for (const char *at = json; *at;) {
		size_t n = in_string ? 0 : number_length(at);

		if (n > 0 && *at != 'e') { /* an e alone is in true or false */
			put_number(out, at, n);
			at += n;
			continue;
		}
		if (in_string && *at == '\\' && at[1])
			buf_putc(out, *at++);
		else if (*at == '"')
			in_string = !in_string;
		buf_putc(out, *at++);
	}
}

static const char *attributes_text(struct arena *arena, const char *attributes)
{
	const char *text;
	struct buf out;

	if (!strstr(attributes, "e+"))
		return attributes;
	buf_init(&out, JSON_MAX);
	widen_reals(attributes, &out);
	text = out.failed ? NULL : arena_strndup(arena, buf_text(&out), out.len);
	buf_release(&out);
	return text;
}

static const char *folded_text(struct arena *arena, const char *name)
{
	const char *text;
	struct buf out;

	buf_init(&out, FOLDED_MAX);
	search_fold(name, &out);
	text = out.failed ? NULL : arena_strndup(arena, buf_text(&out), out.len);
	buf_release(&out);
	return text;
}

/* The texts that are made from a record, for insert and update alike. */
struct derived {
	const char *folded, *attributes, *facets;
	int64_t facet_bits;
};

static int derive_facets(struct arena *arena, const struct file_record *record, struct derived *to,
			 struct err *err)
{
	struct facet_set facets;
	struct json_writer w;
	struct buf out;

	if (facet_set_of(record, &facets, err) < 0)
		return -1;
	to->facet_bits = facet_bits(&facets, record->sha256);
	buf_init(&out, JSON_MAX);
	json_writer_init(&w, &out);
	json_open_array(&w);
	for (size_t i = 0; i < facets.n; i++)
		json_int(&w, facets.numbers[i]);
	json_close_array(&w);
	to->facets = out.failed ? NULL : arena_strndup(arena, buf_text(&out), out.len);
	buf_release(&out);
	return 0;
}

/*
 * A revision and a name PostgreSQL takes from us unseen (0006_cheaper_inserts.sql), and that attributes are an object, which
 * facet_set_of() sees to. Broken UTF-8 would reach SQLite unseen and PostgreSQL never.
 */
static int check_values(const struct file_record *record, struct err *err)
{
	const char *texts[] = {record->name,  record->type, record->sniffed,
			       record->owner, record->tags, record->attributes};
	long length = utf8_length(record->name, strlen(record->name));

	if (record->revision < 1)
		return err_set(err, ERR_INVALID, "a revision of %" PRId64, record->revision);
	if (length < 1 || length > NAME_CHARACTERS_MAX)
		return err_set(err, ERR_INVALID, "a name has 1 to %d characters of UTF-8",
			       NAME_CHARACTERS_MAX);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i] && utf8_length(texts[i], strlen(texts[i])) < 0)
			return err_set(err, ERR_INVALID, "metadata that is not UTF-8");
	}
	return 0;
}

static struct value expiry(const struct file_record *record)
{
	struct value value = value_int(record->expires_ms);

	value.null = record->expires_ms == FILE_EXPIRES_NEVER;
	return value;
}

static const char *visibility_text(const struct file_record *record)
{
	return record->visibility == VISIBILITY_PUBLIC ? "public" : "private";
}

static int derive(const struct metadata *store, struct arena *arena,
		  const struct file_record *record, struct derived *out, struct err *err)
{
	if (check_values(record, err) < 0 || derive_facets(arena, record, out, err) < 0)
		return -1;
	out->folded = folded_text(arena, record->name);
	out->attributes = store->ops->json_verbatim ? record->attributes
						    : attributes_text(arena, record->attributes);
	if (!out->folded || !out->attributes || !out->facets)
		return err_set(err, ERR_NO_MEMORY, "rows");
	return 0;
}

int row_insert_params(const struct metadata *store, struct arena *arena,
		      const struct file_record *record, struct value params[INSERT_PARAMS],
		      struct err *err)
{
	char hex[SHA256_HEX_LEN + 1];
	struct derived derived;

	if (derive(store, arena, record, &derived, err) < 0)
		return -1;
	hex_encode(record->sha256, SHA256_LEN, hex);
	params[0] = value_uuid(arena, &record->id);
	params[1] = value_int(record->created_ms);
	params[2] = value_text(record->name);
	params[3] = value_text(derived.folded);
	params[4] = value_int(record->size);
	params[5] = value_text(record->type);
	params[6] = value_text(record->sniffed);
	params[7] = value_text(arena_strndup(arena, hex, SHA256_HEX_LEN));
	params[8] = expiry(record);
	params[9] = value_text(record->owner);
	params[10] = value_text(visibility_text(record));
	params[11] = value_text(record->tags);
	params[12] = value_text(derived.attributes);
	params[13] = value_int(record->revision);
	params[14] = value_text(derived.facets);
	params[15] = value_int(derived.facet_bits);
	return params[0].null || params[7].null ? err_set(err, ERR_NO_MEMORY, "rows") : 0;
}

int row_update_params(const struct metadata *store, struct arena *arena,
		      const struct file_record *record, int64_t expected_revision,
		      struct value params[UPDATE_PARAMS], struct err *err)
{
	struct derived derived;

	if (derive(store, arena, record, &derived, err) < 0)
		return -1;
	params[0] = value_uuid(arena, &record->id);
	params[1] = value_int(expected_revision);
	params[2] = value_text(record->name);
	params[3] = value_text(derived.folded);
	params[4] = expiry(record);
	params[5] = value_text(visibility_text(record));
	params[6] = value_text(record->tags);
	params[7] = value_text(derived.attributes);
	params[8] = value_text(derived.facets);
	return params[0].null ? err_set(err, ERR_NO_MEMORY, "rows") : 0;
}

/* --- out --- */

/* Compact, keys sorted. Most files have no attributes, and json_print's own text needs no second printing. */
static int canonical(const struct value *json, struct buf *out, struct err *err)
{
	json_t *value;

	if (json->len == 2) {
		buf_append(out, json->text, json->len);
	} else {
		value = json_parse(json->text, json->len, err);
		if (!value)
			return -1;
		json_print(value, out);
		json_decref(value);
	}
	return out->failed ? err_set(err, ERR_NO_MEMORY, "rows") : 0;
}

static bool has_shape(const struct value *columns, size_t n)
{
	static const char shape[] = "ttitttiitttti"; /* i int64, t text */

	if (n < FILE_COLUMNS)
		return false;
	for (size_t i = 0; i < FILE_COLUMNS; i++) {
		bool nullable = i == 4 || i == 7 || i == 8;

		if (columns[i].null ? !nullable
				    : columns[i].kind != (shape[i] == 'i' ? VALUE_INT : VALUE_TEXT))
			return false;
	}
	return true;
}

int row_record(const struct value *columns, size_t n, struct file_record **out, struct err *err)
{
	struct file_record record = {0};
	struct buf attributes, tags;
	int rc = -1;

	if (!has_shape(columns, n) || !uuid_parse(columns[0].text, &record.id) ||
	    columns[5].len != SHA256_HEX_LEN ||
	    !hex_decode(columns[5].text, SHA256_HEX_LEN, record.sha256))
		return err_set(err, ERR_INTERNAL, "the database gave a row that is none of ours");
	buf_init(&attributes, JSON_MAX);
	buf_init(&tags, JSON_MAX);
	if (canonical(&columns[10], &tags, err) < 0 ||
	    canonical(&columns[11], &attributes, err) < 0)
		goto out;
	record.name = columns[1].text;
	record.size = columns[2].number;
	record.type = columns[3].text;
	record.sniffed = columns[4].null ? NULL : columns[4].text;
	record.created_ms = columns[6].number;
	record.expires_ms = columns[7].null ? FILE_EXPIRES_NEVER : columns[7].number;
	record.owner = columns[8].null ? NULL : columns[8].text;
	record.visibility =
		strcmp(columns[9].text, "public") == 0 ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	record.tags = buf_text(&tags);
	record.attributes = buf_text(&attributes);
	record.revision = columns[12].number;
	*out = file_record_new(&record);
	rc = *out ? 0 : err_set(err, ERR_NO_MEMORY, "rows");
out:
	buf_release(&attributes);
	buf_release(&tags);
	return rc;
}

int list_sink_init(struct list_sink *sink, size_t max, struct err *err)
{
	sink->list = (struct file_list){.files = calloc(max + 1, sizeof(*sink->list.files))};
	sink->max = max;
	return sink->list.files ? 0 : err_set(err, ERR_NO_MEMORY, "a list of %zu files", max);
}

int list_sink_row(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct list_sink *sink = context;

	if (sink->list.n == sink->max)
		return err_set(err, ERR_INTERNAL, "the database gave more than %zu rows",
			       sink->max);
	if (row_record(columns, n, &sink->list.files[sink->list.n], err) < 0)
		return -1;
	sink->list.n++;
	return 0;
}

void file_list_release(struct file_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		file_record_unref(&list->files[i]);
	file_record_unref(&list->end);
	free(list->files);
	*list = (struct file_list){0};
}
