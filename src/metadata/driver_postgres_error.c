/* SQLSTATE to err: what the classes of PostgreSQL's appendix A mean for the caller and for the connection. Any thread. */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "postgres_private.h"

struct meaning {
	const char *state; /* five characters, or the class of two */
	enum err_kind kind;
	bool drop; /* the connection is not to be used again */
};

/* Exact states before their class. What is not here is a defect of ours. */
static const struct meaning meanings[] = {
	{"08", ERR_UNAVAILABLE, true},    /* connection exception */
	{"22", ERR_INVALID, false},       /* data exception */
	{"23505", ERR_CONFLICT, false},   /* unique violation */
	{"23", ERR_INVALID, false},       /* integrity constraint */
	{"25006", ERR_UNAVAILABLE, true}, /* read-only: a standby, or a primary no more */
	{"25P02", ERR_INTERNAL, true},    /* in failed transaction: we lost count */
	{"25P03", ERR_UNAVAILABLE, true}, /* idle in transaction too long: this process stood still */
	{"26", ERR_UNAVAILABLE, true}, /* no such prepared statement: something reset the session */
	{"28", ERR_UNAVAILABLE, true}, /* not let in */
	{"3D", ERR_UNAVAILABLE, true}, /* no such database */
	{"3F", ERR_UNAVAILABLE, false},    /* no such schema: a database that was made anew */
	{"40", ERR_UNAVAILABLE, false},    /* rolled back: serialization, deadlock */
	{"42P01", ERR_UNAVAILABLE, false}, /* no such table: the same, until it is migrated */
	{"53100", ERR_DISK_FULL, false},
	{"53", ERR_UNAVAILABLE, false},    /* out of memory, connections */
	{"54", ERR_INVALID, false},        /* too large for an index, too complex */
	{"55P03", ERR_UNAVAILABLE, false}, /* lock not available */
	{"57014", ERR_UNAVAILABLE, false}, /* cancelled: statement_timeout */
	{"57", ERR_UNAVAILABLE, true},     /* shutdown, crash, starting up, idle session */
	{"58", ERR_UNAVAILABLE, false},    /* the server's disk or files */
};

static const struct meaning *find_meaning(const char *state)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		if (strncmp(state, meanings[i].state, strlen(meanings[i].state)) == 0)
			return &meanings[i];
	}
	return NULL;
}

static const char *field(const PGresult *result, int code)
{
	const char *text = PQresultErrorField(result, code);

	return text ? text : "";
}

int pg_result_failed(struct pg_connection *c, const struct pg_result *result, const char *what,
		     struct pg_failure *failure, struct err *err)
{
	const char *state = field(result, PG_DIAG_SQLSTATE);
	const char *severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const struct meaning *meaning = find_meaning(state);

	if (state[0] == '\0') /* libpq's own words: the connection broke */
		return pg_connection_failed(c, what, err);
	failure->fatal = strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
	failure->transient = strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0;
	/* 0A000: "cached plan must not change result type", after somebody's migration. */
	failure->stale = strncmp(state, "26", 2) == 0 || strcmp(state, "0A000") == 0;
	if (failure->fatal || failure->stale || (meaning && meaning->drop))
		c->lost = true;
	if (strcmp(state, "25006") == 0)
		c->demoted = true;
	return err_set(err,
		       meaning          ? meaning->kind
		       : failure->fatal ? ERR_UNAVAILABLE
					: ERR_INTERNAL,
		       "PostgreSQL: %s: %s (%s)", what, field(result, PG_DIAG_MESSAGE_PRIMARY),
		       state);
}

/*
 * libpq's messages have several lines and end in one; ours are one line. What libpq adds of the server's source where it is to be
 * verbose is nobody's business.
 */
int pg_connection_failed(struct pg_connection *c, const char *what, struct err *err)
{
	char text[ERR_MESSAGE_MAX], *source;
	size_t n;

	snprintf(text, sizeof(text), "%s", c->conn ? PQerrorMessage(c->conn) : "");
	source = strstr(text, "\nLOCATION:");
	if (source)
		*source = '\0';
	n = strlen(text);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n' || text[i] == '\t')
			text[i] = ' ';
	}
	c->lost = true;
	return err_set(err, ERR_UNAVAILABLE, "PostgreSQL: %s: %s", what,
		       n > 0 ? text : "the connection broke");
}

/* libpq gives no SQLSTATE of a refused connection but in its text: "FATAL:  53300: sorry, too many clients already". */
bool pg_connection_refused(struct pg_connection *c, struct err *err)
{
	pg_connection_failed(c, "connect", err);
	return strstr(err->message, " 53300: ") != NULL;
}
