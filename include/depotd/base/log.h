/*
 * The log: one line an event on standard error, journald-friendly (`<3>` priority prefixes when standard error is the
 * journal, see sd-daemon(3); otherwise a time and a level in words).
 *
 * Lines go through a bounded ring to a writer thread, so that a stalled terminal or journal never blocks an event
 * thread; lines lost to a full ring are counted and reported. Before log_start() and after log_stop() lines are
 * written directly. Control characters inside values are escaped, so a client cannot forge a line.
 * Only app, the exchange and the workers' loop log (design: lower floors return errors).  Thread: any.
 */
#ifndef DEPOTD_BASE_LOG_H
#define DEPOTD_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level); /* default info */
int log_start(void);                      /* starts the writer thread; 0 or -1 */
void log_stop(void);                      /* flushes and joins */
bool log_enabled(enum log_level level);
/* request_id may be NULL. One line; a trailing newline is added. */
void log_event(enum log_level level, const char *request_id, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A ready-made line (the access log), to standard output, through the same writer. */
void log_access(const char *line, size_t n);

#endif
