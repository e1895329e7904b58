/*
 * The clockwork of group commit: items that come while all its threads run batches form the next batch.
 *
 * A free thread takes all that waits (at most batch_max) and hands it to the callback; nobody waits for a timer, so a lone item
 * goes at once and a crowd shares the cost. The callback completes every item it was given. With one thread batches never
 * overlap; more are for work that others (a file system's journal) gather once more.
 * Thread: batcher_submit() from any; the callback on the batcher's own threads.
 */
#ifndef DEPOTD_WORK_BATCHER_H
#define DEPOTD_WORK_BATCHER_H

#include <stddef.h>

#include "depotd/base/err.h"

struct batch_item {
	/* the batcher's until the callback gets it; then the callback's list link */
	struct batch_item *next;
};

struct batcher;

typedef void (*batch_run_fn)(void *context, struct batch_item **items, size_t n);

int batcher_new(const char *name, unsigned threads, size_t batch_max, size_t queue_max,
		batch_run_fn run, void *context, struct batcher **out, struct err *err);
/* 0 taken, -1 full or stopping: nothing happened. */
int batcher_submit(struct batcher *batcher, struct batch_item *item);
size_t batcher_depth(const struct batcher *batcher);
/* Runs what was submitted, then joins. */
void batcher_free(struct batcher **batcher);

#endif
