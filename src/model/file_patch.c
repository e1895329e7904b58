/* RFC 7396 merge patch of what may change in a record. Pure. */
#include <string.h>

#include "attributes_private.h"
#include "depotd/model/attributes.h"
#include "depotd/model/file_name.h"

/* The record as it is being changed; what its pointers point to lives in the bufs until it is copied. */
struct change {
	struct file_record record;
	struct buf name, tags, attributes;
};

static int no_memory(struct err *err)
{
	return err_set(err, ERR_NO_MEMORY, "no memory for a patch");
}

static int patch_name(struct change *change, const json_t *value, struct err *err)
{
	if (!json_is_string(value))
		return err_set(err, ERR_INVALID, "name: must be a string");
	if (file_name_clean(json_string_value(value), json_string_length(value), &change->name,
			    err) < 0)
		return -1;
	change->record.name = buf_text(&change->name);
	return 0;
}

static int patch_tags(struct change *change, const json_t *value, struct err *err)
{
	if (tags_print(value, &change->tags, err) < 0)
		return -1;
	change->record.tags = buf_text(&change->tags);
	return 0;
}

static int patch_attributes(struct change *change, const json_t *value, struct err *err)
{
	if (!json_is_object(value) && !json_is_null(value))
		return err_set(err, ERR_INVALID, "attributes: must be an object or null");
	json_t *target =
		json_parse(change->record.attributes, strlen(change->record.attributes), err);
	if (target == NULL)
		return -1;
	json_t *merged = json_merge_patch(target, value);
	json_decref(target);
	if (merged == NULL)
		return no_memory(err);
	int result = attributes_print(merged, &change->attributes, err);
	json_decref(merged);
	if (result == 0)
		change->record.attributes = buf_text(&change->attributes);
	return result;
}

/* null: back to what a file has that was never asked about it. */
static int patch_visibility(struct change *change, const json_t *value, struct err *err)
{
	if (json_is_null(value)) {
		change->record.visibility = VISIBILITY_PRIVATE;
		return 0;
	}
	if (!json_is_string(value) ||
	    !visibility_parse(json_string_value(value), &change->record.visibility))
		return err_set(err, ERR_INVALID, "visibility: must be private or public");
	return 0;
}

static int patch_expires_at(struct change *change, const json_t *value, struct err *err)
{
	if (json_is_null(value)) {
		change->record.expires_ms = FILE_EXPIRES_NEVER;
		return 0;
	}
	if (!json_is_string(value) ||
	    !expiry_parse(json_string_value(value), &change->record.expires_ms))
		return err_set(err, ERR_INVALID, "expires_at: must be an RFC 3339 time or null");
	return 0;
}

static const struct {
	const char *member;
	int (*patch)(struct change *change, const json_t *value, struct err *err);
} members[] = {
	{"name", patch_name},
	{"tags", patch_tags},
	{"attributes", patch_attributes},
	{"visibility", patch_visibility},
	{"expires_at", patch_expires_at},
};

static int patch_member(struct change *change, const char *member, const json_t *value,
			struct err *err)
{
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (strcmp(members[i].member, member) == 0)
			return members[i].patch(change, value, err);
	}
	return err_set(
		err, ERR_INVALID,
		"%.64s: cannot be changed; name, tags, attributes, visibility and expires_at can",
		member);
}

static bool same_content(const struct file_record *a, const struct file_record *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->tags, b->tags) == 0 &&
	       strcmp(a->attributes, b->attributes) == 0 && a->visibility == b->visibility &&
	       a->expires_ms == b->expires_ms;
}

static int apply(const struct file_record *record, json_t *patch, struct file_record **out,
		 struct err *err)
{
	struct change change = {.record = *record};
	int result = -1;
	buf_init(&change.name, FILE_NAME_MAX_BYTES);
	buf_init(&change.tags, TAGS_MAX_BYTES);
	buf_init(&change.attributes, ATTRIBUTES_MAX_BYTES);
	for (void *at = json_object_iter(patch); at != NULL;
	     at = json_object_iter_next(patch, at)) {
		if (patch_member(&change, json_object_iter_key(at), json_object_iter_value(at),
				 err) < 0)
			goto out;
	}
	if (!same_content(record, &change.record))
		change.record.revision++;
	struct file_record *made = file_record_new(&change.record);
	if (made == NULL) {
		no_memory(err);
		goto out;
	}
	*out = made;
	result = 0;
out:
	buf_release(&change.name);
	buf_release(&change.tags);
	buf_release(&change.attributes);
	return result;
}

int file_record_patch(const struct file_record *record, const char *patch, size_t n,
		      struct file_record **out, struct err *err)
{
	json_t *root = json_parse(patch, n, err);
	if (root == NULL)
		return -1;
	int result = json_is_object(root)
			     ? apply(record, root, out, err)
			     : err_set(err, ERR_INVALID, "patch: must be a JSON object");
	json_decref(root);
	return result;
}
