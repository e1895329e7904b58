/* check, reindex and migrate: the commands that mend. Main thread; each may run beside a serving daemon. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app_private.h"
#include "depotd/base/uuid.h"
#include "depotd/core/maintenance.h"

static void print_recovery(void *context, const struct core_recovery *recovery)
{
	(void)context;
	app_complain("the journal of the last run was replayed: %" PRId64 " records, %" PRId64
		     " files made again",
		     recovery->records, recovery->restored);
	if (recovery->damaged_places > 0)
		app_complain("the journal is damaged in %" PRId64 " places: %" PRId64
			     " bytes of it are lost",
			     recovery->damaged_places, recovery->damaged_bytes);
}

/*
 * What a crash left in the journal belongs to the files: without it, some of them would seem to be torn or missing. Core
 * replays it at its start.
 */
static int replay(const struct config *config, struct stores *stores, struct err *err)
{
	struct core *core = NULL;
	struct buf journal;
	struct core_config settings = {
		.max_upload = -1,
		.grace_ms = config_number(config, CONFIG_STORAGE_GRACE),
		.journal_size = config_number(config, CONFIG_STORAGE_JOURNAL_SIZE),
		.recovered = print_recovery,
	};
	buf_init(&journal, PATH_MAX);
	settings.journal_directory = stores_journal(config, &journal);
	int rc = core_new(&settings, stores->metadata, stores->blobs, &core, err);
	core_free(&core);
	buf_release(&journal);
	return rc;
}

/* A mistyped directory is not to be made anew and then called clean. */
static int open_existing(const struct config *config, struct stores *stores)
{
	const char *directory = config_text(config, CONFIG_STORAGE_DATA_DIR);
	struct err err;
	if (access(directory, F_OK) != 0) {
		app_complain("data directory %s: %s", directory, strerror(errno));
		return -1;
	}
	/* Alone with the directory, or beside a daemon, which has replayed its journal. */
	int rc = stores_open(config, STORES_LOCKED, NULL, stores, &err);
	if (rc == 0)
		rc = replay(config, stores, &err);
	else if (err.kind == ERR_CONFLICT)
		rc = stores_open(config, STORES_SHARED, NULL, stores, &err);
	if (rc != 0) {
		app_complain("%s", err.message);
		stores_close(stores);
	}
	return rc;
}

static const char *finding_name(enum finding_kind kind)
{
	switch (kind) {
	case FINDING_ROW_WITHOUT_BYTES:
		return "row without bytes";
	case FINDING_BYTES_WITHOUT_ROW:
		return "bytes without row";
	case FINDING_SIZE_DIFFERS:
		return "size differs";
	case FINDING_DIGEST_DIFFERS:
		return "digest differs";
	case FINDING_DESCRIPTION_MISSING:
		return "description missing";
	case FINDING_DESCRIPTION_DIFFERS:
		return "description differs";
	case FINDING_UNREADABLE:
		return "unreadable";
	case FINDING_DAMAGED:
		return "damaged";
	case FINDING_HEALED:
		return "no longer damaged";
	case FINDING_DATABASE_BEHIND:
		return "database behind";
	case FINDING_KINDS:
		break;
	}
	return "finding";
}

static void print_finding(void *context, const struct finding *finding)
{
	char id[UUID_TEXT_LEN + 1];
	(void)context;
	uuid_format(&finding->id, id);
	printf("%s%s%s: %s%s\n", uuid_is_nil(&finding->id) ? "" : id,
	       uuid_is_nil(&finding->id) ? "" : " ", finding_name(finding->kind), finding->detail,
	       finding->repaired ? " (repaired)" : "");
}

int check_run(struct invocation *invocation)
{
	struct stores stores = {0};
	struct check_summary summary = {0};
	struct err err;
	struct check_options options = {
		.verify = (invocation->options & OPTION_VERIFY) != 0,
		.repair = (invocation->options & OPTION_REPAIR) != 0,
		.grace_ms = config_number(invocation->config, CONFIG_STORAGE_GRACE),
		.found = print_finding,
	};
	supervision_prepare();
	if (open_existing(invocation->config, &stores) != 0)
		return EXIT_USAGE;
	int result = maintenance_check(stores.metadata, stores.blobs, &options, &summary, &err);
	stores_close(&stores);
	if (result != 0) {
		app_complain("%s", err.message);
		return EXIT_USAGE;
	}
	printf("checked %" PRId64 " rows and %" PRId64 " files (%" PRId64 " bytes%s): %" PRId64
	       " findings",
	       summary.rows, summary.blobs, summary.bytes, options.verify ? ", all re-hashed" : "",
	       summary.findings);
	if (options.repair)
		printf(", %" PRId64 " repaired", summary.repaired);
	if (summary.cleaned > 0)
		printf(", %" PRId64 " leftovers removed", summary.cleaned);
	printf("\n");
	if (fflush(stdout) != 0)
		return EXIT_USAGE;
	return summary.findings > summary.repaired ? EXIT_FAILED : EXIT_DONE;
}

static void print_failed(void *context, const struct uuid *id, const struct err *why)
{
	char text[UUID_TEXT_LEN + 1];
	(void)context;
	uuid_format(id, text);
	printf("%s failed: %s\n", text, why->message);
}

int reindex_run(struct invocation *invocation)
{
	struct stores stores = {0};
	struct reindex_summary summary = {0};
	struct err err;
	supervision_prepare();
	if (open_existing(invocation->config, &stores) != 0)
		return EXIT_FAILED;
	int result = maintenance_reindex(stores.metadata, stores.blobs, print_failed, NULL,
					 &summary, &err);
	stores_close(&stores);
	if (result != 0) {
		app_complain("%s", err.message);
		return EXIT_FAILED;
	}
	printf("reindexed %" PRId64 " files: %" PRId64 " registered, %" PRId64
	       " had their row, %" PRId64 " failed\n",
	       summary.blobs, summary.registered, summary.already, summary.failed);
	if (summary.updated > 0)
		printf("%" PRId64 " rows were older than their files and are brought up to them\n",
		       summary.updated);
	return fflush(stdout) == 0 && summary.failed == 0 ? EXIT_DONE : EXIT_FAILED;
}

int migrate_run(struct invocation *invocation)
{
	struct metadata_config config;
	struct buf url;
	struct err err;
	int from = 0, to = 0, status = EXIT_FAILED;
	supervision_prepare();
	buf_init(&url, 64 * 1024);
	if (stores_metadata_config(invocation->config, NULL, &url, &config, &err) != 0 ||
	    stores_make_directory(invocation->config, &err) != 0 ||
	    metadata_migrate(&config, &from, &to, &err) != 0)
		app_complain("%s", err.message);
	else
		status = EXIT_DONE;
	buf_release(&url);
	if (status == EXIT_DONE && from == to)
		printf("the schema is up to date (version %d)\n", to);
	else if (status == EXIT_DONE)
		printf("the schema went from version %d to version %d\n", from, to);
	return status;
}
