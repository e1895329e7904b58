/*
 * Descriptions of stored files: an attribute of the file, or a file beside it.
 *
 * Invariant: a description's own file, where there is one, is the description; the attribute counts without it alone. So once a
 * file of its own exists it is replaced, never the attribute beside it. Worker threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "blob_filesystem_private.h"

/* --- writing --- */

int fs_set_attribute(struct blob_filesystem *fs, int fd, const char *description, size_t n)
{
	if (!atomic_load(&fs->use_xattr) || n > 65536) /* XATTR_SIZE_MAX */
		return 0;
	int rc;
	do
		rc = fsetxattr(fd, BLOB_XATTR, description, n, 0);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 1;
	switch (errno) {
	case EOPNOTSUPP:
		atomic_store(&fs->use_xattr, false);
		return 0;
	case E2BIG: /* larger than any attribute */
	case ERANGE:
	case ENOSPC: /* ext4: larger than its one block; or the disk is full, as the file of its own will find out */
	case EDQUOT:
		return 0;
	default:
		return -1;
	}
}

int fs_make_meta(const struct blob_filesystem *fs, int near, const char *description, size_t n,
		 struct temp *out)
{
	if (temp_open(fs, near, out) < 0)
		return -1;
	if (write_all(out->fd, 0, description, n) == 0 && fs_fsync(out->fd) == 0)
		return 0;
	int saved = errno;
	temp_close(fs, out);
	errno = saved;
	return -1;
}

/* --- reading --- */

int fs_read_meta(int fd, struct buf *out)
{
	char piece[8192];
	for (;;) {
		ssize_t n = read(fd, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		buf_append(out, piece, (size_t)n);
		if (out->failed) {
			errno = EFBIG;
			return -1;
		}
	}
}

/* 1 found, 0 no attribute, -1 with errno. */
static int append_attribute(int fd, struct buf *out)
{
	for (;;) {
		ssize_t n = fgetxattr(fd, BLOB_XATTR, NULL, 0);
		if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
			return 0;
		if (n <= 0)
			return (int)n;
		char *value = malloc((size_t)n);
		if (!value)
			return -1;
		n = fgetxattr(fd, BLOB_XATTR, value, (size_t)n);
		if (n > 0)
			buf_append(out, value, (size_t)n);
		free(value);
		if (n < 0 && (errno == ERANGE || errno == EINTR)) /* it grew meanwhile */
			continue;
		if (n < 0 && errno == ENODATA)
			return 0;
		return n < 0 ? -1 : n > 0;
	}
}

/* Opens leaf and blob (and its description's own file, -1 where there is none). 1, 0 no such blob, -1. */
static int open_described(struct blob_filesystem *fs, const struct uuid *id, int *leaf, int *file,
			  int *meta, struct err *err)
{
	char name[UUID_TEXT_LEN + 1], meta_name[META_NAME_LEN + 1];
	uuid_format(id, name);
	fs_meta_name(id, meta_name);
	*file = *meta = -1;
	*leaf = fs_leaf_open(fs, id);
	if (*leaf >= 0)
		*file = fs_openat(fs, *leaf, name, O_RDONLY | O_NONBLOCK, 0);
	if (*file < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "open %s", name);
	*meta = fs_openat(fs, *leaf, meta_name, O_RDONLY | O_NONBLOCK, 0);
	if (*meta < 0 && errno != ENOENT)
		return err_set_errno(err, ERR_IO, "open %s", meta_name);
	return 1;
}

static void close_described(int leaf, int file, int meta)
{
	if (meta >= 0)
		close(meta);
	if (file >= 0)
		close(file);
	if (leaf >= 0)
		close(leaf);
}

int fs_description(struct blob_store *store, const struct uuid *id, struct buf *out,
		   struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	int leaf, file, meta;
	int rc = open_described(fs, id, &leaf, &file, &meta, err);
	if (rc == 1 && meta >= 0) {
		if (fs_read_meta(meta, out) < 0)
			rc = err_set_errno(err, ERR_IO, "description of a stored file");
	} else if (rc == 1) {
		rc = append_attribute(file, out);
		if (rc < 0)
			err_set_errno(err, ERR_IO, "description of a stored file");
	}
	close_described(leaf, file, meta);
	return rc;
}

static int replace_meta(struct blob_filesystem *fs, int leaf, const char *meta_name,
			const char *description, size_t n)
{
	struct temp temp;
	if (fs_make_meta(fs, leaf, description, n, &temp) < 0)
		return -1;
	int rc = temp_replace(fs, &temp, leaf, meta_name);
	if (rc == 0)
		rc = fs_fsync(leaf);
	int saved = errno;
	temp_close(fs, &temp);
	errno = saved;
	return rc;
}

int fs_describe(struct blob_store *store, const struct uuid *id, const char *description, size_t n,
		struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	char meta_name[META_NAME_LEN + 1];
	int leaf, file, meta;
	fs_meta_name(id, meta_name);
	int rc = open_described(fs, id, &leaf, &file, &meta, err);
	if (rc != 1)
		goto out;
	int fits = meta >= 0 ? 0 : fs_set_attribute(fs, file, description, n);
	if (fits < 0 || (fits == 1 && fs_fsync(file) < 0)) {
		rc = err_set_errno(err, ERR_IO, "setxattr on a stored file");
	} else if (fits == 0) {
		if (replace_meta(fs, leaf, meta_name, description, n) < 0)
			rc = err_set_errno(err, ERR_IO, "description of a stored file");
		else if (meta < 0)
			fremovexattr(
				file,
				BLOB_XATTR); /* stale now; were it to stay, it would not count */
	}
out:
	close_described(leaf, file, meta);
	return rc;
}
