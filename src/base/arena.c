/* Blocks in a list, the newest first; a piece too large for a block gets one of its own. The first may be the caller's. */
#include "depotd/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 1024 - 16 /* what malloc keeps for itself */ };

struct arena_block {
	struct arena_block *next;
	size_t used;
	size_t size;
	alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *a, size_t max)
{
	*a = (struct arena){.max = max};
}

void arena_init_in(struct arena *a, size_t max, void *room, size_t n)
{
	arena_init(a, max);
	if (n <= sizeof(struct arena_block))
		return;
	a->room = room;
	*a->room = (struct arena_block){.size = n - sizeof(struct arena_block)};
	a->blocks = a->room;
}

void arena_release(struct arena *a)
{
	for (struct arena_block *block = a->blocks, *next; block != NULL; block = next) {
		next = block->next;
		if (block != a->room)
			free(block);
	}
	arena_init(a, a->max);
}

static struct arena_block *arena_grow(struct arena *a, size_t n)
{
	size_t plain = ARENA_BLOCK - sizeof(struct arena_block);
	size_t size = n > plain ? n : plain;
	struct arena_block *block = malloc(sizeof(*block) + size);
	if (block == NULL)
		return NULL;
	block->used = 0;
	block->size = size;
	/* A large piece fills its block at once: behind the first, so that the first goes on being filled. */
	if (n > plain / 2 && a->blocks != NULL) {
		block->next = a->blocks->next;
		a->blocks->next = block;
	} else {
		block->next = a->blocks;
		a->blocks = block;
	}
	return block;
}

void *arena_alloc(struct arena *a, size_t n)
{
	const size_t align = alignof(max_align_t);
	if (n > a->max - a->used || n > SIZE_MAX / 2) {
		a->failed = true;
		return NULL;
	}
	size_t rounded = (n + align - 1) / align * align;
	struct arena_block *block = a->blocks;
	if (block == NULL || rounded > block->size - block->used) {
		block = arena_grow(a, rounded);
		if (block == NULL) {
			a->failed = true;
			return NULL;
		}
	}
	void *piece = block->data + block->used;
	block->used += rounded;
	/* The ceiling counts what is really taken, but the last piece may be cut to it. */
	a->used = rounded > a->max - a->used ? a->max : a->used + rounded;
	return memset(piece, 0, n);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	n = strnlen(s, n);
	char *copy = arena_alloc(a, n + 1);
	if (copy != NULL && n > 0)
		memcpy(copy, s, n);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	char *text = NULL;
	int wanted = vsnprintf(NULL, 0, format, args);
	if (wanted >= 0)
		text = arena_alloc(a, (size_t)wanted + 1);
	if (text != NULL)
		vsnprintf(text, (size_t)wanted + 1, format, again);
	va_end(again);
	va_end(args);
	return text;
}
