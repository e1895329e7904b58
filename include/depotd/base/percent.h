/* Percent-encoding: RFC 3986 §2.1. Thread: any. */
#ifndef DEPOTD_BASE_PERCENT_H
#define DEPOTD_BASE_PERCENT_H

#include "depotd/base/buf.h"

/* Appends text as one component of a path or query: everything but the unreserved characters (§2.3) is encoded. */
void percent_encode(const char *text, struct buf *out);

#endif
