/*
 * Many file_insert or key_insert commands as one statement, file_insert_many or key_insert_many, where the dialect has it.
 *
 * PostgreSQL prepares each execution of a statement anew (indexes, their expressions, defaults): for one row that is most of the
 * work, for a whole batch it is done once. The batch's parameters are the one row's, each an array: columns cost the server half
 * of what the same rows as JSON do. Worker threads.
 */
#include <string.h>

#include "store_private.h"

static const struct {
	const char *one, *many; /* the statements' names */
} kinds[] = {
	{"file_insert", "file_insert_many"},
	{"key_insert", "key_insert_many"},
};

/* The statement for many of the kind that all of them are, if there is one. */
static const struct statement *statement_of(const struct metadata *store,
					    const struct command *inserts, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (inserts[i].statement != inserts[0].statement)
			return NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(inserts[0].statement->name, kinds[i].one) == 0)
			return statements_find(store->statements, kinds[i].many);
	return NULL;
}

int insert_many(const struct metadata *store, const struct command *inserts, size_t n,
		struct arena *arena, struct command *out)
{
	const struct statement *statement = n < 2 ? NULL : statement_of(store, inserts, n);
	size_t params = statement ? inserts[0].param_count : 0;
	struct value *arrays, *items;

	if (!statement)
		return 0;
	arrays = arena_alloc(arena, params * sizeof(*arrays));
	items = arena_alloc(arena, params * n * sizeof(*items));
	if (!arrays || !items)
		return 0;
	for (size_t p = 0; p < params; p++) {
		arrays[p] = (struct value){.kind = VALUE_ARRAY, .len = n, .items = items + p * n};
		for (size_t i = 0; i < n; i++)
			items[p * n + i] = inserts[i].params[p];
	}
	*out = (struct command){.statement = statement, .params = arrays, .param_count = params};
	return 1;
}
