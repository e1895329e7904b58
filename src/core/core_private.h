/*
 * What the files of core share. Everybody outside sees include/depotd/core alone.
 *
 * Lock order: sweeping before describing; committing_lock, cache and health are leaves, held for a few instructions.
 */
#ifndef DEPOTD_CORE_PRIVATE_H
#define DEPOTD_CORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "depotd/core/core.h"
#include "depotd/core/files.h"
#include "depotd/core/maintenance.h"
#include "depotd/core/upload.h"

#include "cache_private.h"

enum {
	DESCRIBE_STRIPES = 64,
	SMALL_BYTES_MAX =
		4 * 1024 * 1024, /* past this, uploads go through writers whatever their size */
};

struct damage;
struct health;
struct keys;
struct scrubber;
struct sweeper;
struct intake;
struct pending;
struct unconfirmed;
struct committer;
struct upload;

struct core {
	struct core_config config;
	struct metadata *metadata;
	struct blob_store *blobs;
	struct cache *cache;
	struct batcher *publisher;   /* names for large files */
	struct committer *committer; /* journal and rows for all */
	struct intake *intake;
	struct pending *pending;
	struct unconfirmed *unconfirmed;
	atomic_size_t small_bytes; /* memory that uploads hold which may be small */
	struct health *health;
	struct keys *keys;       /* requests with an Idempotency-Key */
	struct sweeper *sweeper; /* NULL until core_start_sweeper() */
	struct damage *damage;   /* which files are known to be damaged */
	struct scrubber *scrubber;
	int64_t started_ms;   /* wall clock */
	atomic_bool stopping; /* long walks look at it */
	/* Monotonic ns of the last reason to think that some are behind their rows; 0: none, and the sweep need not look. */
	_Atomic int64_t descriptions_doubted_ns;

	/*
	 * Uploads on their way to a row, so that the sweep spares their bytes whatever the grace. An upload enters before it gets a
	 * name and leaves after its row was committed.
	 */
	pthread_mutex_t committing_lock; /* guards the list */
	struct upload *committing;
	pthread_mutex_t sweeping; /* one sweep at a time */
	/* guarded by sweeping: metadata_registered() when the marks were last counted on */
	uint64_t counted;
	/* By id: reading a file's description and replacing it is one step. */
	pthread_mutex_t describing[DESCRIBE_STRIPES];

	struct metric *uploads_running, *upload_bytes, *uploads_done, *uploads_failed;
	struct metric *commit_batches, *commit_requests;
	struct metric *cache_hits, *cache_misses;
	struct metric *swept_expired, *swept_orphans, *swept_temporaries, *swept_keys,
		*sweep_failures;
	struct metric *repeats_answered, *repeats_waited, *repeats_refused;
	struct metric *scrubbed_files, *scrubbed_bytes, *damaged_files, *scrub_oldest;
	struct metric *sweep_blocked;
};

int committer_start(struct core *core, struct err *err);
/* Answers all that was submitted. */
void committer_stop(struct core *core);
/*
 * An upload is on its way to a row from before it has a name until it is freed. Workers' and the committer's threads; entering
 * twice is entering once.
 */
void committer_enter(struct upload *upload);
void committer_leave(struct upload *upload);
/* Requests that wait for the batch after the one that is being committed. */
size_t committer_depth(struct core *core);
bool committer_has(struct core *core, const struct uuid *id);
/* Whether somebody is about to write this file's row. While the caller has unconfirmed_hold(), nobody begins to. */
bool row_comes(struct core *core, const struct uuid *id);
/* Takes out of ids[0..n) those whose rows are on their way, however long that takes; returns how many are left. */
size_t committer_spare(struct core *core, struct uuid *ids, size_t n);

int keys_new(struct keys **out, struct err *err);
void keys_free(struct keys **keys); /* no request is under way */

int health_start(struct core *core, struct err *err);
void health_stop(struct core *core);
/* A sync or another I/O failed: the data directory is not ready for a while, whatever the probe finds. */
void health_note_io_failure(struct core *core, const struct err *err);
/* Some call found the database away, or slow: is looked after at once. */
void health_note_database(struct core *core, const struct err *err);

void sweeper_stop(struct core *core);
/* Removes the keys of requests that were answered longer ago than their time to live. */
int sweep_keys(struct core *core, struct sweep_summary *summary, struct err *err);
/* Describes files anew whose rows are newer. 0; -1 when some, or the database, failed: the next sweep tries again. */
int sweep_descriptions(struct core *core, struct sweep_summary *summary, struct err *err);
/* Some description may be behind its row, now or in a moment: the sweeps look. Any thread. */
void descriptions_doubt(struct core *core);

/*
 * Writes a record as its file's description unless a newer one is there (I: the newest revision's description wins, in
 * whatever order the writers come). 1 written, 0 not, also when the bytes are gone; -1.
 */
int describe_if_newer(struct core *core, const struct file_record *record, struct err *err);
/* What file_record_describe() failed for: always -1. */
int description_failed(const struct buf *text, struct err *err);

/* --- maintenance --- */

/* The row of one id, expired or not. 1, 0, -1. */
int maintenance_row(struct metadata *metadata, const struct uuid *id, struct file_record **out,
		    struct err *err);
/* SHA-256 of a stored file and how many bytes it has. 1, 0 absent, -1 (ERR_IO: unreadable). */
int maintenance_hash(struct blob_store *blobs, const struct uuid *id,
		     unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err);
/* The record as its file describes it. 1 found, 0 none or not a description (err says which), -1. */
int maintenance_described(struct blob_store *blobs, const struct uuid *id, struct file_record **out,
			  struct err *err);

#endif
