/*
 * Paths below the data directory: opening them safely, the leaf directories, files that have no name yet.
 *
 * Invariant: no name given here comes from outside; even so, nothing below the data directory is reached through a symbolic
 * link or a `..`, so that whoever can plant one there gains nothing. Worker threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "depotd/base/digest.h"

#include "blob_filesystem_private.h"

/*
 * For kernels before 5.6 and for sandboxes that answer ENOSYS to openat2(): one component at a time, each with O_NOFOLLOW, which
 * forbids links on the way as well, since the path never has more than what is between two slashes.
 */
static int openat_stepwise(int dir, const char *path, int flags, mode_t mode)
{
	char step[64];
	const char *slash;
	int at = dir;
	while ((slash = strchr(path, '/'))) {
		size_t n = (size_t)(slash - path);
		if (n == 0 || n >= sizeof(step) || (path[0] == '.' && n < 3)) {
			errno = EINVAL;
			goto failed;
		}
		memcpy(step, path, n);
		step[n] = '\0';
		int next = openat(at, step, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (at != dir)
			close(at);
		at = next;
		if (at < 0)
			return -1;
		path = slash + 1;
	}
	int fd = openat(at, path, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	if (at != dir) {
		int saved = errno;
		close(at);
		errno = saved;
	}
	return fd;
failed:
	if (at != dir)
		close(at);
	errno = EINVAL;
	return -1;
}

int fs_openat(const struct blob_filesystem *fs, int dir, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	long fd = -1;
	errno = ENOSYS;
	/* EAGAIN: something was renamed while the kernel looked; it asks to be asked again. */
	for (int tries = 0; fs->use_openat2 && tries < 64; tries++) {
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EINTR && errno != EAGAIN))
			break;
	}
	if (fd >= 0 || errno != ENOSYS)
		return (int)fd;
	do
		fd = openat_stepwise(dir, path, flags, mode);
	while (fd < 0 && errno == EINTR);
	return (int)fd;
}

void fs_leaf_name(const struct uuid *id, char out[LEAF_NAME_LEN + 1])
{
	char text[UUID_TEXT_LEN + 1];
	uuid_format(id, text);
	memcpy(out, text, 5);
	out[5] = '/';
	memcpy(out + 6, text + 5, 3);
	out[LEAF_NAME_LEN] = '\0';
}

void fs_meta_name(const struct uuid *id, char out[META_NAME_LEN + 1])
{
	uuid_format(id, out);
	memcpy(out + UUID_TEXT_LEN, ".meta", sizeof(".meta"));
}

int fs_leaf_open(const struct blob_filesystem *fs, const struct uuid *id)
{
	char name[LEAF_NAME_LEN + 1];
	fs_leaf_name(id, name);
	return fs_openat(fs, fs->objects, name, O_RDONLY | O_DIRECTORY, 0);
}

/* --- the cache of leaves --- */

static void unref_locked(struct leaf *leaf)
{
	if (--leaf->refs > 0)
		return;
	close(leaf->fd);
	free(leaf);
}

static struct leaf *find_locked(struct blob_filesystem *fs, const char *name)
{
	for (size_t i = 0; i < LEAF_CACHE; i++) {
		struct leaf *leaf = fs->leaves[i];
		if (leaf && memcmp(leaf->name, name, LEAF_NAME_LEN) == 0) {
			leaf->used = ++fs->tick;
			leaf->refs++;
			return leaf;
		}
	}
	return NULL;
}

static void insert_locked(struct blob_filesystem *fs, struct leaf *leaf)
{
	size_t oldest = 0;
	for (size_t i = 0; i < LEAF_CACHE; i++) {
		if (!fs->leaves[i]) {
			oldest = i;
			break;
		}
		if (fs->leaves[i]->used < fs->leaves[oldest]->used)
			oldest = i;
	}
	if (fs->leaves[oldest])
		unref_locked(fs->leaves[oldest]);
	leaf->used = ++fs->tick;
	leaf->refs++;
	fs->leaves[oldest] = leaf;
}

/* Makes both levels where they are missing. The sweep may remove an empty one at any instant: then once more. */
static int make_and_open(struct blob_filesystem *fs, const char *name)
{
	for (int tries = 0; tries < 64; tries++) {
		char first[6];
		memcpy(first, name, 5);
		first[5] = '\0';
		if (mkdirat(fs->objects, first, 0700) < 0 && errno != EEXIST)
			return -1;
		int parent = fs_openat(fs, fs->objects, first, O_RDONLY | O_DIRECTORY, 0);
		if (parent >= 0) {
			int fd = -1;
			if (mkdirat(parent, name + 6, 0700) == 0 || errno == EEXIST)
				fd = fs_openat(fs, parent, name + 6, O_RDONLY | O_DIRECTORY, 0);
			int saved = errno;
			close(parent);
			errno = saved;
			if (fd >= 0)
				return fd;
		}
		if (errno != ENOENT)
			return -1;
	}
	return -1;
}

int fs_leaf_get(struct blob_filesystem *fs, const struct uuid *id, struct leaf **out,
		struct err *err)
{
	char name[LEAF_NAME_LEN + 1];
	fs_leaf_name(id, name);
	pthread_mutex_lock(&fs->lock);
	struct leaf *leaf = find_locked(fs, name);
	pthread_mutex_unlock(&fs->lock);
	if (leaf) {
		*out = leaf;
		return 0;
	}
	int fd = make_and_open(fs, name);
	if (fd < 0)
		return err_set_errno(err, ERR_IO, "cannot make objects/%s", name);
	struct leaf *fresh = calloc(1, sizeof(*fresh));
	if (!fresh) {
		close(fd);
		return err_set(err, ERR_NO_MEMORY, "objects/%s", name);
	}
	memcpy(fresh->name, name, sizeof(fresh->name));
	fresh->fd = fd;
	fresh->refs = 1;
	/*
	 * That it is there does not say that it is durable: who made it may have been killed before syncing its parent. So each
	 * process syncs the parents of each leaf once, when it first publishes into it.
	 */
	atomic_init(&fresh->durable, false);
	pthread_mutex_lock(&fs->lock);
	leaf = find_locked(fs, name);
	if (leaf) {
		unref_locked(fresh);
	} else {
		insert_locked(fs, fresh);
		leaf = fresh;
	}
	pthread_mutex_unlock(&fs->lock);
	*out = leaf;
	return 0;
}

void fs_leaf_put(struct blob_filesystem *fs, struct leaf **leaf)
{
	if (!*leaf)
		return;
	pthread_mutex_lock(&fs->lock);
	unref_locked(*leaf);
	pthread_mutex_unlock(&fs->lock);
	*leaf = NULL;
}

void fs_leaf_forget(struct blob_filesystem *fs, struct leaf *leaf)
{
	pthread_mutex_lock(&fs->lock);
	for (size_t i = 0; i < LEAF_CACHE; i++)
		if (fs->leaves[i] == leaf) {
			fs->leaves[i] = NULL;
			unref_locked(leaf); /* not the last: who calls this holds one */
			break;
		}
	pthread_mutex_unlock(&fs->lock);
}

int fs_leaf_sync(struct blob_filesystem *fs, struct leaf *leaf, struct err *err)
{
	if (fs_fsync(leaf->fd) < 0)
		return err_set_errno(err, ERR_IO, "fsync objects/%s", leaf->name);
	if (atomic_load(&leaf->durable))
		return 0;
	char first[6];
	memcpy(first, leaf->name, 5);
	first[5] = '\0';
	int parent = fs_openat(fs, fs->objects, first, O_RDONLY | O_DIRECTORY, 0);
	int rc = 0;
	if (parent < 0 || fs_fsync(parent) < 0)
		rc = err_set_errno(err, ERR_IO, "fsync objects/%s", first);
	else if (fs_fsync(fs->objects) < 0)
		rc = err_set_errno(err, ERR_IO, "fsync objects");
	else
		atomic_store(&leaf->durable, true);
	if (parent >= 0)
		close(parent);
	return rc;
}

/* Under the lock, so that no writer can get the leaf from the cache meanwhile. One that opens it afresh finds out by ENOENT. */
int fs_leaf_remove(struct blob_filesystem *fs, int parent, const char *leaf_name, const char *last)
{
	int removed = 0;
	pthread_mutex_lock(&fs->lock);
	struct leaf *cached = find_locked(fs, leaf_name);
	if (!cached)
		removed = unlinkat(parent, last, AT_REMOVEDIR) == 0;
	else
		unref_locked(cached);
	pthread_mutex_unlock(&fs->lock);
	return removed;
}

void fs_leaves_release(struct blob_filesystem *fs)
{
	for (size_t i = 0; i < LEAF_CACHE; i++)
		if (fs->leaves[i]) {
			unref_locked(fs->leaves[i]);
			fs->leaves[i] = NULL;
		}
}

/* --- files without a name --- */

static int random_name(char out[TEMP_NAME_LEN + 1])
{
	unsigned char bytes[TEMP_NAME_LEN / 2];
	ssize_t n;
	do
		n = getrandom(bytes, sizeof(bytes), 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(bytes))
		return -1;
	hex_encode(bytes, sizeof(bytes), out);
	return 0;
}

int temp_open(const struct blob_filesystem *fs, int near, struct temp *out)
{
	out->name[0] = '\0';
	if (fs->use_tmpfile) {
		do
			out->fd = openat(near, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		while (out->fd < 0 && errno == EINTR);
		return out->fd < 0 ? -1 : 0;
	}
	if (random_name(out->name) < 0)
		return -1;
	out->fd = fs_openat(fs, fs->tmp, out->name, O_RDWR | O_CREAT | O_EXCL, 0600);
	return out->fd < 0 ? -1 : 0;
}

static int link_by_descriptor(int fd, int dir, const char *name)
{
	char path[sizeof("/proc/self/fd/") + 12];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW);
}

int temp_link(const struct blob_filesystem *fs, struct temp *temp, int dir, const char *name)
{
	if (temp->name[0] == '\0')
		return link_by_descriptor(temp->fd, dir, name);
	if (renameat2(fs->tmp, temp->name, dir, name, RENAME_NOREPLACE) == 0) {
		temp->name[0] = '\0';
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without RENAME_NOREPLACE: link() does not replace either. */
	if (linkat(fs->tmp, temp->name, dir, name, 0) < 0)
		return -1;
	unlinkat(fs->tmp, temp->name, 0); /* left over, it goes at the next start */
	temp->name[0] = '\0';
	return 0;
}

int temp_replace(const struct blob_filesystem *fs, struct temp *temp, int dir, const char *name)
{
	/* linkat() cannot replace, rename() needs a name to rename from. */
	if (temp->name[0] == '\0') {
		char fresh[TEMP_NAME_LEN + 1];
		if (random_name(fresh) < 0 || link_by_descriptor(temp->fd, fs->tmp, fresh) < 0)
			return -1;
		memcpy(temp->name, fresh, sizeof(fresh));
	}
	if (renameat(fs->tmp, temp->name, dir, name) < 0)
		return -1;
	temp->name[0] = '\0';
	return 0;
}

void temp_close(const struct blob_filesystem *fs, struct temp *temp)
{
	if (temp->fd < 0)
		return;
	if (temp->name[0] != '\0')
		unlinkat(fs->tmp, temp->name, 0);
	close(temp->fd);
	temp->fd = -1;
	temp->name[0] = '\0';
}

int write_all(int fd, int64_t offset, const void *data, size_t n)
{
	const char *at = data;
	while (n > 0) {
		ssize_t done = pwrite(fd, at, n, offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		at += done;
		offset += done;
		n -= (size_t)done;
	}
	return 0;
}
