/*
 * Writers of the filesystem driver: from O_TMPFILE to a durable name.
 *
 * Invariants: until publish no name leads to the bytes, so a crash gives their space back by itself; the attribute (or the
 * description's own file) is written before the sync that seals; the description's file gets its name before the bytes do.
 * A failed sync is never repeated: the facade lets a failed writer only be discarded. Worker threads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_filesystem_space_private.h"

enum {
	/* Written back in the background in stretches of this size, so that the last fsync finds little to do. */
	WRITEBACK_STEP = 8 * 1024 * 1024,
	/* Dirty bytes of one upload never exceed this: its writer waits for the disk, and nobody else for its pages. */
	WRITEBACK_BEHIND = 4 * WRITEBACK_STEP,
	/* Between two looks at the free space of a writer that was promised it. */
	SPACE_STEP = 8 * 1024 * 1024,
	/* Two threads fill, the oldest first: what is below the bytes filled but for so many is filled. */
	FILL_SPREAD = 1024 * 1024,
	TRIES = 64,
};

struct fs_writer {
	struct blob_writer base; /* first */
	struct uuid id;
	struct leaf *leaf;
	struct temp file, meta;        /* meta.fd is -1 where the attribute is enough */
	bool meta_linked;              /* a try gave it its name */
	struct blob_reservation *room; /* the request's, or NULL; taken from first */
	struct blob_reservation own;   /* what its size needs beyond that */
	int64_t allocated; /* so many bytes have their blocks already; the same from create on */
	atomic_int_fast64_t unfilled; /* bytes beyond these that were claimed and not written */
	atomic_int_fast64_t filled;   /* bytes that were written */
	int64_t written_back;         /* background write-back was started up to here */
	int64_t space_checked;        /* written when the free space was last looked at */
	bool synced;                  /* publish only: its leaf was synced */
};

static struct blob_filesystem *fs_of(struct fs_writer *writer)
{
	return (struct blob_filesystem *)writer->base.store;
}

/* What is promised to this writer and not written yet. */
static int64_t promised_left(const struct fs_writer *writer)
{
	return (writer->room ? writer->room->left : 0) + writer->own.left;
}

/*
 * Before each write of n bytes. Who was promised its bytes may have them, and only notices now and then that others took the
 * room; who was not leaves the reserve alone, and what others were promised.
 */
static int check_space_again(struct fs_writer *writer, size_t n, struct err *err)
{
	struct blob_filesystem *fs = fs_of(writer);
	int64_t end = writer->base.written + (int64_t)n;
	if (end <= writer->allocated)
		return 0;
	int64_t beyond = (int64_t)n - promised_left(writer);
	if (beyond > 0)
		return fs_check_space(fs, fs_pledged(fs) + beyond, err);
	if (end - writer->space_checked < SPACE_STEP)
		return 0;
	writer->space_checked = end;
	return fs_check_promise(fs, err);
}

/* n more bytes of the disk are this writer's. */
static void take(struct fs_writer *writer, int64_t n)
{
	struct blob_filesystem *fs = fs_of(writer);
	n -= fs_take(fs, writer->room, n);
	n -= fs_take(fs, &writer->own, n);
	fs_take_unpromised(fs, n);
}

/* The leaf was empty and old, and the sweep removed it: it is made again. ENOENT says so, or EPERM of ext4's O_TMPFILE. */
static bool leaf_was_removed(const struct leaf *leaf)
{
	struct stat st;
	return (errno == ENOENT || errno == EPERM) && fstat(leaf->fd, &st) == 0 && st.st_nlink == 0;
}

/* Takes another leaf in place of one that was removed. */
static int renew_leaf(struct fs_writer *writer, struct err *err)
{
	struct blob_filesystem *fs = fs_of(writer);
	struct leaf *fresh = NULL;
	fs_leaf_forget(fs, writer->leaf);
	if (fs_leaf_get(fs, &writer->id, &fresh, err) < 0)
		return -1;
	fs_leaf_put(fs, &writer->leaf);
	writer->leaf = fresh;
	return 0;
}

/* The room for a writer of so many bytes, or -1 for not known: what the request was not promised is promised now. */
static int take_room(struct fs_writer *writer, int64_t size_hint, struct err *err)
{
	struct blob_filesystem *fs = fs_of(writer);
	int64_t before = promised_left(writer);
	if (size_hint > before)
		fs_promise(fs, &writer->own, size_hint - before);
	if (before > 0 && size_hint <= before)
		return 0;
	return fs_check_space(fs, fs_pledged(fs), err);
}

static int open_file(struct fs_writer *writer, struct err *err)
{
	struct blob_filesystem *fs = fs_of(writer);
	for (int tries = 0; temp_open(fs, writer->leaf->fd, &writer->file) < 0; tries++) {
		if (tries >= TRIES || !leaf_was_removed(writer->leaf))
			return err_set_errno(err, ERR_IO, "cannot create a file in objects/%s",
					     writer->leaf->name);
		if (renew_leaf(writer, err) < 0)
			return -1;
	}
	return 0;
}

static int allocate(struct fs_writer *writer, int64_t size_hint, struct err *err)
{
	int64_t n = fs_allocate(fs_of(writer), writer->file.fd, size_hint, err);
	if (n < 0)
		return -1;
	writer->allocated = n;
	take(writer, n);
	return 0;
}

int fs_create(struct blob_store *store, const struct uuid *id, int64_t size_hint,
	      struct blob_reservation *room, struct blob_writer **out, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	struct fs_writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return err_set(err, ERR_NO_MEMORY, "blob writer");
	writer->base.store = store;
	writer->id = *id;
	writer->room = room;
	writer->file.fd = writer->meta.fd = -1;
	if (take_room(writer, size_hint, err) < 0 || fs_leaf_get(fs, id, &writer->leaf, err) < 0 ||
	    open_file(writer, err) < 0 || allocate(writer, size_hint, err) < 0) {
		fs_discard(&writer->base);
		return -1;
	}
	*out = &writer->base;
	return 0;
}

/*
 * Starts the write-back of what was written since, and waits for what was written long before; what was missed is written then.
 * sync_file_range() reports an I/O error once and takes it off the file, so that fsync() would not: its errors are as final as
 * fsync's.
 */
static int write_back(struct fs_writer *writer, int64_t end, struct err *err)
{
	struct blob_filesystem *fs = fs_of(writer);
	if (end - writer->written_back < WRITEBACK_STEP || !atomic_load(&fs->use_writeback))
		return 0;
	int64_t from = writer->written_back;
	writer->written_back = end;
	int rc = sync_file_range(writer->file.fd, from, end - from, SYNC_FILE_RANGE_WRITE);
	if (rc == 0 && from >= WRITEBACK_BEHIND)
		rc = sync_file_range(writer->file.fd, from - WRITEBACK_BEHIND, end - from,
				     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					     SYNC_FILE_RANGE_WAIT_AFTER);
	if (rc == 0 || errno == EINTR)
		return 0;
	if (errno == ESPIPE || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) {
		atomic_store(&fs->use_writeback, false);
		return 0;
	}
	return err_set_errno(err, ERR_IO, "write-back in objects/%s", writer->leaf->name);
}

int fs_claim(struct blob_writer *base, size_t n, struct err *err)
{
	struct fs_writer *writer = (struct fs_writer *)base;
	int64_t end = atomic_load(&writer->filled) - FILL_SPREAD;
	if (check_space_again(writer, n, err) < 0 || write_back(writer, end, err) < 0)
		return -1;
	if (base->written + (int64_t)n > writer->allocated) {
		fs_take_ahead(fs_of(writer), writer->room, &writer->own, (int64_t)n);
		(void)atomic_fetch_add(&writer->unfilled, (int64_t)n);
	}
	return 0;
}

int fs_fill(struct blob_writer *base, int64_t offset, const void *data, size_t n, struct err *err)
{
	struct fs_writer *writer = (struct fs_writer *)base;
	if (write_all(writer->file.fd, offset, data, n) < 0)
		return err_set_errno(err, ERR_IO, "write in objects/%s", writer->leaf->name);
	(void)atomic_fetch_add(&writer->filled, (int64_t)n);
	if (offset + (int64_t)n > writer->allocated) {
		(void)atomic_fetch_sub(&writer->unfilled, (int64_t)n);
		fs_take_done(fs_of(writer), (int64_t)n, true);
	}
	return 0;
}

int fs_first(struct blob_writer *base, void *data, size_t n, struct err *err)
{
	const struct fs_writer *writer = (const struct fs_writer *)base;
	ssize_t got;
	for (size_t at = 0; at < n; at += (size_t)got) {
		do
			got = pread(writer->file.fd, (char *)data + at, n - at, (off_t)at);
		while (got < 0 && errno == EINTR);
		if (got < 0)
			return err_set_errno(err, ERR_IO, "read in objects/%s", writer->leaf->name);
		if (got == 0)
			return err_set(err, ERR_IO, "bytes in objects/%s are missing",
				       writer->leaf->name);
	}
	return 0;
}

/* The description's own file. Where the leaf was removed meanwhile, empty as it is, any directory of the same disk will do. */
static int make_meta(struct fs_writer *writer, const char *description, size_t n)
{
	struct blob_filesystem *fs = fs_of(writer);
	int rc = fs_make_meta(fs, writer->leaf->fd, description, n, &writer->meta);
	if (rc < 0 && leaf_was_removed(writer->leaf))
		rc = fs_make_meta(fs, fs->tmp, description, n, &writer->meta);
	return rc;
}

/*
 * fsync, not fdatasync: ext4's fdatasync waits for the transaction of the last change of size or blocks alone, and with early
 * write-back (or an empty file) that one may be older than the attribute's. For a new file both cost one journal commit.
 */
int fs_seal(struct blob_writer *base, const char *description, size_t n, struct err *err)
{
	struct fs_writer *writer = (struct fs_writer *)base;
	struct blob_filesystem *fs = fs_of(writer);
	fs_unreserve(&fs->base, &writer->own);
	/* Blocks beyond the end, of an upload that was announced larger. */
	if (writer->allocated > writer->base.written &&
	    ftruncate(writer->file.fd, writer->base.written) < 0)
		return err_set_errno(err, ERR_IO, "ftruncate in objects/%s", writer->leaf->name);
	int rc = fs_set_attribute(fs, writer->file.fd, description, n);
	if (rc < 0)
		return err_set_errno(err, ERR_IO, "setxattr in objects/%s", writer->leaf->name);
	if (rc == 0 && make_meta(writer, description, n) < 0)
		return err_set_errno(err, ERR_IO, "description in objects/%s", writer->leaf->name);
	if (fs_fsync(writer->file.fd) < 0)
		return err_set_errno(err, ERR_IO, "fsync in objects/%s", writer->leaf->name);
	return 0;
}

static void take_back(struct fs_writer *writer)
{
	char name[META_NAME_LEN + 1];
	uuid_format(&writer->id, name);
	unlinkat(writer->leaf->fd, name, 0);
	if (writer->meta.fd >= 0) {
		fs_meta_name(&writer->id, name);
		unlinkat(writer->leaf->fd, name, 0);
	}
}

/*
 * A file without a name gets one once: when the sweep took the description away, which had no blob yet, it is written anew.
 */
static int make_meta_again(struct fs_writer *writer)
{
	struct blob_filesystem *fs = fs_of(writer);
	struct temp fresh;
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	int rc =
		lseek(writer->meta.fd, 0, SEEK_SET) < 0 ? -1 : fs_read_meta(writer->meta.fd, &text);
	if (rc == 0)
		rc = fs_make_meta(fs, fs->tmp, text.data, text.len, &fresh);
	int saved = errno;
	buf_release(&text);
	if (rc == 0) {
		temp_close(fs, &writer->meta);
		writer->meta = fresh;
		writer->meta_linked = false;
	}
	errno = saved;
	return rc;
}

/* One try. The description first, so that there is never a blob without one. -1 with errno, nothing left behind. */
static int link_once(struct fs_writer *writer)
{
	struct blob_filesystem *fs = fs_of(writer);
	char name[UUID_TEXT_LEN + 1], meta[META_NAME_LEN + 1];
	uuid_format(&writer->id, name);
	fs_meta_name(&writer->id, meta);
	if (writer->meta_linked && make_meta_again(writer) < 0)
		return -1;
	if (writer->meta.fd >= 0 && temp_link(fs, &writer->meta, writer->leaf->fd, meta) < 0)
		return -1;
	writer->meta_linked = writer->meta.fd >= 0;
	if (temp_link(fs, &writer->file, writer->leaf->fd, name) == 0)
		return 0;
	int saved = errno;
	if (writer->meta.fd >= 0)
		unlinkat(writer->leaf->fd, meta, 0);
	errno = saved;
	return -1;
}

static int link_writer(struct fs_writer *writer, struct err *err)
{
	for (int tries = 0; link_once(writer) < 0; tries++) {
		if (errno == EINTR && tries < TRIES)
			continue;
		if (tries >= TRIES || !leaf_was_removed(writer->leaf))
			return err_set_errno(err, errno == EEXIST ? ERR_CONFLICT : ERR_IO,
					     "link in objects/%s", writer->leaf->name);
		if (renew_leaf(writer, err) < 0)
			return -1;
	}
	return 0;
}

static void link_publication(struct blob_publication *publication)
{
	for (size_t k = 0; k < publication->n; k++) {
		struct fs_writer *writer = (struct fs_writer *)publication->writers[k];
		writer->synced = false;
		if (link_writer(writer, &publication->err) == 0)
			continue;
		publication->result = -1;
		while (k-- > 0)
			take_back((struct fs_writer *)publication->writers[k]);
		return;
	}
}

/* Syncs one writer's leaf and marks everybody who is in it; a failure fails their publications. */
static void sync_leaf_of(struct blob_filesystem *fs, struct fs_writer *first,
			 struct blob_publication *publications, size_t n)
{
	struct err err;
	int rc = fs_leaf_sync(fs, first->leaf, &err);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; publications[i].result == 0 && k < publications[i].n; k++) {
			struct fs_writer *writer = (struct fs_writer *)publications[i].writers[k];
			if (writer->leaf != first->leaf)
				continue;
			writer->synced = true;
			if (rc < 0) {
				publications[i].result = -1;
				publications[i].err = err;
				for (size_t t = 0; t < publications[i].n; t++)
					take_back((struct fs_writer *)publications[i].writers[t]);
			}
		}
	}
}

/* What has a name by now keeps its bytes. */
static void writer_free(struct fs_writer *writer)
{
	struct blob_filesystem *fs = fs_of(writer);
	fs_unreserve(&fs->base, &writer->own);
	fs_take_done(fs, (int64_t)atomic_load(&writer->unfilled), false);
	temp_close(fs, &writer->file);
	temp_close(fs, &writer->meta);
	fs_leaf_put(fs, &writer->leaf);
	free(writer);
}

void fs_publish(struct blob_store *store, struct blob_publication *publications, size_t n)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	for (size_t i = 0; i < n; i++)
		link_publication(&publications[i]);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; publications[i].result == 0 && k < publications[i].n; k++) {
			struct fs_writer *writer = (struct fs_writer *)publications[i].writers[k];
			if (!writer->synced)
				sync_leaf_of(fs, writer, publications, n);
		}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; publications[i].result == 0 && k < publications[i].n; k++) {
			writer_free((struct fs_writer *)publications[i].writers[k]);
			publications[i].writers[k] = NULL;
		}
}

void fs_discard(struct blob_writer *base)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)base->store;
	writer_free((struct fs_writer *)base);
	fs_space_look(fs);
}
