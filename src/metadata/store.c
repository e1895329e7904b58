/*
 * The metadata store, once for both drivers: whole domain transactions in terms of statement names. Worker threads, any number.
 *
 * Nothing here is locked: the store is immutable after metadata_open(); what is shared and changes lies in the drivers and in
 * opening.c.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/metadata/upkeep.h"
#include "store_private.h"

enum {
	CALL_MEMORY_MAX = 64 * 1024, /* parameters of a call about one file, beside its own texts */
	UPDATE_MEMORY_MAX = 256 * 1024 * 1024, /* the same, with them */
	PRESENT_MAX = 1000,
	NOTIFY_PAYLOAD_MAX = 128,
};

static const char sqlite_prefix[] = "sqlite:";

/* --- opening and closing --- */

/* The driver that a URL is for, and what the driver is given of it. */
static const struct driver_ops *driver_of(const char *url, const char **rest)
{
	bool sqlite = strncmp(url, sqlite_prefix, strlen(sqlite_prefix)) == 0;

	*rest = url + (sqlite ? strlen(sqlite_prefix) : 0);
	return sqlite ? &driver_sqlite : &driver_postgres;
}

int metadata_check_url(const char *url, struct err *err)
{
	const char *rest;
	const struct driver_ops *ops = driver_of(url, &rest);

	return ops->check_url(rest, err);
}

/* The store without a look at its schema. */
static int open_store(const struct metadata_config *config, struct metadata **out, struct err *err)
{
	struct metadata *store = calloc(1, sizeof(*store));
	struct driver_config driver = {
		.connections = config->connections,
		.connect_timeout_ms = config->connect_timeout_ms,
		.statement_timeout_ms = config->statement_timeout_ms,
		.lazy = config->lazy,
		.metrics = config->metrics,
	};

	if (!store)
		return err_set(err, ERR_NO_MEMORY, "metadata store");
	store->ops = driver_of(config->url, &driver.url);
	store->call_timeout_ms = config->statement_timeout_ms;
	store->migrate = config->migrate;
	store->node = driver.node = uuid_new();
	if (statements_load(store->ops->dialect, &store->statements, err) < 0)
		goto fail;
	driver.statements = store->statements;
	if (store->ops->open(&driver, &store->driver, err) < 0)
		goto fail;
	*out = store;
	return 0;
fail:
	metadata_close(&store);
	return -1;
}

int metadata_open(const struct metadata_config *config, struct metadata **out, struct err *err)
{
	struct metadata *store = NULL;

	if (open_store(config, &store, err) < 0)
		return -1;
	if (opening_begin(store, config, err) < 0) {
		metadata_close(&store);
		return -1;
	}
	*out = store;
	return 0;
}

void metadata_close(struct metadata **store)
{
	struct metadata *s = *store;

	*store = NULL;
	if (!s)
		return;
	opening_end(s);
	if (s->driver)
		s->ops->close(s->driver);
	statements_free(&s->statements);
	free(s);
}

int metadata_migrate(const struct metadata_config *config, int *from, int *to, struct err *err)
{
	struct metadata *store = NULL;
	int rc;

	if (open_store(config, &store, err) < 0)
		return -1;
	rc = migrate_up(store->ops, store->driver, store->statements, from, to, err);
	metadata_close(&store);
	return rc;
}

bool metadata_is_open(struct metadata *store, struct err *why)
{
	return opening_passed(store, why) == 0;
}

int metadata_ping(struct metadata *store, struct err *err)
{
	if (opening_passed(store, err) < 0 || store->ops->ping(store->driver, err) < 0)
		return -1;
	return opening_again(store, err);
}

void metadata_on_change(struct metadata *store, metadata_changed_fn changed, void *context)
{
	if (store->ops->on_notify)
		store->ops->on_notify(store->driver, changed, context);
}

/* --- running statements --- */

int store_statement(const struct metadata *store, struct command *command, const char *name,
		    struct err *err)
{
	command->statement = statements_find(store->statements, name);
	return command->statement ? 0 : err_set(err, ERR_INTERNAL, "no statement %s", name);
}

int64_t store_deadline(const struct metadata *store)
{
	return clock_monotonic_ns() + store->call_timeout_ms * 1000000;
}

int store_run(struct metadata *store, struct command *commands, size_t n, enum run_mode mode,
	      int64_t deadline_ns, struct err *err)
{
	if (opening_passed(store, err) < 0)
		return -1;
	return store->ops->run(store->driver, commands, n, mode, deadline_ns, err);
}

int store_read(struct metadata *store, const char *statement, const struct value *params, size_t n,
	       row_fn row, void *context, int64_t deadline_ns, struct err *err)
{
	struct command command = {
		.params = params, .param_count = n, .row = row, .context = context};

	if (store_statement(store, &command, statement, err) < 0)
		return -1;
	return store_run(store, &command, 1, RUN_READ, deadline_ns, err);
}

/* A row_fn for statements that give one file row at most; context is struct file_record ** that is NULL before. */
static int take_record(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct file_record **record = context;

	return *record ? err_set(err, ERR_INTERNAL, "two rows for one id")
		       : row_record(columns, n, record, err);
}

/* --- one file --- */

int metadata_find(struct metadata *store, const struct uuid *id, struct file_record **out,
		  struct err *err)
{
	struct file_record *record = NULL;
	struct arena memory;
	struct value param;
	int rc;

	arena_init(&memory, CALL_MEMORY_MAX);
	param = value_uuid(&memory, id);
	/* NULL would be no file's id: a file that is there would not be found. */
	rc = memory.failed ? err_set(err, ERR_NO_MEMORY, "a file's id")
			   : store_read(store, "file_by_id", &param, 1, take_record, &record,
					store_deadline(store), err);
	arena_release(&memory);
	if (rc < 0) {
		file_record_unref(&record);
		return -1;
	}
	if (record && record->expires_ms != FILE_EXPIRES_NEVER &&
	    record->expires_ms <= clock_wall_ms())
		file_record_unref(&record);
	if (!record)
		return 0;
	*out = record;
	return 1;
}

/* "NODE ID": the node that changed it, so that it can ignore its own words. */
static struct value notify_payload(const struct metadata *store, struct arena *memory,
				   const struct uuid *id)
{
	char node[UUID_TEXT_LEN + 1], text[UUID_TEXT_LEN + 1];

	uuid_format(&store->node, node);
	uuid_format(id, text);
	return value_text(arena_printf(memory, "%s %s", node, text));
}

/* Runs a change of one file and the word of it to other nodes as one transaction. 1 changed, 0 not, -1. */
static int change(struct metadata *store, struct arena *memory, const char *statement,
		  const struct uuid *id, const struct value *params, size_t n, struct err *err)
{
	struct value payload = notify_payload(store, memory, id);
	struct command commands[] = {{.params = params, .param_count = n},
				     {.params = &payload, .param_count = 1}};

	if (store_statement(store, &commands[0], statement, err) < 0 ||
	    store_statement(store, &commands[1], "notify", err) < 0)
		return -1;
	if (memory->failed)
		return err_set(err, ERR_NO_MEMORY, "a change");
	if (store_run(store, commands, 2, RUN_WRITE, store_deadline(store), err) < 0)
		return -1;
	return commands[0].affected > 0 ? 1 : 0;
}

int metadata_update(struct metadata *store, const struct file_record *record,
		    int64_t expected_revision, struct err *err)
{
	struct value params[UPDATE_PARAMS];
	struct arena memory;
	int rc;

	arena_init(&memory, UPDATE_MEMORY_MAX);
	rc = row_update_params(store, &memory, record, expected_revision, params, err);
	if (rc == 0)
		rc = change(store, &memory, "file_update", &record->id, params, UPDATE_PARAMS, err);
	arena_release(&memory);
	return rc;
}

int metadata_remove(struct metadata *store, const struct uuid *id, struct err *err)
{
	struct arena memory;
	struct value param;
	int rc;

	arena_init(&memory, CALL_MEMORY_MAX);
	param = value_uuid(&memory, id);
	rc = change(store, &memory, "file_delete", id, &param, 1, err);
	arena_release(&memory);
	return rc;
}

int metadata_remove_expired(struct metadata *store, const struct uuid *id, int64_t now_ms,
			    struct err *err)
{
	struct value params[2];
	struct arena memory;
	int rc;

	arena_init(&memory, CALL_MEMORY_MAX);
	params[0] = value_uuid(&memory, id);
	params[1] = value_int(now_ms);
	rc = change(store, &memory, "file_delete_expired", id, params, 2, err);
	arena_release(&memory);
	return rc;
}
