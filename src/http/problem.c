/* The one place where an error becomes an answer: RFC 9457, or the page that a browser gets. Owner's thread. */
#include <string.h>

#include "depotd/base/json.h"
#include "depotd/base/log.h"
#include "exchange_private.h"

enum { PROBLEM_MAX = 64 * 1024 };

static void render_json(struct exchange *x, int status, const char *title, const char *detail,
			struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_open_object(&w);
	json_key(&w, "type");
	json_text(&w, "about:blank");
	json_key(&w, "title");
	json_text(&w, title);
	json_key(&w, "status");
	json_int(&w, status);
	json_key(&w, "detail");
	json_text(&w, detail);
	json_key(&w, "request_id");
	json_text(&w, x->request_id);
	json_close_object(&w);
}

/* Fields that describe a body that is not sent now; Allow, Retry-After, WWW-Authenticate and their like stay. */
static bool describes_body(const char *name)
{
	static const char *const names[] = {"ETag",
					    "Last-Modified",
					    "Accept-Ranges",
					    "Cache-Control",
					    "Repr-Digest",
					    "Content-Digest",
					    "Content-Type",
					    "Content-Range",
					    "Content-Disposition",
					    "Content-Language",
					    "Content-Encoding",
					    "Content-Security-Policy",
					    "Location"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcasecmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* 416 keeps its Content-Range: it says how long the file is. */
static void keep_fields(struct reply *r, int status)
{
	struct reply_field **at = &r->first;
	while (*at != NULL) {
		bool keep = !describes_body((*at)->name) ||
			    (status == 416 && strcasecmp((*at)->name, "Content-Range") == 0);
		if (keep)
			at = &(*at)->next;
		else
			*at = (*at)->next;
	}
	r->last = at;
}

/* What went wrong inside is for the log; the client learns what it can do. 5xx that say so themselves are no secret. */
static const char *detail_for_client(const struct err *err, int status)
{
	if (err->kind == ERR_UNAVAILABLE)
		return "a part of the server that this request needs does not answer; try again "
		       "later";
	if (err->kind == ERR_UNKNOWN_OUTCOME)
		return "whether the change was made is not known yet; look before trying again";
	if (err->kind == ERR_DAMAGED)
		return "the stored bytes are damaged; they are not served";
	return status == 500 ? "the server failed; its log says more under this request's id"
			     : err->message;
}

void reply_error(struct exchange *x, const struct err *err)
{
	int status = err_http_status(err->kind);
	const char *title = err_title(err->kind);
	const char *detail = detail_for_client(err, status);
	struct buf body;
	if (status >= 500 && err->kind != ERR_NOT_IMPLEMENTED && err->kind != ERR_VERSION)
		log_event(status == 500 ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, x->request_id,
			  "%s %s: %s", x->head.method, x->head.target, err->message);
	keep_fields(&x->reply, status);
	reply_status(x, status);
	buf_init(&body, PROBLEM_MAX);
	if (x->server->config.problem_page != NULL && exchange_wants_html(x)) {
		x->server->config.problem_page(x, status, title, detail, &body);
		reply_header(x, "Content-Type", "text/html; charset=utf-8");
	} else {
		render_json(x, status, title, detail, &body);
		reply_header(x, "Content-Type", "application/problem+json");
	}
	reply_header(x, "Cache-Control", "no-store");
	reply_header(x, "Vary", "Accept");
	reply_buf(x, &body);
	buf_release(&body);
}
