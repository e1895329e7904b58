/* Stores and records for the tests of metadata: see the header. */
#include "metadata_fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "depotd/base/clock.h"

static bool database_is_spoilt = true; /* there is none yet */

void fixture_assert_ok(int result, const struct err *err, const char *what, const char *file,
		       int line)
{
	if (result >= 0)
		return;
	print_error("%s: kind %d: %s\n", what, err->kind, err->message);
	_fail(file, line);
}

struct metadata_config fixture_config(const struct fixture *f)
{
	return (struct metadata_config){
		.url = f->url,
		.connections = FIXTURE_CONNECTIONS,
		.connect_timeout_ms = FIXTURE_TIMEOUT_MS,
		.statement_timeout_ms = FIXTURE_TIMEOUT_MS,
		.migrate = true,
	};
}

struct metadata *fixture_open(const struct fixture *f, unsigned connections)
{
	struct metadata_config config = fixture_config(f);
	struct metadata *store = NULL;
	struct err err = {0};

	config.connections = connections;
	assert_ok(metadata_open(&config, &store, &err), &err);
	return store;
}

static struct fixture *new_fixture(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	return f;
}

int fixture_sqlite(void **state)
{
	struct fixture *f = new_fixture(state);

	assert_true(scratch_make(f->directory, "metadata"));
	snprintf(f->url, sizeof(f->url), "sqlite:%s/metadata.db", f->directory);
	f->store = fixture_open(f, FIXTURE_CONNECTIONS);
	return 0;
}

/* One database for all tests, emptied between them: making one takes longer than most tests. */
int fixture_postgres(void **state)
{
	struct fixture *f = new_fixture(state);
	struct postgres_cluster *cluster = postgres_cluster();
	static char url[FIXTURE_URL_MAX];

	f->postgres = true;
	if (!cluster)
		return 0;
	if (database_is_spoilt)
		snprintf(url, sizeof(url), "%s", postgres_cluster_database(cluster, "contract"));
	else
		postgres_cluster_query(cluster, "contract",
				       "TRUNCATE depot_internal.file, depot_internal.file_facet, "
				       "depot_internal.idempotency_key");
	database_is_spoilt = false;
	snprintf(f->url, sizeof(f->url), "%s", url);
	f->store = fixture_open(f, FIXTURE_CONNECTIONS);
	return 0;
}

void fixture_spoil(struct fixture *f)
{
	database_is_spoilt = database_is_spoilt || f->postgres;
}

int fixture_end(void **state)
{
	struct fixture *f = *state;

	metadata_close(&f->store);
	if (f->directory[0])
		scratch_remove(f->directory);
	free(f);
	return 0;
}

struct fixture *fixture(void **state)
{
	struct fixture *f = *state;

	if (!f->store)
		skip();
	return f;
}

struct uuid id_at(int64_t ms)
{
	struct uuid id = uuid_new();

	for (int i = 0; i < 6; i++)
		id.bytes[i] = (unsigned char)(ms >> (8 * (5 - i)));
	return id;
}

struct file_record sample(void)
{
	struct file_record record = {
		.id = uuid_new(),
		.size = 1,
		.revision = 1,
		.sha256 = {0xAB, 0xCD},
		.name = "report.pdf",
		.type = "application/pdf",
		.tags = "[]",
		.attributes = "{}",
	};

	record.created_ms = uuid_time_ms(&record.id);
	return record;
}

struct file_record *make(const struct file_record *from)
{
	struct file_record *record = file_record_new(from);

	assert_non_null(record);
	return record;
}

struct file_record *put(struct metadata *store, const struct file_record *from)
{
	struct file_record *record = make(from);
	struct registration registration = {.files = &record, .n = 1};
	struct err err = {0};

	assert_ok(metadata_register(store, &registration, 1, &err), &err);
	assert_ok(registration.result, &registration.err);
	return record;
}

struct err refusal(struct metadata *store, const struct file_record *from)
{
	struct file_record *record = make(from);
	struct registration registration = {.files = &record, .n = 1};
	struct err err = {0};

	assert_ok(metadata_register(store, &registration, 1, &err), &err);
	assert_int_equal(registration.result, -1);
	file_record_unref(&record);
	return registration.err;
}

static void assert_same_text(const char *a, const char *b)
{
	if (!a || !b)
		assert_ptr_equal(a, b);
	else
		assert_string_equal(a, b);
}

void assert_same_record(const struct file_record *a, const struct file_record *b)
{
	assert_memory_equal(&a->id, &b->id, sizeof(a->id));
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->created_ms, b->created_ms);
	assert_int_equal(a->expires_ms, b->expires_ms);
	assert_int_equal(a->revision, b->revision);
	assert_memory_equal(a->sha256, b->sha256, SHA256_LEN);
	assert_int_equal(a->visibility, b->visibility);
	assert_same_text(a->name, b->name);
	assert_same_text(a->type, b->type);
	assert_same_text(a->sniffed, b->sniffed);
	assert_same_text(a->owner, b->owner);
	assert_same_text(a->tags, b->tags);
	assert_same_text(a->attributes, b->attributes);
}

int find(struct metadata *store, const struct uuid *id, struct file_record **out)
{
	struct err err = {0};
	int found = metadata_find(store, id, out, &err);

	assert_ok(found, &err);
	return found;
}

bool is_there(struct metadata *store, const struct uuid *id)
{
	struct file_record *record = NULL;
	int found = find(store, id, &record);

	file_record_unref(&record);
	return found == 1;
}
