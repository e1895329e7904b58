/*
 * Whether data directory and database answer, found out in the background, so that nobody who asks ever waits.
 *
 * Each has its own thread: a stalled one does not hide what is known of the other, and after STALL_NS without an answer it counts
 * as away. A full disk is no failure (downloads and removals go on): core_admit() says it to uploads.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "depotd/base/clock.h"

#include "intake_private.h"

#define SECOND_NS INT64_C(1000000000)

enum { STALL_SECONDS = 5, PROBE_EVERY = 5 };

struct probe {
	struct core *core;
	/* One look, a thorough one if `now`; fills err where it returns -1. */
	int (*look)(struct core *core, bool now, struct err *err);
	pthread_t thread;
	bool running;         /* the thread was started */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;  /* stopping or hurry was set */
	bool stopping;
	bool hurry; /* wake is signalled: the next look is now */
	bool ok;
	struct err err;        /* when not ok */
	int64_t looking_since; /* monotonic ns, 0 while it does not look */
	int64_t held_until;    /* monotonic ns: not ok before, whatever is found */
};

struct health {
	struct probe data, database;
	struct metric *data_up, *database_up, *free_bytes, *total_bytes;
};

/* The space each second, a written and synced probe now and then, and at once when something is wrong. */
static int look_at_data(struct core *core, bool now, struct err *err)
{
	struct health *health = core->health;
	struct blob_space space;
	if (blob_space(core->blobs, &space, err) < 0)
		return -1;
	metric_set(health->free_bytes, space.free);
	metric_set(health->total_bytes, space.total);
	if (!now || space.free == 0 || blob_probe(core->blobs, err) == 0)
		return 0;
	return err->kind == ERR_DISK_FULL ? 0 : -1;
}

static int look_at_database(struct core *core, bool now, struct err *err)
{
	(void)now;
	return metadata_ping(core->metadata, err);
}

/* Waits a second, or until stopped or called. True: stop. Under the lock. */
static bool pause_locked(struct probe *probe)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	while (!probe->stopping && !probe->hurry &&
	       pthread_cond_timedwait(&probe->wake, &probe->lock, &until) != ETIMEDOUT)
		;
	probe->hurry = false;
	return probe->stopping;
}

static void *probe_thread(void *context)
{
	struct probe *probe = context;
	struct err err;
	pthread_mutex_lock(&probe->lock);
	for (unsigned round = 0; !probe->stopping; round++) {
		bool now = round % PROBE_EVERY == 0 || !probe->ok;
		probe->looking_since = clock_monotonic_ns();
		pthread_mutex_unlock(&probe->lock);
		err_clear(&err);
		int rc = probe->look(probe->core, now, &err);
		pthread_mutex_lock(&probe->lock);
		probe->looking_since = 0;
		if (rc < 0 || clock_monotonic_ns() >= probe->held_until) {
			probe->ok = rc == 0;
			probe->err = err;
		}
		struct health *health = probe->core->health;
		metric_set(probe == &health->data ? health->data_up : health->database_up,
			   probe->ok);
		if (pause_locked(probe))
			break;
	}
	pthread_mutex_unlock(&probe->lock);
	return NULL;
}

static int probe_start(struct probe *probe, const char *name, struct err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&probe->thread, NULL, probe_thread, probe);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the probe of the %s", name);
	}
	pthread_setname_np(probe->thread, name);
	probe->running = true;
	return 0;
}

static void probe_init(struct probe *probe, struct core *core,
		       int (*look)(struct core *, bool, struct err *))
{
	pthread_condattr_t monotonic;
	probe->core = core;
	probe->look = look;
	probe->ok = true; /* it was opened just now */
	pthread_mutex_init(&probe->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&probe->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static void probe_stop(struct probe *probe)
{
	pthread_mutex_lock(&probe->lock);
	probe->stopping = true;
	pthread_cond_signal(&probe->wake);
	pthread_mutex_unlock(&probe->lock);
	if (probe->running)
		pthread_join(probe->thread, NULL);
	pthread_cond_destroy(&probe->wake);
	pthread_mutex_destroy(&probe->lock);
}

static void register_metrics(struct health *health, struct metrics *m)
{
	if (!m)
		return;
	health->data_up =
		metrics_gauge(m, "depotd_data_up", "The data directory takes bytes.", NULL);
	health->database_up = metrics_gauge(m, "depotd_database_up", "The database answers.", NULL);
	health->free_bytes = metrics_gauge(m, "depotd_data_free_bytes",
					   "Bytes that can be stored above the reserve.", NULL);
	health->total_bytes = metrics_gauge(m, "depotd_data_total_bytes",
					    "Bytes of the data directory's file system.", NULL);
}

int health_start(struct core *core, struct err *err)
{
	struct health *health = calloc(1, sizeof(*health));
	if (!health)
		return err_set(err, ERR_NO_MEMORY, "health");
	core->health = health;
	register_metrics(health, core->config.metrics);
	probe_init(&health->data, core, look_at_data);
	probe_init(&health->database, core, look_at_database);
	health->database.ok = metadata_is_open(core->metadata, &health->database.err);
	if (probe_start(&health->data, "probe data", err) < 0 ||
	    probe_start(&health->database, "probe database", err) < 0)
		return -1; /* core_free() stops what runs */
	return 0;
}

void health_stop(struct core *core)
{
	if (!core->health)
		return;
	probe_stop(&core->health->data);
	probe_stop(&core->health->database);
	free(core->health);
	core->health = NULL;
}

void health_note_io_failure(struct core *core, const struct err *err)
{
	struct probe *data = &core->health->data;
	pthread_mutex_lock(&data->lock);
	data->ok = false;
	data->err = *err;
	/* Mounted read-only is not a disk that loses writes: the probe knows when it is over. */
	if (err->sys_errno != EROFS)
		data->held_until =
			clock_monotonic_ns() + core->config.failure_hold_ms * (SECOND_NS / 1000);
	pthread_mutex_unlock(&data->lock);
}

/* Nobody who was told that it is away hears that it answers, until the probe, called now, has asked it again. */
void health_note_database(struct core *core, const struct err *err)
{
	if (!core->health || (err->kind != ERR_UNAVAILABLE && err->kind != ERR_UNKNOWN_OUTCOME))
		return;
	struct probe *database = &core->health->database;
	pthread_mutex_lock(&database->lock);
	if (database->ok) { /* else it is asked each second anyway */
		database->ok = false;
		database->err = *err;
		database->hurry = true;
		metric_set(core->health->database_up, 0);
		pthread_cond_signal(&database->wake);
	}
	pthread_mutex_unlock(&database->lock);
}

static bool probe_result(struct probe *probe, const char *what, struct err *err)
{
	pthread_mutex_lock(&probe->lock);
	bool ok = probe->ok;
	*err = probe->err;
	int64_t since = probe->looking_since;
	pthread_mutex_unlock(&probe->lock);
	if (ok && since != 0 && clock_monotonic_ns() - since > STALL_SECONDS * SECOND_NS) {
		ok = false;
		err_set(err, ERR_UNAVAILABLE, "%s has not answered for %d s", what, STALL_SECONDS);
	}
	return ok;
}

void core_health(struct core *core, struct core_health *out)
{
	out->data_ok = probe_result(&core->health->data, "the data directory", &out->data_err);
	out->database_ok =
		probe_result(&core->health->database, "the database", &out->database_err);
}

int core_admit(struct core *core, int64_t size, struct blob_reservation *room, struct err *err)
{
	struct err why;
	if (!probe_result(&core->health->data, "the data directory", &why))
		return err_set(err, ERR_UNAVAILABLE, "no uploads now: %s", why.message);
	if (pending_full(core)) /* without the database they go on, but not for ever */
		return err_set(err, ERR_UNAVAILABLE,
			       "no uploads now: too many files wait for the database");
	return blob_reserve(core->blobs, size, room, err);
}

void core_admit_end(struct core *core, struct blob_reservation *room)
{
	blob_unreserve(core->blobs, room);
}
