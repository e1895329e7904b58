/*
 * The web front: the page, and the assets that it consists of, all embedded in the binary. Assets are answered on event threads.
 */

#include <string.h>

#include "web_private.h"

static const struct http_route ROUTES[] = {
	{"GET", "/", &web_page},
	{"GET", "/assets/{name}", &web_assets},
	{"GET", "/favicon.ico", &web_favicon},
	{NULL, NULL, NULL},
};

const struct http_route *web_routes(void)
{
	return ROUTES;
}

const struct embedded_file *web_asset(const char *name)
{
	for (const struct embedded_file *file = embedded_assets; file->path; file++)
		if (!strcmp(file->path, name))
			return file;
	return NULL;
}

/* Only what a browser asks for by itself: templates and strings are the server's own. */
static const char *type_of(const char *name)
{
	static const struct {
		const char *ending, *type;
	} TYPES[] = {
		{".js", "text/javascript; charset=utf-8"},
		{".css", "text/css; charset=utf-8"},
		{".svg", "image/svg+xml"},
	};
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(TYPES) / sizeof(TYPES[0]); i++) {
		size_t ending = strlen(TYPES[i].ending);

		if (n > ending && !strcmp(name + n - ending, TYPES[i].ending))
			return TYPES[i].type;
	}
	return NULL;
}

static void reply_asset(struct exchange *x, const char *name)
{
	const struct embedded_file *file = web_asset(name);
	const char *type = file ? type_of(name) : NULL;
	struct conditional_headers conditionals;
	char etag[40];
	struct err err;

	if (!type) {
		err_set(&err, ERR_NOT_FOUND, "there is no such asset");
		reply_error(x, &err);
		return;
	}
	etag[0] = '"';
	memcpy(etag + 1, file->sha256, 32);
	memcpy(etag + 33, "\"", 2);
	exchange_conditionals(x, &conditionals);
	reply_header(x, "ETag", etag);
	/* The page names assets with their digest (?v=…): such an address never changes its content. */
	reply_header(x, "Cache-Control",
		     exchange_query_get(x, "v") ? "public, max-age=31536000, immutable"
						: "no-cache");
	reply_header(x, "X-Content-Type-Options", "nosniff");
	if (conditional_evaluate(&conditionals, true, etag, -1) == CONDITIONAL_NOT_MODIFIED) {
		reply_status(x, 304);
		reply_empty_of_length(x, (int64_t)file->len); /* RFC 9110 §8.6 */
		return;
	}
	reply_status(x, 200);
	reply_header(x, "Content-Type", type);
	reply_memory(x, file->data, file->len, NULL, NULL);
}

static enum http_verdict assets_check(struct exchange *x)
{
	reply_asset(x, exchange_param(x, 0));
	return HTTP_ANSWERED;
}

static enum http_verdict favicon_check(struct exchange *x)
{
	reply_asset(x, "icon.svg");
	return HTTP_ANSWERED;
}

const struct http_handler web_assets = {.check = assets_check};
const struct http_handler web_favicon = {.check = favicon_check};
