/* The clocks. Thread: any. */
#ifndef DEPOTD_BASE_CLOCK_H
#define DEPOTD_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { CLOCK_RFC3339_LEN = 24, CLOCK_HTTP_DATE_LEN = 29 };

int64_t clock_wall_ms(void);      /* Unix time in ms (CLOCK_REALTIME) */
int64_t clock_monotonic_ns(void); /* for durations and deadlines (CLOCK_MONOTONIC) */
int64_t clock_monotonic_ms(void);

/* "2026-11-22T13:00:00.123Z" (RFC 3339, UTC, milliseconds), for the years 0–9999. */
bool clock_representable(int64_t wall_ms); /* in a year of four digits */
void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN + 1]);
/* Any RFC 3339 date-time with offset or Z and optional fraction, or a bare date (its midnight UTC). 1 ok, 0 malformed. */
int clock_parse_rfc3339(const char *text, int64_t *wall_ms);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7). Locale-free. */
void clock_format_http_date(int64_t wall_ms, char out[CLOCK_HTTP_DATE_LEN + 1]);
/* All three forms of RFC 9110 §5.6.7. 1 ok, 0 malformed (to be ignored, says §13.1). Seconds since the epoch. */
int clock_parse_http_date(const char *text, int64_t *wall_s);

#endif
