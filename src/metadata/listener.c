/*
 * Hears of changes by other nodes: LISTEN on a connection and a thread of its own, which reconnects for ever.
 *
 * A payload is "NODE ID,ID,…" (store.c writes it): NODE is who made the change, so that a node ignores itself. Whatever was
 * said while no connection listened is lost, so each time one begins to, "anything may have changed" is told.
 * A connection that nobody speaks on is asked now and then, since a dead server sends no goodbye.
 *
 * `lock` guards notified and context and is held while notified is called: it must not call the store.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum {
	PAYLOAD_MAX = 8000, /* PostgreSQL's own limit */
	PAUSE_FIRST_MS = 100,
	PAUSE_MAX_MS = 500,
	SILENCE_MAX_MS = 2000,
};

struct pg_listener {
	struct driver_config config;
	char node[UUID_TEXT_LEN + 1];
	int wake_fd; /* readable from pg_listener_free() on */
	bool running;
	pthread_t thread;

	pthread_mutex_t lock;
	notified_fn notified;
	void *context;
};

static void tell(struct pg_listener *l, const struct uuid *id)
{
	pthread_mutex_lock(&l->lock);
	if (l->notified)
		l->notified(l->context, id);
	pthread_mutex_unlock(&l->lock);
}

/* One payload; what is none of ours is passed over. */
static void take_payload(struct pg_listener *l, char *payload)
{
	char *rest = payload, *node = strsep(&rest, " "), *text;
	struct uuid id;

	if (!rest || strcmp(node, l->node) == 0)
		return;
	while ((text = strsep(&rest, ","))) {
		if (uuid_parse(text, &id))
			tell(l, &id);
	}
}

/* One time for everything here: to wait for an answer, and to be content with silence. */
static int64_t timeout_from_now(const struct pg_listener *l)
{
	int64_t ms = l->config.connect_timeout_ms;

	return clock_monotonic_ns() + (ms < SILENCE_MAX_MS ? ms : SILENCE_MAX_MS) * NS_PER_MS;
}

static int run_statement(struct pg_listener *l, struct pg_connection *c, const char *name,
			 struct err *err)
{
	const struct statement *statement = statements_find(l->config.statements, name);

	if (!statement)
		return err_set(err, ERR_INTERNAL, "no statement %s", name);
	return pg_script(c, statement->text, name, timeout_from_now(l), err);
}

/* Listens until the connection breaks (-1) or the listener is freed (0). */
static int listen_on(struct pg_listener *l, struct pg_connection *c, struct err *err)
{
	char payload[PAYLOAD_MAX];

	if (run_statement(l, c, "listen", err) < 0)
		return -1;
	tell(l, NULL);
	for (;;) {
		int rc = pg_wait(c, timeout_from_now(l), l->wake_fd, err);

		if (rc == 0)
			return 0;
		if (rc < 0 && !c->silent)
			return -1;
		if (rc < 0) { /* silence is what it should be; is anybody there? */
			c->lost = c->silent = false;
			if (run_statement(l, c, "ping", err) < 0)
				return -1;
		}
		if (!pg_is_alive(c))
			return -1;
		while (pg_notification(c, payload, sizeof(payload)))
			take_payload(l, payload);
	}
}

/* True when the listener is being freed. */
static bool pause_for(struct pg_listener *l, int64_t ms)
{
	struct pollfd fd = {.fd = l->wake_fd, .events = POLLIN};

	return poll(&fd, 1, (int)ms) > 0;
}

static void *listener_thread(void *context)
{
	struct pg_listener *l = context;
	struct pg_attempt how = {.config = &l->config,
				 .statement_timeout_ms = l->config.statement_timeout_ms,
				 .wake_fd = l->wake_fd};
	int64_t pause_ms = PAUSE_FIRST_MS;
	bool stopped = false;

	while (!stopped) {
		struct pg_connection *c = NULL;
		struct err err;

		if (pg_connect(&how, &c, &err) == 0) {
			pause_ms = PAUSE_FIRST_MS;
			stopped = listen_on(l, c, &err) == 0;
			pg_disconnect(&c);
		}
		stopped = stopped || pause_for(l, pause_ms);
		pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
	}
	return NULL;
}

int pg_listener_new(const struct driver_config *config, struct pg_listener **out, struct err *err)
{
	struct pg_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, ERR_NO_MEMORY, "listener");
	l->config = *config;
	uuid_format(&config->node, l->node);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0) {
		err_set_errno(err, ERR_INTERNAL, "eventfd");
		free(l);
		return -1;
	}
	pthread_mutex_init(&l->lock, NULL);
	*out = l;
	return 0;
}

void pg_listener_free(struct pg_listener **listener)
{
	struct pg_listener *l = *listener;

	*listener = NULL;
	if (!l)
		return;
	eventfd_write(l->wake_fd, 1);
	if (l->running)
		pthread_join(l->thread, NULL);
	close(l->wake_fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* The thread begins with the first who wants to hear: `depotd check` has no need of it. */
void pg_listener_tell(struct pg_listener *l, notified_fn notified, void *context)
{
	pthread_mutex_lock(&l->lock);
	l->notified = notified;
	l->context = context;
	if (notified && !l->running && pthread_create(&l->thread, NULL, listener_thread, l) == 0) {
		pthread_setname_np(l->thread, "pg-listen");
		l->running = true;
	}
	pthread_mutex_unlock(&l->lock);
}
