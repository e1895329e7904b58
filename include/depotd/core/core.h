/*
 * The use cases, ignorant of HTTP: take an upload, open a download, list, change, remove, sweep, check, reindex.
 *
 * Everything here blocks (worker threads) unless it says "event thread". Invariants: I1 bytes durable, then row committed;
 * I2 a crash between leaves only an orphan, which the sweep removes after storage.grace; I3 removal takes the row first,
 * the bytes after.
 */
#ifndef DEPOTD_CORE_CORE_H
#define DEPOTD_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"
#include "depotd/base/metrics.h"
#include "depotd/blob/store.h"
#include "depotd/metadata/store.h"
#include "depotd/model/file_record.h"
#include "depotd/model/listing.h"
#include "depotd/work/pool.h"

struct sweep_summary; /* core/maintenance.h */

/* What the start found in the journal of the last run. All zero after a clean stop. */
struct core_recovery {
	int64_t records;
	int64_t restored;      /* files made again from the journal */
	int64_t unregistered;  /* files whose rows were not known to be committed */
	int64_t damaged_bytes; /* of the journal, that were durable once: what stood there is lost */
	int64_t damaged_places;
};

struct core_config {
	int64_t max_upload;            /* bytes of one file; -1 no limit */
	int64_t grace_ms;              /* storage.grace */
	int64_t failure_hold_ms;       /* storage.failure_hold */
	int64_t idempotency_ttl_ms;    /* limits.idempotency_ttl */
	const char *journal_directory; /* where the intake journal is */
	int64_t journal_size;          /* bytes that it may take */
	size_t journal_file_max; /* files up to this many bytes go through the journal; 0: none, each has its own sync */
	size_t cache_records; /* records kept in memory */
	size_t cache_bytes;   /* bodies of small files kept in memory, in bytes, all together */
	int64_t scrub_rate; /* bytes a second that the background scrub reads; 0: it reads nothing */
	int64_t scrub_interval_ms; /* how long after it was verified a file is read again */
	size_t cache_body_max;     /* a body larger than this is never kept in memory */
	struct pool *workers;      /* help fast uploads (upload_lend()); not owned; may be NULL */
	struct metrics *metrics;   /* or NULL */
	/* Told during core_new(), when the journal was replayed and had something in it. May be NULL. */
	void (*recovered)(void *context, const struct core_recovery *recovery);
	void *recovered_context;
	/* Told after each background sweep, on its thread, for the log; err NULL when it went well. May be NULL. */
	void (*swept)(void *context, const struct sweep_summary *summary, const struct err *err);
	void *swept_context;
	/* Told, once each, of files found damaged (why) and right again (why NULL), on the scrubber's thread. May be NULL. */
	void (*damaged)(void *context, const struct file_record *file, const char *why);
	void *damaged_context;
};

struct core;

/*
 * Takes neither store's ownership. Registers itself with metadata_on_change(). Replays the journal of the last run first; rows
 * that the database does not take now follow when it does.
 */
int core_new(const struct core_config *config, struct metadata *metadata, struct blob_store *blobs,
	     struct core **out, struct err *err);
/* Ends the committer and the sweeper. No upload, download or call may be under way. */
void core_free(struct core **core);
/* Starts the background sweep: at once, then every grace_ms (hourly at the least). */
int core_start_sweeper(struct core *core, struct err *err);

/* Starts the background scrub, which also learns of damage that others found. */
int core_start_scrubber(struct core *core, struct err *err);

struct core_health {
	bool data_ok, database_ok;
	struct err data_err, database_err;
};
/* The last findings of a background probe (every second or so): event thread, never blocks. */
void core_health(struct core *core, struct core_health *out);
/*
 * Whether a request of `size` more bytes (0 unknown) may be taken now; else ERR_DISK_FULL or ERR_UNAVAILABLE. Its bytes are its own
 * from here on (upload_intent.room), until core_admit_end(), on every way out. Both on any thread, and never block.
 */
int core_admit(struct core *core, int64_t size, struct blob_reservation *room, struct err *err);
void core_admit_end(struct core *core, struct blob_reservation *room);

#endif
