/*
 * What a database must be able to do for metadata/store: a thin vtable under one implementation in terms of statement names.
 *
 * A driver runs named statements (sql/DIALECT/statements.sql) with typed parameters, many of them as one transaction, each
 * call within a deadline of its own. It knows no domain. The store is its only user; nobody above metadata includes this.
 * Thread: every slot but open and close may be called by any number of threads at a time.
 */
#ifndef DEPOTD_METADATA_DRIVER_H
#define DEPOTD_METADATA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"
#include "depotd/base/metrics.h"
#include "depotd/base/uuid.h"

/* --- statements: sql/DIALECT/statements.sql, parsed once at start; immutable after, so any thread --- */

struct statement {
	const char *name; /* what stands behind "-- name: " */
	const char *text; /* without comments and the final semicolon */
	size_t index;     /* 0 … count-1: drivers keep prepared statements in arrays */
};

struct statements;

/* Parses the embedded file "DIALECT/statements.sql". A name given twice or an empty statement is ERR_INTERNAL. */
int statements_load(const char *dialect, struct statements **out, struct err *err);
int statements_parse(const char *text, size_t n, struct statements **out, struct err *err);
void statements_free(struct statements **statements);
size_t statements_count(const struct statements *statements);
/* NULL where there is none of that name. */
const struct statement *statements_find(const struct statements *statements, const char *name);

/* --- values: int64 or text, or null; nothing else (sql/postgres/statements.sql says what stands for what) --- */

enum value_kind { VALUE_INT, VALUE_TEXT, VALUE_ARRAY };

/* A parameter, of one kind for ever, null or not, or a column. A column's text is valid during the row callback. */
struct value {
	enum value_kind kind;
	bool null;
	int64_t number;
	const char *text; /* NUL-terminated UTF-8 */
	size_t len;
	const struct value *items; /* of an array: `len`, at least one, of one kind */
};

/* One row of a result. Return 0, or -1 with err set: ends the call with that error. */
typedef int (*row_fn)(void *context, const struct value *columns, size_t n, struct err *err);

struct command {
	const struct statement *statement;
	const struct value *params;
	size_t param_count;
	size_t group; /* run_groups: commands of one group share their fate; 0, 1, 2 … in order */
	row_fn row;   /* or NULL: rows are dropped */
	void *context;
	int64_t affected; /* out: rows changed, or returned */
};

/* --- the vtable --- */

struct driver_config {
	const char *url; /* without its sqlite: */
	unsigned connections;
	int64_t connect_timeout_ms, statement_timeout_ms;
	bool lazy;                           /* a server that is away is no error of open() */
	const struct statements *statements; /* outlives the driver */
	struct uuid node;        /* this process: notifications that carry it are its own */
	struct metrics *metrics; /* or NULL */
};

struct driver;  /* a driver's own; its first member is const struct driver_ops *ops */
struct session; /* the connection that exclusive() gives its body */
struct flight;  /* between begin() and end() */

enum run_mode {
	RUN_READ, /* changes nothing; run again on a new connection when the old one turns out to be dead */
	RUN_WRITE, /* a change that must not run twice: connection lost after COMMIT was sent is ERR_UNKNOWN_OUTCOME */
	RUN_IDEMPOTENT, /* a change that may run twice: tried once more in that case */
	RUN_DEFERRED, /* the same, and the server need not have written the commit out when it answers */
};

enum session_verb { SESSION_BEGIN, SESSION_COMMIT, SESSION_ROLLBACK };

/* NULL id: anything may have changed. On the listener's thread. */
typedef void (*notified_fn)(void *context, const struct uuid *id);
typedef int (*exclusive_fn)(struct session *session, void *context, struct err *err);

struct driver_ops {
	const char *dialect; /* folder below sql/ */
	bool json_verbatim;  /* JSON comes back to the byte as it went in */
	int (*check_url)(const char *url, struct err *err); /* ERR_INVALID: it is malformed */
	/* Connects once, so that a wrong address is found at the start; if lazy, only reads the URL. */
	int (*open)(const struct driver_config *config, struct driver **out, struct err *err);
	/* Calls under way end soon and badly, from any thread; only close() may follow. NULL slot: they end by themselves. */
	void (*interrupt)(struct driver *driver);
	void (*close)(struct driver *driver); /* no call may be under way */
	/*
	 * Runs the commands in order as one transaction: 0 all committed, -1 none (or ERR_UNKNOWN_OUTCOME). It returns at
	 * deadline_ns (CLOCK_MONOTONIC) at the latest, and no statement takes longer than statement_timeout_ms. Rows are given
	 * to their callbacks only when nothing can make the call run again.
	 */
	int (*run)(struct driver *driver, struct command *commands, size_t n, enum run_mode mode,
		   int64_t deadline_ns, struct err *err);
	/*
	 * run() of one command in two halves, the second of which commits (or undoes). begin() never waits; NULL: no head start is
	 * to be had. end() is called once. What command points to stays until then. NULL slots: run() alone.
	 */
	struct flight *(*begin)(struct driver *driver, struct command *command, enum run_mode mode,
				int64_t deadline_ns);
	int (*end)(struct driver *driver, struct flight *flight, bool commit, enum run_mode mode,
		   struct err *err);
	/*
	 * As run(), but a group that the database refuses (ERR_INVALID, ERR_CONFLICT) is undone alone and has its error in
	 * group_errs[group]; the others' errors are cleared. -1: nothing committed. Idempotent commands only. Slow path.
	 */
	int (*run_groups)(struct driver *driver, struct command *commands, size_t n,
			  struct err *group_errs, size_t groups, int64_t deadline_ns,
			  struct err *err);
	/* Asks the server itself, within the connect timeout, even if it is held to be down. */
	int (*ping)(struct driver *driver, struct err *err);
	/*
	 * Calls body() while no other node is inside of exclusive(): for migrations. timeout_ms bounds the wait for the lock
	 * and, apart from it, each statement of the body; the connection is closed after.
	 */
	int (*exclusive)(struct driver *driver, int64_t timeout_ms, exclusive_fn body,
			 void *context, struct err *err);
	int (*session_control)(struct session *session, enum session_verb verb, struct err *err);
	int (*session_run)(struct session *session, struct command *command, struct err *err);
	int (*session_script)(struct session *session, const char *sql,
			      struct err *err); /* many statements */
	/*
	 * Whom to tell of other nodes' changes, from now on; replaces the one before. NULL slot: the database is this
	 * process's and its like's alone.
	 */
	void (*on_notify)(struct driver *driver, notified_fn notified, void *context);
};

struct driver {
	const struct driver_ops *ops;
};

extern const struct driver_ops driver_sqlite;
extern const struct driver_ops driver_postgres;

#endif
