/*
 * A batch on its way to the disk.
 *
 * Where the file is open past the page cache, write and sync are one request to the kernel (io_submit(2) with RWF_DSYNC: as if the
 * write were followed by fdatasync(2)). Whoever appends does something else until it is complete, and no thread has to be woken
 * between the write and the sync: on a machine whose processors have other work that was 120 µs of a lone upload's 540. Else, and
 * where the kernel has no such thing for us, it is pwrite() and fdatasync().
 *
 * RWF_DSYNC makes this write durable and, where the device can (FUA), nothing else: so the first batch of a segment, with which the
 * segment's header becomes durable, goes the long way. Threads: who has the journal's `appending`.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "journal_private.h"

void commit_open(struct journal *journal)
{
	aio_context_t context = 0;
	_Static_assert(sizeof(context) == sizeof(journal->aio), "one is the other");
	/* Refused by a kernel without it, a filter, or because others have used it up: the long way, then. */
	journal->aio = syscall(SYS_io_setup, 1, &context) == 0 ? context : 0;
}

/* Waits for what is under way, too. */
void commit_close(struct journal *journal)
{
	if (journal->aio != 0)
		syscall(SYS_io_destroy, journal->aio);
	journal->aio = 0;
}

/* 1 it is under way, 0 it goes the long way, -1 with errno. */
static int submit(struct journal *journal, const struct segment *segment, const void *data,
		  size_t n)
{
	struct iocb request, *requests = &request;
	long rc;
	if (journal->aio == 0 || segment->fd == segment->plain_fd || segment->end <= BLOCK)
		return 0;
	memset(&request, 0, sizeof(request));
	request.aio_fildes = (uint32_t)segment->fd;
	request.aio_lio_opcode = IOCB_CMD_PWRITE;
	request.aio_buf = (uintptr_t)data;
	request.aio_nbytes = n;
	request.aio_offset = segment->end;
	request.aio_rw_flags = RWF_DSYNC;
	do
		rc = syscall(SYS_io_submit, journal->aio, 1L, &requests);
	while (rc < 0 && errno == EINTR);
	if (rc == 1)
		return 1;
	if (rc == 0 || errno == EAGAIN || errno == ENOMEM)
		return 0;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP && errno != EPERM)
		return -1;
	commit_close(journal); /* nothing for this kernel or this file system */
	return 0;
}

/* How many bytes of the n are durable; -1 with errno. */
static int64_t complete(struct journal *journal)
{
	struct io_event event;
	long rc;
	do
		rc = syscall(SYS_io_getevents, journal->aio, 1L, 1L, &event, NULL);
	while (rc == 0 || (rc < 0 && errno == EINTR));
	if (rc < 0) {
		int saved = errno;
		commit_close(journal); /* the memory is not the disk's any more after this */
		errno = saved;
		return -1;
	}
	if (event.res == -EINTR || event.res == -EAGAIN)
		return 0;
	if (event.res < 0) {
		errno = (int)-event.res;
		return -1;
	}
	return event.res;
}

int segment_commit(struct journal *journal, const struct segment *segment, const void *data,
		   size_t n, const struct journal_meanwhile *meanwhile)
{
	struct stat st;
	int64_t done = 0;
	int under_way = submit(journal, segment, data, n);
	if (meanwhile && under_way >= 0)
		meanwhile->run(meanwhile->context);
	if (under_way == 1)
		done = complete(journal);
	if (under_way < 0 || done < 0)
		return -1;
	if ((size_t)done == n) /* as in segment_sync() */
		return fstat(segment->fd, &st);
	if (segment_write(segment, (const char *)data + done, n - (size_t)done,
			  segment->end + done) < 0)
		return -1;
	return segment_sync(segment);
}
