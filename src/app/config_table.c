/* The one table of configuration keys. --help, the sample file, the manual page and every check come from it. Pure. */
#include <string.h>

#include "depotd/app/config.h"
#include "depotd/metadata/store.h"
#include "depotd/model/quantity.h"

enum { PORT_MAX = 65535 };

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

/* "HOST:PORT" or "[V6]:PORT". Whether the host can be resolved shows when it is bound. */
static bool is_address(const char *item)
{
	const char *colon = strrchr(item, ':');
	if (colon == NULL || colon == item)
		return false;
	long port = 0;
	for (const char *p = colon + 1; *p != '\0'; p++) {
		if (*p < '0' || *p > '9' || (port = port * 10 + (*p - '0')) > PORT_MAX)
			return false;
	}
	if (colon[1] == '\0')
		return false;
	size_t host = (size_t)(colon - item);
	if (item[0] == '[')
		return host > 2 && item[host - 1] == ']';
	return memchr(item, ':', host) == NULL && strcspn(item, " /@?#[]") >= host;
}

/* Empty is the embedded default. */
static bool is_database_url(const char *item)
{
	struct err ignored;
	return item[0] == '\0' || metadata_check_url(item, &ignored) == 0;
}

static bool is_not_empty(const char *item)
{
	return item[0] != '\0';
}

const struct config_key config_keys[CONFIG_ID_COUNT] = {
	[CONFIG_SERVER_LISTEN] =
		{.section = "server",
		 .name = "listen",
		 .type = CONFIG_LIST,
		 .initial = "127.0.0.1:8080",
		 .check = is_address,
		 .allowed = "ADDRESS:PORT, such as 127.0.0.1:8080, [::1]:8080 or localhost:0",
		 .argument = "ADDR:PORT",
		 .help = "Where to listen, as ADDRESS:PORT; an IPv6 address stands in brackets, "
			 "port 0 takes a free one. "
			 "May be given several times. Not used when systemd hands over sockets "
			 "(depotd.socket). On an address "
			 "other than loopback access.mode has to be written down, too."},
	[CONFIG_SERVER_EVENT_THREADS] =
		{.section = "server",
		 .name = "event_threads",
		 .type = CONFIG_INT,
		 .initial = "0",
		 .max = 64,
		 .argument = "N",
		 .help = "Threads that parse requests and send answers, for each listener. 0: one "
			 "for each processor, at most 4."},
	[CONFIG_SERVER_WORKERS] = {.section = "server",
				   .name = "workers",
				   .type = CONFIG_INT,
				   .initial = "64",
				   .min = 1,
				   .max = 1024,
				   .argument = "N",
				   .help = "Threads that do what may block, disk and database, for "
					   "requests that change something: as many writes can be "
					   "waiting for the disk at once. As many again serve GET "
					   "and HEAD, which never wait behind writes."},
	[CONFIG_SERVER_QUEUE_LENGTH] = {.section = "server",
					.name = "queue_length",
					.type = CONFIG_INT,
					.initial = "4096",
					.min = 1,
					.max = 1000000,
					.argument = "N",
					.help = "Requests that may wait for a worker. Further ones "
						"are answered 503 with Retry-After."},
	[CONFIG_SERVER_MAX_CONNECTIONS] =
		{.section = "server",
		 .name = "max_connections",
		 .type = CONFIG_INT,
		 .initial = "16384",
		 .min = 1,
		 .max = 1000000,
		 .argument = "N",
		 .help = "Connections that may be open at once, over all listeners. Lowered, with "
			 "a warning, to what the limit "
			 "of open files allows."},
	[CONFIG_SERVER_MAX_CONNECTIONS_PER_ADDRESS] =
		{.section = "server",
		 .name = "max_connections_per_address",
		 .type = CONFIG_INT,
		 .initial = "1024",
		 .max = 1000000,
		 .argument = "N",
		 .help = "Connections that one client address may have open at once; loopback is "
			 "exempt. 0: no limit."},
	[CONFIG_SERVER_HEADER_TIMEOUT] =
		{.section = "server",
		 .name = "header_timeout",
		 .type = CONFIG_DURATION,
		 .initial = "30s",
		 .min = 100,
		 .max = HOUR,
		 .argument = "TIME",
		 .help = "How long a client may take to send a request's header fields."},
	[CONFIG_SERVER_IDLE_TIMEOUT] =
		{.section = "server",
		 .name = "idle_timeout",
		 .type = CONFIG_DURATION,
		 .initial = "60s",
		 .min = 100,
		 .max = HOUR,
		 .argument = "TIME",
		 .help = "How long a connection may be silent: in the middle of a request or an "
			 "answer, and between requests."},
	[CONFIG_SERVER_DRAIN_TIMEOUT] = {.section = "server",
					 .name = "drain_timeout",
					 .type = CONFIG_DURATION,
					 .initial = "30s",
					 .max = DAY,
					 .reloadable = true,
					 .argument = "TIME",
					 .help = "How long running requests may go on after "
						 "SIGTERM or SIGINT. Then they are ended."},
	[CONFIG_SERVER_BUFFER_MEMORY] =
		{.section = "server",
		 .name = "buffer_memory",
		 .type = CONFIG_SIZE,
		 .initial = "16M",
		 .min = MIB,
		 .max = 64 * GIB,
		 .argument = "SIZE",
		 .help = "Memory for the bodies of all running requests together. It bounds what "
			 "uploads take, however many there "
			 "are and whatever their size."},
	[CONFIG_SERVER_HEADER_BYTES] =
		{.section = "server",
		 .name = "header_bytes",
		 .type = CONFIG_SIZE,
		 .initial = "32K",
		 .min = 4 * KIB,
		 .max = MIB,
		 .argument = "SIZE",
		 .help = "The largest request line and header fields, "
			 "together. Larger ones are answered 414 or 431, "
			 "and so is, whatever this is, a request target of "
			 "more than 8K or a request of more than 100 fields."},
	[CONFIG_LIMITS_MAX_UPLOAD] = {.section = "limits",
				      .name = "max_upload",
				      .type = CONFIG_SIZE,
				      .initial = "unlimited",
				      .min = 1,
				      .max = INT64_MAX,
				      .words = "unlimited",
				      .argument = "SIZE",
				      .help = "The largest request body that is taken. A larger "
					      "one is answered 413; before the body, where its "
					      "length is known."},
	[CONFIG_LIMITS_MIN_RATE] = {.section = "limits",
				    .name = "min_rate",
				    .type = CONFIG_SIZE,
				    .initial = "128",
				    .max = GIB,
				    .argument = "SIZE",
				    .help = "Bytes a second that a client has to keep up while it "
					    "sends a body, over any server.idle_timeout; a "
					    "slower one is disconnected. 0: no limit."},
	[CONFIG_LIMITS_IDEMPOTENCY_TTL] =
		{.section = "limits",
		 .name = "idempotency_ttl",
		 .type = CONFIG_DURATION,
		 .initial = "24h",
		 .min = 1000,
		 .max = 365 * DAY,
		 .argument = "TIME",
		 .help = "How long an Idempotency-Key is remembered: a repeat of its request gets "
			 "the first answer until a sweep finds it older than this."},
	[CONFIG_STORAGE_DATA_DIR] = {.section = "storage",
				     .name = "data_dir",
				     .type = CONFIG_TEXT,
				     .initial = "./var/data",
				     .check = is_not_empty,
				     .allowed = "a directory",
				     .argument = "DIR",
				     .help = "The directory that holds the files (and metadata.db, "
					     "with the embedded database). It is made, mode 0700, "
					     "where it is missing."},
	[CONFIG_STORAGE_REQUIRE_MOUNT] =
		{.section = "storage",
		 .name = "require_mount",
		 .type = CONFIG_BOOL,
		 .initial = "off",
		 .argument = "on|off",
		 .help = "Refuse to start when data_dir is not on a mount of its own: a volume "
			 "that failed to attach must not fill the "
			 "root disk."},
	[CONFIG_STORAGE_RESERVE] = {.section = "storage",
				    .name = "reserve",
				    .type = CONFIG_SIZE,
				    .initial = "64M",
				    .max = 1024 * TIB,
				    .argument = "SIZE",
				    .help = "Space that stays free on the disk. An upload that "
					    "would go below it is answered 507."},
	[CONFIG_STORAGE_GRACE] = {.section = "storage",
				  .name = "grace",
				  .type = CONFIG_DURATION,
				  .initial = "1h",
				  .max = 365 * DAY,
				  .argument = "TIME",
				  .help = "How long bytes without a row are left alone before the "
					  "sweep removes them. The sweep runs at the start, "
					  "then every grace (hourly at the least)."},
	[CONFIG_STORAGE_FAILURE_HOLD] =
		{.section = "storage",
		 .name = "failure_hold",
		 .type = CONFIG_DURATION,
		 .initial = "30s",
		 .max = DAY,
		 .argument = "TIME",
		 .help = "After the disk failed to write or sync, uploads are refused and "
			 "readiness "
			 "is down for this long, and until a file written anew can be synced."},
	[CONFIG_STORAGE_JOURNAL_SIZE] =
		{.section = "storage",
		 .name = "journal_size",
		 .type = CONFIG_SIZE,
		 .initial = "512M",
		 .min = 3 * MIB,
		 .max = 512 * MIB,
		 .argument = "SIZE",
		 .help = "What the intake journal may take in data_dir (never more than a 32nd of "
			 "the "
			 "disk). A checkpoint runs when half of it is used, in a pause after "
			 "5 s, or after 30 s."},
	[CONFIG_STORAGE_JOURNAL_FILE_MAX] =
		{.section = "storage",
		 .name = "journal_file_max",
		 .type = CONFIG_SIZE,
		 .initial = "64K",
		 .max = 512 * 1024,
		 .argument = "SIZE",
		 .help = "Files up to this size are made durable together, through the journal; "
			 "larger ones have a sync of their own. 0: all of them."},
	[CONFIG_STORAGE_SCRUB_RATE] =
		{.section = "storage",
		 .name = "scrub_rate",
		 .type = CONFIG_SIZE,
		 .initial = "8M",
		 .max = 64 * GIB,
		 .argument = "SIZE",
		 .help = "Bytes a second that the background scrub reads at the most. It reads "
			 "stored files again and holds them against the digest that they were "
			 "stored with; a damaged one is marked and no longer served. 0: no scrub."},
	[CONFIG_STORAGE_SCRUB_INTERVAL] = {.section = "storage",
					   .name = "scrub_interval",
					   .type = CONFIG_DURATION,
					   .initial = "30d",
					   .min = 100,
					   .max = 3650 * DAY,
					   .argument = "TIME",
					   .help = "How long after it was stored or verified the "
						   "scrub reads a file again, as "
						   "far as scrub_rate allows."},
	[CONFIG_DATABASE_URL] =
		{.section = "database",
		 .name = "url",
		 .type = CONFIG_TEXT,
		 .initial = "",
		 .check = is_database_url,
		 .allowed = "sqlite:PATH, or a connection string or URI as psql takes it",
		 .argument = "URL",
		 .help = "sqlite:PATH, or a PostgreSQL connection string or URI "
			 "(postgresql://depotd@db.example:5432/depot?sslmode=verify-full). Empty: "
			 "sqlite:DATA_DIR/metadata.db. "
			 "Keep the password out of it: see password_file."},
	[CONFIG_DATABASE_PASSWORD_FILE] =
		{.section = "database",
		 .name = "password_file",
		 .type = CONFIG_TEXT,
		 .initial = "",
		 .argument = "FILE",
		 .help = "A file whose first line is PostgreSQL's password. Empty: the systemd "
			 "credential database-password where "
			 "there is one ($CREDENTIALS_DIRECTORY), else what libpq finds "
			 "(PGPASSWORD, ~/.pgpass, PGSERVICE)."},
	[CONFIG_DATABASE_CONNECTIONS] = {.section = "database",
					 .name = "connections",
					 .type = CONFIG_INT,
					 .initial = "8",
					 .min = 1,
					 .max = 256,
					 .argument = "N",
					 .help = "Connections to PostgreSQL; with SQLite, "
						 "readers beside the one writer."},
	[CONFIG_DATABASE_CONNECT_TIMEOUT] =
		{
			.section = "database",
			.name = "connect_timeout",
			.type = CONFIG_DURATION,
			.initial = "5s",
			.min = 100,
			.max = HOUR,
			.argument = "TIME",
			.help = "How long connecting to the database may take."},
	[CONFIG_DATABASE_STATEMENT_TIMEOUT] =
		{
			.section = "database",
			.name = "statement_timeout",
			.type = CONFIG_DURATION,
			.initial = "4s",
			.min = 100,
			.max = DAY,
			.argument = "TIME",
			.help = "How long one call to the database may take, waiting for a "
				"connection included. Then the request is "
				"answered 503."},
	[CONFIG_DATABASE_MIGRATE] =
		{.section = "database",
		 .name = "migrate",
		 .type = CONFIG_BOOL,
		 .initial = "on",
		 .argument = "on|off",
		 .help = "Bring the database's schema up to date when serve starts. off: refuse "
			 "one that is too old, and leave it "
			 "to depotd migrate."},
	[CONFIG_CACHE_RECORDS] = {.section = "cache",
				  .name = "records",
				  .type = CONFIG_INT,
				  .initial = "16384",
				  .max = 100000000,
				  .argument = "N",
				  .help = "File records kept in memory, about half a KiB each."},
	[CONFIG_CACHE_MEMORY] = {.section = "cache",
				 .name = "memory",
				 .type = CONFIG_SIZE,
				 .initial = "16M",
				 .max = 1024 * GIB,
				 .argument = "SIZE",
				 .help = "Memory for the bytes of small files, all together."},
	[CONFIG_CACHE_BODY_MAX] = {.section = "cache",
				   .name = "body_max",
				   .type = CONFIG_SIZE,
				   .initial = "64K",
				   .max = 64 * MIB,
				   .argument = "SIZE",
				   .help = "Files larger than this are never kept in memory; the "
					   "kernel caches them anyway."},
	[CONFIG_LOG_LEVEL] =
		{.section = "log",
		 .name = "level",
		 .type = CONFIG_ENUM,
		 .initial = "info",
		 .words = "error|warning|info|debug",
		 .reloadable = true,
		 .argument = "LEVEL",
		 .help = "The least important lines that are logged, to standard error."},
	[CONFIG_LOG_ACCESS] = {.section = "log",
			       .name = "access",
			       .type = CONFIG_ENUM,
			       .initial = "off",
			       .words = "off|combined|json",
			       .argument = "FORMAT",
			       .help = "A line for each request on standard output: off, combined "
				       "(as Apache and nginx have it) or json."},
	[CONFIG_ACCESS_MODE] = {.section = "access",
				.name = "mode",
				.type = CONFIG_ENUM,
				.initial = "open",
				.words = "open|accounts",
				.argument = "MODE",
				.help = "open: everybody who can connect may do everything. "
					"accounts: users and tokens (not built yet). On an "
					"address other than loopback, serve does not start until "
					"the mode is written down."},
};
