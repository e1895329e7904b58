/* Routes by walking a short table; literal segments win over {x}, and both over {x...}. Any thread. */
#include "router_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target_private.h"

enum { SEGMENTS_MAX = 8 };

static const char *const methods[] = {"GET",   "HEAD",   "POST",    "PUT",
				      "PATCH", "DELETE", "OPTIONS", "TRACE"};
enum { METHOD_GET, METHOD_HEAD, METHOD_COUNT = sizeof(methods) / sizeof(methods[0]) };

struct segment {
	const char *text;
	size_t len;
	bool parameter;
};

struct compiled {
	const struct http_route *route;
	unsigned method;
	unsigned count;
	struct segment segments[SEGMENTS_MAX];
	size_t rest; /* of a pattern that ends in {x...}: what precedes that has so many bytes; else 0 */
};

struct router {
	size_t count;
	struct compiled routes[];
};

unsigned router_method_index(const char *method)
{
	unsigned i = 0;
	while (i < METHOD_COUNT && strcmp(methods[i], method) != 0)
		i++;
	return i;
}

const char *router_method_name(unsigned index)
{
	return index < METHOD_COUNT ? methods[index] : "other";
}

unsigned router_method_count(void)
{
	return METHOD_COUNT;
}

/* Splits "/a/b" into its segments: "/" has one empty segment. -1 for too many. */
static int split(const char *path, struct segment *segments, unsigned *count)
{
	*count = 0;
	while (*path == '/') {
		if (*count == SEGMENTS_MAX)
			return -1;
		size_t len = strcspn(path + 1, "/");
		segments[(*count)++] = (struct segment){.text = path + 1, .len = len};
		path += 1 + len;
	}
	return *path == '\0' ? 0 : -1;
}

static int compile(const struct http_route *route, struct compiled *out, struct err *err)
{
	out->route = route;
	out->method = router_method_index(route->method);
	if (out->method == METHOD_COUNT || split(route->pattern, out->segments, &out->count) != 0)
		return err_set(err, ERR_INTERNAL, "route %s %s is malformed", route->method,
			       route->pattern);
	for (unsigned i = 0; i < out->count; i++) {
		struct segment *s = &out->segments[i];
		s->parameter = s->len > 2 && s->text[0] == '{' && s->text[s->len - 1] == '}';
	}
	const struct segment *last = &out->segments[out->count - 1];
	if (last->parameter && last->len > 5 && memcmp(last->text + last->len - 4, "...}", 4) == 0)
		out->rest = (size_t)(last->text - route->pattern);
	return 0;
}

int router_new(const struct http_route *routes, struct router **out, struct err *err)
{
	size_t n = 0;
	while (routes[n].method != NULL)
		n++;
	struct router *router = calloc(1, sizeof(*router) + n * sizeof(router->routes[0]));
	if (router == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for %zu routes", n);
	for (; router->count < n; router->count++) {
		if (compile(&routes[router->count], &router->routes[router->count], err) != 0) {
			free(router);
			return -1;
		}
	}
	*out = router;
	return 0;
}

void router_free(struct router **router)
{
	free(*router);
	*router = NULL;
}

/* -1: no match; else how many of its segments are literal. */
static int score(const struct compiled *c, const struct segment *path, unsigned count)
{
	int literal = 0;
	if (c->rest > 0 || c->count != count)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		const struct segment *s = &c->segments[i];
		if (s->parameter) {
			if (path[i].len == 0)
				return -1;
		} else if (s->len != path[i].len || memcmp(s->text, path[i].text, s->len) != 0) {
			return -1;
		} else {
			literal++;
		}
	}
	return literal;
}

static int take_param(const struct compiled *c, const struct segment *segment, struct arena *arena,
		      struct router_match *out, struct err *err)
{
	size_t len;
	char *value = arena_alloc(arena, segment->len + 1);
	if (value == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the path");
	/* PUT gives a name, which is wrong; for all else, nothing has such a name. */
	if (!target_decode(segment->text, segment->len, false, value, &len))
		return err_set(err,
			       strcmp(c->route->method, "PUT") == 0 ? ERR_INVALID : ERR_NOT_FOUND,
			       "the path is not percent-encoded UTF-8");
	out->params[out->param_count++] = value;
	return 0;
}

static int take_params(const struct compiled *c, const struct segment *path, struct arena *arena,
		       struct router_match *out, struct err *err)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->segments[i].parameter && take_param(c, &path[i], arena, out, err) != 0)
			return -1;
	return 0;
}

/* A path or a method that no other row knows: all of it behind the row's literal beginning is one parameter. */
static int match_rest(const struct router *router, unsigned method, const char *path,
		      struct arena *arena, struct router_match *out, struct err *err)
{
	for (size_t i = 0; i < router->count; i++) {
		const struct compiled *c = &router->routes[i];
		if (c->rest == 0 || c->method != method ||
		    strncmp(path, c->route->pattern, c->rest) != 0)
			continue;
		const char *rest = path + c->rest;
		if (take_param(c, &(struct segment){.text = rest, .len = strlen(rest)}, arena, out,
			       err) != 0)
			return -1;
		out->handler = c->route->handler;
		return 1;
	}
	return 0;
}

static void render_allow(unsigned set, char out[ROUTER_ALLOW_MAX])
{
	size_t at = 0;
	set |= 1U << router_method_index("OPTIONS");
	out[0] = '\0';
	for (unsigned i = 0; i < METHOD_COUNT; i++) {
		if ((set & 1U << i) == 0)
			continue;
		int n = snprintf(out + at, ROUTER_ALLOW_MAX - at, "%s%s", at > 0 ? ", " : "",
				 methods[i]);
		at += (size_t)n;
	}
}

/* Segments decoded where that matters: /%66iles is /files (RFC 3986 §6.2.2.2). An encoded slash stays encoded. */
static int split_path(const char *path, struct arena *arena, struct segment *segments,
		      unsigned *count)
{
	if (split(path, segments, count) != 0)
		return -1;
	for (unsigned i = 0; i < *count; i++) {
		struct segment *s = &segments[i];
		if (memchr(s->text, '%', s->len) == NULL)
			continue;
		char *plain = arena_alloc(arena, s->len + 1);
		size_t len;
		if (plain == NULL || !target_decode(s->text, s->len, false, plain, &len))
			continue; /* a parameter reports it; a literal does not match */
		if (memchr(plain, '/', len) == NULL && memchr(plain, '%', len) == NULL)
			*s = (struct segment){.text = plain, .len = len};
	}
	return 0;
}

int router_match(const struct router *router, const char *method, const char *path,
		 struct arena *arena, struct router_match *out, struct err *err)
{
	struct segment segments[SEGMENTS_MAX];
	unsigned count, wanted = router_method_index(method), set = 0;
	const struct compiled *best = NULL;
	int best_score = -1;
	out->handler = NULL;
	out->param_count = 0;
	if (wanted == METHOD_COUNT)
		return err_set(err, ERR_NOT_IMPLEMENTED, "the method %.32s is not known here",
			       method);
	if (split_path(path, arena, segments, &count) != 0)
		return match_rest(router, wanted, path, arena, out, err);
	for (size_t i = 0; i < router->count; i++) {
		const struct compiled *c = &router->routes[i];
		int s = score(c, segments, count);
		if (s < 0)
			continue;
		set |= 1U << c->method;
		if (c->method == METHOD_GET)
			set |= 1U << METHOD_HEAD;
		bool serves =
			c->method == wanted || (wanted == METHOD_HEAD && c->method == METHOD_GET);
		/* A HEAD row of its own goes before GET's. */
		if (serves && (s > best_score || (s == best_score && c->method == wanted))) {
			best = c;
			best_score = s;
		}
	}
	int rest = best == NULL ? match_rest(router, wanted, path, arena, out, err) : 0;
	if (rest != 0 || set == 0)
		return rest;
	if (best == NULL) {
		render_allow(set, out->allow);
		return err_set(err, ERR_METHOD, "%s is not served here", method);
	}
	if (take_params(best, segments, arena, out, err) != 0)
		return -1;
	out->handler = best->route->handler;
	return 1;
}
