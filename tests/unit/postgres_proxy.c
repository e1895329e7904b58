/* A proxy that behaves badly on demand: see the header. */
#include "postgres_proxy.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAIRS_MAX = 64, CHUNK = 65536, TICK_MS = 10 };

struct pair {
	int client, server; /* -1: none; server -1 while swallowing */
	bool deaf; /* the server's answers are not passed on, and at the first the pair ends */
};

struct postgres_proxy {
	char folder[64], path[108], target[108];
	int listener;
	pthread_t thread;
	_Atomic int mode, trap, times;
	_Atomic bool stop;
	struct pair pairs[PAIRS_MAX];
};

static int open_socket(const char *path, bool listening)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (listening ? bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
				listen(fd, 64) < 0
		      : connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void end_pair(struct pair *pair)
{
	if (pair->client >= 0)
		close(pair->client);
	if (pair->server >= 0)
		close(pair->server);
	*pair = (struct pair){-1, -1, false};
}

static void accept_one(struct postgres_proxy *p)
{
	int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);

	for (size_t i = 0; i < PAIRS_MAX && client >= 0; i++) {
		if (p->pairs[i].client >= 0)
			continue;
		p->pairs[i] = (struct pair){
			client, p->mode == PROXY_FORWARD ? open_socket(p->target, false) : -1,
			false};
		if (p->mode == PROXY_REFUSE || (p->mode == PROXY_FORWARD && p->pairs[i].server < 0))
			end_pair(&p->pairs[i]);
		return;
	}
	if (client >= 0)
		close(client);
}

static void write_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t written = send(fd, data, n, MSG_NOSIGNAL);

		if (written <= 0)
			return;
		data += written;
		n -= (size_t)written;
	}
}

static bool has(const char *data, size_t n, const char *word)
{
	return memmem(data, n, word, strlen(word)) != NULL;
}

/* Springs once for what the trap is set for. A registration that is one statement is its own transaction, without the word. */
static bool springs(struct postgres_proxy *p, const char *data, size_t n)
{
	bool hit = p->trap == TRAP_BEFORE_BEGIN
			   ? has(data, n, "BEGIN")
			   : has(data, n, "COMMIT") || has(data, n, "file_insert");

	if (p->trap == TRAP_NONE || p->times <= 0 || !hit)
		return false;
	p->times--;
	return true;
}

static void move(struct postgres_proxy *p, struct pair *pair, int from, int to)
{
	static char data[CHUNK];
	ssize_t n = recv(from, data, sizeof(data), MSG_DONTWAIT);

	if (n == 0 || p->mode == PROXY_REFUSE || (pair->deaf && from == pair->server)) {
		end_pair(pair);
		return;
	}
	if (n < 0 || to < 0 || p->mode == PROXY_SWALLOW)
		return;
	if (from == pair->client && springs(p, data, (size_t)n)) {
		if (p->trap == TRAP_BEFORE_BEGIN) {
			end_pair(pair);
			return;
		}
		pair->deaf = true;
	}
	write_all(to, data, (size_t)n);
}

static void *proxy_thread(void *context)
{
	struct postgres_proxy *p = context;

	while (!p->stop) {
		struct pollfd fds[1 + 2 * PAIRS_MAX] = {{.fd = p->listener, .events = POLLIN}};

		for (size_t i = 0; i < PAIRS_MAX; i++) {
			fds[1 + 2 * i] =
				(struct pollfd){.fd = p->pairs[i].client, .events = POLLIN};
			fds[2 + 2 * i] =
				(struct pollfd){.fd = p->pairs[i].server, .events = POLLIN};
			if (p->mode == PROXY_REFUSE)
				end_pair(&p->pairs[i]);
		}
		poll(fds, 1 + 2 * PAIRS_MAX, TICK_MS);
		for (size_t i = 0; i < PAIRS_MAX; i++) {
			struct pair *pair = &p->pairs[i];

			if (fds[1 + 2 * i].revents && pair->client == fds[1 + 2 * i].fd)
				move(p, pair, pair->client, pair->server);
			if (fds[2 + 2 * i].revents && pair->server >= 0 &&
			    pair->server == fds[2 + 2 * i].fd)
				move(p, pair, pair->server, pair->client);
		}
		if (fds[0].revents)
			accept_one(p);
	}
	return NULL;
}

struct postgres_proxy *postgres_proxy_new(const char *server_socket)
{
	struct postgres_proxy *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	for (size_t i = 0; i < PAIRS_MAX; i++)
		p->pairs[i] = (struct pair){-1, -1, false};
	snprintf(p->folder, sizeof(p->folder), "/tmp/depotd-proxy-XXXXXX");
	snprintf(p->path, sizeof(p->path), "%s/.s.PGSQL.5432", mkdtemp(p->folder) ? p->folder : "");
	snprintf(p->target, sizeof(p->target), "%s", server_socket);
	p->listener = open_socket(p->path, true);
	if (p->listener < 0 || pthread_create(&p->thread, NULL, proxy_thread, p) != 0) {
		free(p);
		return NULL;
	}
	return p;
}

void postgres_proxy_free(struct postgres_proxy **proxy)
{
	struct postgres_proxy *p = *proxy;

	*proxy = NULL;
	if (!p)
		return;
	p->stop = true;
	pthread_join(p->thread, NULL);
	for (size_t i = 0; i < PAIRS_MAX; i++)
		end_pair(&p->pairs[i]);
	close(p->listener);
	unlink(p->path);
	rmdir(p->folder);
	free(p);
}

const char *postgres_proxy_host(const struct postgres_proxy *p)
{
	return p->folder;
}

void postgres_proxy_set(struct postgres_proxy *p, enum proxy_mode mode)
{
	p->mode = (int)mode;
}

void postgres_proxy_trap(struct postgres_proxy *p, enum proxy_trap trap, int times)
{
	p->times = times;
	p->trap = (int)trap;
}
