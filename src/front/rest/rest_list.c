/* GET /files: a page of the list. The query is read on the event thread, the rows on a worker. */

#include <string.h>

#include "depotd/base/percent.h"
#include "depotd/core/files.h"
#include "depotd/model/listing.h"
#include "rest_private.h"

static enum http_verdict list_check(struct exchange *x)
{
	struct list_query *query = arena_alloc(exchange_arena(x), sizeof(*query));
	struct arena *arena = exchange_arena(x);
	struct err err;

	if (!query) {
		err_set(&err, ERR_NO_MEMORY, "a list");
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	list_query_init(query);
	exchange_set_state(x, query);
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		const char *key, *value;

		exchange_query(x, i, &key, &value);
		if (list_query_add(query, arena, key, value, &err) < 0) {
			reply_error(x, &err);
			return HTTP_ANSWERED;
		}
	}
	if (list_query_finish(query, arena, &err) < 0) {
		reply_error(x, &err);
		return HTTP_ANSWERED;
	}
	return HTTP_GO_ON;
}

/* RFC 8288: the same query with another cursor. */
static void reply_next_link(struct exchange *x, const char *cursor)
{
	struct buf link;

	buf_init(&link, 256 * 1024);
	buf_puts(&link, "</files?");
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		const char *key, *value;

		exchange_query(x, i, &key, &value);
		if (!strcmp(key, "cursor"))
			continue;
		percent_encode(key, &link);
		buf_putc(&link, '=');
		percent_encode(value, &link);
		buf_putc(&link, '&');
	}
	buf_puts(&link, "cursor=");
	percent_encode(cursor, &link);
	buf_puts(&link, ">; rel=\"next\"");
	if (!link.failed)
		reply_header(x, "Link", buf_text(&link));
	buf_release(&link);
}

static void render(const struct list_query *query, const struct file_list *list, struct buf *body,
		   struct buf *cursor)
{
	struct json_writer w;

	json_writer_init(&w, body);
	json_open_object(&w);
	json_key(&w, "files");
	json_open_array(&w);
	for (size_t i = 0; i < list->n; i++)
		file_record_json(list->files[i], &w);
	json_close_array(&w);
	json_key(&w, "next_cursor");
	if (list->more && list->end) {
		const struct file_record *last = list->end; /* a page may end short of its limit */

		list_cursor_encode(query,
				   query->sort == LIST_SORT_SIZE ? last->size : last->created_ms,
				   last->name, &last->id, cursor);
		json_text(&w, buf_text(cursor));
	} else {
		json_text(&w, NULL);
	}
	json_close_object(&w);
}

static void list_finish(struct exchange *x)
{
	struct list_query *query = exchange_state(x);
	struct file_list list;
	struct buf body, cursor;
	struct err err;

	if (files_list(rest_front(x)->core, query, &list, &err) < 0) {
		reply_error(x, &err);
		return;
	}
	buf_init(&body, REST_ANSWER_MAX);
	buf_init(&cursor, 8 * 1024);
	render(query, &list, &body, &cursor);
	if (cursor.len)
		reply_next_link(x, buf_text(&cursor));
	buf_release(&cursor);
	file_list_release(&list);
	rest_reply_json(x, 200, &body);
}

const struct http_handler rest_list = {.check = list_check, .finish = list_finish};
