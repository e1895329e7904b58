/*
 * GET and HEAD /files/ID: the bytes, with validators (RFC 9110 §13) and ranges (§14).
 *
 * What memory can answer (a cached small body, HEAD, 304, 412) is answered on the event thread; the rest goes to a worker, which
 * opens the file. Served bytes can never act as the site: nosniff, a sandboxing policy, inline by allow-list only.
 */

#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/core/files.h"
#include "depotd/model/digest_field.h"
#include "depotd/model/file_name.h"
#include "depotd/model/media_type.h"
#include "depotd/model/range.h"
#include "rest_byteranges_private.h"
#include "rest_private.h"

static const char POLICY[] = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; "
			     "media-src 'self'; sandbox";

/* What an answer's body holds on to until it was sent. */
struct held {
	struct file_record *record;
	struct cached_body *body;
	struct blob_reader *reader;
};

static void held_release(void *context)
{
	struct held *held = context;

	if (!held)
		return;
	file_record_unref(&held->record);
	if (held->body)
		cached_body_unref(&held->body);
	blob_reader_free(&held->reader);
	free(held);
}

static void reply_content_type(struct exchange *x, const struct file_record *record)
{
	/* Sniffed as text means: it reads as UTF-8. Saying so keeps browsers from guessing. */
	if (record->sniffed && !strcmp(record->sniffed, "text/plain") && !strcmp(record->type, "text/plain"))
		reply_header(x, "Content-Type", "text/plain; charset=utf-8");
	else
		reply_header(x, "Content-Type", record->type);
}

static void reply_disposition(struct exchange *x, const struct file_record *record)
{
	bool is_inline = media_type_may_inline(record->sniffed) && !exchange_query_get(x, "download");
	struct buf value;

	buf_init(&value, 16 * (size_t)FILE_NAME_MAX_BYTES);
	disposition_format(is_inline, record->name, &value);
	if (!value.failed)
		reply_header(x, "Content-Disposition", buf_text(&value));
	buf_release(&value);
}

/* The header fields that 200, 206 and 304 share (RFC 9110 §15.4.5). */
static void reply_validators(struct exchange *x, const struct file_record *record, const char *etag)
{
	char date[CLOCK_HTTP_DATE_LEN + 1];

	clock_format_http_date(record->created_ms, date);
	reply_header(x, "ETag", etag);
	reply_header(x, "Last-Modified", date);
	reply_header(x, "Cache-Control", "private, no-cache");
}

static void reply_representation(struct exchange *x, const struct file_record *record)
{
	char digest[DIGEST_FIELD_LEN + 1];

	digest_field_format(record->sha256, digest);
	reply_header(x, "Repr-Digest", digest);
	reply_header(x, "Accept-Ranges", "bytes");
	reply_header(x, "X-Content-Type-Options", "nosniff");
	reply_header(x, "Content-Security-Policy", POLICY);
	reply_disposition(x, record);
}

/* Answers from the headers alone: 304, 412, 416, HEAD. Otherwise false, and the ranges that are to be sent. */
static bool reply_without_bytes(struct exchange *x, const struct file_record *record, struct byte_range *ranges,
				size_t *n)
{
	struct conditional_headers conditionals;
	char etag[FILES_ETAG_MAX];
	struct err err;

	*n = 0;
	files_etag(record, etag);
	exchange_conditionals(x, &conditionals);
	switch (conditional_evaluate(&conditionals, true, etag, record->created_ms / 1000)) {
	case CONDITIONAL_FAILED:
		err_set(&err, ERR_PRECONDITION, "the file is not the one the request is conditional on");
		reply_error(x, &err);
		return true;
	case CONDITIONAL_NOT_MODIFIED:
		reply_status(x, 304);
		reply_validators(x, record, etag);
		reply_empty(x);
		return true;
	case CONDITIONAL_PROCEED:
		break;
	}
	if (!exchange_is_head(x) && conditional_range_stands(conditionals.if_range, etag, record->created_ms / 1000) &&
	    range_parse(exchange_header(x, "Range"), record->size, ranges, n) == RANGE_UNSATISFIABLE) {
		err_set(&err, ERR_RANGE, "the file has %lld bytes", (long long)record->size);
		reply_headerf(x, "Content-Range", "bytes */%lld", (long long)record->size);
		reply_error(x, &err);
		return true;
	}
	reply_validators(x, record, etag);
	reply_representation(x, record);
	if (exchange_is_head(x)) {
		reply_status(x, 200);
		reply_content_type(x, record);
		reply_empty_of_length(x, record->size);
		return true;
	}
	return false;
}

static void reply_stretch(struct exchange *x, struct held *held, int64_t first, int64_t length)
{
	if (held->body) {
		size_t size;
		const char *data = cached_body_data(held->body, &size);

		reply_memory(x, data + first, (size_t)length, held_release, held);
		return;
	}
	blob_will_read(held->reader, first, length);
	if (blob_descriptor(held->reader) >= 0) {
		reply_file(x, blob_descriptor(held->reader), first, length, held_release, held);
	} else {
		struct byte_range range = {first, length};

		rest_reply_byteranges(x, held->record, held->reader, NULL, &range, 1, held_release, held);
	}
}

/* Takes over what is held. */
static void reply_bytes(struct exchange *x, struct held *held, const struct byte_range *ranges, size_t n)
{
	const struct file_record *record = held->record;

	if (n > 1) {
		reply_status(x, 206);
		rest_reply_byteranges(x, record, held->reader, held->body, ranges, n, held_release, held);
		return;
	}
	reply_content_type(x, record);
	if (n == 1) {
		reply_status(x, 206);
		reply_headerf(x, "Content-Range", "bytes %lld-%lld/%lld", (long long)ranges[0].first,
			      (long long)(ranges[0].first + ranges[0].length - 1), (long long)record->size);
		reply_stretch(x, held, ranges[0].first, ranges[0].length);
	} else {
		reply_status(x, 200);
		reply_stretch(x, held, 0, record->size);
	}
}

/* Takes over the references. body and reader are both NULL only where headers may suffice: false when they don't. */
static bool answer(struct exchange *x, struct file_record *record, struct cached_body *body,
		   struct blob_reader *reader)
{
	struct byte_range ranges[RANGE_MAX];
	struct held *held;
	size_t n;

	held = calloc(1, sizeof(*held));
	if (!held) {
		struct err err;

		file_record_unref(&record);
		if (body)
			cached_body_unref(&body);
		blob_reader_free(&reader);
		err_set(&err, ERR_NO_MEMORY, "a download");
		reply_error(x, &err);
		return true;
	}
	*held = (struct held){record, body, reader};
	if (!reply_without_bytes(x, record, ranges, &n)) {
		if (!body && !reader) {
			held_release(held);
			return false;
		}
		reply_bytes(x, held, ranges, n);
		return true;
	}
	held_release(held);
	return true;
}

static enum http_verdict download_check(struct exchange *x)
{
	struct file_record *record;
	struct cached_body *body;
	struct uuid id;

	if (!rest_id(x, &id))
		return HTTP_ANSWERED;
	if (files_cached(rest_front(x)->core, &id, &record, &body) != 1)
		return HTTP_GO_ON;
	return answer(x, record, body, NULL) ? HTTP_ANSWERED : HTTP_GO_ON;
}

static void download_finish(struct exchange *x)
{
	struct file_record *record = NULL;
	struct cached_body *body = NULL;
	struct blob_reader *reader = NULL;
	struct uuid id;
	struct err err;
	int found;

	if (!rest_id(x, &id))
		return;
	found = files_open(rest_front(x)->core, &id, &record, &body, &reader, &err);
	if (found < 0)
		reply_error(x, &err);
	else if (found == 0)
		rest_not_found(x);
	else
		answer(x, record, body, reader);
}

const struct http_handler rest_download = {.check = download_check, .finish = download_finish};
