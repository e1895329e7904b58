/*
 * One TCP connection, from accept to close, and how many each address has. Event threads make and free connections; the
 * timer walks server->conns under server->lock.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "conn_private.h"
#include "depotd/base/clock.h"

enum { ADDRESS_BUCKETS = 1024 };

struct address_count {
	struct address_count *next;
	unsigned char
		address[16]; /* IPv4 mapped; IPv6 by its /64, which is what one customer has */
	unsigned count;
};

/* Loopback is exempt: false. */
static bool address_key(const struct conn *c, unsigned char key[16])
{
	memset(key, 0, 16);
	if (c->peer.any.sa_family == AF_INET) {
		const unsigned char *v4 = (const unsigned char *)&c->peer.v4.sin_addr;
		key[10] = key[11] = 0xff;
		memcpy(key + 12, v4, 4);
		return v4[0] != 127;
	}
	if (c->peer.any.sa_family == AF_INET6) {
		memcpy(key, &c->peer.v6.sin6_addr, 8);
		return !IN6_IS_ADDR_LOOPBACK(&c->peer.v6.sin6_addr);
	}
	return false;
}

static struct address_count **address_bucket(struct http_server *server,
					     const unsigned char key[16])
{
	uint32_t hash = 2166136261U;
	for (unsigned i = 0; i < 16; i++)
		hash = (hash ^ key[i]) * 16777619U;
	return &server->addresses[hash % ADDRESS_BUCKETS];
}

int addresses_init(struct http_server *server, struct err *err)
{
	server->addresses = calloc(ADDRESS_BUCKETS, sizeof(*server->addresses));
	return server->addresses != NULL
		       ? 0
		       : err_set(err, ERR_NO_MEMORY, "no memory for the table of addresses");
}

void addresses_release(struct http_server *server)
{
	free(server->addresses);
	server->addresses = NULL;
}

/* Counts a connection in; true when its address has too many. Under server->lock. */
static bool address_enter(struct http_server *server, const struct conn *c)
{
	unsigned char key[16];
	if (server->config.max_connections_per_address == 0 || !address_key(c, key))
		return false;
	struct address_count **bucket = address_bucket(server, key), *a = *bucket;
	while (a != NULL && memcmp(a->address, key, 16) != 0)
		a = a->next;
	if (a == NULL) {
		a = calloc(1, sizeof(*a));
		if (a == NULL)
			return true;
		memcpy(a->address, key, 16);
		a->next = *bucket;
		*bucket = a;
	}
	return ++a->count > server->config.max_connections_per_address;
}

static void address_leave(struct http_server *server, const struct conn *c)
{
	unsigned char key[16];
	if (server->config.max_connections_per_address == 0 || !address_key(c, key))
		return;
	struct address_count **a = address_bucket(server, key);
	while (*a != NULL && memcmp((*a)->address, key, 16) != 0)
		a = &(*a)->next;
	if (*a != NULL && --(*a)->count == 0) {
		struct address_count *gone = *a;
		*a = gone->next;
		free(gone);
	}
}

static void set_peer(struct conn *c, const struct sockaddr *peer)
{
	c->peer_text[0] = '\0';
	if (peer != NULL && peer->sa_family == AF_INET) {
		memcpy(&c->peer.v4, peer, sizeof(c->peer.v4));
		(void)inet_ntop(AF_INET, &c->peer.v4.sin_addr, c->peer_text, sizeof(c->peer_text));
	} else if (peer != NULL && peer->sa_family == AF_INET6) {
		memcpy(&c->peer.v6, peer, sizeof(c->peer.v6));
		(void)inet_ntop(AF_INET6, &c->peer.v6.sin6_addr, c->peer_text,
				sizeof(c->peer_text));
	}
}

void conn_set_phase(struct conn *c, enum conn_phase phase)
{
	atomic_store_explicit(&c->since_ms, clock_monotonic_ms(), memory_order_relaxed);
	atomic_store_explicit(&c->phase, (int)phase, memory_order_release);
}

void conn_turn(struct conn *c, enum conn_phase phase)
{
	atomic_store_explicit(&c->phase, (int)phase, memory_order_release);
}

/* Low water: the socket counts as readable only when so many bytes are there (or its end). */
int conn_set_lowat(struct conn *c, uint64_t bytes)
{
	int wanted = bytes > INT_MAX ? INT_MAX : bytes > 1 ? (int)bytes : 1;
	if (wanted == c->lowat)
		return 0;
	if (setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) != 0)
		return -1;
	c->lowat = wanted;
	return 0;
}

static void enter(struct conn *c)
{
	struct http_server *server = c->server;
	pthread_mutex_lock(&server->lock);
	bool crowded = address_enter(server, c);
	c->next = server->conns;
	if (c->next != NULL)
		c->next->prev = c;
	server->conns = c;
	pthread_mutex_unlock(&server->lock);
	size_t count = atomic_fetch_add(&server->conn_count, 1) + 1;
	if (crowded || count > server->config.max_connections) {
		c->excess = true;
		account_refusal(server, crowded ? REFUSED_ADDRESS : REFUSED_CONNECTIONS);
	}
}

struct conn *conn_new(struct http_server *server, struct MHD_Connection *mhd)
{
	/* What is pointed at is good until the next question only (1.x). */
	int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	const union MHD_ConnectionInfo *peer =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct conn *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		gate_refuse(fd);
		return NULL;
	}
	c->server = server;
	c->thread = server_thread(server);
	c->mhd = mhd;
	c->fd = fd;
	c->lowat = 1;
	set_peer(c, peer != NULL ? peer->client_addr : NULL);
	conn_set_phase(c, CONN_IDLE);
	if (!gate_open(c)) {
		free(c);
		return NULL;
	}
	enter(c);
	return c;
}

void conn_free(struct conn *c)
{
	struct http_server *server = c->server;
	pages_forget(c);
	pthread_mutex_lock(&server->lock);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		server->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	address_leave(server, c);
	pthread_mutex_unlock(&server->lock);
	(void)atomic_fetch_sub(&server->conn_count, 1);
	gate_close(c->fd);
	stash_drop(&c->stash);
	free(c->skip);
	free(c);
}
