/*
 * The blob store on a directory: opening and closing it, its space, its probe. See blob_filesystem_private.h for the layout.
 *
 * Everything below the data directory is opened beneath it without following symbolic links; files are 0600, directories 0700;
 * names are ids, never what a user typed. Worker threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_filesystem_space_private.h"

/*
 * XFS shuts itself down when its log cannot be written. fsync() of a directory returns 0 then, though a name in it is lost; fstat()
 * says EIO. So what was synced is looked at: what was durable before the shutdown is refused as well, which costs no promise.
 */
int fs_still_there(int fd)
{
	struct stat st;
	return fstat(fd, &st);
}

int fs_unlink(int dir, const char *name)
{
	int rc;
	do
		rc = unlinkat(dir, name, 0);
	while (rc < 0 && errno == EINTR);
	return rc;
}

int fs_fsync(int fd)
{
	int rc;
	do
		rc = fsync(fd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? rc : fs_still_there(fd);
}

static int fs_probe(struct blob_store *store, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	struct temp temp;
	/* In objects/, where uploads go: it must be there and writable. */
	if (temp_open(fs, fs->objects, &temp) < 0)
		return err_set_errno(err, ERR_IO, "the data directory takes no new file");
	int rc = 0;
	if (write_all(temp.fd, 0, "probe\n", 6) < 0 || fs_fsync(temp.fd) < 0)
		rc = err_set_errno(err, ERR_IO, "the data directory takes no bytes");
	temp_close(fs, &temp);
	return rc;
}

static void fs_close(struct blob_store *store)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	int *fds[] = {&fs->tmp, &fs->objects, &fs->root, &fs->lock_file};
	fs_leaves_release(fs);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (*fds[i] >= 0)
			close(*fds[i]); /* the last one is the lock */
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

static const struct blob_driver filesystem_driver = {
	.name = "filesystem",
	.close = fs_close,
	.reserve = fs_reserve,
	.unreserve = fs_unreserve,
	.create = fs_create,
	.claim = fs_claim,
	.fill = fs_fill,
	.first = fs_first,
	.seal = fs_seal,
	.publish = fs_publish,
	.discard = fs_discard,
	.place = fs_place,
	.sync = fs_sync,
	.restore = fs_restore,
	.open = fs_open,
	.read = fs_read,
	.descriptor = fs_descriptor,
	.will_read = fs_will_read,
	.reader_free = fs_reader_free,
	.description = fs_description,
	.describe = fs_describe,
	.remove = fs_remove,
	.walk = fs_walk,
	.clean = fs_clean,
	.space = fs_space,
	.probe = fs_probe,
	.open_raw = fs_open_raw,
	.set_aside = fs_set_aside,
	.mark = fs_mark,
	.set_mark = fs_set_mark,
	.served = fs_served,
};

/* Syncs the directory that a path's last component stands in, so that a directory just made is there after a power cut. */
static int sync_parent(const char *path, struct err *err)
{
	char *copy = strdup(path);
	if (!copy)
		return err_set(err, ERR_NO_MEMORY, "data directory");
	char *slash = strrchr(copy, '/');
	const char *parent = ".";
	if (slash) {
		slash[slash == copy ? 1 : 0] = '\0';
		parent = copy;
	}
	int rc = 0, fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fs_fsync(fd) < 0)
		rc = err_set_errno(err, ERR_IO, "fsync %s", parent);
	if (fd >= 0)
		close(fd);
	free(copy);
	return rc;
}

/* mkdir -p, each one made synced into its parent. */
static int make_path(const char *directory, struct err *err)
{
	char *path = strdup(directory);
	if (!path)
		return err_set(err, ERR_NO_MEMORY, "data directory");
	int rc = 0;
	for (char *at = path + 1; rc == 0; at++) {
		if (*at != '/' && *at != '\0')
			continue;
		char end = *at;
		*at = '\0';
		if (mkdir(path, 0700) == 0)
			rc = sync_parent(path, err);
		else if (errno != EEXIST)
			rc = err_set_errno(err, ERR_IO, "cannot make the data directory %s", path);
		*at = end;
		if (end == '\0' || at[1] == '\0')
			break;
	}
	free(path);
	return rc;
}

/* Whether the open directory is where a file system is mounted; statx() knows bind mounts too, st_dev does not. */
static bool is_mount_point(int root)
{
	struct statx stx;
	if (statx(root, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) == 0 &&
	    (stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT))
		return (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
	struct stat here, above;
	return fstat(root, &here) == 0 && fstatat(root, "..", &above, 0) == 0 &&
	       (here.st_dev != above.st_dev || here.st_ino == above.st_ino);
}

static int open_root(struct blob_filesystem *fs, const struct blob_filesystem_config *config,
		     struct err *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	fs->root = open(config->directory, flags);
	if (fs->root < 0 && errno == ENOENT && !config->require_mount) {
		if (make_path(config->directory, err) < 0)
			return -1;
		fs->root = open(config->directory, flags);
	}
	if (fs->root < 0)
		return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO,
				     "data directory %s", config->directory);
	if (config->require_mount && !is_mount_point(fs->root))
		return err_set(err, ERR_NOT_FOUND,
			       "data directory %s is not a mount of its own, as "
			       "storage.require_mount wants it: "
			       "is the volume attached?",
			       config->directory);
	return 0;
}

/* Opens, or makes and opens, a directory right below the root. */
static int open_below(struct blob_filesystem *fs, const char *name, int *out, struct err *err)
{
	if (mkdirat(fs->root, name, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, ERR_IO, "mkdir %s in the data directory", name);
	*out = fs_openat(fs, fs->root, name, O_RDONLY | O_DIRECTORY, 0);
	if (*out < 0)
		return err_set_errno(err, ERR_IO, "%s in the data directory", name);
	return 0;
}

static int take_lock(struct blob_filesystem *fs, const char *directory, struct err *err)
{
	fs->lock_file = fs_openat(fs, fs->root, ".lock", O_RDWR | O_CREAT, 0600);
	if (fs->lock_file < 0)
		return err_set_errno(err, ERR_IO, ".lock in the data directory");
	int rc;
	do
		rc = flock(fs->lock_file, LOCK_EX | LOCK_NB);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno == EWOULDBLOCK)
		return err_set(err, ERR_CONFLICT, "another depotd serves %s", directory);
	if (rc < 0)
		return err_set_errno(err, ERR_IO, "flock .lock in the data directory");
	return 0;
}

/*
 * Finds out once whether a file can be born without a name and get one later: the file system must know O_TMPFILE, and /proc
 * must be there for linkat() (AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH).
 */
static void try_tmpfile(struct blob_filesystem *fs)
{
	struct temp temp;
	char name[TEMP_NAME_LEN + 8];
	fs->use_tmpfile = true;
	if (temp_open(fs, fs->tmp, &temp) == 0) {
		snprintf(name, sizeof(name), "try-%ld", (long)getpid());
		fs->use_tmpfile = temp_link(fs, &temp, fs->tmp, name) == 0;
		unlinkat(fs->tmp, name, 0);
		temp_close(fs, &temp);
	} else {
		fs->use_tmpfile = false;
	}
}

static int open_all(struct blob_filesystem *fs, const struct blob_filesystem_config *config,
		    struct err *err)
{
	if (open_root(fs, config, err) < 0)
		return -1;
	if (config->exclusive && take_lock(fs, config->directory, err) < 0)
		return -1;
	if (open_below(fs, "objects", &fs->objects, err) < 0 ||
	    open_below(fs, "tmp", &fs->tmp, err) < 0)
		return -1;
	if (fs_fsync(fs->root) < 0)
		return err_set_errno(err, ERR_IO, "fsync %s", config->directory);
	if (config->exclusive)
		fs_clean_tmp(fs, 0);
	if (!(config->without & BLOB_WITHOUT_TMPFILE))
		try_tmpfile(fs);
	return 0;
}

int blob_filesystem_open(const struct blob_filesystem_config *config, struct blob_store **out,
			 struct err *err)
{
	struct blob_filesystem *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return err_set(err, ERR_NO_MEMORY, "blob store");
	fs->base.driver = &filesystem_driver;
	fs->root = fs->objects = fs->tmp = fs->lock_file = -1;
	fs->use_openat2 = !(config->without & BLOB_WITHOUT_OPENAT2);
	atomic_init(&fs->use_xattr, !(config->without & BLOB_WITHOUT_XATTR));
	atomic_init(&fs->use_writeback, true);
	pthread_mutex_init(&fs->lock, NULL);
	if (open_all(fs, config, err) < 0) {
		fs_close(&fs->base);
		return -1;
	}
	fs_space_init(fs, config->reserve, !(config->without & BLOB_WITHOUT_FALLOCATE));
	*out = &fs->base;
	return 0;
}
