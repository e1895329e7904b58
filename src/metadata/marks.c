/* How far each data directory has come, as the database knows it. Worker threads, any number. */
#include "depotd/metadata/upkeep.h"
#include "store_private.h"

struct mark {
	bool found;
	int64_t value;
};

static int take_mark(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct mark *mark = context;

	if (n < 1 || columns[0].null || columns[0].kind != VALUE_INT)
		return err_set(err, ERR_INTERNAL, "the database gave a mark that is none");
	*mark = (struct mark){true, columns[0].number};
	return 0;
}

/* Runs a statement about one directory (and a mark, where n is 2). 1 a row came, 0 none did, -1. */
static int run(struct metadata *store, const char *name, const struct uuid *directory, int64_t mark,
	       size_t n, enum run_mode mode, int64_t *out, struct err *err)
{
	char text[UUID_TEXT_LEN + 1];
	struct mark found = {0};
	struct value params[2];
	struct command command = {
		.params = params, .param_count = n, .row = take_mark, .context = &found};

	uuid_format(directory, text);
	params[0] = value_text(text);
	params[1] = value_int(mark);
	command.statement = statements_find(store->statements, name);
	if (!command.statement)
		return err_set(err, ERR_INTERNAL, "no statement %s", name);
	if (store->ops->run(store->driver, &command, 1, mode, store_deadline(store), err) < 0)
		return -1;
	if (found.found)
		*out = found.value;
	return found.found;
}

int metadata_mark(struct metadata *store, const struct uuid *directory, int64_t *mark,
		  struct err *err)
{
	return run(store, "mark_get", directory, 0, 1, RUN_READ, mark, err);
}

int metadata_mark_set(struct metadata *store, const struct uuid *directory, int64_t mark,
		      struct err *err)
{
	int64_t ignored;

	return run(store, "mark_set", directory, mark, 2, RUN_IDEMPOTENT, &ignored, err) < 0 ? -1
											     : 0;
}

/* Twice is no harm: a database may be ahead of its directory. */
int metadata_mark_advance(struct metadata *store, const struct uuid *directory, int64_t seen,
			  int64_t *mark, struct err *err)
{
	return run(store, "mark_advance", directory, seen, 2, RUN_IDEMPOTENT, mark, err);
}

uint64_t metadata_registered(const struct metadata *store)
{
	return atomic_load_explicit(&store->registered, memory_order_relaxed);
}
