/*
 * Two threads for one fast upload. SHA-256 is as much work as receiving and writing together, and it goes in order: so one thread
 * hashes at a time. Writing goes in any order, also by one thread at a time, as the kernel would have the other wait. The owner
 * receives as long as there is something, and writes when there is not, or when its buffers are full. The second hashes, and writes
 * when there is nothing to hash. So both are busy to the end, whatever else their processors do (a client on this machine takes
 * half of one).
 *
 * Waking a thread costs as much as hashing some 50 KB. So the second gets up when there is something to do, stays until there is
 * nothing, and an owner that waits for a stretch has itself woken when half of what is behind is done, too.
 *
 * Invariants: stretches [first, end) are left; of them those before `hashed` have been hashed. Only who sets `hashing` touches the
 * digest and moves `hashed`, only who sets `writing` writes, and both clear what they set. A stretch is `taken` from when its
 * writing begins. The owner waits only while the second does something, never for it to begin: where all workers are busy, it does
 * everything itself. A task that the owner has left behind frees what it finds. The lock is held for a few instructions.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "backlog_private.h"

enum {
	STRETCHES = 64,
	BEGIN_BYTES = 1024 * 1024, /* to be hashed: worth waking the second for */
};

struct stretch {
	const char *data;
	size_t n;
	int64_t offset;
	bool taken, written;
	char copy[UPLOAD_COPIED]; /* of so few bytes */
};

struct backlog {
	struct pool *workers;
	struct digest *digest;
	struct blob_writer *writer;
	struct task task;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t moved;
	struct stretch stretches[STRETCHES];
	unsigned first, hashed, end; /* positions; stretches[position % STRETCHES] */
	size_t unhashed;             /* bytes in [hashed, end) */
	bool hashing, writing;
	bool submitted; /* the task is queued or runs */
	bool waiting;   /* the owner, until `first` is `until` or behind */
	unsigned until;
	bool abandoned; /* the owner has gone: the task frees it */
	bool dropped;   /* nobody wants it any more: what is left is passed over */
	bool failed;    /* `err` says why; the same */
	bool told;      /* the owner knows */
	struct err err;
};

static void destroy(struct backlog *b)
{
	pthread_cond_destroy(&b->moved);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static struct stretch *at(struct backlog *b, unsigned position)
{
	return &b->stretches[position % STRETCHES];
}

static bool is_behind(const struct backlog *b, unsigned position)
{
	return (int)(b->first - position) >= 0;
}

/* Something was done, or failed. */
static void advance(struct backlog *b, int rc, const struct err *err)
{
	if (rc < 0 && !b->failed) {
		b->failed = true;
		b->err = *err;
	}
	while (b->first != b->hashed && at(b, b->first)->written)
		b->first++;
}

/* Hashes the next stretch. With the lock, which it leaves meanwhile. False: there is none, or somebody does already. */
static bool hash_next(struct backlog *b)
{
	const struct stretch *s =
		at(b, b->hashed); /* nobody takes it away before `first` is past it */
	struct err err;
	int rc = 0;

	if (b->hashing || b->hashed == b->end)
		return false;
	b->hashing = true;
	if (!b->failed && !b->dropped) {
		pthread_mutex_unlock(&b->lock);
		rc = digest_update(b->digest, s->data, s->n, &err);
		pthread_mutex_lock(&b->lock);
	}
	b->hashing = false;
	b->unhashed -= s->n;
	b->hashed++;
	advance(b, rc, &err);
	return true;
}

/* Writes the oldest stretch that is not written. As hash_next(). */
static bool write_next(struct backlog *b)
{
	unsigned position = b->first;
	struct err err;
	int rc = 0;

	while (position != b->end && at(b, position)->taken)
		position++;
	if (b->writing || position == b->end)
		return false;
	struct stretch *s = at(b, position);
	b->writing = s->taken = true;
	if (!b->failed && !b->dropped) {
		pthread_mutex_unlock(&b->lock);
		rc = blob_fill(b->writer, s->offset, s->data, s->n, &err);
		pthread_mutex_lock(&b->lock);
	}
	b->writing = false;
	s->written = true;
	advance(b, rc, &err);
	return true;
}

/* The second worker. */
static void run(struct task *task)
{
	struct backlog *b =
		(struct backlog *)(void *)((char *)task - offsetof(struct backlog, task));

	pthread_mutex_lock(&b->lock);
	while (hash_next(b) || write_next(b)) {
		if (b->waiting && is_behind(b, b->until)) {
			b->waiting = false;
			pthread_cond_signal(&b->moved);
		}
	}
	b->submitted = false;
	bool abandoned = b->abandoned;
	pthread_mutex_unlock(&b->lock);
	if (abandoned)
		destroy(b);
}

struct backlog *backlog_new(struct pool *workers, struct digest *digest, struct blob_writer *writer)
{
	struct backlog *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->moved, NULL);
	b->workers = workers;
	b->digest = digest;
	b->writer = writer;
	b->task.run = run;
	return b;
}

/* The owner does something. False: the second does all that there is. */
static bool help(struct backlog *b)
{
	return write_next(b) || hash_next(b);
}

/* Until the stretches before `position` are done, and if that means waiting, those before `better`. With the lock. */
static void reach(struct backlog *b, unsigned position, unsigned better)
{
	while (!is_behind(b, position)) {
		if (help(b))
			continue;
		b->until = better;
		b->waiting = true;
		while (b->waiting)
			pthread_cond_wait(&b->moved, &b->lock);
	}
}

static int outcome(struct backlog *b, struct err *err)
{
	if (!b->failed)
		return 0;
	b->told = true;
	*err = b->err;
	return -1;
}

int backlog_add(struct backlog *b, const void *data, size_t n, struct err *err)
{
	int64_t offset;

	if (blob_claim(b->writer, n, &offset, err) < 0)
		return -1; /* whatever else has failed is told by backlog_free() */
	pthread_mutex_lock(&b->lock);
	if (b->end - b->first == STRETCHES)
		reach(b, b->first + 1, b->first + STRETCHES / 2);
	struct stretch *s = at(b, b->end++);
	s->data = n > sizeof(s->copy) ? data : memcpy(s->copy, data, n);
	s->n = n;
	s->offset = offset;
	s->taken = s->written = false;
	b->unhashed += n;
	bool submit = !b->submitted && b->unhashed >= BEGIN_BYTES;
	b->submitted = b->submitted || submit;
	int rc = outcome(b, err);
	pthread_mutex_unlock(&b->lock);
	if (submit && pool_submit_urgent(b->workers, &b->task) != 0) {
		pthread_mutex_lock(&b->lock);
		b->submitted = false;
		pthread_mutex_unlock(&b->lock);
	}
	return rc;
}

bool backlog_is_clear(struct backlog *b)
{
	pthread_mutex_lock(&b->lock);
	bool clear = b->first == b->end;
	pthread_mutex_unlock(&b->lock);
	return clear;
}

int backlog_help(struct backlog *b, struct err *err)
{
	pthread_mutex_lock(&b->lock);
	bool helped = help(b);
	int rc = outcome(b, err);
	pthread_mutex_unlock(&b->lock);
	return rc < 0 ? rc : helped;
}

int backlog_clear(struct backlog *b, const void *data, size_t n, struct err *err)
{
	const char *from = data;

	pthread_mutex_lock(&b->lock);
	unsigned position = b->first;
	for (unsigned i = b->first; i != b->end; i++) {
		const struct stretch *s = at(b, i);
		if (!from || (s->data < from + n && from < s->data + s->n))
			position = i + 1;
	}
	reach(b, position, position + (b->end - position) / 2);
	int rc = outcome(b, err);
	pthread_mutex_unlock(&b->lock);
	return rc;
}

int backlog_free(struct backlog **backlog, struct err *err)
{
	struct backlog *b = *backlog;

	*backlog = NULL;
	if (!b)
		return 0;
	pthread_mutex_lock(&b->lock);
	b->dropped = true;
	reach(b, b->end, b->end);
	int rc = b->told ? 0 : outcome(b, err);
	b->abandoned = true;
	bool later = b->submitted;
	pthread_mutex_unlock(&b->lock);
	if (!later)
		destroy(b);
	return rc;
}
