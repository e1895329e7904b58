/*
 * Registering: many requests' keys and rows as one transaction, and each by itself where one is refused. Worker threads, any
 * number.
 *
 * The fast path sends as few commands as the dialect lets it (insert_many.c); with one it can be begun before it may be committed.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/json.h"
#include "depotd/metadata/register.h"
#include "store_private.h"

enum { BATCH_MEMORY_MAX = 256 * 1024 * 1024 /* parameters of one registration */ };

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
	/* Behind the others, in none of their groups; no statement where there is none. Not counted. */
	struct command hold;
};

static int batch_init(struct batch *b, const struct registration *registrations, size_t n,
		      struct err *err)
{
	size_t files = 0;

	for (size_t i = 0; i < n; i++)
		files += registrations[i].n;
	*b = (struct batch){0};
	arena_init(&b->memory, BATCH_MEMORY_MAX);
	b->commands = calloc(files + n + 1, sizeof(*b->commands)); /* one is for `hold` */
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

/*
 * A transaction that finds all of its rows there has written nothing, and its commit has nothing to write out: neither the rows,
 * which may have been committed deferred. One that locks a row has.
 */
static int batch_hold(struct batch *b, const struct metadata *store, struct err *err)
{
	struct value *array = arena_alloc(&b->memory, sizeof(*array));
	struct value *ids = arena_alloc(&b->memory, b->count * sizeof(*ids));
	size_t n = 0;

	b->hold.statement = statements_find(store->statements, "files_hold_many");
	if (!b->hold.statement)
		return 0; /* this dialect writes out each commit before it answers */
	if (!array || !ids)
		return err_set(err, ERR_NO_MEMORY, "a batch of files");
	for (size_t i = 0; i < b->count; i++)
		if (!is_key(&b->commands[i]))
			ids[n++] = b->commands[i].params[0];
	*array = (struct value){.kind = VALUE_ARRAY, .len = n, .items = ids};
	b->hold.params = array;
	b->hold.param_count = 1;
	b->hold.group = b->groups;
	return 0;
}

/* The slow path: someone's row was refused. Each request's files under a savepoint of their own. */
static int run_apart(struct batch *b, struct metadata *store, struct registration *registrations,
		     int64_t deadline_ns, struct err *err)
{
	size_t hold = b->hold.statement ? 1 : 0;

	qsort(b->commands, b->count, sizeof(*b->commands), compare_groups);
	b->commands[b->count] = b->hold;
	if (opening_passed(store, err) < 0 ||
	    store->ops->run_groups(store->driver, b->commands, b->count + hold, b->errs,
				   b->groups + hold, deadline_ns, err) < 0)
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

/* What the fast path sends, in which nobody's row is refused: the keys, then the files. In memory of the batch. */
struct together {
	struct command *commands;
	size_t n;
};

/* Appends n commands of one kind to out, as one command or as they are; how many they are now. */
static size_t put_stretch(const struct metadata *store, struct arena *memory,
			  const struct command *commands, size_t n, struct command *out)
{
	bool twice =
		false; /* one statement cannot meet the same key twice: the second is a conflict */

	for (size_t i = 1; i < n && is_key(commands); i++)
		twice = twice || same_key(&commands[i - 1], &commands[i]);
	if (!twice && insert_many(store, commands, n, memory, out))
		return 1;
	memcpy(out, commands, n * sizeof(*out));
	return n;
}

static int put_together(struct batch *b, const struct metadata *store, struct together *t,
			struct err *err)
{
	size_t key_n = 0;

	*t = (struct together){
		.commands = arena_alloc(&b->memory, (b->count + 1) * sizeof(*t->commands))};
	if (!t->commands)
		return err_set(err, ERR_NO_MEMORY, "a batch of files");
	qsort(b->commands, b->count, sizeof(*b->commands), compare_commands);
	while (key_n < b->count && is_key(&b->commands[key_n]))
		key_n++;
	t->n = put_stretch(store, &b->memory, b->commands, key_n, t->commands);
	t->n += put_stretch(store, &b->memory, b->commands + key_n, b->count - key_n,
			    t->commands + t->n);
	if (b->hold.statement)
		t->commands[t->n++] = b->hold;
	return 0;
}

static enum run_mode mode_of(enum metadata_commit how)
{
	return how == METADATA_DEFERRED ? RUN_DEFERRED : RUN_IDEMPOTENT;
}

static int all_failed(struct registration *registrations, size_t n, const struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		registrations[i].result = -1;
		registrations[i].err = *err;
	}
	return -1;
}

/* What the fast path came to; where a row was refused, each request is tried by itself. */
static int settle(struct batch *b, struct metadata *store, struct registration *registrations,
		  size_t n, int rc, int64_t deadline_ns, struct err *err)
{
	if (rc < 0 && (err->kind == ERR_INVALID || err->kind == ERR_CONFLICT))
		rc = run_apart(b, store, registrations, deadline_ns, err);
	atomic_fetch_add_explicit(&store->registered, b->count, memory_order_relaxed);
	return rc < 0 ? all_failed(registrations, n, err) : 0;
}

int metadata_register_as(struct metadata *store, struct registration *registrations, size_t n,
			 enum metadata_commit how, struct err *err)
{
	int64_t deadline_ns = store_deadline(store);
	struct together together;
	struct batch batch;
	int rc = batch_init(&batch, registrations, n, err);

	if (rc == 0)
		batch_fill(&batch, store, registrations, n);
	if (rc < 0) {
		all_failed(registrations, n, err);
	} else if (batch.count > 0) {
		if (how == METADATA_FOR_GOOD)
			rc = batch_hold(&batch, store, err);
		if (rc == 0)
			rc = put_together(&batch, store, &together, err);
		if (rc == 0)
			rc = store_run(store, together.commands, together.n, mode_of(how),
				       deadline_ns, err);
		rc = settle(&batch, store, registrations, n, rc, deadline_ns, err);
	}
	batch_release(&batch);
	return rc;
}

int metadata_register(struct metadata *store, struct registration *registrations, size_t n,
		      struct err *err)
{
	return metadata_register_as(store, registrations, n, METADATA_DURABLE, err);
}

/* --- in two halves --- */

struct metadata_start {
	struct registration *registrations;
	size_t n;
	int64_t deadline_ns;
	struct batch batch;
	struct together together;
	struct flight *flight;
};

static void start_free(struct metadata_start *start)
{
	batch_release(&start->batch);
	free(start);
}

struct metadata_start *metadata_register_begin(struct metadata *store,
					       struct registration *registrations, size_t n)
{
	struct metadata_start *start;
	struct err ignored;

	if (!store->ops->begin || opening_passed(store, &ignored) < 0)
		return NULL;
	start = calloc(1, sizeof(*start));
	if (!start)
		return NULL;
	*start = (struct metadata_start){
		.registrations = registrations, .n = n, .deadline_ns = store_deadline(store)};
	if (batch_init(&start->batch, registrations, n, &ignored) == 0) {
		batch_fill(&start->batch, store, registrations, n);
		/* One whose row cannot be made goes the usual way, and so does what is more than one command. */
		if (start->batch.groups == n &&
		    put_together(&start->batch, store, &start->together, &ignored) == 0 &&
		    start->together.n == 1)
			start->flight = store->ops->begin(store->driver, start->together.commands,
							  RUN_DEFERRED, start->deadline_ns);
	}
	if (start->flight)
		return start;
	start_free(start);
	return NULL;
}

int metadata_register_end(struct metadata *store, struct metadata_start *start,
			  enum metadata_commit how, struct err *err)
{
	int rc = store->ops->end(store->driver, start->flight, true, mode_of(how), err);

	rc = settle(&start->batch, store, start->registrations, start->n, rc, start->deadline_ns,
		    err);
	start_free(start);
	return rc;
}

void metadata_register_abandon(struct metadata *store, struct metadata_start *start)
{
	struct err ignored;

	(void)store->ops->end(store->driver, start->flight, false, RUN_DEFERRED, &ignored);
	start_free(start);
}

/* --- what was deferred --- */

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
