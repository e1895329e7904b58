/*
 * One connection to PostgreSQL. Used by one thread at a time.
 *
 * libpq never blocks here but for name resolution: every wait is a poll() with a deadline. A server that stops answering
 * is a connection lost, since nobody knows what an answer that comes later would belong to.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum {
	SETTINGS_MAX = 20,
	NUMBER_TEXT_MAX = 24,
	OPTIONS_MAX = 1024,
	HOSTS_MAX = 16,
	IDLE_READS_MAX = 8,
	IDLE_IN_TRANSACTION_MS = 60000,
};

/* --- waiting --- */

static int ms_left(int64_t deadline_ns)
{
	int64_t left = (deadline_ns - clock_monotonic_ns() + NS_PER_MS - 1) / NS_PER_MS;

	return left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* 1 ready (revents in *events), 0 woken, -1 the deadline passed. */
static int poll_until(int fd, short *events, int64_t deadline_ns, int wake_fd)
{
	struct pollfd fds[] = {{.fd = fd, .events = *events}, {.fd = wake_fd, .events = POLLIN}};

	for (;;) {
		int left = ms_left(deadline_ns);
		int n = poll(fds, 2, left);

		if (n > 0 && fds[1].revents)
			return 0;
		if (n > 0) {
			*events = fds[0].revents;
			return 1;
		}
		if ((n == 0 || errno != EINTR) && ms_left(deadline_ns) == 0)
			return -1;
	}
}

static int no_answer(struct pg_connection *c, const char *what, struct err *err)
{
	c->lost = true;
	c->silent = true;
	return err_set(err, ERR_UNAVAILABLE, "PostgreSQL: %s: no answer in time", what);
}

int pg_wait(struct pg_connection *c, int64_t deadline_ns, int wake_fd, struct err *err)
{
	int unsent = PQflush(c->conn);
	short events = unsent > 0 ? POLLIN | POLLOUT : POLLIN;
	int rc;

	if (unsent < 0)
		return pg_connection_failed(c, "send", err);
	rc = poll_until(PQsocket(c->conn), &events, deadline_ns, wake_fd);
	if (rc < 0)
		return no_answer(c, "wait", err);
	if (rc > 0 && events != POLLOUT && !PQconsumeInput(c->conn))
		return pg_connection_failed(c, "receive", err);
	return rc;
}

static bool is_readable(const struct pg_connection *c)
{
	struct pollfd fd = {.fd = PQsocket(c->conn), .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

/* An idle server speaks to say goodbye (on_notice() sees it), of a setting that changed, or it is gone. */
bool pg_is_alive(struct pg_connection *c)
{
	for (int reads = 0; reads < IDLE_READS_MAX && is_readable(c); reads++) {
		if (!PQconsumeInput(c->conn) || PQisBusy(c->conn))
			return false;
	}
	return !c->lost && PQstatus(c->conn) == CONNECTION_OK;
}

/* --- connecting --- */

/* Keywords for PQconnectStartParams: a later one wins. */
struct settings {
	const char *keywords[SETTINGS_MAX + 1];
	const char *values[SETTINGS_MAX + 1];
	size_t n;
	char connect_timeout[NUMBER_TEXT_MAX], user_timeout[NUMBER_TEXT_MAX];
	char options[OPTIONS_MAX];
};

static void set(struct settings *s, const char *keyword, const char *value)
{
	if (value && s->n < SETTINGS_MAX) {
		s->keywords[s->n] = keyword;
		s->values[s->n++] = value;
	}
}

static void set_unless_env(struct settings *s, const char *keyword, const char *variable,
			   const char *value)
{
	if (!getenv(variable))
		set(s, keyword, value);
}

/*
 * What holds unless the URL says otherwise. A dead peer is noticed by the kernel in some 25 s; our own deadlines are
 * shorter, this is for connections that nobody waits for. A standby is no use to us: go on to the next host.
 */
static void set_defaults(struct settings *s, const struct driver_config *config)
{
	snprintf(s->connect_timeout, sizeof(s->connect_timeout), "%lld",
		 (long long)(config->connect_timeout_ms + 999) / 1000);
	snprintf(s->user_timeout, sizeof(s->user_timeout), "%lld",
		 (long long)config->statement_timeout_ms);
	set_unless_env(s, "connect_timeout", "PGCONNECT_TIMEOUT", s->connect_timeout);
	set_unless_env(s, "target_session_attrs", "PGTARGETSESSIONATTRS", "read-write");
	set(s, "tcp_user_timeout", s->user_timeout);
	set(s, "keepalives", "1");
	set(s, "keepalives_idle", "10");
	set(s, "keepalives_interval", "5");
	set(s, "keepalives_count", "3");
	set(s, "fallback_application_name", "depotd");
	set(s, "client_encoding", "UTF8");
}

/*
 * The server's own limits, behind what the user's options say: for a statement, and for a transaction that this process lets
 * lie, so that a stopped process holds no locks.
 */
static void set_limits(struct settings *s, const char *options, int64_t statement_timeout_ms)
{
	if (!options)
		options = getenv("PGOPTIONS");
	snprintf(s->options, sizeof(s->options),
		 "%s -c statement_timeout=%lld -c idle_in_transaction_session_timeout=%d",
		 options ? options : "", (long long)statement_timeout_ms, IDLE_IN_TRANSACTION_MS);
	set(s, "options", s->options);
}

static int give_up(struct pg_connection *c, int rc, struct err *err)
{
	return rc == 0 ? err_set(err, ERR_CANCELLED, "PostgreSQL: connecting was given up")
		       : no_answer(c, "connect", err);
}

static int start(struct pg_connection *c, const struct settings *settings, int64_t deadline_ns,
		 int wake_fd, struct err *err)
{
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;

	c->conn = PQconnectStartParams(settings->keywords, settings->values, 1);
	if (!c->conn)
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
	while (PQstatus(c->conn) != CONNECTION_BAD && next != PGRES_POLLING_OK &&
	       next != PGRES_POLLING_FAILED) {
		short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		int rc = poll_until(PQsocket(c->conn), &events, deadline_ns, wake_fd);

		if (rc <= 0)
			return give_up(c, rc, err);
		next = PQconnectPoll(c->conn);
	}
	if (PQstatus(c->conn) != CONNECTION_OK)
		return pg_connection_failed(c, "connect", err);
	return PQsetnonblocking(c->conn, 1) == 0 ? 0 : pg_connection_failed(c, "connect", err);
}

/* The statement session_setup: what every connection has set. */
static int set_up(struct pg_connection *c, int64_t deadline_ns, struct err *err)
{
	struct command setup = {.statement = statements_find(c->statements, "session_setup")};
	struct pg_step step = {.command = &setup};
	struct pg_failure failure = {0};
	bool refused;
	int rc;

	if (!setup.statement)
		return err_set(err, ERR_INTERNAL, "no statement session_setup");
	rc = pg_fly(c, &step, 1, deadline_ns, &refused, &failure, err);
	pg_steps_clear(&step, 1);
	return rc;
}

/* Nobody reads notices (libpq would print them), but a farewell that comes while nothing runs is one. */
static void on_notice(void *context, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	struct pg_connection *c = context;

	if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		c->lost = true;
}

/* What one attempt to connect is made of. */
struct attempt {
	const struct driver_config *config;
	int64_t statement_timeout_ms;
	int wake_fd;
	const char *options;               /* the URL's, or NULL */
	const char *host, *address, *port; /* one of the URL's hosts; NULL: as the URL says */
};

static int connect_host(const struct attempt *attempt, struct pg_connection **out, struct err *err)
{
	const struct driver_config *config = attempt->config;
	int64_t deadline_ns = clock_monotonic_ns() + config->connect_timeout_ms * NS_PER_MS;
	struct pg_connection *c = calloc(1, sizeof(*c));
	struct settings settings = {0};

	if (!c)
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
	c->statements = config->statements;
	c->prepared = calloc(statements_count(config->statements) + 1, sizeof(*c->prepared));
	if (!c->prepared) {
		err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
		goto fail;
	}
	set_defaults(&settings, config);
	set(&settings, "dbname", config->url);
	set(&settings, "host", attempt->host);
	set(&settings, "hostaddr", attempt->address);
	set(&settings, "port", attempt->port);
	set_limits(&settings, attempt->options, attempt->statement_timeout_ms);
	if (start(c, &settings, deadline_ns, attempt->wake_fd, err) < 0)
		goto fail;
	PQsetNoticeReceiver(c->conn, on_notice, c);
	if (set_up(c, deadline_ns, err) < 0)
		goto fail;
	*out = c;
	return 0;
fail:
	pg_disconnect(&c);
	return -1;
}

/* Cuts the list at its next comma; NULL where there is no list or it has come to its end. */
static const char *next_member(char **list)
{
	return *list ? strsep(list, ",") : NULL;
}

static char *option(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++) {
		if (strcmp(options->keyword, keyword) == 0)
			return options->val && options->val[0] ? options->val : NULL;
	}
	return NULL;
}

/*
 * libpq's own walk over several hosts leaves the timing of each to the caller only in its blocking form; so each host is an
 * attempt of its own here, and a black hole among them costs its own time alone.
 */
static int connect_hosts(struct attempt *attempt, const PQconninfoOption *options,
			 struct pg_connection **out, struct err *err)
{
	char *hosts = option(options, "host"), *addresses = option(options, "hostaddr"),
	     *ports = option(options, "port");
	bool several = (hosts && strchr(hosts, ',')) || (addresses && strchr(addresses, ','));

	attempt->options = option(options, "options");
	if (!several)
		return connect_host(attempt, out, err);
	for (size_t i = 0; i < HOSTS_MAX && (hosts || addresses); i++) {
		attempt->host = next_member(&hosts);
		attempt->address = next_member(&addresses);
		if (ports) /* one port is for all hosts */
			attempt->port = next_member(&ports);
		if (connect_host(attempt, out, err) == 0)
			return 0;
		if (err->kind == ERR_CANCELLED)
			return -1;
	}
	return -1;
}

int pg_connect(const struct driver_config *config, int64_t statement_timeout_ms, int wake_fd,
	       struct pg_connection **out, struct err *err)
{
	struct attempt attempt = {
		.config = config, .statement_timeout_ms = statement_timeout_ms, .wake_fd = wake_fd};
	char *why = NULL;
	PQconninfoOption *options = PQconninfoParse(config->url, &why);
	int rc;

	if (!options) {
		err_set(err, ERR_INVALID, "database URL: %.*s", why ? (int)strcspn(why, "\n") : 0,
			why ? why : "");
		PQfreemem(why);
		return -1;
	}
	rc = connect_hosts(&attempt, options, out, err);
	PQconninfoFree(options);
	return rc;
}

void pg_disconnect(struct pg_connection **c)
{
	if (!*c)
		return;
	PQfinish((*c)->conn); /* non-blocking: a goodbye that cannot be sent at once is not sent */
	free((*c)->prepared);
	free(*c);
	*c = NULL;
}

/* --- scripts and notifications --- */

int pg_script(struct pg_connection *c, const char *sql, const char *what, int64_t deadline_ns,
	      struct err *err)
{
	struct pg_failure failure = {0};
	int rc = 0;

	if (!PQsendQuery(c->conn, sql))
		return pg_connection_failed(c, what, err);
	for (;;) {
		PGresult *result;

		while (PQisBusy(c->conn)) {
			if (pg_wait(c, deadline_ns, -1, err) < 0)
				return -1;
		}
		result = PQgetResult(c->conn);
		if (!result)
			break;
		if (PQresultStatus(result) == PGRES_FATAL_ERROR && rc == 0)
			rc = pg_result_failed(c, result, what, &failure, err);
		PQclear(result);
	}
	if (rc == 0 && PQstatus(c->conn) != CONNECTION_OK)
		rc = pg_connection_failed(c, what, err);
	return rc;
}

int pg_notification(struct pg_connection *c, char *out, size_t max)
{
	PGnotify *notification = PQnotifies(c->conn);

	if (!notification)
		return 0;
	snprintf(out, max, "%s", notification->extra);
	PQfreemem(notification);
	return 1;
}
