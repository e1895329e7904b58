/* What PostgreSQL keeps beside a record, and what its schema does for hands that are not the program's (migration 0006). */
#include <stdio.h>

#include "metadata_fixture.h"

static const char *query(const char *sql)
{
	return postgres_cluster_query(postgres_cluster(), "contract", sql);
}

/* A file row as a person or the release before would insert it: without facet_bits. */
static const char *insert_by_hand(const char *name, const char *visibility, const char *sha256)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
		 "DO $$ BEGIN "
		 "INSERT INTO depot_internal.file (id, created_at, size, sha256, name, "
		 "name_folded, type, visibility, facets) "
		 "VALUES ('0192f0c1-0000-7000-8000-000000000001', 1, 1, %s, '%s', 'x', 'a/b', "
		 "'%s', '{-7,4096,65}'); "
		 "EXCEPTION WHEN check_violation THEN NULL; END $$; SELECT count(*) FROM "
		 "depot_internal.file",
		 sha256, name, visibility);
	return query(sql);
}

static void assert_bits_are_the_schemas(const char *files)
{
	assert_string_equal(query("SELECT count(*) FROM depot_internal.file "
				  "WHERE facet_bits = depot_internal.facet_bits(facets, sha256)"),
			    files);
	assert_string_equal(
		query("SELECT count(*) FROM depot_internal.file f, unnest(f.facets) AS x(facet) "
		      "WHERE NOT EXISTS (SELECT FROM depot_internal.file_facet k WHERE k.facet = "
		      "x.facet "
		      "AND (k.id, k.facet_bits, k.name) = (f.id, f.facet_bits, f.name))"),
		"0");
}

/* Of all kinds of labels. */
static struct file_record labelled(size_t i)
{
	static const char *const tags[] = {"[]", "[\"q4\",\"är\\\"ger\",\"{a,b}\"]", "[\"\"]"};
	static const char *const attributes[] = {"{\"a\":{\"b\":[1,\"x\"]}}", "{}"};
	struct file_record record = sample();

	record.owner = i % 2 ? "ann" : NULL;
	record.tags = tags[i % COUNT(tags)];
	record.attributes = attributes[i / 2 % COUNT(attributes)];
	memset(record.sha256, (int)(37 * i), sizeof(record.sha256));
	return record;
}

static void the_bits_that_the_program_sends_are_the_schemas(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = labelled(1), *file = put(f->store, &record);
	struct err err = {0};

	assert_bits_are_the_schemas("1");
	record = *file;
	record.tags = "[\"other\"]";
	record.name = "renamed";
	assert_int_equal(metadata_update(f->store, &record, 1, &err), 1);
	assert_bits_are_the_schemas("1");
	file_record_unref(&file);
}

static void the_files_of_a_batch_come_back_as_they_were(void **state)
{
	enum { N = 12 };
	struct fixture *f = fixture(state);
	struct file_record *files[N], *got;
	struct registration registrations[N];
	struct err err = {0};

	for (size_t i = 0; i < N; i++) {
		struct file_record record = labelled(i);

		files[i] = make(&record);
		registrations[i] = (struct registration){.files = &files[i], .n = 1};
	}
	assert_ok(metadata_register(f->store, registrations, N, &err), &err);
	assert_bits_are_the_schemas("12");
	for (size_t i = 0; i < N; i++) {
		got = NULL;
		assert_int_equal(find(f->store, &files[i]->id, &got), 1);
		assert_same_record(files[i], got);
		file_record_unref(&got);
		file_record_unref(&files[i]);
	}
}

static void a_batch_that_is_registered_again_changes_nothing(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record old = labelled(1), new = labelled(2), *files[3];
	struct registration registration = {.files = files, .n = 3};
	struct err err = {0};

	files[0] = put(f->store, &old);
	files[1] = make(&new);
	files[2] = files[1]; /* the same twice in one statement */
	for (int i = 0; i < 2; i++) {
		assert_ok(metadata_register(f->store, &registration, 1, &err), &err);
		assert_int_equal(registration.result, 0);
	}
	assert_bits_are_the_schemas("2");
	assert_string_equal(query("SELECT count(*) = (SELECT sum(cardinality(facets)) "
				  "FROM depot_internal.file) FROM depot_internal.file_facet"),
			    "t");
	file_record_unref(&files[0]);
	file_record_unref(&files[1]);
}

static void a_row_that_comes_without_bits_gets_them(void **state)
{
	fixture(state);
	assert_string_equal(insert_by_hand("x", "public", "sha256('')"), "1");
	assert_string_equal(query("SELECT facet_bits = depot_internal.facet_bits(facets, sha256) "
				  "FROM depot_internal.file"),
			    "t");
}

static void what_the_program_sees_to_is_refused_from_others(void **state)
{
	fixture(state);
	assert_string_equal(insert_by_hand("", "public", "sha256('')"), "0");
	assert_string_equal(insert_by_hand("x", "secret", "sha256('')"), "0");
	assert_string_equal(insert_by_hand("x", "public", "'short'"), "0");
}

static void a_revision_below_one_is_refused(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample();

	record.revision = 0;
	assert_int_equal(refusal(f->store, &record).kind, ERR_INVALID);
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, fixture_postgres, fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ONE(the_bits_that_the_program_sends_are_the_schemas),
		ONE(the_files_of_a_batch_come_back_as_they_were),
		ONE(a_batch_that_is_registered_again_changes_nothing),
		ONE(a_row_that_comes_without_bits_gets_them),
		ONE(what_the_program_sees_to_is_refused_from_others),
		ONE(a_revision_below_one_is_refused),
	};

	return cmocka_run_group_tests_name("rows postgresql", tests, NULL, NULL);
}
