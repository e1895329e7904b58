/*
 * A proxy between the store and its PostgreSQL that behaves badly on demand: swallows, or hangs up in the middle of a COMMIT.
 * Listens on a unix socket of its own; one thread.
 */
#ifndef DEPOTD_TESTS_UNIT_POSTGRES_PROXY_H
#define DEPOTD_TESTS_UNIT_POSTGRES_PROXY_H

enum proxy_mode {
	PROXY_FORWARD,
	PROXY_SWALLOW, /* takes connections and bytes, gives nothing: a black hole */
	PROXY_REFUSE,  /* hangs up on whoever comes, and on who is there */
};

enum proxy_trap {
	TRAP_NONE,
	TRAP_BEFORE_BEGIN, /* the next BEGIN is not forwarded; that connection ends */
	TRAP_AFTER_COMMIT, /* the next COMMIT or registration is forwarded, its answer is not; that connection ends */
};

struct postgres_proxy;

struct postgres_proxy *postgres_proxy_new(const char *server_socket);
void postgres_proxy_free(struct postgres_proxy **proxy);
/* The folder that "host=" names. */
const char *postgres_proxy_host(const struct postgres_proxy *proxy);
void postgres_proxy_set(struct postgres_proxy *proxy, enum proxy_mode mode);
/* Springs `times` times. */
void postgres_proxy_trap(struct postgres_proxy *proxy, enum proxy_trap trap, int times);

#endif
