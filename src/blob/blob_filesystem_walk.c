/*
 * Walking and cleaning the filesystem driver's directories, with millions of files in them and under change.
 *
 * Invariants: memory is constant (three open directories); what disappears under the walk is passed over; only what stands
 * where its own id says is a blob. Worker threads only; any number of walks at once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depotd/base/clock.h"

#include "blob_filesystem_private.h"

/* Opens a directory below dir to be read; NULL with errno. */
static DIR *open_listing(const struct blob_filesystem *fs, int dir, const char *name)
{
	int fd = fs_openat(fs, dir, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return NULL;
	DIR *listing = fdopendir(fd);
	if (!listing) {
		int saved = errno;
		close(fd);
		errno = saved;
	}
	return listing;
}

/* The next entry that is not . or ..; NULL at the end (errno 0) or on failure. */
static struct dirent *next_entry(DIR *listing)
{
	struct dirent *entry;
	do {
		errno = 0;
		entry = readdir(listing);
	} while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry;
}

static bool is_hex(const char *name, size_t n)
{
	return strlen(name) == n && strspn(name, "0123456789abcdef") == n;
}

static int64_t changed_ms(const struct stat *st)
{
	/* ctime: linking, describing and writing all move it, and no one can set it back. */
	return (int64_t)st->st_ctim.tv_sec * 1000 + st->st_ctim.tv_nsec / 1000000;
}

/* What is done with each leaf directory; non-zero ends the walk. */
typedef int (*leaf_fn)(struct blob_filesystem *fs, int parent, const char *leaf_name, DIR *leaf,
		       void *context, struct err *err);

/* One XXXXX directory. A DIR that vanished is as good as an empty one. */
static int each_leaf_in(struct blob_filesystem *fs, const char *first, leaf_fn visit, void *context,
			struct err *err)
{
	DIR *middle = open_listing(fs, fs->objects, first);
	if (!middle)
		return errno == ENOENT ? 0 : err_set_errno(err, ERR_IO, "objects/%s", first);
	char name[LEAF_NAME_LEN + 1];
	struct dirent *entry;
	int rc = 0;
	while (rc == 0 && (entry = next_entry(middle))) {
		if (!is_hex(entry->d_name, 3))
			continue;
		memcpy(name, first, 5);
		name[5] = '/';
		memcpy(name + 6, entry->d_name, 4);
		DIR *leaf = open_listing(fs, dirfd(middle), entry->d_name);
		if (leaf) {
			rc = visit(fs, dirfd(middle), name, leaf, context, err);
			closedir(leaf);
		} else if (errno != ENOENT && errno != ENOTDIR) {
			rc = err_set_errno(err, ERR_IO, "objects/%s", name);
		}
		errno = 0;
	}
	if (rc == 0 && errno != 0)
		rc = err_set_errno(err, ERR_IO, "readdir objects/%s", first);
	closedir(middle);
	return rc;
}

/* Calls `emptied` (may be NULL) after each XXXXX directory, with its name. */
static int each_leaf(struct blob_filesystem *fs, leaf_fn visit,
		     void (*emptied)(struct blob_filesystem *fs, const char *first), void *context,
		     struct err *err)
{
	DIR *top = open_listing(fs, fs->root, "objects");
	if (!top)
		return err_set_errno(err, ERR_IO, "objects");
	struct dirent *entry;
	int rc = 0;
	while (rc == 0 && (entry = next_entry(top))) {
		if (!is_hex(entry->d_name, 5))
			continue;
		rc = each_leaf_in(fs, entry->d_name, visit, context, err);
		if (rc == 0 && emptied)
			emptied(fs, entry->d_name);
		errno = 0;
	}
	if (rc == 0 && errno != 0)
		rc = err_set_errno(err, ERR_IO, "readdir objects");
	closedir(top);
	return rc;
}

/* --- walk --- */

struct walk {
	blob_visit_fn visit;
	void *context;
};

static bool belongs(const struct uuid *id, const char *name, const char *leaf_name)
{
	char text[UUID_TEXT_LEN + 1], home[LEAF_NAME_LEN + 1];
	uuid_format(id, text);
	fs_leaf_name(id, home);
	return strcmp(text, name) == 0 && strcmp(home, leaf_name) == 0;
}

static int walk_leaf(struct blob_filesystem *fs, int parent, const char *leaf_name, DIR *leaf,
		     void *context, struct err *err)
{
	struct walk *walk = context;
	struct dirent *entry;
	(void)fs;
	(void)parent;
	while ((entry = next_entry(leaf))) {
		struct blob_info info;
		struct stat st;
		if (!uuid_parse(entry->d_name, &info.id) ||
		    !belongs(&info.id, entry->d_name, leaf_name))
			continue;
		if (fstatat(dirfd(leaf), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			return err_set_errno(err, ERR_IO, "stat objects/%s/%s", leaf_name,
					     entry->d_name);
		}
		if (!S_ISREG(st.st_mode))
			continue;
		info.size = st.st_size;
		info.modified_ms = changed_ms(&st);
		int rc = walk->visit(walk->context, &info);
		if (rc != 0)
			return rc;
	}
	if (errno != 0)
		return err_set_errno(err, ERR_IO, "readdir objects/%s", leaf_name);
	return 0;
}

int fs_walk(struct blob_store *store, blob_visit_fn visit, void *context, struct err *err)
{
	struct walk walk = {visit, context};
	return each_leaf((struct blob_filesystem *)store, walk_leaf, NULL, &walk, err);
}

/* --- clean --- */

struct clean {
	int64_t before_ms; /* what changed later than this is left alone */
	long removed;
};

/* A description whose blob is gone (a crash between the two steps of removal) and that has been so for long. */
static bool is_stray(int leaf, const char *name, int64_t before_ms)
{
	char blob[UUID_TEXT_LEN + 1];
	struct uuid id;
	struct stat st;
	if (strlen(name) != META_NAME_LEN || strcmp(name + UUID_TEXT_LEN, ".meta") != 0)
		return false;
	memcpy(blob, name, UUID_TEXT_LEN);
	blob[UUID_TEXT_LEN] = '\0';
	return uuid_parse(blob, &id) && fstatat(leaf, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       changed_ms(&st) <= before_ms && fstatat(leaf, blob, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	       errno == ENOENT;
}

static int clean_leaf(struct blob_filesystem *fs, int parent, const char *leaf_name, DIR *leaf,
		      void *context, struct err *err)
{
	struct clean *clean = context;
	struct dirent *entry;
	struct stat st;
	bool empty = true;
	(void)err;
	while ((entry = next_entry(leaf))) {
		if (is_stray(dirfd(leaf), entry->d_name, clean->before_ms) &&
		    unlinkat(dirfd(leaf), entry->d_name, 0) == 0)
			clean->removed++;
		else
			empty = false;
	}
	if (empty && fstat(dirfd(leaf), &st) == 0 && changed_ms(&st) <= clean->before_ms)
		clean->removed += fs_leaf_remove(fs, parent, leaf_name, leaf_name + 6);
	return 0;
}

/* rmdir() refuses what is not empty; who finds the directory gone makes it again. */
static void clean_first(struct blob_filesystem *fs, const char *first)
{
	unlinkat(fs->objects, first, AT_REMOVEDIR);
}

long fs_clean_tmp(struct blob_filesystem *fs, int64_t grace_ms)
{
	long removed = 0;
	struct stat st;
	struct dirent *entry;
	DIR *listing = open_listing(fs, fs->root, "tmp");
	if (!listing)
		return 0;
	while ((entry = next_entry(listing)))
		if (fstatat(dirfd(listing), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISDIR(st.st_mode) && changed_ms(&st) <= clock_wall_ms() - grace_ms &&
		    unlinkat(dirfd(listing), entry->d_name, 0) == 0)
			removed++;
	closedir(listing);
	return removed;
}

/* tmp/ is emptied at the start alone: an upload that waits on a slow client may be older than any grace. */
long fs_clean(struct blob_store *store, int64_t grace_ms, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	struct clean clean = {.before_ms = clock_wall_ms() - grace_ms, .removed = 0};
	if (each_leaf(fs, clean_leaf, clean_first, &clean, err) < 0)
		return -1;
	return clean.removed;
}
