/*
 * Many file_insert or key_insert commands as one statement, file_insert_many or key_insert_many, where the dialect has it.
 *
 * PostgreSQL prepares each execution of a statement anew (check constraints, index expressions, defaults): for one row that is most
 * of the work, for a whole batch it is done once. Worker threads.
 */
#include <string.h>

#include "depotd/base/json.h"
#include "store_private.h"

struct many {
	const char *one, *all; /* the statements' names */
	size_t params;
	const char *const *names; /* of one's parameters, in their order, as `all` calls them */
};

static const struct many kinds[] = {
	{"file_insert", "file_insert_many", INSERT_PARAMS,
	 (const char *const[INSERT_PARAMS]){
		 "id", "created_at", "name", "name_folded", "size", "type", "sniffed", "sha256",
		 "expires_at", "owner", "visibility", "tags", "attributes", "revision", "facets"}},
	{"key_insert", "key_insert_many", KEY_PARAMS,
	 (const char *const[KEY_PARAMS]){"owner", "key", "fingerprint", "request", "answered_at",
					 "answer"}},
};

static void write_row(struct json_writer *w, const struct many *kind, const struct value *params)
{
	json_open_object(w);
	for (size_t i = 0; i < kind->params; i++) {
		json_key(w, kind->names[i]);
		if (params[i].null)
			json_text(w, NULL);
		else if (params[i].kind == VALUE_INT)
			json_int(w, params[i].number);
		else
			json_text_n(w, params[i].text, params[i].len);
	}
	json_close_object(w);
}

/* The kind that all of them are, if there is one. */
static const struct many *kind_of(const struct command *inserts, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (inserts[i].statement != inserts[0].statement)
			return NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(inserts[0].statement->name, kinds[i].one) == 0)
			return &kinds[i];
	return NULL;
}

int insert_many(const struct metadata *store, const struct command *inserts, size_t n,
		struct buf *rows, struct value *param, struct command *out)
{
	const struct many *kind = n < 2 ? NULL : kind_of(inserts, n);
	const struct statement *statement =
		kind ? statements_find(store->statements, kind->all) : NULL;
	struct json_writer w;

	if (!statement)
		return 0;
	json_writer_init(&w, rows);
	json_open_array(&w);
	for (size_t i = 0; i < n; i++)
		write_row(&w, kind, inserts[i].params);
	json_close_array(&w);
	if (rows->failed)
		return 0;
	*param = (struct value){.kind = VALUE_TEXT, .text = buf_text(rows), .len = rows->len};
	*out = (struct command){.statement = statement, .params = param, .param_count = 1};
	return 1;
}
