/*
 * What the files of the PostgreSQL driver share: connections, flights, the pool, the listener. libpq itself is included by
 * driver_postgres*.c only.
 *
 *   driver_postgres.c             transactions: what is sent together, what may be sent twice, what is unknown
 *   driver_postgres_pool.c        connections on demand, and whether the server is held to be down
 *   driver_postgres_connect.c     connecting: a race between the URL's hosts
 *   driver_postgres_flight.c      one flight: commands in pipeline mode, one round trip
 *   driver_postgres_connection.c  one connection: waiting with a deadline, demotion, notifications
 *   driver_postgres_error.c       SQLSTATE to err
 *   listener.c                    LISTEN on a connection and a thread of its own
 *
 * Deadlines are CLOCK_MONOTONIC in ns. Lock order: the listener's lock and the pool's are never held together; no lock is held
 * during I/O, but for the listener's around its callback.
 */
#ifndef DEPOTD_METADATA_POSTGRES_PRIVATE_H
#define DEPOTD_METADATA_POSTGRES_PRIVATE_H

#include "depotd/metadata/driver.h"

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* libpq's PGresult */
struct pg_pool;
enum { NS_PER_MS = 1000000 };

/* --- one connection --- */

struct pg_connection {
	struct pg_conn *conn;
	const struct statements *statements;
	bool *prepared; /* by statement index */
	bool lost;      /* dead, or in a state nobody knows: to be closed, not used */
	bool silent;    /* lost because the server did not answer in time */
	bool writes; /* it was connected to a server that takes changes, and only such a one will do */
	bool demoted;         /* lost because the server takes no changes any more */
	bool deferring;       /* its commits are answered before they are written out */
	bool deferring_first; /* that is how the server is set up */
	struct pg_pool *pool; /* is asked after much silence whether the server is there; or NULL */
	int64_t server;       /* when it was started: another one is behind another number */
	int64_t patience_ms;
	unsigned generation;        /* the pool's */
	struct pg_connection *next; /* the pool's list of idle ones */
};

/* What connecting takes, and what it learnt. */
struct pg_attempt {
	const struct driver_config *config;
	int64_t statement_timeout_ms; /* set in the server, 0 for none */
	int wake_fd; /* becomes readable when the attempt is to be given up (ERR_CANCELLED); -1 none */
	/* in and out: which of the URL's hosts is asked first, and which let us in */
	unsigned favourite;
	bool crowded; /* out: some server was there, and has no place for one more */
};

/*
 * Tries all of the URL's hosts within connect_timeout_ms. Name resolution is the C library's and blocks, so only threads that
 * nobody waits for without a deadline connect.
 */
int pg_connect(struct pg_attempt *attempt, struct pg_connection **out, struct err *err);
/* ERR_INVALID where the URL is malformed. */
int pg_check_url(const char *url, struct err *err);
/* A connection without libpq's, to be begun when that one stands. */
int pg_connection_new(const struct statements *statements, struct pg_connection **out,
		      struct err *err);
void pg_connection_begin(struct pg_connection *c);
void pg_disconnect(struct pg_connection **c); /* takes NULL inside */
/* A look without waiting: false when the server has closed it, or takes no changes any more. */
bool pg_is_alive(struct pg_connection *c);
/* Sets lost and demoted where the server has said that it takes no changes any more. */
void pg_look_for_demotion(struct pg_connection *c);
/*
 * Waits until libpq's socket is ready, deadline or wake_fd (-1 for a connection that has a pool: that one's counts). 1 ready,
 * 0 woken, -1 (lost is set). Input is consumed.
 */
int pg_wait(struct pg_connection *c, int64_t deadline_ns, int wake_fd, struct err *err);
/* Any number of statements without parameters, by the simple protocol. */
int pg_script(struct pg_connection *c, const char *sql, const char *what, int64_t deadline_ns,
	      struct err *err);
/* The next notification's payload, in out (terminated): 1, 0 none is here. */
int pg_notification(struct pg_connection *c, char *out, size_t max);

/* --- errors --- */

struct pg_failure {
	bool fatal;     /* the server ended the session with it */
	bool transient; /* deadlock or serialization: the transaction may be run again as it is */
	bool stale;     /* the connection's prepared statements are not what we think */
};

/* Fills err from a failed result; sets c->lost where the connection is not to be used again. Returns -1. */
int pg_result_failed(struct pg_connection *c, const struct pg_result *result, const char *what,
		     struct pg_failure *failure, struct err *err);
/* The same from the connection's own message: it broke. Sets c->lost. Returns -1. */
int pg_connection_failed(struct pg_connection *c, const char *what, struct err *err);
/* The same while connecting. True: the server is there, but has no place for one more connection. */
bool pg_connection_refused(struct pg_connection *c, struct err *err);

/* --- a flight --- */

struct pg_step {
	const char *control;      /* BEGIN, COMMIT, … or NULL */
	struct command *command;  /* where control is NULL */
	struct pg_result *result; /* of a step that succeeded */
	bool prepare;             /* the flight's: its statement is prepared in this flight */
};

/*
 * Sends all steps at once and waits for all answers. 0, or -1: the first failure in err and *failure, later steps were not
 * run. On -1 with c->lost, a step may have run without its result being known, unless *refused: an answer said no.
 */
int pg_fly(struct pg_connection *c, struct pg_step *steps, size_t n, int64_t deadline_ns,
	   bool *refused, struct pg_failure *failure, struct err *err);
/*
 * The same in parts: the server begins with what was sent, and commits nothing before the landing, whose steps are all that were
 * sent. In between the connection is nobody else's, and whoever does not want to land closes it. After -1 it is lost.
 */
int pg_take_off(struct pg_connection *c, struct pg_step *steps, size_t n, struct err *err);
int pg_send_more(struct pg_connection *c, struct pg_step *steps, size_t n, struct err *err);
int pg_land(struct pg_connection *c, struct pg_step *steps, size_t n, int64_t deadline_ns,
	    bool *refused, struct pg_failure *failure, struct err *err);
void pg_steps_clear(struct pg_step *steps, size_t n);
/* Gives the rows of a command's result to its callback and sets affected. */
int pg_deliver(struct pg_step *step, struct err *err);

/* --- the pool --- */

int pg_pool_new(const struct driver_config *config, struct pg_pool **out, struct err *err);
void pg_pool_free(struct pg_pool **pool);
/* force: when the server is held to be down, wait for a new attempt instead of failing at once. */
struct pg_connection *pg_pool_take(struct pg_pool *pool, int64_t deadline_ns, bool force,
				   struct err *err);
void pg_pool_give(struct pg_pool *pool, struct pg_connection *c); /* a lost one is closed */
/* This connection has been silent for a while. True: its server is gone, or the pool was interrupted; give it up. */
bool pg_pool_doubt(struct pg_pool *pool, const struct pg_connection *c);
/* Has a connection that is not of the pool's ask it in that way. */
void pg_pool_watch(struct pg_pool *pool, struct pg_connection *c, int64_t patience_ms);
/* Ends all waiting, for good. */
void pg_pool_interrupt(struct pg_pool *pool);
int pg_pool_wake_fd(const struct pg_pool *pool); /* readable from then on */

/* --- the listener --- */

struct pg_listener;

int pg_listener_new(const struct driver_config *config, struct pg_listener **out, struct err *err);
void pg_listener_free(struct pg_listener **listener);
/* notified NULL: nobody. The one before is not called any more. */
void pg_listener_tell(struct pg_listener *listener, notified_fn notified, void *context);

#endif
