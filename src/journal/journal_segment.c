/*
 * Segment files: made of zeros once, written past the page cache where the file system can, used again and again.
 *
 * A file whose write or sync failed is not used again: the kernel may have dropped its dirty pages, and asking a second time
 * would be told that all is well. Worker threads; the journal's locks say who may be here.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depotd/base/clock.h"

#include "journal_private.h"

enum { NAME_LEN = 16 };

static void segment_name(unsigned index, char out[NAME_LEN])
{
	snprintf(out, NAME_LEN, "segment-%02u", index % 100);
}

static int again_openat(int directory, const char *name, int flags)
{
	int fd;
	do
		fd = openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int again_fsync(int fd)
{
	int rc;
	do
		rc = fsync(fd);
	while (rc < 0 && errno == EINTR);
	return rc;
}

int segment_write(const struct segment *segment, const void *data, size_t n, int64_t offset)
{
	const char *at = data;
	while (n > 0) {
		ssize_t done = pwrite(segment->fd, at, n, offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		/* After a short write the rest may not be aligned any more for O_DIRECT: the page cache takes it. */
		if ((size_t)done < n && segment->fd != segment->plain_fd && (done % BLOCK) != 0) {
			int flags = fcntl(segment->fd, F_GETFL);
			if (flags < 0 || fcntl(segment->fd, F_SETFL, flags & ~O_DIRECT) < 0)
				return -1;
		}
		at += done;
		n -= (size_t)done;
		offset += done;
	}
	return 0;
}

int segment_sync(const struct segment *segment)
{
	struct stat st;
	int rc;
	do
		rc = fdatasync(segment->fd);
	while (rc < 0 && errno == EINTR);
	/* XFS that shut itself down meanwhile may have kept quiet about it; fstat() says so. */
	return rc < 0 ? rc : fstat(segment->fd, &st);
}

/* A second descriptor that goes past the page cache: the batch is in memory already and is not read again. */
static void open_direct(struct journal *journal, struct segment *segment, const char *name)
{
	segment->fd = again_openat(journal->directory, name, O_RDWR | O_DIRECT);
	if (segment->fd < 0)
		segment->fd = segment->plain_fd;
}

int segment_open(struct journal *journal, unsigned index, struct err *err)
{
	struct segment *segment = &journal->segments[index];
	char name[NAME_LEN];
	segment_name(index, name);
	segment->plain_fd = again_openat(journal->directory, name, O_RDWR);
	if (segment->plain_fd < 0 && errno == ENOENT)
		return 0;
	if (segment->plain_fd < 0)
		return err_set_errno(err, ERR_IO, "journal/%s", name);
	struct stat st;
	if (fstat(segment->plain_fd, &st) < 0) {
		err_set_errno(err, ERR_IO, "journal/%s", name);
		segment_close(segment);
		return -1;
	}
	segment->size = st.st_size;
	segment->end = -1;
	open_direct(journal, segment, name);
	return 1;
}

enum { STEP_MIN = 128 * 1024, STEP_MAX = 1024 * 1024 };

/* Twice as much where the disk took less than a millisecond for the last step, half where it took more than three. */
static int64_t next_step(int64_t step, int64_t took_ns)
{
	if (took_ns < 1000000 && step < STEP_MAX)
		return 2 * step;
	return took_ns > 3000000 && step > STEP_MIN ? step / 2 : step;
}

/*
 * Past the page cache, in steps of a millisecond or two: whoever appends to another segment meanwhile waits for one of these and
 * not for megabytes. The blocks are found first, so that no step changes the file's size.
 */
static int write_zeros(struct journal *journal, const struct segment *segment)
{
	char *zeros = aligned_alloc(BLOCK, STEP_MAX);
	if (!zeros)
		return -1;
	memset(zeros, 0, STEP_MAX);
	int rc;
	do
		rc = fallocate(segment->plain_fd, 0, 0, journal->segment_bytes);
	while (rc < 0 && errno == EINTR);
	bool allocated = rc == 0;
	if (!allocated && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		rc = 0; /* its blocks are found as they are written */
	if (allocated && journal->grown)
		journal->grown(journal->context);
	int64_t step = STEP_MIN;
	for (int64_t at = 0, left; rc == 0 && (left = journal->segment_bytes - at) > 0;) {
		int64_t began_ns = clock_monotonic_ns(), n = step < left ? step : left;
		rc = segment_write(segment, zeros, (size_t)n, at);
		step = next_step(step, clock_monotonic_ns() - began_ns);
		at += n;
	}
	int saved = errno;
	if (!allocated && journal->grown)
		journal->grown(journal->context);
	free(zeros);
	errno = saved;
	return rc;
}

int segment_make(struct journal *journal, unsigned index, struct err *err)
{
	struct segment *segment = &journal->segments[index];
	char name[NAME_LEN];
	segment_name(index, name);
	segment->plain_fd = again_openat(journal->directory, name, O_RDWR | O_CREAT | O_TRUNC);
	if (segment->plain_fd < 0)
		return err_set_errno(err, ERR_IO, "journal/%s", name);
	open_direct(journal, segment, name);
	if (write_zeros(journal, segment) < 0 || again_fsync(segment->plain_fd) < 0 ||
	    again_fsync(journal->directory) < 0) {
		err_set_errno(err, ERR_IO, "journal/%s", name);
		unlinkat(journal->directory, name, 0);
		segment_close(segment);
		return -1;
	}
	segment->failed = segment->bad_header = false;
	segment->size = journal->segment_bytes;
	return 0;
}

void segment_close(struct segment *segment)
{
	if (segment->fd >= 0 && segment->fd != segment->plain_fd)
		close(segment->fd);
	if (segment->plain_fd >= 0)
		close(segment->plain_fd);
	segment->fd = segment->plain_fd = -1;
}

/* --- the header --- */

enum {
	AT_VERSION = 8,
	AT_BLOCK = 12,
	AT_SEQUENCE = 16,
	AT_SIZE = 24,
	AT_PREVIOUS = 32,
	AT_CRC = 40
};

void segment_header(const struct journal *journal, uint64_t sequence, uint64_t previous_end,
		    unsigned char block[BLOCK])
{
	uint32_t version = htole32(JOURNAL_VERSION), size = htole32(BLOCK);
	uint64_t bytes = htole64((uint64_t)journal->segment_bytes);
	memset(block, 0, BLOCK);
	memcpy(block, SEGMENT_MAGIC, 8);
	memcpy(block + AT_VERSION, &version, 4);
	memcpy(block + AT_BLOCK, &size, 4);
	sequence = htole64(sequence);
	memcpy(block + AT_SEQUENCE, &sequence, 8);
	memcpy(block + AT_SIZE, &bytes, 8);
	previous_end = htole64(previous_end);
	memcpy(block + AT_PREVIOUS, &previous_end, 8);
	uint32_t crc = htole32(journal_checksum(block, AT_CRC, NULL, 0));
	memcpy(block + AT_CRC, &crc, 4);
}

/*
 * Zeros are a free segment. Anything else is damage, for the header lies within one sector and is written whole or not at all:
 * the batches may be well, and the first one knows the sequence.
 */
static int read_bad_header(struct segment *segment, const unsigned char block[SEGMENT_HEADER_LEN],
			   struct err *err)
{
	static const unsigned char zeros[SEGMENT_HEADER_LEN];
	unsigned char batch[BATCH_HEADER_LEN];
	if (memcmp(block, zeros, SEGMENT_HEADER_LEN) == 0)
		return 0;
	ssize_t got;
	do
		got = pread(segment->plain_fd, batch, sizeof(batch), BLOCK);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set_errno(err, ERR_IO, "reading the journal");
	segment->sequence = got == (ssize_t)sizeof(batch) ? batch_sequence(batch) : 0;
	segment->previous_end = UINT64_MAX;
	segment->bad_header = true;
	return 0;
}

int segment_read_header(struct segment *segment, struct err *err)
{
	unsigned char block[SEGMENT_HEADER_LEN];
	uint32_t version, crc;
	uint64_t sequence, previous;
	ssize_t got;
	do
		got = pread(segment->plain_fd, block, sizeof(block), 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set_errno(err, ERR_IO, "reading the journal");
	memcpy(&crc, block + AT_CRC, 4);
	if (got != (ssize_t)sizeof(block) || memcmp(block, SEGMENT_MAGIC, 8) != 0 ||
	    le32toh(crc) != journal_checksum(block, AT_CRC, NULL, 0))
		return got == (ssize_t)sizeof(block) ? read_bad_header(segment, block, err) : 0;
	memcpy(&version, block + AT_VERSION, 4);
	if (le32toh(version) != JOURNAL_VERSION)
		return err_set(err, ERR_CONFLICT,
			       "the journal was written by another release: its version is %u, "
			       "this one reads %d",
			       le32toh(version), JOURNAL_VERSION);
	memcpy(&sequence, block + AT_SEQUENCE, 8);
	memcpy(&previous, block + AT_PREVIOUS, 8);
	segment->sequence = le64toh(sequence);
	segment->previous_end = le64toh(previous);
	return 0;
}

int segment_erase(const struct segment *segment, struct err *err)
{
	char zeros[BLOCK] __attribute__((aligned(4096))) = {0};
	if (segment_write(segment, zeros, sizeof(zeros), 0) < 0 || segment_sync(segment) < 0)
		return err_set_errno(err, ERR_IO, "freeing a segment of the journal");
	return 0;
}

/*
 * A name that is gone already was removed by a call whose sync failed. Asked again, that proves nothing: so it is made and removed
 * once more, and the next sync has something of its own to write.
 */
int segment_unlink(struct journal *journal, unsigned index, struct err *err)
{
	char name[NAME_LEN];
	segment_name(index, name);
	int rc = unlinkat(journal->directory, name, 0);
	if (rc < 0 && errno == ENOENT) {
		int fd = again_openat(journal->directory, name, O_RDWR | O_CREAT);
		if (fd >= 0) {
			close(fd);
			rc = unlinkat(journal->directory, name, 0);
		}
	}
	return rc < 0 ? err_set_errno(err, ERR_IO, "removing journal/%s", name) : 0;
}
