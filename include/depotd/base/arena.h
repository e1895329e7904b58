/*
 * Memory of one request: many small pieces, freed together. Born with a ceiling; NULL past it or out of memory.
 * Pieces are aligned for any type. Thread: one owner at a time.
 */
#ifndef DEPOTD_BASE_ARENA_H
#define DEPOTD_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;
struct arena {
	struct arena_block *blocks;
	struct arena_block *room; /* the caller's, or NULL */
	size_t used;              /* bytes given out so far */
	size_t max;
	bool failed; /* a piece was refused since the last release: for those who ask once for many */
};

void arena_init(struct arena *a, size_t max);
/* The first pieces come out of n bytes of the caller's, aligned for any type, which stay until the release. */
void arena_init_in(struct arena *a, size_t max, void *room, size_t n);
void arena_release(struct arena *a);
void *arena_alloc(struct arena *a, size_t n); /* zeroed */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
