/* What the scrub knows of each file's bytes: rows of file_scrub beside those of file. Worker threads, any number. */
#include <string.h>

#include "depotd/base/json.h"
#include "depotd/metadata/upkeep.h"
#include "store_private.h"

enum {
	RESULTS_TEXT_MAX = METADATA_SCRUB_MAX * 1024,
};

/* Runs one statement that changes something and may run twice. */
static int change(struct metadata *store, const char *name, const struct value *params, size_t n,
		  struct err *err)
{
	struct command command = {.params = params, .param_count = n};

	command.statement = statements_find(store->statements, name);
	if (!command.statement)
		return err_set(err, ERR_INTERNAL, "no statement %s", name);
	return store->ops->run(store->driver, &command, 1, RUN_IDEMPOTENT, store_deadline(store),
			       err);
}

static int none_of_ours(struct err *err)
{
	return err_set(err, ERR_INTERNAL, "the database gave a row that is none of ours");
}

/* --- who takes part --- */

/* A row of scrub_walk. */
struct walked {
	int64_t files, missing;
	struct uuid last;
};

static int take_walked(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct walked *walked = context;

	if (n < 3 || columns[0].kind != VALUE_INT || columns[1].kind != VALUE_INT)
		return none_of_ours(err);
	walked->files = columns[0].number;
	walked->missing = columns[1].number;
	if (walked->files > 0 && (columns[2].null || !uuid_parse(columns[2].text, &walked->last)))
		return none_of_ours(err);
	return 0;
}

int metadata_scrub_enroll(struct metadata *store, struct uuid *after, size_t limit, struct err *err)
{
	char text[UUID_TEXT_LEN + 1];
	struct walked walked = {0};
	struct value params[2];

	uuid_format(after, text);
	params[0] = value_text(text);
	params[1] = value_int((int64_t)limit);
	if (store_read(store, "scrub_walk", params, 2, take_walked, &walked, store_deadline(store),
		       err) < 0)
		return -1;
	if (walked.missing > 0 && change(store, "scrub_enroll", params, 2, err) < 0)
		return -1;
	if (walked.files > 0)
		*after = walked.last;
	return walked.files == (int64_t)limit;
}

/* --- whom to look at --- */

struct due_sink {
	struct scrub_due *out;
	size_t n, max;
};

static int take_due(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct due_sink *sink = context;
	struct scrub_due due = {.file = NULL};

	if (n <= FILE_COLUMNS || sink->n == sink->max || columns[FILE_COLUMNS].null ||
	    !uuid_parse(columns[FILE_COLUMNS].text, &due.id))
		return none_of_ours(err);
	if (!columns[0].null && row_record(columns, n, &due.file, err) < 0)
		return -1;
	sink->out[sink->n++] = due;
	return 0;
}

int metadata_scrub_due(struct metadata *store, int64_t before_ms, int64_t damaged_before_ms,
		       size_t limit, struct scrub_due *out, size_t *n, struct err *err)
{
	struct value params[] = {value_int(before_ms), value_int(damaged_before_ms),
				 value_int((int64_t)limit)};
	struct due_sink sink = {.out = out, .max = limit};

	if (store_read(store, "scrub_due", params, 3, take_due, &sink, store_deadline(store), err) <
	    0) {
		while (sink.n > 0)
			file_record_unref(&out[--sink.n].file);
		return -1;
	}
	*n = sink.n;
	return 0;
}

/* --- what was found --- */

/* A statement's only parameter: an array of JSON. */
struct list {
	struct buf text;
	struct json_writer w;
};

static void list_begin(struct list *list)
{
	buf_init(&list->text, RESULTS_TEXT_MAX);
	json_writer_init(&list->w, &list->text);
	json_open_array(&list->w);
}

static void list_id(struct list *list, const struct uuid *id)
{
	char text[UUID_TEXT_LEN + 1];

	uuid_format(id, text);
	json_text(&list->w, text);
}

/* Ends the list and runs the statement with it. */
static int change_list(struct metadata *store, const char *name, struct list *list, struct err *err)
{
	struct value param;
	int rc;

	json_close_array(&list->w);
	param = value_text(buf_text(&list->text));
	rc = list->text.failed ? err_set(err, ERR_NO_MEMORY, "a list of what the scrub found")
			       : change(store, name, &param, 1, err);
	buf_release(&list->text);
	return rc;
}

int metadata_scrub_record(struct metadata *store, const struct scrub_result *results, size_t n,
			  struct err *err)
{
	struct list list;

	if (n == 0)
		return 0;
	list_begin(&list);
	for (size_t i = 0; i < n; i++) {
		json_open_object(&list.w);
		json_key(&list.w, "id");
		list_id(&list, &results[i].id);
		json_key(&list.w, "at");
		json_int(&list.w, results[i].at_ms);
		json_key(&list.w, "damage");
		json_text(&list.w, results[i].damage);
		json_close_object(&list.w);
	}
	return change_list(store, "scrub_record", &list, err);
}

int metadata_scrub_forget(struct metadata *store, const struct uuid *ids, size_t n, struct err *err)
{
	struct list list;

	if (n == 0)
		return 0;
	list_begin(&list);
	for (size_t i = 0; i < n; i++)
		list_id(&list, &ids[i]);
	return change_list(store, "scrub_forget", &list, err);
}

static int take_oldest(void *context, const struct value *columns, size_t n, struct err *err)
{
	if (n < 1 || (!columns[0].null && columns[0].kind != VALUE_INT))
		return none_of_ours(err);
	if (!columns[0].null)
		*(int64_t *)context = columns[0].number;
	return 0;
}

int metadata_scrub_oldest(struct metadata *store, int64_t *at_ms, struct err *err)
{
	int64_t oldest = -1;

	if (store_read(store, "scrub_oldest", NULL, 0, take_oldest, &oldest, store_deadline(store),
		       err) < 0)
		return -1;
	*at_ms = oldest;
	return 0;
}

/* --- who is damaged --- */

struct damaged_sink {
	metadata_damaged_fn told;
	void *context;
};

static int take_damaged(void *context, const struct value *columns, size_t n, struct err *err)
{
	const struct damaged_sink *sink = context;
	struct uuid id;

	if (n < 3 || columns[0].null || !uuid_parse(columns[0].text, &id) ||
	    columns[1].kind != VALUE_INT || columns[2].null)
		return none_of_ours(err);
	return sink->told(sink->context, &id, columns[1].number, columns[2].text, err);
}

int metadata_damaged(struct metadata *store, size_t limit, metadata_damaged_fn told, void *context,
		     struct err *err)
{
	struct value param = value_int((int64_t)limit);
	struct damaged_sink sink = {told, context};

	return store_read(store, "scrub_damaged", &param, 1, take_damaged, &sink,
			  store_deadline(store), err);
}
