/* Idempotency-Key: between the handlers that take files and core (rest_idempotency.c). */
#ifndef REST_IDEMPOTENCY_PRIVATE_H
#define REST_IDEMPOTENCY_PRIVATE_H

#include <stdbool.h>

#include "depotd/core/idempotency.h"
#include "depotd/http/exchange.h"

/* NULL without a key in the request: then all of these say that there is nothing to do. */
struct rest_key {
	struct keyed keyed; /* first: again() casts */
	struct exchange *x;
	bool has_fingerprint;
	bool lost; /* the commit found the key taken, by another node: it is settled once more */
};

/* In check(), after the state was set. false: answered (400). */
bool rest_key_enter(struct exchange *x, struct rest_key **key);
/* The request failed. */
void rest_key_leave(struct rest_key *key);
/* It is over: in release(). Nulls it. */
void rest_key_free(struct rest_key **key);
/*
 * In finish(), after exchange_defer() and upload_identify() of all n: KEYED_YOURS go on and commit; KEYED_ANSWERED with *answer;
 * KEYED_LATER return and touch nothing, finish() comes again; KEYED_REFUSED err. uploads are looked at the first time only.
 */
enum keyed_verdict rest_key_settle(struct rest_key *key, const char *method, const char *route,
				   const struct file_labels *labels, struct upload *const *uploads,
				   size_t n, struct key_answer *answer, struct err *err);
/* For upload_commit. NULL without a key. */
const struct idempotency *rest_key_of(const struct rest_key *key);
/* In done(). false: touch nothing, finish() comes again. */
bool rest_key_committed(struct rest_key *key, const struct upload_commit *commit);

#endif
