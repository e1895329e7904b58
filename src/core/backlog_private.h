/*
 * The backlog of a fast upload: stretches of its bytes that it was lent, and that are still to be hashed and perhaps written.
 * A second worker works it off, in order, while the upload's owner receives what follows. Owner's thread, one at a time.
 */
#ifndef DEPOTD_CORE_BACKLOG_PRIVATE_H
#define DEPOTD_CORE_BACKLOG_PRIVATE_H

#include <stdbool.h>

#include "depotd/base/digest.h"
#include "depotd/blob/store.h"
#include "depotd/core/upload.h"
#include "depotd/work/pool.h"

struct backlog;

/* digest and writer are its own until backlog_clear() of all: the owner only claims and fills. NULL out of memory. */
struct backlog *backlog_new(struct pool *workers, struct digest *digest,
			    struct blob_writer *writer);
/*
 * To hash and write the n > 0 bytes behind those before: data is read until backlog_clear(), unless there are at most
 * UPLOAD_COPIED. -1 once anything failed.
 */
int backlog_add(struct backlog *backlog, const void *data, size_t n, struct err *err);
/* For an owner that has nothing to add: does a piece of what is left. 1; 0: there is none for it; -1 once anything failed. */
int backlog_help(struct backlog *backlog, struct err *err);
/* Waits, or works, until nothing of data[0..n) is left, or with NULL nothing at all. -1 once anything failed. */
int backlog_clear(struct backlog *backlog, const void *data, size_t n, struct err *err);
/* Nothing is left. */
bool backlog_is_clear(struct backlog *backlog);
/*
 * Drops what nobody works on yet. Nothing that it was lent is read afterwards. -1: something had failed, and the owner has not been
 * told before. Takes NULL inside.
 */
int backlog_free(struct backlog **backlog, struct err *err);

#endif
