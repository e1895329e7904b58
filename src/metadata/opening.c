/*
 * A store that is opened although its server is away: one thread waits for the server, brings the schema up to date or checks
 * it, once, and only then lets calls through. Until then each is told why not.
 *
 * Any thread; `lock` guards what stands below it in the struct, and is not held while the database is asked.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store_private.h"

enum { PAUSE_MS = 250 };

struct opening {
	struct metadata *store;
	void (*tell)(void *context, const struct err *why);
	void *context;
	pthread_t thread;
	bool running;
	atomic_bool open;

	pthread_mutex_t lock;
	pthread_cond_t wake; /* stop was set; CLOCK_MONOTONIC */
	bool stop;
	struct err why; /* while it is not open */
};

static int bring_up(struct metadata *store, struct err *err)
{
	int from, to;

	if (store->ops->ping(store->driver, err) < 0)
		return -1;
	return store->migrate
		       ? migrate_up(store->ops, store->driver, store->statements, &from, &to, err)
		       : migrate_check(store->ops, store->driver, store->statements, err);
}

/* What calls are told: whatever is wrong with the database, it is not theirs. */
static void not_yet(struct opening *o, const struct err *err)
{
	bool news;

	pthread_mutex_lock(&o->lock);
	news = strcmp(o->why.message, err->message) != 0 && !o->stop;
	o->why = *err;
	o->why.kind = ERR_UNAVAILABLE;
	pthread_mutex_unlock(&o->lock);
	if (news && o->tell)
		o->tell(o->context, err);
}

/* True: stop. */
static bool pause_a_little(struct opening *o)
{
	struct timespec end;
	bool stop;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += PAUSE_MS * 1000000L;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	pthread_mutex_lock(&o->lock);
	while (!o->stop && pthread_cond_timedwait(&o->wake, &o->lock, &end) != ETIMEDOUT)
		;
	stop = o->stop;
	pthread_mutex_unlock(&o->lock);
	return stop;
}

static void *opening_thread(void *context)
{
	struct opening *o = context;
	struct err err;

	do {
		if (bring_up(o->store, &err) == 0) {
			atomic_store(&o->open, true);
			if (o->tell)
				o->tell(o->context, NULL);
			return NULL;
		}
		not_yet(o, &err);
	} while (!pause_a_little(o));
	return NULL;
}

static int start_thread(struct opening *o, struct err *err)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&o->thread, NULL, opening_thread, o);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "the thread that opens the database");
	}
	pthread_setname_np(o->thread, "metadata-open");
	o->running = true;
	return 0;
}

static struct opening *new_opening(struct metadata *store, const struct metadata_config *config)
{
	struct opening *o = calloc(1, sizeof(*o));
	pthread_condattr_t monotonic;

	if (!o)
		return NULL;
	o->store = store;
	o->tell = config->opening;
	o->context = config->opening_context;
	atomic_init(&o->open, false);
	pthread_mutex_init(&o->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&o->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return o;
}

int opening_begin(struct metadata *store, const struct metadata_config *config, struct err *err)
{
	struct opening *o;
	int rc = bring_up(store, err);

	/* A schema that is not for us is no outage: whoever starts us is there to hear it. */
	if (rc == 0 || !config->lazy ||
	    (err->kind != ERR_UNAVAILABLE && err->kind != ERR_UNKNOWN_OUTCOME))
		return rc;
	o = new_opening(store, config);
	if (!o)
		return err_set(err, ERR_NO_MEMORY, "opening the database");
	store->opening = o;
	not_yet(o, err);
	return start_thread(o, err);
}

int opening_again(struct metadata *store, struct err *err)
{
	int rc = migrate_present(store->ops, store->driver, store->statements, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	return bring_up(store, err);
}

void opening_end(struct metadata *store)
{
	struct opening *o = store->opening;

	store->opening = NULL;
	if (!o)
		return;
	pthread_mutex_lock(&o->lock);
	o->stop = true;
	pthread_cond_signal(&o->wake);
	pthread_mutex_unlock(&o->lock);
	if (o->running && store->ops->interrupt && !atomic_load(&o->open))
		store->ops->interrupt(store->driver);
	if (o->running)
		pthread_join(o->thread, NULL);
	pthread_cond_destroy(&o->wake);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

int opening_passed(const struct metadata *store, struct err *err)
{
	struct opening *o = store->opening;

	if (!o || atomic_load(&o->open))
		return 0;
	pthread_mutex_lock(&o->lock);
	*err = o->why;
	pthread_mutex_unlock(&o->lock);
	return -1;
}
