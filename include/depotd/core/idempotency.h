/*
 * Requests with an Idempotency-Key: of those that have one key at the same time one runs, the others wait for its answer.
 *
 *   keyed_enter → keyed_settle → (KEYED_YOURS) upload_commit() with &keyed->idempotency → keyed_answered in done() → keyed_leave
 *                            ↘ (KEYED_LATER) again() → keyed_settle → …
 *
 * The first one that enters runs. When it leaves without an answer (it was refused, or its client went away) the next one runs
 * in its place, so a failed request leaves its key free. Between nodes the unique key in the transaction of the rows decides: a
 * commit that fails with ERR_CONFLICT settles once more, and gets the other's answer. A request has no thread while it waits.
 */
#ifndef DEPOTD_CORE_IDEMPOTENCY_H
#define DEPOTD_CORE_IDEMPOTENCY_H

#include <stdbool.h>
#include <stddef.h>

#include "depotd/core/core.h"
#include "depotd/core/upload.h"
#include "depotd/model/idempotency.h"

struct key_entry;

/* One request with a key. Embedded in the request, which sets `again`; all else is core's between enter and leave. */
struct keyed {
	/* its key and this request's id; the fingerprint after keyed_settle() */
	struct idempotency idempotency;
	/* After KEYED_LATER, once: settle again, on a worker. From any thread; must not block, nor call back into here. */
	void (*again)(struct keyed *keyed);
	struct key_entry *entry;   /* NULL: not entered */
	struct keyed *next, *prev; /* those with the same key, in order of entering */
	struct keyed *next_awake;  /* among those whose wait is over */
	bool waits;
};

/* Event thread: enters with keyed->idempotency.key. -1 ERR_NO_MEMORY. owner may be NULL. */
int keyed_enter(struct core *core, struct keyed *keyed, const char *owner, struct err *err);

enum keyed_verdict {
	KEYED_YOURS,    /* nobody has the key: commit with it */
	KEYED_ANSWERED, /* the first answer is in *answer */
	KEYED_LATER, /* another request with the key runs: again() is called, perhaps before this has returned */
	KEYED_REFUSED, /* err: ERR_UNPROCESSABLE, the key is another request's; or the database failed */
};

/* Worker; keyed->idempotency.fingerprint says what the request means. *answer is the caller's: key_answer_release(). */
enum keyed_verdict keyed_settle(struct core *core, struct keyed *keyed, struct key_answer *answer,
				struct err *err);
/* The commit went well: whoever waits has its answer. Any thread, never blocks. */
void keyed_answered(struct core *core, struct keyed *keyed, const struct upload_commit *commit);
/* It is over, answered or not; no other call follows. Any thread, never blocks; nothing where it never entered. */
void keyed_leave(struct core *core, struct keyed *keyed);

/*
 * --- answers that only this node knows ---
 *
 * While the database is away a request that was answered (202) is known by its ids: its files describe themselves. The registrar
 * says when its key has got into the database (or another one's stands there). Any thread; never blocks. Out of memory they
 * do nothing: then a repeat may be stored twice.
 */
void keyed_pending(struct core *core, const struct idempotency *idempotency, const char *owner,
		   const struct uuid *ids, size_t n);
void keyed_registered(struct core *core, const struct idempotency *idempotency, const char *owner);

#endif
