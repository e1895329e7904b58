/* What is told of requests: metrics and the access log. Event threads; relaxed atomics and the log's ring only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "depotd/base/log.h"
#include "exchange_private.h"

enum { LINE_MAX_BYTES = 16 * 1024, METHODS_MAX = 9 };

/* Every status this server can give, and 499 for no answer; others count as 0, "other". */
static const int codes[] = {200, 201, 202, 204, 206, 303, 304, 400, 401, 403, 404,
			    405, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417,
			    422, 429, 431, 499, 500, 501, 503, 505, 507, 0};
enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static const char *const refusals[REFUSAL_COUNT] = {
	[REFUSED_MALFORMED] = "reason=\"malformed\"",     [REFUSED_QUEUE] = "reason=\"queue_full\"",
	[REFUSED_CONNECTIONS] = "reason=\"connections\"", [REFUSED_ADDRESS] = "reason=\"address\"",
	[REFUSED_DEADLINE] = "reason=\"deadline\"",
};

struct account {
	struct metric *requests[METHODS_MAX][CODES];
	struct metric *duration, *received, *sent;
	struct metric *refused[REFUSAL_COUNT];
};

static double count_connections(void *context)
{
	return (double)atomic_load(&((struct http_server *)context)->conn_count);
}

static double count_exchanges(void *context)
{
	return (double)atomic_load(&((struct http_server *)context)->exchanges);
}

static void register_requests(struct account *a, struct metrics *m)
{
	char labels[64];
	for (unsigned i = 0; i <= router_method_count() && i < METHODS_MAX; i++) {
		for (unsigned j = 0; j < CODES; j++) {
			if (codes[j] != 0)
				(void)snprintf(labels, sizeof(labels), "method=\"%s\",code=\"%d\"",
					       router_method_name(i), codes[j]);
			else
				(void)snprintf(labels, sizeof(labels),
					       "method=\"%s\",code=\"other\"",
					       router_method_name(i));
			a->requests[i][j] =
				metrics_counter(m, "depotd_http_requests_total",
						"Requests by method and status.", labels);
		}
	}
}

struct account *account_new(struct http_server *server)
{
	static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
					0.25,   0.5,   1,      2.5,   5,    10,    60,   600};
	struct account *a = calloc(1, sizeof(*a));
	struct metrics *m = server->config.metrics;
	if (a == NULL || m == NULL)
		return a;
	register_requests(a, m);
	a->duration = metrics_histogram(m, "depotd_http_request_duration_seconds",
					"From the end of the head to the end of the answer.", NULL,
					bounds, sizeof(bounds) / sizeof(bounds[0]));
	a->received = metrics_counter(m, "depotd_http_received_bytes_total",
				      "Bytes of request bodies.", NULL);
	a->sent = metrics_counter(m, "depotd_http_sent_bytes_total",
				  "Bytes of complete answers' bodies.", NULL);
	(void)metrics_gauge_fn(m, "depotd_http_connections", "Open connections.", NULL,
			       count_connections, server);
	(void)metrics_gauge_fn(m, "depotd_http_exchanges", "Requests under way.", NULL,
			       count_exchanges, server);
	for (unsigned i = 0; i < REFUSAL_COUNT; i++)
		a->refused[i] = metrics_counter(m, "depotd_http_refused_total",
						"Requests and connections that were turned away.",
						refusals[i]);
	return a;
}

void account_free(struct account **account)
{
	free(*account);
	*account = NULL;
}

void account_refusal(struct http_server *server, enum refusal why)
{
	metric_add(server->account->refused[why], 1);
}

/* What the client was answered; 499, as nginx has it, where the connection ended before there was an answer. */
static int status_of(const struct exchange *x)
{
	return x->state == EXCHANGE_SENDING ? x->reply.status : 499;
}

static const char *header_or_dash(struct exchange *x, const char *name)
{
	const char *value = exchange_header(x, name);
	return value != NULL ? value : "-";
}

/* Quotes, backslashes and whatever is not plain text become \xHH, so that a client cannot forge a field. */
static void append_quoted(struct buf *line, const char *text)
{
	buf_putc(line, '"');
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\' || c < ' ' || c >= 0x7f)
			buf_printf(line, "\\x%02X", c);
		else
			buf_putc(line, *text);
	}
	buf_putc(line, '"');
}

static void render_combined(struct exchange *x, int64_t bytes, int64_t ns, struct buf *line)
{
	char now[CLOCK_HTTP_DATE_LEN + 1], request[HEAD_TARGET_MAX + 64];
	clock_format_http_date(clock_wall_ms(), now); /* Sun, 06 Nov 1994 08:49:37 GMT */
	(void)snprintf(request, sizeof(request), "%.32s %s HTTP/1.%u", x->head.method,
		       x->head.target, x->head.minor);
	/* The common log format's [06/Nov/1994:08:49:37 +0000], or no program that reads such logs reads this one. */
	buf_printf(line, "%s - - [%.2s/%.3s/%.4s:%.8s +0000] ",
		   x->peer_text[0] != '\0' ? x->peer_text : "-", now + 5, now + 8, now + 12,
		   now + 17);
	append_quoted(line, request);
	buf_printf(line, " %d %lld ", status_of(x), (long long)bytes);
	append_quoted(line, header_or_dash(x, "Referer"));
	buf_putc(line, ' ');
	append_quoted(line, header_or_dash(x, "User-Agent"));
	buf_printf(line, " %s %.6f", x->request_id, (double)ns / 1e9);
}

static void text_or_null(struct json_writer *w, const char *key, const char *value)
{
	char plain[HEAD_TARGET_MAX + 1];
	size_t at = 0;
	json_key(w, key);
	/* JSON is UTF-8, requests need not be. */
	for (; value != NULL && *value != '\0' && at + 1 < sizeof(plain); value++)
		plain[at++] = (unsigned char)*value < 0x80 ? *value : '?';
	plain[at] = '\0';
	json_text(w, value != NULL ? plain : NULL);
}

static void render_json(struct exchange *x, int64_t bytes, int64_t ns, bool completed,
			struct buf *line)
{
	char when[CLOCK_RFC3339_LEN + 1];
	struct json_writer w;
	clock_format_rfc3339(clock_wall_ms(), when);
	json_writer_init(&w, line);
	json_open_object(&w);
	text_or_null(&w, "time", when);
	text_or_null(&w, "address", x->peer_text);
	text_or_null(&w, "method", x->head.method);
	text_or_null(&w, "target", x->head.target);
	json_key(&w, "status");
	json_int(&w, status_of(x));
	json_key(&w, "sent");
	json_int(&w, bytes);
	json_key(&w, "received");
	json_int(&w, (int64_t)x->received);
	json_key(&w, "microseconds");
	json_int(&w, ns / 1000);
	json_key(&w, "complete");
	json_bool(&w, completed);
	text_or_null(&w, "referer", exchange_header(x, "Referer"));
	text_or_null(&w, "user_agent", exchange_header(x, "User-Agent"));
	text_or_null(&w, "request_id", x->request_id);
	json_close_object(&w);
}

static void log_exchange(struct exchange *x, int64_t bytes, int64_t ns, bool completed)
{
	struct buf line;
	buf_init(&line, LINE_MAX_BYTES);
	if (x->server->config.access_log == HTTP_ACCESS_LOG_JSON)
		render_json(x, bytes, ns, completed, &line);
	else
		render_combined(x, bytes, ns, &line);
	if (!line.failed)
		log_access(line.data, line.len);
	buf_release(&line);
}

static unsigned code_index(int status)
{
	unsigned i = 0;
	while (i < CODES - 1 && codes[i] != status)
		i++;
	return i;
}

void account_exchange(struct exchange *x, bool completed)
{
	struct account *a = x->server->account;
	int64_t ns = clock_monotonic_ns() - x->started_ns;
	bool body = completed && !x->head.is_head && x->reply.status != 304 &&
		    x->reply.kind != REPLY_EMPTY;
	int64_t bytes = body ? x->reply.length : 0;
	if (x->server->config.metrics != NULL) {
		metric_add(
			a->requests[router_method_index(x->head.method)][code_index(status_of(x))],
			1);
		metric_observe_ns(a->duration, ns);
		metric_add(a->received, (int64_t)x->received);
		metric_add(a->sent, bytes);
	}
	if (x->server->config.access_log != HTTP_ACCESS_LOG_OFF)
		log_exchange(x, bytes, ns, completed);
}
