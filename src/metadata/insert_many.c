/*
 * Many file_insert commands as the one statement file_insert_many, where the dialect has it.
 *
 * PostgreSQL prepares each execution of a statement anew (check constraints, index expressions, defaults): for one row that is most
 * of the work, for a whole batch it is done once. Worker threads.
 */
#include "depotd/base/json.h"
#include "store_private.h"

/* The parameters of file_insert, in their order, as file_insert_many calls them. */
static const char *const names[INSERT_PARAMS] = {
	"id",         "created_at", "name",       "name_folded", "size",
	"type",       "sniffed",    "sha256",     "expires_at",  "owner",
	"visibility", "tags",       "attributes", "revision",    "facets",
};

static void write_row(struct json_writer *w, const struct value *params)
{
	json_open_object(w);
	for (size_t i = 0; i < INSERT_PARAMS; i++) {
		json_key(w, names[i]);
		if (params[i].null)
			json_text(w, NULL);
		else if (params[i].kind == VALUE_INT)
			json_int(w, params[i].number);
		else
			json_text_n(w, params[i].text, params[i].len);
	}
	json_close_object(w);
}

int insert_many(const struct metadata *store, const struct command *inserts, size_t n,
		struct buf *rows, struct value *param, struct command *out)
{
	const struct statement *statement = statements_find(store->statements, "file_insert_many");
	struct json_writer w;

	if (!statement || n < 2)
		return 0;
	json_writer_init(&w, rows);
	json_open_array(&w);
	for (size_t i = 0; i < n; i++)
		write_row(&w, inserts[i].params);
	json_close_array(&w);
	if (rows->failed)
		return 0;
	*param = (struct value){.kind = VALUE_TEXT, .text = buf_text(rows), .len = rows->len};
	*out = (struct command){.statement = statement, .params = param, .param_count = 1};
	return 1;
}
