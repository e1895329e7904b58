/*
 * The server's life, and libmicrohttpd's callbacks. Everything public here is for app's main thread, but
 * http_server_alive(); callbacks run on event threads.
 *
 * Stopping is safe because of two counts: `suspended` must be 0 before libmicrohttpd may be stopped, `exchanges` before the
 * server's memory may go.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "depotd/base/log.h"
#include "depotd/base/processors.h"
#include "exchange_private.h"

enum {
	EVENT_THREADS_MAX = 4,
	EVENT_STACK = 256 * 1024,
	CONNECTIONS_SLACK = 256, /* so many past the limit are told 503; more are closed unheard */
};

struct event_thread *server_thread(struct http_server *server)
{
	static _Thread_local struct event_thread
		*self; /* a thread of libmicrohttpd's has one server all its life */
	if (self == NULL || self->server != server) {
		self = calloc(1, sizeof(*self));
		if (self == NULL)
			return NULL;
		self->server = server;
		pthread_mutex_lock(&server->lock);
		self->next = server->threads;
		server->threads = self;
		pthread_mutex_unlock(&server->lock);
	}
	return self;
}

struct event_thread *server_enter(struct http_server *server)
{
	struct event_thread *self = server_thread(server);
	if (self != NULL)
		atomic_store_explicit(&self->busy_since_ms, clock_monotonic_ms(),
				      memory_order_relaxed);
	return self;
}

void server_leave(struct event_thread *self)
{
	if (self != NULL)
		atomic_store_explicit(&self->busy_since_ms, 0, memory_order_relaxed);
}

static mhd_result on_request(void *context, struct MHD_Connection *mhd, const char *url,
			     const char *method, const char *version, const char *data, size_t *n,
			     void **exchange)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *c = info != NULL ? info->socket_context : NULL;
	(void)context, (void)url, (void)method, (void)version, (void)data, (void)n;
	if (c == NULL || c->x == NULL) {
		log_event(LOG_LEVEL_ERROR, NULL,
			  "libmicrohttpd does not read through the gate: request refused");
		return MHD_NO;
	}
	*exchange = c->x;
	return exchange_step(c->x);
}

static void on_completed(void *context, struct MHD_Connection *mhd, void **exchange,
			 enum MHD_RequestTerminationCode code)
{
	struct exchange *x = *exchange;
	(void)context, (void)mhd;
	*exchange = NULL;
	if (x != NULL)
		exchange_ended(x, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = conn_new(context, mhd);
		return;
	}
	struct conn *c = *socket_context;
	*socket_context = NULL;
	if (c == NULL) {
		const union MHD_ConnectionInfo *fd =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
		gate_close(fd->connect_fd);
		return;
	}
	if (c->x != NULL) /* libmicrohttpd never asked about it */
		exchange_ended(c->x, false);
	conn_free(c);
}

/* Far past the limit not even a 503 is worth the descriptor. */
static mhd_result on_accept(void *context, const struct sockaddr *address, socklen_t len)
{
	struct http_server *server = context;
	(void)address, (void)len;
	if (atomic_load(&server->conn_count) <
	    (size_t)server->config.max_connections + CONNECTIONS_SLACK)
		return MHD_YES;
	account_refusal(server, REFUSED_CONNECTIONS);
	return MHD_NO;
}

int http_server_new(const struct http_config *config, const struct http_route *routes,
		    void *context, struct http_server **out, struct err *err)
{
	struct http_server *server = calloc(1, sizeof(*server));
	if (server == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the HTTP server");
	server->config = *config;
	server->context = context;
	server->processors = processors();
	server->request_base = uuid_new();
	pthread_mutex_init(&server->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&server->quiet, &monotonic);
	pthread_condattr_destroy(&monotonic);
	server->account = account_new(server);
	if (server->account == NULL)
		(void)err_set(err, ERR_NO_MEMORY, "no memory for the HTTP server");
	if (server->account == NULL || gate_init(err) != 0 ||
	    router_new(routes, &server->router, err) != 0 || addresses_init(server, err) != 0 ||
	    buffers_new(config->buffer_bytes, &server->buffers, err) != 0 ||
	    pump_new(server, &server->pump, err) != 0) {
		http_server_free(&server);
		return -1;
	}
	*out = server;
	return 0;
}

static unsigned event_threads(const struct http_server *server)
{
	if (server->config.event_threads > 0)
		return server->config.event_threads;
	return server->processors < EVENT_THREADS_MAX ? (unsigned)server->processors
						      : EVENT_THREADS_MAX;
}

static int listener_start(struct http_server *server, struct listener *l, struct err *err)
{
	unsigned threads = event_threads(server);
	/* The ceiling is ours to keep, over all listeners; libmicrohttpd divides its own among its threads. */
	unsigned limit = (server->config.max_connections + 2 * CONNECTIONS_SLACK) * threads;
	struct MHD_OptionItem more[] = {
		{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	if (threads == 1)
		more[0].option = MHD_OPTION_END;
	l->daemon = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, on_accept, server,
		on_request, server, MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
		MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_TIMEOUT, 0U,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_MEMORY,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)EVENT_STACK, MHD_OPTION_ARRAY, more,
		MHD_OPTION_END);
	if (l->daemon == NULL)
		return err_set_errno(err, ERR_INTERNAL, "libmicrohttpd cannot serve %s",
				     l->address);
	l->fd = -1;
	return 0;
}

int http_server_start(struct http_server *server, struct err *err)
{
	for (size_t i = 0; i < server->listener_count; i++) {
		if (listener_start(server, &server->listeners[i], err) != 0)
			return -1;
	}
	server->started = true;
	return 0;
}

/*
 * Who connects from now on is refused: something that never becomes readable takes the place of the listening socket, which
 * closes and so leaves every epoll set. MHD_quiesce_daemon() of 0.9.75 takes the socket out of the sets itself, races with its
 * own threads that do the same, and ends the process when it comes second. Not for a socket of systemd's, which stays open
 * there: the next depotd is to find those who wait in its queue.
 */
static bool listener_deafen(struct listener *l)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_LISTEN_FD);
	int deaf = info != NULL ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (deaf < 0)
		return false;
	bool done = dup3(deaf, info->listen_fd, O_CLOEXEC) >= 0;
	(void)close(deaf);
	return done;
}

void http_server_quiesce(struct http_server *server)
{
	if (atomic_exchange(&server->quiescing, true))
		return;
	for (size_t i = 0; i < server->listener_count; i++) {
		struct listener *l = &server->listeners[i];
		if (l->daemon == NULL)
			continue;
		if (l->inherited || !listener_deafen(l))
			l->fd = MHD_quiesce_daemon(l->daemon);
	}
}

/*
 * `stopping` is set before `suspended` is waited for, and here they are touched in the opposite order: either this sees the
 * one, or http_server_free() the other.
 */
bool server_may_suspend(struct http_server *server)
{
	(void)atomic_fetch_add(&server->suspended, 1);
	if (!atomic_load(&server->stopping))
		return true;
	server_count_down(server, &server->suspended);
	return false;
}

/* A count falls to 0 under the lock alone, so that whoever sees that under the lock may free the server. */
void server_count_down(struct http_server *server, _Atomic int64_t *count)
{
	int64_t before = atomic_load(count);
	while (before > 1) {
		if (atomic_compare_exchange_weak(count, &before, before - 1))
			return;
	}
	pthread_mutex_lock(&server->lock);
	if (atomic_fetch_sub(count, 1) == 1)
		pthread_cond_broadcast(&server->quiet);
	pthread_mutex_unlock(&server->lock);
}

/* Waits until a count is 0, at most until the deadline (INT64_MAX: without one). */
static bool wait_for_zero(struct http_server *server, _Atomic int64_t *count, int64_t deadline_ms)
{
	bool zero;
	pthread_mutex_lock(&server->lock);
	while (!(zero = atomic_load(count) == 0) && clock_monotonic_ms() < deadline_ms) {
		int64_t until = clock_monotonic_ms() + 1000 < deadline_ms
					? clock_monotonic_ms() + 1000
					: deadline_ms;
		struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
		(void)pthread_cond_timedwait(&server->quiet, &server->lock, &at);
	}
	pthread_mutex_unlock(&server->lock);
	return zero;
}

bool http_server_drain(struct http_server *server, int64_t timeout_ms)
{
	atomic_store(&server->draining, true);
	pump_poke(server->pump);
	return wait_for_zero(server, &server->exchanges, clock_monotonic_ms() + timeout_ms);
}

static void stop_daemons(struct http_server *server)
{
	for (size_t i = 0; i < server->listener_count; i++) {
		struct listener *l = &server->listeners[i];
		if (l->daemon != NULL)
			MHD_stop_daemon(l->daemon);
		l->daemon = NULL;
	}
}

void http_server_free(struct http_server **server_place)
{
	struct http_server *server = *server_place;
	if (server == NULL)
		return;
	*server_place = NULL;
	http_server_quiesce(server);
	atomic_store(&server->stopping, true);
	if (server->pump != NULL) {
		pump_poke(server->pump);
		/* Sockets are shut down now, so whoever waits for one wakes up and cancels; who works, ends. */
		(void)wait_for_zero(server, &server->suspended, INT64_MAX);
		stop_daemons(server);
		(void)wait_for_zero(server, &server->exchanges, INT64_MAX);
	}
	pump_free(&server->pump);
	buffers_free(&server->buffers);
	listeners_close(server);
	router_free(&server->router);
	addresses_release(server);
	for (struct event_thread *t = server->threads, *next; t != NULL; t = next) {
		next = t->next;
		free(t);
	}
	account_free(&server->account);
	pthread_cond_destroy(&server->quiet);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

bool http_server_alive(const struct http_server *server, int64_t max_age_ms)
{
	/* The lock is no part of what is promised not to change. */
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&server->lock;
	int64_t now = clock_monotonic_ms();
	bool alive = now - pump_tick(server->pump) <= max_age_ms;
	pthread_mutex_lock(lock);
	for (const struct event_thread *t = server->threads; t != NULL; t = t->next) {
		int64_t since = atomic_load_explicit(&t->busy_since_ms, memory_order_relaxed);
		alive = alive && (since == 0 || now - since <= max_age_ms);
	}
	pthread_mutex_unlock(lock);
	return alive;
}
