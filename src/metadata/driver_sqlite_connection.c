/*
 * One SQLite connection: WAL, synchronous=FULL (an answered change survives a power cut), foreign keys, and a deadline.
 *
 * Two handlers keep the deadline: the busy handler while another process writes, the progress handler while a statement
 * runs. What they cannot interrupt is the disk: an fsync that hangs, hangs the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "sqlite_private.h"

enum {
	PROGRESS_STEPS =
		4000, /* virtual machine steps between two looks at the clock: some 50 µs */
	BUSY_SLEEP_MAX_MS = 16,
	/* What the log grows to between two checkpoints (1000 pages), and as much again. */
	LOG_BYTES = 8 * 1024 * 1024,
	SETTLE_TRIES = 12,
	COLUMNS_MAX = 32,
};

static int on_busy(void *context, int tries)
{
	const struct sqlite_connection *c = context;
	int64_t left_ns = c->deadline_ns - clock_monotonic_ns();
	int64_t sleep_ns = 1000000 * (tries < 4 ? (int64_t)1 << tries : BUSY_SLEEP_MAX_MS);
	struct timespec pause;

	if (left_ns <= 0)
		return 0;
	if (sleep_ns > left_ns)
		sleep_ns = left_ns;
	pause = (struct timespec){.tv_sec = sleep_ns / 1000000000,
				  .tv_nsec = sleep_ns % 1000000000};
	nanosleep(&pause, NULL);
	return 1;
}

static int on_progress(void *context)
{
	const struct sqlite_connection *c = context;

	return clock_monotonic_ns() >= c->deadline_ns;
}

static enum err_kind kind_of(int rc, int system_errno)
{
	if (rc == SQLITE_IOERR_NOMEM)
		return ERR_NO_MEMORY;
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* the log's locks were contended for too long */
	case SQLITE_INTERRUPT:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return ERR_UNAVAILABLE;
	case SQLITE_FULL:
		return ERR_DISK_FULL;
	case SQLITE_IOERR:
		return system_errno == ENOSPC || system_errno == EDQUOT ? ERR_DISK_FULL : ERR_IO;
	case SQLITE_NOMEM:
		return ERR_NO_MEMORY;
	case SQLITE_CONSTRAINT:
		return rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY
			       ? ERR_CONFLICT
			       : ERR_INVALID;
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
		return ERR_INVALID;
	default:
		return ERR_INTERNAL;
	}
}

int sqlite_connection_failed(struct sqlite_connection *c, int rc, const char *what, struct err *err)
{
	int extended = c->db ? sqlite3_extended_errcode(c->db) : rc;
	int system_errno = c->db ? sqlite3_system_errno(c->db) : 0;
	enum err_kind kind = kind_of(extended, system_errno);

	if (rc == SQLITE_INTERRUPT || rc == SQLITE_BUSY)
		return err_set(err, ERR_UNAVAILABLE, "SQLite: %s: not done in time (%s)", what,
			       sqlite3_errstr(rc));
	err_set(err, kind, "SQLite: %s: %s", what,
		c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
	err->sys_errno = kind == ERR_IO || kind == ERR_DISK_FULL ? system_errno : 0;
	return -1;
}

int sqlite_connection_script(struct sqlite_connection *c, const char *sql, const char *what,
			     struct err *err)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sqlite_connection_failed(c, rc, what, err);
}

/* SQLite makes its files with the umask's mode and never syncs the directory of a new one: so it is made here. */
static int make_file(const char *path, struct err *err)
{
	char copy[PATH_MAX];
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), dir, rc;
	size_t n = strlen(path);

	if (fd < 0)
		return errno == EEXIST ? 0 : err_set_errno(err, ERR_UNAVAILABLE, "open %s", path);
	close(fd);
	if (n >= sizeof copy)
		return err_set(err, ERR_INVALID, "%s: too long", path);
	memcpy(copy, path, n + 1);
	dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set_errno(err, ERR_UNAVAILABLE, "open the folder of %s", path);
	rc = fsync(dir);
	if (rc < 0)
		err_set_errno(err, ERR_IO, "fsync the folder of %s", path);
	close(dir);
	return rc;
}

/*
 * On a full disk: opening the index of the log cuts it and lets it grow again, and on ext4 the blocks that were given back can be
 * taken again only when that is committed.
 */
static void settle(const struct sqlite_connection *c)
{
	const char *path = sqlite3_db_filename(c->db, "main");
	char folder[PATH_MAX];
	int fd;

	if (!path || strlen(path) >= sizeof folder)
		return;
	memcpy(folder, path, strlen(path) + 1);
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!syncfs(fd);
	close(fd);
}

/* Changing the journal mode needs the file for oneself for a moment, and SQLite does not ask the busy handler there. */
static int set_up(struct sqlite_connection *c, const struct statements *statements, struct err *err)
{
	const struct statement *setup = statements_find(statements, "session_setup");

	if (!setup)
		return err_set(err, ERR_INTERNAL, "statement session_setup is missing");
	for (int tries = 0;; tries++) {
		int rc = sqlite3_exec(c->db, setup->text, NULL, NULL, NULL);

		if (rc == SQLITE_OK)
			return 0;
		bool full = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_FULL;
		if (full && tries < SETTLE_TRIES)
			settle(c);
		else if ((rc & 0xff) != SQLITE_BUSY)
			return sqlite_connection_failed(c, rc, setup->name, err);
		if (!on_busy(c, tries))
			return sqlite_connection_failed(c, rc, setup->name, err);
	}
}

/*
 * Blocks for the write-ahead log while there are some. Removing a file is what makes room on a full disk, and its row has to go
 * first: without them the log could not grow by that very change. An empty log is none to SQLite, and its locks are on other
 * files, so opening and closing this one costs none. Where it cannot be done, it is done without.
 */
void sqlite_connection_keep_room(const char *path)
{
	char log[PATH_MAX];
	int n = snprintf(log, sizeof log, "%s-wal", path), fd;

	if (n < 0 || (size_t)n >= sizeof log)
		return;
	fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	(void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOG_BYTES);
	close(fd);
}

int sqlite_connection_open(struct sqlite_connection *c, const char *path,
			   const struct statements *statements, int64_t deadline_ns,
			   struct err *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	int rc;

	if (make_file(path, err) < 0)
		return -1;
	c->deadline_ns = deadline_ns;
	c->prepared_count = statements_count(statements);
	c->prepared = calloc(c->prepared_count, sizeof(*c->prepared));
	if (!c->prepared)
		return err_set(err, ERR_NO_MEMORY, "SQLite connection");
	rc = sqlite3_open_v2(path, &c->db, flags, NULL);
	if (rc != SQLITE_OK) {
		sqlite_connection_failed(c, rc, path, err);
		goto fail;
	}
	/* The log and its index stay when the last connection goes: on a full disk the next start could not make them. */
	(void)sqlite3_file_control(c->db, "main", SQLITE_FCNTL_PERSIST_WAL, &(int){1});
	sqlite3_busy_handler(c->db, on_busy, c);
	sqlite3_progress_handler(c->db, PROGRESS_STEPS, on_progress, c);
	if (set_up(c, statements, err) < 0)
		goto fail;
	return 0;
fail:
	sqlite_connection_close(c);
	return -1;
}

void sqlite_connection_close(struct sqlite_connection *c)
{
	for (size_t i = 0; c->prepared && i < c->prepared_count; i++)
		sqlite3_finalize(c->prepared[i]);
	free(c->prepared);
	c->prepared = NULL;
	c->prepared_count = 0;
	/* Without a limit the last one to go leaves the log its blocks. */
	if (c->db)
		(void)sqlite3_exec(c->db, "PRAGMA journal_size_limit = -1", NULL, NULL, NULL);
	sqlite3_close(c->db);
	c->db = NULL;
}

static sqlite3_stmt *prepare(struct sqlite_connection *c, const struct statement *statement,
			     struct err *err)
{
	sqlite3_stmt **slot = &c->prepared[statement->index];

	if (!*slot) {
		int rc = sqlite3_prepare_v3(c->db, statement->text, -1, SQLITE_PREPARE_PERSISTENT,
					    slot, NULL);

		if (rc != SQLITE_OK) {
			sqlite_connection_failed(c, rc, statement->name, err);
			return NULL;
		}
	}
	return *slot;
}

static int bind_value(sqlite3_stmt *prepared, int at, const struct value *value)
{
	if (value->null)
		return sqlite3_bind_null(prepared, at);
	if (value->kind == VALUE_INT)
		return sqlite3_bind_int64(prepared, at, value->number);
	/* PostgreSQL cannot hold U+0000; a store that took it would hold what the other refuses. */
	if (memchr(value->text, '\0', value->len))
		return SQLITE_MISMATCH;
	return sqlite3_bind_text64(prepared, at, value->text, value->len, SQLITE_STATIC,
				   SQLITE_UTF8);
}

static int bind_all(sqlite3_stmt *prepared, const struct command *command, struct err *err)
{
	if ((size_t)sqlite3_bind_parameter_count(prepared) != command->param_count)
		return err_set(err, ERR_INTERNAL, "%s takes %d parameters, not %zu",
			       command->statement->name, sqlite3_bind_parameter_count(prepared),
			       command->param_count);
	for (size_t i = 0; i < command->param_count; i++) {
		int rc = bind_value(prepared, (int)i + 1, &command->params[i]);

		if (rc != SQLITE_OK)
			return err_set(err, rc == SQLITE_NOMEM ? ERR_NO_MEMORY : ERR_INVALID,
				       "SQLite: %s, parameter %zu: %s", command->statement->name,
				       i + 1, sqlite3_errstr(rc));
	}
	return 0;
}

/* In this order: the text first, its length after (the manual page of sqlite3_column_blob). */
static struct value column_value(sqlite3_stmt *prepared, int at)
{
	struct value out = {.kind = VALUE_TEXT};

	if (sqlite3_column_type(prepared, at) == SQLITE_INTEGER) {
		out.kind = VALUE_INT;
		out.number = sqlite3_column_int64(prepared, at);
	} else {
		out.text = (const char *)sqlite3_column_text(prepared, at);
		out.len = (size_t)sqlite3_column_bytes(prepared, at);
		out.null = !out.text;
	}
	return out;
}

static int give_row(sqlite3_stmt *prepared, struct command *command, struct err *err)
{
	struct value columns[COLUMNS_MAX];
	int n = sqlite3_column_count(prepared);

	if (n > COLUMNS_MAX)
		return err_set(err, ERR_INTERNAL, "%s has more than %d columns",
			       command->statement->name, COLUMNS_MAX);
	for (int i = 0; i < n; i++)
		columns[i] = column_value(prepared, i);
	return command->row(command->context, columns, (size_t)n, err);
}

int sqlite_connection_run(struct sqlite_connection *c, struct command *command, struct err *err)
{
	sqlite3_stmt *prepared = prepare(c, command->statement, err);
	int64_t rows = 0;
	int rc, result = -1;

	if (!prepared)
		return -1;
	if (bind_all(prepared, command, err) < 0)
		goto out;
	while ((rc = sqlite3_step(prepared)) == SQLITE_ROW) {
		rows++;
		if (command->row && give_row(prepared, command, err) < 0)
			goto out;
	}
	if (rc != SQLITE_DONE) {
		sqlite_connection_failed(c, rc, command->statement->name, err);
		goto out;
	}
	command->affected = sqlite3_stmt_readonly(prepared) ? rows : sqlite3_changes64(c->db);
	result = 0;
out:
	sqlite3_reset(prepared);
	sqlite3_clear_bindings(prepared);
	return result;
}
