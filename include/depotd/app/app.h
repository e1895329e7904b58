/*
 * The program: its commands, and the wiring of the floors below. Everything here runs on the main thread.
 * Exit status: 0 done or stopped cleanly, 1 could not start or failed, 2 wrong usage (and what a command documents).
 */
#ifndef DEPOTD_APP_APP_H
#define DEPOTD_APP_APP_H

#define DEPOTD_VERSION "0.1.0"

/* What main() does. environment is environ's form. Returns the exit status. */
int app_main(int argc, char *const *argv, char *const *environment);

#endif
