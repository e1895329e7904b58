/* What the files of app share: one invocation of the program, its commands, the stores they open. Main thread. */
#ifndef DEPOTD_APP_PRIVATE_H
#define DEPOTD_APP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/app/config.h"
#include "depotd/base/buf.h"
#include "depotd/base/err.h"
#include "depotd/base/metrics.h"
#include "depotd/blob/store.h"
#include "depotd/metadata/store.h"

enum exit_status {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

enum option {
	OPTION_REPAIR = 1 << 0,
	OPTION_VERIFY = 1 << 1,
	OPTION_SAMPLE = 1 << 2,
	OPTION_MANUAL = 1 << 3, /* for the build only: not in --help */
};

struct command;

struct invocation {
	const struct command *command;
	struct config *config;
	unsigned options; /* OR of enum option */
	int argc;         /* what follows the command's name */
	char *const *argv;
	char *const *environment;
};

struct command {
	const char *name;
	const char *summary; /* NULL: not in --help */
	const char *text;    /* what `depotd NAME --help` says under the usage line */
	unsigned options;    /* those it takes */
	int cannot_run;      /* exit status when the configuration is bad */
	int (*run)(struct invocation *invocation);
};

/* "depotd: …" on standard error. */
void app_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes out, to standard output; EXIT_DONE or EXIT_FAILED. Releases it. */
int app_print(struct buf *out);

/*
 * Reads flags, file and environment anew (also for SIGHUP). *usage is true where a flag was wrong, so that the exit status can
 * differ. The caller frees *config.
 */
int app_load_config(const struct invocation *invocation, struct config **config, bool *usage,
		    struct err *err);

int serve_run(struct invocation *invocation);
int check_run(struct invocation *invocation);
int reindex_run(struct invocation *invocation);
int migrate_run(struct invocation *invocation);
int config_run(struct invocation *invocation);

/* --- the stores (stores.c) --- */

struct stores {
	struct blob_store *blobs;
	struct metadata *metadata;
};

enum stores_lock {
	STORES_SHARED, /* beside a serving daemon */
	STORES_LOCKED, /* nobody else with this data directory */
	STORES_SERVED, /* the same, and the database may be away (metadata_config.lazy) */
};

int stores_open(const struct config *config, enum stores_lock lock, struct metrics *metrics,
		struct stores *out, struct err *err);
/* Takes a zeroed struct, too. */
void stores_close(struct stores *stores);
/* Where the intake journal of the data directory is: the text of `out`. */
const char *stores_journal(const struct config *config, struct buf *out);
/* Makes the data directory where the embedded database is to be in it. */
int stores_make_directory(const struct config *config, struct err *err);
/* Fills what metadata_open() takes; url holds the text and must outlive the configuration. */
int stores_metadata_config(const struct config *config, struct metrics *metrics, struct buf *url,
			   struct metadata_config *out, struct err *err);

/* --- what systemd and the kernel tell us (supervision.c) --- */

/* Blocks the signals that the main thread waits for, ignores SIGPIPE, umask 077. Before any thread is made. */
void supervision_prepare(void);
enum supervision_event { SUPERVISION_STOP, SUPERVISION_RELOAD, SUPERVISION_TIMEOUT };
/* Waits for SIGTERM/SIGINT or SIGHUP, at most timeout_ms (-1: for ever). */
enum supervision_event supervision_wait(int64_t timeout_ms);
/* From now on SIGTERM and SIGINT end the process at once. */
void supervision_next_signal_kills(void);
/* Raises the soft limit of open files to the hard one; how many may be open. */
int64_t supervision_open_files(void);
/* Inherited sockets (LISTEN_FDS): how many, *first is the first descriptor. -1 with err. */
int supervision_sockets(int *first, struct err *err);
/* How often to ping the watchdog, in ms; 0: nobody waits for it. */
int64_t supervision_watchdog_ms(void);
/* sd_notify(3); nothing where nobody listens. */
void supervision_notify(const char *state);
void supervision_notify_reloading(void);

/* --- who may reach us (exposure.c) --- */

/* Whether every address that "HOST:PORT" stands for is loopback. Unresolvable ones count as loopback: binding will tell. */
bool exposure_is_loopback(const char *address);
bool exposure_socket_is_loopback(int fd);

#endif
