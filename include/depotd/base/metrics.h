/*
 * Counters, gauges and histograms that any module registers and `/metrics` renders (Prometheus text format 0.0.4).
 *
 * Registering happens at start, on one thread; adding is a relaxed atomic and may happen anywhere; a gauge may be a
 * function that is asked when rendering (it must not block). Families are rendered in the order of their first registration.
 */
#ifndef DEPOTD_BASE_METRICS_H
#define DEPOTD_BASE_METRICS_H

#include <stdint.h>

#include "depotd/base/buf.h"

struct metrics;
struct metric; /* one time series; lives as long as its registry */

struct metrics *metrics_new(void); /* NULL out of memory */
void metrics_free(struct metrics **m);

/* `labels` is NULL or ready-made `method="GET",code="200"`. Return NULL out of memory; all metric_* take NULL as "no-op". */
struct metric *metrics_counter(struct metrics *m, const char *name, const char *help,
			       const char *labels);
struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help,
			     const char *labels);
struct metric *metrics_gauge_fn(struct metrics *m, const char *name, const char *help,
				const char *labels, double (*read)(void *context), void *context);
/* bounds: ascending upper bounds in seconds; +Inf is implied. */
struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help,
				 const char *labels, const double *bounds, unsigned n);

void metric_add(struct metric *metric, int64_t delta);
void metric_set(struct metric *metric, int64_t value);
int64_t metric_get(const struct metric *metric);
void metric_observe_ns(struct metric *metric, int64_t ns);

void metrics_render(const struct metrics *m, struct buf *out);

#endif
