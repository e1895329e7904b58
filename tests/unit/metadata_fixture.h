/*
 * What the tests of the metadata store share: an empty, migrated store of either kind for each test, and records to put in.
 * One suite runs against both kinds.
 */
#ifndef DEPOTD_TESTS_UNIT_METADATA_FIXTURE_H
#define DEPOTD_TESTS_UNIT_METADATA_FIXTURE_H

#include "depotd/metadata/store.h"
#include "postgres_cluster.h"
#include "scratch.h"
#include "unit.h"

enum { FIXTURE_URL_MAX = 512, FIXTURE_CONNECTIONS = 4, FIXTURE_TIMEOUT_MS = 10000 };

struct fixture {
	bool postgres;
	char url[FIXTURE_URL_MAX];
	char directory[SCRATCH_MAX]; /* of SQLite's file */
	struct metadata *store;      /* NULL: this kind cannot be had here, skip */
};

/* cmocka's setup and teardown of one test. */
int fixture_sqlite(void **state);
int fixture_postgres(void **state);
int fixture_end(void **state);
/* The fixture, or the end of the test as skipped. */
struct fixture *fixture(void **state);

/* The test leaves the schema in another state than it found it. */
void fixture_spoil(struct fixture *f);

/* Another store on the same database. */
struct metadata *fixture_open(const struct fixture *f, unsigned connections);
struct metadata_config fixture_config(const struct fixture *f);

/* A record with defaults: 1 byte, "report.pdf", application/pdf, now. Fill in what the test is about, then make(). */
struct file_record sample(void);
/* An id whose time is ms: what created_ms must say, too. */
struct uuid id_at(int64_t ms);
struct file_record *make(const struct file_record *from);
/* Registers one file and returns its record, the caller's. Fails the test where it cannot. */
struct file_record *put(struct metadata *store, const struct file_record *from);
/* The same for one file that the store refuses: its err. */
struct err refusal(struct metadata *store, const struct file_record *from);
void assert_same_record(const struct file_record *a, const struct file_record *b);
/* 1 with *out, 0; fails the test on -1. */
int find(struct metadata *store, const struct uuid *id, struct file_record **out);
bool is_there(struct metadata *store, const struct uuid *id);

#define assert_ok(call, err) fixture_assert_ok((call), (err), #call, __FILE__, __LINE__)
void fixture_assert_ok(int result, const struct err *err, const char *what, const char *file,
		       int line);

#endif
