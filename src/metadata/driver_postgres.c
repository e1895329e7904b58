/*
 * The production store: PostgreSQL by libpq. Here: transactions, and what may be done again when a connection breaks.
 *
 * A change is two flights: BEGIN and the commands, then COMMIT. So a server that dies before the COMMIT was sent is a clear
 * failure, and only the moment of the COMMIT itself can end in ERR_UNKNOWN_OUTCOME. What is idempotent goes in one flight
 * and is sent again instead. Reads need no transaction.
 *
 * A call waits for a connection no longer than the longer of both timeouts, and ends at its deadline, tries and all.
 * Any thread; no lock but the pool's.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum {
	TRIES_MAX = 4,
	CONTROL_STEPS = 3, /* how to commit, BEGIN, COMMIT */
	GROUP_STEPS = 2,   /* SAVEPOINT, RELEASE */
	EXCLUSIVE_PATIENCE_MS =
		5000, /* waiting for another node's migration is no reason for doubt */
};

struct postgres_driver {
	struct driver base;
	struct driver_config config;
	char *url; /* config.url */
	struct pg_pool *pool;
	struct pg_listener *listener;
};

struct session {
	struct pg_connection *connection;
	const struct statements *statements;
	int64_t timeout_ms;
};

/* One call of the driver, over all its tries. */
struct call {
	struct postgres_driver *driver;
	struct command *commands;
	size_t n;
	enum run_mode mode;
	int64_t take_until_ns, deadline_ns;
	struct pg_step *steps; /* n + CONTROL_STEPS */
	struct pg_failure failure;
	bool again;   /* the last try failed in a way that makes another one worth it */
	bool unknown; /* a COMMIT was sent whose answer never came; stays set over later tries */
};

static int call_init(struct call *call, struct driver *driver, struct command *commands, size_t n,
		     enum run_mode mode, int64_t deadline_ns, struct err *err)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;
	int64_t wait_ms = d->config.statement_timeout_ms;

	if (wait_ms < d->config.connect_timeout_ms)
		wait_ms = d->config.connect_timeout_ms;
	*call = (struct call){.driver = d,
			      .commands = commands,
			      .n = n,
			      .mode = mode,
			      .deadline_ns = deadline_ns};
	call->take_until_ns = clock_monotonic_ns() + wait_ms * NS_PER_MS;
	if (call->take_until_ns > deadline_ns)
		call->take_until_ns = deadline_ns;
	call->steps = calloc(n + CONTROL_STEPS, sizeof(*call->steps));
	return call->steps ? 0 : err_set(err, ERR_NO_MEMORY, "a call of %zu statements", n);
}

static void call_release(struct call *call)
{
	free(call->steps);
}

/* The deadline of what is sent now. */
static int64_t flight_deadline(const struct call *call)
{
	int64_t own_ns =
		clock_monotonic_ns() + call->driver->config.statement_timeout_ms * NS_PER_MS;

	return own_ns < call->deadline_ns ? own_ns : call->deadline_ns;
}

static int control(struct pg_connection *c, const char *what, int64_t deadline_ns, bool *refused,
		   struct err *err)
{
	struct pg_step step = {.control = what};
	struct pg_failure failure;
	int rc = pg_fly(c, &step, 1, deadline_ns, refused, &failure, err);

	pg_steps_clear(&step, 1);
	return rc;
}

static void roll_back(struct pg_connection *c, int64_t deadline_ns)
{
	struct err ignored;
	bool refused;

	if (!c->lost)
		control(c, "ROLLBACK", deadline_ns, &refused, &ignored);
}

/*
 * What makes commits that end in that way now end as the call wants it; NULL where they do already. A server whose commits are not
 * written out unless one asks is asked.
 */
static const char *way_to_commit(const struct call *call, const struct pg_connection *c,
				 bool deferring)
{
	bool defer = call->mode == RUN_DEFERRED;

	if (call->mode == RUN_READ || deferring == defer)
		return NULL;
	if (defer)
		return "SET synchronous_commit TO off";
	return c->deferring_first ? "SET synchronous_commit TO on"
				  : "SET synchronous_commit TO DEFAULT";
}

/* After a transaction that was committed: before, what it set is undone with it. */
static void note_way_to_commit(const struct call *call, struct pg_connection *c)
{
	if (call->mode != RUN_READ)
		c->deferring = call->mode == RUN_DEFERRED;
}

/* COMMIT on its own. A refusal is a clear no; silence is neither. */
static int commit(struct call *call, struct pg_connection *c, struct err *err)
{
	bool refused;

	if (control(c, "COMMIT", flight_deadline(call), &refused, err) == 0) {
		note_way_to_commit(call, c);
		return 0;
	}
	if (!refused)
		call->unknown = true;
	return -1;
}

/* Puts BEGIN, the commands and COMMIT into call->steps, as far as wanted. The number of steps. */
static size_t lay_out(struct call *call, const struct pg_connection *c, bool begin, bool commit_too)
{
	const char *way = way_to_commit(call, c, c->deferring);
	size_t at = 0;

	memset(call->steps, 0, (call->n + CONTROL_STEPS) * sizeof(*call->steps));
	if (way)
		call->steps[at++].control = way;
	if (begin)
		call->steps[at++].control = "BEGIN";
	for (size_t i = 0; i < call->n; i++)
		call->steps[at++].command = &call->commands[i];
	if (commit_too)
		call->steps[at++].control = "COMMIT";
	return at;
}

/* What came of a flight with a read or an idempotent change. */
static int landed(struct call *call, struct pg_connection *c, int rc, bool refused)
{
	if (rc == 0) {
		note_way_to_commit(call, c);
		return 0;
	}
	call->again = c->lost || call->failure.transient;
	if (c->lost && !refused && call->mode != RUN_READ)
		call->unknown = true;
	return -1;
}

/*
 * A read or an idempotent change: one flight. One statement is a transaction by itself, committed by the flight's end: that it was
 * answered does not prove it, as the answer to a COMMIT does, but it may be sent again.
 */
static int try_one_flight(struct call *call, struct pg_connection *c, struct err *err)
{
	bool transaction = call->n > 1;
	size_t n = lay_out(call, c, transaction, transaction);
	int64_t deadline_ns = flight_deadline(call);
	bool refused;
	int rc = pg_fly(c, call->steps, n, deadline_ns, &refused, &call->failure, err);

	if (rc < 0 && transaction && call->steps[n - 1].result)
		rc = 0; /* the connection broke after COMMIT had been answered */
	rc = landed(call, c, rc, refused);
	if (rc < 0 && transaction)
		roll_back(c, deadline_ns);
	return rc;
}

/* A change that must not happen twice: two flights. */
static int try_two_flights(struct call *call, struct pg_connection *c, struct err *err)
{
	size_t n = lay_out(call, c, true, false);
	int64_t deadline_ns = flight_deadline(call);
	bool refused;

	if (pg_fly(c, call->steps, n, deadline_ns, &refused, &call->failure, err) == 0)
		return commit(call, c, err);
	call->again = c->lost || call->failure.transient;
	roll_back(c, deadline_ns);
	return -1;
}

static int deliver(struct call *call, struct err *err)
{
	for (size_t i = 0; i < call->n + CONTROL_STEPS; i++) {
		if (call->steps[i].command && pg_deliver(&call->steps[i], err) < 0)
			return -1;
	}
	return 0;
}

/* The end of a try; the connection goes back. */
static int tried(struct call *call, struct pg_connection *c, int rc, struct err *err)
{
	if (c->silent)
		call->again = false; /* its time is used up */
	pg_pool_give(call->driver->pool, c);
	if (rc == 0)
		rc = deliver(call, err);
	pg_steps_clear(call->steps, call->n + CONTROL_STEPS);
	return rc;
}

static int try_once(struct call *call, struct err *err)
{
	struct pg_connection *c;
	int rc;

	call->again = false;
	c = pg_pool_take(call->driver->pool, call->take_until_ns, false, err);
	if (!c)
		return -1;
	rc = call->mode == RUN_WRITE ? try_two_flights(call, c, err) : try_one_flight(call, c, err);
	return tried(call, c, rc, err);
}

static bool is_refusal(const struct err *err)
{
	return err->kind == ERR_INVALID || err->kind == ERR_CONFLICT;
}

static int unknown_outcome(struct err *err)
{
	struct err cause = *err;

	return err_set(err, ERR_UNKNOWN_OUTCOME, "COMMIT was sent and not answered: %s",
		       cause.message);
}

/* The tries that are left, after one that came to rc. */
static int try_again(struct call *call, int tries, int rc, struct err *err)
{
	while (rc < 0 && call->again && tries-- > 0 && clock_monotonic_ns() < call->deadline_ns &&
	       !(call->unknown && call->mode == RUN_WRITE))
		rc = try_once(call, err);
	if (rc < 0 && call->unknown && !is_refusal(err))
		unknown_outcome(err);
	return rc;
}

static int run(struct driver *driver, struct command *commands, size_t n, enum run_mode mode,
	       int64_t deadline_ns, struct err *err)
{
	struct call call;
	int rc;

	if (call_init(&call, driver, commands, n, mode, deadline_ns, err) < 0)
		return -1;
	rc = try_once(&call, err);
	rc = try_again(&call, TRIES_MAX - 1, rc, err);
	call_release(&call);
	return rc;
}

/* --- run() in two halves --- */

struct flight {
	struct call call;
	struct pg_connection *connection;
	size_t sent; /* steps */
};

static void flight_free(struct flight *flight)
{
	call_release(&flight->call);
	free(flight);
}

/* Nobody waits here: without a connection at hand there is no head start. */
static struct flight *begin(struct driver *driver, struct command *command, enum run_mode mode,
			    int64_t deadline_ns)
{
	struct flight *flight = calloc(1, sizeof(*flight));
	struct call *call = flight ? &flight->call : NULL;
	struct err ignored;

	if (!flight || call_init(call, driver, command, 1, mode, deadline_ns, &ignored) < 0) {
		free(flight);
		return NULL;
	}
	flight->connection =
		pg_pool_take(call->driver->pool, clock_monotonic_ns(), false, &ignored);
	if (flight->connection) {
		flight->sent = lay_out(call, flight->connection, false, false);
		if (pg_take_off(flight->connection, call->steps, flight->sent, &ignored) == 0)
			return flight;
		pg_pool_give(call->driver->pool, flight->connection);
	}
	flight_free(flight);
	return NULL;
}

/* Where the commit is to end in another way than was thought, the server is told before it. */
static int land(struct flight *flight, enum run_mode mode, struct err *err)
{
	struct call *call = &flight->call;
	struct pg_connection *c = flight->connection;
	bool deferring = call->mode == RUN_DEFERRED, refused = true;
	struct pg_step *step = &call->steps[flight->sent];
	int rc = 0;

	call->mode = mode;
	step->control = way_to_commit(call, c, deferring);
	if (step->control)
		rc = pg_send_more(c, &call->steps[flight->sent++], 1, err);
	if (rc == 0)
		rc = pg_land(c, call->steps, flight->sent, flight_deadline(call), &refused,
			     &call->failure, err);
	return tried(call, c, landed(call, c, rc, refused), err);
}

static int end(struct driver *driver, struct flight *flight, bool commit_it, enum run_mode mode,
	       struct err *err)
{
	struct call *call = &flight->call;
	int rc = 0;

	(void)driver;
	if (commit_it) {
		rc = land(flight, mode, err);
		rc = try_again(call, TRIES_MAX - 1, rc, err);
	} else {
		flight->connection->lost = true; /* its end undoes what was sent */
		pg_pool_give(call->driver->pool, flight->connection);
	}
	flight_free(flight);
	return rc;
}

/* --- groups: each under a savepoint, a flight each --- */

/* The group of commands[0 … n-1]. -1: the whole transaction failed. */
static int fly_group(struct call *call, struct pg_connection *c, struct command *commands, size_t n,
		     struct err *group_err, struct err *err)
{
	struct pg_step *steps = call->steps;
	bool refused;
	int rc;

	memset(steps, 0, (n + GROUP_STEPS) * sizeof(*steps));
	steps[0].control = "SAVEPOINT one";
	for (size_t i = 0; i < n; i++)
		steps[i + 1].command = &commands[i];
	steps[n + 1].control = "RELEASE SAVEPOINT one";
	err_clear(group_err);
	rc = pg_fly(c, steps, n + GROUP_STEPS, flight_deadline(call), &refused, &call->failure,
		    group_err);
	pg_steps_clear(steps, n + GROUP_STEPS);
	if (rc == 0)
		return 0;
	if (!is_refusal(group_err) || c->lost) {
		*err = *group_err;
		return -1;
	}
	return control(c, "ROLLBACK TO SAVEPOINT one", flight_deadline(call), &refused, err);
}

static int fly_groups(struct call *call, struct pg_connection *c, struct err *group_errs,
		      struct err *err)
{
	const char *way = way_to_commit(call, c, c->deferring);
	bool refused;
	int rc = control(c, "BEGIN", flight_deadline(call), &refused, err);

	if (rc == 0 && way)
		rc = control(c, way, flight_deadline(call), &refused, err);
	for (size_t at = 0; at < call->n && rc == 0;) {
		size_t group = call->commands[at].group, n = 0;

		while (at + n < call->n && call->commands[at + n].group == group)
			n++;
		rc = fly_group(call, c, &call->commands[at], n, &group_errs[group], err);
		at += n;
	}
	if (rc == 0)
		return commit(call, c, err);
	roll_back(c, flight_deadline(call));
	return -1;
}

static int run_groups(struct driver *driver, struct command *commands, size_t n,
		      struct err *group_errs, size_t groups, int64_t deadline_ns, struct err *err)
{
	struct pg_connection *c;
	struct call call;
	int rc = -1;

	if (call_init(&call, driver, commands, n, RUN_IDEMPOTENT, deadline_ns, err) < 0)
		return -1;
	for (size_t i = 0; i < groups; i++)
		err_clear(&group_errs[i]);
	c = pg_pool_take(call.driver->pool, call.take_until_ns, false, err);
	if (c) {
		rc = fly_groups(&call, c, group_errs, err);
		pg_pool_give(call.driver->pool, c);
	}
	if (rc < 0 && call.unknown && !is_refusal(err))
		unknown_outcome(err);
	call_release(&call);
	return rc;
}

/* --- the other slots --- */

static int ping(struct driver *driver, struct err *err)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;
	int64_t deadline_ns = clock_monotonic_ns() + d->config.connect_timeout_ms * NS_PER_MS;
	struct command command = {.statement = statements_find(d->config.statements, "ping")};
	struct pg_step step = {.command = &command};
	bool refused, again = true;
	int rc = -1;

	if (!command.statement)
		return err_set(err, ERR_INTERNAL, "no statement ping");
	for (int tries = 0; tries < TRIES_MAX && again; tries++) {
		struct pg_connection *c = pg_pool_take(d->pool, deadline_ns, true, err);
		struct pg_failure failure;

		if (!c)
			return -1;
		rc = pg_fly(c, &step, 1, deadline_ns, &refused, &failure, err);
		again = rc < 0 && c->lost && !c->silent; /* an old connection that was dead */
		pg_steps_clear(&step, 1);
		pg_pool_give(d->pool, c);
	}
	return rc;
}

static int session_control(struct session *session, enum session_verb verb, struct err *err)
{
	static const char *const words[] = {"BEGIN", "COMMIT", "ROLLBACK"};
	int64_t deadline_ns = clock_monotonic_ns() + session->timeout_ms * NS_PER_MS;
	bool refused;

	if (session->connection->lost)
		return err_set(err, ERR_UNAVAILABLE, "PostgreSQL: the connection broke before %s",
			       words[verb]);
	if (control(session->connection, words[verb], deadline_ns, &refused, err) == 0)
		return 0;
	return verb == SESSION_COMMIT && !refused ? unknown_outcome(err) : -1;
}

static int session_run(struct session *session, struct command *command, struct err *err)
{
	int64_t deadline_ns = clock_monotonic_ns() + session->timeout_ms * NS_PER_MS;
	struct pg_step step = {.command = command};
	struct pg_failure failure;
	bool refused;
	int rc = pg_fly(session->connection, &step, 1, deadline_ns, &refused, &failure, err);

	if (rc == 0)
		rc = pg_deliver(&step, err);
	pg_steps_clear(&step, 1);
	return rc;
}

static int session_script(struct session *session, const char *sql, struct err *err)
{
	int64_t deadline_ns = clock_monotonic_ns() + session->timeout_ms * NS_PER_MS;

	return pg_script(session->connection, sql, "script", deadline_ns, err);
}

/* A connection of its own, without the server's limit for statements. The lock goes with it when it is closed. */
static int exclusive(struct driver *driver, int64_t timeout_ms, exclusive_fn body, void *context,
		     struct err *err)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;
	struct command lock = {.statement =
				       statements_find(d->config.statements, "migrations_lock")};
	struct command unlock = {
		.statement = statements_find(d->config.statements, "migrations_unlock")};
	struct session session = {NULL, d->config.statements, timeout_ms};
	struct pg_attempt how = {.config = &d->config, .wake_fd = pg_pool_wake_fd(d->pool)};
	struct err ignored;
	int rc;

	if (!lock.statement || !unlock.statement)
		return err_set(err, ERR_INTERNAL, "the statements of migrations are missing");
	if (pg_connect(&how, &session.connection, err) < 0)
		return -1;
	pg_pool_watch(d->pool, session.connection, EXCLUSIVE_PATIENCE_MS);
	rc = session_run(&session, &lock, err);
	if (rc == 0)
		rc = body(&session, context, err);
	if (rc == 0) /* else the connection's end does it */
		session_run(&session, &unlock, &ignored);
	pg_disconnect(&session.connection);
	return rc;
}

static void on_notify(struct driver *driver, notified_fn notified, void *context)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;

	pg_listener_tell(d->listener, notified, context);
}

static void interrupt_driver(struct driver *driver)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;

	pg_pool_interrupt(d->pool);
}

static void close_driver(struct driver *driver)
{
	struct postgres_driver *d = (struct postgres_driver *)driver;

	pg_listener_free(&d->listener);
	pg_pool_free(&d->pool);
	if (d->url)
		explicit_bzero(d->url, strlen(d->url));
	free(d->url);
	free(d);
}

/* Unless lazy, waits for the first connection, or for the reason why there is none. */
static int open_driver(const struct driver_config *config, struct driver **out, struct err *err)
{
	struct postgres_driver *d = calloc(1, sizeof(*d));
	struct pg_connection *first;

	if (pg_check_url(config->url, err) < 0) {
		free(d);
		return -1;
	}
	if (!d || !(d->url = strdup(config->url))) {
		free(d);
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL driver");
	}
	d->base.ops = &driver_postgres;
	d->config = *config;
	d->config.url = d->url;
	if (pg_pool_new(&d->config, &d->pool, err) < 0 ||
	    pg_listener_new(&d->config, &d->listener, err) < 0)
		goto fail;
	if (!config->lazy) {
		first = pg_pool_take(d->pool, INT64_MAX, false, err);
		if (!first)
			goto fail;
		pg_pool_give(d->pool, first);
	}
	*out = &d->base;
	return 0;
fail:
	close_driver(&d->base);
	return -1;
}

const struct driver_ops driver_postgres = {
	.dialect = "postgres",
	.json_verbatim = false,
	.check_url = pg_check_url,
	.open = open_driver,
	.close = close_driver,
	.interrupt = interrupt_driver,
	.run = run,
	.begin = begin,
	.end = end,
	.run_groups = run_groups,
	.ping = ping,
	.exclusive = exclusive,
	.session_control = session_control,
	.session_run = session_run,
	.session_script = session_script,
	.on_notify = on_notify,
};
