/*
 * From a file's own description back to its record, and the short form of the description. What stands on a disk may be
 * anything, so every member is held against the same rules as a request's. Members that are not known are skipped: a later
 * version may add some. Pure.
 *
 * The short form is for the many: ext4 has room for 64 bytes of attribute in an inode of its usual size, and gives what is longer a
 * block of its own, which costs more than all the rest of making a small file. It says what the rest of the file does not:
 *
 *   D1, flags (1 public, 2 the type was sniffed), type by its number, SHA-256, size, created_at less the id's time, name
 *
 * with the two numbers as LEB128, the second folded so that small negative ones stay short. The id is the file's name. A record
 * that has more to tell, or that would not fit, is described by JSON alone.
 */
#include <stdint.h>
#include <string.h>

#include "attributes_private.h"
#include "depotd/base/clock.h"
#include "depotd/model/attributes.h"
#include "depotd/model/file_name.h"
#include "depotd/model/file_record.h"
#include "depotd/model/media_type.h"

static int malformed(const char *member, struct err *err)
{
	err_set(err, ERR_INVALID, "description: %s is missing or malformed", member);
	return 0;
}

/* A member's text without a NUL inside; NULL where it is absent or anything else. */
static const char *text_of(const json_t *root, const char *member)
{
	const json_t *value = json_object_get(root, member);
	return json_is_string(value) ? json_string_value(value) : NULL;
}

static bool integer_of(const json_t *root, const char *member, int64_t least, int64_t *out)
{
	const json_t *value = json_object_get(root, member);
	if (!json_is_integer(value) || json_integer_value(value) < least)
		return false;
	*out = json_integer_value(value);
	return true;
}

/* null counts as absent. */
static bool is_absent(const json_t *root, const char *member)
{
	const json_t *value = json_object_get(root, member);
	return value == NULL || json_is_null(value);
}

static bool name_is_clean(const char *name)
{
	bool same = false;
	struct buf clean;
	struct err ignored;
	buf_init(&clean, FILE_NAME_MAX_BYTES);
	if (name != NULL && file_name_clean(name, strlen(name), &clean, &ignored) == 0)
		same = strcmp(buf_text(&clean), name) == 0;
	buf_release(&clean);
	return same;
}

static const char *read_identity(const json_t *root, struct file_record *record)
{
	const char *id = text_of(root, "id");
	if (id == NULL || !uuid_parse(id, &record->id))
		return "id";
	const char *hex = text_of(root, "sha256");
	if (hex == NULL || strlen(hex) != SHA256_HEX_LEN ||
	    !hex_decode(hex, SHA256_HEX_LEN, record->sha256))
		return "sha256";
	if (!integer_of(root, "size", 0, &record->size))
		return "size";
	if (!integer_of(root, "revision", 1, &record->revision))
		return "revision";
	return NULL;
}

static const char *read_times(const json_t *root, struct file_record *record)
{
	const char *created = text_of(root, "created_at");
	if (created == NULL || !clock_parse_rfc3339(created, &record->created_ms))
		return "created_at";
	if (is_absent(root, "expires_at"))
		return NULL;
	const char *expires = text_of(root, "expires_at");
	if (expires == NULL || expiry_parse(expires, &record->expires_ms) == 0)
		return "expires_at";
	return NULL;
}

static const char *read_words(const json_t *root, struct file_record *record)
{
	record->name = text_of(root, "name");
	if (!name_is_clean(record->name))
		return "name";
	record->type = text_of(root, "type");
	if (record->type == NULL || !media_type_valid(record->type))
		return "type";
	record->sniffed = text_of(root, "sniffed");
	if (!is_absent(root, "sniffed") &&
	    (record->sniffed == NULL || !media_type_valid(record->sniffed)))
		return "sniffed";
	record->owner = text_of(root, "owner");
	if (!is_absent(root, "owner") && record->owner == NULL)
		return "owner";
	const char *visibility = text_of(root, "visibility");
	if (visibility == NULL || !visibility_parse(visibility, &record->visibility))
		return "visibility";
	return NULL;
}

static int read_record(const json_t *root, struct file_record **out, struct err *err)
{
	struct file_record record = {.expires_ms = FILE_EXPIRES_NEVER};
	int64_t version;
	struct buf tags, attributes;
	int result = 0;
	buf_init(&tags, TAGS_MAX_BYTES);
	buf_init(&attributes, ATTRIBUTES_MAX_BYTES);
	const char *bad = NULL;
	if (!integer_of(root, "v", 1, &version) || version != 1)
		bad = "v";
	if (bad == NULL)
		bad = read_identity(root, &record);
	if (bad == NULL)
		bad = read_times(root, &record);
	if (bad == NULL)
		bad = read_words(root, &record);
	if (bad != NULL) {
		malformed(bad, err);
		goto out;
	}
	if (tags_print(json_object_get(root, "tags"), &tags, err) < 0 ||
	    attributes_print(json_object_get(root, "attributes"), &attributes, err) < 0)
		goto out;
	record.tags = buf_text(&tags);
	record.attributes = buf_text(&attributes);
	struct file_record *made = file_record_new(&record);
	if (made == NULL) {
		err_set(err, ERR_NO_MEMORY, "no memory for a file record");
		goto out;
	}
	*out = made;
	result = 1;
out:
	buf_release(&tags);
	buf_release(&attributes);
	return result;
}

int file_record_from_description(const char *text, size_t n, struct file_record **out,
				 struct err *err)
{
	json_t *root = json_parse(text, n, err);
	if (root == NULL)
		return 0;
	int result = json_is_object(root) ? read_record(root, out, err) : malformed("object", err);
	json_decref(root);
	return result;
}

/* --- the short form --- */

enum {
	PACKED_MARK = 0xD1, /* no JSON begins with it, nor any UTF-8 */
	PACKED_PUBLIC = 1,
	PACKED_SNIFFED = 2,
	PACKED_AT_SHA256 = 3,
	PACKED_LEAST =
		PACKED_AT_SHA256 + SHA256_LEN + 3, /* two numbers and a name of one byte each */
};

/* A type's number is its place here: append only, never change. */
static const char *const packed_types[] = {
	"application/octet-stream",
	"text/plain",
	"image/jpeg",
	"image/png",
	"image/gif",
	"image/webp",
	"image/svg+xml",
	"image/heic",
	"image/avif",
	"application/pdf",
	"application/json",
	"application/zip",
	"application/gzip",
	"application/xml",
	"text/html",
	"text/css",
	"text/csv",
	"text/markdown",
	"text/xml",
	"text/javascript",
	"audio/mpeg",
	"audio/wav",
	"audio/ogg",
	"audio/flac",
	"video/mp4",
	"video/webm",
	"video/quicktime",
	"application/msword",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation",
};

enum { PACKED_TYPES = sizeof(packed_types) / sizeof(packed_types[0]) };

static unsigned type_number(const char *type)
{
	unsigned i = 0;
	while (i < PACKED_TYPES && strcmp(packed_types[i], type) != 0)
		i++;
	return i;
}

static void put_number(uint64_t value, struct buf *out)
{
	for (; value >= 0x80; value >>= 7)
		buf_putc(out, (char)(unsigned char)(value | 0x80));
	buf_putc(out, (char)(unsigned char)value);
}

/* In at most nine bytes, the shortest way; false otherwise. */
static bool get_number(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
	uint64_t value = 0;
	for (unsigned shift = 0; *at < end && shift < 63; shift += 7) {
		unsigned char byte = *(*at)++;
		value |= (uint64_t)(byte & 0x7F) << shift;
		if (byte < 0x80) {
			*out = value;
			return byte != 0 || shift == 0;
		}
	}
	return false;
}

static bool is_plain(const struct file_record *record)
{
	bool sniffed_is_type = record->sniffed && strcmp(record->sniffed, record->type) == 0;
	return record->revision == 1 && record->expires_ms == FILE_EXPIRES_NEVER &&
	       !record->owner && strcmp(record->tags, "[]") == 0 &&
	       strcmp(record->attributes, "{}") == 0 && (!record->sniffed || sniffed_is_type) &&
	       (record->visibility == VISIBILITY_PRIVATE ||
		record->visibility == VISIBILITY_PUBLIC);
}

bool file_record_pack(const struct file_record *record, struct buf *out)
{
	unsigned type = type_number(record->type);
	int64_t later = record->created_ms - uuid_time_ms(&record->id);
	if (!is_plain(record) || type == PACKED_TYPES)
		return false;
	buf_reset(out);
	buf_putc(out, (char)(unsigned char)PACKED_MARK);
	buf_putc(out, (char)((record->visibility == VISIBILITY_PUBLIC ? PACKED_PUBLIC : 0) |
			     (record->sniffed ? PACKED_SNIFFED : 0)));
	buf_putc(out, (char)type);
	buf_append(out, record->sha256, SHA256_LEN);
	put_number((uint64_t)record->size, out);
	put_number((uint64_t)later << 1 ^ (later < 0 ? UINT64_MAX : 0), out);
	buf_puts(out, record->name);
	return !out->failed && out->len <= FILE_PACKED_MAX;
}

/* What is wrong with it, or NULL. The name is copied to `name`. */
static const char *read_packed(const unsigned char *data, size_t n, struct file_record *record,
			       char name[FILE_PACKED_MAX + 1])
{
	const unsigned char *at = data + PACKED_AT_SHA256 + SHA256_LEN, *end = data + n;
	uint64_t size, folded;
	if (n < PACKED_LEAST || n > FILE_PACKED_MAX)
		return "length";
	if (data[1] > (PACKED_PUBLIC | PACKED_SNIFFED))
		return "flags";
	if (data[2] >= PACKED_TYPES)
		return "type";
	if (!get_number(&at, end, &size))
		return "size";
	if (!get_number(&at, end, &folded))
		return "created_at";
	memcpy(name, at, (size_t)(end - at));
	name[end - at] = '\0';
	if (strlen(name) != (size_t)(end - at) || !name_is_clean(name))
		return "name";
	record->visibility = data[1] & PACKED_PUBLIC ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	record->type = packed_types[data[2]];
	record->sniffed = data[1] & PACKED_SNIFFED ? record->type : NULL;
	memcpy(record->sha256, data + PACKED_AT_SHA256, SHA256_LEN);
	record->size = (int64_t)size;
	record->created_ms =
		uuid_time_ms(&record->id) + (int64_t)(folded >> 1 ^ (folded & 1 ? UINT64_MAX : 0));
	record->name = name;
	return clock_representable(record->created_ms) ? NULL : "created_at";
}

int file_record_unpack(const struct uuid *id, const char *text, size_t n, struct file_record **out,
		       struct err *err)
{
	struct file_record record = {.id = *id, .revision = 1, .expires_ms = FILE_EXPIRES_NEVER};
	char name[FILE_PACKED_MAX + 1];
	if (n == 0 || (unsigned char)text[0] != PACKED_MARK)
		return file_record_from_description(text, n, out, err);
	const char *bad = read_packed((const unsigned char *)text, n, &record, name);
	if (bad)
		return malformed(bad, err);
	struct file_record *made = file_record_new(&record);
	if (!made) {
		err_set(err, ERR_NO_MEMORY, "no memory for a file record");
		return 0;
	}
	*out = made;
	return 1;
}
