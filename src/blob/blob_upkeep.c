/* The face of blob/upkeep.h: asserts what must hold round each slot. Worker threads and the command line. */
#include <assert.h>

#include "depotd/blob/driver.h"
#include "depotd/blob/upkeep.h"

int blob_open_raw(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		  struct err *err)
{
	struct blob_reader *reader = NULL;
	int rc = store->driver->open_raw(store, id, &reader, err);
	assert((rc == 1) == (reader != NULL));
	if (rc == 1) {
		assert(reader->store == store && reader->size >= 0);
		*out = reader;
	}
	return rc;
}

int blob_set_aside(struct blob_store *store, const struct uuid *id, struct err *err)
{
	assert(!uuid_is_nil(id));
	return store->driver->set_aside(store, id, err);
}

int blob_mark(struct blob_store *store, struct buf *out, struct err *err)
{
	buf_reset(out);
	int rc = store->driver->mark(store, out, err);
	if (rc == 1 && out->failed)
		return err_set(err, ERR_IO, "the mark of the blob store is too long");
	return rc;
}

int blob_set_mark(struct blob_store *store, const char *text, size_t n, struct err *err)
{
	assert(n > 0 && n <= BLOB_MARK_MAX);
	return store->driver->set_mark(store, text, n, err);
}

int blob_served(struct blob_store *store, struct err *err)
{
	return store->driver->served(store, err);
}
