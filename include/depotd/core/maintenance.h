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
};

/* 0 ran (see summary), -1 could not run. */
int maintenance_check(struct metadata *metadata, struct blob_store *blobs,
		      const struct check_options *options, struct check_summary *summary,
		      struct err *err);

struct reindex_summary {
	int64_t blobs, registered, already, failed;
};
/* Rebuilds the rows from the stored files' descriptions alone; a blob without one is described anew from its bytes. */
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

#endif
