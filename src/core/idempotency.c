/*
 * Who runs and who waits, of the requests that have one Idempotency-Key, and what this node knows of keys beyond the database.
 *
 * An entry of the table is a key with requests under way, or one whose answer is worth remembering: a pending one (the database
 * does not have it yet) always, a recent one (the database has it, but may go away before the repeat comes) while there is room.
 * Invariants, under the lock: an entry has a runner unless it has no request, or an answer, or all of its requests are still to
 * settle; nobody waits at an entry with an answer; an entry without requests is pending or recent. The database is asked, and
 * again() is called, without the lock. A balanced tree and no hash table: clients choose the keys. Threads: any.
 */
#include "depotd/core/idempotency.h"

#include <assert.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"

#include "core_private.h"

enum { RECENT_MAX = 4096 }; /* some 300 bytes each */

/* An answer by the ids of its files, which describe themselves. */
struct known {
	struct uuid request;
	unsigned char fingerprint[SHA256_LEN];
	int64_t answered_ms;
	struct uuid *ids; /* NULL: nothing is known */
	size_t n;
	bool pending;
};

struct key_entry {
	const char *owner, *key;         /* in this very allocation */
	struct keyed *first, *last;      /* its requests, in the order of entering */
	struct keyed *runner;            /* the one that may go on */
	struct key_answer answer;        /* files NULL: none yet. While there are requests */
	struct known known;              /* beyond them */
	struct key_entry *newer, *older; /* among the recent ones */
	bool recent;
};

struct keys {
	pthread_mutex_t lock; /* a leaf; guards all of this */
	void *tree;           /* tsearch(3) */
	struct key_entry *newest, *oldest;
	size_t recent_n;
};

int keys_new(struct keys **out, struct err *err)
{
	struct keys *keys = calloc(1, sizeof(*keys));
	if (!keys)
		return err_set(err, ERR_NO_MEMORY, "the table of keys");
	pthread_mutex_init(&keys->lock, NULL);
	*out = keys;
	return 0;
}

/* --- entries; under the lock --- */

static int compare(const void *a, const void *b)
{
	const struct key_entry *left = a, *right = b;
	int rc = strcmp(left->key, right->key);
	return rc != 0 ? rc : strcmp(left->owner, right->owner);
}

static struct key_entry *entry_find(struct keys *keys, const char *owner, const char *key)
{
	struct key_entry wanted = {.owner = owner ? owner : "", .key = key};
	struct key_entry **at = tfind(&wanted, &keys->tree, compare);
	return at ? *at : NULL;
}

/* The one there is, or a new one that is nothing yet: it must become something before the lock is given up. */
static struct key_entry *entry_get(struct keys *keys, const char *owner, const char *key)
{
	struct key_entry *entry = entry_find(keys, owner, key);
	if (entry)
		return entry;
	size_t key_size = strlen(key) + 1, owner_size = strlen(owner ? owner : "") + 1;
	entry = calloc(1, sizeof(*entry) + key_size + owner_size);
	if (!entry)
		return NULL;
	char *texts = (char *)(entry + 1);
	memcpy(texts, key, key_size);
	memcpy(texts + key_size, owner ? owner : "", owner_size);
	entry->key = texts;
	entry->owner = texts + key_size;
	if (tsearch(entry, &keys->tree, compare))
		return entry;
	free(entry);
	return NULL;
}

static void entry_free(struct keys *keys, struct key_entry *entry)
{
	tdelete(entry, &keys->tree, compare);
	key_answer_release(&entry->answer);
	free(entry->known.ids);
	free(entry);
}

static void recent_remove(struct keys *keys, struct key_entry *entry)
{
	if (!entry->recent)
		return;
	*(entry->newer ? &entry->newer->older : &keys->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &keys->oldest) = entry->newer;
	entry->recent = false;
	keys->recent_n--;
}

static void recent_push(struct keys *keys, struct key_entry *entry)
{
	entry->newer = NULL;
	entry->older = keys->newest;
	*(keys->newest ? &keys->newest->newer : &keys->oldest) = entry;
	keys->newest = entry;
	entry->recent = true;
	keys->recent_n++;
}

/* Whoever changed an entry calls this before giving up the lock; the entry may be gone after. */
static void entry_tidy(struct keys *keys, struct key_entry *entry)
{
	recent_remove(keys, entry);
	if (entry->first)
		return;
	key_answer_release(&entry->answer);
	if (entry->known.pending)
		return;
	if (!entry->known.ids) {
		entry_free(keys, entry);
		return;
	}
	recent_push(keys, entry);
	if (keys->recent_n > RECENT_MAX) {
		struct key_entry *oldest = keys->oldest;
		recent_remove(keys, oldest);
		entry_free(keys, oldest);
	}
}

void keys_free(struct keys **keysp)
{
	struct keys *keys = *keysp;
	*keysp = NULL;
	if (!keys)
		return;
	while (keys->tree) {
		struct key_entry *entry = *(struct key_entry **)keys->tree;
		assert(!entry->first);
		entry_free(keys, entry);
	}
	pthread_mutex_destroy(&keys->lock);
	free(keys);
}

/* Remembers an answer by its ids, which it takes over, in place of what was known. */
static void entry_know(struct key_entry *entry, const struct idempotency *idempotency,
		       struct uuid *ids, size_t n, bool pending)
{
	/* The registrar has said so already, and perhaps since that it is registered. */
	if (entry->known.ids && !pending &&
	    uuid_compare(&entry->known.request, &idempotency->request) == 0) {
		free(ids);
		return;
	}
	free(entry->known.ids);
	entry->known = (struct known){.request = idempotency->request,
				      .answered_ms = clock_wall_ms(),
				      .ids = ids,
				      .n = n,
				      .pending = pending};
	memcpy(entry->known.fingerprint, idempotency->fingerprint, SHA256_LEN);
}

/* --- waking --- */

/* Takes those who wait off the entry: all of them, or the first. */
static struct keyed *take_waiting(struct key_entry *entry, bool all)
{
	struct keyed *awake = NULL, **end = &awake;
	for (struct keyed *keyed = entry->first; keyed; keyed = keyed->next) {
		if (!keyed->waits)
			continue;
		keyed->waits = false;
		keyed->next_awake = NULL;
		*end = keyed;
		end = &keyed->next_awake;
		if (!all)
			break;
	}
	return awake;
}

/* Without the lock. Each may be gone as soon as it was called. */
static void wake(struct keyed *awake)
{
	while (awake) {
		struct keyed *next = awake->next_awake;
		awake->again(awake);
		awake = next;
	}
}

/* --- entering and leaving --- */

int keyed_enter(struct core *core, struct keyed *keyed, const char *owner, struct err *err)
{
	struct keys *keys = core->keys;
	keyed->idempotency.request = uuid_new();
	keyed->waits = false;
	keyed->next = NULL;
	pthread_mutex_lock(&keys->lock);
	struct key_entry *entry = entry_get(keys, owner, keyed->idempotency.key);
	if (entry) {
		keyed->prev = entry->last;
		*(entry->last ? &entry->last->next : &entry->first) = keyed;
		entry->last = keyed;
		if (!entry->runner)
			entry->runner = keyed;
		entry_tidy(keys, entry);
	}
	keyed->entry = entry;
	pthread_mutex_unlock(&keys->lock);
	return entry ? 0 : err_set(err, ERR_NO_MEMORY, "a request with a key");
}

void keyed_leave(struct core *core, struct keyed *keyed)
{
	struct keys *keys = core->keys;
	struct key_entry *entry = keyed->entry;
	struct keyed *awake = NULL;
	if (!entry)
		return;
	pthread_mutex_lock(&keys->lock);
	*(keyed->prev ? &keyed->prev->next : &entry->first) = keyed->next;
	*(keyed->next ? &keyed->next->prev : &entry->last) = keyed->prev;
	keyed->entry = NULL;
	if (entry->runner == keyed) {
		/* Who has all of its body already goes first; else whoever came first. */
		awake = take_waiting(entry, false);
		entry->runner = awake ? awake : entry->first;
	}
	entry_tidy(keys, entry);
	pthread_mutex_unlock(&keys->lock);
	wake(awake);
}

/* --- answers --- */

static int copy_files(struct file_record *const *files, size_t n, struct file_record ***out)
{
	struct file_record **copy = calloc(n, sizeof(struct file_record *));
	if (!copy)
		return -1;
	for (size_t i = 0; i < n; i++)
		copy[i] = file_record_ref(files[i]);
	*out = copy;
	return 0;
}

/* What the answer means for this request. Under the lock. */
static enum keyed_verdict compare_answer(struct core *core, const struct keyed *keyed,
					 struct key_answer *answer, struct err *err)
{
	const struct key_answer *first = &keyed->entry->answer;
	if (memcmp(first->fingerprint, keyed->idempotency.fingerprint, SHA256_LEN) != 0) {
		metric_add(core->repeats_refused, 1);
		(void)err_set(err, ERR_UNPROCESSABLE,
			      "Idempotency-Key: this key was used for another request");
		return KEYED_REFUSED;
	}
	struct key_answer copy = *first;
	if (copy_files(first->files, first->n, &copy.files) < 0) {
		(void)err_set(err, ERR_NO_MEMORY, "the answer to a repeat");
		return KEYED_REFUSED;
	}
	metric_add(core->repeats_answered, 1);
	*answer = copy;
	return KEYED_ANSWERED;
}

/* The entry has its answer, which it takes over. Under the lock; whoever is returned is to be woken without it. */
static struct keyed *entry_answer(struct key_entry *entry, struct key_answer *answer)
{
	key_answer_release(&entry->answer);
	entry->answer = *answer;
	*answer = (struct key_answer){0};
	return take_waiting(entry, true);
}

/* The answer from its files as they are now: while the database is away nothing changes them. 1, 0 one is gone, -1. */
static int recall(struct core *core, const struct known *known, struct key_answer *out,
		  struct err *err)
{
	struct key_answer answer = {.request = known->request, .answered_ms = known->answered_ms};
	int rc = 1;
	memcpy(answer.fingerprint, known->fingerprint, SHA256_LEN);
	answer.files = calloc(known->n + 1, sizeof(struct file_record *));
	if (!answer.files)
		return err_set(err, ERR_NO_MEMORY, "the answer to a repeat");
	while (rc == 1 && answer.n < known->n) {
		rc = files_find(core, &known->ids[answer.n], &answer.files[answer.n], err);
		answer.n += rc == 1;
	}
	if (rc == 1)
		*out = answer;
	else
		key_answer_release(&answer);
	return rc;
}

/* Looks for an answer to this key. 1, 0 none, -1. */
static int look_up(struct core *core, const struct keyed *keyed, const char *owner,
		   const struct known *known, struct key_answer *out, struct err *err)
{
	struct err ignored;
	if (known->ids && known->pending && recall(core, known, out, &ignored) == 1)
		return 1;
	int rc = metadata_find_key(core->metadata, *owner ? owner : NULL, keyed->idempotency.key,
				   out, err);
	if (rc >= 0 || (err->kind != ERR_UNAVAILABLE && err->kind != ERR_BUSY))
		return rc;
	/*
	 * Uploads go on while the database is away, those with a key too: it is registered with the files. Only of a key that is
	 * known to be taken the answer cannot be made up.
	 */
	if (!known->ids)
		return 0;
	return recall(core, known, out, &ignored) == 1 ? 1 : -1;
}

/* A copy of what the entry knows, unless it is too old to count. Under the lock. */
static int copy_known(const struct core *core, const struct key_entry *entry, struct known *out)
{
	*out = entry->known;
	out->ids = NULL;
	if (!entry->known.ids ||
	    entry->known.answered_ms < clock_wall_ms() - core->config.idempotency_ttl_ms)
		return 0;
	out->ids = malloc(out->n * sizeof(struct uuid));
	if (!out->ids)
		return -1;
	memcpy(out->ids, entry->known.ids, out->n * sizeof(struct uuid));
	return 0;
}

/* The runner's turn: the entry is its own as far as looking for an answer goes. */
static enum keyed_verdict run(struct core *core, struct keyed *keyed, const struct known *known,
			      struct key_answer *answer, struct err *err)
{
	struct key_entry *entry = keyed->entry;
	struct key_answer found = {0};
	int rc = look_up(core, keyed, entry->owner, known, &found, err);
	if (rc <= 0)
		return rc < 0 ? KEYED_REFUSED : KEYED_YOURS;
	pthread_mutex_lock(&core->keys->lock);
	struct keyed *awake = entry_answer(entry, &found);
	enum keyed_verdict verdict = compare_answer(core, keyed, answer, err);
	pthread_mutex_unlock(&core->keys->lock);
	wake(awake);
	return verdict;
}

enum keyed_verdict keyed_settle(struct core *core, struct keyed *keyed, struct key_answer *answer,
				struct err *err)
{
	struct keys *keys = core->keys;
	struct key_entry *entry = keyed->entry;
	struct known known = {0};
	enum keyed_verdict verdict = KEYED_YOURS;
	pthread_mutex_lock(&keys->lock);
	if (entry->answer.files) {
		verdict = compare_answer(core, keyed, answer, err);
	} else if (entry->runner != keyed) {
		assert(entry->runner);
		keyed->waits = true;
		verdict = KEYED_LATER;
		metric_add(core->repeats_waited, 1);
	} else if (copy_known(core, entry, &known) < 0) {
		(void)err_set(err, ERR_NO_MEMORY, "a request with a key");
		verdict = KEYED_REFUSED;
	}
	pthread_mutex_unlock(&keys->lock);
	if (verdict != KEYED_YOURS)
		return verdict;
	verdict = run(core, keyed, &known, answer, err);
	free(known.ids);
	return verdict;
}

void keyed_answered(struct core *core, struct keyed *keyed, const struct upload_commit *commit)
{
	struct key_answer answer = {.request = keyed->idempotency.request,
				    .answered_ms = clock_wall_ms(),
				    .n = commit->n};
	struct uuid *ids = malloc(commit->n * sizeof(*ids));
	/* Out of memory: those who wait look into the database one after the other. */
	if (!ids || copy_files(commit->records, commit->n, &answer.files) < 0) {
		free(ids);
		return;
	}
	memcpy(answer.fingerprint, keyed->idempotency.fingerprint, SHA256_LEN);
	for (size_t i = 0; i < commit->n; i++)
		ids[i] = commit->records[i]->id;
	pthread_mutex_lock(&core->keys->lock);
	entry_know(keyed->entry, &keyed->idempotency, ids, commit->n, false);
	struct keyed *awake = entry_answer(keyed->entry, &answer);
	pthread_mutex_unlock(&core->keys->lock);
	wake(awake);
}

/* --- what the registrar says --- */

void keyed_pending(struct core *core, const struct idempotency *idempotency, const char *owner,
		   const struct uuid *ids, size_t n)
{
	struct keys *keys = core->keys;
	struct uuid *copy = malloc(n * sizeof(*copy));
	if (!copy)
		return;
	memcpy(copy, ids, n * sizeof(*copy));
	pthread_mutex_lock(&keys->lock);
	struct key_entry *entry = entry_get(keys, owner, idempotency->key);
	if (entry) {
		recent_remove(keys, entry);
		entry_know(entry, idempotency, copy, n, true);
	} else {
		free(copy);
	}
	pthread_mutex_unlock(&keys->lock);
}

void keyed_registered(struct core *core, const struct idempotency *idempotency, const char *owner)
{
	struct keys *keys = core->keys;
	pthread_mutex_lock(&keys->lock);
	struct key_entry *entry = entry_find(keys, owner, idempotency->key);
	if (entry && uuid_compare(&entry->known.request, &idempotency->request) == 0) {
		entry->known.pending = false;
		entry_tidy(keys, entry);
	}
	pthread_mutex_unlock(&keys->lock);
}

/* --- the sweep's part --- */

int sweep_keys(struct core *core, struct sweep_summary *summary, struct err *err)
{
	enum { KEY_BATCH = 1000 };
	int64_t before_ms = clock_wall_ms() - core->config.idempotency_ttl_ms;
	size_t removed = KEY_BATCH;
	while (removed == KEY_BATCH && !atomic_load(&core->stopping)) {
		if (metadata_remove_keys(core->metadata, before_ms, KEY_BATCH, &removed, err) < 0)
			return -1;
		summary->keys += (int64_t)removed;
	}
	return 0;
}
