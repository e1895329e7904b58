/*
 * A blob store that fails on purpose: wraps any driver and fails the Nth call of a kind with a given error. For tests.
 * A failed call does not reach the wrapped driver. BLOB_CALL_READ covers blob_description() too, BLOB_CALL_SPACE blob_probe(),
 * BLOB_CALL_WALK blob_clean(). Thread: blob_fault_set() and _hook() from any.
 */
#ifndef DEPOTD_BLOB_FAULT_H
#define DEPOTD_BLOB_FAULT_H

#include "depotd/blob/store.h"

enum blob_call {
	BLOB_CALL_CREATE,
	BLOB_CALL_WRITE,
	BLOB_CALL_SEAL,
	BLOB_CALL_PUBLISH,
	BLOB_CALL_PLACE,
	BLOB_CALL_SYNC,
	BLOB_CALL_RESTORE,
	BLOB_CALL_OPEN,
	BLOB_CALL_READ,
	BLOB_CALL_DESCRIBE,
	BLOB_CALL_REMOVE,
	BLOB_CALL_WALK,
	BLOB_CALL_SPACE,
	BLOB_CALL_COUNT
};

/* Takes ownership of inner. */
int blob_fault_new(struct blob_store *inner, struct blob_store **out, struct err *err);
/* The nth (1 = next) call of that kind fails with kind/errno; n 0 switches the fault off. */
void blob_fault_set(struct blob_store *store, enum blob_call call, unsigned n, enum err_kind kind,
		    int sys_errno);
/* Called on the caller's thread before every call of every kind, e.g. to hold it there; NULL ends it. */
void blob_fault_hook(struct blob_store *store, void (*hook)(void *context, enum blob_call call),
		     void *context);

#endif
