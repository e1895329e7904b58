/*
 * What the upkeep of a depot keeps in the database: when each file's bytes were last looked at and which were damaged
 * (src/metadata/scrub.c), and how far each data directory has come (src/metadata/marks.c).
 *
 * Worker threads, any number. Errors as in metadata/store.h. Times are milliseconds since 1970.
 */
#ifndef DEPOTD_METADATA_UPKEEP_H
#define DEPOTD_METADATA_UPKEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/metadata/store.h"

/* --- scrub --- */

enum { METADATA_SCRUB_MAX = 1000 }; /* files in one call */

/*
 * Gives the next `limit` files behind *after (nil: the start), in the order of ids, a place among those that are looked at; a
 * file counts as verified when it was stored. 1 there are more (*after moved on), 0 these were the last, -1.
 */
int metadata_scrub_enroll(struct metadata *store, struct uuid *after, size_t limit,
			  struct err *err);

struct scrub_due {
	struct uuid id;
	struct file_record *file; /* NULL: it was removed. The caller's reference */
};
/*
 * The files not looked at since before_ms, and the damaged ones since damaged_before_ms: those that were not for the longest
 * time first. out has room for limit.
 */
int metadata_scrub_due(struct metadata *store, int64_t before_ms, int64_t damaged_before_ms,
		       size_t limit, struct scrub_due *out, size_t *n, struct err *err);

struct scrub_result {
	struct uuid id;
	int64_t at_ms;
	/* what is wrong, for people; NULL: the bytes are right, a mark is taken off */
	const char *damage;
};
/* Files that have no row any more are passed over. */
int metadata_scrub_record(struct metadata *store, const struct scrub_result *results, size_t n,
			  struct err *err);
/* Forgets what is known of these files, where they are gone. */
int metadata_scrub_forget(struct metadata *store, const struct uuid *ids, size_t n,
			  struct err *err);
/* When the one was looked at that was not for the longest time; -1 while none was. */
int metadata_scrub_oldest(struct metadata *store, int64_t *at_ms, struct err *err);

/* Told of each file that is marked as damaged, in no order. Return 0, or -1 with err: ends the call. */
typedef int (*metadata_damaged_fn)(void *context, const struct uuid *id, int64_t damaged_ms,
				   const char *damage, struct err *err);
int metadata_damaged(struct metadata *store, size_t limit, metadata_damaged_fn told, void *context,
		     struct err *err);

/* --- marks: what ties a data directory and its database together (src/core/marks.c has the reasoning) --- */

/* 1 the mark that the database has of this directory, 0 it has never seen it, -1. */
int metadata_mark(struct metadata *store, const struct uuid *directory, int64_t *mark,
		  struct err *err);
/* Sets it, never back. */
int metadata_mark_set(struct metadata *store, const struct uuid *directory, int64_t mark,
		      struct err *err);
/* One more, unless the database is behind `seen`. 1 advanced to *mark, 0 it is behind or has never seen it, -1. */
int metadata_mark_advance(struct metadata *store, const struct uuid *directory, int64_t seen,
			  int64_t *mark, struct err *err);

/* How many files this process has registered so far: moves with every one. */
uint64_t metadata_registered(const struct metadata *store);

#endif
