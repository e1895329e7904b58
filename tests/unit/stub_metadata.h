/*
 * A metadata store in memory that fails when it is told to, in place of the real one: it defines what metadata/store.h declares, so
 * the linker takes nothing of the real one. For tests of what core does when a database misbehaves. Included by one file of a test.
 */
#ifndef DEPOTD_TESTS_STUB_METADATA_H
#define DEPOTD_TESTS_STUB_METADATA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "depotd/base/clock.h"
#include "depotd/metadata/register.h"
#include "depotd/metadata/store.h"
#include "depotd/metadata/upkeep.h"

enum { STUB_ROWS = 4096, STUB_KEYS = 64 };

struct metadata {
	pthread_mutex_t lock; /* guards all */
	pthread_cond_t changed;
	struct file_record *rows[STUB_ROWS];
	size_t n;
	struct key_answer keys[STUB_KEYS]; /* in the order of `key_texts` */
	char key_texts[STUB_KEYS][IDEMPOTENCY_KEY_MAX + 1];
	size_t key_n;
	/* The next call fails so; done: as if committed all the same (the answer was lost). ERR_NONE: it works. */
	enum err_kind fail_register, fail_present, fail_update, fail_remove, fail_find_key;
	bool done;
	struct uuid refuse; /* a registration with this id fails alone */
	size_t transactions, registered_together;
	const char *life;         /* what metadata_settle() says; NULL: the store never defers */
	bool unsettled;           /* metadata_settle() fails */
	size_t deferred, settled; /* calls that succeeded */
	bool head_starts;         /* metadata_register_begin() works */
	atomic_size_t begun, abandoned;
	void (*in_find)(
		void *context); /* called by metadata_find() between reading and returning */
	void (*in_register)(void *context); /* called by metadata_register(), before anything */
	void *context;
	metadata_changed_fn on_change;
	void *change_context;
};

static struct metadata *stub_store; /* the one that is open */
static const char *stub_first_life; /* of the next one that is opened */

static size_t stub_at(struct metadata *store, const struct uuid *id)
{
	size_t i = 0;
	while (i < store->n && uuid_compare(&store->rows[i]->id, id) != 0)
		i++;
	return i;
}

int metadata_open(const struct metadata_config *config, struct metadata **out, struct err *err)
{
	(void)config;
	(void)err;
	*out = stub_store = calloc(1, sizeof(**out));
	stub_store->life = stub_first_life;
	pthread_mutex_init(&stub_store->lock, NULL);
	pthread_cond_init(&stub_store->changed, NULL);
	return 0;
}

void key_answer_release(struct key_answer *answer)
{
	for (size_t i = 0; i < answer->n; i++)
		file_record_unref(&answer->files[i]);
	free(answer->files);
	*answer = (struct key_answer){0};
}

void metadata_close(struct metadata **store)
{
	for (size_t i = 0; i < (*store)->key_n; i++)
		key_answer_release(&(*store)->keys[i]);
	for (size_t i = 0; i < (*store)->n; i++)
		file_record_unref(&(*store)->rows[i]);
	pthread_cond_destroy(&(*store)->changed);
	pthread_mutex_destroy(&(*store)->lock);
	free(*store);
	*store = stub_store = NULL;
}

static enum err_kind stub_take(enum err_kind *fault)
{
	enum err_kind now = *fault;
	*fault = ERR_NONE;
	return now;
}

static size_t stub_key_at(struct metadata *store, const char *key)
{
	size_t i = 0;
	while (i < store->key_n && strcmp(store->key_texts[i], key) != 0)
		i++;
	return i;
}

static int stub_copy_answer(const struct key_answer *from, struct key_answer *to)
{
	*to = *from;
	to->files = calloc(from->n, sizeof(struct file_record *));
	for (size_t i = 0; i < from->n; i++)
		to->files[i] = file_record_ref(from->files[i]);
	return 1;
}

/* One owner is enough here. */
static void stub_insert_key(struct metadata *store, struct registration *registration)
{
	const struct idempotency *key = registration->idempotency;
	struct key_answer answer = {.request = key->request,
				    .files = (struct file_record **)registration->files,
				    .n = registration->n};
	size_t i = stub_key_at(store, key->key);
	if (i < store->key_n) {
		if (!registration->answered &&
		    uuid_compare(&store->keys[i].request, &key->request) != 0)
			registration->result =
				err_set(&registration->err, ERR_CONFLICT, "the key is taken");
		return;
	}
	memcpy(answer.fingerprint, key->fingerprint, SHA256_LEN);
	memcpy(store->key_texts[i], key->key, sizeof(key->key));
	stub_copy_answer(&answer, &store->keys[i]);
	store->key_n++;
}

static void stub_insert(struct metadata *store, struct registration *registration)
{
	registration->result = 0;
	for (size_t k = 0; k < registration->n; k++)
		if (uuid_compare(&registration->files[k]->id, &store->refuse) == 0) {
			registration->result =
				err_set(&registration->err, ERR_INVALID, "refused on purpose");
			return;
		}
	if (registration->idempotency)
		stub_insert_key(store, registration);
	for (size_t k = 0; k < registration->n && registration->result == 0; k++)
		if (stub_at(store, &registration->files[k]->id) == store->n)
			store->rows[store->n++] = file_record_ref(registration->files[k]);
}

int metadata_register(struct metadata *store, struct registration *registrations, size_t n,
		      struct err *err)
{
	pthread_mutex_lock(&store->lock);
	void (*hook)(void *) = store->in_register;
	pthread_mutex_unlock(&store->lock);
	if (hook)
		hook(store->context);
	pthread_mutex_lock(&store->lock);
	enum err_kind fault = stub_take(&store->fail_register);
	store->transactions++;
	store->registered_together = n;
	if (fault == ERR_NONE || store->done)
		for (size_t i = 0; i < n; i++)
			stub_insert(store, &registrations[i]);
	if (fault != ERR_NONE) {
		err_set(err, fault, "a fault on purpose");
		for (size_t i = 0; i < n; i++) {
			registrations[i].result = -1;
			registrations[i].err = *err;
		}
	}
	pthread_cond_broadcast(&store->changed);
	pthread_mutex_unlock(&store->lock);
	return fault == ERR_NONE ? 0 : -1;
}

int metadata_register_as(struct metadata *store, struct registration *registrations, size_t n,
			 enum metadata_commit how, struct err *err)
{
	int rc = metadata_register(store, registrations, n, err);
	pthread_mutex_lock(&store->lock);
	store->deferred += rc == 0 && how == METADATA_DEFERRED;
	pthread_mutex_unlock(&store->lock);
	return rc;
}

/* A head start is had where it is wished for; it shows in nothing but in how often. */
struct metadata_start {
	struct registration *registrations;
	size_t n;
};

struct metadata_start *metadata_register_begin(struct metadata *store,
					       struct registration *registrations, size_t n)
{
	if (!store->head_starts)
		return NULL;
	struct metadata_start *start = malloc(sizeof(*start));
	*start = (struct metadata_start){registrations, n};
	atomic_fetch_add(&store->begun, 1);
	return start;
}

int metadata_register_end(struct metadata *store, struct metadata_start *start,
			  enum metadata_commit how, struct err *err)
{
	int rc = metadata_register_as(store, start->registrations, start->n, how, err);
	free(start);
	return rc;
}

void metadata_register_abandon(struct metadata *store, struct metadata_start *start)
{
	atomic_fetch_add(&store->abandoned, 1);
	free(start);
}

int metadata_settle(struct metadata *store, char life[METADATA_LIFE_MAX], struct err *err)
{
	pthread_mutex_lock(&store->lock);
	bool away = store->unsettled;
	snprintf(life, METADATA_LIFE_MAX, "%s", store->life ? store->life : "");
	store->settled += !away;
	pthread_cond_broadcast(&store->changed);
	pthread_mutex_unlock(&store->lock);
	if (away)
		return err_set(err, ERR_UNAVAILABLE, "away on purpose");
	return life[0] != '\0';
}

int metadata_find_key(struct metadata *store, const char *owner, const char *key,
		      struct key_answer *out, struct err *err)
{
	(void)owner;
	pthread_mutex_lock(&store->lock);
	size_t i = stub_key_at(store, key);
	enum err_kind fault = stub_take(&store->fail_find_key);
	int rc = fault == ERR_NONE && i < store->key_n ? stub_copy_answer(&store->keys[i], out) : 0;
	pthread_mutex_unlock(&store->lock);
	return fault == ERR_NONE ? rc : err_set(err, fault, "a fault on purpose");
}

int metadata_remove_keys(struct metadata *store, int64_t before_ms, size_t limit, size_t *removed,
			 struct err *err)
{
	(void)store;
	(void)before_ms;
	(void)limit;
	(void)err;
	*removed = 0;
	return 0;
}

int metadata_find(struct metadata *store, const struct uuid *id, struct file_record **out,
		  struct err *err)
{
	(void)err;
	pthread_mutex_lock(&store->lock);
	size_t i = stub_at(store, id);
	struct file_record *found = i < store->n ? file_record_ref(store->rows[i]) : NULL;
	void (*hook)(void *) = store->in_find;
	void *context = store->context;
	pthread_mutex_unlock(&store->lock);
	if (hook)
		hook(context);
	if (found && found->expires_ms && found->expires_ms <= clock_wall_ms())
		file_record_unref(&found);
	if (!found)
		return 0;
	*out = found;
	return 1;
}

int metadata_update(struct metadata *store, const struct file_record *record,
		    int64_t expected_revision, struct err *err)
{
	pthread_mutex_lock(&store->lock);
	size_t i = stub_at(store, &record->id);
	int rc = i < store->n && store->rows[i]->revision == expected_revision;
	enum err_kind fault = stub_take(&store->fail_update);
	if (rc && (fault == ERR_NONE || store->done)) {
		file_record_unref(&store->rows[i]);
		store->rows[i] = file_record_new(record);
	}
	pthread_mutex_unlock(&store->lock);
	return fault == ERR_NONE ? rc : err_set(err, fault, "a fault on purpose");
}

int metadata_remove(struct metadata *store, const struct uuid *id, struct err *err)
{
	pthread_mutex_lock(&store->lock);
	size_t i = stub_at(store, id);
	int rc = i < store->n;
	enum err_kind fault = stub_take(&store->fail_remove);
	if (rc && (fault == ERR_NONE || store->done)) {
		file_record_unref(&store->rows[i]);
		store->rows[i] = store->rows[--store->n];
	}
	pthread_mutex_unlock(&store->lock);
	return fault == ERR_NONE ? rc : err_set(err, fault, "a fault on purpose");
}

int metadata_remove_expired(struct metadata *store, const struct uuid *id, int64_t now_ms,
			    struct err *err)
{
	(void)now_ms;
	return metadata_remove(store, id, err);
}

void file_list_release(struct file_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		file_record_unref(&list->files[i]);
	free(list->files);
	*list = (struct file_list){0};
}

int metadata_list(struct metadata *store, const struct list_query *query, struct file_list *out,
		  struct err *err)
{
	(void)store;
	(void)query;
	(void)out;
	return err_set(err, ERR_NOT_IMPLEMENTED, "the stub does not list");
}

int metadata_walk(struct metadata *store, const struct uuid *after, size_t limit,
		  struct file_list *out, struct err *err)
{
	(void)store;
	(void)after;
	(void)limit;
	(void)out;
	return err_set(err, ERR_NOT_IMPLEMENTED, "the stub does not walk");
}

int metadata_present(struct metadata *store, const struct uuid *ids, size_t n, bool *present,
		     struct err *err)
{
	pthread_mutex_lock(&store->lock);
	enum err_kind fault = stub_take(&store->fail_present);
	for (size_t i = 0; fault == ERR_NONE && i < n; i++)
		present[i] = stub_at(store, &ids[i]) < store->n;
	pthread_mutex_unlock(&store->lock);
	return fault == ERR_NONE ? 0 : err_set(err, fault, "a fault on purpose");
}

int metadata_expired(struct metadata *store, int64_t now_ms, size_t limit, struct file_list *out,
		     struct err *err)
{
	(void)store;
	(void)now_ms;
	(void)limit;
	(void)out;
	return err_set(err, ERR_NOT_IMPLEMENTED, "the stub does not expire");
}

bool metadata_is_open(struct metadata *store, struct err *why)
{
	(void)store, (void)why;
	return true;
}

int metadata_ping(struct metadata *store, struct err *err)
{
	(void)store;
	(void)err;
	return 0;
}

void metadata_on_change(struct metadata *store, metadata_changed_fn changed, void *context)
{
	store->on_change = changed;
	store->change_context = context;
}

/* --- upkeep: nothing is ever due, damaged or set back --- */

int metadata_scrub_enroll(struct metadata *store, struct uuid *after, size_t limit, struct err *err)
{
	(void)store, (void)after, (void)limit, (void)err;
	return 0;
}

int metadata_scrub_due(struct metadata *store, int64_t before_ms, int64_t damaged_before_ms,
		       size_t limit, struct scrub_due *out, size_t *n, struct err *err)
{
	(void)store, (void)before_ms, (void)damaged_before_ms, (void)limit, (void)out, (void)err;
	*n = 0;
	return 0;
}

int metadata_scrub_record(struct metadata *store, const struct scrub_result *results, size_t n,
			  struct err *err)
{
	(void)store, (void)results, (void)n, (void)err;
	return 0;
}

int metadata_scrub_forget(struct metadata *store, const struct uuid *ids, size_t n, struct err *err)
{
	(void)store, (void)ids, (void)n, (void)err;
	return 0;
}

int metadata_scrub_oldest(struct metadata *store, int64_t *at_ms, struct err *err)
{
	(void)store, (void)err;
	*at_ms = -1;
	return 0;
}

int metadata_damaged(struct metadata *store, size_t limit, metadata_damaged_fn told, void *context,
		     struct err *err)
{
	(void)store, (void)limit, (void)told, (void)context, (void)err;
	return 0;
}

int metadata_mark(struct metadata *store, const struct uuid *directory, int64_t *mark,
		  struct err *err)
{
	(void)store, (void)directory, (void)err;
	*mark = INT64_MAX;
	return 1;
}

int metadata_mark_set(struct metadata *store, const struct uuid *directory, int64_t mark,
		      struct err *err)
{
	(void)store, (void)directory, (void)mark, (void)err;
	return 0;
}

int metadata_mark_advance(struct metadata *store, const struct uuid *directory, int64_t seen,
			  int64_t *mark, struct err *err)
{
	(void)store, (void)directory, (void)err;
	*mark = seen + 1;
	return 1;
}

uint64_t metadata_registered(const struct metadata *store)
{
	(void)store;
	return 0;
}

#endif
