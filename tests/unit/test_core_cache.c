/* The cache of records and small bodies: bounded, and never older than the last change. */
#include "core_scene.h"
#include "stub_metadata.h"

#include "../../src/core/cache_private.h"

static struct file_record *record_of(const struct uuid *id, int64_t revision, const char *name)
{
	struct file_record record = {.id = *id,
				     .revision = revision,
				     .name = name,
				     .type = "text/plain",
				     .tags = "[]",
				     .attributes = "{}"};
	struct file_record *made = file_record_new(&record);
	assert_non_null(made);
	return made;
}

static struct cached_body *body_of(size_t n)
{
	void *data;
	struct cached_body *body = cached_body_new(n, &data);
	assert_non_null(body);
	memset(data, 'b', n);
	return body;
}

static struct cache *cache_of(size_t records, size_t bytes)
{
	struct cache *cache = NULL;
	struct err err;
	assert_int_equal(cache_new(records, bytes, &cache, &err), 0);
	return cache;
}

/* The cached revision, or 0. */
static int64_t revision_in(struct cache *cache, const struct uuid *id)
{
	struct file_record *record = NULL;
	if (!cache_get(cache, id, &record, NULL))
		return 0;
	int64_t revision = record->revision;
	file_record_unref(&record);
	return revision;
}

static void put(struct cache *cache, const struct uuid *id, int64_t revision, size_t body_bytes,
		uint64_t ticket)
{
	struct file_record *record = record_of(id, revision, "name");
	struct cached_body *body = body_bytes ? body_of(body_bytes) : NULL;
	cache_put(cache, record, body, ticket);
	file_record_unref(&record);
	if (body)
		cached_body_unref(&body);
}

static void what_was_put_is_found_and_what_was_dropped_is_not(void **state)
{
	(void)state;
	struct cache *cache = cache_of(100, 1 << 20);
	struct uuid id = uuid_new(), other = uuid_new();
	assert_int_equal(revision_in(cache, &id), 0);
	put(cache, &id, 1, 0, cache_ticket(cache, &id));
	put(cache, &other, 5, 0, cache_ticket(cache, &other));
	assert_int_equal(revision_in(cache, &id), 1);
	cache_drop(cache, &id);
	assert_int_equal(revision_in(cache, &id), 0);
	assert_int_equal(revision_in(cache, &other), 5);
	cache_drop_all(cache);
	assert_int_equal(revision_in(cache, &other), 0);
	assert_int_equal(cache_records(cache), 0);
	cache_free(&cache);
}

static void a_row_read_before_a_change_is_not_put_after_it(void **state)
{
	(void)state;
	struct cache *cache = cache_of(100, 1 << 20);
	struct uuid id = uuid_new();
	uint64_t ticket = cache_ticket(cache, &id);
	cache_drop(cache, &id);
	put(cache, &id, 1, 0, ticket);
	assert_int_equal(revision_in(cache, &id), 0);
	ticket = cache_ticket(cache, &id);
	cache_drop_all(cache);
	put(cache, &id, 1, 0, ticket);
	assert_int_equal(revision_in(cache, &id), 0);
	put(cache, &id, 2, 0, cache_ticket(cache, &id));
	assert_int_equal(revision_in(cache, &id), 2);
	cache_free(&cache);
}

static void a_new_record_keeps_the_bytes_that_are_there(void **state)
{
	(void)state;
	struct cache *cache = cache_of(100, 1 << 20);
	struct uuid id = uuid_new();
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	size_t n;
	put(cache, &id, 1, 500, cache_ticket(cache, &id));
	put(cache, &id, 2, 0, cache_ticket(cache, &id));
	assert_int_equal(cache_get(cache, &id, &record, &body), 1);
	assert_int_equal(record->revision, 2);
	assert_non_null(body);
	cache_drop(cache, &id); /* who has a reference reads on */
	assert_int_equal(((const char *)cached_body_data(body, &n))[499], 'b');
	assert_int_equal(n, 500);
	cached_body_unref(&body);
	file_record_unref(&record);
	cache_free(&cache);
}

static void it_never_holds_more_records_than_allowed(void **state)
{
	(void)state;
	struct cache *cache = cache_of(160, 100 << 20);
	struct uuid last = uuid_new();
	for (int i = 0; i < 5000; i++) {
		last = uuid_new();
		put(cache, &last, 1, 0, cache_ticket(cache, &last));
	}
	assert_in_range(cache_records(cache), 100, 160);
	assert_int_equal(revision_in(cache, &last), 1);
	cache_free(&cache);
}

static void it_never_holds_more_bytes_than_allowed(void **state)
{
	(void)state;
	struct cache *cache = cache_of(100000, 16 * 100000);
	struct uuid id = uuid_new();
	for (int i = 0; i < 1000; i++) {
		id = uuid_new();
		put(cache, &id, 1, 10000, cache_ticket(cache, &id));
	}
	assert_in_range(cache_records(cache), 100, 160);
	id = uuid_new();
	put(cache, &id, 1, 200000, cache_ticket(cache, &id)); /* larger than a shard's share */
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	assert_int_equal(cache_get(cache, &id, &record, &body), 1);
	assert_null(body);
	file_record_unref(&record);
	cache_free(&cache);
}

static void the_least_recently_used_goes_first(void **state)
{
	(void)state;
	struct cache *cache = cache_of(160, 100 << 20);
	struct uuid kept = uuid_new();
	put(cache, &kept, 7, 0, cache_ticket(cache, &kept));
	for (int i = 0; i < 2000; i++) {
		struct uuid id = uuid_new();
		put(cache, &id, 1, 0, cache_ticket(cache, &id));
		assert_int_equal(revision_in(cache, &kept), 7);
	}
	cache_free(&cache);
}

static void a_cache_of_nothing_holds_nothing(void **state)
{
	(void)state;
	struct cache *cache = cache_of(0, 0);
	struct uuid id = uuid_new();
	put(cache, &id, 1, 10, cache_ticket(cache, &id));
	assert_int_equal(revision_in(cache, &id), 0);
	cache_free(&cache);
}

enum { CROWD_IDS = 64, CROWD_ROUNDS = 4000 };

struct crowd {
	struct cache *cache;
	struct uuid *ids;
	unsigned seed;
};

static void *churn(void *context)
{
	struct crowd *crowd = context;
	unsigned x = crowd->seed;
	for (int i = 0; i < CROWD_ROUNDS; i++) {
		x = x * 1103515245 + 12345;
		struct uuid *id = &crowd->ids[(x >> 16) % CROWD_IDS];
		switch ((x >> 8) % 4) {
		case 0:
			put(crowd->cache, id, 1, (x >> 4) % 300, cache_ticket(crowd->cache, id));
			break;
		case 1:
			cache_drop(crowd->cache, id);
			break;
		case 2:
			if (i % 512 == 0)
				cache_drop_all(crowd->cache);
			break;
		default:
			revision_in(crowd->cache, id);
		}
	}
	return NULL;
}

static void threads_may_use_it_at_once(void **state)
{
	(void)state;
	struct uuid ids[CROWD_IDS];
	struct crowd crowds[4];
	pthread_t threads[4];
	struct cache *cache = cache_of(48, 1 << 16);
	for (int i = 0; i < CROWD_IDS; i++)
		ids[i] = uuid_new();
	for (unsigned i = 0; i < 4; i++) {
		crowds[i] = (struct crowd){cache, ids, i + 1};
		pthread_create(&threads[i], NULL, churn, &crowds[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cache_free(&cache);
}

/* --- the cache inside core --- */

static void a_stored_file_is_known_without_the_database(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "a", "b");
	struct file_record *record = NULL;
	assert_int_equal(files_cached(scene->core, &id, &record, NULL), 1);
	assert_string_equal(record->name, "a");
	file_record_unref(&record);
}

struct interruption {
	struct core *core;
	struct uuid id;
	int64_t revision; /* that another node gives the row */
};

/* Another node changes the row after we have read it, and its notice comes before we have cached what we read. */
static void change_meanwhile(void *context)
{
	struct interruption *interruption = context;
	struct err err;
	struct file_record *changed =
		record_of(&interruption->id, interruption->revision + 1, "changed");
	stub_store->in_find = NULL;
	assert_int_equal(metadata_update(stub_store, changed, interruption->revision, &err), 1);
	stub_store->on_change(stub_store->change_context, &interruption->id);
	file_record_unref(&changed);
}

static void a_notice_that_comes_while_a_row_is_read_wins(void **state)
{
	struct scene *scene = *state;
	struct uuid id = scene_put(scene, "old", "b");
	struct interruption interruption = {scene->core, id, 1};
	struct file_record *record = NULL;
	stub_store->on_change(stub_store->change_context, NULL); /* nothing is known any more */
	assert_int_equal(files_cached(scene->core, &id, &record, NULL), 0);
	stub_store->context = &interruption;
	stub_store->in_find = change_meanwhile;
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	assert_string_equal(record->name, "old"); /* it began before the change */
	file_record_unref(&record);
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 1);
	assert_string_equal(record->name, "changed");
	file_record_unref(&record);
}

static void an_expired_record_is_never_given(void **state)
{
	struct scene *scene = *state;
	struct file_labels labels;
	struct file_record *record = NULL;
	assert_int_equal(file_labels_init(&labels, &scene->err), 0);
	labels.expires_in_ms = 1;
	record = scene_store(scene, "a", "b", &labels);
	struct uuid id = record->id;
	int64_t expires = record->expires_ms;
	file_record_unref(&record);
	while (clock_wall_ms() < expires)
		;
	assert_int_equal(files_cached(scene->core, &id, &record, NULL), 0);
	assert_int_equal(files_find(scene->core, &id, &record, &scene->err), 0);
	file_labels_release(&labels);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_found_and_what_was_dropped_is_not),
		cmocka_unit_test(a_row_read_before_a_change_is_not_put_after_it),
		cmocka_unit_test(a_new_record_keeps_the_bytes_that_are_there),
		cmocka_unit_test(it_never_holds_more_records_than_allowed),
		cmocka_unit_test(it_never_holds_more_bytes_than_allowed),
		cmocka_unit_test(the_least_recently_used_goes_first),
		cmocka_unit_test(a_cache_of_nothing_holds_nothing),
		cmocka_unit_test(threads_may_use_it_at_once),
		SCENE_TEST(a_stored_file_is_known_without_the_database),
		SCENE_TEST(a_notice_that_comes_while_a_row_is_read_wins),
		SCENE_TEST(an_expired_record_is_never_given),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
