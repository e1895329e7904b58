/*
 * Readers, descriptions and removal of the filesystem driver.
 *
 * Invariant: a description's own file, where there is one, is the description; the attribute counts without it alone. So once a
 * file of its own exists it is replaced, never the attribute beside it. Worker threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "blob_filesystem_space_private.h"

struct fs_reader {
	struct blob_reader base; /* first */
	int fd;
};

int fs_open(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
	    struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	char path[LEAF_NAME_LEN + 1 + UUID_TEXT_LEN + 1];
	fs_leaf_name(id, path);
	path[LEAF_NAME_LEN] = '/';
	uuid_format(id, path + LEAF_NAME_LEN + 1);

	int fd = fs_openat(fs, fs->objects, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_set_errno(err, ERR_IO, "open objects/%s", path);
	struct stat st;
	struct fs_reader *reader = NULL;
	if (fstat(fd, &st) < 0)
		err_set_errno(err, ERR_IO, "stat objects/%s", path);
	else if (!S_ISREG(st.st_mode))
		err_set(err, ERR_IO, "objects/%s is not a regular file", path);
	else if (!(reader = calloc(1, sizeof(*reader))))
		err_set(err, ERR_NO_MEMORY, "blob reader");
	if (!reader) {
		close(fd);
		return -1;
	}
	reader->base.store = store;
	reader->base.size = st.st_size;
	reader->fd = fd;
	*out = (struct blob_reader *)reader; /* its first member */
	return 1;
}

int fs_read(struct blob_reader *base, int64_t offset, void *data, size_t n, size_t *got,
	    struct err *err)
{
	struct fs_reader *reader = (struct fs_reader *)base;
	ssize_t done;
	do
		done = pread(reader->fd, data, n, offset);
	while (done < 0 && (errno == EINTR || (errno == EINVAL && fs_make_buffered(reader->fd))));
	if (done < 0)
		return err_set_errno(err, ERR_IO, "read of a stored file");
	*got = (size_t)done;
	return 0;
}

int fs_descriptor(const struct blob_reader *base)
{
	return ((const struct fs_reader *)base)->fd;
}

void fs_will_read(struct blob_reader *base, int64_t offset, int64_t n)
{
	int fd = ((struct fs_reader *)base)->fd;
	posix_fadvise(fd, offset, n, POSIX_FADV_SEQUENTIAL); /* doubles the read-ahead window */
	posix_fadvise(fd, offset, n < (1 << 20) ? n : 1 << 20, POSIX_FADV_WILLNEED);
}

void fs_reader_free(struct blob_reader *base)
{
	close(((struct fs_reader *)base)->fd);
	free(base);
}

/* --- the description --- */

/* Appends a whole small file. -1 with errno. */
static int append_file(int fd, struct buf *out)
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
		if (append_file(meta, out) < 0)
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
	if (temp_open(fs, leaf, &temp) < 0)
		return -1;
	int rc = -1;
	if (write_all(temp.fd, description, n) == 0 && fs_fsync(temp.fd) == 0 &&
	    temp_replace(fs, &temp, leaf, meta_name) == 0)
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

/* The bytes first: a description without bytes is swept away, bytes without a description would be a finding. */
int fs_remove(struct blob_store *store, const struct uuid *id, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	char name[META_NAME_LEN + 1];
	int rc = 1;
	int leaf = fs_leaf_open(fs, id);
	if (leaf < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "remove a stored file");
	uuid_format(id, name);
	if (fs_unlink(leaf, name) < 0)
		rc = errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "remove %s", name);
	fs_meta_name(id, name);
	if (rc >= 0 && fs_unlink(leaf, name) < 0 && errno != ENOENT)
		rc = err_set_errno(err, ERR_IO, "remove %s", name);
	close(leaf);
	fs_space_look(fs);
	return rc;
}
