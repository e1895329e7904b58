/* The ledger of the filesystem driver's room, as its other files use it; blob_filesystem_space.c says how it works. */
#ifndef DEPOTD_BLOB_FILESYSTEM_SPACE_PRIVATE_H
#define DEPOTD_BLOB_FILESYSTEM_SPACE_PRIVATE_H

#include "blob_filesystem_private.h"

void fs_space_init(struct blob_filesystem *fs, int64_t reserve, bool use_fallocate);
/* Brings the ledger up to what the disk says now: after something was given back. */
void fs_space_look(struct blob_filesystem *fs);
/* Whether at least `needed` bytes are free above the reserve, whoever they are promised to; else ERR_DISK_FULL. */
int fs_check_space(struct blob_filesystem *fs, int64_t needed, struct err *err);
int64_t fs_pledged(struct blob_filesystem *fs);
/* Adds n bytes to what is promised, whether they are there or not. */
void fs_promise(struct blob_filesystem *fs, struct blob_reservation *room, int64_t n);
/* Of n bytes that were written (or allocated): ends as much of the promise as there is, and says how much. room may be NULL. */
int64_t fs_take(struct blob_filesystem *fs, struct blob_reservation *room, int64_t n);
/* n bytes were written that nobody had promised. */
void fs_take_unpromised(struct blob_filesystem *fs, int64_t n);
/* n bytes are about to be written: they come from room (or NULL) and from own as far as these go, and stay pledged till then. */
void fs_take_ahead(struct blob_filesystem *fs, struct blob_reservation *room,
		   struct blob_reservation *own, int64_t n);
/* n of these are written; or they never will be. */
void fs_take_done(struct blob_filesystem *fs, int64_t n, bool written);
/*
 * Whether those who were promised their bytes may go on: what metadata and other programs took they may take out of half the
 * reserve, else it is ERR_DISK_FULL.
 */
int fs_check_promise(struct blob_filesystem *fs, struct err *err);
/* Takes n bytes of the disk for the new file, where that gains. How many it took: n or 0; -1. */
int64_t fs_allocate(struct blob_filesystem *fs, int fd, int64_t n, struct err *err);

/* --- the slots --- */

int fs_reserve(struct blob_store *store, int64_t n, struct blob_reservation *out, struct err *err);
void fs_unreserve(struct blob_store *store, struct blob_reservation *reservation);
int fs_space(struct blob_store *store, struct blob_space *out, struct err *err);

#endif
