/* Readers and removal of the filesystem driver. Worker threads only. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
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
