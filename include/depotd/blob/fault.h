/* A blob store that fails on purpose: wraps any driver and fails the Nth call of a kind with a given error. For tests. */
#ifndef DEPOTD_BLOB_FAULT_H
#define DEPOTD_BLOB_FAULT_H

#include "depotd/blob/store.h"

enum blob_call {
	BLOB_CALL_CREATE, BLOB_CALL_WRITE, BLOB_CALL_SEAL, BLOB_CALL_PUBLISH, BLOB_CALL_OPEN, BLOB_CALL_READ,
	BLOB_CALL_DESCRIBE, BLOB_CALL_REMOVE, BLOB_CALL_WALK, BLOB_CALL_SPACE, BLOB_CALL_COUNT
};

/* Takes ownership of inner. */
int blob_fault_new(struct blob_store *inner, struct blob_store **out, struct err *err);
/* The nth (1 = next) call of that kind fails with kind/errno; n 0 switches the fault off. */
void blob_fault_set(struct blob_store *store, enum blob_call call, unsigned n, enum err_kind kind, int sys_errno);

#endif
