/*
 * Connections on demand, and the one opinion on whether the server is there.
 *
 * One thread connects, so that neither a name server nor a black hole holds up a caller past its deadline, and so that a
 * thousand callers do not storm a server that is coming back. What is held:
 *
 *   UP        callers take an idle connection or wait for one
 *   SUSPECT   a connection has been silent for a while, or the server takes no changes any more, or nobody has connected yet:
 *             the thread connects anew, callers wait for what comes of it, but not past the verdict's time
 *   DOWN      it failed, or that time is over: every connection is given up, callers fail at once, the thread tries again, with
 *             short pauses, until it succeeds
 *
 * So the first caller who meets a server that is gone learns it after patience and verdict, three seconds as the defaults are,
 * while one who runs a slow statement on a server that is well goes on waiting.
 * A connection that the server closes (poll() tells, without waiting) is replaced without suspicion.
 * Any thread. `lock` guards everything below it in the struct and is never held during I/O.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum {
	PAUSE_FIRST_MS = 50,
	PAUSE_MAX_MS = 500,
	PATIENCE_MAX_MS = 1000, /* with silence, or a quarter of what a statement may take */
	VERDICT_MAX_MS = 2000,  /* from suspicion to DOWN, or what connecting may take */
};

enum pool_state {
	POOL_UP,      /* the last thing the server did was to answer */
	POOL_SUSPECT, /* it did not: nobody knows */
	POOL_DOWN,    /* nor did it let us connect; `why` has the reason */
};

struct pg_pool {
	struct driver_config config;
	pthread_t thread;
	int wake_fd; /* readable when the pool is being freed: ends an attempt */
	struct metric *open, *attempts, *failures;
	unsigned favourite; /* the thread's: which host let us in last */
	int64_t patience_ms, verdict_ms;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* for callers: a connection is idle, or the state is another */
	pthread_cond_t wanted;  /* for the thread */
	enum pool_state state;
	struct err why;             /* of DOWN */
	struct pg_connection *idle; /* the last given back first: the others grow old together */
	size_t idle_count, total;   /* total: idle and in use */
	size_t waiting;             /* callers */
	unsigned generation;        /* of connections; those of an older one are given up */
	int64_t server;             /* which one, as the last connection said */
	int64_t heard_ns;           /* when the server last let us connect */
	int64_t verdict_ns;         /* SUSPECT is DOWN from then on */
	unsigned long finished;     /* attempts that have ended */
	int64_t next_attempt_ns;    /* none before */
	int64_t pause_ms;
	bool stop;
};

static struct timespec until(int64_t deadline_ns)
{
	return (struct timespec){.tv_sec = deadline_ns / 1000000000,
				 .tv_nsec = deadline_ns % 1000000000};
}

/* --- the connecting thread --- */

/* What a state that is not UP wants is an answer, even if all connections of the pool are stuck in use. */
static bool wants_connection(const struct pg_pool *p)
{
	if (p->state != POOL_UP)
		return true;
	return p->waiting > p->idle_count && p->total < p->config.connections;
}

static void forget(struct pg_pool *p, struct pg_connection *c);

/* All connections that were made before are given up, whoever has them. */
static void turn_generation(struct pg_pool *p)
{
	struct pg_connection *old = p->idle, *c;

	p->generation++;
	p->idle = NULL;
	p->idle_count = 0;
	while ((c = old)) { /* the lock is left in between, and newer ones may come */
		old = c->next;
		forget(p, c);
	}
}

static void go_down(struct pg_pool *p, const struct err *why)
{
	bool news = p->state != POOL_DOWN;

	p->why = *why;
	p->state = POOL_DOWN;
	pthread_cond_broadcast(&p->changed);
	if (news)
		turn_generation(p);
}

/* What time has decided meanwhile. */
static void settle(struct pg_pool *p)
{
	struct err why;

	if (p->state != POOL_SUSPECT || clock_monotonic_ns() < p->verdict_ns)
		return;
	err_clear(&why);
	(void)(err_set)(&why, ERR_UNAVAILABLE, "PostgreSQL: no answer in time");
	go_down(p, &why);
}

static void suspect(struct pg_pool *p)
{
	if (p->state != POOL_UP)
		return;
	p->state = POOL_SUSPECT;
	p->verdict_ns = clock_monotonic_ns() + p->verdict_ms * NS_PER_MS;
	p->next_attempt_ns = 0;
	pthread_cond_signal(&p->wanted);
}

static void attempt_succeeded(struct pg_pool *p, struct pg_connection *c)
{
	if (c->server != p->server)
		turn_generation(p); /* what leads elsewhere leads nowhere any more */
	p->server = c->server;
	c->pool = p;
	c->patience_ms = p->patience_ms;
	c->generation = p->generation;
	c->next = p->idle;
	p->idle = c;
	p->idle_count++;
	p->total++;
	p->state = POOL_UP;
	p->heard_ns = clock_monotonic_ns();
	p->pause_ms = PAUSE_FIRST_MS;
	p->next_attempt_ns = 0;
	metric_set(p->open, (int64_t)p->total);
}

static void attempt_failed(struct pg_pool *p, bool crowded, const struct err *err)
{
	/* A pause between half and all of pause_ms, so that nodes do not knock in step. */
	int64_t jitter_ns = clock_monotonic_ns() % (p->pause_ms * NS_PER_MS / 2 + 1);

	p->next_attempt_ns = clock_monotonic_ns() + p->pause_ms * NS_PER_MS / 2 + jitter_ns;
	p->pause_ms = p->pause_ms * 2 < PAUSE_MAX_MS ? p->pause_ms * 2 : PAUSE_MAX_MS;
	metric_add(p->failures, 1);
	if (crowded && p->total > 0 && p->state == POOL_SUSPECT) {
		/* It has no place for one more, but it answered: those that we have may be well. */
		p->state = POOL_UP;
		p->heard_ns = clock_monotonic_ns();
	} else if (p->state != POOL_UP || p->total == 0) {
		go_down(p, err);
	}
}

/* Called and returns with the lock held. */
static void attempt(struct pg_pool *p)
{
	struct pg_attempt how = {.config = &p->config,
				 .statement_timeout_ms =
					 p->config.statement_timeout_ms * 9 / 10 + 1,
				 .wake_fd = p->wake_fd,
				 .favourite = p->favourite};
	struct pg_connection *c = NULL;
	struct err err;
	int rc;

	pthread_mutex_unlock(&p->lock);
	metric_add(p->attempts, 1);
	rc = pg_connect(&how, &c, &err);
	pthread_mutex_lock(&p->lock);
	p->favourite = how.favourite;
	if (rc == 0)
		attempt_succeeded(p, c);
	else if (err.kind != ERR_CANCELLED)
		attempt_failed(p, how.crowded, &err);
	p->finished++;
	pthread_cond_broadcast(&p->changed);
}

static void *connect_thread(void *context)
{
	struct pg_pool *p = context;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct timespec pause_end = until(p->next_attempt_ns);

		if (!wants_connection(p))
			pthread_cond_wait(&p->wanted, &p->lock);
		else if (clock_monotonic_ns() < p->next_attempt_ns)
			pthread_cond_timedwait(&p->wanted, &p->lock, &pause_end);
		else
			attempt(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* --- for callers --- */

static struct pg_connection *pop(struct pg_pool *p)
{
	struct pg_connection *c = p->idle;

	if (c) {
		p->idle = c->next;
		p->idle_count--;
		c->next = NULL;
	}
	return c;
}

/* Waits until there may be something to take. 0, or -1 the deadline passed. */
static int wait_for_change(struct pg_pool *p, int64_t deadline_ns)
{
	struct timespec end = until(deadline_ns);
	int rc;

	p->waiting++;
	pthread_cond_signal(&p->wanted);
	rc = pthread_cond_timedwait(&p->changed, &p->lock, &end);
	p->waiting--;
	return rc == 0 ? 0 : -1;
}

/* Of a pool that is DOWN: has the thread try now, and waits for the end of an attempt that began after this call. */
static void force_attempt(struct pg_pool *p, int64_t deadline_ns)
{
	unsigned long target = p->finished + 1;

	p->next_attempt_ns = 0;
	while (p->state == POOL_DOWN && p->finished < target && !p->stop) {
		if (wait_for_change(p, deadline_ns) < 0)
			return;
	}
}

/* While the server is suspected nobody is sent to it. */
static struct pg_connection *pop_unless_suspect(struct pg_pool *p)
{
	settle(p);
	return p->state == POOL_SUSPECT ? NULL : pop(p);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* An idle connection, or NULL with err set. The lock is held. */
static struct pg_connection *take_idle(struct pg_pool *p, int64_t deadline_ns, struct err *err)
{
	struct pg_connection *c;

	while (!(c = pop_unless_suspect(p))) {
		bool doubtful = p->state == POOL_SUSPECT;

		if (p->stop) {
			err_set(err, ERR_CANCELLED, "PostgreSQL: the pool is closed");
			return NULL;
		}
		if (p->state == POOL_DOWN) {
			*err = p->why;
			return NULL;
		}
		if (wait_for_change(p, doubtful ? earlier(deadline_ns, p->verdict_ns)
						: deadline_ns) == 0 ||
		    clock_monotonic_ns() < deadline_ns)
			continue;
		if (p->state == POOL_UP)
			err_set(err, ERR_UNAVAILABLE, "PostgreSQL: all %zu connections are busy",
				p->total);
		else
			err_set(err, ERR_UNAVAILABLE, "PostgreSQL: no connection in time");
		return NULL;
	}
	return c;
}

static void forget(struct pg_pool *p, struct pg_connection *c)
{
	pthread_mutex_unlock(&p->lock);
	pg_disconnect(&c);
	pthread_mutex_lock(&p->lock);
	p->total--;
	metric_set(p->open, (int64_t)p->total);
	pthread_cond_signal(&p->wanted);
}

struct pg_connection *pg_pool_take(struct pg_pool *p, int64_t deadline_ns, bool force,
				   struct err *err)
{
	struct pg_connection *c;

	pthread_mutex_lock(&p->lock);
	if (force && p->state == POOL_DOWN)
		force_attempt(p, deadline_ns);
	while ((c = take_idle(p, deadline_ns, err)) && !pg_is_alive(c))
		forget(p, c);
	pthread_mutex_unlock(&p->lock);
	return c;
}

bool pg_pool_doubt(struct pg_pool *p, const struct pg_connection *c)
{
	bool gone;

	pthread_mutex_lock(&p->lock);
	/* Who has connected since this one fell silent knows better than its silence. */
	if (clock_monotonic_ns() - p->heard_ns >= p->patience_ms * NS_PER_MS)
		suspect(p);
	settle(p);
	gone = p->stop || p->state == POOL_DOWN || c->generation != p->generation;
	pthread_mutex_unlock(&p->lock);
	return gone;
}

void pg_pool_watch(struct pg_pool *p, struct pg_connection *c, int64_t patience_ms)
{
	pthread_mutex_lock(&p->lock);
	c->pool = p;
	c->patience_ms = patience_ms;
	c->generation = p->generation;
	pthread_mutex_unlock(&p->lock);
}

void pg_pool_give(struct pg_pool *p, struct pg_connection *c)
{
	pg_look_for_demotion(c);
	pthread_mutex_lock(&p->lock);
	/* The others lead to the same server; and if that is well, it is the network that swallows them. */
	if (c->lost && (c->silent || c->demoted) && c->generation == p->generation) {
		suspect(p);
		turn_generation(p);
	}
	if (c->lost || c->generation != p->generation || p->total > p->config.connections) {
		forget(p, c);
	} else {
		c->next = p->idle;
		p->idle = c;
		p->idle_count++;
	}
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void pg_pool_interrupt(struct pg_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->wanted);
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	eventfd_write(p->wake_fd, 1);
}

int pg_pool_wake_fd(const struct pg_pool *p)
{
	return p->wake_fd;
}

/* --- making and ending --- */

static void add_metrics(struct pg_pool *p, struct metrics *m)
{
	if (!m)
		return;
	p->open = metrics_gauge(m, "depotd_database_connections", "Open connections of the pool.",
				NULL);
	p->attempts =
		metrics_counter(m, "depotd_database_connects_total", "Attempts to connect.", NULL);
	p->failures = metrics_counter(m, "depotd_database_connect_failures_total",
				      "Attempts to connect that failed.", NULL);
}

int pg_pool_new(const struct driver_config *config, struct pg_pool **out, struct err *err)
{
	struct pg_pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t monotonic;

	if (!p)
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL pool");
	p->config = *config;
	p->config.connections = config->connections > 0 ? config->connections : 1;
	p->pause_ms = PAUSE_FIRST_MS;
	p->patience_ms = earlier(config->statement_timeout_ms / 4 + 1, PATIENCE_MAX_MS);
	p->verdict_ms = earlier(config->connect_timeout_ms, VERDICT_MAX_MS);
	/* Who insists on the first connection waits for the first attempt to end, however long it takes. */
	p->state = POOL_SUSPECT;
	p->verdict_ns = config->lazy ? clock_monotonic_ns() + p->verdict_ms * NS_PER_MS : INT64_MAX;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0) {
		err_set_errno(err, ERR_INTERNAL, "eventfd");
		free(p);
		return -1;
	}
	add_metrics(p, config->metrics);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &monotonic);
	pthread_cond_init(&p->wanted, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&p->thread, NULL, connect_thread, p) != 0) {
		p->stop = true;
		close(p->wake_fd);
		free(p);
		return err_set(err, ERR_NO_MEMORY, "the thread that connects to PostgreSQL");
	}
	pthread_setname_np(p->thread, "pg-connect");
	*out = p;
	return 0;
}

void pg_pool_free(struct pg_pool **pool)
{
	struct pg_pool *p = *pool;
	struct pg_connection *c;

	*pool = NULL;
	if (!p)
		return;
	pg_pool_interrupt(p);
	pthread_join(p->thread, NULL);
	while ((c = pop(p)))
		pg_disconnect(&c);
	close(p->wake_fd);
	pthread_cond_destroy(&p->changed);
	pthread_cond_destroy(&p->wanted);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
