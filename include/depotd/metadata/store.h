/*
 * The rows: one metadata store in terms of named statements, over two drivers (PostgreSQL, SQLite).
 *
 * Every call is a whole domain transaction, has a deadline, and blocks: worker threads only, any number at a time.
 * Errors: ERR_UNAVAILABLE the database does not answer (or not in time); ERR_UNKNOWN_OUTCOME a COMMIT was sent and its
 * answer was lost; ERR_DISK_FULL the database's own disk; ERR_INVALID a value that it cannot hold; ERR_INTERNAL otherwise.
 * Rows past their expires_ms are invisible to find and list. Records come back with one reference, the caller's.
 */
#ifndef DEPOTD_METADATA_STORE_H
#define DEPOTD_METADATA_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "depotd/base/err.h"
#include "depotd/base/metrics.h"
#include "depotd/base/uuid.h"
#include "depotd/model/file_record.h"
#include "depotd/model/idempotency.h"
#include "depotd/model/listing.h"

struct metadata_config {
	const char *url;      /* sqlite:PATH, or a libpq connection string or URI */
	unsigned connections; /* pool size (PostgreSQL); readers (SQLite has one writer besides) */
	int64_t connect_timeout_ms;
	int64_t statement_timeout_ms; /* deadline of every call, enforced on our side too */
	bool migrate; /* bring the schema up to date when opening; else refuse one that is too old */
	/*
	 * PostgreSQL: a server that is away is no error of metadata_open(). Until it came and its schema was brought up to date
	 * (or checked), by a thread of the store's, every call is ERR_UNAVAILABLE with the reason.
	 */
	bool lazy;
	/*
	 * If lazy: told the reason why the store cannot be used yet whenever it is another one (first of all by metadata_open()
	 * itself), and NULL once it can. On the store's thread. May be NULL.
	 */
	void (*opening)(void *context, const struct err *why);
	void *opening_context;
	struct metrics *metrics; /* or NULL */
};

struct metadata;

/* ERR_INVALID: no URL of ours, or a malformed one. The message may have its password. */
int metadata_check_url(const char *url, struct err *err);
/*
 * Opens and, if asked, migrates (under a lock; several nodes may start at once). Errors, lazy or not: a malformed URL, a schema
 * that this program cannot work with.
 */
int metadata_open(const struct metadata_config *config, struct metadata **out, struct err *err);
void metadata_close(struct metadata **store);
/* `migrate` alone, for the command. *from and *to are schema versions. */
int metadata_migrate(const struct metadata_config *config, int *from, int *to, struct err *err);

/* The files of one request: all of them or none. */
struct registration {
	struct file_record *const *files;
	size_t n;
	const struct idempotency *idempotency; /* the request's key, or NULL (see below) */
	bool answered; /* the client has its answer already: a key that is taken does not stop it */
	int result;    /* out: 0 committed (or was there already, identical id), -1 see err */
	struct err err; /* out */
};

/*
 * Registers many requests' files in one transaction; a bad one fails alone. -1 (and every result -1 with the same err) when
 * the transaction as a whole failed, e.g. the database is away or the outcome is unknown.
 */
int metadata_register(struct metadata *store, struct registration *registrations, size_t n,
		      struct err *err);

/* 1 found, 0 absent or expired, -1. */
int metadata_find(struct metadata *store, const struct uuid *id, struct file_record **out,
		  struct err *err);
/*
 * Optimistic change: replaces what may change (name, tags, attributes, visibility, expires, revision) where the row still has
 * `expected_revision`. 1 committed, 0 absent or at another revision, -1. Other nodes are notified.
 */
int metadata_update(struct metadata *store, const struct file_record *record,
		    int64_t expected_revision, struct err *err);
/* Removes the row (I3: the bytes go after). 1 removed, 0 absent, -1. Other nodes are notified. */
int metadata_remove(struct metadata *store, const struct uuid *id, struct err *err);
/* The same, but only while its expiry is past at now_ms (a change may have come between). 0: absent, or no longer expired. */
int metadata_remove_expired(struct metadata *store, const struct uuid *id, int64_t now_ms,
			    struct err *err);

/*
 * --- Idempotency keys ---
 *
 * A registration's key is inserted in the transaction of its rows, with what the answer says of the files: so a repeat gets the
 * first answer whatever became of the files since. A key that another request has is ERR_CONFLICT, of that registration alone
 * (unless it was answered before: then the files are registered and the key stays the other's). Keys last until
 * metadata_remove_keys(), not until a certain moment.
 */
struct key_answer {
	struct uuid request;
	unsigned char fingerprint[SHA256_LEN];
	int64_t answered_ms;
	struct file_record **files; /* as they were; n references */
	size_t n;
};
void key_answer_release(struct key_answer *answer);
/* What was registered under the key. owner may be NULL. 1 found, 0 absent, -1. */
int metadata_find_key(struct metadata *store, const char *owner, const char *key,
		      struct key_answer *out, struct err *err);
/* Removes keys answered before before_ms, at most limit at once. *removed says how many; 0 or -1. */
int metadata_remove_keys(struct metadata *store, int64_t before_ms, size_t limit, size_t *removed,
			 struct err *err);

struct file_list {
	struct file_record **files;
	size_t n;
	bool more; /* there may be a next page */
	/* metadata_list() with more: the next page starts behind this; it need not be in files */
	struct file_record *end;
};
void file_list_release(struct file_list *list);

/*
 * One page. When few of many rows pass the filters a page may be shorter than asked for (even empty) though there is more:
 * a search answers in time and goes on at `end`.
 */
int metadata_list(struct metadata *store, const struct list_query *query, struct file_list *out,
		  struct err *err);
/* Every row, expired ones too, in id order, behind `after` (NULL: from the start), at most `limit`. For check and reindex. */
int metadata_walk(struct metadata *store, const struct uuid *after, size_t limit,
		  struct file_list *out, struct err *err);
/* Which of these ids have rows (expired ones too): present[i]. n is at most 1000. */
int metadata_present(struct metadata *store, const struct uuid *ids, size_t n, bool *present,
		     struct err *err);
/* Rows whose expiry is past at now_ms, at most limit. */
int metadata_expired(struct metadata *store, int64_t now_ms, size_t limit, struct file_list *out,
		     struct err *err);

/* Whether calls can succeed at all, without asking the server: false, with the reason, while a lazy store is being opened. */
bool metadata_is_open(struct metadata *store, struct err *why);
/* Answers within the connect timeout whether the database does. 0 or -1. */
int metadata_ping(struct metadata *store, struct err *err);

/*
 * Who wants to hear of changes made by other nodes (LISTEN/NOTIFY; never called on SQLite). id NULL: anything may have
 * changed (the listening connection was lost and is back). Called on the store's listener thread; must not block.
 */
typedef void (*metadata_changed_fn)(void *context, const struct uuid *id);
void metadata_on_change(struct metadata *store, metadata_changed_fn changed, void *context);

#endif
