/*
 * A bounded cache of records and of the bytes of small files, kept right under change.
 *
 * Who wants to put what was read from the database takes a ticket before reading. Every invalidation makes older tickets of
 * that id void, so a row read before a change is never put after it. Thread: any; mutexes are held for a few instructions.
 */
#ifndef DEPOTD_CORE_CACHE_H
#define DEPOTD_CORE_CACHE_H

#include "depotd/core/files.h"

struct cache;

int cache_new(size_t records_max, size_t bytes_max, struct cache **out, struct err *err);
void cache_free(struct cache **cache);

uint64_t cache_ticket(struct cache *cache, const struct uuid *id);
/* 1 and references (*body NULL where the bytes are not in memory; body may be NULL), or 0. */
int cache_get(struct cache *cache, const struct uuid *id, struct file_record **record,
	      struct cached_body **body);
/* Takes references of its own; body may be NULL. Does nothing when the ticket is void. */
void cache_put(struct cache *cache, struct file_record *record, struct cached_body *body,
	       uint64_t ticket);
void cache_drop(struct cache *cache, const struct uuid *id);
void cache_drop_all(struct cache *cache);
size_t cache_records(struct cache *cache); /* how many there are now */

/* A body to be filled: *data has n bytes. One reference, the caller's. NULL out of memory. */
struct cached_body *cached_body_new(size_t n, void **data);

#endif
