/*
 * One connection to PostgreSQL. Used by one thread at a time.
 *
 * libpq never blocks here: every wait is a poll() with a deadline. A server that stops answering is a connection lost, since
 * nobody knows what an answer that comes later would belong to. Long before the deadline a wait asks the pool to find out
 * whether the server is there at all: a statement may be slow, but nobody waits for one whose server is gone.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum { IDLE_READS_MAX = 8, LOOK_EVERY_MS = 100 };

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

/*
 * Waits like poll_until() without a wake_fd, and ends as if the deadline had passed when the pool finds that the server is gone,
 * or is interrupted.
 */
static int poll_in_doubt(struct pg_connection *c, short *events, int64_t deadline_ns)
{
	int64_t slice_ms = c->patience_ms;

	for (;;) {
		int64_t until_ns = clock_monotonic_ns() + slice_ms * NS_PER_MS;
		int rc = poll_until(PQsocket(c->conn), events,
				    until_ns < deadline_ns ? until_ns : deadline_ns,
				    pg_pool_wake_fd(c->pool));

		if (rc > 0)
			return 1;
		if (rc == 0 || until_ns >= deadline_ns || pg_pool_doubt(c->pool, c))
			return -1;
		slice_ms = LOOK_EVERY_MS;
	}
}

int pg_wait(struct pg_connection *c, int64_t deadline_ns, int wake_fd, struct err *err)
{
	int unsent = PQflush(c->conn);
	short events = unsent > 0 ? POLLIN | POLLOUT : POLLIN;
	int rc;

	if (unsent < 0)
		return pg_connection_failed(c, "send", err);
	rc = c->pool ? poll_in_doubt(c, &events, deadline_ns)
		     : poll_until(PQsocket(c->conn), &events, deadline_ns, wake_fd);
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
	pg_look_for_demotion(c);
	return !c->lost && PQstatus(c->conn) == CONNECTION_OK;
}

static bool is_on(const struct pg_connection *c, const char *setting)
{
	const char *value = PQparameterStatus(c->conn, setting);

	return value && strcmp(value, "on") == 0;
}

/* From PostgreSQL 14 on the server tells of these two by itself. Older ones refuse the next change: 25006. */
void pg_look_for_demotion(struct pg_connection *c)
{
	if (!c->writes || c->lost ||
	    (!is_on(c, "default_transaction_read_only") && !is_on(c, "in_hot_standby")))
		return;
	c->lost = true;
	c->demoted = true;
}

/* --- beginning and ending --- */

/* Nobody reads notices (libpq would print them), but a farewell that comes while nothing runs is one. */
static void on_notice(void *context, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	struct pg_connection *c = context;

	if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		c->lost = true;
}

/* Whether the URL, or what holds without its word, asks for a server that takes changes. */
static bool wants_writes(const struct pg_connection *c)
{
	PQconninfoOption *options = PQconninfo(c->conn);
	bool wanted = false;

	for (PQconninfoOption *o = options; o && o->keyword; o++) {
		if (strcmp(o->keyword, "target_session_attrs") == 0)
			wanted = o->val && strcmp(o->val, "read-write") == 0;
	}
	if (options)
		PQconninfoFree(options);
	return wanted;
}

int pg_connection_new(const struct statements *statements, struct pg_connection **out,
		      struct err *err)
{
	struct pg_connection *c = calloc(1, sizeof(*c));

	if (c)
		c->prepared = calloc(statements_count(statements) + 1, sizeof(*c->prepared));
	if (!c || !c->prepared) {
		free(c);
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
	}
	c->statements = statements;
	*out = c;
	return 0;
}

void pg_connection_begin(struct pg_connection *c)
{
	PQsetNoticeReceiver(c->conn, on_notice, c);
	c->writes = wants_writes(c);
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
