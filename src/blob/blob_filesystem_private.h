/*
 * What the files of the filesystem driver share.
 *
 * DATA/.lock                       flock()ed by the daemon that serves
 * DATA/.mark, DATA/aside/UUID      core/marks.c; what `check --repair` took out of sight instead of removing it
 * DATA/objects/XXXXX/YYY/UUID      a blob; XXXXX and YYY are the first 5 and the next 3 hex digits of its version 7 id, so
 *                                  a leaf directory holds the ids of 2^16 ms (65 s) and uploads that end together sync one
 * DATA/objects/XXXXX/YYY/UUID.meta its description, where that does not fit an extended attribute; wins over the attribute
 * DATA/tmp/                        names of unfinished files where O_TMPFILE does not work, and of descriptions about to
 *                                  replace others; emptied at the start of the daemon
 */
#ifndef DEPOTD_BLOB_FILESYSTEM_PRIVATE_H
#define DEPOTD_BLOB_FILESYSTEM_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "depotd/blob/driver.h"

#define BLOB_XATTR "user.depotd"

enum {
	LEAF_NAME_LEN = 5 + 1 + 3, /* XXXXX/YYY */
	LEAF_CACHE = 8, /* open leaf directories kept: the present one, and those of long uploads */
	TEMP_NAME_LEN = 32,
	META_NAME_LEN = UUID_TEXT_LEN + 5, /* UUID.meta */
};

/* One open leaf directory. Lives while it is cached or a writer holds it. */
struct leaf {
	char name[LEAF_NAME_LEN + 1];
	int fd;
	unsigned refs;       /* guarded by blob_filesystem.lock; the cache's own included */
	uint64_t used;       /* the same: the tick of the last use */
	atomic_bool durable; /* its own entry and its parent's are known to be on disk */
};

struct blob_filesystem {
	struct blob_store base; /* first */
	int root, objects, tmp; /* directories, O_RDONLY, so that they can be synced */
	int lock_file;          /* holds the flock; -1 where not exclusive */
	bool use_tmpfile, use_openat2, quick_statfs; /* statfs() never waits */
	atomic_bool use_xattr;     /* until the file system says that it has none */
	atomic_bool use_writeback; /* the same of sync_file_range() */
	int64_t reserve;
	atomic_int_fast64_t room, written, pledged, looked_ms; /* blob_filesystem_space.c */
	atomic_bool use_fallocate; /* until the file system says that it cannot */

	pthread_mutex_t lock; /* guards cache and every leaf's refs; no I/O but rmdir() under it */
	struct leaf *leaves[LEAF_CACHE];
	uint64_t tick;
};

/* --- paths --- */

/* openat() below dir that neither leaves it nor follows a symbolic link anywhere on the way. */
int fs_openat(const struct blob_filesystem *fs, int dir, const char *path, int flags, mode_t mode);
void fs_leaf_name(const struct uuid *id, char out[LEAF_NAME_LEN + 1]);
void fs_meta_name(const struct uuid *id, char out[META_NAME_LEN + 1]);
/* The open leaf directory of an id for reading; -1 with errno. The caller closes it. */
int fs_leaf_open(const struct blob_filesystem *fs, const struct uuid *id);
/* The leaf where new files of this id go, made where it is missing. The caller puts it back. */
int fs_leaf_get(struct blob_filesystem *fs, const struct uuid *id, struct leaf **out,
		struct err *err);
void fs_leaf_put(struct blob_filesystem *fs, struct leaf **leaf);
/* The directory was removed under us: nobody shall get this leaf from the cache again. */
void fs_leaf_forget(struct blob_filesystem *fs, struct leaf *leaf);
/* Makes every name in the leaf durable, and the leaf's own where that is not known. */
int fs_leaf_sync(struct blob_filesystem *fs, struct leaf *leaf, struct err *err);
/* Removes an empty leaf directory that nobody writes to. 1 removed, 0 not. */
int fs_leaf_remove(struct blob_filesystem *fs, int parent, const char *leaf_name, const char *last);
void fs_leaves_release(struct blob_filesystem *fs);

/* fsync() that goes on after EINTR and never after anything else. */
int fs_fsync(int fd);
int fs_unlink(int dir, const char *name); /* the same */
int fs_still_there(int fd); /* -1: it was shut down, which a sync may be quiet about */

/* --- files without a name, or with one in tmp/ --- */

struct temp {
	int fd;                       /* -1: none */
	char name[TEMP_NAME_LEN + 1]; /* in tmp/, or "" */
};

/* near: the directory in whose neighbourhood the file system shall place it. -1 with errno. */
int temp_open(const struct blob_filesystem *fs, int near, struct temp *out);
/* Gives it the name; EEXIST where that is taken. Afterwards the temp has no name of its own. -1 with errno. */
int temp_link(const struct blob_filesystem *fs, struct temp *temp, int dir, const char *name);
/* The same over what has that name now, atomically. */
int temp_replace(const struct blob_filesystem *fs, struct temp *temp, int dir, const char *name);
/* Closes; removes its name in tmp/ if it has one. */
void temp_close(const struct blob_filesystem *fs, struct temp *temp);
/* Writes all of it, from `offset` on. -1 with errno. */
int write_all(int fd, int64_t offset, const void *data, size_t n);

/* --- the slots --- */

int fs_create(struct blob_store *store, const struct uuid *id, int64_t size_hint,
	      struct blob_reservation *room, struct blob_writer **out, struct err *err);
int fs_claim(struct blob_writer *writer, size_t n, struct err *err);
int fs_fill(struct blob_writer *base, int64_t offset, const void *data, size_t n, struct err *err);
int fs_first(struct blob_writer *writer, void *data, size_t n, struct err *err);
int fs_seal(struct blob_writer *writer, const char *description, size_t n, struct err *err);
void fs_publish(struct blob_store *store, struct blob_publication *publications, size_t n);
void fs_discard(struct blob_writer *writer);

int fs_place(struct blob_store *store, const struct uuid *id, struct blob_reservation *room,
	     const void *data, size_t n, const char *description, size_t description_n,
	     struct err *err);
int fs_sync(struct blob_store *store, struct err *err);
int fs_restore(struct blob_store *store, const struct uuid *id, const void *data, size_t n,
	       const char *description, size_t description_n, struct err *err);

int fs_open(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
	    struct err *err);
int fs_read(struct blob_reader *reader, int64_t offset, void *data, size_t n, size_t *got,
	    struct err *err);
int fs_descriptor(const struct blob_reader *reader);
void fs_will_read(struct blob_reader *reader, int64_t offset, int64_t n);
void fs_reader_free(struct blob_reader *reader);

int fs_description(struct blob_store *store, const struct uuid *id, struct buf *out,
		   struct err *err);
int fs_describe(struct blob_store *store, const struct uuid *id, const char *description, size_t n,
		struct err *err);
int fs_remove(struct blob_store *store, const struct uuid *id, struct err *err);
int fs_walk(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err);
long fs_clean(struct blob_store *store, int64_t grace_ms, struct err *err);
int fs_open_raw(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		struct err *err);
int fs_set_aside(struct blob_store *store, const struct uuid *id, struct err *err);
int fs_mark(struct blob_store *store, struct buf *out, struct err *err);
int fs_set_mark(struct blob_store *store, const char *text, size_t n, struct err *err);
int fs_served(struct blob_store *store, struct err *err);
bool fs_make_buffered(int fd); /* takes O_DIRECT off; whether it was on */

/* Puts a description on an open file: as the attribute if it fits (1); 0: it needs a file of its own. -1 with errno. */
int fs_set_attribute(struct blob_filesystem *fs, int fd, const char *description, size_t n);
/* Makes the file of its own: synced, without a name. near as in temp_open(). -1 with errno, and nothing was made. */
int fs_make_meta(const struct blob_filesystem *fs, int near, const char *description, size_t n,
		 struct temp *out);
/* Appends such a file, from where it is read next. -1 with errno. */
int fs_read_meta(int fd, struct buf *out);
/* Removes everything in tmp/ that is older than grace_ms. How many. */
long fs_clean_tmp(struct blob_filesystem *fs, int64_t grace_ms);

#endif
