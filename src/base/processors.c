/* Asks the C library. Any thread. */
#include "depotd/base/processors.h"

#include <unistd.h>

int processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
}
