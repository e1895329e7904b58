/*
 * The daemon: wires the floors in one order, waits, and tears them down in the other.
 *
 * Order of birth: metrics, stores (bytes, lock, rows), workers, core, doors, server, listeners. The stop is that of the
 * design: not ready → quiesce → drain until the deadline → cancel the rest → join the server's threads → join the workers
 * → close the stores. A PostgreSQL that is away at the start is one line in the log.
 * Main thread; every other thread belongs to a floor below.
 */
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app_private.h"
#include "depotd/base/clock.h"
#include "depotd/base/log.h"
#include "depotd/base/processors.h"
#include "depotd/core/core.h"
#include "depotd/core/maintenance.h"
#include "depotd/front/front.h"
#include "depotd/http/server.h"
#include "depotd/work/pool.h"

struct daemon {
	struct invocation *invocation;
	struct config *config; /* the invocation's; what SIGHUP may change changes here */
	struct metrics *metrics;
	struct stores stores;
	struct pool *workers, *readers;
	struct core *core;
	struct front front;
	struct http_route *routes; /* all doors' tables, one after the other */
	struct http_server *server;
};

/* --- before anything is opened --- */

static int refuse_exposure(const char *address, struct err *err)
{
	return err_set(err, ERR_INVALID,
		       "%s can be reached from other machines: write down access.mode (open: "
		       "everybody who can connect "
		       "may read, store and delete everything) or listen on 127.0.0.1 or [::1]",
		       address);
}

/* The contract: open access is the default on loopback only. */
static int check_access(const struct config *config, int sockets, int first, struct err *err)
{
	if (strcmp(config_text(config, CONFIG_ACCESS_MODE), "accounts") == 0)
		return err_set(err, ERR_INVALID, "%s: access.mode = accounts is not built yet",
			       config_origin(config, CONFIG_ACCESS_MODE));
	if (config_source(config, CONFIG_ACCESS_MODE) != CONFIG_FROM_DEFAULT)
		return 0;
	for (int fd = first; fd < first + sockets; fd++) {
		if (!exposure_socket_is_loopback(fd))
			return refuse_exposure("an inherited socket", err);
	}
	const char *address;
	for (size_t i = 0;
	     sockets == 0 && (address = config_item(config, CONFIG_SERVER_LISTEN, i)) != NULL;
	     i++) {
		if (!exposure_is_loopback(address))
			return refuse_exposure(address, err);
	}
	return 0;
}

/* Connections that the limit of open files leaves room for: most of them hold no file open at any moment. */
static unsigned allowed_connections(const struct config *config)
{
	enum { OWN_FILES = 128, CONNECTIONS_PER_FILE = 8, CONNECTIONS_MIN = 8 };
	int64_t wanted = config_number(config, CONFIG_SERVER_MAX_CONNECTIONS);
	int64_t others = OWN_FILES + config_number(config, CONFIG_SERVER_WORKERS) +
			 2 * config_number(config, CONFIG_DATABASE_CONNECTIONS);
	int64_t files = supervision_open_files();
	int64_t allowed = (files - others) * CONNECTIONS_PER_FILE / (CONNECTIONS_PER_FILE + 1);
	if (allowed >= wanted)
		return (unsigned)wanted;
	if (allowed < CONNECTIONS_MIN)
		allowed = CONNECTIONS_MIN;
	log_event(LOG_LEVEL_WARNING, NULL,
		  "server.max_connections lowered from %" PRId64 " to %" PRId64
		  ": the limit of open files is %" PRId64,
		  wanted, allowed, files);
	return (unsigned)allowed;
}

/* --- wiring --- */

static size_t count_routes(const struct http_route *routes)
{
	size_t n = 0;
	while (routes[n].method != NULL)
		n++;
	return n;
}

/* A new door is one more row here. */
static struct http_route *all_routes(void)
{
	const struct http_route *const doors[] = {rest_routes(), web_routes()};
	enum { DOORS = sizeof(doors) / sizeof(doors[0]) };
	size_t n = 0;
	for (int i = 0; i < DOORS; i++)
		n += count_routes(doors[i]);
	struct http_route *routes = calloc(n + 1, sizeof(*routes));
	if (routes == NULL)
		return NULL;
	n = 0;
	for (int i = 0; i < DOORS; i++) {
		size_t rows = count_routes(doors[i]);
		memcpy(routes + n, doors[i], rows * sizeof(*routes));
		n += rows;
	}
	return routes;
}

/* On the sweeper's thread. */
static void log_sweep(void *context, const struct sweep_summary *summary, const struct err *err)
{
	(void)context;
	if (summary->expired + summary->orphans + summary->temporaries > 0)
		log_event(LOG_LEVEL_INFO, NULL,
			  "the sweep removed %" PRId64 " expired files, %" PRId64
			  " files without a row, %" PRId64 " leftovers",
			  summary->expired, summary->orphans, summary->temporaries);
	if (summary->keys > 0)
		log_event(LOG_LEVEL_DEBUG, NULL, "the sweep removed %" PRId64 " old request keys",
			  summary->keys);
	if (summary->described > 0)
		log_event(LOG_LEVEL_INFO, NULL,
			  "the sweep brought %" PRId64 " descriptions up to their rows",
			  summary->described);
	if (err != NULL)
		log_event(LOG_LEVEL_WARNING, NULL, "the sweep did not end: %s", err->message);
}

/* Before the first request. */
static void log_recovery(void *context, const struct core_recovery *recovery)
{
	(void)context;
	log_event(LOG_LEVEL_INFO, NULL,
		  "the journal of the last run: %" PRId64 " records, %" PRId64
		  " files made again, %" PRId64 " registered or waiting for the database",
		  recovery->records, recovery->restored, recovery->unregistered);
	if (recovery->damaged_places > 0)
		log_event(LOG_LEVEL_ERROR, NULL,
			  "the journal is damaged in %" PRId64 " places: %" PRId64
			  " bytes of it could not be read, and what stood there is lost",
			  recovery->damaged_places, recovery->damaged_bytes);
}

/* On the scrubber's thread. */
static void log_damage(void *context, const struct file_record *file, const char *why)
{
	char id[UUID_TEXT_LEN + 1];
	(void)context;
	uuid_format(&file->id, id);
	if (why != NULL)
		log_event(
			LOG_LEVEL_ERROR, NULL,
			"file %s is damaged and not served any more: %s. Restore its bytes from a "
			"backup, or delete it",
			id, why);
	else
		log_event(LOG_LEVEL_WARNING, NULL, "file %s is right again", id);
}

static int make_core(struct daemon *d, struct err *err)
{
	const struct config *config = d->config;
	struct buf journal;
	struct core_config core = {
		.max_upload = config_number(config, CONFIG_LIMITS_MAX_UPLOAD),
		.grace_ms = config_number(config, CONFIG_STORAGE_GRACE),
		.failure_hold_ms = config_number(config, CONFIG_STORAGE_FAILURE_HOLD),
		.idempotency_ttl_ms = config_number(config, CONFIG_LIMITS_IDEMPOTENCY_TTL),
		.cache_records = (size_t)config_number(config, CONFIG_CACHE_RECORDS),
		.cache_bytes = (size_t)config_number(config, CONFIG_CACHE_MEMORY),
		.cache_body_max = (size_t)config_number(config, CONFIG_CACHE_BODY_MAX),
		.workers = d->workers,
		.metrics = d->metrics,
		.journal_size = config_number(config, CONFIG_STORAGE_JOURNAL_SIZE),
		.journal_file_max = (size_t)config_number(config, CONFIG_STORAGE_JOURNAL_FILE_MAX),
		.recovered = log_recovery,
		.swept = log_sweep,
		.scrub_rate = config_number(config, CONFIG_STORAGE_SCRUB_RATE),
		.scrub_interval_ms = config_number(config, CONFIG_STORAGE_SCRUB_INTERVAL),
		.damaged = log_damage,
	};
	buf_init(&journal, PATH_MAX);
	core.journal_directory = stores_journal(config, &journal);
	int rc = journal.failed
			 ? err_set(err, ERR_INVALID, "storage.data_dir is too long")
			 : core_new(&core, d->stores.metadata, d->stores.blobs, &d->core, err);
	buf_release(&journal);
	return rc;
}

static int make_server(struct daemon *d, struct err *err)
{
	const struct config *config = d->config;
	struct http_config http = {
		.event_threads = (unsigned)config_number(config, CONFIG_SERVER_EVENT_THREADS),
		.max_connections = allowed_connections(config),
		.max_connections_per_address =
			(unsigned)config_number(config, CONFIG_SERVER_MAX_CONNECTIONS_PER_ADDRESS),
		.buffer_bytes = (size_t)config_number(config, CONFIG_SERVER_BUFFER_MEMORY),
		.header_bytes = (size_t)config_number(config, CONFIG_SERVER_HEADER_BYTES),
		.header_timeout_ms = config_number(config, CONFIG_SERVER_HEADER_TIMEOUT),
		.idle_timeout_ms = config_number(config, CONFIG_SERVER_IDLE_TIMEOUT),
		.min_rate = config_number(config, CONFIG_LIMITS_MIN_RATE),
		.access_log = (enum http_access_log)config_number(config, CONFIG_LOG_ACCESS),
		.workers = d->workers,
		.readers = d->readers,
		.metrics = d->metrics,
		.problem_page = web_problem_page,
	};
	d->front.core = d->core;
	d->front.metrics = d->metrics;
	d->front.max_upload = config_number(config, CONFIG_LIMITS_MAX_UPLOAD);
	d->routes = all_routes();
	if (d->routes == NULL)
		return err_set(err, ERR_NO_MEMORY, "routes");
	return http_server_new(&http, d->routes, &d->front, &d->server, err);
}

static int listen_everywhere(struct daemon *d, int sockets, int first, struct err *err)
{
	for (int fd = first; fd < first + sockets; fd++) {
		if (http_server_listen_fd(d->server, fd, err) != 0)
			return -1;
	}
	if (sockets > 0)
		return 0;
	const char *address;
	for (size_t i = 0; (address = config_item(d->config, CONFIG_SERVER_LISTEN, i)) != NULL;
	     i++) {
		if (http_server_listen(d->server, address, err) != 0)
			return -1;
	}
	return config_number(d->config, CONFIG_SERVER_LISTEN) > 0
		       ? 0
		       : err_set(err, ERR_INVALID, "server.listen is empty: nowhere to listen");
}

static int make_pool(const struct daemon *d, const char *name, struct pool **out, struct err *err)
{
	return pool_new(name, (unsigned)config_number(d->config, CONFIG_SERVER_WORKERS),
			(size_t)config_number(d->config, CONFIG_SERVER_QUEUE_LENGTH), d->metrics,
			out, err);
}

static int start(struct daemon *d, struct err *err)
{
	int first = 0;
	int sockets = supervision_sockets(&first, err);
	if (sockets < 0 || check_access(d->config, sockets, first, err) != 0)
		return -1;
	d->metrics = metrics_new();
	if (d->metrics == NULL)
		return err_set(err, ERR_NO_MEMORY, "metrics");
	if (stores_open(d->config, STORES_SERVED, d->metrics, &d->stores, err) != 0 ||
	    make_pool(d, "workers", &d->workers, err) != 0 ||
	    make_pool(d, "readers", &d->readers, err) != 0 || make_core(d, err) != 0 ||
	    make_server(d, err) != 0 || listen_everywhere(d, sockets, first, err) != 0 ||
	    core_start_sweeper(d->core, err) != 0 || core_start_scrubber(d->core, err) != 0 ||
	    http_server_start(d->server, err) != 0)
		return -1;
	return 0;
}

/* Also of a daemon that is half made. */
static void tear_down(struct daemon *d)
{
	if (d->server != NULL)
		http_server_free(&d->server);
	if (d->workers != NULL)
		pool_free(&d->workers);
	if (d->readers != NULL)
		pool_free(&d->readers);
	if (d->core != NULL)
		core_free(&d->core);
	stores_close(&d->stores);
	if (d->metrics != NULL)
		metrics_free(&d->metrics);
	free(d->routes);
}

/* --- running --- */

/* Tests, scripts and people wait for these lines: their form is part of the contract. */
static void announce(const struct daemon *d)
{
	struct buf state;
	const char *address;
	buf_init(&state, 4096);
	buf_puts(&state, "READY=1\nSTATUS=listening on");
	for (size_t i = 0; (address = http_server_address(d->server, i)) != NULL; i++) {
		dprintf(STDERR_FILENO, "depotd: listening on http://%s/\n", address);
		buf_printf(&state, " %s", address);
	}
	supervision_notify(buf_text(&state));
	buf_release(&state);
}

static void apply(const struct config *config)
{
	log_set_level((enum log_level)config_number(config, CONFIG_LOG_LEVEL));
}

static void warn_restart(void *context, const struct config_key *key)
{
	(void)context;
	log_event(LOG_LEVEL_WARNING, NULL, "%s.%s has changed: it takes a restart", key->section,
		  key->name);
}

static void reload(struct daemon *d)
{
	struct config *fresh = NULL;
	struct err err;
	bool usage;
	supervision_notify_reloading();
	if (app_load_config(d->invocation, &fresh, &usage, &err) != 0 ||
	    config_reload(d->config, fresh, warn_restart, NULL, &err) != 0) {
		log_event(LOG_LEVEL_ERROR, NULL, "configuration not re-read, the old one stays: %s",
			  err.message);
	} else {
		apply(d->config);
		log_event(LOG_LEVEL_INFO, NULL, "configuration re-read");
	}
	config_free(&fresh);
	supervision_notify("READY=1");
}

static void wait_for_stop(struct daemon *d)
{
	int64_t tick_ms = supervision_watchdog_ms();
	for (;;) {
		/* Event threads tick more often than this; a stuck one keeps the ping from going out. */
		if (tick_ms > 0 && http_server_alive(d->server, 2 * tick_ms))
			supervision_notify("WATCHDOG=1");
		switch (supervision_wait(tick_ms > 0 ? tick_ms : -1)) {
		case SUPERVISION_STOP:
			return;
		case SUPERVISION_RELOAD:
			reload(d);
			break;
		case SUPERVISION_TIMEOUT:
			break;
		}
	}
}

static void stop(struct daemon *d)
{
	int64_t timeout_ms = config_number(d->config, CONFIG_SERVER_DRAIN_TIMEOUT);
	supervision_next_signal_kills();
	supervision_notify("STOPPING=1\nSTATUS=draining");
	log_event(LOG_LEVEL_INFO, NULL, "stopping");
	atomic_store(&d->front.stopping, true);
	http_server_quiesce(d->server);
	if (!http_server_drain(d->server, timeout_ms))
		log_event(LOG_LEVEL_WARNING, NULL, "requests still running after %s are ended",
			  config_text(d->config, CONFIG_SERVER_DRAIN_TIMEOUT));
}

/*
 * Two heaps for each processor. glibc makes eight once threads meet at one, and each keeps free pages of its own: after some
 * hundred thousand uploads by 256 clients 69 MiB were resident, and are 51, at the same speed. MALLOC_ARENA_MAX says otherwise, as
 * ever.
 */
static void bound_heaps(void)
{
	if (getenv("MALLOC_ARENA_MAX") == NULL)
		mallopt(M_ARENA_MAX, 2 * processors());
}

int serve_run(struct invocation *invocation)
{
	struct daemon d = {.invocation = invocation, .config = invocation->config};
	struct err err;
	int status = EXIT_FAILED;

	bound_heaps();
	supervision_prepare();
	apply(d.config);
	atomic_init(&d.front.stopping, false);
	if (start(&d, &err) != 0) {
		app_complain("%s", err.message);
		goto out;
	}
	if (log_start() != 0) {
		app_complain("the log's thread cannot be started");
		goto out;
	}
	announce(&d);
	wait_for_stop(&d);
	stop(&d);
	status = EXIT_DONE;
out:
	tear_down(&d);
	log_stop();
	return status;
}
