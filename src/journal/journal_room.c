/*
 * Room in the ring: which segments are free, who may have them, making more of them, waiting for one.
 *
 * Invariant: what a checkpoint has to carry over finds room (journal_keep()), since that is what keeps the old segments from being
 * dropped: a ring that was filled to the last segment would never get one back. Any thread; `lock` guards all of it.
 */
#include <errno.h>
#include <limits.h>
#include <time.h>

#include "depotd/base/clock.h"

#include "journal_private.h"

static bool is_free(const struct journal *journal, const struct segment *segment)
{
	return !segment->making && segment->fd >= 0 && segment->sequence == 0 && !segment->failed &&
	       segment->size == journal->segment_bytes;
}

/* How many files there are or are being made, how many of these wait to be used or will; a place for another. */
struct places {
	unsigned used, ready, free, empty;
	unsigned free_index;
};

static struct places find_places(const struct journal *journal)
{
	struct places places = {.empty = SEGMENTS_MAX, .free_index = SEGMENTS_MAX};
	unsigned empty = SEGMENTS_MAX;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
		const struct segment *segment = &journal->segments[i];
		bool free = is_free(journal, segment);
		places.free += free;
		places.ready += free || segment->making;
		if (free && places.free_index == SEGMENTS_MAX)
			places.free_index = i;
		if (segment->making || segment->fd >= 0)
			places.used++;
		else if (empty == SEGMENTS_MAX)
			empty = i;
	}
	if (places.used < journal->segments_max)
		places.empty = empty;
	return places;
}

unsigned room_free_segment(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	unsigned index = find_places(journal).free_index;
	pthread_mutex_unlock(&journal->lock);
	return index;
}

/*
 * Whether an append that begins so many segments may: they are there, and behind them remain, or can be made, those that are kept.
 * While something is carried over in a ring that is short of segments nobody else gets in between, or it might need one more.
 */
static bool is_there(const struct journal *journal, const struct places *places, unsigned segments,
		     bool carry)
{
	unsigned unmade =
		places->used < journal->segments_max ? journal->segments_max - places->used : 0;
	if (places->free < segments)
		return false;
	if (carry || (segments == 0 && !journal->carrying))
		return true;
	return places->ready + unmade >= segments + journal->kept;
}

bool room_is_there(struct journal *journal, unsigned segments, bool carry)
{
	pthread_mutex_lock(&journal->lock);
	struct places places = find_places(journal);
	journal->carrying = journal->carrying || carry;
	bool there = is_there(journal, &places, segments, carry);
	pthread_mutex_unlock(&journal->lock);
	return there;
}

void room_grew_locked(struct journal *journal)
{
	journal->full_since_ns = 0;
	pthread_cond_broadcast(&journal->dropped);
}

static bool may_grow(const struct journal *journal)
{
	return !journal->may_grow || journal->may_grow(journal->context, journal->segment_bytes);
}

/* Makes a segment where there is none, without the lock meanwhile. Under the lock. */
static int make_locked(struct journal *journal, unsigned index, struct err *err)
{
	struct segment *segment = &journal->segments[index];
	segment->making = true;
	pthread_mutex_unlock(&journal->lock);
	int rc = segment_make(journal, index, err);
	pthread_mutex_lock(&journal->lock);
	segment->making = false;
	if (rc == 0)
		room_grew_locked(journal);
	else
		pthread_cond_broadcast(&journal->dropped);
	return rc;
}

/* Who waits: for a drop no longer than since the first of them found no room, so that each is not the other's delay. */
static int wait_locked(struct journal *journal, unsigned segments, bool carry, bool grow,
		       struct err *err)
{
	int64_t now_ns = clock_monotonic_ns();
	if (journal->full_since_ns == 0)
		journal->full_since_ns = now_ns;
	int64_t until_ns = journal->full_since_ns + journal->full_wait_ms * 1000000;
	struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
	if (now_ns < until_ns &&
	    pthread_cond_timedwait(&journal->dropped, &journal->lock, &until) != ETIMEDOUT)
		return 0;
	struct places places = find_places(journal);
	if (is_there(journal, &places, segments, carry))
		return 0;
	return grow ? err_set(err, ERR_BUSY,
			      "the journal is full: no checkpoint makes room in it in time")
		    : err_set(err, ERR_DISK_FULL, "no room for more of the journal");
}

int room_await(struct journal *journal, unsigned segments, bool carry, struct err *err)
{
	bool grow = may_grow(journal);
	int rc = 0;
	pthread_mutex_lock(&journal->lock);
	struct places places = find_places(journal);
	bool more = grow && places.empty != SEGMENTS_MAX;
	if (is_there(journal, &places, segments, carry))
		;
	else if (segments + (carry ? 0 : journal->kept) > journal->segments_max)
		rc = err_set(err, ERR_BUSY, "more at once than the journal holds");
	else if (!grow && places.used == 0)
		rc = err_set(err, ERR_DISK_FULL, "no room for the journal");
	else if (more && places.ready < segments)
		rc = make_locked(journal, places.empty, err);
	else if (carry && places.ready == places.free) /* only what comes after it frees any */
		rc = err_set(err, grow ? ERR_BUSY : ERR_DISK_FULL,
			     "the journal has no room for what waits for the database");
	else
		rc = wait_locked(journal, segments, carry, grow, err);
	pthread_mutex_unlock(&journal->lock);
	return rc;
}

int journal_await_room(struct journal *journal, unsigned segments, struct err *err)
{
	return room_await(journal, segments, false, err);
}

void journal_carried(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	journal->carrying = false;
	pthread_cond_broadcast(&journal->dropped);
	pthread_mutex_unlock(&journal->lock);
}

void journal_keep(struct journal *journal, int64_t bytes)
{
	/* A quarter more, for what comes to wait while the next segment is filled: one at the least. */
	int64_t usable = journal->segment_bytes - BLOCK;
	int64_t segments = (bytes + usable / 4 + usable - 1) / usable;
	pthread_mutex_lock(&journal->lock);
	journal->kept =
		segments < journal->segments_max ? (unsigned)segments : journal->segments_max - 1;
	pthread_mutex_unlock(&journal->lock);
}

int64_t journal_capacity(const struct journal *journal)
{
	return journal->segments_max * journal->segment_bytes;
}

unsigned journal_ready(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	struct places places = find_places(journal);
	pthread_mutex_unlock(&journal->lock);
	return places.empty == SEGMENTS_MAX ? UINT_MAX : places.ready;
}

int journal_prepare(struct journal *journal, unsigned ahead, struct err *err)
{
	int rc = 0;
	pthread_mutex_lock(&journal->lock);
	struct places places = find_places(journal);
	while (rc == 0 && places.ready < ahead && places.empty != SEGMENTS_MAX) {
		if (may_grow(journal))
			rc = make_locked(journal, places.empty, err);
		else
			rc = err_set(err, ERR_DISK_FULL, "no room for more of the journal");
		places = find_places(journal);
	}
	pthread_mutex_unlock(&journal->lock);
	return rc;
}
