/*
 * The face of every blob driver: asserts what must hold before and after each slot, and keeps the writer's state.
 *
 * Invariant: a writer whose step failed is BLOB_WRITER_FAILED and never reaches the driver again but to be discarded, so no
 * failed sync can be asked twice. Threads: as blob/store.h says; nothing is shared here.
 */
#include <assert.h>
#include <limits.h>

#include "depotd/blob/driver.h"

void blob_close(struct blob_store **store)
{
	if (!*store)
		return;
	(*store)->driver->close(*store);
	*store = NULL;
}

int blob_reserve(struct blob_store *store, int64_t n, struct blob_reservation *out, struct err *err)
{
	assert(n >= 0);
	struct blob_reservation reservation = {0};
	if (store->driver->reserve(store, n, &reservation, err) < 0)
		return -1;
	assert(reservation.left >= n);
	*out = reservation;
	return 0;
}

void blob_unreserve(struct blob_store *store, struct blob_reservation *reservation)
{
	if (reservation->left != 0)
		store->driver->unreserve(store, reservation);
	assert(reservation->left == 0);
}

int blob_create(struct blob_store *store, const struct uuid *id, int64_t size_hint,
		struct blob_reservation *room, struct blob_writer **out, struct err *err)
{
	assert(size_hint >= -1 && !uuid_is_nil(id));
	struct blob_writer *writer = NULL;
	if (store->driver->create(store, id, size_hint, room, &writer, err) < 0)
		return -1;
	assert(writer && writer->store == store);
	writer->state = BLOB_WRITER_OPEN;
	atomic_init(&writer->incomplete, false);
	writer->written = 0;
	*out = writer;
	return 0;
}

int blob_claim(struct blob_writer *writer, size_t n, int64_t *offset, struct err *err)
{
	assert(writer->state == BLOB_WRITER_OPEN && n > 0);
	if (writer->store->driver->claim(writer, n, err) < 0) {
		writer->state = BLOB_WRITER_FAILED;
		return -1;
	}
	*offset = writer->written;
	writer->written += (int64_t)n;
	return 0;
}

int blob_fill(struct blob_writer *writer, int64_t offset, const void *data, size_t n,
	      struct err *err)
{
	if (writer->store->driver->fill(writer, offset, data, n, err) == 0)
		return 0;
	atomic_store(&writer->incomplete, true);
	return -1;
}

int blob_write(struct blob_writer *writer, const void *data, size_t n, struct err *err)
{
	int64_t offset;
	if (n == 0)
		return 0;
	if (blob_claim(writer, n, &offset, err) < 0)
		return -1;
	if (blob_fill(writer, offset, data, n, err) == 0)
		return 0;
	writer->state = BLOB_WRITER_FAILED;
	return -1;
}

int blob_first(struct blob_writer *writer, void *data, size_t n, struct err *err)
{
	assert(writer->state == BLOB_WRITER_OPEN && !atomic_load(&writer->incomplete));
	assert((int64_t)n <= writer->written);
	if (n == 0 || writer->store->driver->first(writer, data, n, err) == 0)
		return 0;
	writer->state = BLOB_WRITER_FAILED;
	return -1;
}

int blob_seal(struct blob_writer *writer, const char *description, size_t n, struct err *err)
{
	assert(writer->state == BLOB_WRITER_OPEN);
	assert(n > 0 && n <= BLOB_DESCRIPTION_MAX);
	if (atomic_load(&writer->incomplete)) {
		writer->state = BLOB_WRITER_FAILED;
		return err_set(err, ERR_IO, "some of its bytes could not be written");
	}
	if (writer->store->driver->seal(writer, description, n, err) < 0) {
		writer->state = BLOB_WRITER_FAILED;
		return -1;
	}
	writer->state = BLOB_WRITER_SEALED;
	return 0;
}

size_t blob_publish(struct blob_store *store, struct blob_publication *publications, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		err_clear(&publications[i].err);
		publications[i].result = 0;
		for (size_t k = 0; k < publications[i].n; k++) {
			assert(publications[i].writers[k]->store == store);
			assert(publications[i].writers[k]->state == BLOB_WRITER_SEALED);
		}
	}
	store->driver->publish(store, publications, n);
	size_t failed = 0;
	for (size_t i = 0; i < n; i++) {
		failed += publications[i].result != 0;
		for (size_t k = 0; k < publications[i].n; k++) {
			assert(!publications[i].writers[k] == !publications[i].result);
			if (publications[i].writers[k])
				publications[i].writers[k]->state = BLOB_WRITER_FAILED;
		}
	}
	return failed;
}

void blob_discard(struct blob_writer **writer)
{
	if (!*writer)
		return;
	(*writer)->store->driver->discard(*writer);
	*writer = NULL;
}

int blob_place(struct blob_store *store, const struct uuid *id, struct blob_reservation *room,
	       const void *data, size_t n, const char *description, size_t description_n,
	       struct err *err)
{
	assert(!uuid_is_nil(id) && description_n > 0 && description_n <= BLOB_DESCRIPTION_MAX);
	return store->driver->place(store, id, room, data, n, description, description_n, err);
}

int blob_sync(struct blob_store *store, struct err *err)
{
	return store->driver->sync(store, err);
}

int blob_restore(struct blob_store *store, const struct uuid *id, const void *data, size_t n,
		 const char *description, size_t description_n, struct err *err)
{
	assert(!uuid_is_nil(id) && description_n > 0 && description_n <= BLOB_DESCRIPTION_MAX);
	return store->driver->restore(store, id, data, n, description, description_n, err);
}

int blob_open(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
	      struct err *err)
{
	struct blob_reader *reader = NULL;
	int rc = store->driver->open(store, id, &reader, err);
	assert((rc == 1) == (reader != NULL));
	if (rc == 1) {
		assert(reader->store == store && reader->size >= 0);
		*out = reader;
	}
	return rc;
}

int64_t blob_size(const struct blob_reader *reader)
{
	return reader->size;
}

int blob_read(struct blob_reader *reader, int64_t offset, void *data, size_t n, size_t *got,
	      struct err *err)
{
	assert(offset >= 0);
	if (n > SSIZE_MAX)
		n = SSIZE_MAX;
	size_t now = 0;
	if (n > 0 && reader->store->driver->read(reader, offset, data, n, &now, err) < 0)
		return -1;
	assert(now <= n);
	*got = now;
	return 0;
}

int blob_descriptor(const struct blob_reader *reader)
{
	return reader->store->driver->descriptor(reader);
}

void blob_will_read(struct blob_reader *reader, int64_t offset, int64_t n)
{
	if (reader->store->driver->will_read && n > 0)
		reader->store->driver->will_read(reader, offset, n);
}

void blob_reader_free(struct blob_reader **reader)
{
	if (!*reader)
		return;
	(*reader)->store->driver->reader_free(*reader);
	*reader = NULL;
}

int blob_description(struct blob_store *store, const struct uuid *id, struct buf *out,
		     struct err *err)
{
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	int rc = store->driver->description(store, id, &text, err);
	if (rc == 1) {
		buf_reset(out);
		buf_append(out, text.data, text.len);
		if (text.failed || out->failed)
			rc = err_set(err, ERR_NO_MEMORY, "the description of a stored file");
	}
	buf_release(&text);
	return rc;
}

int blob_describe(struct blob_store *store, const struct uuid *id, const char *description,
		  size_t n, struct err *err)
{
	assert(n > 0 && n <= BLOB_DESCRIPTION_MAX);
	return store->driver->describe(store, id, description, n, err);
}

int blob_remove(struct blob_store *store, const struct uuid *id, struct err *err)
{
	return store->driver->remove(store, id, err);
}

int blob_walk(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err)
{
	return store->driver->walk(store, visit, context, err);
}

long blob_clean(struct blob_store *store, int64_t grace_ms, struct err *err)
{
	assert(grace_ms >= 0);
	return store->driver->clean(store, grace_ms, err);
}

int blob_space(struct blob_store *store, struct blob_space *out, struct err *err)
{
	struct blob_space space = {0, 0};
	if (store->driver->space(store, &space, err) < 0)
		return -1;
	assert(space.free >= 0 && space.total >= 0);
	*out = space;
	return 0;
}

int blob_probe(struct blob_store *store, struct err *err)
{
	return store->driver->probe(store, err);
}
