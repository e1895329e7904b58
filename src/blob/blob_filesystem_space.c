/*
 * The ledger of the filesystem driver's room: who was promised how much of the disk.
 *
 * Free is what statvfs() said at the last look, less what writers wrote since, less what is promised and not written yet. Three
 * counters hold it, so that a request can be admitted on an event thread without asking the disk:
 *
 *     room      what could be written at the last look, above the reserve, plus `written` as it was just before it
 *     written   bytes that writers have written, ever
 *     pledged   bytes that are promised to requests and writers and not written yet
 *
 *     free = room - written - pledged
 *
 * Invariant: every change errs on the side of too little room, never of too much, whatever runs beside it. A promise is added
 * first and looked at after, so that of two that start at once not both have the last bytes; written bytes are counted before
 * their pledge ends; `written` is read before the disk is asked, so what is written meanwhile counts twice until the next look.
 * What other programs take, and what was given back, is seen with the next look: by an admission, a writer, a removal, or the
 * health probe each second. An admission looks where the file system is known to answer from memory (half a microsecond), and
 * not twice within a millisecond; but a refusal always does, so that nobody is refused for room that has just become free.
 * Thread: any; fs_reserve() and fs_unreserve() never block.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "blob_filesystem_space_private.h"
#include "depotd/base/clock.h"

enum {
	/*
	 * What a file takes besides its bytes, at most two blocks of 4 KiB: its last one is not full, and its directory or its
	 * description may need one.
	 */
	FILE_OVERHEAD = 8 * 1024,
	/*
	 * Measured on ext4 and XFS: below a megabyte fallocate() costs an upload more than it saves (64 KiB: 17 % and more),
	 * from there on it gains, since the blocks are found in one go.
	 */
	ALLOCATE_MIN = 1024 * 1024,
};

static int look(struct blob_filesystem *fs, int64_t *available, int64_t *total, struct err *err)
{
	struct statvfs st;
	int64_t written = (int64_t)atomic_load(&fs->written);
	int rc;
	do
		rc = fstatvfs(fs->objects, &st);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return err_set_errno(err, ERR_IO, "statvfs of the data directory");
	*available = (int64_t)(st.f_bavail * st.f_frsize) - fs->reserve;
	*total = (int64_t)(st.f_blocks * st.f_frsize);
	atomic_store(&fs->room, *available + written);
	atomic_store(&fs->looked_ms, clock_monotonic_ms());
	return 0;
}

/* statfs() of these reads counters in memory; of others it may wait, for a disk or for another host. */
static bool answers_from_memory(const struct statfs *st)
{
	return st->f_type == EXT4_SUPER_MAGIC || st->f_type == XFS_SUPER_MAGIC ||
	       st->f_type == TMPFS_MAGIC;
}

void fs_space_init(struct blob_filesystem *fs, int64_t reserve, bool use_fallocate)
{
	struct statfs st;
	fs->reserve = reserve > 0 ? reserve : 0;
	atomic_init(&fs->pledged, 0);
	atomic_init(&fs->written, 0);
	atomic_init(&fs->room, INT64_MAX / 2);
	atomic_init(&fs->use_fallocate, use_fallocate);
	/* tmpfs finds and clears every page at once: half of the upload's time before its first byte, and no gain. */
	bool known = fstatfs(fs->objects, &st) == 0;
	if (known && (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC))
		atomic_init(&fs->use_fallocate, false);
	fs->quick_statfs = known && answers_from_memory(&st);
	atomic_init(&fs->looked_ms, 0);
	fs_space_look(fs);
}

void fs_space_look(struct blob_filesystem *fs)
{
	struct err ignored;
	int64_t available, total;
	(void)look(fs, &available, &total, &ignored);
}

int fs_space(struct blob_store *store, struct blob_space *out, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	int64_t available;
	if (look(fs, &available, &out->total, err) < 0)
		return -1;
	available -= (int64_t)atomic_load(&fs->pledged);
	out->free = available > 0 ? available : 0;
	return 0;
}

int fs_check_space(struct blob_filesystem *fs, int64_t needed, struct err *err)
{
	int64_t available, total;
	if (look(fs, &available, &total, err) < 0)
		return -1;
	if (available <= 0 || available < needed)
		return err_set(err, ERR_DISK_FULL, "not enough free space in the data directory");
	return 0;
}

int64_t fs_pledged(struct blob_filesystem *fs)
{
	return (int64_t)atomic_load(&fs->pledged);
}

/* --- promises --- */

static bool promise_fits(const struct blob_filesystem *fs, int64_t pledged)
{
	int64_t room = (int64_t)(atomic_load(&fs->room) - atomic_load(&fs->written));
	return room > 0 && pledged <= room;
}

/* A disk that cannot even say what is free takes no upload. */
static int look_at_once(struct blob_filesystem *fs, struct err *err)
{
	int64_t available, total;
	return fs->quick_statfs ? look(fs, &available, &total, err) : 0;
}

static int promise(struct blob_filesystem *fs, int64_t pledged, struct err *err)
{
	if (promise_fits(fs, pledged))
		return 0;
	if (look_at_once(fs, err) < 0)
		return -1;
	return promise_fits(fs, pledged)
		       ? 0
		       : err_set(err, ERR_DISK_FULL, "there is no room for the file");
}

int fs_reserve(struct blob_store *store, int64_t n, struct blob_reservation *out, struct err *err)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	if (n > INT64_MAX / 4)
		return err_set(err, ERR_DISK_FULL, "there is no room for the file");
	if (n > 0)
		n += FILE_OVERHEAD;
	if (atomic_load(&fs->looked_ms) != clock_monotonic_ms() && look_at_once(fs, err) < 0)
		return -1;
	if (promise(fs, (int64_t)atomic_fetch_add(&fs->pledged, n) + n, err) < 0) {
		atomic_fetch_sub(&fs->pledged, n);
		return -1;
	}
	out->left = n;
	return 0;
}

void fs_unreserve(struct blob_store *store, struct blob_reservation *reservation)
{
	struct blob_filesystem *fs = (struct blob_filesystem *)store;
	atomic_fetch_sub(&fs->pledged, reservation->left);
	reservation->left = 0;
}

void fs_promise(struct blob_filesystem *fs, struct blob_reservation *room, int64_t n)
{
	atomic_fetch_add(&fs->pledged, n);
	room->left += n;
}

int64_t fs_take(struct blob_filesystem *fs, struct blob_reservation *room, int64_t n)
{
	if (!room)
		return 0;
	int64_t taken = room->left < n ? room->left : n;
	if (taken == 0)
		return 0;
	atomic_fetch_add(&fs->written, taken);
	atomic_fetch_sub(&fs->pledged, taken);
	room->left -= taken;
	return taken;
}

void fs_take_unpromised(struct blob_filesystem *fs, int64_t n)
{
	atomic_fetch_add(&fs->written, n);
}

void fs_take_ahead(struct blob_filesystem *fs, struct blob_reservation *room,
		   struct blob_reservation *own, int64_t n)
{
	int64_t of_room = !room ? 0 : room->left < n ? room->left : n;
	int64_t of_own = own->left < n - of_room ? own->left : n - of_room;
	if (room)
		room->left -= of_room;
	own->left -= of_own;
	atomic_fetch_add(&fs->pledged, n - of_room - of_own);
}

void fs_take_done(struct blob_filesystem *fs, int64_t n, bool written)
{
	if (written)
		atomic_fetch_add(&fs->written, n);
	atomic_fetch_sub(&fs->pledged, n);
}

int fs_check_promise(struct blob_filesystem *fs, struct err *err)
{
	int64_t available, total;
	if (look(fs, &available, &total, err) < 0)
		return -1;
	if (fs->reserve > 0 && available < -fs->reserve / 2)
		return err_set(err, ERR_DISK_FULL, "others took the room in the data directory");
	return 0;
}

/* --- blocks --- */

int64_t fs_allocate(struct blob_filesystem *fs, int fd, int64_t n, struct err *err)
{
	if (n < ALLOCATE_MIN || !atomic_load(&fs->use_fallocate))
		return 0;
	int rc, tries = 0;
	do
		rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, n);
	while (rc < 0 && errno == EINTR && ++tries < 64);
	if (rc == 0)
		return n;
	switch (errno) {
	case EINTR: /* signals without end: the ledger has to do */
		return 0;
	case EOPNOTSUPP:
	case ENOSYS:
	case EINVAL:
		atomic_store(&fs->use_fallocate, false);
		return 0;
	case EFBIG:
		return err_set(err, ERR_TOO_LARGE, "the file system takes no file of %lld bytes",
			       (long long)n);
	default:
		return err_set_errno(err, ERR_IO, "fallocate in the data directory");
	}
}
