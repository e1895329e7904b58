/*
 * List requests: lines of KEY=VALUE. What was taken makes a cursor that resumes the same request; any other text as a
 * cursor is refused.
 */
#include "depotd/model/listing.h"
#include "fuzz.h"

/* Adds every line to the query, but the cursor's where `with_cursor` is false. Cuts text up. */
static bool add_lines(struct list_query *query, struct arena *arena, char *text, bool with_cursor,
		      struct err *err)
{
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		char *value = strchr(line, '=');
		if (value == NULL)
			continue;
		*value++ = '\0';
		if (!with_cursor && strcmp(line, "cursor") == 0)
			continue;
		if (list_query_add(query, arena, line, value, err) < 0) {
			MUST(err->kind == ERR_INVALID || err->kind == ERR_NO_MEMORY);
			return false;
		}
	}
	return true;
}

static void check_round_trip(struct list_query *query, struct arena *arena)
{
	static const struct uuid id = {{9, 8, 7}};
	struct err err;
	struct buf cursor;
	buf_init(&cursor, 4096);
	list_cursor_encode(query, 42, "na\xC3\xAFve", &id, &cursor);
	MUST(!cursor.failed);
	MUST(list_query_add(query, arena, "cursor", buf_text(&cursor), &err) == 0);
	MUST(list_query_finish(query, arena, &err) == 0);
	MUST(query->has_position && memcmp(&query->position_id, &id, sizeof(id)) == 0);
	if (query->sort == LIST_SORT_NAME)
		MUST(strcmp(query->position_name, "na\xC3\xAFve") == 0);
	else
		MUST(query->position_number == 42);
	buf_release(&cursor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct list_query query;
	struct arena arena;
	struct err err;
	for (int with_cursor = 0; with_cursor < 2; with_cursor++) {
		char *text = fuzz_text(data, size);
		arena_init(&arena, 1 << 20);
		list_query_init(&query);
		if (add_lines(&query, &arena, text, with_cursor != 0, &err)) {
			MUST(query.limit >= 1 && query.limit <= LIST_LIMIT_MAX);
			MUST(query.type == NULL || query.type_major == NULL);
			if (with_cursor)
				list_query_finish(&query, &arena, &err);
			else
				check_round_trip(&query, &arena);
		}
		arena_release(&arena);
		free(text);
	}
	return 0;
}
