/*
 * GET and HEAD /files/ID: the bytes, with validators (RFC 9110 §13) and ranges (§14).
 *
 * What memory can answer (a cached small body, HEAD, 304, 412) is answered on the event thread; the rest goes to a worker, which
 * opens the file. Served bytes can never act as the site: nosniff, a sandboxing policy, inline by allow-list only.
 */

#include <stdlib.h>
#include <string.h>

#include "depotd/base/clock.h"
#include "depotd/core/download.h"
#include "depotd/core/files.h"
#include "depotd/model/digest_field.h"
#include "depotd/model/file_name.h"
#include "depotd/model/media_type.h"
#include "depotd/model/range.h"
#include "rest_byteranges_private.h"
#include "rest_private.h"

static const char POLICY[] = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; "
			     "media-src 'self'; sandbox";

static void release_download(void *context)
{
	struct download *download = context;

	download_free(&download);
}

const char *rest_content_type(const struct file_record *record)
{
	/* Sniffed as text means: it reads as UTF-8. Saying so keeps browsers from guessing. */
	if (record->sniffed && !strcmp(record->sniffed, "text/plain") &&
	    !strcmp(record->type, "text/plain"))
		return "text/plain; charset=utf-8";
	return record->type;
}

static void reply_disposition(struct exchange *x, const struct file_record *record)
{
	bool is_inline =
		media_type_may_inline(record->sniffed) && !exchange_query_get(x, "download");
	struct buf value;

	buf_init(&value, 16 * (size_t)FILE_NAME_MAX_BYTES);
	disposition_format(is_inline, record->name, &value);
	/* Without memory for the name: never inline by omission. */
	reply_header(x, "Content-Disposition", value.failed ? "attachment" : buf_text(&value));
	buf_release(&value);
}

/* The header fields that 200, 206 and 304 share (RFC 9110 §15.4.5). */
static void reply_validators(struct exchange *x, const struct file_record *record)
{
	char etag[FILES_ETAG_MAX];
	char date[CLOCK_HTTP_DATE_LEN + 1];

	files_etag(record, etag);
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

enum answer {
	ANSWER_FAILED,        /* 412 */
	ANSWER_NOT_MODIFIED,  /* 304 */
	ANSWER_UNSATISFIABLE, /* 416 */
	ANSWER_HEAD,          /* the header fields of a GET */
	ANSWER_BYTES,         /* 200, or 206 with these ranges */
};

/* What the request's header fields ask for; only ANSWER_BYTES needs bytes. Sets *n, 0 for all of the file. */
static enum answer decide(struct exchange *x, const struct file_record *record,
			  struct byte_range *ranges, size_t *n)
{
	struct conditional_headers conditionals;
	int64_t modified_s = record->created_ms / 1000;
	char etag[FILES_ETAG_MAX];

	*n = 0;
	files_etag(record, etag);
	exchange_conditionals(x, &conditionals);
	switch (conditional_evaluate(&conditionals, true, etag, modified_s)) {
	case CONDITIONAL_FAILED:
		return ANSWER_FAILED;
	case CONDITIONAL_NOT_MODIFIED:
		return ANSWER_NOT_MODIFIED;
	case CONDITIONAL_PROCEED:
		break;
	}
	if (exchange_is_head(x))
		return ANSWER_HEAD;
	if (conditional_range_stands(conditionals.if_range, etag, modified_s) &&
	    range_parse(exchange_header(x, "Range"), record->size, ranges, n) ==
		    RANGE_UNSATISFIABLE)
		return ANSWER_UNSATISFIABLE;
	return ANSWER_BYTES;
}

static void reply_stretch(struct exchange *x, struct download *download, int64_t first,
			  int64_t length)
{
	const char *data = download_data(download);

	if (data) {
		reply_memory(x, data + first, (size_t)length, release_download, download);
		return;
	}
	download_will_read(download, first, length);
	if (download_descriptor(download) >= 0)
		reply_file(x, download_descriptor(download), first, length, release_download,
			   download);
	else
		rest_reply_byteranges(x, download, &(struct byte_range){first, length}, 1);
}

/* 200 or 206. Takes over the download. */
static void reply_bytes(struct exchange *x, struct download *download,
			const struct byte_range *ranges, size_t n)
{
	const struct file_record *record = download_record(download);

	reply_status(x, n ? 206 : 200);
	if (n > 1) {
		rest_reply_byteranges(x, download, ranges, n);
		return;
	}
	reply_header(x, "Content-Type", rest_content_type(record));
	if (n == 0) {
		reply_stretch(x, download, 0, record->size);
		return;
	}
	reply_headerf(x, "Content-Range", "bytes %lld-%lld/%lld", (long long)ranges[0].first,
		      (long long)(ranges[0].first + ranges[0].length - 1), (long long)record->size);
	reply_stretch(x, download, ranges[0].first, ranges[0].length);
}

/* Takes over the download. */
static void reply(struct exchange *x, struct download *download, enum answer answer,
		  const struct byte_range *ranges, size_t n)
{
	const struct file_record *record = download_record(download);
	struct err err;

	switch (answer) {
	case ANSWER_FAILED:
		err_set(&err, ERR_PRECONDITION,
			"the file is not the one that the request is conditional on");
		reply_error(x, &err);
		break;
	case ANSWER_UNSATISFIABLE:
		err_set(&err, ERR_RANGE, "the file has %lld bytes", (long long)record->size);
		reply_error(x, &err);
		reply_headerf(x, "Content-Range", "bytes */%lld", (long long)record->size);
		break;
	case ANSWER_NOT_MODIFIED:
		reply_status(x, 304);
		reply_validators(x, record);
		reply_empty_of_length(x, record->size); /* RFC 9110 §8.6 */
		break;
	case ANSWER_HEAD:
		reply_status(x, 200);
		reply_validators(x, record);
		reply_representation(x, record);
		reply_header(x, "Content-Type", rest_content_type(record));
		reply_empty_of_length(x, record->size);
		break;
	case ANSWER_BYTES:
		reply_validators(x, record);
		reply_representation(x, record);
		reply_bytes(x, download, ranges, n);
		return;
	}
	download_free(&download);
}

static enum http_verdict download_check(struct exchange *x)
{
	struct byte_range ranges[RANGE_MAX];
	struct download *download;
	enum answer answer;
	struct uuid id;
	size_t n;

	if (!rest_id(x, &id))
		return HTTP_ANSWERED;
	if (download_cached(rest_front(x)->core, &id, &download) != 1)
		return HTTP_GO_ON;
	answer = decide(x, download_record(download), ranges, &n);
	if (answer == ANSWER_BYTES && !download_data(download)) {
		download_free(&download);
		return HTTP_GO_ON;
	}
	reply(x, download, answer, ranges, n);
	return HTTP_ANSWERED;
}

static void download_finish(struct exchange *x)
{
	struct byte_range ranges[RANGE_MAX];
	struct download *download;
	enum answer answer;
	struct uuid id;
	struct err err;
	size_t n;
	int found;

	if (!rest_id(x, &id))
		return;
	found = download_open(rest_front(x)->core, &id, &download, &err);
	if (found < 0) {
		reply_error(x, &err);
	} else if (found == 0) {
		rest_not_found(x);
	} else {
		answer = decide(x, download_record(download), ranges, &n);
		reply(x, download, answer, ranges, n);
	}
}

const struct http_handler rest_download = {.check = download_check, .finish = download_finish};
