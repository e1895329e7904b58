/*
 * Idempotency keys: the row beside a request's files, and the way back from it to the first answer. Worker threads.
 *
 * The answer is kept as the files' descriptions, in JSON. What a form says holds for all of its files, so tags and attributes that
 * all have in common stand once:
 *   {"tags": […], "attributes": {…}, "files": [{description}, …]}      both members are absent where files differ
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "store_private.h"

enum {
	ANSWER_MAX = 64 * 1024 * 1024,
	DESCRIPTION_MAX = 1024 * 1024,
	KEY_COLUMNS = 4,
};

/* --- in --- */

static bool labels_are_shared(const struct registration *registration)
{
	const struct file_record *first = registration->files[0];

	for (size_t i = 1; i < registration->n; i++) {
		const struct file_record *file = registration->files[i];

		if (strcmp(file->tags, first->tags) != 0 ||
		    strcmp(file->attributes, first->attributes) != 0)
			return false;
	}
	return true;
}

static void write_answer(const struct registration *registration, struct buf *out)
{
	bool shared = labels_are_shared(registration);
	struct json_writer w;

	json_writer_init(&w, out);
	json_open_object(&w);
	if (shared) {
		json_key(&w, "tags");
		json_raw(&w, registration->files[0]->tags);
		json_key(&w, "attributes");
		json_raw(&w, registration->files[0]->attributes);
	}
	json_key(&w, "files");
	json_open_array(&w);
	for (size_t i = 0; i < registration->n; i++) {
		struct file_record file = *registration->files[i];

		if (shared) {
			file.tags = "[]";
			file.attributes = "{}";
		}
		json_raw(&w, ""); /* the comma; the description follows */
		file_record_describe(&file, out);
	}
	json_close_array(&w);
	json_close_object(&w);
}

static struct value owner_value(const char *owner)
{
	return value_text(owner ? owner : "");
}

static struct value sha256_value(struct arena *arena, const unsigned char sha256[SHA256_LEN])
{
	char hex[SHA256_HEX_LEN + 1];

	hex_encode(sha256, SHA256_LEN, hex);
	return value_text(arena_strndup(arena, hex, SHA256_HEX_LEN));
}

int key_insert_params(struct arena *arena, const struct registration *registration,
		      struct value params[KEY_PARAMS], struct err *err)
{
	const struct idempotency *idempotency = registration->idempotency;
	struct buf answer;

	buf_init(&answer, ANSWER_MAX);
	write_answer(registration, &answer);
	params[0] = owner_value(registration->files[0]->owner);
	params[1] = value_text(idempotency->key);
	params[2] = sha256_value(arena, idempotency->fingerprint);
	params[3] = value_uuid(arena, &idempotency->request);
	params[4] = value_int(clock_wall_ms());
	params[5] = value_text(answer.failed ? NULL
					     : arena_strndup(arena, buf_text(&answer), answer.len));
	buf_release(&answer);
	return params[2].null || params[3].null || params[5].null
		       ? err_set(err, ERR_NO_MEMORY, "a request's key")
		       : 0;
}

/* --- out --- */

void key_answer_release(struct key_answer *answer)
{
	for (size_t i = 0; i < answer->n; i++)
		file_record_unref(&answer->files[i]);
	free(answer->files);
	*answer = (struct key_answer){0};
}

/* One description, with the labels that all files share. */
static int read_file(const json_t *description, const char *tags, const char *attributes,
		     struct file_record **out, struct err *err)
{
	struct file_record *record = NULL, whole;
	struct buf text;
	int found;

	buf_init(&text, DESCRIPTION_MAX);
	json_print(description, &text);
	found = file_record_from_description(buf_text(&text), text.len, &record, err);
	buf_release(&text);
	if (found != 1)
		return -1;
	whole = *record;
	whole.tags = tags ? tags : record->tags;
	whole.attributes = attributes ? attributes : record->attributes;
	*out = file_record_new(&whole);
	file_record_unref(&record);
	return *out ? 0 : err_set(err, ERR_NO_MEMORY, "a request's answer");
}

/* A member as text, or NULL where it is absent. */
static const char *shared_text(const json_t *root, const char *member, struct buf *out)
{
	const json_t *value = json_object_get(root, member);

	buf_init(out, DESCRIPTION_MAX);
	if (!value)
		return NULL;
	json_print(value, out);
	return buf_text(out);
}

static int read_files(const json_t *root, struct key_answer *answer, struct err *err)
{
	const json_t *files = json_object_get(root, "files");
	size_t n = json_array_size(files);
	struct buf tags_text, attributes_text;
	const char *tags = shared_text(root, "tags", &tags_text);
	const char *attributes = shared_text(root, "attributes", &attributes_text);
	int rc = 0;

	answer->files = calloc(n + 1, sizeof(struct file_record *));
	if (!answer->files)
		rc = err_set(err, ERR_NO_MEMORY, "a request's answer");
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = read_file(json_array_get(files, i), tags, attributes, &answer->files[i], err);
		answer->n += rc == 0;
	}
	buf_release(&tags_text);
	buf_release(&attributes_text);
	if (rc == 0 && n == 0)
		rc = err_set(err, ERR_INTERNAL, "a request's answer without files");
	return rc;
}

/* A row_fn: 0 fingerprint  1 request  2 answered_at  3 answer. */
static int take_answer(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct key_answer *answer = context;
	json_t *root;
	int rc;

	if (n < KEY_COLUMNS || columns[0].len != SHA256_HEX_LEN ||
	    !hex_decode(columns[0].text, SHA256_HEX_LEN, answer->fingerprint) ||
	    !uuid_parse(columns[1].text, &answer->request) || columns[2].kind != VALUE_INT)
		return err_set(err, ERR_INTERNAL, "the database gave a key that is none of ours");
	answer->answered_ms = columns[2].number;
	root = json_parse(columns[3].text, columns[3].len, err);
	rc = root ? read_files(root, answer, err) : -1;
	json_decref(root);
	/* Whose fault it is: not the client's, whose value is another one. */
	return rc < 0 && err->kind == ERR_INVALID
		       ? err_set(err, ERR_INTERNAL, "the database gave a damaged answer")
		       : rc;
}

int metadata_find_key(struct metadata *store, const char *owner, const char *key,
		      struct key_answer *out, struct err *err)
{
	struct value params[] = {owner_value(owner), value_text(key)};
	struct key_answer answer = {0};

	if (store_read(store, "key_find", params, 2, take_answer, &answer, store_deadline(store),
		       err) < 0) {
		key_answer_release(&answer);
		return -1;
	}
	if (answer.n == 0)
		return 0;
	*out = answer;
	return 1;
}

int metadata_remove_keys(struct metadata *store, int64_t before_ms, size_t limit, size_t *removed,
			 struct err *err)
{
	struct value params[] = {value_int(before_ms), value_int((int64_t)limit)};
	struct command command = {.params = params, .param_count = 2};

	if (store_statement(store, &command, "keys_delete", err) < 0 ||
	    store_run(store, &command, 1, RUN_IDEMPOTENT, store_deadline(store), err) < 0)
		return -1;
	*removed = (size_t)command.affected;
	return 0;
}
