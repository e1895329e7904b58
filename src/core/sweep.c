/*
 * The sweep: removes expired files, bytes that no row leads to, and what crashes left; mends descriptions (sweep_descriptions.c).
 *
 * Never touches uploads under way: they have no name; named ones whose rows are on their way are known to the committer.
 * Never takes a lost or empty database for many orphans: see too_many(). Thread: the sweeper's own, or any worker.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "depotd/base/clock.h"
#include "depotd/metadata/upkeep.h"

#include "unconfirmed_private.h"
#include "upkeep_private.h"

#define SECOND_NS INT64_C(1000000000)

enum {
	EXPIRED_BATCH = 200,
	ORPHAN_BATCH = 500,
	/* A crash leaves the files of a batch or two without rows; more than this is another story. */
	ORPHANS_MAX = 4096,
	/* The same where the database has no row at all. */
	ORPHANS_OF_NONE_MAX = 16,
};

struct sweeper {
	pthread_t thread;
	pthread_mutex_t lock; /* guards stopping */
	pthread_cond_t wake;
	bool stopping;
};

/* --- expired files --- */

static int sweep_expired(struct core *core, struct sweep_summary *summary, struct err *err)
{
	struct err ignored;
	struct file_list list = {0};
	size_t removed = 1;
	/* Until a round removes nothing: then what is left has been changed meanwhile. */
	while (removed > 0 && !atomic_load(&core->stopping)) {
		int64_t now = clock_wall_ms();
		removed = 0;
		if (metadata_expired(core->metadata, now, EXPIRED_BATCH, &list, err) < 0)
			return -1;
		for (size_t i = 0; i < list.n; i++) {
			const struct uuid *id = &list.files[i]->id;
			unconfirmed_hold(core);
			int rc = row_comes(core, id)
					 ? 0
					 : metadata_remove_expired(core->metadata, id, now, err);
			unconfirmed_release(core, id, rc == 1);
			cache_drop(core->cache, id);
			if (rc < 0) {
				file_list_release(&list);
				return -1;
			}
			if (rc == 0)
				continue;
			blob_remove(core->blobs, id, &ignored); /* I3; if not, it is an orphan */
			removed++;
			summary->expired++;
		}
		file_list_release(&list);
	}
	return 0;
}

/* --- orphans --- */

struct orphans {
	struct core *core;
	int64_t before_ms;                    /* younger ones are left alone */
	struct uuid candidates[ORPHAN_BATCH]; /* old enough; not asked for yet */
	size_t n;
	struct uuid *found; /* no row led to them; ORPHANS_MAX + 1 */
	size_t found_n;
	struct err *err;
};

/* Asks for the rows of the candidates and keeps those that have none. */
static int ask(struct orphans *orphans)
{
	bool present[ORPHAN_BATCH];
	if (orphans->n == 0)
		return 0;
	if (metadata_present(orphans->core->metadata, orphans->candidates, orphans->n, present,
			     orphans->err) < 0)
		return -1;
	for (size_t i = 0; i < orphans->n && orphans->found_n <= ORPHANS_MAX; i++)
		if (!present[i])
			orphans->found[orphans->found_n++] = orphans->candidates[i];
	orphans->n = 0;
	return 0;
}

static int visit(void *context, const struct blob_info *info)
{
	struct orphans *orphans = context;
	if (atomic_load(&orphans->core->stopping) || orphans->found_n > ORPHANS_MAX)
		return 1;
	if (info->modified_ms > orphans->before_ms || pending_has(orphans->core, &info->id))
		return 0;
	orphans->candidates[orphans->n++] = info->id;
	return orphans->n == ORPHAN_BATCH ? ask(orphans) : 0;
}

/*
 * Files without rows are what a crash leaves, a few at a time. Very many, or all there are, mean that the database was lost,
 * emptied or restored from an old copy: then removing them would destroy what `reindex` can bring back.
 */
static int too_many(struct core *core, size_t n, struct err *err)
{
	struct file_list list = {0};
	if (n > ORPHANS_MAX)
		return err_set(err, ERR_CONFLICT,
			       "more than %d files have no row: none was removed. Was the database "
			       "lost? `depotd reindex` brings its rows back",
			       ORPHANS_MAX);
	if (metadata_walk(core->metadata, NULL, 1, &list, err) < 0)
		return -1;
	bool empty = list.n == 0;
	file_list_release(&list);
	if (empty && n > ORPHANS_OF_NONE_MAX)
		return err_set(
			err, ERR_CONFLICT,
			"the database has no rows and there are %zu files: none was removed. "
			"`depotd reindex` brings the rows back",
			n);
	/* A few: whoever started on the wrong database has the grace to notice. */
	return empty && clock_wall_ms() < core->started_ms + core->config.grace_ms;
}

/*
 * What has a name now and is not being committed has its row already or will never have one: so first the uploads under way
 * are spared, and then the rows are asked for once more.
 */
static int remove_batch(struct core *core, struct uuid *ids, size_t n,
			struct sweep_summary *summary, struct err *err)
{
	bool present[ORPHAN_BATCH];
	struct err ignored;
	n = committer_spare(core, ids, n);
	if (n > 0 && metadata_present(core->metadata, ids, n, present, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (!present[i] && blob_remove(core->blobs, &ids[i], &ignored) == 1)
			summary->orphans++;
	return 0;
}

static int sweep_orphans(struct core *core, struct sweep_summary *summary, struct err *err)
{
	struct orphans *orphans = calloc(1, sizeof(*orphans));
	int rc = -1;
	if (orphans)
		orphans->found = calloc(ORPHANS_MAX + 1, sizeof(struct uuid));
	if (!orphans || !orphans->found) {
		err_set(err, ERR_NO_MEMORY, "sweep");
		goto out;
	}
	orphans->core = core;
	orphans->err = err;
	orphans->before_ms = clock_wall_ms() - core->config.grace_ms;
	rc = blob_walk(core->blobs, visit, orphans, err);
	if (rc == 0)
		rc = ask(orphans);
	if (rc < 0 || orphans->found_n == 0)
		goto out;
	rc = too_many(core, orphans->found_n, err);
	for (size_t at = 0; rc == 0 && at < orphans->found_n; at += ORPHAN_BATCH) {
		size_t n = orphans->found_n - at;
		rc = remove_batch(core, orphans->found + at, n < ORPHAN_BATCH ? n : ORPHAN_BATCH,
				  summary, err);
	}
out:
	if (orphans)
		free(orphans->found);
	free(orphans);
	return rc < 0 ? -1 : 0;
}

/* --- the mark --- */

/* Directory and database are counted on together, when files were registered since, and at each sweep. */
static int count_on(struct core *core, struct err *err)
{
	uint64_t registered = metadata_registered(core->metadata);
	int rc = marks_advance(core->metadata, core->blobs, err);
	if (rc >= 0)
		metric_set(core->sweep_blocked, rc == 0);
	if (rc == 1)
		core->counted = registered;
	return rc == 1 ? 0 : -1;
}

/* --- the whole --- */

/* What is missing in a database that was set back is not unwanted: then nothing goes, whatever its expiry. */
static int sweep_removals(struct core *core, struct sweep_summary *summary, struct err *err)
{
	if (count_on(core, err) < 0)
		return -1;
	if (sweep_expired(core, summary, err) < 0 || sweep_keys(core, summary, err) < 0 ||
	    sweep_orphans(core, summary, err) < 0)
		return -1;
	if (atomic_load(&core->stopping))
		return 0;
	long cleaned = blob_clean(core->blobs, core->config.grace_ms, err);
	if (cleaned < 0)
		return -1;
	summary->temporaries += cleaned;
	return 0;
}

int maintenance_sweep(struct core *core, struct sweep_summary *summary, struct err *err)
{
	struct err ignored;
	*summary = (struct sweep_summary){0};
	pthread_mutex_lock(&core->sweeping);
	int rc = sweep_removals(core, summary, err);
	int described = sweep_descriptions(core, summary, rc < 0 ? &ignored : err);
	rc = described < 0 ? -1 : rc;
	pthread_mutex_unlock(&core->sweeping);
	metric_add(core->swept_expired, summary->expired);
	metric_add(core->swept_orphans, summary->orphans);
	metric_add(core->swept_temporaries, summary->temporaries);
	metric_add(core->swept_keys, summary->keys);
	if (rc < 0)
		metric_add(core->sweep_failures, 1);
	return rc;
}

/* --- the sweeper --- */

enum { HOUR_MS = 3600 * 1000, SHORTEST_MS = 1000 };

static int64_t interval_ms(const struct core *core)
{
	int64_t ms = core->config.grace_ms;
	return ms > HOUR_MS ? HOUR_MS : ms < SHORTEST_MS ? SHORTEST_MS : ms;
}

/* Waits until then (monotonic ns) or until stopped. True: stop. */
static bool wait_until(struct sweeper *sweeper, int64_t until_ns)
{
	struct timespec until = {until_ns / SECOND_NS, until_ns % SECOND_NS};
	pthread_mutex_lock(&sweeper->lock);
	while (!sweeper->stopping &&
	       pthread_cond_timedwait(&sweeper->wake, &sweeper->lock, &until) != ETIMEDOUT)
		;
	bool stop = sweeper->stopping;
	pthread_mutex_unlock(&sweeper->lock);
	return stop;
}

/* What was registered last counts before the stop, too. */
static void count_on_if_registered(struct core *core)
{
	struct err ignored; /* the next sweep says it */
	pthread_mutex_lock(&core->sweeping);
	if (metadata_registered(core->metadata) != core->counted)
		(void)count_on(core, &ignored);
	pthread_mutex_unlock(&core->sweeping);
}

/* Until the next sweep, or true: stop. */
static bool wait_for_sweep(struct core *core)
{
	int64_t now = clock_monotonic_ns(), end = now + interval_ms(core) * (SECOND_NS / 1000);
	bool stop = false;
	while (!stop && now < end) {
		stop = wait_until(core->sweeper, now + SECOND_NS < end ? now + SECOND_NS : end);
		count_on_if_registered(core);
		now = clock_monotonic_ns();
	}
	return stop;
}

static void *sweeper_thread(void *context)
{
	struct core *core = context;
	for (;;) {
		struct sweep_summary summary;
		struct err err;
		err_clear(&err);
		int rc = maintenance_sweep(core, &summary, &err);
		if (core->config.swept)
			core->config.swept(core->config.swept_context, &summary,
					   rc < 0 ? &err : NULL);
		if (wait_for_sweep(core))
			return NULL;
	}
}

static void sweeper_destroy(struct core *core)
{
	pthread_cond_destroy(&core->sweeper->wake);
	pthread_mutex_destroy(&core->sweeper->lock);
	free(core->sweeper);
	core->sweeper = NULL;
}

int core_start_sweeper(struct core *core, struct err *err)
{
	pthread_condattr_t monotonic;
	sigset_t all, before;
	struct err ignored; /* the first sweep says it */
	struct sweeper *sweeper = calloc(1, sizeof(*sweeper));
	if (!sweeper)
		return err_set(err, ERR_NO_MEMORY, "sweeper");
	pthread_mutex_init(&sweeper->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&sweeper->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	core->sweeper = sweeper;
	/* Before the first request: whether there is nothing to lose shows only while the database is as it was. */
	pthread_mutex_lock(&core->sweeping);
	(void)count_on(core, &ignored);
	pthread_mutex_unlock(&core->sweeping);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&sweeper->thread, NULL, sweeper_thread, core);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0) {
		pthread_setname_np(sweeper->thread, "sweeper");
		return 0;
	}
	sweeper_destroy(core);
	errno = rc;
	return err_set_errno(err, ERR_INTERNAL, "cannot start the sweeper");
}

void sweeper_stop(struct core *core)
{
	struct sweeper *sweeper = core->sweeper;
	if (!sweeper)
		return;
	pthread_mutex_lock(&sweeper->lock);
	sweeper->stopping = true;
	pthread_cond_signal(&sweeper->wake);
	pthread_mutex_unlock(&sweeper->lock);
	pthread_join(sweeper->thread, NULL);
	sweeper_destroy(core);
}
