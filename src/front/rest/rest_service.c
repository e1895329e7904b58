/* What operators and machines ask: alive, ready, metrics, and the API's own description. Event threads; memory only. */

#include "depotd/base/embedded.h"
#include "rest_private.h"

enum { METRICS_MAX = 1 << 20 };

static enum http_verdict healthz_check(struct exchange *x)
{
	struct buf body;
	struct json_writer w;

	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_open_object(&w);
	json_key(&w, "status");
	json_text(&w, "ok");
	json_close_object(&w);
	rest_reply_json(x, 200, &body);
	return HTTP_ANSWERED;
}

static void part(struct json_writer *w, const char *name, bool ok, const char *detail)
{
	json_key(w, name);
	json_open_object(w);
	json_key(w, "status");
	json_text(w, ok ? "ok" : "failed");
	if (!ok) {
		json_key(w, "detail");
		json_text(w, detail);
	}
	json_close_object(w);
}

static enum http_verdict readyz_check(struct exchange *x)
{
	struct front *front = rest_front(x);
	bool stopping = atomic_load(&front->stopping), ready;
	struct core_health health;
	struct json_writer w;
	struct buf body;

	core_health(front->core, &health);
	ready = health.data_ok && health.database_ok && !stopping;
	buf_init(&body, 8192);
	json_writer_init(&w, &body);
	json_open_object(&w);
	json_key(&w, "status");
	json_text(&w, ready ? "ready" : "not ready");
	json_key(&w, "parts");
	json_open_object(&w);
	part(&w, "server", !stopping, "stopping");
	part(&w, "data_directory", health.data_ok, health.data_err.message);
	part(&w, "database", health.database_ok, health.database_err.message);
	json_close_object(&w);
	json_close_object(&w);
	rest_reply_json(x, ready ? 200 : 503, &body);
	return HTTP_ANSWERED;
}

static enum http_verdict metrics_check(struct exchange *x)
{
	struct buf body;

	buf_init(&body, METRICS_MAX);
	metrics_render(rest_front(x)->metrics, &body);
	reply_status(x, 200);
	reply_header(x, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
	reply_header(x, "Cache-Control", "no-store");
	reply_buf(x, &body);
	return HTTP_ANSWERED;
}

static enum http_verdict openapi_check(struct exchange *x)
{
	const struct embedded_file *file = &embedded_api[0];

	reply_status(x, 200);
	reply_header(x, "Content-Type", "application/json");
	reply_headerf(x, "ETag", "\"%.32s\"", file->sha256);
	reply_memory(x, file->data, file->len, NULL, NULL);
	return HTTP_ANSWERED;
}

const struct http_handler rest_healthz = {.check = healthz_check};
const struct http_handler rest_readyz = {.check = readyz_check};
const struct http_handler rest_metrics = {.check = metrics_check};
const struct http_handler rest_openapi = {.check = openapi_check};
