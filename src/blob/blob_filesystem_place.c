/*
 * Small blobs whose bytes a journal holds: made under their name at once, synced all together later, or made again from the
 * journal. Worker threads only.
 *
 * Invariants: what place() leaves behind after a failure is nothing; a file that a crash has torn is never taken for a whole one,
 * since the journal is replayed before anybody looks; restore() replaces by rename, so that a reader sees one or the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_filesystem_space_private.h"

enum { TRIES = 64 };

/* Makes the named file, in a leaf that the sweep may remove at any instant while it is empty. The descriptor, or -1. */
static int make_named(struct blob_filesystem *fs, const struct uuid *id, struct leaf **leaf,
		      struct err *err)
{
	char name[UUID_TEXT_LEN + 1];
	uuid_format(id, name);
	for (int tries = 0;; tries++) {
		if (fs_leaf_get(fs, id, leaf, err) < 0)
			return -1;
		/* One component without a link at its end: openat2() has nothing to add. */
		int fd = openat((*leaf)->fd, name,
				O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			return fd;
		if ((errno != ENOENT && errno != EINTR) || tries >= TRIES) {
			err_set_errno(err, errno == EEXIST ? ERR_CONFLICT : ERR_IO,
				      "cannot create a file in objects/%s", (*leaf)->name);
			fs_leaf_put(fs, leaf);
			return -1;
		}
		if (errno == ENOENT)
			fs_leaf_forget(fs, *leaf);
		fs_leaf_put(fs, leaf);
	}
}

int fs_place(struct blob_store *store, const struct uuid *id, struct blob_reservation *room,
	     const void *data, size_t n, const char *description, size_t description_n,
	     struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	char name[UUID_TEXT_LEN + 1];
	struct leaf *leaf = NULL;
	if (!atomic_load(&fs->use_xattr))
		return 0;
	int64_t beyond = (int64_t)n - (room ? room->left : 0);
	if (beyond > 0 && fs_check_space(fs, fs_pledged(fs) + beyond, err) < 0)
		return -1;
	int fd = make_named(fs, id, &leaf, err);
	if (fd < 0)
		return -1;
	int rc = fs_set_attribute(fs, fd, description, description_n);
	if (rc == 1 && write_all(fd, 0, data, n) < 0)
		rc = -1;
	if (rc < 0)
		err_set_errno(err, ERR_IO, "write in objects/%s", leaf->name);
	if (close(fd) < 0 && rc == 1 && errno != EINTR)
		rc = err_set_errno(err, ERR_IO, "close in objects/%s", leaf->name);
	if (rc != 1) {
		uuid_format(id, name);
		unlinkat(leaf->fd, name, 0);
	} else {
		fs_take_unpromised(fs, (int64_t)n - fs_take(fs, room, (int64_t)n));
	}
	fs_leaf_put(fs, &leaf);
	return rc;
}

/* One call for all files and directories; since Linux 5.8 it reports what write-back met since the last one. */
int fs_sync(struct blob_store *store, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	int rc;
	do
		rc = syncfs(fs->objects);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		rc = fs_still_there(fs->objects);
	return rc < 0 ? err_set_errno(err, ERR_IO, "syncfs of the data directory") : 0;
}

/* Gives the synced files their names, over whatever has them. */
static int replace(struct blob_filesystem *fs, const struct uuid *id, struct leaf *leaf,
		   struct temp *file, struct temp *meta, struct err *err)
{
	char name[UUID_TEXT_LEN + 1], meta_name[META_NAME_LEN + 1];
	uuid_format(id, name);
	fs_meta_name(id, meta_name);
	if ((meta->fd >= 0 && temp_replace(fs, meta, leaf->fd, meta_name) < 0) ||
	    temp_replace(fs, file, leaf->fd, name) < 0)
		return err_set_errno(err, ERR_IO, "rename in objects/%s", leaf->name);
	if (meta->fd < 0)
		unlinkat(leaf->fd, meta_name, 0); /* it would win over the attribute */
	return fs_leaf_sync(fs, leaf, err);
}

int fs_restore(struct blob_store *store, const struct uuid *id, const void *data, size_t n,
	       const char *description, size_t description_n, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	struct temp file = {.fd = -1}, meta = {.fd = -1};
	struct leaf *leaf = NULL;
	int rc = -1;
	if (fs_leaf_get(fs, id, &leaf, err) < 0)
		return -1;
	if (temp_open(fs, leaf->fd, &file) < 0 || write_all(file.fd, 0, data, n) < 0) {
		err_set_errno(err, ERR_IO, "write in objects/%s", leaf->name);
		goto out;
	}
	int described = fs_set_attribute(fs, file.fd, description, description_n);
	if (described < 0 ||
	    (described == 0 && fs_make_meta(fs, leaf->fd, description, description_n, &meta) < 0)) {
		err_set_errno(err, ERR_IO, "description in objects/%s", leaf->name);
		goto out;
	}
	if (fs_fsync(file.fd) < 0)
		err_set_errno(err, ERR_IO, "fsync in objects/%s", leaf->name);
	else
		rc = replace(fs, id, leaf, &file, &meta, err);
out:
	temp_close(fs, &file);
	temp_close(fs, &meta);
	fs_leaf_put(fs, &leaf);
	return rc;
}
