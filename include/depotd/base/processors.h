/* How many threads can run at once. Thread: any. */
#ifndef DEPOTD_BASE_PROCESSORS_H
#define DEPOTD_BASE_PROCESSORS_H

/* The processors that are online, 1 to 1024; 1 where the system does not say. */
int processors(void);

#endif
