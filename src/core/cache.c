/*
 * The cache: sharded, least recently used goes first, each shard with its own mutex, list, table and budget.
 *
 * Invariants, per shard under its lock: an entry is in its bucket and in the list, or nowhere; `weight` is the sum of the entries'
 * weights and never above weight_max after an insertion; generations only grow. Threads: any.
 */
#include "cache_private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHARDS = 16,
	STRIPES =
		64, /* generations in a shard: an invalidation voids the tickets of a 64th of the shard's ids */
};

struct cached_body {
	atomic_uint refs;
	size_t n;
	unsigned char data[];
};

struct entry {
	struct entry *next_in_bucket;
	struct entry *newer, *older; /* the list by use */
	struct file_record *record;
	struct cached_body *body; /* or NULL */
	size_t weight;
};

struct shard {
	pthread_mutex_t lock; /* guards all of the shard */
	struct entry **buckets;
	size_t mask; /* buckets - 1 */
	struct entry *newest, *oldest;
	size_t count, count_max, weight, weight_max;
	uint64_t generations[STRIPES];
};

struct cache {
	struct shard shards[SHARDS];
};

/* --- bodies --- */

struct cached_body *cached_body_new(size_t n, void **data)
{
	struct cached_body *body = malloc(sizeof(*body) + n);
	if (!body)
		return NULL;
	atomic_init(&body->refs, 1);
	body->n = n;
	*data = body->data;
	return body;
}

const void *cached_body_data(const struct cached_body *body, size_t *n)
{
	*n = body->n;
	return body->data;
}

struct cached_body *cached_body_ref(struct cached_body *body)
{
	atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
	return body;
}

void cached_body_unref(struct cached_body **bodyp)
{
	struct cached_body *body = *bodyp;
	*bodyp = NULL;
	if (body && atomic_fetch_sub_explicit(&body->refs, 1, memory_order_acq_rel) == 1)
		free(body);
}

/* --- entries --- */

/* The last 8 bytes of an id are its random ones. */
static uint64_t hash_of(const struct uuid *id)
{
	uint64_t h;
	memcpy(&h, id->bytes + 8, sizeof(h));
	h ^= h >> 32; /* ids that other software made may be poor in one half */
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ (h >> 29);
}

static struct shard *shard_of(struct cache *cache, uint64_t hash)
{
	return &cache->shards[hash % SHARDS];
}

static uint64_t *generation_of(struct shard *shard, uint64_t hash)
{
	return &shard->generations[hash / SHARDS % STRIPES];
}

static struct entry **bucket_of(struct shard *shard, uint64_t hash)
{
	return &shard->buckets[(hash / SHARDS / STRIPES) & shard->mask];
}

static size_t weight_of(const struct file_record *record, const struct cached_body *body)
{
	return sizeof(struct entry) + sizeof(*record) + strlen(record->name) +
	       strlen(record->type) + strlen(record->tags) + strlen(record->attributes) +
	       (body ? sizeof(*body) + body->n : 0);
}

static void list_remove(struct shard *shard, struct entry *entry)
{
	*(entry->newer ? &entry->newer->older : &shard->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &shard->oldest) = entry->newer;
}

static void list_push(struct shard *shard, struct entry *entry)
{
	entry->newer = NULL;
	entry->older = shard->newest;
	*(shard->newest ? &shard->newest->newer : &shard->oldest) = entry;
	shard->newest = entry;
}

/* The place that points to the entry, or to NULL. */
static struct entry **find(struct shard *shard, uint64_t hash, const struct uuid *id)
{
	struct entry **at = bucket_of(shard, hash);
	while (*at && uuid_compare(&(*at)->record->id, id) != 0)
		at = &(*at)->next_in_bucket;
	return at;
}

static void remove_at(struct shard *shard, struct entry **at)
{
	struct entry *entry = *at;
	*at = entry->next_in_bucket;
	list_remove(shard, entry);
	shard->count--;
	shard->weight -= entry->weight;
	file_record_unref(&entry->record);
	cached_body_unref(&entry->body);
	free(entry);
}

static void shrink(struct shard *shard)
{
	while (shard->oldest &&
	       (shard->count > shard->count_max || shard->weight > shard->weight_max)) {
		struct uuid id = shard->oldest->record->id;
		remove_at(shard, find(shard, hash_of(&id), &id));
	}
}

/* --- the face --- */

uint64_t cache_ticket(struct cache *cache, const struct uuid *id)
{
	uint64_t hash = hash_of(id);
	struct shard *shard = shard_of(cache, hash);
	pthread_mutex_lock(&shard->lock);
	uint64_t ticket = *generation_of(shard, hash);
	pthread_mutex_unlock(&shard->lock);
	return ticket;
}

int cache_get(struct cache *cache, const struct uuid *id, struct file_record **record,
	      struct cached_body **body)
{
	uint64_t hash = hash_of(id);
	struct shard *shard = shard_of(cache, hash);
	pthread_mutex_lock(&shard->lock);
	struct entry *entry = *find(shard, hash, id);
	if (entry) {
		if (shard->newest != entry) {
			list_remove(shard, entry);
			list_push(shard, entry);
		}
		*record = file_record_ref(entry->record);
		if (body)
			*body = entry->body ? cached_body_ref(entry->body) : NULL;
	}
	pthread_mutex_unlock(&shard->lock);
	return entry != NULL;
}

/* A new record of the same id has the same bytes: they are kept. */
static void put_locked(struct shard *shard, uint64_t hash, struct entry *fresh)
{
	struct entry **at = find(shard, hash, &fresh->record->id);
	if (*at) {
		if (!fresh->body && (*at)->body)
			fresh->body = cached_body_ref((*at)->body);
		remove_at(shard, at);
	}
	fresh->weight = weight_of(fresh->record, fresh->body);
	struct entry **bucket = bucket_of(shard, hash);
	fresh->next_in_bucket = *bucket;
	*bucket = fresh;
	list_push(shard, fresh);
	shard->count++;
	shard->weight += fresh->weight;
	shrink(shard);
}

void cache_put(struct cache *cache, struct file_record *record, struct cached_body *body,
	       uint64_t ticket)
{
	uint64_t hash = hash_of(&record->id);
	struct shard *shard = shard_of(cache, hash);
	/* Too large for the shard alone: it would only push everything else out, itself at last. */
	if (shard->count_max == 0 || weight_of(record, NULL) > shard->weight_max)
		return;
	if (body && weight_of(record, body) > shard->weight_max)
		body = NULL;
	struct entry *fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return;
	fresh->record = file_record_ref(record);
	fresh->body = body ? cached_body_ref(body) : NULL;
	pthread_mutex_lock(&shard->lock);
	bool valid = *generation_of(shard, hash) == ticket;
	if (valid)
		put_locked(shard, hash, fresh);
	pthread_mutex_unlock(&shard->lock);
	if (valid)
		return;
	file_record_unref(&fresh->record);
	cached_body_unref(&fresh->body);
	free(fresh);
}

void cache_drop(struct cache *cache, const struct uuid *id)
{
	uint64_t hash = hash_of(id);
	struct shard *shard = shard_of(cache, hash);
	pthread_mutex_lock(&shard->lock);
	++*generation_of(shard, hash);
	struct entry **at = find(shard, hash, id);
	if (*at)
		remove_at(shard, at);
	pthread_mutex_unlock(&shard->lock);
}

static void drop_shard(struct shard *shard)
{
	pthread_mutex_lock(&shard->lock);
	for (size_t i = 0; i < STRIPES; i++)
		shard->generations[i]++;
	for (size_t i = 0; i <= shard->mask; i++)
		while (shard->buckets[i])
			remove_at(shard, &shard->buckets[i]);
	pthread_mutex_unlock(&shard->lock);
}

void cache_drop_all(struct cache *cache)
{
	for (size_t i = 0; i < SHARDS; i++)
		drop_shard(&cache->shards[i]);
}

size_t cache_records(struct cache *cache)
{
	size_t n = 0;
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&cache->shards[i].lock);
		n += cache->shards[i].count;
		pthread_mutex_unlock(&cache->shards[i].lock);
	}
	return n;
}

int cache_new(size_t records_max, size_t bytes_max, struct cache **out, struct err *err)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return err_set(err, ERR_NO_MEMORY, "cache");
	size_t each = (records_max + SHARDS - 1) / SHARDS, buckets = 8;
	while (buckets < each && buckets < ((size_t)1 << 24))
		buckets *= 2;
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *shard = &cache->shards[i];
		pthread_mutex_init(&shard->lock, NULL);
		shard->mask = buckets - 1;
		shard->count_max = each;
		shard->weight_max = bytes_max / SHARDS;
		shard->buckets = calloc(buckets, sizeof(struct entry *));
	}
	for (size_t i = 0; i < SHARDS; i++)
		if (!cache->shards[i].buckets) {
			cache_free(&cache);
			return err_set(err, ERR_NO_MEMORY, "cache");
		}
	*out = cache;
	return 0;
}

void cache_free(struct cache **cachep)
{
	struct cache *cache = *cachep;
	if (!cache)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		if (cache->shards[i].buckets)
			drop_shard(&cache->shards[i]);
		free(cache->shards[i].buckets);
		pthread_mutex_destroy(&cache->shards[i].lock);
	}
	free(cache);
	*cachep = NULL;
}
