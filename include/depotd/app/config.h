/*
 * The configuration: one table of keys, and one value for each of them with a note of where it came from.
 *
 * Flags win over DEPOTD_SECTION_KEY in the environment, that over the INI file, that over the table's defaults. A value is
 * checked when it is set, whichever source it comes from, so what is in a struct config is always allowed.
 * The file is read by libinih: `[section]`, `key = value`, `#` or `;` at the start of a line and ` ;` behind a value begin a
 * comment. A list may stand on several lines or be separated by commas; an empty assignment empties it (as in systemd).
 * Errors are one line: where (file and line, variable or flag), which key, what is allowed.
 * Thread: a config belongs to one owner; once read it may be looked at from any thread.
 */
#ifndef DEPOTD_APP_CONFIG_H
#define DEPOTD_APP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "depotd/base/buf.h"
#include "depotd/base/err.h"

/* In the order in which they are printed; the table in config_table.c has one row for each. */
enum config_id {
	CONFIG_SERVER_LISTEN,
	CONFIG_SERVER_EVENT_THREADS,
	CONFIG_SERVER_WORKERS,
	CONFIG_SERVER_QUEUE_LENGTH,
	CONFIG_SERVER_MAX_CONNECTIONS,
	CONFIG_SERVER_MAX_CONNECTIONS_PER_ADDRESS,
	CONFIG_SERVER_HEADER_TIMEOUT,
	CONFIG_SERVER_IDLE_TIMEOUT,
	CONFIG_SERVER_DRAIN_TIMEOUT,
	CONFIG_SERVER_BUFFER_MEMORY,
	CONFIG_SERVER_HEADER_BYTES,
	CONFIG_LIMITS_MAX_UPLOAD,
	CONFIG_LIMITS_MIN_RATE,
	CONFIG_LIMITS_IDEMPOTENCY_TTL,
	CONFIG_STORAGE_DATA_DIR,
	CONFIG_STORAGE_REQUIRE_MOUNT,
	CONFIG_STORAGE_RESERVE,
	CONFIG_STORAGE_GRACE,
	CONFIG_STORAGE_FAILURE_HOLD,
	CONFIG_STORAGE_JOURNAL_SIZE,
	CONFIG_STORAGE_JOURNAL_FILE_MAX,
	CONFIG_STORAGE_SCRUB_RATE,
	CONFIG_STORAGE_SCRUB_INTERVAL,
	CONFIG_DATABASE_URL,
	CONFIG_DATABASE_PASSWORD_FILE,
	CONFIG_DATABASE_CONNECTIONS,
	CONFIG_DATABASE_CONNECT_TIMEOUT,
	CONFIG_DATABASE_STATEMENT_TIMEOUT,
	CONFIG_DATABASE_MIGRATE,
	CONFIG_CACHE_RECORDS,
	CONFIG_CACHE_MEMORY,
	CONFIG_CACHE_BODY_MAX,
	CONFIG_LOG_LEVEL,
	CONFIG_LOG_ACCESS,
	CONFIG_ACCESS_MODE,
	CONFIG_ID_COUNT
};

enum config_type {
	CONFIG_TEXT,     /* any text without control characters */
	CONFIG_SIZE,     /* 512K, 10G: number is bytes */
	CONFIG_DURATION, /* 30s, 5m: number is milliseconds */
	CONFIG_INT,      /* number */
	CONFIG_BOOL,     /* on, yes, true, 1 or off, no, false, 0: number is 1 or 0 */
	CONFIG_ENUM,     /* one of `words`: number is its index */
	CONFIG_LIST,     /* texts, each checked by `check`: number is how many */
};

struct config_key {
	const char *section, *name;
	enum config_type type;
	const char *initial; /* the default, written as in the file */
	int64_t min, max;    /* bounds of number, inclusive; SIZE, DURATION and INT */
	/* ENUM: "a|b|c". SIZE: a word that stands for "no limit" (number is then -1), or NULL */
	const char *words;
	bool (*check)(const char *item); /* TEXT and LIST: more than the type asks; NULL anything */
	/* what check() lets pass, for people; NULL where the type says it all */
	const char *allowed;
	bool reloadable;      /* SIGHUP changes it in a running daemon */
	const char *argument; /* what help calls the value: SIZE, DIR, … */
	const char *help;     /* sentences for people; plain text */
};

extern const struct config_key config_keys[CONFIG_ID_COUNT];

enum config_source {
	CONFIG_FROM_DEFAULT,
	CONFIG_FROM_FILE,
	CONFIG_FROM_ENVIRONMENT,
	CONFIG_FROM_FLAG
};

struct config;

/* Every key at its default. NULL out of memory. */
struct config *config_new(void);
void config_free(struct config **config);

/*
 * Sets a key from text. `origin` says where the text stands ("/etc/depotd/depotd.conf:12", "DEPOTD_SERVER_LISTEN",
 * "--listen"). A source that is weaker than the one that set the key before changes nothing; a list grows while source
 * stays the same. A scalar that the same file sets twice is an error. ERR_INVALID (message: "ORIGIN: …"), ERR_NO_MEMORY.
 */
int config_set(struct config *config, enum config_id id, const char *text,
	       enum config_source source, const char *origin, struct err *err);

int config_read_file(struct config *config, const char *path, struct err *err);
/* The INI text itself; `name` stands for the file in messages. */
int config_read_stream(struct config *config, FILE *stream, const char *name, struct err *err);
/* Variables that begin with DEPOTD_ and a section's name; others are somebody else's. environ's form. */
int config_read_environment(struct config *config, char *const *environment, struct err *err);
/*
 * One flag at argv[*at]: "--section.key VALUE", "--section.key=VALUE" (`_` and `-` alike), or one of the short names --listen,
 * --data-dir, --database. 1 taken (*at is behind it), 0 not a configuration flag, -1 wrong.
 */
int config_read_flag(struct config *config, int argc, char *const *argv, int *at, struct err *err);

/* -1 unknown. */
int config_find(const char *section, const char *name);

const char *config_text(const struct config *config, enum config_id id); /* as given; never NULL */
int64_t config_number(const struct config *config, enum config_id id);
bool config_on(const struct config *config, enum config_id id);
const char *config_item(const struct config *config, enum config_id id,
			size_t i); /* LIST; NULL past the last */
enum config_source config_source(const struct config *config, enum config_id id);
const char *config_origin(const struct config *config,
			  enum config_id id); /* "default" or as given */

/* Copies what SIGHUP may change from `fresh`; keys that differ but need a restart are handed to needs_restart(). */
int config_reload(struct config *config, const struct config *fresh,
		  void (*needs_restart)(void *context, const struct config_key *key), void *context,
		  struct err *err);

/* The effective values as an INI file, each with its origin; passwords are masked. */
void config_print(const struct config *config, struct buf *out);
/* The commented sample file, the KEYS part of depotd.conf(5), and the list of flags for --help. */
void config_print_sample(struct buf *out);
void config_print_manual(struct buf *out);
void config_print_flags(struct buf *out);

/* The database URL in effect (database.url or the embedded default in the data directory). Appends to out. */
void config_database_url(const struct config *config, struct buf *out);

#endif
