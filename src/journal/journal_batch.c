/*
 * Batches as bytes, and finding them again in a segment that a crash may have torn. Pure.
 *
 * Invariant: what is visited was appended as it is, by CRC and by the segment's own number; what is left out either was never
 * reported durable or is counted as damage.
 */
#include <endian.h>
#include <string.h>
#include <zlib.h>

#include "journal_private.h"

static void put32(unsigned char *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(unsigned char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const unsigned char *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const unsigned char *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

uint32_t journal_checksum(const void *head, size_t head_len, const void *body, size_t body_len)
{
	uLong crc = crc32_z(0, NULL, 0);
	if (head_len > 0)
		crc = crc32_z(crc, head, head_len);
	if (body_len > 0)
		crc = crc32_z(crc, body, body_len);
	return (uint32_t)crc;
}

static size_t round_up(size_t n)
{
	return (n + BLOCK - 1) & ~(size_t)(BLOCK - 1);
}

/* --- writing --- */

size_t batch_take(const struct journal_record *records, size_t n, size_t most)
{
	size_t length = BATCH_HEADER_LEN, taken = 0;
	while (taken < n) {
		length += BATCH_ENTRY_LEN + records[taken].head_len + records[taken].body_len;
		if (length > most && taken > 0)
			break;
		taken++;
	}
	return taken;
}

enum { AT_CRC = 4, AT_SEQUENCE = 8, AT_LENGTH = 16, AT_COUNT = 20 }; /* of a batch's header */
enum { AT_KIND = 0, AT_LEFT = 4, AT_HEAD = 8, AT_BODY = 12, AT_PAYLOAD_CRC = 16 }; /* of an entry */

size_t batch_encode(const struct journal_record *records, size_t n, uint64_t sequence,
		    unsigned char *out)
{
	unsigned char *entry = out + BATCH_HEADER_LEN;
	unsigned char *at = entry + n * BATCH_ENTRY_LEN;
	for (size_t i = 0; i < n; i++, entry += BATCH_ENTRY_LEN) {
		const struct journal_record *record = &records[i];
		put32(entry + AT_KIND, record->kind);
		put32(entry + AT_LEFT, record->left);
		put32(entry + AT_HEAD, (uint32_t)record->head_len);
		put32(entry + AT_BODY, (uint32_t)record->body_len);
		put32(entry + AT_PAYLOAD_CRC, record->checksum);
		if (record->head_len > 0)
			memcpy(at, record->head, record->head_len);
		at += record->head_len;
		if (record->body_len > 0)
			memcpy(at, record->body, record->body_len);
		at += record->body_len;
	}
	size_t length = (size_t)(at - out), table_end = BATCH_HEADER_LEN + n * BATCH_ENTRY_LEN;
	put32(out, BATCH_MAGIC);
	put64(out + AT_SEQUENCE, sequence);
	put32(out + AT_LENGTH, (uint32_t)length);
	put32(out + AT_COUNT, (uint32_t)n);
	put32(out + AT_CRC, journal_checksum(out + AT_SEQUENCE, table_end - AT_SEQUENCE, NULL, 0));
	memset(at, 0, round_up(length) - length);
	return round_up(length);
}

size_t batch_length(const struct journal_record *records, size_t n)
{
	size_t length = BATCH_HEADER_LEN;
	for (size_t i = 0; i < n; i++)
		length += BATCH_ENTRY_LEN + records[i].head_len + records[i].body_len;
	return round_up(length);
}

/* --- reading --- */

uint64_t batch_sequence(const unsigned char *data)
{
	return get32(data) == BATCH_MAGIC ? get64(data + AT_SEQUENCE) : 0;
}

struct batch {
	size_t length, count;
	const unsigned char *table;
};

/* Whether a batch of this segment begins here: its header and table read well. Its payloads may not. */
static bool batch_decode(const unsigned char *data, size_t n, uint64_t sequence, struct batch *out)
{
	if (n < BATCH_HEADER_LEN || get32(data) != BATCH_MAGIC ||
	    get64(data + AT_SEQUENCE) != sequence)
		return false;
	size_t length = get32(data + AT_LENGTH), count = get32(data + AT_COUNT);
	if (count == 0 || length > n || length < BATCH_HEADER_LEN ||
	    count > (length - BATCH_HEADER_LEN) / BATCH_ENTRY_LEN)
		return false;
	size_t table_end = BATCH_HEADER_LEN + count * BATCH_ENTRY_LEN;
	if (get32(data + AT_CRC) !=
	    journal_checksum(data + AT_SEQUENCE, table_end - AT_SEQUENCE, NULL, 0))
		return false;
	size_t needed = table_end;
	for (size_t i = 0; i < count; i++) {
		const unsigned char *entry = data + BATCH_HEADER_LEN + i * BATCH_ENTRY_LEN;
		size_t head_len = get32(entry + AT_HEAD), body_len = get32(entry + AT_BODY);
		if (head_len > JOURNAL_HEAD_MAX || body_len > JOURNAL_BODY_MAX)
			return false;
		needed += head_len + body_len;
	}
	if (needed != length)
		return false;
	*out = (struct batch){length, count, data + BATCH_HEADER_LEN};
	return true;
}

/* Hands each record whose payload reads well to the visitor, or only counts: how many bytes do not read well. */
static int batch_visit(const struct batch *batch, const struct segment_scan *scan, size_t *bad)
{
	const unsigned char *at = batch->table + batch->count * BATCH_ENTRY_LEN;
	int rc = 0;
	*bad = 0;
	for (size_t i = 0; i < batch->count && rc == 0; i++) {
		const unsigned char *entry = batch->table + i * BATCH_ENTRY_LEN;
		struct journal_record record = {
			.kind = get32(entry + AT_KIND),
			.left = get32(entry + AT_LEFT),
			.head = at,
			.head_len = get32(entry + AT_HEAD),
			.body = at + get32(entry + AT_HEAD),
			.body_len = get32(entry + AT_BODY),
			.checksum = get32(entry + AT_PAYLOAD_CRC),
		};
		at += record.head_len + record.body_len;
		if (journal_checksum(record.head, record.head_len, record.body, record.body_len) !=
		    record.checksum) {
			*bad += record.head_len + record.body_len;
		} else if (scan) {
			scan->summary->records++;
			rc = scan->visit(scan->context, &record);
		}
	}
	return rc;
}

/* Where the next batch begins at or behind `from`; `end` where there is none. */
static size_t find_batch(const unsigned char *data, size_t end, size_t from, uint64_t sequence)
{
	struct batch ignored;
	for (size_t at = from; at + BATCH_HEADER_LEN <= end; at += BLOCK)
		if (batch_decode(data + at, end - at, sequence, &ignored))
			return at;
	return end;
}

static void note_damage(struct segment_scan *scan, size_t n)
{
	scan->summary->damaged_places++;
	scan->summary->damaged_bytes += (int64_t)n;
}

int segment_scan(const unsigned char *data, size_t n, struct segment_scan *scan)
{
	size_t end = n, at = BLOCK;
	size_t bad;
	int rc = 0;
	if (scan->known_end >= 0 && (size_t)scan->known_end < n)
		end = (size_t)scan->known_end;
	scan->summary->segments++;
	while (rc == 0 && at + BATCH_HEADER_LEN <= end) {
		struct batch batch;
		if (!batch_decode(data + at, end - at, scan->sequence, &batch)) {
			size_t next = find_batch(data, end, at + BLOCK, scan->sequence);
			if (next == end && scan->known_end < 0)
				break; /* the tail */
			note_damage(scan, next - at);
			at = next;
			continue;
		}
		size_t next = at + round_up(batch.length);
		(void)batch_visit(&batch, NULL, &bad);
		if (bad > 0 && scan->known_end < 0 &&
		    find_batch(data, end, next, scan->sequence) == end)
			break; /* the last batch, torn: it never was reported durable */
		if (bad > 0)
			note_damage(scan, bad);
		rc = batch_visit(&batch, scan, &bad);
		scan->summary->bytes += (int64_t)batch.length;
		at = next;
		scan->end = (int64_t)at;
	}
	return rc;
}
