/* What the files of the web front share. */
#ifndef WEB_PRIVATE_H
#define WEB_PRIVATE_H

#include "depotd/base/embedded.h"
#include "depotd/front/front.h"
#include "depotd/http/exchange.h"

enum { WEB_PAGE_MAX = 16 << 20 };

/* An embedded asset by name ("page.html"), NULL where there is none. */
const struct embedded_file *web_asset(const char *name);
/* The header fields of every page: HTML, the policy, no caching, no sniffing. */
void web_page_headers(struct exchange *x);

extern const struct http_handler web_page;
extern const struct http_handler web_assets;
extern const struct http_handler web_favicon;

#endif
