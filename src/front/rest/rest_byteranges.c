/*
 * Several ranges in one answer, made piece by piece: a list of stretches, each either text (part headers) or bytes of the file.
 * The list is built once, so the length is known before the first byte is read. read() runs on workers.
 */

#include <stdlib.h>
#include <string.h>

#include "rest_byteranges_private.h"
#include "rest_private.h"

struct stretch {
	size_t text_at;  /* into text, when length_text > 0 */
	size_t text_len; /* bytes of text, sent before the file's bytes */
	int64_t first, length;
};

struct byteranges {
	struct download *download;
	struct buf text;
	struct stretch stretches[RANGE_MAX + 1];
	size_t n, at;
	int64_t done; /* bytes of stretches[at] that were given out, text first */
};

static void byteranges_free(void *context)
{
	struct byteranges *b = context;

	buf_release(&b->text);
	download_free(&b->download);
	free(b);
}

static size_t smaller(size_t a, int64_t b)
{
	return b < (int64_t)a ? (size_t)b : a;
}

static int byteranges_read(void *context, void *data, size_t max, size_t *got, struct err *err)
{
	struct byteranges *b = context;
	const struct stretch *s;

	while (b->at < b->n &&
	       b->done == (int64_t)b->stretches[b->at].text_len + b->stretches[b->at].length) {
		b->at++;
		b->done = 0;
	}
	*got = 0;
	if (b->at == b->n)
		return 0;
	s = &b->stretches[b->at];
	if (b->done < (int64_t)s->text_len) {
		*got = smaller(max, (int64_t)s->text_len - b->done);
		memcpy(data, buf_text(&b->text) + s->text_at + b->done, *got);
	} else {
		int64_t into = b->done - (int64_t)s->text_len;

		if (download_read(b->download, s->first + into, data,
				  smaller(max, s->length - into), got, err) < 0)
			return -1;
	}
	b->done += (int64_t)*got;
	return 0;
}

static int64_t lay_out(struct byteranges *b, const char *boundary, const struct byte_range *ranges,
		       size_t n)
{
	const struct file_record *record = download_record(b->download);
	int64_t total = 0;

	for (size_t i = 0; i < n; i++) {
		struct stretch *s = &b->stretches[b->n++];
		int64_t first = ranges[i].first, length = ranges[i].length;

		*s = (struct stretch){.text_at = b->text.len, .first = first, .length = length};
		if (boundary)
			buf_printf(&b->text,
				   "%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes "
				   "%lld-%lld/%lld\r\n\r\n",
				   i ? "\r\n" : "", boundary, rest_content_type(record),
				   (long long)first, (long long)(first + length - 1),
				   (long long)record->size);
		s->text_len = b->text.len - s->text_at;
		total += (int64_t)s->text_len + length;
		download_will_read(b->download, first, length);
	}
	if (boundary) {
		struct stretch *s = &b->stretches[b->n++];

		*s = (struct stretch){.text_at = b->text.len};
		buf_printf(&b->text, "\r\n--%s--\r\n", boundary);
		s->text_len = b->text.len - s->text_at;
		total += (int64_t)s->text_len;
	}
	return total;
}

static void reply_no_memory(struct exchange *x)
{
	struct err err;

	err_set(&err, ERR_NO_MEMORY, "an answer of several ranges");
	reply_error(x, &err);
}

void rest_reply_byteranges(struct exchange *x, struct download *download,
			   const struct byte_range *ranges, size_t n)
{
	struct byteranges *b = calloc(1, sizeof(*b));
	struct uuid random = uuid_new();
	char boundary[UUID_TEXT_LEN + 1];
	int64_t total;

	if (!b) {
		download_free(&download);
		reply_no_memory(x);
		return;
	}
	b->download = download;
	buf_init(&b->text, 64 * 1024);
	uuid_format(&random, boundary);
	total = lay_out(b, n > 1 ? boundary : NULL, ranges, n);
	if (b->text.failed) {
		byteranges_free(b);
		reply_no_memory(x);
		return;
	}
	if (n > 1)
		reply_headerf(x, "Content-Type", "multipart/byteranges; boundary=%s", boundary);
	reply_stream(x, total, byteranges_read, byteranges_free, b);
}
