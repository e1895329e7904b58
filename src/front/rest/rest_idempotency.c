/*
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) for the handlers that take files.
 *
 * A repeat's body is read to its end like any other, since only then it is known to be the same request; its bytes are held
 * against the first one's by digest and dropped. finish() runs once more when another request with the key has ended, or has
 * won on another node. check() enters on the event thread; settling is a worker's; the committer's thread answers.
 */
#include "rest_idempotency_private.h"

#include <stdlib.h>
#include <string.h>

#include "rest_private.h"

static struct core *core_of(const struct rest_key *key)
{
	return rest_front(key->x)->core;
}

static void again(struct keyed *keyed)
{
	exchange_again(((struct rest_key *)keyed)->x);
}

bool rest_key_enter(struct exchange *x, struct rest_key **out)
{
	const char *value = exchange_header(x, "Idempotency-Key");
	struct rest_key *key;
	struct err err;

	_Static_assert(offsetof(struct rest_key, keyed) == 0, "again() casts");
	if (!value)
		return true;
	*out = key = calloc(1, sizeof(*key));
	if (!key) {
		err_set(&err, ERR_NO_MEMORY, "an Idempotency-Key");
		reply_error(x, &err);
		return false;
	}
	key->x = x;
	key->keyed.again = again;
	if (idempotency_key_parse(value, key->keyed.idempotency.key, &err) == 0 &&
	    keyed_enter(rest_front(x)->core, &key->keyed, NULL, &err) == 0)
		return true;
	reply_error(x, &err);
	return false;
}

void rest_key_leave(struct rest_key *key)
{
	if (key && key->keyed.entry)
		keyed_leave(core_of(key), &key->keyed);
}

void rest_key_free(struct rest_key **key)
{
	rest_key_leave(*key);
	free(*key);
	*key = NULL;
}

static int fingerprint(struct rest_key *key, const char *method, const char *route,
		       const struct file_labels *labels, struct upload *const *uploads, size_t n,
		       struct err *err)
{
	const struct file_record **files = calloc(n, sizeof(const struct file_record *));
	int rc;

	if (!files)
		return err_set(err, ERR_NO_MEMORY, "the fingerprint of a request");
	for (size_t i = 0; i < n; i++)
		files[i] = upload_record(uploads[i]);
	rc = idempotency_fingerprint(method, route, labels, files, n,
				     key->keyed.idempotency.fingerprint, err);
	free(files);
	return rc;
}

enum keyed_verdict rest_key_settle(struct rest_key *key, const char *method, const char *route,
				   const struct file_labels *labels, struct upload *const *uploads,
				   size_t n, struct key_answer *answer, struct err *err)
{
	enum keyed_verdict verdict;

	if (!key || !key->keyed.entry)
		return KEYED_YOURS;
	if (!key->has_fingerprint && fingerprint(key, method, route, labels, uploads, n, err) < 0)
		return KEYED_REFUSED;
	key->has_fingerprint = true;
	verdict = keyed_settle(core_of(key), &key->keyed, answer, err);
	if (verdict == KEYED_YOURS && key->lost) {
		/* The winner's key has gone meanwhile, and so have our bytes. */
		err_set(err, ERR_BUSY, "another request had the same Idempotency-Key");
		return KEYED_REFUSED;
	}
	return verdict;
}

const struct idempotency *rest_key_of(const struct rest_key *key)
{
	return key && key->keyed.entry ? &key->keyed.idempotency : NULL;
}

bool rest_key_committed(struct rest_key *key, const struct upload_commit *commit)
{
	if (!key || !key->keyed.entry)
		return true;
	if (commit->result == 0) {
		keyed_answered(core_of(key), &key->keyed, commit);
	} else if (commit->err.kind == ERR_CONFLICT && !key->lost) {
		key->lost = true;
		exchange_again(key->x);
		return false;
	} else {
		keyed_leave(core_of(key), &key->keyed);
	}
	return true;
}
