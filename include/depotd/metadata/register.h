/*
 * Registering for the group committer: sooner, and in two halves. Worker threads; errors as in metadata/store.h.
 */
#ifndef DEPOTD_METADATA_REGISTER_H
#define DEPOTD_METADATA_REGISTER_H

#include "depotd/metadata/store.h"

/*
 * What a registration that was committed has come to. Deferred: everybody sees it, but a server that crashes within moments may
 * forget it; the caller remembers the files until metadata_settle() says that it cannot (src/core/unconfirmed.c has the reasoning).
 * For good: durable, and so are those of the rows that were there already. They may have been committed deferred, and a server that
 * finds nothing to write does not write out anything either.
 */
enum metadata_commit { METADATA_DURABLE, METADATA_DEFERRED, METADATA_FOR_GOOD };

/* metadata_register(), to be committed in that way. */
int metadata_register_as(struct metadata *store, struct registration *registrations, size_t n,
			 enum metadata_commit how, struct err *err);

/*
 * The same in two halves: the database carries it out from begin() on and commits it with end(). One of end() and abandon() is
 * called, once; the registrations stay as they are until then. NULL: there is no head start to be had, for whatever reason.
 */
struct metadata_start;
struct metadata_start *metadata_register_begin(struct metadata *store,
					       struct registration *registrations, size_t n);
int metadata_register_end(struct metadata *store, struct metadata_start *start,
			  enum metadata_commit how, struct err *err);
void metadata_register_abandon(struct metadata *store, struct metadata_start *start);

enum { METADATA_LIFE_MAX = 128 };
/*
 * Makes durable what was registered deferred and returned before this call, if the server has not crashed since: life (a
 * terminated text) is another one than the last time in that case, and then it may be lost. 1; 0 this store never defers; -1.
 */
int metadata_settle(struct metadata *store, char life[METADATA_LIFE_MAX], struct err *err);

#endif
