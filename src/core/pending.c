/*
 * Files that are durable and answered (202), and whose rows follow when the database is back.
 *
 * Memory holds ids alone, and each request's key; what a row needs stands in the file's own description. The journal holds the
 * same, so that a crash forgets none. Invariants: a request leaves the table when its rows are committed (or its files are gone),
 * never before; registering is idempotent, so an unknown outcome is settled by doing it again.
 * Lock order: registering, lock, then intake's, the cache's and that of the keys. Threads: any; the follower's own registers.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "depotd/base/clock.h"
#include "depotd/core/idempotency.h"
#include "depotd/metadata/register.h"

#include "unconfirmed_private.h"

enum {
	BUCKETS = 16384,
	BATCH_REQUESTS = 128, /* in one transaction */
	BATCH_FILES = 512,    /* the same, unless one request alone has more */
	PAUSE_MS = 200,       /* between two tries while the database is away */
	/* Of records, and records, that are carried over at once. */
	CARRY_OVER_BYTES = 96 * 1024,
	CARRY_OVER_RECORDS = 4096,
};

struct pending_id {
	struct uuid id;
	struct pending_id *next; /* in its bucket */
};

struct pending_request {
	struct pending_request *next, *previous; /* in the order of serials */
	uint64_t serial;                         /* another one when it goes to the end */
	char *key;                               /* its Idempotency-Key as JSON, or NULL */
	size_t key_len;
	size_t n;
	struct pending_id ids[];
};

struct pending {
	pthread_mutex_t registering; /* one registration at a time; before lock */
	pthread_t thread;
	bool running;
	struct metric *waiting, *registered;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	struct pending_request *head, *tail;
	struct pending_id *buckets[BUCKETS];
	size_t files;
	size_t bytes; /* that they take in the journal */
	uint64_t next_serial;
	bool stopping;
};

/* --- the table; under the lock --- */

static struct pending_id **bucket_of(struct pending *pending, const struct uuid *id)
{
	unsigned low = (unsigned)id->bytes[14] << 8 | id->bytes[15]; /* random bits of a v7 id */
	return &pending->buckets[low % BUCKETS];
}

static bool find_locked(struct pending *pending, const struct uuid *id)
{
	const struct pending_id *at = *bucket_of(pending, id);
	while (at && uuid_compare(&at->id, id) != 0)
		at = at->next;
	return at != NULL;
}

static void link_locked(struct pending *pending, struct pending_request *request)
{
	request->serial = pending->next_serial++;
	request->next = NULL;
	request->previous = pending->tail;
	if (pending->tail)
		pending->tail->next = request;
	else
		pending->head = request;
	pending->tail = request;
}

static void unlink_locked(struct pending *pending, struct pending_request *request)
{
	if (request->previous)
		request->previous->next = request->next;
	else
		pending->head = request->next;
	if (request->next)
		request->next->previous = request->previous;
	else
		pending->tail = request->previous;
}

static size_t request_bytes(const struct pending_request *request)
{
	return RECORD_LEN + request->n * sizeof(struct uuid) + request->key_len;
}

static void insert_locked(struct pending *pending, struct pending_request *request)
{
	for (size_t k = 0; k < request->n; k++) {
		struct pending_id **bucket = bucket_of(pending, &request->ids[k].id);
		request->ids[k].next = *bucket;
		*bucket = &request->ids[k];
	}
	link_locked(pending, request);
	pending->files += request->n;
	pending->bytes += request_bytes(request);
	metric_set(pending->waiting, (int64_t)pending->files);
	pthread_cond_signal(&pending->wake);
}

static void remove_locked(struct pending *pending, struct pending_request *request)
{
	for (size_t k = 0; k < request->n; k++) {
		struct pending_id **at = bucket_of(pending, &request->ids[k].id);
		while (*at != &request->ids[k])
			at = &(*at)->next;
		*at = request->ids[k].next;
	}
	unlink_locked(pending, request);
	pending->files -= request->n;
	pending->bytes -= request_bytes(request);
	metric_set(pending->waiting, (int64_t)pending->files);
	free(request->key);
	free(request);
}

/* So that a repeat is answered from memory. Before the request is in the table: the follower takes it back after. */
static void remember_key(struct core *core, const struct uuid *ids, size_t count, const char *json,
			 size_t n)
{
	struct idempotency key;
	struct err ignored;
	if (n > 0 && idempotency_decode(json, n, &key, &ignored) == 1)
		keyed_pending(core, &key, NULL, ids, count);
}

static int add_some(struct core *core, const struct uuid *ids, size_t count, const char *key,
		    size_t key_len, struct err *err)
{
	struct pending *pending = core->pending;
	struct pending_request *request =
		calloc(1, sizeof(*request) + count * sizeof(request->ids[0]));
	char *copy = key_len > 0 ? strndup(key, key_len) : NULL;
	if (!request || (key_len > 0 && !copy)) {
		free(request);
		free(copy);
		return err_set(err, ERR_NO_MEMORY, "files that wait for the database");
	}
	request->key = copy;
	request->key_len = key_len;
	request->n = count;
	for (size_t k = 0; k < count; k++)
		request->ids[k].id = ids[k];
	remember_key(core, ids, count, copy, key_len);
	pthread_mutex_lock(&pending->lock);
	bool known = find_locked(pending, &ids[0]);
	if (!known)
		insert_locked(pending, request);
	pthread_mutex_unlock(&pending->lock);
	if (known) {
		free(request->key);
		free(request);
	}
	return 0;
}

int pending_add(struct core *core, const struct uuid *ids, size_t count, const char *key,
		size_t key_len, struct err *err)
{
	for (size_t from = 0; from < count; from += PENDING_FILES_MAX) {
		size_t left = count - from;
		if (add_some(core, ids + from, left < PENDING_FILES_MAX ? left : PENDING_FILES_MAX,
			     key, from == 0 ? key_len : 0, err) < 0)
			return -1;
	}
	return 0;
}

bool pending_has(struct core *core, const struct uuid *id)
{
	struct pending *pending = core->pending;
	pthread_mutex_lock(&pending->lock);
	bool found = pending->files > 0 && find_locked(pending, id);
	pthread_mutex_unlock(&pending->lock);
	return found;
}

bool pending_full(struct core *core)
{
	struct pending *pending = core->pending;
	pthread_mutex_lock(&pending->lock);
	bool full = pending->files >= PENDING_MAX;
	bool some = pending->head;
	pthread_mutex_unlock(&pending->lock);
	return full || (some && intake_carry_bytes(core) >= core->intake->carry_max);
}

size_t pending_bytes(struct core *core)
{
	struct pending *pending = core->pending;
	pthread_mutex_lock(&pending->lock);
	size_t bytes = pending->bytes;
	pthread_mutex_unlock(&pending->lock);
	return bytes;
}

/* --- registering --- */

struct batch {
	struct pending_request *requests[BATCH_REQUESTS];
	struct registration registrations[BATCH_REQUESTS];
	struct idempotency keys[BATCH_REQUESTS];
	size_t n;
	struct file_record **records; /* of all, one behind the other */
	size_t files;
	bool gone[BATCH_REQUESTS]; /* its files are not there any more */
};

/* The first requests. Only the one who is registering takes any away, so they may be used without the lock. */
static void take_batch(struct pending *pending, struct batch *batch)
{
	pthread_mutex_lock(&pending->lock);
	struct pending_request *request = pending->head;
	while (request && batch->n < BATCH_REQUESTS &&
	       (batch->n == 0 || batch->files + request->n <= BATCH_FILES)) {
		batch->requests[batch->n++] = request;
		batch->files += request->n;
		request = request->next;
	}
	pthread_mutex_unlock(&pending->lock);
}

/* Reads the records of one request; those whose files are gone are left out. -1: it cannot be known now. */
static int read_records(struct core *core, struct batch *batch, size_t i,
			struct file_record **records, struct err *err)
{
	const struct pending_request *request = batch->requests[i];
	size_t n = 0;
	for (size_t k = 0; k < request->n; k++) {
		int rc = maintenance_described(core->blobs, &request->ids[k].id, &records[n], err);
		if (rc < 0) {
			while (n > 0)
				file_record_unref(&records[--n]);
			return -1;
		}
		n += rc == 1;
	}
	batch->registrations[i] = (struct registration){.files = records, .n = n, .answered = true};
	if (request->key_len > 0 &&
	    idempotency_decode(request->key, request->key_len, &batch->keys[i], err) == 1)
		batch->registrations[i].idempotency = &batch->keys[i];
	batch->gone[i] = n == 0;
	return 0;
}

/* What came of one request. True: it is done with. */
static bool settle(struct core *core, struct batch *batch, size_t i)
{
	const struct registration *registration = &batch->registrations[i];
	if (!batch->gone[i] && registration->result != 0)
		return false;
	for (size_t k = 0; k < batch->requests[i]->n; k++) {
		const struct uuid *id = &batch->requests[i]->ids[k].id;
		intake_mark(core, id, MARK_REGISTERED);
		cache_drop(core->cache, id); /* what is there says "registered": false */
	}
	if (registration->idempotency)
		keyed_registered(core, registration->idempotency, NULL);
	return true;
}

/* One transaction. How many requests are done with, or -1. */
static long register_batch(struct core *core, struct batch *batch, struct err *err)
{
	struct pending *pending = core->pending;
	struct registration *packed[BATCH_REQUESTS];
	struct registration together[BATCH_REQUESTS];
	size_t at = 0, n = 0;
	long done = 0;
	for (size_t i = 0; i < batch->n; i++) {
		struct registration *registration = &batch->registrations[i];
		registration->result = read_records(core, batch, i, batch->records + at, err);
		if (registration->result < 0) { /* it alone has to wait */
			registration->err = *err;
			continue;
		}
		at += registration->n;
		if (batch->gone[i])
			continue;
		packed[n] = registration;
		together[n++] = *registration;
	}
	/* Some may have their rows, by a commit that is not written out: from here on nobody remembers that. */
	if (n > 0 && metadata_register_as(core->metadata, together, n, METADATA_FOR_GOOD, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		*packed[i] = together[i];
	pthread_mutex_lock(&pending->lock);
	for (size_t i = 0; i < batch->n; i++) {
		size_t files = batch->requests[i]->n;
		if (settle(core, batch, i)) {
			remove_locked(pending, batch->requests[i]);
			metric_add(pending->registered, (int64_t)files);
			done++;
		} else {
			/* The database refuses these rows, or the disk does: others go first from now on. */
			*err = batch->registrations[i].err;
			unlink_locked(pending, batch->requests[i]);
			link_locked(pending, batch->requests[i]);
		}
	}
	pthread_mutex_unlock(&pending->lock);
	return done;
}

static long register_some(struct core *core, struct err *err)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	long done = -1;
	if (!batch)
		return err_set(err, ERR_NO_MEMORY, "files that wait for the database");
	take_batch(core->pending, batch);
	batch->records = calloc(batch->files ? batch->files : 1, sizeof(struct file_record *));
	if (batch->n == 0)
		done = 0;
	else if (!batch->records)
		err_set(err, ERR_NO_MEMORY, "files that wait for the database");
	else
		done = register_batch(core, batch, err);
	for (size_t k = 0; batch->records && k < batch->files; k++)
		file_record_unref(&batch->records[k]);
	free(batch->records);
	free(batch);
	return done;
}

static bool is_empty(struct pending *pending)
{
	pthread_mutex_lock(&pending->lock);
	bool empty = !pending->head;
	pthread_mutex_unlock(&pending->lock);
	return empty;
}

int pending_register(struct core *core, struct err *err)
{
	struct pending *pending = core->pending;
	long done = 1;
	pthread_mutex_lock(&pending->registering);
	while (done > 0 && !is_empty(pending) && !atomic_load(&core->stopping))
		done = register_some(core, err);
	pthread_mutex_unlock(&pending->registering);
	return is_empty(pending) ? 0 : -1;
}

/* --- carrying over --- */

/* Copies requests behind `after` into data until it is full enough. The last serial copied; 0: there are none. */
static uint64_t copy_some(struct pending *pending, uint64_t after, struct buf *data,
			  struct journal_record *records, size_t *n)
{
	uint64_t last = 0;
	*n = 0;
	pthread_mutex_lock(&pending->lock);
	for (const struct pending_request *request = pending->head; request;
	     request = request->next) {
		if (request->serial <= after)
			continue;
		if (*n == CARRY_OVER_RECORDS || (*n > 0 && data->len >= CARRY_OVER_BYTES))
			break;
		for (size_t k = 0; k < request->n; k++)
			buf_append(data, request->ids[k].id.bytes, sizeof(struct uuid));
		buf_append(data, request->key, request->key_len);
		records[(*n)++] =
			(struct journal_record){.kind = INTAKE_PENDING,
						.head_len = request->n * sizeof(struct uuid),
						.body_len = request->key_len};
		last = request->serial;
	}
	pthread_mutex_unlock(&pending->lock);
	return last;
}

/* Points the records at their parts of data. */
static void finish_records(const struct buf *data, struct journal_record *records, size_t n)
{
	const char *at = buf_text(data);
	for (size_t i = 0; i < n; i++) {
		struct journal_record *record = &records[i];
		record->head = at;
		record->body = at + record->head_len;
		at += record->head_len + record->body_len;
		record->checksum = journal_checksum(record->head, record->head_len, record->body,
						    record->body_len);
	}
}

int pending_carry_over(struct core *core, struct err *err)
{
	struct journal *journal = core->intake->journal;
	struct journal_record *records = calloc(CARRY_OVER_RECORDS, sizeof(*records));
	uint64_t after = 0;
	size_t n = 1;
	int rc = 0;
	if (!records)
		return err_set(err, ERR_NO_MEMORY, "checkpoint");
	while (rc == 0 && n > 0) {
		struct buf data;
		buf_init(&data, 64 * 1024 * 1024);
		after = copy_some(core->pending, after, &data, records, &n);
		if (data.failed)
			rc = err_set(err, ERR_NO_MEMORY, "checkpoint");
		if (rc == 0 && n > 0) {
			finish_records(&data, records, n);
			rc = journal_carry(journal, records, n, err);
		}
		buf_release(&data);
	}
	journal_carried(journal);
	free(records);
	return rc;
}

/* --- the follower --- */

void pending_wake(struct core *core)
{
	pthread_mutex_lock(&core->pending->lock);
	pthread_cond_signal(&core->pending->wake);
	pthread_mutex_unlock(&core->pending->lock);
}

/* Until somebody signals, or for a pause where something is to be tried again or to come of age. Under the lock. */
static void wait_locked(struct core *core)
{
	struct pending *pending = core->pending;
	int64_t until_ns = clock_monotonic_ns() + PAUSE_MS * INT64_C(1000000);
	struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
	if (pending->head || unconfirmed_waits(core))
		(void)pthread_cond_timedwait(&pending->wake, &pending->lock, &until);
	else
		(void)pthread_cond_wait(&pending->wake, &pending->lock);
}

static void *follower_thread(void *context)
{
	struct core *core = context;
	struct pending *pending = core->pending;
	int64_t not_before = 0; /* the next try, after one that failed: monotonic ns */
	struct err ignored;
	pthread_mutex_lock(&pending->lock);
	while (!pending->stopping) {
		bool confirm = unconfirmed_due(core);
		bool follow = pending->head && clock_monotonic_ns() >= not_before;
		if (!confirm && !follow) {
			wait_locked(core);
			continue;
		}
		pthread_mutex_unlock(&pending->lock);
		if (confirm)
			(void)unconfirmed_confirm(core, &ignored);
		if (follow && pending_register(core, &ignored) < 0)
			not_before = clock_monotonic_ns() + PAUSE_MS * INT64_C(1000000);
		pthread_mutex_lock(&pending->lock);
	}
	pthread_mutex_unlock(&pending->lock);
	return NULL;
}

static void register_metrics(struct pending *pending, struct metrics *m)
{
	if (!m)
		return;
	pending->waiting = metrics_gauge(m, "depotd_files_unregistered",
					 "Stored files whose rows wait for the database.", NULL);
	pending->registered = metrics_counter(m, "depotd_files_registered_late_total",
					      "Files registered after they were answered.", NULL);
}

int pending_new(struct core *core, struct err *err)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	pthread_condattr_t monotonic;
	if (!pending)
		return err_set(err, ERR_NO_MEMORY, "files that wait for the database");
	pthread_mutex_init(&pending->lock, NULL);
	pthread_mutex_init(&pending->registering, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pending->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pending->next_serial = 1;
	core->pending = pending;
	register_metrics(pending, core->config.metrics);
	return 0;
}

int pending_start(struct core *core, struct err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&core->pending->thread, NULL, follower_thread, core);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the follower");
	}
	pthread_setname_np(core->pending->thread, "follower");
	core->pending->running = true;
	return 0;
}

void pending_stop(struct core *core)
{
	struct pending *pending = core->pending;
	if (!pending || !pending->running)
		return;
	pthread_mutex_lock(&pending->lock);
	pending->stopping = true;
	pthread_cond_signal(&pending->wake);
	pthread_mutex_unlock(&pending->lock);
	pthread_join(pending->thread, NULL);
	pending->running = false;
}

void pending_free(struct core *core)
{
	struct pending *pending = core->pending;
	if (!pending)
		return;
	for (struct pending_request *request = pending->head, *next; request; request = next) {
		next = request->next;
		free(request->key);
		free(request);
	}
	pthread_cond_destroy(&pending->wake);
	pthread_mutex_destroy(&pending->registering);
	pthread_mutex_destroy(&pending->lock);
	free(pending);
	core->pending = NULL;
}
