/* Between the parameters of a list request (listing.c) and its cursor (list_cursor.c). Pure. */
#ifndef DEPOTD_MODEL_LISTING_PRIVATE_H
#define DEPOTD_MODEL_LISTING_PRIVATE_H

#include "depotd/model/listing.h"

/* Sets the query's position from its cursor text. -1 ERR_INVALID: damaged, or given for another sort or other filters. */
int list_cursor_decode(struct list_query *query, struct arena *arena, struct err *err);

#endif
