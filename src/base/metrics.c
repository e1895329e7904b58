/* The registry of metrics. Registered on one thread at start, added to from any, rendered from any. */
#include "depotd/base/metrics.h"

#include <math.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64 };

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_GAUGE_FN, METRIC_HISTOGRAM };

/* What the text format calls them: both gauges may stand in one family. */
static const char *const type_names[] = {"counter", "gauge", "gauge", "histogram"};

struct metric {
	alignas(CACHE_LINE) _Atomic int64_t value; /* histogram: the sum in ns */
	enum metric_kind kind;
	char *labels; /* or NULL */
	double (*read)(void *context);
	void *context;
	unsigned bound_count;
	int64_t *bounds_ns;       /* bound_count of them, ascending */
	double *bounds;           /* the same in seconds, as they were given */
	_Atomic int64_t *buckets; /* bound_count + 1; each counts its own stretch only */
	struct metric *next;      /* of the family */
};

struct family {
	char *name, *help;
	const char *type;
	struct metric *first, **last;
	struct family *next;
};

struct metrics {
	struct family *first, **last;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof(*m));
	if (m != NULL)
		m->last = &m->first;
	return m;
}

static void metric_free(struct metric *metric)
{
	if (metric == NULL)
		return;
	free(metric->labels);
	free(metric->bounds_ns);
	free(metric->bounds);
	free(metric->buckets);
	free(metric);
}

static void family_free(struct family *family)
{
	if (family == NULL)
		return;
	for (struct metric *metric = family->first, *next; metric != NULL; metric = next) {
		next = metric->next;
		metric_free(metric);
	}
	free(family->name);
	free(family->help);
	free(family);
}

void metrics_free(struct metrics **m)
{
	if (*m == NULL)
		return;
	for (struct family *family = (*m)->first, *next; family != NULL; family = next) {
		next = family->next;
		family_free(family);
	}
	free(*m);
	*m = NULL;
}

static struct family *family_find_or_add(struct metrics *m, const char *name, const char *help,
					 enum metric_kind kind)
{
	for (struct family *family = m->first; family != NULL; family = family->next) {
		if (strcmp(family->name, name) == 0)
			return strcmp(family->type, type_names[kind]) == 0 ? family : NULL;
	}
	struct family *family = calloc(1, sizeof(*family));
	if (family == NULL)
		return NULL;
	family->name = strdup(name);
	family->help = strdup(help);
	family->type = type_names[kind];
	family->last = &family->first;
	if (family->name == NULL || family->help == NULL) {
		family_free(family);
		return NULL;
	}
	*m->last = family;
	m->last = &family->next;
	return family;
}

static bool labels_equal(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Registering the same series again gives the one that is there: two callers may then share it. */
static struct metric *metric_find_or_add(struct metrics *m, const char *name, const char *help,
					 const char *labels, enum metric_kind kind, bool *is_new)
{
	*is_new = false;
	struct family *family = m != NULL ? family_find_or_add(m, name, help, kind) : NULL;
	if (family == NULL)
		return NULL;
	for (struct metric *metric = family->first; metric != NULL; metric = metric->next) {
		if (labels_equal(metric->labels, labels))
			return metric;
	}
	struct metric *metric = aligned_alloc(alignof(struct metric), sizeof(*metric));
	if (metric == NULL)
		return NULL;
	*metric = (struct metric){.kind = kind};
	if (labels != NULL && (metric->labels = strdup(labels)) == NULL) {
		metric_free(metric);
		return NULL;
	}
	*family->last = metric;
	family->last = &metric->next;
	*is_new = true;
	return metric;
}

struct metric *metrics_counter(struct metrics *m, const char *name, const char *help,
			       const char *labels)
{
	bool is_new;
	return metric_find_or_add(m, name, help, labels, METRIC_COUNTER, &is_new);
}

struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help,
			     const char *labels)
{
	bool is_new;
	return metric_find_or_add(m, name, help, labels, METRIC_GAUGE, &is_new);
}

struct metric *metrics_gauge_fn(struct metrics *m, const char *name, const char *help,
				const char *labels, double (*read)(void *context), void *context)
{
	bool is_new;
	struct metric *metric = metric_find_or_add(m, name, help, labels, METRIC_GAUGE_FN, &is_new);
	if (metric != NULL) {
		metric->read = read;
		metric->context = context;
	}
	return metric;
}

struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help,
				 const char *labels, const double *bounds, unsigned n)
{
	bool is_new;
	struct metric *metric =
		metric_find_or_add(m, name, help, labels, METRIC_HISTOGRAM, &is_new);
	if (metric == NULL || !is_new)
		return metric;
	double *seconds = calloc(n + 1, sizeof(*seconds));
	int64_t *ns = calloc(n + 1, sizeof(*ns));
	_Atomic int64_t *buckets = calloc(n + 1, sizeof(*buckets));
	/* Without memory the series stays in its family, and without buckets it is neither observed nor rendered. */
	if (seconds == NULL || ns == NULL || buckets == NULL) {
		free(seconds);
		free(ns);
		free(buckets);
		return NULL;
	}
	for (unsigned i = 0; i < n; i++) {
		seconds[i] = bounds[i];
		ns[i] = llround(bounds[i] * 1e9);
	}
	metric->bounds = seconds;
	metric->bounds_ns = ns;
	metric->buckets = buckets;
	metric->bound_count = n;
	return metric;
}

void metric_add(struct metric *metric, int64_t delta)
{
	if (metric != NULL)
		atomic_fetch_add_explicit(&metric->value, delta, memory_order_relaxed);
}

void metric_set(struct metric *metric, int64_t value)
{
	if (metric != NULL)
		atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

int64_t metric_get(const struct metric *metric)
{
	return metric != NULL ? atomic_load_explicit(&metric->value, memory_order_relaxed) : 0;
}

void metric_observe_ns(struct metric *metric, int64_t ns)
{
	if (metric == NULL || metric->buckets == NULL)
		return;
	unsigned i = 0;
	while (i < metric->bound_count && ns > metric->bounds_ns[i])
		i++;
	atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
	metric_add(metric, ns);
}

/* The process stays in the C locale, so %g writes a point. */
static void render_number(struct buf *out, double value)
{
	if (isnan(value))
		buf_puts(out, "NaN");
	else if (isinf(value))
		buf_puts(out, value > 0 ? "+Inf" : "-Inf");
	else
		buf_printf(out, "%.15g", value);
}

static void render_series(struct buf *out, const char *name, const char *suffix, const char *labels)
{
	buf_puts(out, name);
	buf_puts(out, suffix);
	if (labels != NULL)
		buf_printf(out, "{%s}", labels);
	buf_putc(out, ' ');
}

static void render_bucket(struct buf *out, const char *name, const struct metric *metric,
			  double bound, int64_t count)
{
	buf_printf(out, "%s_bucket{%s%sle=\"", name, metric->labels != NULL ? metric->labels : "",
		   metric->labels != NULL ? "," : "");
	render_number(out, bound);
	buf_printf(out, "\"} %lld\n", (long long)count);
}

static void render_histogram(struct buf *out, const char *name, const struct metric *metric)
{
	if (metric->buckets == NULL)
		return;
	int64_t count = 0;
	for (unsigned i = 0; i <= metric->bound_count; i++) {
		count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
		double bound = i < metric->bound_count ? metric->bounds[i] : INFINITY;
		render_bucket(out, name, metric, bound, count);
	}
	render_series(out, name, "_sum", metric->labels);
	render_number(out, (double)metric_get(metric) / 1e9);
	buf_putc(out, '\n');
	render_series(out, name, "_count", metric->labels);
	buf_printf(out, "%lld\n", (long long)count);
}

static void render_metric(struct buf *out, const char *name, const struct metric *metric)
{
	if (metric->kind == METRIC_HISTOGRAM) {
		render_histogram(out, name, metric);
		return;
	}
	render_series(out, name, "", metric->labels);
	if (metric->kind == METRIC_GAUGE_FN)
		render_number(out, metric->read(metric->context));
	else
		buf_printf(out, "%lld", (long long)metric_get(metric));
	buf_putc(out, '\n');
}

/* Help text escapes backslash and line feed (exposition format 0.0.4). */
static void render_help(struct buf *out, const char *help)
{
	for (const char *p = help; *p != '\0'; p++) {
		if (*p == '\\')
			buf_puts(out, "\\\\");
		else if (*p == '\n')
			buf_puts(out, "\\n");
		else
			buf_putc(out, *p);
	}
}

void metrics_render(const struct metrics *m, struct buf *out)
{
	for (const struct family *family = m->first; family != NULL; family = family->next) {
		buf_printf(out, "# HELP %s ", family->name);
		render_help(out, family->help);
		buf_printf(out, "\n# TYPE %s %s\n", family->name, family->type);
		for (const struct metric *metric = family->first; metric != NULL;
		     metric = metric->next)
			render_metric(out, family->name, metric);
	}
}
