/*
 * See unconfirmed_private.h.
 *
 * Invariants: a request is in the list from before its answer until the database has written its rows out in the same life
 * (metadata_settle()) in which they were committed, or until it stands in the table of pending ones; only then is it marked as
 * registered in the journal, and only then may the journal drop it. `known` is a life that was read before the first request of
 * the list was committed; whoever began to commit before another life was seen carries the number of the one before.
 * Threads: the committer's, the follower, the checkpoint's, workers' (removals).
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/metadata/register.h"

#include "unconfirmed_private.h"

enum {
	CONFIRM_MS = 500, /* how old the oldest gets */
	ASK_MS = 500,     /* between two tries to learn which server it is */
	FILES_MAX = 65536,
};

struct unconfirmed_request {
	struct unconfirmed_request *next;
	size_t n;
	struct uuid ids[]; /* nil: removed since */
};

struct unconfirmed_batch {
	uint64_t life; /* the number of the life in which the commit began */
	struct unconfirmed_request *requests[];
};

struct unconfirmed {
	/* Held for reading while a row is removed, for writing while requests go to the pending ones. */
	pthread_rwlock_t removing;
	pthread_mutex_t confirming;  /* one at a time */
	pthread_mutex_t registering; /* a batch is being committed deferred */
	struct metric *files_metric, *lives;

	pthread_mutex_t lock; /* guards all below */
	struct unconfirmed_request *head, *tail;
	size_t files;
	int64_t since_ns; /* monotonic: when the list was empty last */
	int64_t asked_ns; /* when the database was last asked */
	uint64_t life;    /* counts the lives seen; 0: none yet */
	bool never;       /* this store does not defer */
	char known[METADATA_LIFE_MAX];
};

static const struct uuid nil;

/* --- from the committer --- */

static struct unconfirmed_request *new_request(const struct upload_commit *commit)
{
	struct unconfirmed_request *request =
		calloc(1, sizeof(*request) + commit->n * sizeof(request->ids[0]));
	if (!request)
		return NULL;
	request->n = commit->n;
	for (size_t k = 0; k < commit->n; k++)
		request->ids[k] = commit->uploads[k]->id;
	return request;
}

static void free_batch(struct unconfirmed_batch *batch, size_t n)
{
	for (size_t i = 0; batch && i < n; i++)
		free(batch->requests[i]);
	free(batch);
}

/* A request with a key does not: a repeat asks the database what became of it. */
static bool may_defer(struct core *core, struct upload_commit **commits, size_t n)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	uint64_t turn = atomic_load(&core->intake->turn);
	for (size_t i = 0; i < n; i++)
		if (!commits[i]->journaled || commits[i]->turn != turn || commits[i]->idempotency)
			return false;
	/* If the database goes away all of these wait for it: there has to be room for them, and uploads after. */
	if (intake_carry_bytes(core) >= core->intake->carry_max / 2)
		return false;
	pthread_mutex_lock(&unconfirmed->lock);
	bool may = unconfirmed->life > 0 && unconfirmed->files < FILES_MAX;
	pthread_mutex_unlock(&unconfirmed->lock);
	return may;
}

struct unconfirmed_batch *unconfirmed_begin(struct core *core, struct upload_commit **commits,
					    size_t n)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	struct unconfirmed_batch *batch =
		calloc(1, sizeof(*batch) + n * sizeof(batch->requests[0]));
	bool made = batch != NULL;
	for (size_t i = 0; made && i < n; i++)
		made = (batch->requests[i] = new_request(commits[i])) != NULL;
	pthread_mutex_lock(&unconfirmed->registering);
	if (made && may_defer(core, commits, n)) {
		pthread_mutex_lock(&unconfirmed->lock);
		batch->life = unconfirmed->life;
		pthread_mutex_unlock(&unconfirmed->lock);
		return batch;
	}
	pthread_mutex_unlock(&unconfirmed->registering);
	free_batch(batch, n);
	return NULL;
}

static void append_locked(struct unconfirmed *unconfirmed, struct unconfirmed_request *request)
{
	if (unconfirmed->head)
		unconfirmed->tail->next = request;
	else
		unconfirmed->head = request;
	unconfirmed->tail = request;
	unconfirmed->files += request->n;
}

void unconfirmed_end(struct core *core, struct unconfirmed_batch *batch,
		     struct upload_commit **commits, size_t n)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	pthread_mutex_lock(&unconfirmed->lock);
	bool wake = !unconfirmed->head;
	if (wake)
		unconfirmed->since_ns = clock_monotonic_ns();
	for (size_t i = 0; i < n; i++) {
		if (!commits[i]->deferred)
			continue;
		append_locked(unconfirmed, batch->requests[i]);
		batch->requests[i] = NULL;
	}
	/* Another life began while these were being committed: nobody knows in which of both they were. */
	if (batch->life != unconfirmed->life)
		unconfirmed->known[0] = '\0';
	metric_set(unconfirmed->files_metric, (int64_t)unconfirmed->files);
	pthread_mutex_unlock(&unconfirmed->lock);
	pthread_mutex_unlock(&unconfirmed->registering);
	free_batch(batch, n);
	if (wake)
		pending_wake(core);
}

/* --- asking the database --- */

bool unconfirmed_due(struct core *core)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	int64_t now = clock_monotonic_ns();
	pthread_mutex_lock(&unconfirmed->lock);
	bool due = unconfirmed->head ? now - unconfirmed->since_ns >= CONFIRM_MS * INT64_C(1000000)
				     : unconfirmed->life == 0 && !unconfirmed->never;
	due = due && (unconfirmed->asked_ns == 0 ||
		      now - unconfirmed->asked_ns >= ASK_MS * INT64_C(1000000));
	pthread_mutex_unlock(&unconfirmed->lock);
	return due;
}

size_t unconfirmed_bytes(struct core *core)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	pthread_mutex_lock(&unconfirmed->lock);
	size_t bytes = unconfirmed->files * (RECORD_LEN + sizeof(struct uuid));
	pthread_mutex_unlock(&unconfirmed->lock);
	return bytes;
}

bool unconfirmed_waits(struct core *core)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	pthread_mutex_lock(&unconfirmed->lock);
	bool waits = unconfirmed->head || (unconfirmed->life == 0 && !unconfirmed->never);
	pthread_mutex_unlock(&unconfirmed->lock);
	return waits;
}

/* Takes the front of the list up to and with `last`. */
static struct unconfirmed_request *take_until(struct unconfirmed *unconfirmed,
					      const struct unconfirmed_request *last)
{
	struct unconfirmed_request *taken = unconfirmed->head, *end = taken;
	if (!last || !taken)
		return NULL;
	unconfirmed->files -= end->n;
	while (end != last) {
		end = end->next;
		unconfirmed->files -= end->n;
	}
	unconfirmed->head = end->next;
	if (!unconfirmed->head)
		unconfirmed->tail = NULL;
	end->next = NULL;
	unconfirmed->since_ns = clock_monotonic_ns();
	metric_set(unconfirmed->files_metric, (int64_t)unconfirmed->files);
	return taken;
}

static void mark_registered(struct core *core, struct unconfirmed_request *request)
{
	while (request) {
		struct unconfirmed_request *next = request->next;
		for (size_t k = 0; k < request->n; k++)
			if (uuid_compare(&request->ids[k], &nil) != 0)
				intake_mark(core, &request->ids[k], MARK_REGISTERED);
		free(request);
		request = next;
	}
}

/* The rows of this request are to be written once more. */
static int register_again(struct core *core, const struct unconfirmed_request *request,
			  struct err *err)
{
	struct uuid *ids = malloc(request->n * sizeof(*ids));
	size_t n = 0;
	if (!ids)
		return err_set(err, ERR_NO_MEMORY, "files that the database may have forgotten");
	for (size_t k = 0; k < request->n; k++)
		if (uuid_compare(&request->ids[k], &nil) != 0)
			ids[n++] = request->ids[k];
	int rc = n > 0 ? pending_add(core, ids, n, NULL, 0, err) : 0;
	for (size_t k = 0; rc == 0 && k < n; k++)
		cache_drop(core->cache, &ids[k]);
	free(ids);
	return rc;
}

/* The whole list goes to those that wait for their rows. No request is lost where memory ends: it stays in the list. */
static int register_all_again(struct core *core, struct err *err)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	int rc = 0;
	pthread_rwlock_wrlock(&unconfirmed->removing);
	while (rc == 0) {
		pthread_mutex_lock(&unconfirmed->lock);
		struct unconfirmed_request *first = unconfirmed->head;
		pthread_mutex_unlock(&unconfirmed->lock);
		if (!first)
			break;
		/* Only this thread takes any away: it has `confirming`. */
		rc = register_again(core, first, err);
		if (rc < 0)
			break;
		pthread_mutex_lock(&unconfirmed->lock);
		free(take_until(unconfirmed, first));
		pthread_mutex_unlock(&unconfirmed->lock);
	}
	pthread_rwlock_unlock(&unconfirmed->removing);
	return rc;
}

/*
 * Remembers the life that the database is in, unless somebody came into the list meanwhile who may have committed in the one
 * before. Whoever comes later sees that the number is another.
 */
static bool begin_life(struct unconfirmed *unconfirmed, const char *life)
{
	pthread_mutex_lock(&unconfirmed->lock);
	bool begun = !unconfirmed->head;
	if (begun) {
		unconfirmed->life++;
		memcpy(unconfirmed->known, life, METADATA_LIFE_MAX);
	}
	pthread_mutex_unlock(&unconfirmed->lock);
	return begun;
}

static int confirm(struct core *core, struct err *err)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	struct unconfirmed_request *done = NULL;
	char life[METADATA_LIFE_MAX];
	pthread_mutex_lock(&unconfirmed->lock);
	const struct unconfirmed_request *last = unconfirmed->tail;
	unconfirmed->asked_ns = clock_monotonic_ns();
	pthread_mutex_unlock(&unconfirmed->lock);
	int rc = metadata_settle(core->metadata, life, err);
	if (rc < 0)
		return -1;
	pthread_mutex_lock(&unconfirmed->lock);
	unconfirmed->never = rc == 0;
	bool same = rc == 0 || strcmp(life, unconfirmed->known) == 0;
	if (same)
		done = take_until(unconfirmed, last);
	pthread_mutex_unlock(&unconfirmed->lock);
	mark_registered(core, done);
	if (same)
		return 0;
	do {
		if (register_all_again(core, err) < 0)
			return -1;
	} while (!begin_life(unconfirmed, life));
	metric_add(unconfirmed->lives, 1);
	return 0;
}

int unconfirmed_confirm(struct core *core, struct err *err)
{
	pthread_mutex_lock(&core->unconfirmed->confirming);
	int rc = confirm(core, err);
	pthread_mutex_unlock(&core->unconfirmed->confirming);
	return rc;
}

static bool is_empty(struct unconfirmed *unconfirmed)
{
	pthread_mutex_lock(&unconfirmed->lock);
	bool empty = !unconfirmed->head;
	pthread_mutex_unlock(&unconfirmed->lock);
	return empty;
}

int unconfirmed_clear(struct core *core, struct err *err)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	struct err why;
	int rc = 0;
	/* Who journaled before the turn and commits after it does not defer: those that are at it are waited for. */
	pthread_mutex_lock(&unconfirmed->registering);
	pthread_mutex_unlock(&unconfirmed->registering);
	pthread_mutex_lock(&unconfirmed->confirming);
	if (!is_empty(unconfirmed) && confirm(core, &why) < 0)
		rc = register_all_again(core, err);
	pthread_mutex_unlock(&unconfirmed->confirming);
	return rc;
}

/* --- single files --- */

static struct uuid *find_locked(struct unconfirmed *unconfirmed, const struct uuid *id)
{
	for (struct unconfirmed_request *request = unconfirmed->head; request;
	     request = request->next)
		for (size_t k = 0; k < request->n; k++)
			if (uuid_compare(&request->ids[k], id) == 0)
				return &request->ids[k];
	return NULL;
}

bool unconfirmed_has(struct core *core, const struct uuid *id)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	pthread_mutex_lock(&unconfirmed->lock);
	bool found = find_locked(unconfirmed, id) != NULL;
	pthread_mutex_unlock(&unconfirmed->lock);
	return found;
}

void unconfirmed_hold(struct core *core)
{
	pthread_rwlock_rdlock(&core->unconfirmed->removing);
}

void unconfirmed_release(struct core *core, const struct uuid *id, bool removed)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	if (removed) {
		pthread_mutex_lock(&unconfirmed->lock);
		struct uuid *found = find_locked(unconfirmed, id);
		if (found)
			*found = nil;
		pthread_mutex_unlock(&unconfirmed->lock);
	}
	pthread_rwlock_unlock(&unconfirmed->removing);
}

/* --- making and ending --- */

int unconfirmed_new(struct core *core, struct err *err)
{
	struct unconfirmed *unconfirmed = calloc(1, sizeof(*unconfirmed));
	pthread_rwlockattr_t writers_first;
	if (!unconfirmed)
		return err_set(err, ERR_NO_MEMORY, "files that the database may forget");
	pthread_rwlockattr_init(&writers_first);
	pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&unconfirmed->removing, &writers_first);
	pthread_rwlockattr_destroy(&writers_first);
	pthread_mutex_init(&unconfirmed->confirming, NULL);
	pthread_mutex_init(&unconfirmed->registering, NULL);
	pthread_mutex_init(&unconfirmed->lock, NULL);
	core->unconfirmed = unconfirmed;
	if (!core->config.metrics)
		return 0;
	unconfirmed->files_metric =
		metrics_gauge(core->config.metrics, "depotd_files_unconfirmed",
			      "Files whose rows the database has not written out yet.", NULL);
	unconfirmed->lives = metrics_counter(core->config.metrics, "depotd_database_lives_total",
					     "How often the database was found begun anew.", NULL);
	return 0;
}

void unconfirmed_free(struct core *core)
{
	struct unconfirmed *unconfirmed = core->unconfirmed;
	if (!unconfirmed)
		return;
	for (struct unconfirmed_request *request = unconfirmed->head, *next; request;
	     request = next) {
		next = request->next;
		free(request);
	}
	pthread_rwlock_destroy(&unconfirmed->removing);
	pthread_mutex_destroy(&unconfirmed->confirming);
	pthread_mutex_destroy(&unconfirmed->registering);
	pthread_mutex_destroy(&unconfirmed->lock);
	free(unconfirmed);
	core->unconfirmed = NULL;
}
