/*
 * One SQLite connection: its settings, its prepared statements, and the deadline that every call on it has.
 * Thread: a connection is used by one thread at a time (driver_sqlite.c hands them out).
 */
#ifndef DEPOTD_METADATA_SQLITE_PRIVATE_H
#define DEPOTD_METADATA_SQLITE_PRIVATE_H

#include <sqlite3.h>

#include "depotd/metadata/driver.h"

struct sqlite_connection {
	sqlite3 *db;             /* NULL: not open yet */
	sqlite3_stmt **prepared; /* by statement index; NULL: not used yet */
	size_t prepared_count;
	int64_t deadline_ns; /* CLOCK_MONOTONIC: the busy and progress handlers give up then */
	bool taken;          /* the driver's, guarded by its lock */
};

/* Opens `path` (created with mode 0600 where it is missing) and runs the script session_setup. */
int sqlite_connection_open(struct sqlite_connection *c, const char *path,
			   const struct statements *statements, int64_t deadline_ns,
			   struct err *err);
/* Sets blocks aside for the write-ahead log, so that a full disk still takes the removals that make room. For the writer, once. */
void sqlite_connection_keep_room(const char *path);
void sqlite_connection_close(struct sqlite_connection *c);
/* Runs one command to its end, rows to its callback. */
int sqlite_connection_run(struct sqlite_connection *c, struct command *command, struct err *err);
/* Any number of statements without parameters; `what` is for the message. */
int sqlite_connection_script(struct sqlite_connection *c, const char *sql, const char *what,
			     struct err *err);
/* Fills err from the connection's last failure. Returns -1. */
int sqlite_connection_failed(struct sqlite_connection *c, int rc, const char *what,
			     struct err *err);

#endif
