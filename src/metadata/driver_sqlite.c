/*
 * The embedded store: SQLite, one connection that writes and some that read.
 *
 * WAL lets readers see the last committed state while the writer works; BEGIN IMMEDIATE takes the write lock at once, so a
 * transaction never fails halfway because another process (`depotd check` beside `depotd serve`) wrote in between.
 * Any thread; a connection belongs to the thread that took it. One lock, `lock`, held for moments only; no other is taken
 * while it is held.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "sqlite_private.h"

enum { NS_PER_MS = 1000000, PATH_TEXT_MAX = 4096 };

struct sqlite_driver {
	struct driver base;
	struct driver_config config;
	char path[PATH_TEXT_MAX];
	pthread_mutex_t lock; /* guards `taken` of every connection */
	pthread_cond_t freed; /* CLOCK_MONOTONIC */
	size_t reader_count;
	struct sqlite_connection writer;
	struct sqlite_connection readers[]; /* opened when first taken */
};

struct session {
	struct sqlite_driver *driver;
	struct sqlite_connection *connection;
	int64_t timeout_ms;
};

static struct sqlite_connection *find_free(struct sqlite_driver *d, enum run_mode mode)
{
	if (mode != RUN_READ)
		return d->writer.taken ? NULL : &d->writer;
	for (size_t i = 0; i < d->reader_count; i++) {
		if (!d->readers[i].taken)
			return &d->readers[i];
	}
	return NULL;
}

static void give_back(struct sqlite_driver *d, struct sqlite_connection *c)
{
	pthread_mutex_lock(&d->lock);
	c->taken = false;
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

/* Waits for a connection until deadline_ns, which is the deadline of what runs on it too. */
static struct sqlite_connection *take(struct sqlite_driver *d, enum run_mode mode,
				      int64_t deadline_ns, struct err *err)
{
	struct timespec until = {.tv_sec = deadline_ns / 1000000000,
				 .tv_nsec = deadline_ns % 1000000000};
	struct sqlite_connection *c;
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	while (!(c = find_free(d, mode)) && rc == 0)
		rc = pthread_cond_timedwait(&d->freed, &d->lock, &until);
	if (c)
		c->taken = true;
	pthread_mutex_unlock(&d->lock);
	if (!c) {
		err_set(err, ERR_UNAVAILABLE, "SQLite: all connections are busy");
		return NULL;
	}
	c->deadline_ns = deadline_ns;
	if (!c->db &&
	    sqlite_connection_open(c, d->path, d->config.statements, deadline_ns, err) < 0) {
		give_back(d, c);
		return NULL;
	}
	return c;
}

/* There is no connecting to wait for here: a call is over when its statement's time is. */
static int64_t call_deadline(const struct sqlite_driver *d, int64_t deadline_ns)
{
	int64_t own_ns = clock_monotonic_ns() + d->config.statement_timeout_ms * NS_PER_MS;

	return own_ns < deadline_ns ? own_ns : deadline_ns;
}

static int begin(struct sqlite_connection *c, enum run_mode mode, struct err *err)
{
	return sqlite_connection_script(c, mode == RUN_READ ? "BEGIN" : "BEGIN IMMEDIATE", "BEGIN",
					err);
}

static void roll_back(struct sqlite_connection *c)
{
	if (!sqlite3_get_autocommit(c->db)) /* some failures have undone it already */
		sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

/*
 * A COMMIT that fails for want of space or time has not happened. One that fails with an I/O error may come back to life after
 * a crash, when its pages reached the log before the error: neither success nor failure.
 */
static int commit(struct sqlite_connection *c, struct err *err)
{
	if (sqlite_connection_script(c, "COMMIT", "COMMIT", err) == 0)
		return 0;
	if (err->kind == ERR_IO)
		err->kind = ERR_UNKNOWN_OUTCOME;
	roll_back(c);
	return -1;
}

static int run(struct driver *driver, struct command *commands, size_t n, enum run_mode mode,
	       int64_t deadline_ns, struct err *err)
{
	struct sqlite_driver *d = (struct sqlite_driver *)driver;
	struct sqlite_connection *c = take(d, mode, call_deadline(d, deadline_ns), err);
	bool alone = n == 1 && mode == RUN_READ;
	int rc = 0;

	if (!c)
		return -1;
	if (!alone)
		rc = begin(c, mode, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = sqlite_connection_run(c, &commands[i], err);
	if (!alone && rc == 0)
		rc = commit(c, err);
	else if (!alone)
		roll_back(c);
	give_back(d, c);
	return rc;
}

static bool is_refusal(const struct err *err)
{
	return err->kind == ERR_INVALID || err->kind == ERR_CONFLICT;
}

/* Runs the commands of one group, which begin at *at, under a savepoint, and moves *at behind them. */
static int run_group(struct sqlite_connection *c, struct command *commands, size_t n, size_t *at,
		     struct err *group_err, struct err *err)
{
	size_t group = commands[*at].group;
	int rc = 0;

	err_clear(group_err);
	if (sqlite_connection_script(c, "SAVEPOINT one", "SAVEPOINT", err) < 0)
		return -1;
	for (; *at < n && commands[*at].group == group; (*at)++) {
		if (rc == 0)
			rc = sqlite_connection_run(c, &commands[*at], group_err);
	}
	if (rc == 0)
		return sqlite_connection_script(c, "RELEASE one", "RELEASE", err);
	if (!is_refusal(group_err)) {
		*err = *group_err;
		return -1;
	}
	return sqlite_connection_script(c, "ROLLBACK TO one; RELEASE one", "ROLLBACK TO", err);
}

static int run_groups(struct driver *driver, struct command *commands, size_t n,
		      struct err *group_errs, size_t groups, int64_t deadline_ns, struct err *err)
{
	struct sqlite_driver *d = (struct sqlite_driver *)driver;
	struct sqlite_connection *c = take(d, RUN_IDEMPOTENT, call_deadline(d, deadline_ns), err);
	int rc;

	if (!c)
		return -1;
	for (size_t i = 0; i < groups; i++)
		err_clear(&group_errs[i]);
	rc = begin(c, RUN_IDEMPOTENT, err);
	for (size_t at = 0; at < n && rc == 0;)
		rc = run_group(c, commands, n, &at, &group_errs[commands[at].group], err);
	if (rc == 0)
		rc = commit(c, err);
	else
		roll_back(c);
	give_back(d, c);
	return rc;
}

static int ping(struct driver *driver, struct err *err)
{
	struct sqlite_driver *d = (struct sqlite_driver *)driver;
	int64_t deadline_ns = clock_monotonic_ns() + d->config.connect_timeout_ms * NS_PER_MS;
	struct command command = {.statement = statements_find(d->config.statements, "ping")};
	struct sqlite_connection *c = take(d, RUN_READ, deadline_ns, err);
	int rc;

	if (!c)
		return -1;
	rc = sqlite_connection_run(c, &command, err);
	give_back(d, c);
	return rc;
}

/* The lock is BEGIN IMMEDIATE, which the body begins with; the writer is taken so that this process waits too. */
static int exclusive(struct driver *driver, int64_t timeout_ms, exclusive_fn body, void *context,
		     struct err *err)
{
	struct sqlite_driver *d = (struct sqlite_driver *)driver;
	int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
	struct session session = {d, take(d, RUN_WRITE, deadline_ns, err), timeout_ms};
	int rc;

	if (!session.connection)
		return -1;
	rc = body(&session, context, err);
	roll_back(session.connection);
	give_back(d, session.connection);
	return rc;
}

static void renew_deadline(struct session *session)
{
	session->connection->deadline_ns = clock_monotonic_ns() + session->timeout_ms * NS_PER_MS;
}

static int session_control(struct session *session, enum session_verb verb, struct err *err)
{
	renew_deadline(session);
	switch (verb) {
	case SESSION_BEGIN:
		return begin(session->connection, RUN_WRITE, err);
	case SESSION_COMMIT:
		return commit(session->connection, err);
	case SESSION_ROLLBACK:
		roll_back(session->connection);
	}
	return 0;
}

static int session_run(struct session *session, struct command *command, struct err *err)
{
	renew_deadline(session);
	return sqlite_connection_run(session->connection, command, err);
}

static int session_script(struct session *session, const char *sql, struct err *err)
{
	renew_deadline(session);
	return sqlite_connection_script(session->connection, sql, "script", err);
}

static void close_driver(struct driver *driver)
{
	struct sqlite_driver *d = (struct sqlite_driver *)driver;

	for (size_t i = 0; i < d->reader_count; i++)
		sqlite_connection_close(&d->readers[i]);
	sqlite_connection_close(
		&d->writer); /* the last one: moves the log into the database and removes it */
	pthread_cond_destroy(&d->freed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* SQLite takes ":memory:" and "" for databases that no second connection sees. */
static int check_path(const char *path, struct err *err)
{
	return path[0] == '\0' || path[0] == ':'
		       ? err_set(err, ERR_INVALID, "sqlite:%s: not the path of a file", path)
		       : 0;
}

static int set_path(struct sqlite_driver *d, const char *path, struct err *err)
{
	size_t n = strlen(path);

	if (check_path(path, err) < 0)
		return -1;
	if (n >= sizeof(d->path))
		return err_set(err, ERR_INVALID, "sqlite:%s: too long", path);
	memcpy(d->path, path, n + 1);
	return 0;
}

static int open_driver(const struct driver_config *config, struct driver **out, struct err *err)
{
	size_t readers = config->connections > 0 ? config->connections : 1;
	struct sqlite_driver *d = calloc(1, sizeof(*d) + readers * sizeof(d->readers[0]));
	pthread_condattr_t monotonic;

	if (!d)
		return err_set(err, ERR_NO_MEMORY, "SQLite driver");
	d->base.ops = &driver_sqlite;
	d->config = *config;
	d->reader_count = readers;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->freed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (set_path(d, config->url, err) < 0 ||
	    sqlite_connection_open(&d->writer, d->path, config->statements,
				   clock_monotonic_ns() + config->connect_timeout_ms * NS_PER_MS,
				   err) < 0) {
		close_driver(&d->base);
		return -1;
	}
	sqlite_connection_keep_room(d->path);
	*out = &d->base;
	return 0;
}

const struct driver_ops driver_sqlite = {
	.dialect = "sqlite",
	.json_verbatim = true,
	.check_url = check_path,
	.open = open_driver,
	.close = close_driver,
	.run = run,
	.run_groups = run_groups,
	.ping = ping,
	.exclusive = exclusive,
	.session_control = session_control,
	.session_run = session_run,
	.session_script = session_script,
	.on_notify = NULL,
};
