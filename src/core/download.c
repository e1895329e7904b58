/* One file being read, from the cache or from the store. A download belongs to one owner at a time. */

#include "depotd/core/download.h"

#include <stdlib.h>
#include <string.h>

#include "upkeep_private.h"

struct download {
	struct file_record *record;
	struct cached_body *body;   /* the bytes in memory, or */
	struct blob_reader *reader; /* the bytes in the store, or neither: headers only */
};

/* Takes over the references; NULL (and they are dropped) out of memory. */
static struct download *download_new(struct file_record *record, struct cached_body *body,
				     struct blob_reader *reader)
{
	struct download *d = malloc(sizeof(*d));

	if (d) {
		*d = (struct download){record, body, reader};
		return d;
	}
	file_record_unref(&record);
	if (body)
		cached_body_unref(&body);
	blob_reader_free(&reader);
	return NULL;
}

int download_cached(struct core *core, const struct uuid *id, struct download **out)
{
	struct file_record *record;
	struct cached_body *body;
	struct download *d;

	/* Headers of bytes that are known to be wrong are not sent, either: download_open() says why. */
	if (damage_known(core, id) || files_cached(core, id, &record, &body) != 1)
		return 0;
	d = download_new(record, body, NULL);
	if (!d)
		return 0;
	*out = d;
	return 1;
}

int download_open(struct core *core, const struct uuid *id, struct download **out, struct err *err)
{
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	struct download *d;
	int found = files_open(core, id, &record, &body, &reader, err);

	if (found != 1)
		return found;
	d = download_new(record, body, reader);
	if (!d)
		return err_set(err, ERR_NO_MEMORY, "a download");
	*out = d;
	return 1;
}

void download_free(struct download **download)
{
	struct download *d = *download;

	if (!d)
		return;
	*download = NULL;
	file_record_unref(&d->record);
	if (d->body)
		cached_body_unref(&d->body);
	blob_reader_free(&d->reader);
	free(d);
}

const struct file_record *download_record(const struct download *download)
{
	return download->record;
}

const void *download_data(const struct download *download)
{
	size_t n;

	return download->body ? cached_body_data(download->body, &n) : NULL;
}

int download_descriptor(const struct download *download)
{
	return download->reader ? blob_descriptor(download->reader) : -1;
}

int download_read(struct download *download, int64_t offset, void *data, size_t n, size_t *got,
		  struct err *err)
{
	const char *bytes = download_data(download);
	int64_t left = download->record->size - offset;

	if (!bytes)
		return blob_read(download->reader, offset, data, n, got, err);
	*got = left <= 0 ? 0 : left < (int64_t)n ? (size_t)left : n;
	memcpy(data, bytes + offset, *got);
	return 0;
}

void download_will_read(struct download *download, int64_t offset, int64_t n)
{
	if (download->reader)
		blob_will_read(download->reader, offset, n);
}
