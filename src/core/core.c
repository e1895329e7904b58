/*
 * Making and ending core: the cache, the committer, the health probes, the stores' change notices.
 *
 * Thread: core_new() and core_free() on the main thread, while nothing else uses core.
 */
#include <stdlib.h>

#include "depotd/base/clock.h"
#include "unconfirmed_private.h"
#include "upkeep_private.h"

/* Another node changed a file, or anything may have changed. On the metadata store's listener thread. */
static void on_change(void *context, const struct uuid *id)
{
	struct core *core = context;
	if (id)
		cache_drop(core->cache, id);
	else
		cache_drop_all(core->cache);
}

static void register_metrics(struct core *core, struct metrics *m)
{
	if (!m)
		return;
	core->uploads_running =
		metrics_gauge(m, "depotd_uploads_running", "Uploads under way.", NULL);
	core->upload_bytes = metrics_counter(m, "depotd_upload_bytes_total",
					     "Bytes of files taken, finished or not.", NULL);
	core->uploads_done = metrics_counter(m, "depotd_uploads_total", "Uploads that ended.",
					     "result=\"stored\"");
	core->uploads_failed = metrics_counter(m, "depotd_uploads_total", "Uploads that ended.",
					       "result=\"not stored\"");
	core->commit_batches =
		metrics_counter(m, "depotd_commit_batches_total", "Group commits.", NULL);
	core->commit_requests = metrics_counter(m, "depotd_commit_requests_total",
						"Requests in group commits.", NULL);
	core->cache_hits = metrics_counter(m, "depotd_cache_lookups_total",
					   "Records looked up in memory.", "result=\"hit\"");
	core->cache_misses = metrics_counter(m, "depotd_cache_lookups_total",
					     "Records looked up in memory.", "result=\"miss\"");
	core->swept_expired = metrics_counter(m, "depotd_swept_total", "What sweeps removed.",
					      "kind=\"expired\"");
	core->swept_orphans =
		metrics_counter(m, "depotd_swept_total", "What sweeps removed.", "kind=\"orphan\"");
	core->swept_temporaries = metrics_counter(m, "depotd_swept_total", "What sweeps removed.",
						  "kind=\"temporary\"");
	core->swept_keys =
		metrics_counter(m, "depotd_swept_total", "What sweeps removed.", "kind=\"key\"");
	core->repeats_answered =
		metrics_counter(m, "depotd_repeats_total",
				"Requests whose Idempotency-Key was known.", "result=\"answered\"");
	core->repeats_waited =
		metrics_counter(m, "depotd_repeats_total",
				"Requests whose Idempotency-Key was known.", "result=\"waited\"");
	core->repeats_refused =
		metrics_counter(m, "depotd_repeats_total",
				"Requests whose Idempotency-Key was known.", "result=\"refused\"");
	core->sweep_blocked =
		metrics_gauge(m, "depotd_sweep_blocked",
			      "The database is behind the data directory: nothing is swept.", NULL);
	core->sweep_failures =
		metrics_counter(m, "depotd_sweep_failures_total", "Sweeps that failed.", NULL);
}

static double commits_waiting(void *context)
{
	struct core *core = context;
	return (double)(batcher_depth(core->publisher) + committer_depth(core));
}

static double records_cached(void *context)
{
	struct core *core = context;
	return (double)cache_records(core->cache);
}

/* What is asked when somebody looks. */
static void register_gauges(struct core *core)
{
	struct metrics *m = core->config.metrics;
	if (!m)
		return;
	(void)metrics_gauge_fn(m, "depotd_commit_waiting",
			       "Requests whose files wait for a name, the journal or the database.",
			       NULL, commits_waiting, core);
	(void)metrics_gauge_fn(m, "depotd_cache_records", "File records kept in memory.", NULL,
			       records_cached, core);
}

/* The journal is replayed, and its rows tried once, before anything new comes. */
static int start_intake(struct core *core, struct err *err)
{
	struct core_recovery recovery;
	struct err ignored; /* rows that cannot be written now follow */
	if (pending_new(core, err) < 0 || unconfirmed_new(core, err) < 0 ||
	    intake_start(core, err) < 0 || intake_recover(core, &recovery, err) < 0)
		return -1;
	(void)pending_register(core, &ignored);
	if (recovery.records > 0 && core->config.recovered)
		core->config.recovered(core->config.recovered_context, &recovery);
	return checkpoint_start(core, err) < 0 ? -1 : pending_start(core, err);
}

int core_new(const struct core_config *config, struct metadata *metadata, struct blob_store *blobs,
	     struct core **out, struct err *err)
{
	struct core *core = calloc(1, sizeof(*core));
	if (!core)
		return err_set(err, ERR_NO_MEMORY, "core");
	core->config = *config;
	core->metadata = metadata;
	core->blobs = blobs;
	core->started_ms = clock_wall_ms();
	atomic_init(&core->descriptions_doubted_ns, 0);
	descriptions_doubt(core); /* a crash may be what ended the last run */
	atomic_init(&core->stopping, false);
	atomic_init(&core->small_bytes, 0);
	pthread_mutex_init(&core->committing_lock, NULL);
	pthread_mutex_init(&core->sweeping, NULL);
	for (size_t i = 0; i < DESCRIBE_STRIPES; i++)
		pthread_mutex_init(&core->describing[i], NULL);
	register_metrics(core, config->metrics);
	if (cache_new(config->cache_records, config->cache_bytes, &core->cache, err) < 0 ||
	    keys_new(&core->keys, err) < 0 || damage_new(core, err) < 0 ||
	    scrubber_new(core, err) < 0 || health_start(core, err) < 0 ||
	    start_intake(core, err) < 0 || committer_start(core, err) < 0) {
		core_free(&core);
		return -1;
	}
	register_gauges(core);
	metadata_on_change(metadata, on_change, core);
	*out = core;
	return 0;
}

void core_free(struct core **corep)
{
	struct core *core = *corep;
	if (!core)
		return;
	atomic_store(&core->stopping, true);
	scrubber_stop(core);
	sweeper_stop(core);
	committer_stop(core);
	pending_stop(core);
	intake_stop(core);
	unconfirmed_free(core);
	pending_free(core);
	metadata_on_change(core->metadata, NULL, NULL);
	health_stop(core);
	keys_free(&core->keys);
	cache_free(&core->cache);
	damage_free(core);
	for (size_t i = 0; i < DESCRIBE_STRIPES; i++)
		pthread_mutex_destroy(&core->describing[i]);
	pthread_mutex_destroy(&core->sweeping);
	pthread_mutex_destroy(&core->committing_lock);
	free(core);
	*corep = NULL;
}
