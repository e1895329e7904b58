/* Conditional requests: RFC 9110 §13, with the precedence of §13.2.2. Pure. Malformed ones are ignored where the RFC says so. */
#ifndef DEPOTD_MODEL_CONDITIONAL_H
#define DEPOTD_MODEL_CONDITIONAL_H

#include <stdbool.h>
#include <stdint.h>

struct conditional_headers {
	/* Field values (several lines of one field joined with ", "), NULL where absent. */
	const char *if_match, *if_none_match, *if_modified_since, *if_unmodified_since, *if_range;
};

enum conditional_verdict {
	CONDITIONAL_PROCEED,      /* perform the method */
	CONDITIONAL_NOT_MODIFIED, /* 304 (GET and HEAD only) */
	CONDITIONAL_FAILED,       /* 412 */
};

/* etag: the strong ETag with its quotes. modified_s: Last-Modified in Unix seconds, -1 where there is none. */
enum conditional_verdict conditional_evaluate(const struct conditional_headers *headers,
					      bool get_or_head, const char *etag,
					      int64_t modified_s);
/* Whether a Range stands: true without If-Range, or when it matches (strong comparison; dates exactly, §13.1.5). */
bool conditional_range_stands(const char *if_range, const char *etag, int64_t modified_s);

#endif
