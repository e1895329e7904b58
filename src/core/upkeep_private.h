/* What finds damage and what ties directory and database together: damage.c, scrub.c, marks.c, and their way of hashing. */
#ifndef DEPOTD_CORE_UPKEEP_PRIVATE_H
#define DEPOTD_CORE_UPKEEP_PRIVATE_H

#include "core_private.h"

/* --- hashing (maintenance.c) --- */

/* maintenance_hash() of what is on the disk, whatever the kernel has in memory. */
int maintenance_hash_raw(struct blob_store *blobs, const struct uuid *id,
			 unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err);
/* Counts n bytes that were read; false: stop. */
typedef bool (*scrub_pace_fn)(void *context, int64_t n);
/* The same of an open file. paced (may be NULL) is told of each piece; false ends it with ERR_CANCELLED. */
int maintenance_hash_reader(struct blob_reader *reader, scrub_pace_fn paced, void *context,
			    unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err);

/* --- damage (damage.c): any thread; a mutex is held for a few instructions --- */

/* What a mark says of a file without bytes: in this directory, which need not be that of everybody who reads the mark. */
#define DAMAGE_MISSING "the bytes are missing"

int damage_new(struct core *core, struct err *err);
void damage_free(struct core *core);
/* Whether the bytes of this file are known to be wrong. Event threads too. */
bool damage_known(struct core *core, const struct uuid *id);
/*
 * A reader met wrong bytes: the scrubber looks at them soon. Fills err with ERR_DAMAGED and what is wrong; -1.
 */
int damage_suspect(struct core *core, const struct uuid *id, const char *what, struct err *err);
bool damage_suspected(struct core *core); /* whether there are any */
/* Takes one of those; false where there is none. */
bool damage_next_suspect(struct core *core, struct uuid *id);
void damage_mark(struct core *core, const struct uuid *id, bool damaged);
/* Learns anew what the database says. */
int damage_load(struct core *core, struct err *err);

/* --- scrub.c --- */

int scrubber_new(struct core *core, struct err *err);
void scrubber_wake(struct core *core);
void scrubber_stop(struct core *core); /* and frees it */

enum { DAMAGE_TEXT_MAX = 160 }; /* what is wrong with a file, for people */

/* --- marks (marks.c) --- */

/* 1 directory and database belong together and have moved on by one, 0 not (err says how), -1 not known now. */
int marks_advance(struct metadata *metadata, struct blob_store *blobs, struct err *err);
/* The same without moving on; 1 also where neither has a mark yet, or there is nothing to lose. */
int marks_agree(struct metadata *metadata, struct blob_store *blobs, struct err *err);
/* The rows have been made from the files: from now on the two agree. */
int marks_settle(struct metadata *metadata, struct blob_store *blobs, struct err *err);

#endif
