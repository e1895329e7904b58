/*
 * The answer: what the owner says of it, and how libmicrohttpd gets it. Built on whatever thread owned the exchange last, so
 * mostly on a worker; queued on the event thread. Memory of an answer belongs to the exchange, which outlives it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange_private.h"

enum { RETRY_AFTER_S = 2 };

void reply_init(struct exchange *x)
{
	x->reply = (struct reply){.status = 200, .fd = -1, .last = &x->reply.first};
}

/* Forgets the body that was set before. */
static void reply_drop_body(struct exchange *x)
{
	struct reply *r = &x->reply;
	if (r->release != NULL)
		r->release(r->context);
	free(r->owned);
	r->kind = REPLY_NONE;
	r->owned = NULL;
	r->data = NULL;
	r->release = NULL;
	r->context = NULL;
	r->read = NULL;
	r->fd = -1;
	r->length = 0;
}

void reply_release(struct exchange *x)
{
	stream_free(&x->reply.stream);
	reply_drop_body(x);
}

/* Whether what reply_release() does may block: a file's or stream's release must run on a worker. */
bool reply_release_blocks(const struct exchange *x)
{
	return x->reply.release != NULL &&
	       (x->reply.kind == REPLY_FILE || x->reply.kind == REPLY_STREAM);
}

bool reply_is_set(const struct exchange *x)
{
	return x->reply.kind != REPLY_NONE || x->reply.broken || x->reply.status == 204;
}

static bool has_field(const struct reply *r, const char *name)
{
	for (const struct reply_field *f = r->first; f != NULL; f = f->next) {
		if (strcasecmp(f->name, name) == 0)
			return true;
	}
	return false;
}

void reply_status(struct exchange *x, int status)
{
	x->reply.status = status;
	if (status == 503 && !has_field(&x->reply, "Retry-After"))
		reply_headerf(x, "Retry-After", "%d", RETRY_AFTER_S);
}

static bool value_is_clean(const char *value)
{
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

void reply_header(struct exchange *x, const char *name, const char *value)
{
	struct reply_field *field = arena_alloc(&x->arena, sizeof(*field));
	if (!value_is_clean(value) || !head_is_token(name, strlen(name)) || field == NULL) {
		x->reply.broken = true;
		return;
	}
	field->name = arena_strdup(&x->arena, name);
	field->value = arena_strdup(&x->arena, value);
	if (field->name == NULL || field->value == NULL) {
		x->reply.broken = true;
		return;
	}
	*x->reply.last = field;
	x->reply.last = &field->next;
}

void reply_headerf(struct exchange *x, const char *name, const char *format, ...)
{
	char text[4096];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text))
		x->reply.broken = true;
	else
		reply_header(x, name, text);
}

void reply_empty(struct exchange *x)
{
	reply_empty_of_length(x, 0);
}

void reply_empty_of_length(struct exchange *x, int64_t length)
{
	reply_drop_body(x);
	x->reply.kind = REPLY_EMPTY;
	x->reply.length = length;
}

void reply_buf(struct exchange *x, struct buf *body)
{
	size_t n = 0;
	reply_drop_body(x);
	bool failed = body->failed;
	char *data = buf_take(body, &n);
	if (failed || data == NULL) {
		free(data);
		if (failed)
			x->reply.broken = true;
		x->reply.kind = REPLY_EMPTY;
		return;
	}
	x->reply.kind = REPLY_MEMORY;
	x->reply.owned = data;
	x->reply.data = data;
	x->reply.length = (int64_t)n;
}

void reply_memory(struct exchange *x, const void *data, size_t n, void (*release)(void *context),
		  void *context)
{
	reply_drop_body(x);
	x->reply.kind = REPLY_MEMORY;
	x->reply.data = data;
	x->reply.length = (int64_t)n;
	x->reply.release = release;
	x->reply.context = context;
}

void reply_file(struct exchange *x, int fd, int64_t offset, int64_t n,
		void (*release)(void *context), void *context)
{
	reply_drop_body(x);
	x->reply.kind = REPLY_FILE;
	x->reply.fd = fd;
	x->reply.offset = offset;
	x->reply.length = n;
	x->reply.release = release;
	x->reply.context = context;
}

void reply_stream(struct exchange *x, int64_t n,
		  int (*read)(void *context, void *data, size_t max, size_t *got, struct err *err),
		  void (*release)(void *context), void *context)
{
	reply_drop_body(x);
	x->reply.kind = REPLY_STREAM;
	x->reply.length = n;
	x->reply.read = read;
	x->reply.release = release;
	x->reply.context = context;
}

/* --- building --- */

/* No byte of it is ever sent: it only carries the length. */
static ssize_t read_nothing(void *context, uint64_t at, char *data, size_t max)
{
	(void)context;
	(void)at;
	(void)data;
	(void)max;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *of_length(int64_t n)
{
	if (n == 0)
		return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	return MHD_create_response_from_callback((uint64_t)n, 1, read_nothing, NULL, NULL);
}

/* libmicrohttpd closes the descriptor it is given, so it gets one of its own. */
static struct MHD_Response *of_file(const struct reply *r)
{
	int fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(
		(uint64_t)r->length, fd, (uint64_t)r->offset);
	if (response == NULL)
		(void)close(fd);
	return response;
}

static struct MHD_Response *make_response(struct exchange *x)
{
	struct reply *r = &x->reply;
	bool bodiless = x->head.is_head || r->status == 204 || r->status == 304;
	if (bodiless || r->kind == REPLY_EMPTY || r->kind == REPLY_NONE || r->length == 0)
		return of_length(r->status == 204 ? 0 : bodiless ? r->length : 0);
	switch (r->kind) {
	case REPLY_FILE:
		return of_file(r);
	case REPLY_STREAM:
		r->stream = stream_new(x);
		return r->stream != NULL ? stream_response(r->stream) : NULL;
	default:
		/* The cast takes a const off that libmicrohttpd's old prototype lacks; it only reads. */
		return MHD_create_response_from_buffer(
			(size_t)r->length, (void *)(uintptr_t)r->data, MHD_RESPMEM_PERSISTENT);
	}
}

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_fields(struct exchange *x, struct MHD_Response *response)
{
	bool ok = add(response, "Request-Id", x->request_id);
	for (const struct reply_field *f = x->reply.first; f != NULL && ok; f = f->next)
		ok = add(response, f->name, f->value);
	if (x->conn->close || atomic_load_explicit(&x->server->quiescing, memory_order_relaxed))
		ok = ok && add(response, "Connection", "close");
	return ok;
}

static int try_build(struct exchange *x)
{
	if (x->reply.broken)
		return -1;
	struct MHD_Response *response = make_response(x);
	if (response == NULL)
		return -1;
	if (!add_fields(x, response)) {
		MHD_destroy_response(response);
		return -1;
	}
	x->response = response;
	return 0;
}

/*
 * libmicrohttpd has its own copies of the fields now. What a client takes minutes to read is not to hold ours: with a file nothing
 * else is in the arena that anybody will look at, unless the handler keeps a state.
 */
static void drop_words(struct exchange *x)
{
	if (x->reply.kind != REPLY_FILE || x->handler_state != NULL)
		return;
	x->reply.first = NULL;
	x->reply.last = &x->reply.first;
	x->target = (struct target){0};
	x->match = (struct router_match){0};
	x->head_err = NULL;
	arena_release(&x->arena);
}

int reply_build(struct exchange *x)
{
	struct err err;
	if (try_build(x) == 0) {
		drop_words(x);
		return 0;
	}
	(void)err_set(&err, ERR_INTERNAL, "the answer to %s %s could not be built", x->head.method,
		      x->head.target);
	x->reply.broken = false;
	x->reply.first = NULL;
	x->reply.last = &x->reply.first;
	reply_error(x, &err);
	return try_build(x);
}
