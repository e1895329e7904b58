/*
 * From a file's own description back to its record. What stands on a disk may be anything, so every member is held
 * against the same rules as a request's. Members that are not known are skipped: a later version may add some. Pure.
 */
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
