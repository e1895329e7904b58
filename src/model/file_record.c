/* The file record: one allocation, counted by references; as the contract's file object, and as the file's own description. */
#include "depotd/model/file_record.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"

enum { DESCRIPTION_VERSION = 1 };

struct counted_record {
	_Atomic unsigned references;
	struct file_record record;
	char text[]; /* what the record's pointers point to */
};

static struct counted_record *counted_of(struct file_record *record)
{
	return (struct counted_record *)(void *)((char *)record -
						 offsetof(struct counted_record, record));
}

static size_t text_size(const char *text)
{
	return text != NULL ? strlen(text) + 1 : 0;
}

/* Copies text (or nothing, for NULL) to *at and moves it. */
static const char *place(char **at, const char *text)
{
	size_t n = text_size(text);
	if (n == 0)
		return NULL;
	char *copy = memcpy(*at, text, n);
	*at += n;
	return copy;
}

struct file_record *file_record_new(const struct file_record *from)
{
	const char *tags = from->tags != NULL ? from->tags : "[]";
	const char *attributes = from->attributes != NULL ? from->attributes : "{}";
	size_t size = text_size(from->name) + text_size(from->type) + text_size(from->sniffed) +
		      text_size(from->owner) + text_size(tags) + text_size(attributes);
	struct counted_record *counted = malloc(sizeof(*counted) + size);
	if (counted == NULL)
		return NULL;
	atomic_init(&counted->references, 1);
	struct file_record *record = &counted->record;
	*record = *from;
	char *at = counted->text;
	record->name = place(&at, from->name);
	record->type = place(&at, from->type);
	record->sniffed = place(&at, from->sniffed);
	record->owner = place(&at, from->owner);
	record->tags = place(&at, tags);
	record->attributes = place(&at, attributes);
	return record;
}

struct file_record *file_record_unregistered(const struct file_record *from)
{
	struct file_record copy = *from;
	copy.unregistered = true;
	return file_record_new(&copy);
}

struct file_record *file_record_ref(struct file_record *record)
{
	atomic_fetch_add_explicit(&counted_of(record)->references, 1, memory_order_relaxed);
	return record;
}

void file_record_unref(struct file_record **record)
{
	if (*record == NULL)
		return;
	struct counted_record *counted = counted_of(*record);
	*record = NULL;
	/* Release what this owner read; the last one acquires it before it frees. */
	if (atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) == 1)
		free(counted);
}

static const char *visibility_name(enum visibility visibility)
{
	return visibility == VISIBILITY_PUBLIC ? "public" : "private";
}

static void write_time(struct json_writer *w, const char *key, int64_t ms)
{
	char text[CLOCK_RFC3339_LEN + 1];
	clock_format_rfc3339(ms, text);
	json_key(w, key);
	json_text_n(w, text, CLOCK_RFC3339_LEN);
}

/* What both forms have in common, in the contract's order. */
static void write_members(const struct file_record *record, struct json_writer *w)
{
	char id[UUID_TEXT_LEN + 1], hex[SHA256_HEX_LEN + 1];
	uuid_format(&record->id, id);
	hex_encode(record->sha256, SHA256_LEN, hex);
	json_key(w, "id");
	json_text_n(w, id, UUID_TEXT_LEN);
	json_key(w, "name");
	json_text(w, record->name);
	json_key(w, "size");
	json_int(w, record->size);
	json_key(w, "type");
	json_text(w, record->type);
	json_key(w, "sha256");
	json_text_n(w, hex, SHA256_HEX_LEN);
	write_time(w, "created_at", record->created_ms);
	if (record->expires_ms != FILE_EXPIRES_NEVER) {
		write_time(w, "expires_at", record->expires_ms);
	} else {
		json_key(w, "expires_at");
		json_nothing(w);
	}
	json_key(w, "owner");
	json_text(w, record->owner);
	json_key(w, "visibility");
	json_text(w, visibility_name(record->visibility));
	json_key(w, "tags");
	json_raw(w, record->tags);
	json_key(w, "attributes");
	json_raw(w, record->attributes);
}

void file_record_json(const struct file_record *record, struct json_writer *w)
{
	char url[sizeof("/files/") + UUID_TEXT_LEN] = "/files/";
	uuid_format(&record->id, url + sizeof("/files/") - 1);
	json_open_object(w);
	write_members(record, w);
	json_key(w, "url");
	json_text(w, url);
	if (record->unregistered) {
		json_key(w, "registered");
		json_bool(w, false);
	}
	json_close_object(w);
}

void file_record_describe(const struct file_record *record, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_open_object(&w);
	json_key(&w, "v");
	json_int(&w, DESCRIPTION_VERSION);
	write_members(record, &w);
	json_key(&w, "revision");
	json_int(&w, record->revision);
	json_key(&w, "sniffed");
	json_text(&w, record->sniffed);
	json_close_object(&w);
}
