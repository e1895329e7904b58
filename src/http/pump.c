/*
 * The pump: one thread that waits for the sockets of suspended connections, holds every connection against its deadlines, and
 * reads and drops what clients still send after an answer that closes (a close over unread bytes would reset the connection, and
 * the client would never read that answer).
 *
 * The exchange's owner arms the pump as its last statement; when the socket is readable, or dead, the pump wakes the
 * exchange, which then belongs to a worker. A deadline is enforced by shutdown() on the socket, under server->lock while the
 * connection stands in server->conns, so never on a descriptor that was closed: whoever waits for the socket then sees its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "exchange_private.h"

enum {
	EVENTS = 64,
	TICK_MIN_MS = 20,
	TICK_MAX_MS = 500,
	LINGER_MAX = 256,             /* at once; past that a close is a close */
	LINGER_MS = 30 * 1000,        /* in all */
	LINGER_SILENCE_MS = 5 * 1000, /* without a byte */
	LINGER_READ = 1024 * 1024,
	DROP_BYTES = 64 * 1024,
	CROWD = 256, /* with more connections than this memory is looked after more often: */
	CROWD_TICK_MS = 30,
	CROWD_WALK = 64,    /* or a millisecond for so many: the walk itself must not cost */
	CROWD_SHARE = 1000, /* as many at once: others wait for the lock meanwhile */
};

struct lingerer {
	struct pump_source pump; /* first: the pump casts */
	struct lingerer *next;
	int fd;
	int64_t end_ms, silent_ms;
};

struct pump {
	struct http_server *server;
	pthread_t thread;
	int epoll_fd, wake_fd;
	struct pump_source wake;
	int64_t tick_ms;
	_Atomic int64_t last_ms;
	_Atomic bool stopping;
	_Atomic bool poked;
	pthread_mutex_t lock; /* guards lingering and its count */
	struct lingerer *lingering;
	unsigned linger_count;
};

static void wake(struct pump *p)
{
	uint64_t one = 1;
	(void)!write(p->wake_fd, &one, sizeof(one));
}

void pump_poke(struct pump *p)
{
	atomic_store(&p->poked, true);
	wake(p);
}

int64_t pump_tick(const struct pump *p)
{
	return atomic_load(&p->last_ms);
}

/* --- sockets of exchanges --- */

void pump_arm(struct exchange *x)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
				    .data.ptr = &x->pump};
	int op = x->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	x->in_epoll = true;
	atomic_store(&x->armed,
		     true); /* hands x over: everything before this is seen by the pump */
	if (epoll_ctl(x->server->pump->epoll_fd, op, x->conn->fd, &event) != 0)
		exchange_cancel(x); /* out of memory or of watches */
}

void pump_forget(struct exchange *x)
{
	if (x->in_epoll)
		(void)epoll_ctl(x->server->pump->epoll_fd, EPOLL_CTL_DEL, x->conn->fd, NULL);
	x->in_epoll = false;
}

/* --- lingering closes --- */

void pump_linger(struct pump *p, int fd)
{
	int64_t now = clock_monotonic_ms();
	pthread_mutex_lock(&p->lock);
	bool room = p->linger_count < LINGER_MAX;
	p->linger_count += room;
	pthread_mutex_unlock(&p->lock);
	struct lingerer *l = room ? calloc(1, sizeof(*l)) : NULL;
	if (l == NULL)
		goto full;
	*l = (struct lingerer){.pump.kind = PUMP_LINGER,
			       .end_ms = now + LINGER_MS,
			       .silent_ms = now + LINGER_SILENCE_MS};
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = &l->pump};
	if (l->fd < 0)
		goto full;
	pthread_mutex_lock(&p->lock);
	if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, l->fd, &event) == 0) {
		l->next = p->lingering;
		p->lingering = l;
		l = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	if (l == NULL)
		return;
	(void)close(l->fd);
full:
	free(l);
	if (room) {
		pthread_mutex_lock(&p->lock);
		p->linger_count--;
		pthread_mutex_unlock(&p->lock);
	}
}

static void linger_end(struct pump *p, struct lingerer *l)
{
	pthread_mutex_lock(&p->lock);
	struct lingerer **at = &p->lingering;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	p->linger_count--;
	pthread_mutex_unlock(&p->lock);
	/* Closing alone would leave it in the set while the event thread still has its own descriptor of the socket. */
	(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
	(void)close(l->fd);
	free(l);
}

static void linger_read(struct pump *p, struct lingerer *l)
{
	char dropped[DROP_BYTES]; /* thread-local it would be memory of every thread */
	for (size_t total = 0; total < LINGER_READ;) {
		ssize_t got = socket_read(l->fd, dropped, sizeof(dropped));
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (got <= 0) {
			linger_end(p, l);
			return;
		}
		total += (size_t)got;
		l->silent_ms = clock_monotonic_ms() + LINGER_SILENCE_MS;
	}
}

static void linger_expire(struct pump *p, int64_t now)
{
	struct lingerer *next;
	/* Others only push in front, so the list behind its head is this thread's. */
	pthread_mutex_lock(&p->lock);
	struct lingerer *l = p->lingering;
	pthread_mutex_unlock(&p->lock);
	for (; l != NULL; l = next) {
		next = l->next;
		if (now >= l->end_ms || now >= l->silent_ms)
			linger_end(p, l);
	}
}

/* --- deadlines --- */

/* Bytes of body that have come, those the kernel still holds included. */
static uint64_t bytes_received(const struct conn *c)
{
	int queued = 0;
	(void)ioctl(c->fd, FIONREAD, &queued);
	return atomic_load_explicit(&c->received, memory_order_relaxed) + (uint64_t)queued;
}

/* Bytes that the peer has acknowledged. */
static uint64_t bytes_acked(const struct conn *c)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	memset(&info, 0, sizeof(info));
	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return 0;
	return info.tcpi_bytes_acked;
}

/*
 * Whether the bytes of a body, either way, come too slowly: none, or under min_rate, over a window of idle_timeout. Windows
 * begin with the phase; a tick during the server's own turn begins a new one.
 */
static bool too_slow(struct conn *c, const struct http_config *config, int64_t since, int64_t now,
		     uint64_t (*moved)(const struct conn *c))
{
	bool fresh = c->mark_ms < since;
	if (!fresh && now - c->mark_ms < config->idle_timeout_ms)
		return false;
	uint64_t bytes = moved(c), before = c->mark_bytes;
	uint64_t due = (uint64_t)config->min_rate * (uint64_t)(now - c->mark_ms) / 1000;
	c->mark_ms = now;
	c->mark_bytes = bytes;
	return !fresh && (bytes <= before || bytes - before < due);
}

static bool is_overdue(struct conn *c, int64_t now)
{
	const struct http_server *server = c->server;
	const struct http_config *config = &server->config;
	int phase = atomic_load_explicit(&c->phase, memory_order_acquire);
	int64_t since = atomic_load_explicit(&c->since_ms, memory_order_relaxed);
	if (atomic_load_explicit(&server->stopping, memory_order_relaxed))
		return true;
	switch (phase) {
	case CONN_IDLE:
		if (atomic_load_explicit(&server->draining, memory_order_relaxed))
			return true;
		return now - since >=
		       (c->served ? config->idle_timeout_ms : config->header_timeout_ms);
	case CONN_HEAD:
		return now - since >= config->header_timeout_ms;
	case CONN_BODY:
		return too_slow(c, config, since, now, bytes_received);
	case CONN_SEND:
		return too_slow(c, config, since, now, bytes_acked);
	default:
		c->mark_ms = 0;
		return false;
	}
}

static bool peer_has_left(const struct conn *c)
{
	char byte;
	return recvfrom(c->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == 0;
}

/*
 * Once an idle time: gives the pages back, and looks whether the peer is still there. When its end came together with the
 * request, epoll told of both at once, before the answer, and never tells again.
 */
static bool look_after(struct conn *c, int64_t now)
{
	if (!conn_give_pages_back(c, now))
		return false;
	if (atomic_load_explicit(&c->phase, memory_order_relaxed) == CONN_IDLE && peer_has_left(c))
		(void)shutdown(c->fd, SHUT_RDWR);
	return true;
}

static void check_deadlines(struct pump *p, int64_t now)
{
	struct http_server *server = p->server;
	unsigned looked_after = 0;
	pthread_mutex_lock(&server->lock);
	for (struct conn *c = server->conns; c != NULL; c = c->next) {
		if (!is_overdue(c, now)) {
			looked_after += looked_after < CROWD_SHARE && look_after(c, now);
			continue;
		}
		account_refusal(server, REFUSED_DEADLINE);
		(void)shutdown(c->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&server->lock);
	linger_expire(p, now);
}

/* --- the thread --- */

static void dispatch(struct pump *p, struct pump_source *source)
{
	struct exchange *x;
	uint64_t count;
	switch (source->kind) {
	case PUMP_WAKE:
		(void)!read(p->wake_fd, &count, sizeof(count));
		return;
	case PUMP_EXCHANGE:
		x = (struct exchange *)(void *)source;
		if (atomic_exchange(&x->armed, false))
			exchange_wake(x);
		return;
	case PUMP_LINGER:
		linger_read(p, (struct lingerer *)(void *)source);
		return;
	}
}

/* How long until the next look at all connections. */
static int64_t tick_ms(const struct pump *p)
{
	size_t conns = atomic_load(&p->server->conn_count);
	if (conns <= CROWD)
		return p->tick_ms;
	int64_t tick = CROWD_TICK_MS + (int64_t)(conns / CROWD_WALK);
	return tick < p->tick_ms ? tick : p->tick_ms;
}

static void *pump_run(void *context)
{
	struct pump *p = context;
	struct epoll_event events[EVENTS];
	int64_t next_check = clock_monotonic_ms() + p->tick_ms;
	while (!atomic_load(&p->stopping)) {
		int64_t now = clock_monotonic_ms();
		atomic_store(&p->last_ms, now);
		int n = epoll_wait(p->epoll_fd, events, EVENTS,
				   next_check > now ? (int)(next_check - now) : 0);
		for (int i = 0; i < n; i++)
			dispatch(p, events[i].data.ptr);
		now = clock_monotonic_ms();
		if (now < next_check && !atomic_exchange(&p->poked, false))
			continue;
		check_deadlines(p, now);
		next_check = now + tick_ms(p);
	}
	return NULL;
}

int pump_new(struct http_server *server, struct pump **out, struct err *err)
{
	const struct http_config *config = &server->config;
	struct pump *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the pump");
	int64_t shortest = config->header_timeout_ms < config->idle_timeout_ms
				   ? config->header_timeout_ms
				   : config->idle_timeout_ms;
	p->tick_ms = shortest / 4 < TICK_MIN_MS   ? TICK_MIN_MS
		     : shortest / 4 > TICK_MAX_MS ? TICK_MAX_MS
						  : shortest / 4;
	p->server = server;
	p->wake.kind = PUMP_WAKE;
	pthread_mutex_init(&p->lock, NULL);
	atomic_store(&p->last_ms, clock_monotonic_ms());
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &p->wake};
	int failed = p->epoll_fd < 0 || p->wake_fd < 0 ? errno : 0;
	if (failed == 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &event) != 0)
		failed = errno;
	if (failed == 0)
		failed = pthread_create(&p->thread, NULL, pump_run, p);
	if (failed == 0) {
		(void)pthread_setname_np(p->thread, "http-pump");
		*out = p;
		return 0;
	}
	if (p->epoll_fd >= 0)
		(void)close(p->epoll_fd);
	if (p->wake_fd >= 0)
		(void)close(p->wake_fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
	errno = failed;
	return err_set_errno(err, ERR_INTERNAL, "cannot start the pump");
}

void pump_free(struct pump **pump)
{
	struct pump *p = *pump;
	*pump = NULL;
	if (p == NULL)
		return;
	atomic_store(&p->stopping, true);
	wake(p);
	(void)pthread_join(p->thread, NULL);
	while (p->lingering != NULL)
		linger_end(p, p->lingering);
	(void)close(p->epoll_fd);
	(void)close(p->wake_fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
