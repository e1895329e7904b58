/*
 * Which handler serves a method and a path. Built once from the table of routes; read by any thread.
 * A path is matched segment by segment as it was sent, so that an encoded slash stays inside its segment.
 */
#ifndef DEPOTD_HTTP_ROUTER_PRIVATE_H
#define DEPOTD_HTTP_ROUTER_PRIVATE_H

#include "depotd/base/arena.h"
#include "depotd/base/err.h"
#include "depotd/http/server.h"

enum { ROUTER_PARAMS_MAX = 8, ROUTER_ALLOW_MAX = 80 };

struct router;

struct router_match {
	const struct http_handler *handler;    /* NULL: only `allow` counts */
	const char *params[ROUTER_PARAMS_MAX]; /* decoded; in the arena */
	unsigned param_count;
	char allow[ROUTER_ALLOW_MAX]; /* with ERR_METHOD: the methods of this path */
};

/* -1 for a pattern that is malformed or a method that HTTP does not know: a defect in the table. */
int router_new(const struct http_route *routes, struct router **out, struct err *err);
void router_free(struct router **router);
/*
 * 1: matched. 0: no such path. -1: ERR_METHOD (out->allow is set; OPTIONS too, where no row serves it), ERR_NOT_IMPLEMENTED for
 * a method that HTTP does not know, ERR_INVALID for a path that does not decode, ERR_NO_MEMORY.
 */
int router_match(const struct router *router, const char *method, const char *path,
		 struct arena *arena, struct router_match *out, struct err *err);
/* A method's place in the fixed list GET HEAD POST PUT PATCH DELETE OPTIONS TRACE, or that list's length. */
unsigned router_method_index(const char *method);
const char *router_method_name(unsigned index); /* "other" past the list */
unsigned router_method_count(void);

#endif
