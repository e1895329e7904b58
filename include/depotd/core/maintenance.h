/*
 * check, reindex and the sweep. Worker threads or the command line; check may run beside a serving daemon.
 */
#ifndef DEPOTD_CORE_MAINTENANCE_H
#define DEPOTD_CORE_MAINTENANCE_H

#include "depotd/core/core.h"

enum finding_kind {
	FINDING_ROW_WITHOUT_BYTES,
	FINDING_BYTES_WITHOUT_ROW, /* older than storage.grace */
	FINDING_SIZE_DIFFERS,
	FINDING_DIGEST_DIFFERS, /* only with verify */
	FINDING_DESCRIPTION_MISSING,
	FINDING_DESCRIPTION_DIFFERS,
	FINDING_UNREADABLE,
	FINDING_DAMAGED,         /* marked so by the scrub, and not looked at again */
	FINDING_HEALED,          /* marked so, and right again */
	FINDING_DATABASE_BEHIND, /* of no file: the database was set back, or is another's */
	FINDING_KINDS
};

struct finding {
	enum finding_kind kind;
	struct uuid id;
	const char *detail; /* one line for people, valid during the callback */
	bool repaired;
};

struct check_options {
	bool verify; /* re-hash every file */
	bool repair; /* mend what can be mended */
	int64_t grace_ms;
	void (*found)(void *context, const struct finding *finding);
	void *context;
};

struct check_summary {
	int64_t rows, blobs, bytes, findings, repaired;
	int64_t cleaned; /* leftovers removed by repair, such as descriptions without bytes */
};

/* 0 ran (see summary), -1 could not run. */
int maintenance_check(struct metadata *metadata, struct blob_store *blobs,
		      const struct check_options *options, struct check_summary *summary,
		      struct err *err);

struct reindex_summary {
	int64_t blobs, registered, already, failed;
	int64_t updated; /* rows of a database that was set back, brought up to what their files say */
};
/*
 * Rebuilds the rows from the stored files' descriptions alone; a blob without one is described anew from its bytes. When none
 * failed, directory and database agree again and the sweep goes on.
 */
int maintenance_reindex(struct metadata *metadata, struct blob_store *blobs,
			void (*failed)(void *context, const struct uuid *id, const struct err *why),
			void *context, struct reindex_summary *summary, struct err *err);

struct sweep_summary {
	int64_t expired, orphans, temporaries; /* removed */
	int64_t keys;      /* of requests that were answered long ago; removed */
	int64_t described; /* brought up to their rows */
};
/*
 * Removes expired files, bytes without a row that are older than grace, and what crashes left. After a start, or a description
 * that failed, it brings the descriptions of changed files up to their rows.
 */
int maintenance_sweep(struct core *core, struct sweep_summary *summary, struct err *err);

struct scrub_summary {
	int64_t files, bytes;    /* read */
	int64_t damaged, healed; /* newly so */
};
/*
 * One round of the scrub: reads, no faster than core_config.scrub_rate, the files that were not for scrub_interval_ms, those
 * that were not for the longest time first, past the page cache; damaged ones again after an hour. What was found is in the
 * database when it returns. -1 when the database or the data directory does not answer: what was found is recorded later.
 */
int maintenance_scrub(struct core *core, struct scrub_summary *summary, struct err *err);

#endif
