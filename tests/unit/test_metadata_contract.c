/* The metadata store's contract (include/depotd/metadata/store.h), one suite against both kinds. Lists have their own file. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "metadata_fixture.h"

/* --- register and find --- */

static void a_registered_file_is_found_as_it_was(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record full = sample(), *put_in, *got = NULL;

	full.size = INT64_C(5) << 40;
	full.expires_ms = clock_wall_ms() + 3600000;
	full.revision = 7;
	full.visibility = VISIBILITY_PUBLIC;
	full.name = "Ünïcode ‐ \xF0\x9F\x90\x98 'quoted\" \\back %d_.tar.gz";
	full.type = "text/plain; charset=utf-8";
	full.sniffed = "application/gzip";
	full.owner = "zoë";
	full.tags = "[\"q4\",\"ärger\",\"a\\\"b\"]";
	full.attributes = "{\"a\":{\"b\":[1,2.5,\"x\",null,true]},\"é\":\"ü\\\\\"}";
	put_in = put(f->store, &full);
	assert_int_equal(find(f->store, &full.id, &got), 1);
	assert_same_record(put_in, got);
	file_record_unref(&put_in);
	file_record_unref(&got);
}

static void a_file_with_nothing_optional_is_found_as_it_was(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record plain = sample(), *put_in, *got = NULL;

	plain.size = 0;
	put_in = put(f->store, &plain);
	assert_int_equal(find(f->store, &plain.id, &got), 1);
	assert_same_record(put_in, got);
	file_record_unref(&put_in);
	file_record_unref(&got);
}

static void numbers_of_attributes_come_back_to_the_byte(void **state)
{
	static const char *const attributes[] = {
		"{\"n\":1e+15}",
		"{\"n\":1e+100}",
		"{\"n\":1e-07}",
		"{\"n\":-1.5e+300}",
		"{\"n\":100.0}",
		"{\"n\":9223372036854775807}",
		"{\"n\":0.1}",
		"{\"n\":\"1e+15\"}",
		"{\"e+\":\"true e+ 1e+20\",\"n\":[true,1e+22,false]}",
		"{\"n\":-0.0}",
		"{\"n\":1.7976931348623157e+308}",
	};
	struct fixture *f = fixture(state);

	for (size_t i = 0; i < COUNT(attributes); i++) {
		struct file_record record = sample(), *put_in, *got = NULL;

		record.attributes = attributes[i];
		put_in = put(f->store, &record);
		assert_int_equal(find(f->store, &record.id, &got), 1);
		if (strcmp(attributes[i], "{\"n\":-0.0}") != 0 ||
		    !f->postgres) /* numeric has no negative zero */
			assert_string_equal(got->attributes, attributes[i]);
		file_record_unref(&put_in);
		file_record_unref(&got);
	}
}

static void keys_of_attributes_come_back_in_order(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *got = NULL, *put_in;

	/* jsonb sorts keys by length first. */
	record.attributes = "{\"B\":1,\"a\":2,\"aaa\":3,\"bb\":{\"y\":1,\"zz\":2},\"c\":[ ]}";
	record.attributes = "{\"B\":1,\"a\":2,\"aaa\":3,\"bb\":{\"y\":1,\"zz\":2},\"c\":[]}";
	put_in = put(f->store, &record);
	assert_int_equal(find(f->store, &record.id, &got), 1);
	assert_string_equal(got->attributes, record.attributes);
	file_record_unref(&put_in);
	file_record_unref(&got);
}

/* PostgreSQL takes a whole batch as one statement, by another way than a single file. */
static void files_registered_together_are_found_as_each_was(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record samples[3] = {sample(), sample(), sample()}, *files[3];
	struct registration registrations[2] = {{.files = files, .n = 2},
						{.files = files + 2, .n = 1}};
	struct err err;

	samples[1].size = INT64_C(5) << 40;
	samples[1].expires_ms = clock_wall_ms() + 3600000;
	samples[1].revision = 7;
	samples[1].visibility = VISIBILITY_PUBLIC;
	samples[1].name = "Ünïcode \xF0\x9F\x90\x98 'quoted\" \\back %d_ {},NULL.tar.gz";
	samples[1].sniffed = "application/gzip";
	samples[1].owner = "NULL";
	samples[1].tags = "[\"q4\",\"ärger\",\"a\\\"b\",\"null\"]";
	samples[1].attributes = "{\"a\":{\"b\":[1,2.5,\"x\",null,true]},\"é\":\"ü\\\\\"}";
	samples[2].attributes = "{\"n\":1e+15}";
	for (size_t i = 0; i < COUNT(files); i++)
		files[i] = make(&samples[i]);
	assert_ok(metadata_register(f->store, registrations, COUNT(registrations), &err), &err);
	for (size_t i = 0; i < COUNT(files); i++) {
		struct file_record *got = NULL;

		assert_int_equal(find(f->store, &samples[i].id, &got), 1);
		assert_same_record(files[i], got);
		file_record_unref(&got);
		file_record_unref(&files[i]);
	}
	assert_int_equal(registrations[0].result, 0);
	assert_int_equal(registrations[1].result, 0);
}

static void an_unknown_id_is_absent(void **state)
{
	struct fixture *f = fixture(state);
	struct uuid id = uuid_new();

	assert_false(is_there(f->store, &id));
}

static void an_expired_file_is_absent(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record gone = sample(), alive = sample(), *a, *b;

	gone.expires_ms = clock_wall_ms() - 1;
	alive.expires_ms = clock_wall_ms() + 3600000;
	a = put(f->store, &gone);
	b = put(f->store, &alive);
	assert_false(is_there(f->store, &gone.id));
	assert_true(is_there(f->store, &alive.id));
	file_record_unref(&a);
	file_record_unref(&b);
}

static void registering_the_same_id_again_is_a_success_and_changes_nothing(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *first = put(f->store, &record), *again, *got = NULL;

	record.name = "another.txt";
	again = put(f->store, &record);
	assert_int_equal(find(f->store, &record.id, &got), 1);
	assert_same_record(got, first);
	file_record_unref(&first);
	file_record_unref(&again);
	file_record_unref(&got);
}

static void registering_nothing_is_a_success(void **state)
{
	struct fixture *f = fixture(state);
	struct registration empty = {.files = NULL, .n = 0, .result = 5};
	struct err err = {0};

	assert_ok(metadata_register(f->store, NULL, 0, &err), &err);
	assert_ok(metadata_register(f->store, &empty, 1, &err), &err);
	assert_int_equal(empty.result, 0);
}

/* What the program does not look at, but both schemas refuse. */
static struct file_record refused(void)
{
	struct file_record record = sample();

	record.size = -1;
	return record;
}

static void a_refused_file_fails_alone(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record *files[5];
	struct registration registrations[5];
	struct err err = {0};

	for (size_t i = 0; i < COUNT(files); i++) {
		struct file_record record = i == 2 ? refused() : sample();

		files[i] = make(&record);
		registrations[i] = (struct registration){.files = &files[i], .n = 1};
	}
	assert_ok(metadata_register(f->store, registrations, COUNT(registrations), &err), &err);
	for (size_t i = 0; i < COUNT(files); i++) {
		assert_int_equal(registrations[i].result, i == 2 ? -1 : 0);
		assert_int_equal(is_there(f->store, &files[i]->id), i != 2);
		file_record_unref(&files[i]);
	}
	assert_int_equal(registrations[2].err.kind, ERR_INVALID);
}

static void broken_utf8_is_refused_and_its_neighbours_are_not(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record bad = sample(), good = sample(), *files[2];
	struct registration registrations[2];
	struct err err = {0};

	bad.name = "\xC3(.txt";
	files[0] = make(&bad);
	files[1] = make(&good);
	for (size_t i = 0; i < 2; i++)
		registrations[i] = (struct registration){.files = &files[i], .n = 1};
	assert_ok(metadata_register(f->store, registrations, 2, &err), &err);
	assert_int_equal(registrations[0].result, -1);
	assert_int_equal(registrations[0].err.kind, ERR_INVALID);
	assert_int_equal(registrations[1].result, 0);
	assert_true(is_there(f->store, &good.id));
	file_record_unref(&files[0]);
	file_record_unref(&files[1]);
}

static void the_files_of_a_request_are_registered_all_or_none(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record *files[4];
	struct registration whole, broken;
	struct registration registrations[2];
	struct err err = {0};

	for (size_t i = 0; i < COUNT(files); i++) {
		struct file_record record = i == 3 ? refused() : sample();

		files[i] = make(&record);
	}
	whole = (struct registration){.files = &files[0], .n = 2};
	broken = (struct registration){.files = &files[2], .n = 2};
	registrations[0] = broken;
	registrations[1] = whole;
	assert_ok(metadata_register(f->store, registrations, 2, &err), &err);
	assert_int_equal(registrations[0].result, -1);
	assert_int_equal(registrations[1].result, 0);
	assert_true(is_there(f->store, &files[0]->id));
	assert_true(is_there(f->store, &files[1]->id));
	assert_false(is_there(f->store, &files[2]->id));
	assert_false(is_there(f->store, &files[3]->id));
	for (size_t i = 0; i < COUNT(files); i++)
		file_record_unref(&files[i]);
}

static void every_bad_request_of_a_batch_has_its_own_error(void **state)
{
	struct fixture *f = fixture(state);
	enum { N = 40 };
	struct file_record *files[N];
	struct registration registrations[N];
	struct err err = {0};

	for (size_t i = 0; i < N; i++) {
		struct file_record record = i % 3 == 0 ? refused() : sample();

		files[i] = make(&record);
		registrations[i] = (struct registration){.files = &files[i], .n = 1};
	}
	assert_ok(metadata_register(f->store, registrations, N, &err), &err);
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(registrations[i].result, i % 3 == 0 ? -1 : 0);
		assert_int_equal(is_there(f->store, &files[i]->id), i % 3 != 0);
		file_record_unref(&files[i]);
	}
}

static void a_name_of_256_characters_is_refused_and_one_of_255_is_not(void **state)
{
	struct fixture *f = fixture(state);
	char name[4 * 256 + 1];
	struct file_record record = sample(), *put_in;

	for (size_t i = 0; i < 256; i++)
		memcpy(name + 4 * i, "\xF0\x9F\x90\x98", 5);
	record.name = name;
	assert_int_equal(refusal(f->store, &record).kind, ERR_INVALID);
	name[4 * 255] = '\0';
	put_in = put(f->store, &record);
	assert_true(is_there(f->store, &record.id));
	file_record_unref(&put_in);
}

static void a_thousand_files_of_one_request_are_registered(void **state)
{
	struct fixture *f = fixture(state);
	enum { N = 1000 };
	struct file_record **files = calloc(N, sizeof(struct file_record *));
	struct registration registration = {.files = files, .n = N};
	struct err err = {0};

	for (size_t i = 0; i < N; i++) {
		struct file_record record = sample();

		files[i] = make(&record);
	}
	assert_ok(metadata_register(f->store, &registration, 1, &err), &err);
	assert_ok(registration.result, &registration.err);
	assert_true(is_there(f->store, &files[0]->id));
	assert_true(is_there(f->store, &files[N - 1]->id));
	for (size_t i = 0; i < N; i++)
		file_record_unref(&files[i]);
	free(files);
}

/* --- update and remove --- */

static void an_update_replaces_what_may_change(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *before = put(f->store, &record), *got = NULL;
	struct err err = {0};

	record.name = "renamed.txt";
	record.tags = "[\"new\"]";
	record.attributes = "{\"k\":{\"v\":1}}";
	record.visibility = VISIBILITY_PUBLIC;
	record.expires_ms = clock_wall_ms() + 1000000;
	record.revision = 2;
	assert_int_equal(metadata_update(f->store, &record, 1, &err), 1);
	assert_int_equal(find(f->store, &record.id, &got), 1);
	assert_same_record(got, &record);
	file_record_unref(&before);
	file_record_unref(&got);
}

static void an_update_at_another_revision_changes_nothing(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *before = put(f->store, &record), *got = NULL;
	struct err err = {0};

	record.name = "renamed.txt";
	record.revision = 3;
	assert_int_equal(metadata_update(f->store, &record, 2, &err), 0);
	assert_int_equal(find(f->store, &record.id, &got), 1);
	assert_same_record(got, before);
	file_record_unref(&before);
	file_record_unref(&got);
}

static void an_update_of_what_is_not_there_says_so(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample();
	struct err err = {0};

	assert_int_equal(metadata_update(f->store, &record, 1, &err), 0);
}

static void an_update_that_is_no_utf8_is_refused(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *before = put(f->store, &record);
	struct err err = {0};

	record.name = "\xFF";
	record.revision = 2;
	assert_int_equal(metadata_update(f->store, &record, 1, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_true(is_there(f->store, &record.id));
	file_record_unref(&before);
}

static void a_removed_file_is_absent_and_removing_it_again_says_so(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *before = put(f->store, &record);
	struct err err = {0};

	assert_int_equal(metadata_remove(f->store, &record.id, &err), 1);
	assert_false(is_there(f->store, &record.id));
	assert_int_equal(metadata_remove(f->store, &record.id, &err), 0);
	file_record_unref(&before);
}

static void a_removed_id_may_be_registered_again(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *first = put(f->store, &record), *second;
	struct err err = {0};

	record.tags = "[\"again\"]";
	assert_int_equal(metadata_remove(f->store, &record.id, &err), 1);
	second = put(f->store, &record);
	assert_true(is_there(f->store, &record.id));
	file_record_unref(&first);
	file_record_unref(&second);
}

static void only_an_expired_file_is_removed_as_expired(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record never = sample(), later = sample(), past = sample(), *files[3];
	int64_t now_ms = clock_wall_ms();
	struct err err = {0};

	later.expires_ms = now_ms + 1;
	past.expires_ms = now_ms;
	files[0] = put(f->store, &never);
	files[1] = put(f->store, &later);
	files[2] = put(f->store, &past);
	assert_int_equal(metadata_remove_expired(f->store, &never.id, now_ms, &err), 0);
	assert_int_equal(metadata_remove_expired(f->store, &later.id, now_ms, &err), 0);
	assert_int_equal(metadata_remove_expired(f->store, &past.id, now_ms, &err), 1);
	assert_int_equal(metadata_remove_expired(f->store, &past.id, now_ms, &err), 0);
	for (size_t i = 0; i < 3; i++)
		file_record_unref(&files[i]);
}

/* --- walk, present, expired --- */

static void a_walk_meets_every_row_once_in_the_order_of_ids(void **state)
{
	struct fixture *f = fixture(state);
	enum { N = 25 };
	struct uuid ids[N];
	struct file_list list;
	const struct uuid *after = NULL;
	struct uuid last;
	size_t met = 0;
	struct err err = {0};

	for (size_t i = 0; i < N; i++) {
		struct file_record record = sample(), *put_in;

		if (i % 5 == 0)
			record.expires_ms = 1; /* expired ones, too */
		ids[i] = record.id;
		put_in = put(f->store, &record);
		file_record_unref(&put_in);
	}
	do {
		assert_ok(metadata_walk(f->store, after, 7, &list, &err), &err);
		for (size_t i = 0; i < list.n; i++)
			assert_memory_equal(&list.files[i]->id, &ids[met++], sizeof(ids[0]));
		if (list.n > 0)
			last = list.files[list.n - 1]->id;
		after = &last;
		if (list.n == 0)
			assert_false(list.more);
		met += 0 * list.n;
		if (!list.more) {
			file_list_release(&list);
			break;
		}
		file_list_release(&list);
	} while (true);
	assert_int_equal(met, N);
}

static void ids_with_rows_are_told_from_those_without(void **state)
{
	struct fixture *f = fixture(state);
	struct uuid ids[1000];
	bool present[1000];
	struct err err = {0};

	for (size_t i = 0; i < COUNT(ids); i++) {
		struct file_record record = sample(), *put_in;

		ids[i] = record.id;
		if (i % 100 != 0)
			continue;
		record.expires_ms = i % 200 == 0 ? 1 : FILE_EXPIRES_NEVER;
		put_in = put(f->store, &record);
		file_record_unref(&put_in);
	}
	ids[999] = ids[300]; /* asked for twice */
	assert_ok(metadata_present(f->store, ids, COUNT(ids), present, &err), &err);
	for (size_t i = 0; i < COUNT(ids); i++)
		assert_int_equal(present[i], i % 100 == 0 || i == 999);
	assert_ok(metadata_present(f->store, ids, 0, present, &err), &err);
}

static void expired_rows_come_longest_expired_first(void **state)
{
	struct fixture *f = fixture(state);
	int64_t now_ms = clock_wall_ms();
	struct file_list list;
	struct err err = {0};

	for (int64_t i = 0; i < 10; i++) {
		struct file_record record = sample(), *put_in;

		record.expires_ms = i < 8 ? now_ms - 1000 + (i * 7 % 8) : now_ms + 1000000;
		put_in = put(f->store, &record);
		file_record_unref(&put_in);
	}
	assert_ok(metadata_expired(f->store, now_ms, 5, &list, &err), &err);
	assert_int_equal(list.n, 5);
	for (size_t i = 0; i < list.n; i++)
		assert_int_equal(list.files[i]->expires_ms, now_ms - 1000 + (int64_t)i);
	file_list_release(&list);
	assert_ok(metadata_expired(f->store, now_ms, 100, &list, &err), &err);
	assert_int_equal(list.n, 8);
	file_list_release(&list);
}

static void a_ping_is_answered(void **state)
{
	struct fixture *f = fixture(state);
	struct err err = {0};

	assert_ok(metadata_ping(f->store, &err), &err);
}

/* --- many at a time --- */

enum { THREADS = 8, ROUNDS = 12, BATCH = 16 };

struct worker {
	pthread_t thread;
	struct metadata *store;
	struct uuid ids[ROUNDS * BATCH];
	const struct file_record *contended;
	int failures, wins;
};

static void *register_batches(void *context)
{
	struct worker *w = context;

	for (size_t round = 0; round < ROUNDS; round++) {
		struct file_record *files[BATCH];
		struct registration registrations[BATCH];
		struct err err = {0};

		for (size_t i = 0; i < BATCH; i++) {
			struct file_record record = sample();

			w->ids[round * BATCH + i] = record.id;
			files[i] = file_record_new(&record);
			registrations[i] = (struct registration){.files = &files[i], .n = 1};
		}
		if (metadata_register(w->store, registrations, BATCH, &err) < 0)
			w->failures++;
		for (size_t i = 0; i < BATCH; i++)
			file_record_unref(&files[i]);
	}
	return NULL;
}

static void eight_threads_register_at_once(void **state)
{
	struct fixture *f = fixture(state);
	struct worker workers[THREADS] = {0};

	for (size_t i = 0; i < THREADS; i++) {
		workers[i].store = f->store;
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, register_batches, &workers[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		struct err err = {0};
		bool present[ROUNDS * BATCH];

		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failures, 0);
		assert_ok(metadata_present(f->store, workers[i].ids, ROUNDS * BATCH, present, &err),
			  &err);
		for (size_t k = 0; k < ROUNDS * BATCH; k++)
			assert_true(present[k]);
	}
}

static void *update_once(void *context)
{
	struct worker *w = context;
	struct file_record changed = *w->contended;
	struct err err = {0};
	int rc;

	changed.revision = 2;
	changed.name = "won.txt";
	rc = metadata_update(w->store, &changed, 1, &err);
	w->failures = rc < 0;
	w->wins = rc == 1;
	return NULL;
}

static void of_eight_updates_at_one_revision_one_wins(void **state)
{
	struct fixture *f = fixture(state);

	for (int round = 0; round < 5; round++) {
		struct worker workers[THREADS] = {0};
		struct file_record record = sample(), *before = put(f->store, &record), *got = NULL;
		int wins = 0;

		for (size_t i = 0; i < THREADS; i++) {
			workers[i].store = f->store;
			workers[i].contended = before;
			assert_int_equal(
				pthread_create(&workers[i].thread, NULL, update_once, &workers[i]),
				0);
		}
		for (size_t i = 0; i < THREADS; i++) {
			pthread_join(workers[i].thread, NULL);
			assert_int_equal(workers[i].failures, 0);
			wins += workers[i].wins;
		}
		assert_int_equal(wins, 1);
		assert_int_equal(find(f->store, &record.id, &got), 1);
		assert_int_equal(got->revision, 2);
		file_record_unref(&got);
		file_record_unref(&before);
	}
}

/* The same ids in opposite orders from two sides: what deadlocks a careless store. */
static void *register_shared(void *context)
{
	struct worker *w = context;
	struct file_record *files[BATCH];
	struct registration registrations[BATCH];
	struct err err = {0};

	for (size_t i = 0; i < BATCH; i++) {
		struct file_record record = sample();

		record.id = w->ids[w->wins ? BATCH - 1 - i : i];
		record.created_ms = uuid_time_ms(&record.id);
		files[i] = file_record_new(&record);
		registrations[i] = (struct registration){.files = &files[i], .n = 1};
	}
	w->failures = metadata_register(w->store, registrations, BATCH, &err) < 0;
	for (size_t i = 0; i < BATCH; i++) {
		w->failures += registrations[i].result < 0;
		file_record_unref(&files[i]);
	}
	return NULL;
}

static void the_same_ids_registered_from_many_sides_succeed_everywhere(void **state)
{
	struct fixture *f = fixture(state);

	for (int round = 0; round < 10; round++) {
		struct worker workers[4] = {0};
		struct uuid ids[BATCH];

		for (size_t i = 0; i < BATCH; i++)
			ids[i] = uuid_new();
		for (size_t i = 0; i < COUNT(workers); i++) {
			workers[i].store = f->store;
			workers[i].wins = i % 2 == 1; /* backwards */
			memcpy(workers[i].ids, ids, sizeof(ids));
			assert_int_equal(pthread_create(&workers[i].thread, NULL, register_shared,
							&workers[i]),
					 0);
		}
		for (size_t i = 0; i < COUNT(workers); i++) {
			pthread_join(workers[i].thread, NULL);
			assert_int_equal(workers[i].failures, 0);
		}
	}
}

/* --- migrations, processes, files --- */

static void *open_store(void *context)
{
	struct worker *w = context;
	const struct fixture *f = (const struct fixture *)(const void *)w->contended;
	struct metadata_config config = fixture_config(f);
	struct err err = {0};

	w->failures = metadata_open(&config, &w->store, &err) < 0;
	if (w->failures)
		print_error("open: %s\n", err.message);
	return NULL;
}

static void make_fresh(struct fixture *f)
{
	metadata_close(&f->store);
	if (f->postgres)
		snprintf(f->url, sizeof(f->url), "%s",
			 postgres_cluster_database(postgres_cluster(), "fresh"));
	else
		snprintf(f->url, sizeof(f->url), "sqlite:%s/fresh.db", f->directory);
}

static void four_threads_may_migrate_at_once(void **state)
{
	struct fixture *f = fixture(state);
	struct worker workers[4] = {0};

	make_fresh(f);
	for (size_t i = 0; i < COUNT(workers); i++) {
		workers[i].contended = (const void *)f;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, open_store, &workers[i]),
				 0);
	}
	for (size_t i = 0; i < COUNT(workers); i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failures, 0);
		metadata_close(&workers[i].store);
	}
	f->store = fixture_open(f, 1);
}

static void four_processes_may_migrate_at_once(void **state)
{
	struct fixture *f = fixture(state);
	pid_t children[4];

	make_fresh(f);
	for (size_t i = 0; i < COUNT(children); i++) {
		children[i] = fork();
		if (children[i] == 0) {
			struct metadata_config config = fixture_config(f);
			struct metadata *store = NULL;
			struct err err = {0};
			int rc = metadata_open(&config, &store, &err);

			if (rc < 0)
				print_error("open: %s\n", err.message);
			else
				metadata_close(&store);
			_exit(rc < 0);
		}
	}
	for (size_t i = 0; i < COUNT(children); i++) {
		int status = -1;

		waitpid(children[i], &status, 0);
		assert_int_equal(status, 0);
	}
	f->store = fixture_open(f, 1);
}

static void migrating_says_from_where_to_where(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config;
	struct err err = {0};
	int from = -1, to = -1;

	make_fresh(f);
	config = fixture_config(f);
	assert_ok(metadata_migrate(&config, &from, &to, &err), &err);
	assert_int_equal(from, 0);
	assert_true(to >= 1);
	assert_ok(metadata_migrate(&config, &from, &to, &err), &err);
	assert_int_equal(from, to);
	f->store = fixture_open(f, 1);
}

static void an_empty_database_is_too_old_without_migrating(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config;
	struct metadata *store = NULL;
	struct err err = {0};

	make_fresh(f);
	config = fixture_config(f);
	config.migrate = false;
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_int_equal(err.kind, ERR_INTERNAL);
	assert_non_null(strstr(err.message, "depotd migrate"));
	f->store = fixture_open(f, 1);
}

/* Changes the table of migrations behind the store's back. */
static void execute(struct fixture *f, const char *postgres, const char *sqlite);

static void a_migration_with_another_text_is_refused(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config = fixture_config(f);
	struct metadata *store = NULL;
	struct err err = {0};

	execute(f, "UPDATE depot_internal.migration SET checksum = 'x' WHERE version = 1",
		"UPDATE migration SET checksum = 'x' WHERE version = 1");
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_non_null(strstr(err.message, "0001_files.sql"));
}

static void a_newer_schema_that_only_adds_is_fine(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config = fixture_config(f);
	struct metadata *store = NULL;
	struct err err = {0};

	execute(f, "INSERT INTO depot_internal.migration VALUES (9000, '9000_more.sql', 'x', 1)",
		"INSERT INTO migration VALUES (9000, '9000_more.sql', 'x', 1)");
	assert_ok(metadata_open(&config, &store, &err), &err);
	metadata_close(&store);
	config.migrate = false;
	assert_ok(metadata_open(&config, &store, &err), &err);
	metadata_close(&store);
}

static void a_newer_schema_that_breaks_is_refused(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config = fixture_config(f);
	struct metadata *store = NULL;
	struct err err = {0};

	execute(f,
		"INSERT INTO depot_internal.migration VALUES (9000, '9000_less.breaking.sql', 'x', "
		"1)",
		"INSERT INTO migration VALUES (9000, '9000_less.breaking.sql', 'x', 1)");
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_non_null(strstr(err.message, "9000_less.breaking.sql"));
}

static void two_processes_share_a_database(void **state)
{
	struct fixture *f = fixture(state);
	int status = -1;
	pid_t child;

	metadata_close(&f->store); /* no threads of ours across the fork */
	child = fork();
	if (child == 0) {
		struct metadata *store = fixture_open(f, 1);
		struct worker worker = {.store = store};

		register_batches(&worker);
		metadata_close(&store);
		_exit(worker.failures);
	}
	f->store = fixture_open(f, 1);
	struct worker mine = {.store = f->store};
	register_batches(&mine);
	waitpid(child, &status, 0);
	assert_int_equal(mine.failures, 0);
	assert_int_equal(status, 0);

	struct file_list list;
	struct err err = {0};
	assert_ok(metadata_walk(f->store, NULL, 10 * ROUNDS * BATCH, &list, &err), &err);
	assert_int_equal(list.n, 2 * ROUNDS * BATCH);
	file_list_release(&list);
}

#include <sqlite3.h>

static void execute(struct fixture *f, const char *postgres, const char *sqlite)
{
	sqlite3 *db = NULL;

	fixture_spoil(f);
	if (f->postgres) {
		postgres_cluster_query(postgres_cluster(),
				       strstr(f->url, "dbname=") + strlen("dbname="), postgres);
		return;
	}
	assert_int_equal(sqlite3_open(f->url + strlen("sqlite:"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sqlite, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* --- of one kind only --- */

static void sqlite_files_are_for_their_owner_alone(void **state)
{
	struct fixture *f = fixture(state);
	static const char *const endings[] = {"", "-wal", "-shm"};
	struct file_record record = sample(), *put_in = put(f->store, &record);

	for (size_t i = 0; i < COUNT(endings); i++) {
		char path[FIXTURE_URL_MAX];
		struct stat status;

		snprintf(path, sizeof(path), "%s%s", f->url + strlen("sqlite:"), endings[i]);
		assert_int_equal(stat(path, &status), 0);
		assert_int_equal(status.st_mode & 0777, 0600);
	}
	file_record_unref(&put_in);
}

static void a_locked_sqlite_file_is_unavailable_in_time(void **state)
{
	struct fixture *f = fixture(state);
	struct metadata_config config = fixture_config(f);
	struct file_record record = sample(), *file = make(&record);
	struct registration registration = {.files = &file, .n = 1};
	struct metadata *hurried = NULL;
	struct err err = {0};
	sqlite3 *db = NULL;
	int64_t begin_ms;

	config.statement_timeout_ms = 300;
	assert_ok(metadata_open(&config, &hurried, &err), &err);
	assert_int_equal(sqlite3_open(f->url + strlen("sqlite:"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	begin_ms = clock_monotonic_ms();
	assert_int_equal(metadata_register(hurried, &registration, 1, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	assert_int_equal(registration.err.kind, ERR_UNAVAILABLE);
	assert_in_range(clock_monotonic_ms() - begin_ms, 290, 2000);
	assert_false(is_there(hurried, &record.id)); /* readers do not wait for it */
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	assert_ok(metadata_register(hurried, &registration, 1, &err), &err);
	sqlite3_close(db);
	metadata_close(&hurried);
	file_record_unref(&file);
}

/* In a process of its own, whose files may not grow any more: what a full or failing disk does to a write. */
static int fill_the_disk(const struct fixture *f)
{
	struct metadata *store = fixture_open(f, 1);
	struct file_record record = sample(), *file = make(&record);
	struct registration registration = {.files = &file, .n = 1};
	struct rlimit whole, none = {0, 0};
	struct err err = {0};
	int failed;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &whole);
	none.rlim_max = whole.rlim_max;
	setrlimit(RLIMIT_FSIZE, &none);
	failed = metadata_register(store, &registration, 1, &err) == 0 || registration.result == 0;
	failed +=
		err.kind != ERR_IO && err.kind != ERR_DISK_FULL && err.kind != ERR_UNKNOWN_OUTCOME;
	setrlimit(RLIMIT_FSIZE, &whole);
	failed += metadata_register(store, &registration, 1, &err) < 0;
	failed += !is_there(store, &record.id);
	file_record_unref(&file);
	metadata_close(&store);
	return failed;
}

static void a_write_that_fails_is_an_error_and_the_next_one_is_not(void **state)
{
	struct fixture *f = fixture(state);
	int status = -1;
	pid_t child;

	metadata_close(&f->store);
	child = fork();
	if (child == 0)
		_exit(fill_the_disk(f));
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	f->store = fixture_open(f, 1);
}

static void a_sqlite_url_without_a_file_is_refused(void **state)
{
	static const char *const urls[] = {
		"sqlite:", "sqlite::memory:", "sqlite:/nonexistent/folder/x.db"};

	(void)state;
	for (size_t i = 0; i < COUNT(urls); i++) {
		struct metadata_config config = {.url = urls[i],
						 .connections = 1,
						 .connect_timeout_ms = 100,
						 .statement_timeout_ms = 100};
		struct metadata *store = NULL;
		struct err err = {0};

		assert_int_equal(metadata_open(&config, &store, &err), -1);
		assert_null(store);
	}
}

#define SHARED(setup)                                                                              \
	cmocka_unit_test_setup_teardown(a_registered_file_is_found_as_it_was, setup, fixture_end), \
		cmocka_unit_test_setup_teardown(a_file_with_nothing_optional_is_found_as_it_was,   \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(numbers_of_attributes_come_back_to_the_byte,       \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(keys_of_attributes_come_back_in_order, setup,      \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(files_registered_together_are_found_as_each_was,   \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(an_unknown_id_is_absent, setup, fixture_end),      \
		cmocka_unit_test_setup_teardown(an_expired_file_is_absent, setup, fixture_end),    \
		cmocka_unit_test_setup_teardown(                                                   \
			registering_the_same_id_again_is_a_success_and_changes_nothing, setup,     \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(registering_nothing_is_a_success, setup,           \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(a_refused_file_fails_alone, setup, fixture_end),   \
		cmocka_unit_test_setup_teardown(broken_utf8_is_refused_and_its_neighbours_are_not, \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(the_files_of_a_request_are_registered_all_or_none, \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(every_bad_request_of_a_batch_has_its_own_error,    \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(                                                   \
			a_name_of_256_characters_is_refused_and_one_of_255_is_not, setup,          \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(a_thousand_files_of_one_request_are_registered,    \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(an_update_replaces_what_may_change, setup,         \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(an_update_at_another_revision_changes_nothing,     \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(an_update_of_what_is_not_there_says_so, setup,     \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(an_update_that_is_no_utf8_is_refused, setup,       \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(                                                   \
			a_removed_file_is_absent_and_removing_it_again_says_so, setup,             \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(a_removed_id_may_be_registered_again, setup,       \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(only_an_expired_file_is_removed_as_expired, setup, \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(a_walk_meets_every_row_once_in_the_order_of_ids,   \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(ids_with_rows_are_told_from_those_without, setup,  \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(expired_rows_come_longest_expired_first, setup,    \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(a_ping_is_answered, setup, fixture_end),           \
		cmocka_unit_test_setup_teardown(eight_threads_register_at_once, setup,             \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(of_eight_updates_at_one_revision_one_wins, setup,  \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(                                                   \
			the_same_ids_registered_from_many_sides_succeed_everywhere, setup,         \
			fixture_end),                                                              \
		cmocka_unit_test_setup_teardown(four_threads_may_migrate_at_once, setup,           \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(four_processes_may_migrate_at_once, setup,         \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(migrating_says_from_where_to_where, setup,         \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(an_empty_database_is_too_old_without_migrating,    \
						setup, fixture_end),                               \
		cmocka_unit_test_setup_teardown(a_migration_with_another_text_is_refused, setup,   \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(a_newer_schema_that_only_adds_is_fine, setup,      \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(a_newer_schema_that_breaks_is_refused, setup,      \
						fixture_end),                                      \
		cmocka_unit_test_setup_teardown(two_processes_share_a_database, setup,             \
						fixture_end)

int main(void)
{
	const struct CMUnitTest sqlite[] = {
		SHARED(fixture_sqlite),
		cmocka_unit_test_setup_teardown(sqlite_files_are_for_their_owner_alone,
						fixture_sqlite, fixture_end),
		cmocka_unit_test_setup_teardown(a_locked_sqlite_file_is_unavailable_in_time,
						fixture_sqlite, fixture_end),
		cmocka_unit_test_setup_teardown(
			a_write_that_fails_is_an_error_and_the_next_one_is_not, fixture_sqlite,
			fixture_end),
		cmocka_unit_test(a_sqlite_url_without_a_file_is_refused),
	};
	const struct CMUnitTest postgres[] = {SHARED(fixture_postgres)};
	int failed = cmocka_run_group_tests_name("metadata sqlite", sqlite, NULL, NULL);

	return failed + cmocka_run_group_tests_name("metadata postgresql", postgres, NULL, NULL);
}
