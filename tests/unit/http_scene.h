/*
 * A server with handlers that show what the HTTP module does to them, and a client that speaks raw bytes. Everything waits on a
 * condition with a deadline; nothing sleeps.
 */
#ifndef DEPOTD_TESTS_HTTP_SCENE_H
#define DEPOTD_TESTS_HTTP_SCENE_H

#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "depotd/http/server.h"

enum { SCENE_DEADLINE_MS = 30000 };

/* --- what handlers did --- */

struct scene {
	struct pool *workers;
	struct metrics *metrics;
	struct http_server *server;
	int port;
	pthread_mutex_t lock; /* guards everything below */
	pthread_cond_t changed;
	int began, released, finished, bodies;
	bool gate_open;            /* GET /block waits for it */
	struct exchange *deferred; /* GET /defer left it here */
	int fd;                    /* GET /file */
};

static struct scene scene;

struct upload_state {
	uint64_t bytes;
	uint32_t sum;
};

static void scene_count(int *counter)
{
	pthread_mutex_lock(&scene.lock);
	(*counter)++;
	pthread_cond_broadcast(&scene.changed);
	pthread_mutex_unlock(&scene.lock);
}

/* Waits until a counter has this value; fails past the deadline. */
static void scene_wait(const int *counter, int value)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SCENE_DEADLINE_MS / 1000;
	int late = 0;
	pthread_mutex_lock(&scene.lock);
	while (*counter < value && late == 0)
		late = pthread_cond_timedwait(&scene.changed, &scene.lock, &until);
	int seen = *counter;
	pthread_mutex_unlock(&scene.lock);
	assert_int_equal(seen, value);
}

static void on_release(struct exchange *x)
{
	free(exchange_state(x));
	scene_count(&scene.released);
}

/* --- handlers --- */

static enum http_verdict check_memory(struct exchange *x)
{
	reply_header(x, "Content-Type", "text/plain");
	reply_memory(x, "memory", 6, NULL, NULL);
	return HTTP_ANSWERED;
}

static void finish_worker(struct exchange *x)
{
	reply_memory(x, "worker", 6, NULL, NULL);
}

static enum http_verdict check_upload(struct exchange *x)
{
	exchange_set_state(x, calloc(1, sizeof(struct upload_state)));
	scene_count(&scene.began);
	return HTTP_GO_ON;
}

static int body_upload(struct exchange *x, const void *data, size_t n, struct err *err)
{
	struct upload_state *u = exchange_state(x);
	const unsigned char *bytes = data;
	(void)err;
	u->bytes += n;
	for (size_t i = 0; i < n; i++)
		u->sum = u->sum * 31 + bytes[i];
	scene_count(&scene.bodies);
	return 0;
}

static void finish_upload(struct exchange *x)
{
	struct upload_state *u = exchange_state(x);
	struct buf text;
	buf_init(&text, 256);
	buf_printf(&text, "%llu %u", (unsigned long long)u->bytes, u->sum);
	reply_status(x, 201);
	reply_buf(x, &text);
	scene_count(&scene.finished);
}

static enum http_verdict check_refuse(struct exchange *x)
{
	struct err err;
	(void)err_set(&err, ERR_TOO_LARGE, "too large for me");
	reply_error(x, &err);
	return HTTP_ANSWERED;
}

static int body_refuse(struct exchange *x, const void *data, size_t n, struct err *err)
{
	(void)x, (void)data, (void)n;
	return err_set(err, ERR_DISK_FULL, "no room");
}

static void finish_defer(struct exchange *x)
{
	exchange_defer(x);
	pthread_mutex_lock(&scene.lock);
	scene.deferred = x;
	pthread_mutex_unlock(&scene.lock);
	scene_count(&scene.finished);
}

static void finish_at_once(struct exchange *x)
{
	exchange_defer(x);
	reply_memory(x, "at once", 7, NULL, NULL);
	exchange_complete(x);
}

/* Comes four times: asks for the next ones itself. */
static void finish_again(struct exchange *x)
{
	scene_count(&scene.finished);
	exchange_defer(x);
	if (scene.finished < 4) {
		exchange_again(x);
		return;
	}
	reply_memory(x, "at last", 7, NULL, NULL);
	exchange_complete(x);
}

static void finish_block(struct exchange *x)
{
	scene_count(&scene.finished);
	pthread_mutex_lock(&scene.lock);
	while (!scene.gate_open)
		pthread_cond_wait(&scene.changed, &scene.lock);
	pthread_mutex_unlock(&scene.lock);
	reply_memory(x, "opened", 6, NULL, NULL);
}

struct pattern {
	uint64_t at;
};

static int read_pattern(void *context, void *data, size_t max, size_t *got, struct err *err)
{
	struct pattern *p = context;
	unsigned char *bytes = data;
	(void)err;
	for (size_t i = 0; i < max; i++)
		bytes[i] = (unsigned char)((p->at + i) % 251);
	p->at += max;
	*got = max;
	return 0;
}

static int read_broken(void *context, void *data, size_t max, size_t *got, struct err *err)
{
	struct pattern *p = context;
	if (p->at > 100000)
		return err_set(err, ERR_IO, "the disk is gone");
	return read_pattern(context, data, max, got, err);
}

static void release_pattern(void *context)
{
	free(context);
	scene_count(&scene.released);
}

static void finish_stream(struct exchange *x)
{
	int64_t n = atoll(exchange_param(x, 0));
	struct pattern *p = calloc(1, sizeof(*p));
	reply_stream(x, n, exchange_query_get(x, "broken") ? read_broken : read_pattern,
		     release_pattern, p);
}

static void release_file(void *context)
{
	(void)context;
	scene_count(&scene.released);
}

static void finish_file(struct exchange *x)
{
	reply_file(x, scene.fd, atoll(exchange_param(x, 0)), atoll(exchange_param(x, 1)),
		   release_file, NULL);
}

static enum http_verdict check_bad_header(struct exchange *x)
{
	reply_header(x, "X-Bad", "a\r\nSet-Cookie: b");
	reply_memory(x, "x", 1, NULL, NULL);
	return HTTP_ANSWERED;
}

/* Says what the exchange knows of the request. */
static enum http_verdict check_describe(struct exchange *x)
{
	struct buf text;
	const char *key, *value, *header = exchange_header(x, "X-Thing");
	buf_init(&text, 65536);
	buf_printf(&text, "%s|%s|%s", exchange_method(x), exchange_target(x),
		   header != NULL ? header : "-");
	for (size_t i = 0; i < exchange_query_count(x); i++) {
		exchange_query(x, i, &key, &value);
		buf_printf(&text, "|%s=%s", key, value);
	}
	buf_printf(&text, "|%s", exchange_peer_text(x));
	reply_buf(x, &text);
	return HTTP_ANSWERED;
}

static const struct http_handler memory_handler = {.check = check_memory};
static const struct http_handler worker_handler = {.finish = finish_worker};
static const struct http_handler upload_handler = {.check = check_upload,
						   .body = body_upload,
						   .finish = finish_upload,
						   .release = on_release,
						   .takes_body = true};
static const struct http_handler refuse_handler = {.check = check_refuse, .takes_body = true};
static const struct http_handler refuse_body_handler = {.check = check_upload,
							.body = body_refuse,
							.finish = finish_upload,
							.release = on_release,
							.takes_body = true};
static const struct http_handler defer_handler = {.check = check_upload,
						  .body = body_upload,
						  .finish = finish_defer,
						  .release = on_release,
						  .takes_body = true};
static const struct http_handler at_once_handler = {.finish = finish_at_once};
static const struct http_handler again_handler = {.finish = finish_again};
static const struct http_handler block_handler = {.finish = finish_block};
static const struct http_handler stream_handler = {.finish = finish_stream};
static const struct http_handler file_handler = {.finish = finish_file};
static const struct http_handler bad_header_handler = {.check = check_bad_header};
static const struct http_handler describe_handler = {.check = check_describe};

static const struct http_route scene_routes[] = {
	{"GET", "/memory", &memory_handler},
	{"GET", "/worker", &worker_handler},
	{"PUT", "/sink/{name}", &upload_handler},
	{"POST", "/sink", &upload_handler},
	{"PUT", "/refuse", &refuse_handler},
	{"PUT", "/refuse-body", &refuse_body_handler},
	{"GET", "/defer", &defer_handler},
	{"PUT", "/defer", &defer_handler},
	{"GET", "/at-once", &at_once_handler},
	{"GET", "/again", &again_handler},
	{"GET", "/block", &block_handler},
	{"GET", "/stream/{n}", &stream_handler},
	{"GET", "/file/{offset}/{n}", &file_handler},
	{"GET", "/bad-header", &bad_header_handler},
	{"GET", "/describe/{x}", &describe_handler},
	{"PUT", "/describe/{x}", &describe_handler},
	{NULL, NULL, NULL},
};

/* --- set and strike --- */

static struct http_config scene_config(void)
{
	return (struct http_config){
		.event_threads = 2,
		.max_connections = 200,
		.buffer_bytes = 1 << 20,
		.header_bytes = 16 * 1024,
		.header_timeout_ms = 20000,
		.idle_timeout_ms = 20000,
	};
}

static void scene_set(struct http_config config, unsigned workers, size_t queue)
{
	struct err err;
	memset(&scene, 0, sizeof(scene));
	scene.fd = -1;
	pthread_mutex_init(&scene.lock, NULL);
	pthread_cond_init(&scene.changed, NULL);
	scene.metrics = metrics_new();
	assert_int_equal(pool_new("work", workers, queue, scene.metrics, &scene.workers, &err), 0);
	config.workers = config.readers = scene.workers;
	config.metrics = scene.metrics;
	if (http_server_new(&config, scene_routes, &scene, &scene.server, &err) != 0 ||
	    http_server_listen(scene.server, "127.0.0.1:0", &err) != 0 ||
	    http_server_start(scene.server, &err) != 0)
		fail_msg("%s", err.message);
	scene.port = (int)strtol(strrchr(http_server_address(scene.server, 0), ':') + 1, NULL, 10);
}

static void scene_open_gate(void)
{
	pthread_mutex_lock(&scene.lock);
	scene.gate_open = true;
	pthread_cond_broadcast(&scene.changed);
	pthread_mutex_unlock(&scene.lock);
}

static void scene_strike(void)
{
	scene_open_gate(); /* for a test that failed before it did */
	http_server_free(&scene.server);
	assert_null(scene.server);
	pool_free(&scene.workers);
	metrics_free(&scene.metrics);
	if (scene.fd >= 0)
		close(scene.fd);
	pthread_mutex_destroy(&scene.lock);
	pthread_cond_destroy(&scene.changed);
}

/* --- a client --- */

static int client_connect_with(int receive_buffer)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct timeval deadline = {.tv_sec = SCENE_DEADLINE_MS / 1000};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)scene.port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (receive_buffer > 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static int client_connect(void)
{
	return client_connect_with(0);
}

/* How much could be sent before the connection broke. */
static size_t client_push(int fd, const void *data, size_t n)
{
	size_t at = 0;
	while (at < n) {
		ssize_t sent = send(fd, (const char *)data + at, n - at, MSG_NOSIGNAL);
		if (sent <= 0)
			break;
		at += (size_t)sent;
	}
	return at;
}

static void client_send_n(int fd, const void *data, size_t n)
{
	assert_int_equal(client_push(fd, data, n), n);
}

static void client_send(int fd, const char *text)
{
	client_send_n(fd, text, strlen(text));
}

struct answer {
	int status;
	char head[8192];
	char *body;
	size_t length; /* as announced */
	size_t got;
};

static void answer_release(struct answer *a)
{
	free(a->body);
	memset(a, 0, sizeof(*a));
}

static const char *answer_field(const struct answer *a, const char *name)
{
	static char value[1024];
	size_t n = strlen(name);
	for (const char *line = strchr(a->head, '\n'); line != NULL; line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		snprintf(value, sizeof(value), "%.*s", (int)strcspn(line + n + 2, "\r"),
			 line + n + 2);
		return value;
	}
	return NULL;
}

/* Reads one answer; 0 when the connection ends before it begins. bodiless: of a HEAD. */
static int client_read_as(int fd, struct answer *a, bool bodiless)
{
	size_t at = 0;
	memset(a, 0, sizeof(*a));
	while (at < sizeof(a->head) - 1) {
		ssize_t got = recv(fd, a->head + at, 1, 0);
		if (got <= 0) {
			assert_int_equal(at, 0);
			return 0;
		}
		at++;
		if (at >= 4 && memcmp(a->head + at - 4, "\r\n\r\n", 4) == 0)
			break;
	}
	assert_memory_equal(a->head, "HTTP/1.1 ", 9);
	a->status = (int)strtol(a->head + 9, NULL, 10);
	const char *length = answer_field(a, "Content-Length");
	a->length = length != NULL ? strtoull(length, NULL, 10) : 0;
	a->body = calloc(1, a->length + 1);
	while (!bodiless && a->got < a->length) {
		ssize_t got = recv(fd, a->body + a->got, a->length - a->got, 0);
		if (got <= 0)
			break;
		a->got += (size_t)got;
	}
	return 1;
}

static void client_read(int fd, struct answer *a)
{
	assert_int_equal(client_read_as(fd, a, false), 1);
	if (a->status >= 200)
		assert_non_null(answer_field(a, "Request-Id"));
}

/* Reads one answer and checks status and body (NULL: any). */
static void client_expect(int fd, int status, const char *body)
{
	struct answer a;
	client_read(fd, &a);
	if (a.status != status)
		fail_msg("%d instead of %d: %s", a.status, status, a.body);
	if (body != NULL)
		assert_string_equal(a.body, body);
	answer_release(&a);
}

static void client_expect_end(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, 0);
	assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
}

/* The connection is dropped without a word, as by a client whose machine lost power but for the RST. */
static void client_reset(int fd)
{
	struct linger hard = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
}

static uint32_t sum_of(const void *data, size_t n, uint32_t sum)
{
	const unsigned char *bytes = data;
	for (size_t i = 0; i < n; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

#endif
