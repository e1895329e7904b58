/*
 * A blob store that fails on purpose, round any other driver. For tests.
 *
 * Invariant: a call that is made to fail does not reach the inner store, so what the inner store holds is what a crash at that
 * instant would have left. Threads: any; the faults are guarded by one mutex, which no inner call runs under.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/blob/driver.h"
#include "depotd/blob/fault.h"
#include "depotd/blob/upkeep.h"

struct fault {
	unsigned in; /* the how many-th call from now fails; 0 none */
	enum err_kind kind;
	int sys_errno;
};

struct fault_store {
	struct blob_store base; /* first */
	struct blob_store *inner;
	pthread_mutex_t lock; /* guards all below */
	struct fault faults[BLOB_CALL_COUNT];
	void (*hook)(void *context, enum blob_call call);
	void *context;
};

struct fault_writer {
	struct blob_writer base; /* first */
	struct blob_writer *inner;
};

struct fault_reader {
	struct blob_reader base; /* first */
	struct blob_reader *inner;
};

static struct fault_store *fault_of(struct blob_store *store)
{
	return (struct fault_store *)store;
}

/* -1 with err if this call is the one to fail. */
static int strike(struct blob_store *store, enum blob_call call, struct err *err)
{
	struct fault_store *fault = fault_of(store);
	pthread_mutex_lock(&fault->lock);
	void (*hook)(void *, enum blob_call) = fault->hook;
	void *context = fault->context;
	struct fault now = fault->faults[call];
	if (now.in > 0)
		fault->faults[call].in--;
	pthread_mutex_unlock(&fault->lock);
	if (hook)
		hook(context, call);
	if (now.in != 1)
		return 0;
	if (now.sys_errno == 0)
		return err_set(err, now.kind, "a fault on purpose");
	errno = now.sys_errno;
	return err_set_errno(err, now.kind, "a fault on purpose");
}

static void fault_close(struct blob_store *store)
{
	struct fault_store *fault = fault_of(store);
	blob_close(&fault->inner);
	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

static int fault_reserve(struct blob_store *store, int64_t n, struct blob_reservation *out,
			 struct err *err)
{
	return blob_reserve(fault_of(store)->inner, n, out, err);
}

static void fault_unreserve(struct blob_store *store, struct blob_reservation *reservation)
{
	blob_unreserve(fault_of(store)->inner, reservation);
}

static int fault_create(struct blob_store *store, const struct uuid *id, int64_t size_hint,
			struct blob_reservation *room, struct blob_writer **out, struct err *err)
{
	if (strike(store, BLOB_CALL_CREATE, err) < 0)
		return -1;
	struct fault_writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return err_set(err, ERR_NO_MEMORY, "fault writer");
	writer->base.store = store;
	if (blob_create(fault_of(store)->inner, id, size_hint, room, &writer->inner, err) < 0) {
		free(writer);
		return -1;
	}
	*out = &writer->base;
	return 0;
}

static int fault_claim(struct blob_writer *writer, size_t n, struct err *err)
{
	int64_t offset;
	return blob_claim(((struct fault_writer *)writer)->inner, n, &offset, err);
}

static int fault_fill(struct blob_writer *writer, int64_t offset, const void *data, size_t n,
		      struct err *err)
{
	if (strike(writer->store, BLOB_CALL_WRITE, err) < 0)
		return -1;
	return blob_fill(((struct fault_writer *)writer)->inner, offset, data, n, err);
}

static int fault_first(struct blob_writer *writer, void *data, size_t n, struct err *err)
{
	if (strike(writer->store, BLOB_CALL_READ, err) < 0)
		return -1;
	return blob_first(((struct fault_writer *)writer)->inner, data, n, err);
}

static int fault_seal(struct blob_writer *writer, const char *description, size_t n,
		      struct err *err)
{
	if (strike(writer->store, BLOB_CALL_SEAL, err) < 0)
		return -1;
	return blob_seal(((struct fault_writer *)writer)->inner, description, n, err);
}

static void fault_discard(struct blob_writer *writer)
{
	blob_discard(&((struct fault_writer *)writer)->inner);
	free(writer);
}

/* Each publication is one call; its writers are swapped for the inner ones and, where they were published, freed. */
static void publish_one(struct blob_store *store, struct blob_publication *publication)
{
	struct blob_publication inner = {.n = publication->n};
	publication->result = strike(store, BLOB_CALL_PUBLISH, &publication->err);
	if (publication->result < 0)
		return;
	inner.writers = calloc(publication->n ? publication->n : 1, sizeof(*inner.writers));
	if (!inner.writers) {
		publication->result = err_set(&publication->err, ERR_NO_MEMORY, "fault");
		return;
	}
	for (size_t k = 0; k < inner.n; k++)
		inner.writers[k] = ((struct fault_writer *)publication->writers[k])->inner;
	blob_publish(fault_of(store)->inner, &inner, 1);
	publication->result = inner.result;
	publication->err = inner.err;
	for (size_t k = 0; inner.result == 0 && k < inner.n; k++) {
		free(publication->writers[k]);
		publication->writers[k] = NULL;
	}
	free(inner.writers);
}

static void fault_publish(struct blob_store *store, struct blob_publication *publications, size_t n)
{
	for (size_t i = 0; i < n; i++)
		publish_one(store, &publications[i]);
}

static int fault_place(struct blob_store *store, const struct uuid *id,
		       struct blob_reservation *room, const void *data, size_t n,
		       const char *description, size_t description_n, struct err *err)
{
	if (strike(store, BLOB_CALL_PLACE, err) < 0)
		return -1;
	return blob_place(fault_of(store)->inner, id, room, data, n, description, description_n,
			  err);
}

static int fault_sync(struct blob_store *store, struct err *err)
{
	if (strike(store, BLOB_CALL_SYNC, err) < 0)
		return -1;
	return blob_sync(fault_of(store)->inner, err);
}

static int fault_restore(struct blob_store *store, const struct uuid *id, const void *data,
			 size_t n, const char *description, size_t description_n, struct err *err)
{
	if (strike(store, BLOB_CALL_RESTORE, err) < 0)
		return -1;
	return blob_restore(fault_of(store)->inner, id, data, n, description, description_n, err);
}

typedef int (*open_fn)(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		       struct err *err);

static int open_inner(struct blob_store *store, const struct uuid *id, open_fn open,
		      struct blob_reader **out, struct err *err)
{
	if (strike(store, BLOB_CALL_OPEN, err) < 0)
		return -1;
	struct fault_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return err_set(err, ERR_NO_MEMORY, "fault reader");
	int rc = open(fault_of(store)->inner, id, &reader->inner, err);
	if (rc != 1) {
		free(reader);
		return rc;
	}
	reader->base.store = store;
	reader->base.size = blob_size(reader->inner);
	*out = &reader->base;
	return 1;
}

static int fault_open(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		      struct err *err)
{
	return open_inner(store, id, blob_open, out, err);
}

static int fault_open_raw(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
			  struct err *err)
{
	return open_inner(store, id, blob_open_raw, out, err);
}

static int fault_read(struct blob_reader *reader, int64_t offset, void *data, size_t n, size_t *got,
		      struct err *err)
{
	if (strike(reader->store, BLOB_CALL_READ, err) < 0)
		return -1;
	return blob_read(((struct fault_reader *)reader)->inner, offset, data, n, got, err);
}

static int fault_descriptor(const struct blob_reader *reader)
{
	return blob_descriptor(((const struct fault_reader *)reader)->inner);
}

static void fault_will_read(struct blob_reader *reader, int64_t offset, int64_t n)
{
	blob_will_read(((struct fault_reader *)reader)->inner, offset, n);
}

static void fault_reader_free(struct blob_reader *reader)
{
	blob_reader_free(&((struct fault_reader *)reader)->inner);
	free(reader);
}

static int fault_description(struct blob_store *store, const struct uuid *id, struct buf *out,
			     struct err *err)
{
	if (strike(store, BLOB_CALL_READ, err) < 0)
		return -1;
	return blob_description(fault_of(store)->inner, id, out, err);
}

static int fault_describe(struct blob_store *store, const struct uuid *id, const char *description,
			  size_t n, struct err *err)
{
	if (strike(store, BLOB_CALL_DESCRIBE, err) < 0)
		return -1;
	return blob_describe(fault_of(store)->inner, id, description, n, err);
}

static int fault_remove(struct blob_store *store, const struct uuid *id, struct err *err)
{
	if (strike(store, BLOB_CALL_REMOVE, err) < 0)
		return -1;
	return blob_remove(fault_of(store)->inner, id, err);
}

static int fault_walk(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err)
{
	if (strike(store, BLOB_CALL_WALK, err) < 0)
		return -1;
	return blob_walk(fault_of(store)->inner, visit, context, err);
}

static long fault_clean(struct blob_store *store, int64_t grace_ms, struct err *err)
{
	if (strike(store, BLOB_CALL_WALK, err) < 0)
		return -1;
	return blob_clean(fault_of(store)->inner, grace_ms, err);
}

static int fault_space(struct blob_store *store, struct blob_space *out, struct err *err)
{
	if (strike(store, BLOB_CALL_SPACE, err) < 0)
		return -1;
	return blob_space(fault_of(store)->inner, out, err);
}

static int fault_probe(struct blob_store *store, struct err *err)
{
	if (strike(store, BLOB_CALL_SPACE, err) < 0)
		return -1;
	return blob_probe(fault_of(store)->inner, err);
}

static int fault_set_aside(struct blob_store *store, const struct uuid *id, struct err *err)
{
	if (strike(store, BLOB_CALL_REMOVE, err) < 0)
		return -1;
	return blob_set_aside(fault_of(store)->inner, id, err);
}

static int fault_mark(struct blob_store *store, struct buf *out, struct err *err)
{
	return blob_mark(fault_of(store)->inner, out, err);
}

static int fault_set_mark(struct blob_store *store, const char *text, size_t n, struct err *err)
{
	return blob_set_mark(fault_of(store)->inner, text, n, err);
}

static int fault_served(struct blob_store *store, struct err *err)
{
	return blob_served(fault_of(store)->inner, err);
}

static const struct blob_driver fault_driver = {
	.name = "fault",
	.close = fault_close,
	.reserve = fault_reserve,
	.unreserve = fault_unreserve,
	.create = fault_create,
	.claim = fault_claim,
	.fill = fault_fill,
	.first = fault_first,
	.seal = fault_seal,
	.publish = fault_publish,
	.discard = fault_discard,
	.place = fault_place,
	.sync = fault_sync,
	.restore = fault_restore,
	.open = fault_open,
	.read = fault_read,
	.descriptor = fault_descriptor,
	.will_read = fault_will_read,
	.reader_free = fault_reader_free,
	.description = fault_description,
	.describe = fault_describe,
	.remove = fault_remove,
	.walk = fault_walk,
	.clean = fault_clean,
	.space = fault_space,
	.probe = fault_probe,
	.open_raw = fault_open_raw,
	.set_aside = fault_set_aside,
	.mark = fault_mark,
	.set_mark = fault_set_mark,
	.served = fault_served,
};

int blob_fault_new(struct blob_store *inner, struct blob_store **out, struct err *err)
{
	struct fault_store *fault = calloc(1, sizeof(*fault));
	if (!fault)
		return err_set(err, ERR_NO_MEMORY, "fault store");
	fault->base.driver = &fault_driver;
	fault->inner = inner;
	pthread_mutex_init(&fault->lock, NULL);
	*out = &fault->base;
	return 0;
}

void blob_fault_set(struct blob_store *store, enum blob_call call, unsigned n, enum err_kind kind,
		    int sys_errno)
{
	struct fault_store *fault = fault_of(store);
	pthread_mutex_lock(&fault->lock);
	fault->faults[call] = (struct fault){n, kind, sys_errno};
	pthread_mutex_unlock(&fault->lock);
}

void blob_fault_hook(struct blob_store *store, void (*hook)(void *context, enum blob_call call),
		     void *context)
{
	struct fault_store *fault = fault_of(store);
	pthread_mutex_lock(&fault->lock);
	fault->hook = hook;
	fault->context = context;
	pthread_mutex_unlock(&fault->lock);
}
