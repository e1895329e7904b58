/* Several ranges in one answer: multipart/byteranges (RFC 9110 §14.6), streamed. */
#ifndef REST_BYTERANGES_PRIVATE_H
#define REST_BYTERANGES_PRIVATE_H

#include "depotd/blob/store.h"
#include "depotd/core/files.h"
#include "depotd/http/exchange.h"
#include "depotd/model/range.h"

/*
 * Answers with n ranges, from body where it is there, else from reader; sets Content-Type (of the multipart when n > 1; n == 1
 * streams the bare bytes). release(context) frees what the answer reads from. Worker, or event thread with a body in memory.
 */
void rest_reply_byteranges(struct exchange *x, const struct file_record *record, struct blob_reader *reader,
			   struct cached_body *body, const struct byte_range *ranges, size_t n,
			   void (*release)(void *context), void *context);

#endif
