/* A directory of a test's own. */
#ifndef DEPOTD_TESTS_SCRATCH_H
#define DEPOTD_TESTS_SCRATCH_H

#include <stdbool.h>

enum { SCRATCH_MAX = 160 };

/* Makes one below $TMPDIR, which the name of what is tested is part of. */
bool scratch_make(char out[SCRATCH_MAX], const char *what);
/* Removes it (any directory) with all that is in it; links are not followed. */
void scratch_remove(const char *directory);

#endif
