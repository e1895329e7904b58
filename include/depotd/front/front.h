/*
 * What every door is given: exchange_context() of each exchange is one struct front. A door is a folder under src/front and one
 * function here that returns its routes; app puts the tables together. Doors never include each other.
 */
#ifndef DEPOTD_FRONT_FRONT_H
#define DEPOTD_FRONT_FRONT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "depotd/base/metrics.h"
#include "depotd/core/core.h"
#include "depotd/http/server.h"

struct front {
	struct core *core;
	struct metrics *metrics;
	int64_t max_upload;   /* bytes of one request body; -1 no limit */
	atomic_bool stopping; /* set by app when it begins to drain: readiness goes down */
};

/* Tables that end with a row of NULLs. */
const struct http_route *rest_routes(void); /* the JSON API: /files, /healthz, /metrics … */
const struct http_route *web_routes(void);  /* the page and its assets */

/* http_config.problem_page: a problem as a page for people, in their language. Event thread or worker, never blocks. */
void web_problem_page(struct exchange *x, int status, const char *title, const char *detail,
		      struct buf *page);

#endif
