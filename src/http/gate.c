/*
 * The gate: libmicrohttpd reads its sockets through us.
 *
 * libmicrohttpd 0.9.75 takes what RFC 9112 says to refuse (of 226 malformed requests it accepts 122 and lets 12 hide a second
 * request), shows the application neither line ends nor chunk framing, reads a body 4 KiB or so at a time and cannot be told
 * that somebody else has read it. So a request's bytes are taken off the socket here: the head is parsed strictly (head.c), the
 * exchange is made from it, and once its answer stands libmicrohttpd is given one of a few short, canonical requests without a
 * body instead. It goes on doing what it does well: accepting, epoll, writing heads and bodies of answers, sendfile, keep-alive.
 * The body is read by the exchange's owner (body.c), straight into a large buffer.
 *
 * A request that workers have to see to is suspended here, inside of recv(): libmicrohttpd only wants that done on the
 * connection's event thread, and looks whether it was after every read. So it knows nothing of a request under way, and its
 * memory for the connection is not touched before there is an answer: a slow upload costs none of it. When it finds the
 * connection broken after such a read it closes it at once; then the exchange goes on to its end and the connection ends at
 * its resume.
 *
 * The means is this file's recv(): the program's own definition comes before libc's, for shared libraries as for static ones,
 * so libmicrohttpd calls it. For a socket that is not one of the server's connections it is libc's recv() exactly.
 * A request that did not come through here is refused (server.c), so nothing is ever served unchecked.
 *
 * Threads: a connection's reads come from its event thread alone. The table is written on that thread too, and read by
 * whoever calls recv() for any socket.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "exchange_private.h"

enum {
	GATE_READ =
		8 * 1024, /* of one read for a head: with it comes the whole of a small request */
	GATE_FDS_MAX = 1 << 20,
};

static _Atomic(struct conn *) *table; /* by descriptor; made once, never freed */
static _Atomic size_t table_size;     /* written after table: who sees it sees the table */
static struct conn refused;           /* stands for connections that got no memory */

static void table_make(void)
{
	struct rlimit limit;
	size_t n = GATE_FDS_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < n)
		n = (size_t)limit.rlim_max;
	table = calloc(n, sizeof(*table)); /* zero pages: only what is used costs memory */
	atomic_store_explicit(&table_size, table != NULL ? n : 0, memory_order_release);
}

int gate_init(struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, table_make);
	return table != NULL
		       ? 0
		       : err_set(err, ERR_NO_MEMORY, "no memory for the table of connections");
}

static bool gate_set(int fd, struct conn *c)
{
	if (fd < 0 || (size_t)fd >= atomic_load_explicit(&table_size, memory_order_acquire))
		return false;
	atomic_store_explicit(&table[fd], c, memory_order_release);
	return true;
}

bool gate_open(struct conn *c)
{
	return gate_set(c->fd, c);
}

void gate_refuse(int fd)
{
	(void)gate_set(fd, &refused);
}

void gate_close(int fd)
{
	(void)gate_set(fd, NULL);
}

ssize_t socket_read(int fd, void *data, size_t n)
{
	ssize_t got;
	do {
		got = recvfrom(fd, data, n, MSG_DONTWAIT, NULL, NULL);
	} while (got < 0 && errno == EINTR);
	return got;
}

ssize_t socket_read_many(int fd, struct iovec *pieces, int n)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
	ssize_t got;
	do {
		got = recvmsg(fd, &message, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	return got;
}

void stash_drop(struct stash *s)
{
	free(s->data);
	*s = (struct stash){0};
}

int stash_put(struct stash *s, const void *data, size_t n)
{
	if (n == 0)
		return 0;
	if (s->off > 0 && s->off + s->len + n > s->cap) {
		memmove(s->data, s->data + s->off, s->len);
		s->off = 0;
	}
	if (s->off + s->len + n > s->cap) {
		size_t cap = s->len + n;
		char *grown = realloc(s->data, cap);
		if (grown == NULL)
			return -1;
		s->data = grown;
		s->cap = (uint32_t)cap;
	}
	memcpy(s->data + s->off + s->len, data, n);
	s->len += (uint32_t)n;
	return 0;
}

void stash_take(struct stash *s, size_t n)
{
	s->off += (uint32_t)n;
	s->len -= (uint32_t)n;
	if (s->len == 0)
		stash_drop(s);
}

/* "Nothing yet": libmicrohttpd waits for epoll to say that there is more. */
static ssize_t nothing_yet(void)
{
	errno = EAGAIN;
	return -1;
}

/* "Ask again": libmicrohttpd keeps the connection marked as readable and asks at the next turn. */
static ssize_t ask_again(void)
{
	errno = EINTR;
	return -1;
}

/*
 * The request that libmicrohttpd sees: it has to know whether the answer has a body, which version to speak and whether the
 * client stays. All else is ours.
 */
static ssize_t give_canonical(const struct head *head, char *out, size_t n)
{
#define REQUESTS(method)                                                                           \
	{                                                                                          \
		{method " / HTTP/1.0\r\n\r\n",                                                     \
		 method " / HTTP/1.0\r\nConnection:keep-alive\r\n\r\n"},                           \
		{                                                                                  \
			method " / HTTP/1.1\r\nHost:a\r\nConnection:close\r\n\r\n",                \
				method " / HTTP/1.1\r\nHost:a\r\n\r\n"                             \
		}                                                                                  \
	}
	static const char *const requests[2][2][2] = {REQUESTS("GET"), REQUESTS("HEAD")};
#undef REQUESTS
	const char *request = requests[head->is_head][head->minor][head->keep_alive];
	size_t len = strlen(request);
	if (len > n)
		return 0;
	memcpy(out, request, len);
	return (ssize_t)len;
}

/* A head is complete, or can never be: makes the exchange of it. False: out of memory. */
static bool make_request(struct conn *c, const char *data, size_t n, const struct err *refusal)
{
	c->scanned = 0;
	c->crlf_skipped = false;
	c->x = exchange_new(c, data, n, refusal);
	if (c->x == NULL)
		return false;
	conn_set_phase(c, CONN_WORK);
	return true;
}

/* What libmicrohttpd reads while there is a request. */
static ssize_t give_request(struct conn *c, char *out, size_t max)
{
	struct exchange *x = c->x;
	if (x->state == EXCHANGE_CANCELLED) {
		c->dead = true;
		return 0;
	}
	if (!x->shown) {
		x->shown = true;
		return give_canonical(&x->head, out, max);
	}
	/* It asks at every resume; the socket is not its business before the answer is out. */
	return exchange_has_more_input(x) ? ask_again() : nothing_yet();
}

/* Why the head under way will never do, or 0 when it still may. */
static int check_incomplete(const struct conn *c, const char *data, size_t n, struct err *err)
{
	if (head_check_partial(data, n, err) != 0)
		return -1;
	if (n < c->server->config.header_bytes)
		return 0;
	if (memchr(data, '\n', n) == NULL)
		return err_set(err, ERR_URI_TOO_LONG, "the request line is longer than %zu bytes",
			       n);
	return err_set(err, ERR_HEADERS_TOO_LARGE, "the request's head is longer than %zu bytes",
		       c->server->config.header_bytes);
}

/*
 * Looks for a head at the start of data. Returns its length, 0 while it is not complete; -1 when it will never be one, and then
 * err says why. *skip: bytes of an empty line before it, which are no part of it.
 */
static ssize_t find_head(struct conn *c, const char *data, size_t n, size_t *skip, struct err *err)
{
	*skip = 0;
	if (!c->crlf_skipped && head_leading_crlf(data, n) > 0) {
		*skip = head_leading_crlf(data, n);
		c->crlf_skipped = true;
		c->scanned = 0;
	}
	size_t end = head_end(data + *skip, n - *skip, &c->scanned);
	if (end > c->server->config.header_bytes)
		return err_set(err, ERR_HEADERS_TOO_LARGE,
			       "the request's head is longer than %zu bytes",
			       c->server->config.header_bytes);
	if (end > 0)
		return (ssize_t)end;
	return check_incomplete(c, data + *skip, n - *skip, err);
}

/* Tries to make a request of what is in the stash. 1 made, 0: more bytes are needed; -1: the connection is done with. */
static int try_stash(struct conn *c)
{
	struct stash *s = &c->stash;
	struct err err;
	size_t skip;
	c->stash_is_fresh = false;
	ssize_t end = find_head(c, s->data + s->off, s->len, &skip, &err);
	if (skip > 0)
		stash_take(s, skip);
	if (end == 0)
		return 0;
	/* The stash may go with the head: the exchange has a copy by then. */
	size_t n = end > 0 ? (size_t)end : s->len;
	if (!make_request(c, s->data + s->off, n, end < 0 ? &err : NULL))
		return -1;
	stash_take(s, n);
	return 1;
}

/* The same with bytes that were just read, while the stash is empty. The rest goes into the stash. */
static int try_fresh(struct conn *c, const char *data, size_t n)
{
	struct err err;
	size_t skip, used = 0;
	ssize_t end = find_head(c, data, n, &skip, &err);
	if (end != 0) {
		used = end > 0 ? (size_t)end : n - skip;
		if (!make_request(c, data + skip, used, end < 0 ? &err : NULL))
			return -1;
	}
	if (stash_put(&c->stash, data + skip + used, n - skip - used) != 0)
		return -1;
	return end != 0;
}

/* Reads until a head is complete. 1: c->x is its exchange; else what recv() returns. Event thread. */
static ssize_t gate_head(struct conn *c)
{
	char scratch[GATE_READ];
	for (;;) {
		int made = c->stash.len > 0 && c->stash_is_fresh ? try_stash(c) : 0;
		if (made > 0)
			return 1;
		if (made < 0)
			return 0;
		ssize_t got = socket_read(c->fd, scratch, sizeof(scratch));
		if (got <= 0) {
			if (c->stash.len > 0 &&
			    atomic_load_explicit(&c->phase, memory_order_relaxed) == CONN_IDLE)
				conn_set_phase(c, CONN_HEAD);
			c->kernel_has_more = false;
			return got;
		}
		c->kernel_has_more = (size_t)got == sizeof(scratch);
		if (c->stash.len > 0) {
			if (stash_put(&c->stash, scratch, (size_t)got) != 0)
				return 0;
			c->stash_is_fresh = true;
			continue;
		}
		made = try_fresh(c, scratch, (size_t)got);
		if (made != 0)
			return made > 0 ? 1 : 0;
	}
}

/* Passes over n bytes of the refused body in data: how many belong to it. */
static size_t skip_bytes(struct conn *c, const char *data, size_t n)
{
	size_t at = 0, body;
	struct err err;
	while (at < n) {
		size_t step = framing_step(c->skip, data + at, n - at, &body, &err);
		if (step == 0)
			break;
		at += step;
	}
	c->skip_left -= at < c->skip_left ? at : c->skip_left;
	return at;
}

/*
 * Passes over the rest of a body that was refused. 1: the next head may come; else what recv() returns. A chunked body does not
 * say how long it is: when it turns out to be too long to be passed over, the connection ends, lingering.
 */
static ssize_t gate_skip(struct conn *c)
{
	char scratch[GATE_READ];
	while (!framing_done(c->skip)) {
		if (c->skip_left == 0 || c->skip->state == FRAMING_BROKEN) {
			/* The answer is out, the client may not have read it: a close now would reset it away. */
			pump_linger(c->server->pump, c->fd);
			return 0;
		}
		if (c->stash.len > 0) {
			size_t used = skip_bytes(c, c->stash.data + c->stash.off, c->stash.len);
			stash_take(&c->stash, used);
			continue;
		}
		ssize_t got = socket_read(c->fd, scratch, sizeof(scratch));
		if (got <= 0)
			return got;
		size_t used = skip_bytes(c, scratch, (size_t)got);
		if (stash_put(&c->stash, scratch + used, (size_t)got - used) != 0)
			return 0;
	}
	free(c->skip);
	c->skip = NULL;
	c->stash_is_fresh = c->stash.len > 0;
	c->kernel_has_more = true;
	conn_set_phase(c, CONN_IDLE);
	return 1;
}

/*
 * Between requests libmicrohttpd reads into the first half of the connection's memory, and there is nothing else in it. Where
 * that is not so (another version), its pages are left alone.
 */
static char *find_memory(char *out, size_t max)
{
	bool whole_pages = (uintptr_t)out % 4096 == 0 && HTTP_CONNECTION_MEMORY % 4096 == 0;
	return whole_pages && max == HTTP_CONNECTION_MEMORY / 2 ? out : NULL;
}

/* What libmicrohttpd reads from a connection. */
static ssize_t gate_recv(struct conn *c, char *out, size_t max)
{
	if (c == &refused)
		return 0;
	conn_claim(c);
	if (c->dead)
		return 0;
	if (c->x != NULL)
		return give_request(c, out, max);
	if (c->skip != NULL) {
		ssize_t skipped = gate_skip(c);
		if (skipped != 1) {
			c->dead = skipped == 0;
			return skipped;
		}
	}
	c->memory = find_memory(out, max);
	ssize_t result = gate_head(c);
	if (result == 1) /* nothing of it may be touched when it is another thread's */
		return exchange_begin(c->x) ? give_request(c, out, max) : nothing_yet();
	c->dead = c->dead || result == 0;
	return result;
}

static struct conn *conn_of(int fd)
{
	return fd >= 0 && (size_t)fd < atomic_load_explicit(&table_size, memory_order_acquire)
		       ? atomic_load_explicit(&table[fd], memory_order_acquire)
		       : NULL;
}

/* libc's prototype, and for every socket but the server's connections its meaning too. */
ssize_t recv(int fd, void *data, size_t n, int flags)
{
	struct conn *c = conn_of(fd);
	return c != NULL ? gate_recv(c, data, n) : recvfrom(fd, data, n, flags, NULL, NULL);
}

/*
 * libc's again, as libmicrohttpd calls it to send files. While a client takes nothing, libmicrohttpd does not look at the
 * connection's memory, and its pages may be given back.
 */
ssize_t sendfile64(int out, int in, off64_t *offset, size_t n)
{
	struct conn *c = conn_of(out);
	bool sending = c != NULL && c->x != NULL;
	if (sending)
		conn_claim(c);
	ssize_t sent = syscall(SYS_sendfile, out, in, offset, n);
	int failure = errno;
	if (sending && sent < (ssize_t)n) /* the socket's buffer is full */
		conn_offer(c, true);
	errno = failure;
	return sent;
}

/*
 * libc's, but never as many events as there is room for. libmicrohttpd 0.9.75 takes a full array (128) for a sign that there are
 * more, and waits for them before it looks at those it has: as long as it may, which is for good when exactly so many clients
 * of one event thread have spoken and wait for their answers. What is left over comes with the next call, at once.
 */
int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	return epoll_pwait(fd, events, max > 1 ? max - 1 : max, timeout, NULL);
}
