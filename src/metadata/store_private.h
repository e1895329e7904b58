/* What the files of the store share: the store itself, and the way between records and rows. */
#ifndef DEPOTD_METADATA_STORE_PRIVATE_H
#define DEPOTD_METADATA_STORE_PRIVATE_H

#include <stdatomic.h>

#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/metadata/driver.h"
#include "depotd/metadata/store.h"

struct metadata {
	const struct driver_ops *ops;
	struct driver *driver;
	struct statements *statements;
	struct uuid node;        /* this process among those that share the database */
	int64_t call_timeout_ms; /* what any call may take, waiting for a connection included */
	bool migrate;            /* as configured */
	struct opening *opening; /* NULL: it was open from the start */
	/* files, in metadata_register(): see metadata_registered() */
	atomic_uint_fast64_t registered;
	/* few rows, when they were last counted: lists need not look at the clock */
	atomic_bool small;
	atomic_int_fast64_t small_until_ns; /* CLOCK_MONOTONIC: they are counted again */
};

/* --- src/metadata/rows.c: records and rows (sql/postgres/statements.sql, FILE ROWS) --- */

enum { FILE_COLUMNS = 13, INSERT_PARAMS = 16, UPDATE_PARAMS = 9 };

struct value value_int(int64_t number);
struct value value_text(const char *text); /* NULL is null */
struct value value_uuid(struct arena *arena, const struct uuid *id);

/* Parameters of file_insert and file_update, in memory of the arena. ERR_INVALID: what no store can hold. */
int row_insert_params(const struct metadata *store, struct arena *arena,
		      const struct file_record *record, struct value params[INSERT_PARAMS],
		      struct err *err);
int row_update_params(const struct metadata *store, struct arena *arena,
		      const struct file_record *record, int64_t expected_revision,
		      struct value params[UPDATE_PARAMS], struct err *err);
/* A file row; a new record. */
int row_record(const struct value *columns, size_t n, struct file_record **out, struct err *err);

/* A row_fn whose context is a struct file_list with room for `max` in files. */
struct list_sink {
	struct file_list list;
	size_t max;
};
int list_sink_init(struct list_sink *sink, size_t max, struct err *err);
int list_sink_row(void *context, const struct value *columns, size_t n, struct err *err);

/* --- src/metadata/insert_many.c --- */

/*
 * One command for all of these inserts: 1, or 0 where the dialect has none (or they are not of one kind, or one is not worth it,
 * or there is no memory). In memory of the arena, but for the texts.
 */
int insert_many(const struct metadata *store, const struct command *inserts, size_t n,
		struct arena *arena, struct command *out);

/* --- src/metadata/idempotency.c --- */

enum { KEY_PARAMS = 6 };

/* Parameters of key_insert and key_insert_if_free, in memory of the arena, for a registration with a key. */
int key_insert_params(struct arena *arena, const struct registration *registration,
		      struct value params[KEY_PARAMS], struct err *err);

/* --- src/metadata/store.c --- */

/* The deadline of a call that begins now (CLOCK_MONOTONIC, ns). */
int64_t store_deadline(const struct metadata *store);
/* The statement of that name for a command; -1 where there is none. */
int store_statement(const struct metadata *store, struct command *command, const char *name,
		    struct err *err);
/* The driver's slot of that name, once the store is open. */
int store_run(struct metadata *store, struct command *commands, size_t n, enum run_mode mode,
	      int64_t deadline_ns, struct err *err);
/* Runs one named statement that reads. */
int store_read(struct metadata *store, const char *statement, const struct value *params, size_t n,
	       row_fn row, void *context, int64_t deadline_ns, struct err *err);

/* --- src/metadata/opening.c --- */

/* Migrates or checks the schema; if the store is lazy and the server away, leaves that to a thread. */
int opening_begin(struct metadata *store, const struct metadata_config *config, struct err *err);
/* Where the schema is gone, since the database was dropped and made anew, brings it up again. 0 it is there, -1. */
int opening_again(struct metadata *store, struct err *err);
/* Ends the thread, if there is one. */
void opening_end(struct metadata *store);
/* 0 calls may be made, -1 not yet, with the reason. */
int opening_passed(const struct metadata *store, struct err *err);

/* --- src/metadata/migrate.c --- */

/* Brings the schema up to date. *from and *to are the versions before and after. */
int migrate_up(const struct driver_ops *ops, struct driver *driver,
	       const struct statements *statements, int *from, int *to, struct err *err);
/* 1 there is a schema of ours, of whatever version, 0 there is none, -1. */
int migrate_present(const struct driver_ops *ops, struct driver *driver,
		    const struct statements *statements, struct err *err);
/* Whether this program can work with the schema as it is. */
int migrate_check(const struct driver_ops *ops, struct driver *driver,
		  const struct statements *statements, struct err *err);

#endif
