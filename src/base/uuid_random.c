/*
 * The one file that sees libuuid, and where ids get their random bits.
 *
 * libuuid asks the kernel once for each id, with six system calls: a tenth of what a small upload costs. The same source, the
 * kernel's, is asked here for POOL_BYTES at once, and each byte is handed out once. Where the kernel has no getrandom(), or a
 * sandbox forbids it, libuuid does it, which knows other ways.
 *
 * Ids are no secrets, so the pool needs no wiping; but a forked child empties its copy, or both would make the same ids. Any
 * thread.
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <uuid/uuid.h>

#include "uuid_private.h"

enum { POOL_BYTES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the pool */
static unsigned char pool[POOL_BYTES];
static size_t left; /* bytes of the pool's end that nobody had yet */
static bool forks_seen_to;

static void in_child(void)
{
	left = 0;
}

void uuid_random_bytes(unsigned char out[16])
{
	pthread_mutex_lock(&lock);
	/* Up to 256 bytes come whole or not at all; of more a signal may cut some off, and then fewer are there to be had. */
	if (!forks_seen_to)
		forks_seen_to = pthread_atfork(NULL, NULL, in_child) == 0;
	if (left < 16) {
		ssize_t got = getrandom(pool, sizeof(pool), 0);
		left = got > 0 ? (size_t)got : 0;
		memmove(pool + sizeof(pool) - left, pool, left);
	}
	bool enough = left >= 16;
	if (enough) {
		memcpy(out, pool + sizeof(pool) - left, 16);
		left -= 16;
	}
	pthread_mutex_unlock(&lock);
	if (!enough)
		uuid_generate_random(out);
}
