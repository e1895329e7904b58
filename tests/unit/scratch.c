/* A directory of a test's own: see the header. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#include "scratch.h"

bool scratch_make(char out[SCRATCH_MAX], const char *what)
{
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(out, SCRATCH_MAX, "%s/depotd-%s-XXXXXX", tmp ? tmp : "/tmp", what);
	return n > 0 && n < SCRATCH_MAX && mkdtemp(out);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	(void)remove(path); /* what is gone already is fine */
	return 0;
}

void scratch_remove(const char *directory)
{
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
