/* Listening sockets: made here from text, or inherited. App's main thread, before the start. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conn_private.h"

enum { BACKLOG = 4096, HOST_MAX = 256 };

static int enable(int fd, int level, int option)
{
	int one = 1;
	return setsockopt(fd, level, option, &one, sizeof(one));
}

/* Remembers the socket, with its address as text. Takes fd over, also on failure. */
static int listener_add(struct http_server *server, int fd, bool inherited, struct err *err)
{
	union peer name;
	socklen_t len = sizeof(name);
	char host[INET6_ADDRSTRLEN] = "";
	struct listener *grown = realloc(server->listeners,
					 (server->listener_count + 1) * sizeof(*server->listeners));
	if (grown == NULL) {
		(void)close(fd);
		return err_set(err, ERR_NO_MEMORY, "no memory for a listener");
	}
	server->listeners = grown;
	struct listener *l = &grown[server->listener_count];
	*l = (struct listener){.fd = fd, .inherited = inherited};
	memset(&name, 0, sizeof(name));
	if (getsockname(fd, &name.any, &len) != 0) {
		(void)close(fd);
		return err_set_errno(err, ERR_INTERNAL, "getsockname of a listener");
	}
	if (name.any.sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &name.v6.sin6_addr, host, sizeof(host));
		(void)snprintf(l->address, sizeof(l->address), "[%s]:%u", host,
			       ntohs(name.v6.sin6_port));
	} else if (name.any.sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &name.v4.sin_addr, host, sizeof(host));
		(void)snprintf(l->address, sizeof(l->address), "%s:%u", host,
			       ntohs(name.v4.sin_port));
	} else {
		(void)snprintf(l->address, sizeof(l->address), "descriptor %d", fd);
	}
	server->listener_count++;
	return 0;
}

static int listen_on(struct http_server *server, const struct addrinfo *ai, const char *address,
		     struct err *err)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_errno(err, ERR_INTERNAL, "socket for %s", address);
	/* NODELAY is inherited by accepted sockets: an answer's last bytes never wait for an acknowledgement. */
	if (enable(fd, SOL_SOCKET, SO_REUSEADDR) != 0 ||
	    enable(fd, IPPROTO_TCP, TCP_NODELAY) != 0 ||
	    (ai->ai_family == AF_INET6 && enable(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
		(void)err_set_errno(err, ERR_INTERNAL, "cannot listen on %s", address);
		(void)close(fd);
		return -1;
	}
	return listener_add(server, fd, false, err);
}

/* "host:port" or "[host]:port" apart. -1 malformed. */
static int split_address(const char *address, char host[HOST_MAX], const char **port)
{
	const char *colon = strrchr(address, ':');
	if (colon == NULL || colon[1] == '\0' ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return -1;
	const char *from = address, *to = colon;
	if (*from == '[' && to > from + 1 && to[-1] == ']') {
		from++;
		to--;
	} else if (memchr(from, ':', (size_t)(to - from)) != NULL) {
		return -1; /* IPv6 without brackets: which colon is the port's? */
	}
	size_t n = (size_t)(to - from);
	if (n == 0 || n >= HOST_MAX)
		return -1;
	memcpy(host, from, n);
	host[n] = '\0';
	*port = colon + 1;
	return 0;
}

int http_server_listen(struct http_server *server, const char *address, struct err *err)
{
	char host[HOST_MAX];
	const char *port;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
			*list;
	if (split_address(address, host, &port) != 0)
		return err_set(err, ERR_INVALID, "%s is not ADDRESS:PORT or [ADDRESS]:PORT",
			       address);
	int failed = getaddrinfo(host, port, &hints, &list);
	if (failed != 0)
		return err_set(err, ERR_INVALID, "cannot resolve %s: %s", address,
			       gai_strerror(failed));
	int result = 0;
	for (const struct addrinfo *ai = list; ai != NULL && result == 0; ai = ai->ai_next)
		result = listen_on(server, ai, address, err);
	freeaddrinfo(list);
	return result;
}

int http_server_listen_fd(struct http_server *server, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return err_set_errno(err, ERR_INVALID, "inherited descriptor %d", fd);
	(void)enable(fd, IPPROTO_TCP, TCP_NODELAY);
	return listener_add(server, fd, true, err);
}

const char *http_server_address(const struct http_server *server, size_t i)
{
	return i < server->listener_count ? server->listeners[i].address : NULL;
}

void listeners_close(struct http_server *server)
{
	for (size_t i = 0; i < server->listener_count; i++) {
		if (server->listeners[i].fd >= 0)
			(void)close(server->listeners[i].fd);
	}
	free(server->listeners);
	server->listeners = NULL;
	server->listener_count = 0;
}
