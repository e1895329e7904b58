/*
 * Which files are known to be damaged, in memory, so that who serves can ask without waiting for anything.
 *
 * The database is where marks live; this is a copy that the scrubber keeps, with what it found itself at once and what others
 * (`check --repair`, another node) found when it next loads. A reader that meets wrong bytes only makes the file suspect: it
 * fails its own request, and the scrubber looks again, at the disk, before anything is marked. That somebody misses bytes which
 * are here says that he looked in another directory, and counts for nothing. Threads: any, each for a few instructions under the
 * lock; while no file is damaged, not even that.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/metadata/upkeep.h"

#include "upkeep_private.h"

enum {
	DAMAGED_MAX = 1000000, /* more are still found when they are read; 16 bytes each */
	SUSPECTS_MAX = 64, /* a file that finds no place is suspected again when it is next read */
};

struct id_set {
	struct uuid *ids; /* sorted, without duplicates */
	size_t n, room;
};

struct damage {
	pthread_mutex_t lock; /* guards all below */
	struct id_set known;
	struct uuid suspects[SUSPECTS_MAX];
	size_t suspect_count;
	atomic_size_t count; /* known.n, to be read without the lock */
};

/* --- sorted ids --- */

/* The place of the id, or where it would be. */
static size_t place_of(const struct id_set *set, const struct uuid *id)
{
	size_t low = 0, high = set->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (uuid_compare(&set->ids[middle], id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool contains(const struct id_set *set, const struct uuid *id)
{
	size_t at = place_of(set, id);
	return at < set->n && uuid_compare(&set->ids[at], id) == 0;
}

static bool make_room(struct id_set *set)
{
	if (set->n < set->room)
		return true;
	size_t room = set->room ? set->room * 2 : 64;
	struct uuid *ids = set->n < DAMAGED_MAX ? realloc(set->ids, room * sizeof(*ids)) : NULL;
	if (!ids)
		return false;
	set->ids = ids;
	set->room = room;
	return true;
}

static void insert(struct id_set *set, const struct uuid *id)
{
	size_t at = place_of(set, id);
	if (contains(set, id) || !make_room(set))
		return;
	memmove(&set->ids[at + 1], &set->ids[at], (set->n - at) * sizeof(set->ids[0]));
	set->ids[at] = *id;
	set->n++;
}

static void take_out(struct id_set *set, const struct uuid *id)
{
	size_t at = place_of(set, id);
	if (!contains(set, id))
		return;
	set->n--;
	memmove(&set->ids[at], &set->ids[at + 1], (set->n - at) * sizeof(set->ids[0]));
}

/* --- the face --- */

int damage_new(struct core *core, struct err *err)
{
	struct damage *damage = calloc(1, sizeof(*damage));
	if (!damage)
		return err_set(err, ERR_NO_MEMORY, "damage");
	pthread_mutex_init(&damage->lock, NULL);
	atomic_init(&damage->count, 0);
	core->damage = damage;
	return 0;
}

void damage_free(struct core *core)
{
	if (!core->damage)
		return;
	pthread_mutex_destroy(&core->damage->lock);
	free(core->damage->known.ids);
	free(core->damage);
	core->damage = NULL;
}

/* Under the lock. */
static void count_locked(struct core *core)
{
	atomic_store_explicit(&core->damage->count, core->damage->known.n, memory_order_release);
	metric_set(core->damaged_files, (int64_t)core->damage->known.n);
}

bool damage_known(struct core *core, const struct uuid *id)
{
	struct damage *damage = core->damage;
	if (atomic_load_explicit(&damage->count, memory_order_acquire) == 0)
		return false;
	pthread_mutex_lock(&damage->lock);
	bool known = contains(&damage->known, id);
	pthread_mutex_unlock(&damage->lock);
	return known;
}

int damage_suspect(struct core *core, const struct uuid *id, const char *what, struct err *err)
{
	struct damage *damage = core->damage;
	bool there = false;
	pthread_mutex_lock(&damage->lock);
	for (size_t i = 0; i < damage->suspect_count; i++)
		there = there || uuid_compare(&damage->suspects[i], id) == 0;
	if (!there && damage->suspect_count < SUSPECTS_MAX)
		damage->suspects[damage->suspect_count++] = *id;
	pthread_mutex_unlock(&damage->lock);
	scrubber_wake(core);
	return err_set(err, ERR_DAMAGED, "the stored bytes are damaged: %s", what);
}

bool damage_suspected(struct core *core)
{
	pthread_mutex_lock(&core->damage->lock);
	bool any = core->damage->suspect_count > 0;
	pthread_mutex_unlock(&core->damage->lock);
	return any;
}

bool damage_next_suspect(struct core *core, struct uuid *id)
{
	struct damage *damage = core->damage;
	pthread_mutex_lock(&damage->lock);
	bool there = damage->suspect_count > 0;
	if (there)
		*id = damage->suspects[--damage->suspect_count];
	pthread_mutex_unlock(&damage->lock);
	return there;
}

void damage_mark(struct core *core, const struct uuid *id, bool damaged)
{
	struct damage *damage = core->damage;
	pthread_mutex_lock(&damage->lock);
	if (damaged)
		insert(&damage->known, id);
	else
		take_out(&damage->known, id);
	count_locked(core);
	pthread_mutex_unlock(&damage->lock);
	if (damaged)
		cache_drop(core->cache, id); /* so that every way to the bytes fails alike */
}

/* --- loading --- */

struct loading {
	struct core *core;
	struct id_set fresh;
};

static bool bytes_are_here(struct core *core, const struct uuid *id)
{
	struct blob_reader *reader = NULL;
	struct err ignored;
	bool here = blob_open(core->blobs, id, &reader, &ignored) == 1;
	blob_reader_free(&reader);
	return here;
}

/* Bytes that were missed here and have come back stay known until they were read. */
static bool is_of_another_directory(struct core *core, const struct uuid *id, const char *why)
{
	return strcmp(why, DAMAGE_MISSING) == 0 && !damage_known(core, id) &&
	       bytes_are_here(core, id);
}

static int take_id(void *context, const struct uuid *id, int64_t damaged_ms, const char *why,
		   struct err *err)
{
	struct loading *loading = context;
	struct id_set *set = &loading->fresh;
	(void)damaged_ms;
	if (is_of_another_directory(loading->core, id, why))
		return 0;
	if (!make_room(set))
		return err_set(err, ERR_NO_MEMORY, "damaged files");
	set->ids[set->n++] = *id;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return uuid_compare(a, b);
}

int damage_load(struct core *core, struct err *err)
{
	struct damage *damage = core->damage;
	struct loading loading = {.core = core};
	if (metadata_damaged(core->metadata, DAMAGED_MAX, take_id, &loading, err) < 0) {
		free(loading.fresh.ids);
		return -1;
	}
	struct id_set fresh = loading.fresh;
	if (fresh.n > 0)
		qsort(fresh.ids, fresh.n, sizeof(fresh.ids[0]), compare);
	pthread_mutex_lock(&damage->lock);
	struct id_set before = damage->known;
	damage->known = fresh;
	count_locked(core);
	pthread_mutex_unlock(&damage->lock);
	for (size_t i = 0; i < fresh.n; i++) /* only this thread changes the set */
		if (!contains(&before, &fresh.ids[i]))
			cache_drop(core->cache, &fresh.ids[i]);
	free(before.ids);
	return 0;
}
