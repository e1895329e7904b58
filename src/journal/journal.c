/*
 * The journal's ring of segments: opening, appending, rotating, dropping, replaying. See journal_private.h for the format.
 *
 * Invariants: a batch is written when the one before it is durable, into blocks that hold nothing durable; a segment whose
 * write or sync failed is left at once and its file never used again; what is dropped is durably dropped before its file is
 * used again. Worker threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "depotd/base/clock.h"

#include "journal_private.h"

/* --- opening and closing --- */

static int open_directory(struct journal *journal, const char *path, struct err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, ERR_IO, "cannot make %s", path);
	journal->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->directory < 0)
		return err_set_errno(err, ERR_IO, "%s", path);
	return 0;
}

static int sync_directory(struct journal *journal, struct err *err)
{
	int rc;
	do
		rc = fsync(journal->directory);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_set_errno(err, ERR_IO, "fsync of the journal's directory") : 0;
}

static int open_segments(struct journal *journal, struct err *err)
{
	uint64_t newest = 0;
	bool found = false;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
		struct segment *segment = &journal->segments[i];
		int rc = segment_open(journal, i, err);
		if (rc < 0 || (rc == 1 && segment_read_header(segment, err) < 0))
			return -1;
		found = found || rc == 1;
		if (rc == 1 && segment->sequence > newest)
			newest = segment->sequence;
	}
	/* A run that was killed while it made one may have left a name that no sync has seen. */
	if (found && sync_directory(journal, err) < 0)
		return -1;
	/*
	 * Where nothing is live the numbers begin anywhere: those of an earlier use, which still stand in the files' old batches,
	 * must not come again.
	 */
	if (newest == 0) {
		if (getrandom(&newest, sizeof(newest), 0) != (ssize_t)sizeof(newest))
			return err_set_errno(err, ERR_INTERNAL, "getrandom");
		newest >>= 2;
	}
	journal->next_sequence = newest + 1;
	return 0;
}

int journal_open(const struct journal_config *config, struct journal **out, struct err *err)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	if (!journal)
		return err_set(err, ERR_NO_MEMORY, "journal");
	pthread_condattr_t monotonic;
	pthread_mutex_init(&journal->appending, NULL);
	pthread_mutex_init(&journal->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&journal->dropped, &monotonic);
	pthread_condattr_destroy(&monotonic);
	journal->directory = -1;
	journal->full_wait_ms = config->full_wait_ms;
	journal->may_grow = config->may_grow;
	journal->grown = config->grown;
	journal->context = config->context;
	journal->segment_bytes = SEGMENT_BYTES_MAX;
	while (journal->segment_bytes > SEGMENT_BYTES_MIN &&
	       journal->segment_bytes * 8 > config->size)
		journal->segment_bytes /= 2;
	int64_t segments = config->size / journal->segment_bytes;
	journal->segments_max = segments < 3              ? 3
				: segments > SEGMENTS_MAX ? SEGMENTS_MAX
							  : (unsigned)segments;
	journal->current = SEGMENTS_MAX;
	journal->last_end = UINT64_MAX;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++)
		journal->segments[i].fd = journal->segments[i].plain_fd = -1;
	journal->staging = aligned_alloc(BLOCK, STAGING_BYTES + BLOCK);
	if (!journal->staging) {
		err_set(err, ERR_NO_MEMORY, "journal");
		goto failed;
	}
	commit_open(journal);
	if (open_directory(journal, config->directory, err) < 0 || open_segments(journal, err) < 0)
		goto failed;
	*out = journal;
	return 0;
failed:
	journal_close(&journal);
	return -1;
}

void journal_close(struct journal **journalp)
{
	struct journal *journal = *journalp;
	if (!journal)
		return;
	commit_close(journal);
	for (unsigned i = 0; i < SEGMENTS_MAX; i++)
		segment_close(&journal->segments[i]);
	if (journal->directory >= 0)
		close(journal->directory);
	pthread_cond_destroy(&journal->dropped);
	pthread_mutex_destroy(&journal->lock);
	pthread_mutex_destroy(&journal->appending);
	free(journal->staging);
	free(journal);
	*journalp = NULL;
}

/* --- a segment for the next batch --- */

/* The present segment is full, or was given up. Appending is held. */
static void leave_current(struct journal *journal)
{
	if (journal->current == SEGMENTS_MAX)
		return;
	journal->last_end = (uint64_t)journal->segments[journal->current].end;
	journal->current = SEGMENTS_MAX;
}

static void give_up_current(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	journal->segments[journal->current].failed = true;
	pthread_mutex_unlock(&journal->lock);
	leave_current(journal);
}

/* Where the newest segment that was found at the start ended, if a replay has seen it. */
static void learn_last_end(struct journal *journal)
{
	for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
		const struct segment *segment = &journal->segments[i];
		if (segment->sequence == journal->next_sequence - 1 && segment->end >= 0)
			journal->last_end = (uint64_t)segment->end;
	}
}

/* 1 the next batch begins a segment, 0 there is none for it now, -1. Appending is held. */
static int begin_segment(struct journal *journal, struct err *err)
{
	leave_current(journal);
	unsigned index = room_free_segment(journal);
	if (index == SEGMENTS_MAX)
		return 0;
	struct segment *segment = &journal->segments[index];
	if (journal->last_end == UINT64_MAX)
		learn_last_end(journal);
	segment_header(journal, journal->next_sequence, journal->last_end,
		       (unsigned char *)journal->staging);
	pthread_mutex_lock(&journal->lock);
	segment->sequence = journal->next_sequence++;
	segment->previous_end = journal->last_end;
	segment->bad_header = false;
	segment->end = BLOCK;
	pthread_mutex_unlock(&journal->lock);
	journal->current = index;
	if (segment_write(segment, journal->staging, BLOCK, 0) == 0)
		return 1; /* durable with the first batch */
	err_set_errno(err, ERR_IO, "write to the journal");
	give_up_current(journal);
	return -1;
}

/* --- appending --- */

static bool fits(const struct journal *journal, size_t length)
{
	return journal->current != SEGMENTS_MAX &&
	       journal->segments[journal->current].end + (int64_t)length <= journal->segment_bytes;
}

static int append_batch(struct journal *journal, const struct journal_record *records, size_t n,
			const struct journal_meanwhile *meanwhile, struct err *err)
{
	size_t length = batch_length(records, n);
	if (!fits(journal, length)) {
		int rc = begin_segment(journal, err);
		if (rc == 0) /* it was there when this was looked at: somebody took its file away */
			err_set(err, ERR_BUSY, "the journal is full");
		if (rc != 1)
			return -1;
	}
	struct segment *segment = &journal->segments[journal->current];
	batch_encode(records, n, segment->sequence, (unsigned char *)journal->staging);
	if (segment_commit(journal, segment, journal->staging, length, meanwhile) < 0) {
		err_set_errno(err, ERR_IO, "writing and syncing the journal");
		give_up_current(journal);
		return -1;
	}
	pthread_mutex_lock(&journal->lock);
	segment->end += (int64_t)length;
	pthread_mutex_unlock(&journal->lock);
	return 0;
}

static size_t batch_bytes_max(const struct journal *journal)
{
	size_t most = (size_t)journal->segment_bytes - BLOCK;
	return most < STAGING_BYTES ? most : STAGING_BYTES;
}

/* How many segments behind the present one these records will begin. Appending is held. */
static unsigned count_segments(const struct journal *journal, const struct journal_record *records,
			       size_t n)
{
	size_t most = batch_bytes_max(journal), left = 0;
	unsigned segments = 0;
	if (journal->current != SEGMENTS_MAX)
		left = (size_t)(journal->segment_bytes - journal->segments[journal->current].end);
	while (n > 0) {
		size_t taken = batch_take(records, n, most);
		size_t length = batch_length(records, taken);
		if (length > left) {
			left = (size_t)journal->segment_bytes - BLOCK;
			segments++;
		}
		left -= length < left ? length : left;
		records += taken;
		n -= taken;
	}
	return segments;
}

/* An append is in one piece, above a mark or below: all of it finds room before any of it is written. */
static int append(struct journal *journal, const struct journal_record *records, size_t n,
		  bool carry, const struct journal_meanwhile *meanwhile, unsigned *segments,
		  struct err *err)
{
	size_t most = batch_bytes_max(journal);
	int rc = 0;
	pthread_mutex_lock(&journal->appending);
	*segments = count_segments(journal, records, n);
	if (!room_is_there(journal, *segments, carry))
		rc = err_set(err, ERR_BUSY, "the journal is full");
	while (rc == 0 && n > 0) {
		size_t taken = batch_take(records, n, most);
		rc = append_batch(journal, records, taken, meanwhile, err);
		meanwhile = NULL;
		records += taken;
		n -= taken;
	}
	pthread_mutex_unlock(&journal->appending);
	return rc;
}

int journal_append(struct journal *journal, const struct journal_record *records, size_t n,
		   const struct journal_meanwhile *meanwhile, unsigned *segments, struct err *err)
{
	return append(journal, records, n, false, meanwhile, segments, err);
}

int journal_carry(struct journal *journal, const struct journal_record *records, size_t n,
		  struct err *err)
{
	unsigned segments;
	while (append(journal, records, n, true, NULL, &segments, err) < 0)
		if (err->kind != ERR_BUSY || room_await(journal, segments, true, err) < 0)
			return -1;
	return 0;
}

uint64_t journal_rotate(struct journal *journal)
{
	pthread_mutex_lock(&journal->appending);
	leave_current(journal);
	pthread_mutex_lock(&journal->lock);
	uint64_t mark = journal->next_sequence;
	pthread_mutex_unlock(&journal->lock);
	pthread_mutex_unlock(&journal->appending);
	return mark;
}

int64_t journal_live_bytes(struct journal *journal)
{
	int64_t bytes = 0;
	pthread_mutex_lock(&journal->lock);
	for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
		const struct segment *segment = &journal->segments[i];
		if (segment->sequence != 0)
			bytes += segment->end >= 0 ? segment->end - BLOCK : segment->size;
	}
	pthread_mutex_unlock(&journal->lock);
	return bytes;
}

/* --- dropping --- */

/* The live segment with the lowest sequence at or above `from`, below `before` (0: any). NULL: none. Under lock. */
static struct segment *next_segment(struct journal *journal, uint64_t from, uint64_t before)
{
	struct segment *found = NULL;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
		struct segment *segment = &journal->segments[i];
		if (segment->sequence == 0 || segment->sequence < from ||
		    (before != 0 && segment->sequence >= before))
			continue;
		if (!found || segment->sequence < found->sequence)
			found = segment;
	}
	return found;
}

static struct segment *next_live(struct journal *journal, uint64_t from, uint64_t before)
{
	pthread_mutex_lock(&journal->lock);
	struct segment *segment = next_segment(journal, from, before);
	pthread_mutex_unlock(&journal->lock);
	return segment;
}

/*
 * A file that cannot be used again goes. It may have refused to be erased, so its removal has to be durable; until it is, what
 * stands in it may come back with a crash, and it counts as live.
 */
static int drop_file(struct journal *journal, struct segment *segment, struct err *err)
{
	struct err ignored;
	pthread_mutex_lock(&journal->lock);
	segment->failed = true;
	pthread_mutex_unlock(&journal->lock);
	(void)segment_erase(segment, &ignored);
	if (segment_unlink(journal, (unsigned)(segment - journal->segments), err) < 0 ||
	    sync_directory(journal, err) < 0)
		return -1;
	pthread_mutex_lock(&journal->lock);
	segment_close(segment);
	segment->sequence = 0;
	pthread_mutex_unlock(&journal->lock);
	return 0;
}

int journal_drop(struct journal *journal, uint64_t mark, struct err *err)
{
	struct segment *segment;
	while ((segment = next_live(journal, 0, mark))) {
		if (segment->failed || segment->size != journal->segment_bytes ||
		    segment_erase(segment, err) < 0) {
			if (drop_file(journal, segment, err) < 0)
				return -1;
		}
		pthread_mutex_lock(&journal->lock);
		segment->sequence = 0;
		segment->bad_header = false;
		room_grew_locked(journal);
		pthread_mutex_unlock(&journal->lock);
	}
	return 0;
}

/* --- replaying --- */

static int read_segment(const struct segment *segment, unsigned char **out, size_t *n,
			struct err *err)
{
	size_t size = (size_t)segment->size, at = 0;
	if (segment->size < BLOCK || segment->size > 64 * (int64_t)SEGMENT_BYTES_MAX)
		return err_set(err, ERR_IO, "a segment of the journal has %lld bytes",
			       (long long)segment->size);
	unsigned char *data = malloc(size);
	if (!data)
		return err_set(err, ERR_NO_MEMORY, "reading the journal");
	while (at < size) {
		ssize_t got = pread(segment->plain_fd, data + at, size - at, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			err_set_errno(err, ERR_IO, "reading the journal");
			free(data);
			return -1;
		}
		if (got == 0)
			break;
		at += (size_t)got;
	}
	*out = data;
	*n = at;
	return 0;
}

/* What the segment behind this one says of its end; -1: nothing. */
static int64_t known_end(struct journal *journal, const struct segment *segment)
{
	int64_t end = -1;
	pthread_mutex_lock(&journal->lock);
	const struct segment *after = next_segment(journal, segment->sequence + 1, 0);
	if (after && after->sequence == segment->sequence + 1 && after->previous_end <= INT64_MAX)
		end = (int64_t)after->previous_end;
	pthread_mutex_unlock(&journal->lock);
	return end;
}

int journal_replay(struct journal *journal, uint64_t before, journal_visit_fn visit, void *context,
		   struct journal_replay_summary *summary, struct err *err)
{
	struct segment *segment;
	uint64_t from = 1;
	int rc = 0;
	*summary = (struct journal_replay_summary){0};
	for (unsigned i = 0; before == 0 && i < SEGMENTS_MAX; i++) {
		/* Neither its header nor its first batch can be read: nobody knows what stood there. */
		if (journal->segments[i].bad_header && journal->segments[i].sequence == 0) {
			summary->damaged_places++;
			summary->damaged_bytes += SEGMENT_HEADER_LEN;
		}
	}
	while (rc == 0 && (segment = next_live(journal, from, before))) {
		unsigned char *data = NULL;
		size_t n = 0;
		struct segment_scan scan = {
			.sequence = segment->sequence,
			.known_end = known_end(journal, segment),
			.visit = visit,
			.context = context,
			.summary = summary,
			.end = BLOCK,
		};
		from = segment->sequence + 1;
		if (read_segment(segment, &data, &n, err) < 0)
			return -1;
		if (segment->bad_header) {
			summary->damaged_places++;
			summary->damaged_bytes += SEGMENT_HEADER_LEN;
		}
		rc = segment_scan(data, n, &scan);
		free(data);
		if (rc == 0 && segment->end < 0) {
			pthread_mutex_lock(&journal->lock);
			segment->end = scan.end;
			pthread_mutex_unlock(&journal->lock);
		}
	}
	return rc;
}
