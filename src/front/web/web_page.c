/*
 * The page, rendered here so that it works with scripts off: the form, the list with its search, one page of it and a link to the
 * next. With scripts on, app.js takes over the same elements. The query is read on the event thread, the list on a worker.
 *
 * What fills the templates, besides {{t:...}}; the ones in three braces are HTML expanded before:
 *
 *   page.html       lang, v_icon, v_style, v_app (digests of assets), q, {{{strings}}} (the language's JSON), {{{type_options}}},
 *                   {{{sort_options}}}, state (listed, unavailable), {{{rows}}}, {{{empty}}}, {{{next}}}, {{{tag_input}}},
 *                   {{{tag_filter}}}, {{{row_template}}}
 *   row.html        id, url, name, type, bytes (exact), size (for people), created_at (RFC 3339), created, {{{thumbnail}}},
 *                   {{{tags}}}, {{{expires}}}; without any value it is the template of the rows that scripts add
 *   expires.html    expires_at, expires          tag.html         tag, tag_query (percent-encoded)
 *   thumbnail.html  url                          badge.html       badge
 *   option.html, option-selected.html            value, label
 *   next.html       query, cursor                empty.html       text
 *   tag-input.html, tag-filter.html              tag
 *   message.html    lang, v_icon, v_style, status, title, detail, request_id
 */

#include <inttypes.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "depotd/base/percent.h"
#include "depotd/core/files.h"
#include "depotd/model/media_type.h"
#include "language_private.h"
#include "template_private.h"
#include "web_private.h"

static const char POLICY[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
			     "'self' blob:; media-src 'self' blob:; "
			     "frame-src 'self' blob:; object-src 'self' blob:; connect-src 'self'; "
			     "form-action 'self'; base-uri 'none'; "
			     "frame-ancestors 'none'";

struct choice {
	const char *value, *text;
};

static const struct choice TYPES[] = {
	{"", "type_all"},
	{"image/*", "type_image"},
	{"video/*", "type_video"},
	{"audio/*", "type_audio"},
	{"text/*", "type_text"},
	{"application/pdf", "type_pdf"},
	{"application/zip", "type_archive"},
};

static const struct choice SORTS[] = {
	{"-created_at", "sort_newest"}, {"created_at", "sort_oldest"}, {"name", "sort_name"},
	{"-name", "sort_name_desc"},    {"-size", "sort_largest"},     {"size", "sort_smallest"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What every page is fenced by, pages about problems too: they show what the client sent. */
static void fence(struct exchange *x)
{
	reply_header(x, "Content-Security-Policy", POLICY);
	reply_header(x, "X-Content-Type-Options", "nosniff");
	reply_header(x, "Referrer-Policy", "same-origin");
}

void web_page_headers(struct exchange *x)
{
	fence(x);
	reply_header(x, "Content-Type", "text/html; charset=utf-8");
	reply_header(x, "Cache-Control", "no-store");
	reply_header(x, "Vary", "Accept-Language, Accept");
}

/* --- templates --- */

static void expand(const char *template, const struct template_value *values, size_t n,
		   const struct language *language, struct buf *out)
{
	const struct embedded_file *file = web_asset(template);
	struct template_scope scope = {values, n, language_text, language};

	if (file)
		template_expand(file->data, &scope, out);
	else
		out->failed = true;
}

/* The digest that an asset's address carries, so that it may be cached for ever. */
static const char *version(const char *name, char out[17])
{
	const struct embedded_file *file = web_asset(name);

	memcpy(out, file ? file->sha256 : "0000000000000000", 16);
	out[16] = '\0';
	return out;
}

static void append_option(const char *value, const char *label, bool selected,
			  const struct language *language, struct buf *out)
{
	struct template_value values[] = {{"value", value}, {"label", label}};

	expand(selected ? "option-selected.html" : "option.html", values, COUNT(values), language,
	       out);
}

/* A value that the page does not offer, from a link, is an option of its own: the form says what the list is filtered by. */
static void append_options(const struct choice *choices, size_t n, const char *chosen,
			   const struct language *language, struct buf *out)
{
	bool is_offered = false;

	for (size_t i = 0; i < n; i++) {
		bool selected = !strcmp(chosen, choices[i].value);

		is_offered = is_offered || selected;
		append_option(choices[i].value, language_text(language, choices[i].text), selected,
			      language, out);
	}
	if (!is_offered)
		append_option(chosen, chosen, true, language, out);
}

/* For people: SI's kB and MB, one decimal below ten. text.js does the same with the browser's own formats. */
static void format_size(int64_t size, char out[32])
{
	static const char *const UNITS[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double value = (double)size;
	size_t unit = 0;

	while (value >= 999.5 && unit + 1 < COUNT(UNITS)) { /* else 1000 kB */
		value /= 1000;
		unit++;
	}
	snprintf(out, 32, unit > 0 && value < 10 ? "%.1f %s" : "%.0f %s", value, UNITS[unit]);
}

/* "2026-11-22 13:00" of RFC 3339; UTC, since the server knows no better. */
static void format_day(int64_t ms, char iso[CLOCK_RFC3339_LEN + 1], char day[24])
{
	clock_format_rfc3339(ms, iso);
	memcpy(day, iso, 16);
	day[10] = ' ';
	memcpy(day + 16, " UTC", 5);
}

static void append_tags(const char *tags, const struct language *language, struct buf *out)
{
	struct err err;
	json_t *array = json_parse(tags, strlen(tags), &err), *tag;
	size_t i;

	json_array_foreach(array, i, tag)
	{
		struct buf encoded;

		buf_init(&encoded, 4096);
		percent_encode(json_string_value(tag), &encoded);
		struct template_value values[] = {{"tag", json_string_value(tag)},
						  {"tag_query", buf_text(&encoded)}};

		expand("tag.html", values, COUNT(values), language, out);
		buf_release(&encoded);
	}
	json_decref(array);
}

/* What stands where there is no thumbnail: the name's extension, at most five characters of it. */
static void badge_of(const char *name, char out[6])
{
	const char *dot = strrchr(name, '.');
	size_t n = 0;

	for (const char *c = dot && dot != name ? dot + 1 : ""; *c && n < 5; c++) {
		if ((unsigned char)*c > 126 || *c <= ' ') {
			n = 0;
			break;
		}
		out[n++] = *c;
	}
	out[n] = '\0';
}

static void append_expiry(const struct file_record *record, const struct language *language,
			  struct buf *out)
{
	char iso[CLOCK_RFC3339_LEN + 1], day[24];

	if (record->expires_ms == FILE_EXPIRES_NEVER)
		return;
	format_day(record->expires_ms, iso, day);
	struct template_value values[] = {{"expires_at", iso}, {"expires", day}};
	expand("expires.html", values, COUNT(values), language, out);
}

/* Larger pictures take longer to fetch than they help to tell apart. files.js draws the same line. */
static const int64_t THUMBNAIL_MAX = 20 << 20;

static void append_row(const struct file_record *record, const struct language *language,
		       struct buf *out)
{
	char id[UUID_TEXT_LEN + 1], url[UUID_TEXT_LEN + 8], size[32], bytes[24],
		iso[CLOCK_RFC3339_LEN + 1], day[24];
	char badge[6];
	bool is_image = record->sniffed && !strncmp(record->sniffed, "image/", 6) &&
			strcmp(record->sniffed, "image/tiff") != 0 && /* no browser shows it */
			media_type_may_inline(record->sniffed) && record->size <= THUMBNAIL_MAX;
	struct buf thumbnail, tags, expires;

	buf_init(&thumbnail, 4096);
	buf_init(&tags, WEB_PAGE_MAX);
	buf_init(&expires, 4096);
	uuid_format(&record->id, id);
	snprintf(url, sizeof(url), "/files/%s", id);
	snprintf(bytes, sizeof(bytes), "%" PRId64, record->size);
	format_size(record->size, size);
	format_day(record->created_ms, iso, day);
	badge_of(record->name, badge);
	struct template_value small[] = {{"url", url}, {"badge", badge}};
	expand(is_image ? "thumbnail.html" : "badge.html", small, COUNT(small), language,
	       &thumbnail);
	append_tags(record->tags, language, &tags);
	append_expiry(record, language, &expires);
	struct template_value values[] = {
		{"id", id},
		{"url", url},
		{"name", record->name},
		{"size", size},
		{"bytes", bytes},
		{"created_at", iso},
		{"created", day},
		{"type", record->type},
		{"thumbnail", buf_text(&thumbnail)},
		{"tags", buf_text(&tags)},
		{"expires", buf_text(&expires)},
	};
	expand("row.html", values, COUNT(values), language, out);
	buf_release(&thumbnail);
	buf_release(&tags);
	buf_release(&expires);
}

/* --- the page --- */

struct page {
	struct list_query query;
	const struct language *language;
};

/* What the page's own form and links send; anything else in the address is not ours to refuse. */
static bool is_list_parameter(const char *key)
{
	static const char *const KEYS[] = {"q",      "type",  "sort", "tag",
					   "cursor", "limit", "name", "sha256"};

	for (size_t i = 0; i < COUNT(KEYS); i++)
		if (!strcmp(key, KEYS[i]))
			return true;
	return false;
}

static int read_query(struct exchange *x, struct page *page, struct err *err)
{
	struct arena *arena = exchange_arena(x);

	list_query_init(&page->query);
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		const char *key, *value;

		exchange_query(x, i, &key, &value);
		if (is_list_parameter(key) &&
		    list_query_add(&page->query, arena, key, value, err) < 0)
			return -1;
	}
	return list_query_finish(&page->query, arena, err);
}

static enum http_verdict page_check(struct exchange *x)
{
	struct page *page = arena_alloc(exchange_arena(x), sizeof(*page));
	struct err err;

	if (!page) {
		err_set(&err, ERR_NO_MEMORY, "the page");
	} else {
		page->language = language_choose(exchange_header(x, "Accept-Language"));
		exchange_set_state(x, page);
		if (read_query(x, page, &err) == 0)
			return HTTP_GO_ON;
	}
	reply_error(x, &err);
	return HTTP_ANSWERED;
}

static void append_next(struct exchange *x, const struct page *page, const struct file_list *list,
			struct buf *out)
{
	const struct file_record *last = list->n > 0 ? list->files[list->n - 1] : NULL;
	struct buf cursor, query;

	if (!last || !list->more)
		return;
	buf_init(&cursor, 8 * 1024);
	buf_init(&query, 64 * 1024);
	list_cursor_encode(&page->query,
			   page->query.sort == LIST_SORT_SIZE ? last->size : last->created_ms,
			   last->name, &last->id, &cursor);
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		const char *key, *value;

		exchange_query(x, i, &key, &value);
		if (!is_list_parameter(key) || !strcmp(key, "cursor") || !*value)
			continue;
		buf_printf(&query, "%s=", key);
		percent_encode(value, &query);
		buf_putc(&query, '&');
	}
	buf_puts(&query, "cursor=");
	percent_encode(buf_text(&cursor), &query);
	struct template_value values[] = {{"query", buf_text(&query)},
					  {"cursor", buf_text(&cursor)}};
	expand("next.html", values, COUNT(values), page->language, out);
	buf_release(&cursor);
	buf_release(&query);
}

static const char *given(struct exchange *x, const char *key, const char *otherwise)
{
	const char *value = exchange_query_get(x, key);

	return value && *value ? value : otherwise;
}

/* list: NULL where there is none for now; uploads are taken all the same, so the page comes without it. */
static void render(struct exchange *x, const struct page *page, const struct file_list *list,
		   struct buf *out)
{
	const struct language *language = page->language;
	const char *sort = given(x, "sort", "-created_at"), *type = given(x, "type", "");
	struct template_value tag = {"tag", given(x, "tag", NULL)};
	struct buf types, sorts, rows, empty, next, blank, tag_input, tag_filter;
	char v_icon[17], v_style[17], v_app[17];
	const struct embedded_file *strings = web_asset(language->asset);
	bool filtered = *given(x, "q", "") || *type || tag.text || *given(x, "cursor", "");

	buf_init(&types, 64 * 1024);
	buf_init(&sorts, 64 * 1024);
	buf_init(&rows, WEB_PAGE_MAX);
	buf_init(&empty, 64 * 1024);
	buf_init(&next, 512 * 1024);
	buf_init(&blank, 64 * 1024);
	buf_init(&tag_input, 64 * 1024);
	buf_init(&tag_filter, 64 * 1024);
	if (tag.text) {
		expand("tag-input.html", &tag, 1, language, &tag_input);
		expand("tag-filter.html", &tag, 1, language, &tag_filter);
	}
	append_options(TYPES, COUNT(TYPES), type, language, &types);
	append_options(SORTS, COUNT(SORTS), sort, language, &sorts);
	for (size_t i = 0; list && i < list->n; i++)
		append_row(list->files[i], language, &rows);
	expand("row.html", NULL, 0, language, &blank);
	if (list)
		append_next(x, page, list, &next);
	if (!list || list->n == 0) {
		const char *key = !list ? "unavailable" : filtered ? "nothing" : "empty";
		struct template_value text = {"text", language_text(language, key)};

		expand("empty.html", &text, 1, language, &empty);
	}
	struct template_value values[] = {
		{"lang", language->tag},
		{"v_icon", version("icon.svg", v_icon)},
		{"v_style", version("style.css", v_style)},
		{"v_app", version("app.js", v_app)},
		{"strings", strings ? strings->data : NULL},
		{"q", given(x, "q", "")},
		{"type_options", buf_text(&types)},
		{"sort_options", buf_text(&sorts)},
		{"rows", buf_text(&rows)},
		{"empty", buf_text(&empty)},
		{"state", list ? "listed" : "unavailable"},
		{"next", buf_text(&next)},
		{"row_template", buf_text(&blank)},
		{"tag_input", buf_text(&tag_input)},
		{"tag_filter", buf_text(&tag_filter)},
	};
	expand("page.html", values, COUNT(values), language, out);
	out->failed = out->failed || rows.failed || next.failed;
	buf_release(&types);
	buf_release(&sorts);
	buf_release(&rows);
	buf_release(&empty);
	buf_release(&next);
	buf_release(&blank);
	buf_release(&tag_input);
	buf_release(&tag_filter);
}

static void page_finish(struct exchange *x)
{
	struct front *front = exchange_context(x);
	struct page *page = exchange_state(x);
	struct file_list list;
	struct buf html;
	struct err err;
	bool is_listed = files_list(front->core, &page->query, &list, &err) == 0;

	if (!is_listed && (err_http_status(err.kind) != 503 || !exchange_wants_html(x))) {
		reply_error(x, &err);
		return;
	}
	buf_init(&html, WEB_PAGE_MAX);
	render(x, page, is_listed ? &list : NULL, &html);
	if (is_listed)
		file_list_release(&list);
	reply_status(x, is_listed ? 200 : 503);
	web_page_headers(x);
	reply_header(x, "Content-Language", page->language->tag);
	reply_buf(x, &html);
}

const struct http_handler web_page = {.check = page_check, .finish = page_finish};

void web_problem_page(struct exchange *x, int status, const char *title, const char *detail,
		      struct buf *out)
{
	const struct language *language = language_choose(exchange_header(x, "Accept-Language"));
	char v_icon[17], v_style[17], number[16];

	fence(x);
	reply_header(x, "Content-Language", language->tag);
	snprintf(number, sizeof(number), "%d", status);
	struct template_value values[] = {
		{"lang", language->tag},
		{"v_icon", version("icon.svg", v_icon)},
		{"v_style", version("style.css", v_style)},
		{"status", number},
		{"title", title},
		{"detail", detail},
		{"request_id", exchange_request_id(x)},
	};
	expand("message.html", values, COUNT(values), language, out);
}
