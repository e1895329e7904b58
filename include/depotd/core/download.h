/*
 * One file being read: its record, and its bytes from memory or from the store. What the doors see of a stored file.
 * One owner at a time.
 */
#ifndef DEPOTD_CORE_DOWNLOAD_H
#define DEPOTD_CORE_DOWNLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "depotd/core/core.h"
#include "depotd/model/file_record.h"

struct download;

/*
 * Event thread, memory only: 1 the record is known (the bytes too where download_data() is not NULL), 0 ask download_open() on a
 * worker. A download without bytes answers headers only.
 */
int download_cached(struct core *core, const struct uuid *id, struct download **out);
/* Worker: 1 open, 0 absent or expired, -1. */
int download_open(struct core *core, const struct uuid *id, struct download **out, struct err *err);
/* takes NULL inside; worker, or event thread when it is in memory */
void download_free(struct download **download);

const struct file_record *download_record(const struct download *download);
/* All of the bytes (record->size of them) where they are in memory, else NULL. */
const void *download_data(const struct download *download);
/* A descriptor to sendfile from (still the download's), or -1. */
int download_descriptor(const struct download *download);
/* Up to n bytes at offset; *got 0 only at the end. Worker, or event thread when it is in memory. */
int download_read(struct download *download, int64_t offset, void *data, size_t n, size_t *got,
		  struct err *err);
/* [offset, offset + n) is about to be read. */
void download_will_read(struct download *download, int64_t offset, int64_t n);

#endif
