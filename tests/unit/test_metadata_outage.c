/*
 * What the store does when PostgreSQL stops, hangs, is full, turns read-only or hangs up: every call ends in its time with
 * ERR_UNAVAILABLE (or ERR_UNKNOWN_OUTCOME where a COMMIT was sent), and the store is back by itself when the server is.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>

#include "depotd/base/clock.h"
#include "metadata_fixture.h"
#include "postgres_proxy.h"

enum {
	TIMEOUT_MS = 700,                   /* each: to connect, of a statement */
	IN_TIME_MS = 2 * TIMEOUT_MS + 2000, /* what a call may take, on a busy machine */
	AT_ONCE_MS = TIMEOUT_MS - 50,       /* what never waits for the server */
	RECOVERY_MS = 20000,
	HOGS_MAX = 64,
};

static struct postgres_cluster *cluster; /* with 20 connections */

struct outage {
	struct postgres_proxy *proxy;
	struct metadata *store; /* through the proxy */
	char url[FIXTURE_URL_MAX], direct[FIXTURE_URL_MAX];
};

static struct metadata_config hurried(const char *url, unsigned connections)
{
	return (struct metadata_config){
		.url = url,
		.connections = connections,
		.connect_timeout_ms = TIMEOUT_MS,
		.statement_timeout_ms = TIMEOUT_MS,
	};
}

static struct metadata *open_hurried(const char *url, unsigned connections)
{
	struct metadata_config config = hurried(url, connections);
	struct metadata *store = NULL;
	struct err err = {0};

	for (int tries = 0; tries < 20;
	     tries++) { /* a busy machine may take longer than these timeouts */
		if (metadata_open(&config, &store, &err) == 0)
			return store;
	}
	assert_ok(-1, &err);
	return NULL;
}

static int start_cluster(void **state)
{
	struct metadata_config config;
	struct metadata *store = NULL;
	struct err err = {0};

	(void)state;
	cluster = postgres_cluster_new("-c max_connections=20 -c superuser_reserved_connections=0");
	if (!cluster)
		return 0;
	config = hurried(postgres_cluster_database(cluster, "outage"), 1);
	config.migrate = true;
	config.connect_timeout_ms = config.statement_timeout_ms = FIXTURE_TIMEOUT_MS;
	assert_ok(metadata_open(&config, &store, &err), &err);
	metadata_close(&store);
	return 0;
}

static int stop_cluster(void **state)
{
	(void)state;
	postgres_cluster_free(&cluster);
	return 0;
}

static int setup(void **state)
{
	struct outage *o = calloc(1, sizeof(*o));
	const char *socket;

	assert_non_null(o);
	*state = o;
	if (!cluster)
		return 0;
	socket = postgres_cluster_socket(cluster);
	o->proxy = postgres_proxy_new(socket);
	assert_non_null(o->proxy);
	snprintf(o->url, sizeof(o->url), "host=%s user=depotd dbname=outage",
		 postgres_proxy_host(o->proxy));
	snprintf(o->direct, sizeof(o->direct), "host=%.*s user=depotd dbname=outage",
		 (int)(strrchr(socket, '/') - socket), socket);
	o->store = open_hurried(o->url, 4);
	return 0;
}

static int teardown(void **state)
{
	struct outage *o = *state;

	metadata_close(&o->store);
	postgres_proxy_free(&o->proxy);
	free(o);
	return 0;
}

static struct outage *outage(void **state)
{
	if (!cluster)
		skip();
	return *state;
}

/* --- every kind of call --- */

enum call {
	CALL_FIND,
	CALL_REGISTER,
	CALL_UPDATE,
	CALL_REMOVE,
	CALL_LIST,
	CALL_WALK,
	CALL_PRESENT,
	CALL_PING,
	CALLS
};

static int call(struct metadata *store, enum call which, struct err *err)
{
	struct file_record record = sample(), *got = NULL;
	struct file_record *file = make(&record);
	struct registration registration = {.files = &file, .n = 1};
	struct list_query query;
	struct file_list list = {0};
	bool present;
	int rc = 0;

	switch (which) {
	case CALL_FIND:
		rc = metadata_find(store, &record.id, &got, err);
		break;
	case CALL_REGISTER:
		rc = metadata_register(store, &registration, 1, err);
		break;
	case CALL_UPDATE:
		rc = metadata_update(store, &record, 1, err);
		break;
	case CALL_REMOVE:
		rc = metadata_remove(store, &record.id, err);
		break;
	case CALL_LIST:
		list_query_init(&query);
		rc = metadata_list(store, &query, &list, err);
		break;
	case CALL_WALK:
		rc = metadata_walk(store, NULL, 10, &list, err);
		break;
	case CALL_PRESENT:
		rc = metadata_present(store, &record.id, 1, &present, err);
		break;
	case CALL_PING:
	case CALLS:
		rc = metadata_ping(store, err);
	}
	file_list_release(&list);
	file_record_unref(&got);
	file_record_unref(&file);
	return rc;
}

struct caller {
	pthread_t thread;
	struct metadata *store;
	enum call which;
	int rc;
	int64_t took_ms;
	struct err err;
};

static void *run_caller(void *context)
{
	struct caller *c = context;
	int64_t begin_ms = clock_monotonic_ms();

	c->rc = call(c->store, c->which, &c->err);
	c->took_ms = clock_monotonic_ms() - begin_ms;
	return NULL;
}

/* All kinds of calls at the same time. */
static void call_all(struct metadata *store, struct caller callers[CALLS])
{
	for (int i = 0; i < CALLS; i++) {
		callers[i] = (struct caller){.store = store, .which = (enum call)i};
		assert_int_equal(pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]),
				 0);
	}
	for (int i = 0; i < CALLS; i++)
		pthread_join(callers[i].thread, NULL);
}

static void assert_unavailable(const struct caller *c, int64_t most_ms)
{
	bool may_be_unknown = c->which == CALL_REGISTER;

	if (c->rc != -1 || c->took_ms > most_ms ||
	    !(c->err.kind == ERR_UNAVAILABLE ||
	      (may_be_unknown && c->err.kind == ERR_UNKNOWN_OUTCOME))) {
		print_error("call %d: %d after %lld ms, kind %d: %s\n", (int)c->which, c->rc,
			    (long long)c->took_ms, c->err.kind, c->err.message);
		fail();
	}
}

static void assert_all_unavailable(struct metadata *store, int64_t most_ms)
{
	struct caller callers[CALLS];

	call_all(store, callers);
	for (int i = 0; i < CALLS; i++)
		assert_unavailable(&callers[i], most_ms);
}

/* Known to be down: nobody waits. The ping does ask. */
static void assert_all_fail_at_once(struct metadata *store)
{
	for (int i = 0; i < CALLS; i++) {
		struct caller c = {.store = store, .which = (enum call)i};

		if (i == CALL_PING)
			continue;
		run_caller(&c);
		assert_unavailable(&c, AT_ONCE_MS);
	}
}

static void await_recovery(struct metadata *store)
{
	int64_t give_up_ms = clock_monotonic_ms() + RECOVERY_MS;
	struct err err = {0};

	while (call(store, CALL_FIND, &err) < 0) {
		if (clock_monotonic_ms() > give_up_ms)
			assert_ok(-1, &err);
	}
	for (int i = 0; i < CALLS; i++)
		assert_ok(call(store, (enum call)i, &err), &err);
}

/* Fails until the state is known; then at once. */
static void await_down(struct metadata *store)
{
	int64_t give_up_ms = clock_monotonic_ms() + RECOVERY_MS;

	for (;;) {
		struct caller c = {.store = store, .which = CALL_FIND};

		run_caller(&c);
		assert_unavailable(&c, IN_TIME_MS);
		if (c.took_ms < 20)
			return;
		assert_true(clock_monotonic_ms() < give_up_ms);
	}
}

/* --- servers that stop or hang --- */

static void a_paused_server_is_unavailable_in_time_and_back_by_itself(void **state)
{
	struct outage *o = outage(state);

	postgres_cluster_pause(cluster);
	assert_all_unavailable(o->store, IN_TIME_MS);
	await_down(o->store);
	assert_all_fail_at_once(o->store);
	postgres_cluster_resume(cluster);
	await_recovery(o->store);
}

static void a_stopped_server_is_unavailable_at_once_and_back_by_itself(void **state)
{
	struct outage *o = outage(state);
	struct metadata *direct = open_hurried(o->direct, 2);

	postgres_cluster_stop(cluster, false);
	assert_all_unavailable(direct, IN_TIME_MS);
	await_down(direct);
	assert_all_fail_at_once(direct);
	assert_true(postgres_cluster_start(cluster));
	await_recovery(direct);
	await_recovery(o->store);
	metadata_close(&direct);
}

static void a_crashed_server_is_unavailable_and_back_by_itself(void **state)
{
	struct outage *o = outage(state);

	postgres_cluster_stop(cluster, true);
	assert_all_unavailable(o->store, IN_TIME_MS);
	assert_true(postgres_cluster_start(cluster));
	await_recovery(o->store);
}

static void a_black_hole_is_unavailable_in_time_and_its_end_is_noticed(void **state)
{
	struct outage *o = outage(state);

	postgres_proxy_set(o->proxy, PROXY_SWALLOW);
	assert_all_unavailable(o->store, IN_TIME_MS);
	await_down(o->store);
	assert_all_fail_at_once(o->store);
	postgres_proxy_set(o->proxy, PROXY_FORWARD);
	await_recovery(o->store);
}

static void a_server_that_hangs_up_is_unavailable_at_once(void **state)
{
	struct outage *o = outage(state);

	postgres_proxy_set(o->proxy, PROXY_REFUSE);
	await_down(o->store);
	assert_all_fail_at_once(o->store);
	postgres_proxy_set(o->proxy, PROXY_FORWARD);
	await_recovery(o->store);
}

static void a_ping_finds_out_that_the_server_is_back(void **state)
{
	struct outage *o = outage(state);
	struct err err = {0};

	postgres_proxy_set(o->proxy, PROXY_REFUSE);
	await_down(o->store);
	postgres_proxy_set(o->proxy, PROXY_FORWARD);
	for (int tries = 0; metadata_ping(o->store, &err) < 0; tries++)
		assert_true(tries < 10);
	assert_ok(call(o->store, CALL_FIND, &err), &err);
}

static void a_store_is_closed_at_once_whatever_the_server_does(void **state)
{
	struct outage *o = outage(state);
	int64_t begin_ms;

	postgres_proxy_set(o->proxy, PROXY_SWALLOW);
	assert_all_unavailable(o->store, IN_TIME_MS);
	begin_ms = clock_monotonic_ms();
	metadata_close(&o->store);
	assert_in_range(clock_monotonic_ms() - begin_ms, 0, AT_ONCE_MS);
}

static void a_server_that_is_not_there_is_an_error_of_the_start(void **state)
{
	static const char *const urls[] = {
		"host=/tmp/depotd-no-such-folder user=x dbname=x",
		"postgresql://x@127.0.0.1:1/x",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(urls); i++) {
		struct metadata_config config = hurried(urls[i], 1);
		struct metadata *store = NULL;
		int64_t begin_ms = clock_monotonic_ms();
		struct err err = {0};

		assert_int_equal(metadata_open(&config, &store, &err), -1);
		assert_int_equal(err.kind, ERR_UNAVAILABLE);
		assert_null(strchr(err.message, '\n'));
		assert_in_range(clock_monotonic_ms() - begin_ms, 0, IN_TIME_MS);
	}
}

static void a_malformed_url_is_an_error_of_the_start(void **state)
{
	struct metadata_config config = hurried("postgresql://x@[::1/x?nonsense", 1);
	struct metadata *store = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
}

static void a_host_that_is_away_is_passed_over_for_the_next(void **state)
{
	struct outage *o = outage(state);
	char url[2 * FIXTURE_URL_MAX];
	struct metadata *store;

	postgres_proxy_set(o->proxy, PROXY_SWALLOW);
	snprintf(url, sizeof(url),
		 "host=/tmp/depotd-no-such-folder,%s,%.*s user=depotd dbname=outage",
		 postgres_proxy_host(o->proxy), (int)strcspn(o->direct + strlen("host="), " "),
		 o->direct + strlen("host="));
	store = open_hurried(url, 1);
	await_recovery(store);
	metadata_close(&store);
}

/* The defaults of the program: what counts is the silence, not how long a statement may take. */
static void a_server_that_hangs_is_found_out_long_before_the_statement_timeout(void **state)
{
	struct outage *o = outage(state);
	struct metadata_config config = hurried(o->direct, 4);
	struct caller callers[CALLS];
	struct metadata *store = NULL;
	struct err err = {0};

	config.connect_timeout_ms = 1000;
	config.statement_timeout_ms = 60000;
	assert_ok(metadata_open(&config, &store, &err), &err);
	postgres_cluster_pause(cluster);
	call_all(store, callers);
	for (int i = 0; i < CALLS; i++)
		assert_unavailable(&callers[i], 10000);
	assert_all_fail_at_once(store);
	postgres_cluster_resume(cluster);
	await_recovery(store);
	metadata_close(&store);
}

static void a_slow_statement_is_waited_for_while_the_server_is_there(void **state)
{
	struct outage *o = outage(state);
	struct metadata_config config = hurried(o->direct, 2);
	PGconn *locker = PQconnectdb(o->direct);
	struct caller caller = {.which = CALL_FIND};
	struct err err = {0};

	config.statement_timeout_ms = 20000;
	config.connect_timeout_ms = 5000;
	assert_ok(metadata_open(&config, &caller.store, &err), &err);
	PQclear(PQexec(locker, "BEGIN"));
	PQclear(PQexec(locker, "LOCK TABLE depot_internal.file IN ACCESS EXCLUSIVE MODE"));
	assert_int_equal(pthread_create(&caller.thread, NULL, run_caller, &caller), 0);
	/* Long after its patience has come to an end, several times over. */
	PQclear(PQexec(locker, "SELECT pg_sleep(3.5)"));
	PQclear(PQexec(locker, "ROLLBACK"));
	pthread_join(caller.thread, NULL);
	assert_ok(caller.rc, &caller.err);
	assert_in_range(caller.took_ms, 3000, 20000);
	PQfinish(locker);
	metadata_close(&caller.store);
}

/* --- a store that is opened before its server is there --- */

struct told {
	pthread_mutex_t lock;
	pthread_cond_t heard;
	unsigned reasons;
	bool open;
	char last[ERR_MESSAGE_MAX];
};

#define TOLD                                                                                       \
	{                                                                                          \
		.lock = PTHREAD_MUTEX_INITIALIZER, .heard = PTHREAD_COND_INITIALIZER               \
	}

static void tell(void *context, const struct err *why)
{
	struct told *told = context;

	pthread_mutex_lock(&told->lock);
	if (why) {
		told->reasons++;
		snprintf(told->last, sizeof(told->last), "%s", why->message);
	} else {
		told->open = true;
	}
	pthread_cond_broadcast(&told->heard);
	pthread_mutex_unlock(&told->lock);
}

/* Until the store is open, or its last reason has this in it. */
static void await_told(struct told *told, const char *part)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += RECOVERY_MS / 1000;
	pthread_mutex_lock(&told->lock);
	while (part ? !strstr(told->last, part) : !told->open)
		assert_int_equal(pthread_cond_timedwait(&told->heard, &told->lock, &end), 0);
	pthread_mutex_unlock(&told->lock);
}

static struct metadata *open_lazily(const char *url, bool migrate, struct told *told)
{
	struct metadata_config config = hurried(url, 2);
	struct metadata *store = NULL;
	struct err err = {0};

	config.lazy = true;
	config.migrate = migrate;
	config.opening = tell;
	config.opening_context = told;
	assert_ok(metadata_open(&config, &store, &err), &err);
	return store;
}

static void a_lazy_store_opens_without_its_server_and_migrates_when_it_comes(void **state)
{
	static char url[FIXTURE_URL_MAX];
	struct outage *o = outage(state);
	struct told told = TOLD;
	struct metadata *store;
	struct err err = {0};

	(void)o;
	snprintf(url, sizeof(url), "%s", postgres_cluster_database(cluster, "lazy"));
	postgres_cluster_stop(cluster, false);
	store = open_lazily(url, true, &told);
	assert_int_equal(told.reasons, 1);
	assert_false(metadata_is_open(store, &err));
	assert_all_fail_at_once(store);
	assert_int_equal(metadata_ping(store, &err), -1);
	assert_true(postgres_cluster_start(cluster));
	await_told(&told, NULL);
	assert_true(metadata_is_open(store, &err));
	for (int i = 0; i < CALLS; i++)
		assert_ok(call(store, (enum call)i, &err), &err);
	metadata_close(&store);
}

static void a_lazy_store_waits_for_somebody_else_to_migrate(void **state)
{
	static char url[FIXTURE_URL_MAX];
	struct outage *o = outage(state);
	struct told told = TOLD;
	struct metadata_config config;
	struct metadata *store;
	struct err err = {0};
	int from, to;

	(void)o;
	snprintf(url, sizeof(url), "%s", postgres_cluster_database(cluster, "unmigrated"));
	postgres_cluster_stop(cluster, false);
	store = open_lazily(url, false, &told);
	assert_true(postgres_cluster_start(cluster));
	await_told(&told, "run depotd migrate");
	assert_int_equal(call(store, CALL_FIND, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(err.message, "run depotd migrate"));
	config = hurried(url, 1);
	config.connect_timeout_ms = config.statement_timeout_ms = FIXTURE_TIMEOUT_MS;
	assert_ok(metadata_migrate(&config, &from, &to, &err), &err);
	await_told(&told, NULL);
	assert_ok(call(store, CALL_FIND, &err), &err);
	metadata_close(&store);
}

static void a_lazy_store_says_what_the_server_does_not_like(void **state)
{
	static const char *const users[][2] = {{"nobody_we_know", "lazy"},
					       {"depotd", "no_such_database"}};
	struct outage *o = outage(state);

	for (size_t i = 0; i < COUNT(users); i++) {
		struct told told = TOLD;
		struct metadata *store;
		char url[2 * FIXTURE_URL_MAX];

		snprintf(url, sizeof(url), "host=%.*s user=%s dbname=%s",
			 (int)strcspn(o->direct + strlen("host="), " "),
			 o->direct + strlen("host="), users[i][0], users[i][1]);
		store = open_lazily(url, true, &told);
		await_told(&told, "does not exist");
		assert_all_fail_at_once(store);
		metadata_close(&store);
	}
}

static void a_lazy_store_is_closed_at_once_while_it_waits(void **state)
{
	static const int modes[] = {PROXY_SWALLOW, PROXY_REFUSE};
	struct outage *o = outage(state);

	for (size_t i = 0; i < COUNT(modes); i++) {
		struct told told = TOLD;
		struct metadata *store;
		int64_t begin_ms;

		postgres_proxy_set(o->proxy, (enum proxy_mode)modes[i]);
		store = open_lazily(o->url, true, &told);
		begin_ms = clock_monotonic_ms();
		metadata_close(&store);
		assert_in_range(clock_monotonic_ms() - begin_ms, 0, AT_ONCE_MS);
	}
}

static void a_malformed_url_is_an_error_of_a_lazy_start_too(void **state)
{
	struct metadata_config config = hurried("postgresql://x@[::1/x?nonsense", 1);
	struct metadata *store = NULL;
	struct err err = {0};

	(void)state;
	config.lazy = true;
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
}

/* --- connections that break --- */

static void terminate_backends(void)
{
	postgres_cluster_query(cluster, "postgres",
			       "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
			       "WHERE datname = 'outage' AND pid <> pg_backend_pid()");
}

static void a_backend_that_was_ended_between_calls_is_not_noticed(void **state)
{
	struct outage *o = outage(state);

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < CALLS; i++) {
			struct err err = {0};

			terminate_backends();
			assert_ok(call(o->store, (enum call)i, &err), &err);
		}
	}
}

static void a_change_that_broke_before_its_commit_is_made_again(void **state)
{
	struct outage *o = outage(state);
	struct file_record record = sample(), *before = put(o->store, &record);
	struct err err = {0};

	postgres_proxy_trap(o->proxy, TRAP_BEFORE_BEGIN, 1);
	record.name = "changed.txt";
	record.revision = 2;
	assert_int_equal(metadata_update(o->store, &record, 1, &err), 1);
	postgres_proxy_trap(o->proxy, TRAP_BEFORE_BEGIN, 1);
	assert_int_equal(metadata_remove(o->store, &record.id, &err), 1);
	file_record_unref(&before);
}

static void a_change_whose_commit_was_not_answered_is_neither_success_nor_failure(void **state)
{
	struct outage *o = outage(state);
	struct file_record record = sample(), *before = put(o->store, &record), *got = NULL;
	struct err err = {0};

	postgres_proxy_trap(o->proxy, TRAP_AFTER_COMMIT, 1);
	record.name = "changed.txt";
	record.revision = 2;
	assert_int_equal(metadata_update(o->store, &record, 1, &err), -1);
	assert_int_equal(err.kind, ERR_UNKNOWN_OUTCOME);
	assert_int_equal(find(o->store, &record.id, &got), 1);
	assert_int_equal(got->revision, 2);
	file_record_unref(&before);
	file_record_unref(&got);
}

static void a_registration_whose_commit_was_not_answered_is_made_again(void **state)
{
	struct outage *o = outage(state);
	struct file_record record = sample(), *put_in;

	postgres_proxy_trap(o->proxy, TRAP_AFTER_COMMIT, 1);
	put_in = put(o->store, &record);
	assert_true(is_there(o->store, &record.id));
	file_record_unref(&put_in);
}

static void a_registration_that_is_never_answered_has_an_unknown_outcome(void **state)
{
	struct outage *o = outage(state);
	struct file_record record = sample(), *file = make(&record);
	struct registration registration = {.files = &file, .n = 1};
	struct err err = {0};

	postgres_proxy_trap(o->proxy, TRAP_AFTER_COMMIT, 1000);
	assert_int_equal(metadata_register(o->store, &registration, 1, &err), -1);
	assert_int_equal(err.kind, ERR_UNKNOWN_OUTCOME);
	assert_int_equal(registration.err.kind, ERR_UNKNOWN_OUTCOME);
	assert_int_equal(registration.result, -1);
	postgres_proxy_trap(o->proxy, TRAP_NONE, 0);
	assert_true(is_there(o->store, &record.id));
	file_record_unref(&file);
}

/* Another node migrates, and the plans that this one's connections hold are of another table. */
static void plans_that_went_stale_are_made_anew(void **state)
{
	struct outage *o = outage(state);
	struct file_record record = sample(), *file = put(o->store, &record), *got = NULL;
	const char *view = postgres_cluster_query(cluster, "outage",
						  "SELECT pg_get_viewdef('depot.files'::regclass)");
	char remake[FIXTURE_URL_MAX + 64];

	snprintf(remake, sizeof(remake), "CREATE VIEW depot.files AS %s", view);
	assert_int_equal(find(o->store, &record.id, &got), 1);
	file_record_unref(&got);
	postgres_cluster_query(cluster, "outage",
			       "DROP VIEW depot.files; ALTER TABLE depot_internal.file ALTER "
			       "sniffed TYPE varchar(255)");
	assert_int_equal(find(o->store, &record.id, &got), 1);
	file_record_unref(&got);
	postgres_cluster_query(
		cluster, "outage",
		"ALTER TABLE depot_internal.file ALTER sniffed TYPE text COLLATE \"C\"");
	postgres_cluster_query(cluster, "outage", remake);
	assert_int_equal(find(o->store, &record.id, &got), 1);
	file_record_unref(&got);
	file_record_unref(&file);
}

/* --- a server that refuses --- */

struct hogs {
	PGconn *connections[HOGS_MAX];
	size_t n;
};

static void take_all_connections(const char *url, struct hogs *hogs)
{
	for (hogs->n = 0; hogs->n < HOGS_MAX; hogs->n++) {
		hogs->connections[hogs->n] = PQconnectdb(url);
		if (PQstatus(hogs->connections[hogs->n]) != CONNECTION_OK) {
			PQfinish(hogs->connections[hogs->n]);
			return;
		}
	}
}

static void give_connections_back(struct hogs *hogs)
{
	while (hogs->n > 0)
		PQfinish(hogs->connections[--hogs->n]);
}

static void without_a_connection_left_those_that_are_there_are_shared(void **state)
{
	struct outage *o = outage(state);
	struct caller callers[CALLS];
	struct hogs hogs;

	take_all_connections(o->direct, &hogs);
	for (int round = 0; round < 3; round++) {
		call_all(o->store, callers);
		for (int i = 0; i < CALLS; i++)
			assert_ok(callers[i].rc, &callers[i].err);
	}
	give_connections_back(&hogs);
}

static void a_server_without_a_connection_left_is_unavailable(void **state)
{
	struct outage *o = outage(state);
	struct metadata_config config = hurried(o->direct, 2);
	struct metadata *store = NULL;
	struct err err = {0};
	struct hogs hogs;

	take_all_connections(o->direct, &hogs);
	assert_int_equal(metadata_open(&config, &store, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	give_connections_back(&hogs);
	store = open_hurried(o->direct, 2);
	metadata_close(&store);
}

static void a_read_only_server_is_unavailable_until_it_is_not(void **state)
{
	struct outage *o = outage(state);
	int64_t give_up_ms = clock_monotonic_ms() + RECOVERY_MS;
	struct err err = {0};

	postgres_cluster_query(cluster, "postgres",
			       "ALTER DATABASE outage SET default_transaction_read_only = on");
	terminate_backends();
	/* A backend that is ended while a COMMIT runs leaves it unknown. */
	while (call(o->store, CALL_REGISTER, &err) == 0 || err.kind == ERR_UNKNOWN_OUTCOME)
		assert_true(clock_monotonic_ms() < give_up_ms);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	await_down(o->store);
	postgres_cluster_query(cluster, "postgres",
			       "ALTER DATABASE outage RESET default_transaction_read_only");
	await_recovery(o->store);
}

static void a_connection_that_turned_read_only_is_dropped(void **state)
{
	struct outage *o = outage(state);
	struct err err = {0};

	postgres_cluster_query(cluster, "postgres",
			       "ALTER SYSTEM SET default_transaction_read_only = on");
	postgres_cluster_query(cluster, "postgres", "SELECT pg_reload_conf()");
	while (call(o->store, CALL_REGISTER, &err) == 0)
		;
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	postgres_cluster_query(cluster, "postgres",
			       "ALTER SYSTEM RESET default_transaction_read_only");
	postgres_cluster_query(cluster, "postgres", "SELECT pg_reload_conf()");
	await_recovery(o->store);
}

static void a_table_that_is_locked_is_unavailable_in_time_and_the_server_is_not_down(void **state)
{
	struct outage *o = outage(state);
	PGconn *locker = PQconnectdb(o->direct);
	struct caller caller = {.store = o->store, .which = CALL_FIND};
	struct err err = {0};

	PQclear(PQexec(locker, "BEGIN"));
	PQclear(PQexec(locker, "LOCK TABLE depot_internal.file IN ACCESS EXCLUSIVE MODE"));
	run_caller(&caller);
	assert_unavailable(&caller, IN_TIME_MS);
	assert_ok(call(o->store, CALL_PING, &err), &err);
	PQclear(PQexec(locker, "ROLLBACK"));
	PQfinish(locker);
	assert_ok(call(o->store, CALL_FIND, &err), &err);
}

static void callers_that_find_no_connection_free_are_told_in_time(void **state)
{
	struct outage *o = outage(state);
	PGconn *locker = PQconnectdb(o->direct);
	struct caller callers[24];

	PQclear(PQexec(locker, "BEGIN"));
	PQclear(PQexec(locker, "LOCK TABLE depot_internal.file IN ACCESS EXCLUSIVE MODE"));
	for (size_t i = 0; i < COUNT(callers); i++) {
		callers[i] = (struct caller){.store = o->store, .which = CALL_FIND};
		assert_int_equal(pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]),
				 0);
	}
	for (size_t i = 0; i < COUNT(callers); i++) {
		pthread_join(callers[i].thread, NULL);
		assert_unavailable(&callers[i], IN_TIME_MS);
	}
	PQclear(PQexec(locker, "ROLLBACK"));
	PQfinish(locker);
	await_recovery(o->store);
}

/* --- changes by other nodes --- */

struct ear {
	pthread_mutex_t lock;
	pthread_cond_t heard;
	struct uuid last;
	unsigned ids, alls;
};

static void hear(void *context, const struct uuid *id)
{
	struct ear *ear = context;

	pthread_mutex_lock(&ear->lock);
	if (id) {
		ear->last = *id;
		ear->ids++;
	} else {
		ear->alls++;
	}
	pthread_cond_broadcast(&ear->heard);
	pthread_mutex_unlock(&ear->lock);
}

static void await(struct ear *ear, const unsigned *count, unsigned least)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += RECOVERY_MS / 1000;
	pthread_mutex_lock(&ear->lock);
	while (*count < least)
		assert_int_equal(pthread_cond_timedwait(&ear->heard, &ear->lock, &end), 0);
	pthread_mutex_unlock(&ear->lock);
}

#define EAR                                                                                        \
	{                                                                                          \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {{0}}, 0, 0                   \
	}

static void a_change_is_heard_by_other_nodes_and_not_by_its_own(void **state)
{
	struct outage *o = outage(state);
	struct metadata *other = open_hurried(o->direct, 1);
	struct ear mine = EAR, theirs = EAR;
	struct file_record a = sample(), b = sample(),
			   *files[2] = {put(o->store, &a), put(o->store, &b)};
	struct err err = {0};

	metadata_on_change(o->store, hear, &mine);
	metadata_on_change(other, hear, &theirs);
	await(&mine, &mine.alls, 1); /* listening now */
	await(&theirs, &theirs.alls, 1);
	a.name = "changed.txt";
	a.revision = 2;
	assert_int_equal(metadata_update(o->store, &a, 1, &err), 1);
	await(&theirs, &theirs.ids, 1);
	assert_memory_equal(&theirs.last, &a.id, sizeof(a.id));
	assert_int_equal(metadata_remove(o->store, &a.id, &err), 1);
	await(&theirs, &theirs.ids, 2);
	assert_memory_equal(&theirs.last, &a.id, sizeof(a.id));
	/* The other way; what this node said before would have come before. */
	assert_int_equal(metadata_remove(other, &b.id, &err), 1);
	await(&mine, &mine.ids, 1);
	assert_memory_equal(&mine.last, &b.id, sizeof(b.id));
	assert_int_equal(mine.ids, 1);
	metadata_on_change(o->store, NULL, NULL);
	metadata_close(&other);
	file_record_unref(&files[0]);
	file_record_unref(&files[1]);
}

static void a_listener_that_lost_its_connection_says_that_anything_may_have_changed(void **state)
{
	struct outage *o = outage(state);
	struct ear ear = EAR;
	struct file_record record = sample(), *file = put(o->store, &record);
	struct metadata *other;
	struct err err = {0};

	metadata_on_change(o->store, hear, &ear);
	await(&ear, &ear.alls, 1);
	terminate_backends();
	await(&ear, &ear.alls, 2);
	other = open_hurried(o->direct, 1);
	assert_int_equal(metadata_remove(other, &record.id, &err), 1);
	await(&ear, &ear.ids, 1);
	metadata_close(&other);
	metadata_close(&o->store); /* while it listens */
	file_record_unref(&file);
}

static void a_listener_notices_a_black_hole_without_being_told_anything(void **state)
{
	struct outage *o = outage(state);
	int64_t give_up_ms = clock_monotonic_ms() + RECOVERY_MS;
	struct ear ear = EAR;

	metadata_on_change(o->store, hear, &ear);
	await(&ear, &ear.alls, 1);
	postgres_proxy_set(o->proxy, PROXY_SWALLOW);
	/* The proxy ends its side when the listener has given the connection up. */
	while (strcmp(postgres_cluster_query(cluster, "outage",
					     "SELECT count(*) FROM pg_stat_activity WHERE query ~ "
					     "'^(LISTEN|SELECT 1$)' "
					     "AND application_name = 'depotd'"),
		      "0") != 0)
		assert_true(clock_monotonic_ms() < give_up_ms);
	postgres_proxy_set(o->proxy, PROXY_FORWARD);
	await(&ear, &ear.alls, 2);
	metadata_on_change(o->store, NULL, NULL);
}

static void payloads_of_many_ids_and_of_strangers_are_taken(void **state)
{
	struct outage *o = outage(state);
	struct ear ear = EAR;

	metadata_on_change(o->store, hear, &ear);
	await(&ear, &ear.alls, 1);
	postgres_cluster_query(cluster, "outage", "NOTIFY depot_files, 'nonsense'");
	postgres_cluster_query(cluster, "outage", "NOTIFY depot_files");
	postgres_cluster_query(
		cluster, "outage",
		"SELECT pg_notify('depot_files', gen_random_uuid() || ' ' || string_agg(id, ',')) "
		"FROM "
		"(SELECT gen_random_uuid()::text AS id FROM generate_series(1, 200)) x");
	await(&ear, &ear.ids, 200);
	assert_int_equal(ear.ids, 200);
	metadata_on_change(o->store, NULL, NULL);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_paused_server_is_unavailable_in_time_and_back_by_itself),
		T(a_stopped_server_is_unavailable_at_once_and_back_by_itself),
		T(a_crashed_server_is_unavailable_and_back_by_itself),
		T(a_black_hole_is_unavailable_in_time_and_its_end_is_noticed),
		T(a_server_that_hangs_up_is_unavailable_at_once),
		T(a_ping_finds_out_that_the_server_is_back),
		T(a_store_is_closed_at_once_whatever_the_server_does),
		cmocka_unit_test(a_server_that_is_not_there_is_an_error_of_the_start),
		cmocka_unit_test(a_malformed_url_is_an_error_of_the_start),
		T(a_host_that_is_away_is_passed_over_for_the_next),
		T(a_server_that_hangs_is_found_out_long_before_the_statement_timeout),
		T(a_slow_statement_is_waited_for_while_the_server_is_there),
		T(a_lazy_store_opens_without_its_server_and_migrates_when_it_comes),
		T(a_lazy_store_waits_for_somebody_else_to_migrate),
		T(a_lazy_store_says_what_the_server_does_not_like),
		T(a_lazy_store_is_closed_at_once_while_it_waits),
		cmocka_unit_test(a_malformed_url_is_an_error_of_a_lazy_start_too),
		T(a_backend_that_was_ended_between_calls_is_not_noticed),
		T(a_change_that_broke_before_its_commit_is_made_again),
		T(a_change_whose_commit_was_not_answered_is_neither_success_nor_failure),
		T(a_registration_whose_commit_was_not_answered_is_made_again),
		T(a_registration_that_is_never_answered_has_an_unknown_outcome),
		T(plans_that_went_stale_are_made_anew),
		T(without_a_connection_left_those_that_are_there_are_shared),
		T(a_server_without_a_connection_left_is_unavailable),
		T(a_read_only_server_is_unavailable_until_it_is_not),
		T(a_connection_that_turned_read_only_is_dropped),
		T(a_table_that_is_locked_is_unavailable_in_time_and_the_server_is_not_down),
		T(callers_that_find_no_connection_free_are_told_in_time),
		T(a_change_is_heard_by_other_nodes_and_not_by_its_own),
		T(a_listener_that_lost_its_connection_says_that_anything_may_have_changed),
		T(a_listener_notices_a_black_hole_without_being_told_anything),
		T(payloads_of_many_ids_and_of_strangers_are_taken),
	};

	return cmocka_run_group_tests_name("metadata outages", tests, start_cluster, stop_cluster);
}
