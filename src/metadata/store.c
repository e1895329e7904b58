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
	BATCH_MEMORY_MAX = 256 * 1024 * 1024, /* parameters of one metadata_register() */
	PRESENT_MAX = 1000,
	NOTIFY_PAYLOAD_MAX = 128,
};

static const char sqlite_prefix[] = "sqlite:";

/* --- opening and closing --- */

/* The store without a look at its schema. */
static int open_store(const struct metadata_config *config, struct metadata **out, struct err *err)
{
	bool sqlite = strncmp(config->url, sqlite_prefix, strlen(sqlite_prefix)) == 0;
	struct metadata *store = calloc(1, sizeof(*store));
	struct driver_config driver = {
		.url = config->url + (sqlite ? strlen(sqlite_prefix) : 0),
		.connections = config->connections,
		.connect_timeout_ms = config->connect_timeout_ms,
		.statement_timeout_ms = config->statement_timeout_ms,
		.lazy = config->lazy,
		.metrics = config->metrics,
	};

	if (!store)
		return err_set(err, ERR_NO_MEMORY, "metadata store");
	store->ops = sqlite ? &driver_sqlite : &driver_postgres;
	store->call_timeout_ms = config->statement_timeout_ms;
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

const char *metadata_kind(const struct metadata *store)
{
	return store->ops->kind;
}

bool metadata_is_open(struct metadata *store, struct err *why)
{
	return opening_passed(store, why) == 0;
}

int metadata_ping(struct metadata *store, struct err *err)
{
	return opening_passed(store, err) < 0 ? -1 : store->ops->ping(store->driver, err);
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

/* --- registering --- */

/*
 * The commands of one metadata_register(): of each request its key, where it has one, and one per file. A request is a group; the
 * groups are in the order of their keys.
 */
struct batch {
	struct arena memory;
	struct command *commands;
	size_t count;
	size_t *members; /* group → index of its registration; before they are added, all indexes */
	size_t groups;
	struct err *errs; /* by group, for the slow path */
};

static int batch_init(struct batch *b, const struct registration *registrations, size_t n,
		      struct err *err)
{
	size_t files = 0;

	for (size_t i = 0; i < n; i++)
		files += registrations[i].n;
	*b = (struct batch){0};
	arena_init(&b->memory, BATCH_MEMORY_MAX);
	b->commands = calloc(files + n + 1, sizeof(*b->commands));
	b->members = calloc(n + 1, sizeof(*b->members));
	b->errs = calloc(n + 1, sizeof(*b->errs));
	return b->commands && b->members && b->errs
		       ? 0
		       : err_set(err, ERR_NO_MEMORY, "a batch of %zu files", files);
}

static void batch_release(struct batch *b)
{
	arena_release(&b->memory);
	free(b->commands);
	free(b->members);
	free(b->errs);
}

static bool is_key(const struct command *command)
{
	return command->param_count == KEY_PARAMS;
}

/* The next command, of the current group, with memory for its parameters. */
static struct value *batch_command(struct batch *b, const struct metadata *store,
				   const char *statement, size_t params, struct err *err)
{
	struct command *command = &b->commands[b->count];
	struct value *values = arena_alloc(&b->memory, params * sizeof(*values));

	if (!values)
		err_set(err, ERR_NO_MEMORY, "a batch of files");
	else if (store_statement(store, command, statement, err) < 0)
		return NULL;
	command->params = values;
	command->param_count = params;
	command->group = b->groups;
	b->count++;
	return values;
}

static int batch_add_files(struct batch *b, const struct metadata *store,
			   const struct registration *registration, struct err *err)
{
	for (size_t i = 0; i < registration->n; i++) {
		struct value *params = batch_command(b, store, "file_insert", INSERT_PARAMS, err);

		if (!params ||
		    row_insert_params(store, &b->memory, registration->files[i], params, err) < 0)
			return -1;
	}
	return 0;
}

static int batch_add_key(struct batch *b, const struct metadata *store,
			 const struct registration *registration, struct err *err)
{
	const char *statement = registration->answered ? "key_insert_if_free" : "key_insert";
	struct value *params;

	if (!registration->idempotency)
		return 0;
	params = batch_command(b, store, statement, KEY_PARAMS, err);
	return params ? key_insert_params(&b->memory, registration, params, err) : -1;
}

/* Adds the request as one group; if one of its files cannot be a row, nothing is added and the request has its error. */
static void batch_add(struct batch *b, const struct metadata *store,
		      struct registration *registration, size_t index)
{
	size_t before = b->count;

	registration->result = 0;
	err_clear(&registration->err);
	if (registration->n == 0)
		return;
	if (batch_add_key(b, store, registration, &registration->err) < 0 ||
	    batch_add_files(b, store, registration, &registration->err) < 0) {
		registration->result = -1;
		b->count = before;
		return;
	}
	b->members[b->groups++] = index;
}

/*
 * In one order everywhere, two batches that have keys or ids in common never wait for each other in a circle: the keys by their
 * texts, then the files by their ids. By groups first for the slow path.
 */
static int compare_commands(const void *a, const void *b)
{
	const struct command *left = a, *right = b;
	int rc;

	if (is_key(left) != is_key(right))
		return is_key(left) ? -1 : 1;
	rc = strcmp(left->params[0].text, right->params[0].text);
	return rc == 0 && is_key(left) ? strcmp(left->params[1].text, right->params[1].text) : rc;
}

static int compare_groups(const void *a, const void *b)
{
	const struct command *left = a, *right = b;

	if (left->group != right->group)
		return left->group < right->group ? -1 : 1;
	return compare_commands(a, b);
}

/* Members in the order of their keys; those without one in any. context: the registrations. */
static int compare_members(const void *a, const void *b, void *context)
{
	const struct registration *all = context;
	const struct idempotency *left = all[*(const size_t *)a].idempotency;
	const struct idempotency *right = all[*(const size_t *)b].idempotency;

	if (!left || !right)
		return (left == NULL) - (right == NULL);
	return strcmp(left->key, right->key);
}

static void batch_fill(struct batch *b, const struct metadata *store,
		       struct registration *registrations, size_t n)
{
	for (size_t i = 0; i < n; i++)
		b->members[i] = i;
	qsort_r(b->members, n, sizeof(*b->members), compare_members, registrations);
	for (size_t i = 0; i < n; i++) /* groups never overtake i */
		batch_add(b, store, &registrations[b->members[i]], b->members[i]);
}

/* The slow path: someone's row was refused. Each request's files under a savepoint of their own. */
static int run_apart(struct batch *b, struct metadata *store, struct registration *registrations,
		     int64_t deadline_ns, struct err *err)
{
	qsort(b->commands, b->count, sizeof(*b->commands), compare_groups);
	if (opening_passed(store, err) < 0 ||
	    store->ops->run_groups(store->driver, b->commands, b->count, b->errs, b->groups,
				   deadline_ns, err) < 0)
		return -1;
	for (size_t group = 0; group < b->groups; group++) {
		struct registration *registration = &registrations[b->members[group]];

		if (b->errs[group].kind != ERR_NONE) {
			registration->result = -1;
			registration->err = b->errs[group];
		}
	}
	return 0;
}

static bool same_key(const struct command *a, const struct command *b)
{
	return strcmp(a->params[0].text, b->params[0].text) == 0 &&
	       strcmp(a->params[1].text, b->params[1].text) == 0;
}

/* Commands of one kind that go as one command, or as they are. */
struct stretch {
	struct buf rows;
	struct value param;
};

/* Appends the n commands of a stretch to out; how many they are now. */
static size_t put_stretch(const struct metadata *store, struct stretch *stretch,
			  const struct command *commands, size_t n, struct command *out)
{
	bool twice =
		false; /* one statement cannot meet the same key twice: the second is a conflict */

	for (size_t i = 1; i < n && is_key(commands); i++)
		twice = twice || same_key(&commands[i - 1], &commands[i]);
	buf_init(&stretch->rows, BATCH_MEMORY_MAX);
	if (!twice && insert_many(store, commands, n, &stretch->rows, &stretch->param, out))
		return 1;
	memcpy(out, commands, n * sizeof(*out));
	return n;
}

/* The fast path: nobody's row is refused. The keys, then the files. */
static int run_together(struct batch *b, struct metadata *store, enum run_mode mode,
			int64_t deadline_ns, struct err *err)
{
	struct command *run = arena_alloc(&b->memory, b->count * sizeof(*run));
	struct stretch keys, files;
	size_t key_n = 0, n;
	int rc;

	if (!run)
		return err_set(err, ERR_NO_MEMORY, "a batch of files");
	qsort(b->commands, b->count, sizeof(*b->commands), compare_commands);
	while (key_n < b->count && is_key(&b->commands[key_n]))
		key_n++;
	n = put_stretch(store, &keys, b->commands, key_n, run);
	n += put_stretch(store, &files, b->commands + key_n, b->count - key_n, run + n);
	rc = store_run(store, run, n, mode, deadline_ns, err);
	buf_release(&keys.rows);
	buf_release(&files.rows);
	return rc;
}

static int all_failed(struct registration *registrations, size_t n, const struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		registrations[i].result = -1;
		registrations[i].err = *err;
	}
	return -1;
}

static int register_all(struct metadata *store, struct registration *registrations, size_t n,
			enum run_mode mode, struct err *err)
{
	int64_t deadline_ns = store_deadline(store);
	struct batch batch;
	int rc = batch_init(&batch, registrations, n, err);

	if (rc == 0)
		batch_fill(&batch, store, registrations, n);
	if (rc == 0 && batch.count > 0) {
		rc = run_together(&batch, store, mode, deadline_ns, err);
		if (rc < 0 && (err->kind == ERR_INVALID || err->kind == ERR_CONFLICT))
			rc = run_apart(&batch, store, registrations, deadline_ns, err);
		atomic_fetch_add_explicit(&store->registered, batch.count, memory_order_relaxed);
	}
	batch_release(&batch);
	return rc < 0 ? all_failed(registrations, n, err) : 0;
}

int metadata_register(struct metadata *store, struct registration *registrations, size_t n,
		      struct err *err)
{
	return register_all(store, registrations, n, RUN_IDEMPOTENT, err);
}

int metadata_register_deferred(struct metadata *store, struct registration *registrations, size_t n,
			       struct err *err)
{
	return register_all(store, registrations, n, RUN_DEFERRED, err);
}

/* A row_fn; context is char[METADATA_LIFE_MAX]. */
static int take_life(void *context, const struct value *columns, size_t n, struct err *err)
{
	char *life = context;

	if (n < 1 || columns[0].null || columns[0].kind != VALUE_TEXT ||
	    columns[0].len >= METADATA_LIFE_MAX)
		return err_set(err, ERR_INTERNAL, "the database does not say which life it is in");
	memcpy(life, columns[0].text, columns[0].len + 1);
	return 0;
}

int metadata_settle(struct metadata *store, char life[METADATA_LIFE_MAX], struct err *err)
{
	struct command command = {.statement = statements_find(store->statements, "settle"),
				  .row = take_life,
				  .context = life};

	life[0] = '\0';
	if (!command.statement)
		return 0;
	if (store_run(store, &command, 1, RUN_IDEMPOTENT, store_deadline(store), err) < 0)
		return -1;
	return life[0] != '\0' ? 1 : err_set(err, ERR_BUSY, "another node settles as well");
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
	rc = store_read(store, "file_by_id", &param, 1, take_record, &record, store_deadline(store),
			err);
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

	arena_init(&memory, BATCH_MEMORY_MAX);
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
