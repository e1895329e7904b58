/* Several ranges in one answer: multipart/byteranges (RFC 9110 §14.6), streamed. */
#ifndef REST_BYTERANGES_PRIVATE_H
#define REST_BYTERANGES_PRIVATE_H

#include "depotd/core/download.h"
#include "depotd/http/exchange.h"
#include "depotd/model/range.h"

/*
 * Answers with n ranges of the download, which it takes over; sets Content-Type (of the multipart) when n > 1; n == 1 streams the
 * bare bytes. Worker, or event thread with the bytes in memory.
 */
void rest_reply_byteranges(struct exchange *x, struct download *download,
			   const struct byte_range *ranges, size_t n);

#endif
