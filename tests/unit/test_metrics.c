/* The registry of metrics, as Prometheus reads it. */
#include <math.h>

#include "depotd/base/metrics.h"
#include "unit.h"

static double half(void *context)
{
	return *(double *)context;
}

static void families_are_rendered_in_the_order_of_registration(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	double value = 0.5;
	struct metric *get = metrics_counter(m, "requests_total", "Requests.", "method=\"GET\"");
	struct metric *up = metrics_gauge(m, "up", "A \\ and\na line.", NULL);
	struct metric *put = metrics_counter(m, "requests_total", "Requests.", "method=\"PUT\"");
	metrics_gauge_fn(m, "load", "Load.", NULL, half, &value);
	metric_add(get, 3);
	metric_add(put, 1);
	metric_set(up, -7);
	assert_int_equal(metric_get(get), 3);
	struct buf out;
	buf_init(&out, 10000);
	metrics_render(m, &out);
	assert_string_equal(buf_text(&out), "# HELP requests_total Requests.\n"
					    "# TYPE requests_total counter\n"
					    "requests_total{method=\"GET\"} 3\n"
					    "requests_total{method=\"PUT\"} 1\n"
					    "# HELP up A \\\\ and\\na line.\n"
					    "# TYPE up gauge\n"
					    "up -7\n"
					    "# HELP load Load.\n"
					    "# TYPE load gauge\n"
					    "load 0.5\n");
	buf_release(&out);
	metrics_free(&m);
	assert_null(m);
}

static void a_histogram_counts_upwards(void **state)
{
	(void)state;
	static const double bounds[] = {0.001, 0.25};
	struct metrics *m = metrics_new();
	struct metric *h = metrics_histogram(m, "seconds", "Time.", "q=\"a\"", bounds, 2);
	metric_observe_ns(h, 1000000); /* exactly the bound: le means at most */
	metric_observe_ns(h, 1000001);
	metric_observe_ns(h, 3000000000);
	struct buf out;
	buf_init(&out, 10000);
	metrics_render(m, &out);
	assert_string_equal(buf_text(&out), "# HELP seconds Time.\n"
					    "# TYPE seconds histogram\n"
					    "seconds_bucket{q=\"a\",le=\"0.001\"} 1\n"
					    "seconds_bucket{q=\"a\",le=\"0.25\"} 2\n"
					    "seconds_bucket{q=\"a\",le=\"+Inf\"} 3\n"
					    "seconds_sum{q=\"a\"} 3.002000001\n"
					    "seconds_count{q=\"a\"} 3\n");
	buf_release(&out);
	metrics_free(&m);
}

static void the_same_series_is_registered_once(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	struct metric *a = metrics_counter(m, "x", "X.", NULL);
	assert_ptr_equal(metrics_counter(m, "x", "X.", NULL), a);
	assert_null(metrics_gauge(m, "x", "X.", "other=\"kind\""));
	metrics_free(&m);
}

static void no_metric_is_a_no_op(void **state)
{
	(void)state;
	metric_add(NULL, 1);
	metric_set(NULL, 1);
	metric_observe_ns(NULL, 1);
	assert_int_equal(metric_get(NULL), 0);
	assert_null(metrics_counter(NULL, "x", "X.", NULL));
	struct metrics *none = NULL;
	metrics_free(&none);
}

static void numbers_that_are_none_are_written_as_prometheus_writes_them(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	double nan = NAN, infinite = -INFINITY;
	metrics_gauge_fn(m, "a", "A.", NULL, half, &nan);
	metrics_gauge_fn(m, "b", "B.", NULL, half, &infinite);
	struct buf out;
	buf_init(&out, 10000);
	metrics_render(m, &out);
	assert_non_null(strstr(buf_text(&out), "\na NaN\n"));
	assert_non_null(strstr(buf_text(&out), "\nb -Inf\n"));
	buf_release(&out);
	metrics_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(families_are_rendered_in_the_order_of_registration),
		cmocka_unit_test(a_histogram_counts_upwards),
		cmocka_unit_test(the_same_series_is_registered_once),
		cmocka_unit_test(no_metric_is_a_no_op),
		cmocka_unit_test(numbers_that_are_none_are_written_as_prometheus_writes_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
