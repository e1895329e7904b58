/*
 * What upkeep asks of the filesystem driver: reading past the page cache, setting aside, the mark, who serves. Worker threads
 * and the command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_filesystem_private.h"
#include "depotd/blob/upkeep.h"

#define MARK_FILE ".mark"
#define ASIDE "aside"

/*
 * O_DIRECT reads the disk and leaves the page cache as it is, what is served the most included. Where a file system has it not
 * (tmpfs) the file's pages are dropped instead, which comes as near as can be.
 */
int fs_open_raw(struct blob_store *store, const struct uuid *id, struct blob_reader **out,
		struct err *err)
{
	int rc = fs_open(store, id, out, err);
	if (rc != 1)
		return rc;
	int fd = fs_descriptor(*out);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 1;
}

bool fs_make_buffered(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && (flags & O_DIRECT) && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

/* --- setting aside --- */

static int open_aside(struct blob_filesystem *fs)
{
	if (mkdirat(fs->root, ASIDE, 0700) == 0) {
		if (fs_fsync(fs->root) < 0)
			return -1;
	} else if (errno != EEXIST) {
		return -1;
	}
	return fs_openat(fs, fs->root, ASIDE, O_RDONLY | O_DIRECTORY, 0);
}

/* The description first: bytes that a crash leaves behind without it can be set aside again. 1, 0 absent, -1 with errno. */
static int move_both(int leaf, int aside, const struct uuid *id)
{
	char name[META_NAME_LEN + 1];
	fs_meta_name(id, name);
	if (renameat(leaf, name, aside, name) < 0 && errno != ENOENT)
		return -1;
	uuid_format(id, name);
	if (renameat(leaf, name, aside, name) < 0)
		return errno == ENOENT ? 0 : -1;
	return fs_fsync(aside) < 0 || fs_fsync(leaf) < 0 ? -1 : 1;
}

int fs_set_aside(struct blob_store *store, const struct uuid *id, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	int rc, aside = -1;
	int leaf = fs_leaf_open(fs, id);
	if (leaf < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "set a file aside");
	aside = open_aside(fs);
	rc = aside < 0 ? -1 : move_both(leaf, aside, id);
	if (rc < 0)
		err_set_errno(err, ERR_IO, "set a file aside");
	if (aside >= 0)
		close(aside);
	close(leaf);
	return rc;
}

/* --- the mark --- */

int fs_mark(struct blob_store *store, struct buf *out, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	char text[BLOB_MARK_MAX];
	int fd = fs_openat(fs, fs->root, MARK_FILE, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "open " MARK_FILE);
	ssize_t n;
	do
		n = read(fd, text, sizeof(text));
	while (n < 0 && errno == EINTR);
	int rc = n < 0 ? err_set_errno(err, ERR_IO, "read " MARK_FILE) : 1;
	if (n > 0)
		buf_append(out, text, (size_t)n);
	close(fd);
	return rc;
}

/*
 * A text of the same length goes over the old one: a few bytes in one sector, which a disk writes whole or not at all. It
 * changes no metadata, so this sync waits for no other writer, however often it comes. 1 done, 0 not so, -1 with errno.
 */
static int overwrite_mark(struct blob_filesystem *fs, const char *text, size_t n)
{
	struct stat st;
	int rc = 0;
	int fd = fs_openat(fs, fs->root, MARK_FILE, O_RDWR | O_NONBLOCK, 0);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)n) {
		ssize_t written = pwrite(fd, text, n, 0);
		if (written == (ssize_t)n)
			rc = fdatasync(fd) < 0 ? -1 : 1;
		else if (written < 0 && errno != EINTR)
			rc = -1;
	}
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

int fs_set_mark(struct blob_store *store, const char *text, size_t n, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	struct temp temp;
	int over = overwrite_mark(fs, text, n);
	if (over != 0)
		return over > 0 ? 0
				: err_set_errno(err, ERR_IO, MARK_FILE " in the data directory");
	if (temp_open(fs, fs->root, &temp) < 0)
		return err_set_errno(err, ERR_IO, MARK_FILE " in the data directory");
	int rc = 0;
	if (write_all(temp.fd, 0, text, n) < 0 || fs_fsync(temp.fd) < 0 ||
	    temp_replace(fs, &temp, fs->root, MARK_FILE) < 0 || fs_fsync(fs->root) < 0)
		rc = err_set_errno(err, ERR_IO, MARK_FILE " in the data directory");
	temp_close(fs, &temp);
	return rc;
}

/* --- who serves --- */

/* A daemon that starts in this very moment is told that another serves: it is held for a few instructions. */
int fs_served(struct blob_store *store, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	if (fs->lock_file >= 0)
		return 0; /* we are the one */
	int fd = fs_openat(fs, fs->root, ".lock", O_RDONLY, 0);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "open .lock");
	int rc;
	do
		rc = flock(fd, LOCK_SH | LOCK_NB);
	while (rc < 0 && errno == EINTR);
	rc = rc == 0 ? 0 : errno == EWOULDBLOCK ? 1 : err_set_errno(err, ERR_IO, "flock .lock");
	close(fd);
	return rc;
}
