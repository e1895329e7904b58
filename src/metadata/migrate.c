/*
 * Numbered migrations: sql/DIALECT/NNNN_what.sql, each in one transaction, recorded with the SHA-256 of its text. A database that
 * has none gets all of them in one, so that nobody who asks meanwhile meets a half of the schema.
 *
 * Several nodes may start at once: they queue at exclusive(), and each looks again, inside of its transaction, at what is
 * still missing. A migration that was applied and has another text now is an error: the schema is not what the program
 * believes. A schema that is newer than the program is fine, so that nodes can be upgraded one by one: migrations only add
 * to what older programs use ("expand"). One that takes something away ("contract") is named NNNN_what.breaking.sql, and
 * a program that does not know it refuses to start.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/embedded.h"
#include "store_private.h"

enum {
	MIGRATIONS_MAX = 1000,
	LOOK_TIMEOUT_MS = 60 * 1000,           /* the driver's own timeouts are shorter */
	MIGRATION_TIMEOUT_MS = 60 * 60 * 1000, /* an index over many millions of rows */
};

struct migration {
	int version;
	const char *name; /* 0001_files.sql */
	const struct embedded_file *file;
	bool applied;
};

struct plan {
	struct migration *known; /* ascending */
	size_t count;
	int highest; /* version in the database, 0: none */
};

/* "postgres/0001_files.sql" of this dialect: its version, else 0. */
static int version_of(const struct embedded_file *file, const char *dialect)
{
	size_t n = strlen(dialect);
	const char *name = file->path + n + 1;

	if (strncmp(file->path, dialect, n) != 0 || file->path[n] != '/' ||
	    strspn(name, "0123456789") != 4)
		return 0;
	return (int)strtol(name, NULL, 10);
}

static int plan_init(struct plan *plan, const char *dialect, struct err *err)
{
	*plan = (struct plan){.known = calloc(MIGRATIONS_MAX, sizeof(*plan->known))};
	if (!plan->known)
		return err_set(err, ERR_NO_MEMORY, "migrations");
	for (const struct embedded_file *file = embedded_sql; file->path; file++) {
		int version = version_of(file, dialect);

		if (version > 0 && plan->count < MIGRATIONS_MAX)
			plan->known[plan->count++] = (struct migration){
				version, file->path + strlen(dialect) + 1, file, false};
	}
	return 0;
}

static void plan_forget(struct plan *plan)
{
	plan->highest = 0;
	for (size_t i = 0; i < plan->count; i++)
		plan->known[i].applied = false;
}

static bool is_breaking(const char *name)
{
	return strstr(name, ".breaking.") != NULL;
}

/* A row of migrations_list: 0 version 1 name 2 checksum. */
static int take_applied(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct plan *plan = context;
	int version;

	if (n < 3 || columns[0].kind != VALUE_INT || columns[1].null || columns[2].null)
		return err_set(err, ERR_INTERNAL, "the table of migrations is none of ours");
	version = (int)columns[0].number;
	if (version > plan->highest)
		plan->highest = version;
	for (size_t i = 0; i < plan->count; i++) {
		struct migration *migration = &plan->known[i];

		if (migration->version != version)
			continue;
		migration->applied = true;
		if (strcmp(migration->file->sha256, columns[2].text) == 0)
			return 0;
		return err_set(
			err, ERR_INTERNAL,
			"migration %s was applied to this database with another text than ours",
			migration->name);
	}
	if (is_breaking(columns[1].text))
		return err_set(
			err, ERR_INTERNAL,
			"the database was changed by migration %s of a newer depotd, which this "
			"one cannot work with: upgrade it",
			columns[1].text);
	return 0;
}

static struct migration *next_missing(const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (!plan->known[i].applied)
			return &plan->known[i];
	}
	return NULL;
}

static int present_row(void *context, const struct value *columns, size_t n, struct err *err)
{
	(void)columns, (void)n, (void)err;
	*(bool *)context = true;
	return 0;
}

static int64_t look_deadline(void)
{
	return clock_monotonic_ns() + (int64_t)LOOK_TIMEOUT_MS * 1000000;
}

int migrate_present(const struct driver_ops *ops, struct driver *driver,
		    const struct statements *statements, struct err *err)
{
	bool present = false;
	struct command command = {.statement = statements_find(statements, "migrations_present"),
				  .row = present_row,
				  .context = &present};

	if (!command.statement)
		return err_set(err, ERR_INTERNAL, "the statements of migrations are missing");
	if (ops->run(driver, &command, 1, RUN_READ, look_deadline(), err) < 0)
		return -1;
	return present;
}

/* Reads what is applied, without any lock. */
static int look(const struct driver_ops *ops, struct driver *driver,
		const struct statements *statements, struct plan *plan, struct err *err)
{
	struct command list = {.statement = statements_find(statements, "migrations_list"),
			       .row = take_applied,
			       .context = plan};
	int rc;

	if (!list.statement)
		return err_set(err, ERR_INTERNAL, "the statements of migrations are missing");
	plan_forget(plan);
	rc = migrate_present(ops, driver, statements, err);
	return rc == 1 ? ops->run(driver, &list, 1, RUN_READ, look_deadline(), err) : rc;
}

struct migrator {
	const struct driver_ops *ops;
	const struct statements *statements;
	struct plan *plan;
	int from; /* -1: not looked yet */
	struct session *session;
};

static int apply(struct migrator *m, struct migration *migration, struct err *err)
{
	struct value params[] = {value_int(migration->version), value_text(migration->name),
				 value_text(migration->file->sha256), value_int(clock_wall_ms())};
	struct command record = {.statement = statements_find(m->statements, "migration_record"),
				 .params = params,
				 .param_count = 4};

	if (m->ops->session_script(m->session, migration->file->data, err) < 0) {
		struct err cause = *err;

		return err_set(err, cause.kind, "migration %s: %s", migration->name, cause.message);
	}
	migration->applied = true;
	return m->ops->session_run(m->session, &record, err);
}

/* One transaction: looks what is missing and applies the first, or all where there is none. 1 applied some, 0 none is missing. */
static int step(struct migrator *m, struct err *err)
{
	const struct statement *prepare = statements_find(m->statements, "migrations_prepare");
	struct command list = {.statement = statements_find(m->statements, "migrations_list"),
			       .row = take_applied,
			       .context = m->plan};
	struct migration *missing;
	bool applied = false;

	plan_forget(m->plan);
	if (m->ops->session_control(m->session, SESSION_BEGIN, err) < 0 ||
	    m->ops->session_script(m->session, prepare->text, err) < 0 ||
	    m->ops->session_run(m->session, &list, err) < 0)
		return -1;
	if (m->from < 0)
		m->from = m->plan->highest;
	while ((missing = next_missing(m->plan)) && (!applied || m->plan->highest == 0)) {
		if (apply(m, missing, err) < 0)
			return -1;
		applied = true;
	}
	if (m->ops->session_control(m->session, SESSION_COMMIT, err) < 0)
		return -1;
	return applied ? 1 : 0;
}

static int migrate_all(struct session *session, void *context, struct err *err)
{
	struct migrator *m = context;
	struct err ignored;
	int rc;

	m->session = session;
	do
		rc = step(m, err);
	while (rc > 0);
	if (rc < 0)
		m->ops->session_control(session, SESSION_ROLLBACK, &ignored);
	return rc;
}

int migrate_up(const struct driver_ops *ops, struct driver *driver,
	       const struct statements *statements, int *from, int *to, struct err *err)
{
	struct plan plan;
	struct migrator migrator = {ops, statements, &plan, -1, NULL};
	int rc = -1;

	if (plan_init(&plan, ops->dialect, err) < 0)
		return -1;
	if (look(ops, driver, statements, &plan, err) < 0)
		goto out;
	migrator.from = plan.highest;
	if (next_missing(&plan) &&
	    ops->exclusive(driver, MIGRATION_TIMEOUT_MS, migrate_all, &migrator, err) < 0)
		goto out;
	*from = migrator.from;
	*to = plan.highest;
	rc = 0;
out:
	free(plan.known);
	return rc;
}

int migrate_check(const struct driver_ops *ops, struct driver *driver,
		  const struct statements *statements, struct err *err)
{
	const struct migration *missing;
	struct plan plan;
	int rc;

	if (plan_init(&plan, ops->dialect, err) < 0)
		return -1;
	rc = look(ops, driver, statements, &plan, err);
	missing = rc == 0 ? next_missing(&plan) : NULL;
	if (missing)
		rc = err_set(err, ERR_INTERNAL,
			     "the schema is too old: migration %s is missing; run depotd migrate",
			     missing->name);
	free(plan.known);
	return rc;
}
