/* Many rows for check, reindex and the sweep: walked in id order, looked up by the hundred, found expired. Worker threads. */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/json.h"
#include "store_private.h"

enum { PRESENT_MAX = 1000, IDS_TEXT_MAX = PRESENT_MAX * (UUID_TEXT_LEN + 3) + 2 };

/* Runs a statement that gives file rows, at most `limit` of them. */
static int read_files(struct metadata *store, const char *statement, const struct value *params,
		      size_t n, size_t limit, struct file_list *out, struct err *err)
{
	struct list_sink sink;

	if (list_sink_init(&sink, limit, err) < 0)
		return -1;
	if (store_read(store, statement, params, n, list_sink_row, &sink, store_deadline(store),
		       err) < 0) {
		file_list_release(&sink.list);
		return -1;
	}
	sink.list.more = limit > 0 && sink.list.n == limit;
	*out = sink.list;
	return 0;
}

int metadata_walk(struct metadata *store, const struct uuid *after, size_t limit,
		  struct file_list *out, struct err *err)
{
	static const struct uuid start;
	char text[UUID_TEXT_LEN + 1];
	struct value params[2];

	uuid_format(after ? after : &start, text);
	params[0] = value_text(text);
	params[1] = value_int((int64_t)limit);
	return read_files(store, "files_walk", params, 2, limit, out, err);
}

int metadata_expired(struct metadata *store, int64_t now_ms, size_t limit, struct file_list *out,
		     struct err *err)
{
	struct value params[] = {value_int(now_ms), value_int((int64_t)limit)};

	return read_files(store, "files_expired", params, 2, limit, out, err);
}

/* An id that is asked for, and where; sorted by id, so that the rows, which come in no order, find their places. */
struct asked {
	struct uuid id;
	size_t place;
};

struct presence {
	struct asked asked[PRESENT_MAX];
	size_t n;
	bool present[PRESENT_MAX];
};

static int compare_asked(const void *a, const void *b)
{
	const struct asked *left = a, *right = b;

	return uuid_compare(&left->id, &right->id);
}

/* The first of those that ask for this id; the same id may be asked for twice. */
static size_t first_asked(const struct presence *p, const struct uuid *id)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (uuid_compare(&p->asked[middle].id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int mark_present(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct presence *p = context;
	struct uuid id;

	if (n < 1 || columns[0].null || columns[0].kind != VALUE_TEXT ||
	    !uuid_parse(columns[0].text, &id))
		return err_set(err, ERR_INTERNAL, "the database gave an id that is none");
	for (size_t i = first_asked(p, &id); i < p->n && uuid_compare(&p->asked[i].id, &id) == 0;
	     i++)
		p->present[p->asked[i].place] = true;
	return 0;
}

/* A JSON array of the ids. */
static void write_ids(const struct uuid *ids, size_t n, struct buf *out)
{
	char text[UUID_TEXT_LEN + 1];
	struct json_writer w;

	json_writer_init(&w, out);
	json_open_array(&w);
	for (size_t i = 0; i < n; i++) {
		uuid_format(&ids[i], text);
		json_text(&w, text);
	}
	json_close_array(&w);
}

int metadata_present(struct metadata *store, const struct uuid *ids, size_t n, bool *present,
		     struct err *err)
{
	struct presence *presence;
	struct value param;
	struct buf list;
	int rc;

	if (n > PRESENT_MAX)
		return err_set(err, ERR_INVALID, "more than %d ids", PRESENT_MAX);
	presence = calloc(1, sizeof(*presence));
	if (!presence)
		return err_set(err, ERR_NO_MEMORY, "a list of ids");
	presence->n = n;
	for (size_t i = 0; i < n; i++)
		presence->asked[i] = (struct asked){ids[i], i};
	qsort(presence->asked, n, sizeof(presence->asked[0]), compare_asked);
	buf_init(&list, IDS_TEXT_MAX);
	write_ids(ids, n, &list);
	param = value_text(buf_text(&list));
	rc = list.failed ? err_set(err, ERR_NO_MEMORY, "a list of ids")
			 : store_read(store, "files_present", &param, 1, mark_present, presence,
				      store_deadline(store), err);
	if (rc == 0)
		memcpy(present, presence->present, n * sizeof(*present));
	buf_release(&list);
	free(presence);
	return rc;
}
