/* A segment of the journal, whatever a disk may have made of it: nothing is read past its end, and the sums add up. */
#include <stdlib.h>
#include <string.h>

#include "../../src/journal/journal_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int touch(void *context, const struct journal_record *record)
{
	int64_t *bytes = context;
	if (journal_checksum(record->head, record->head_len, record->body, record->body_len) !=
	    record->checksum)
		abort();
	*bytes += (int64_t)(record->head_len + record->body_len);
	return 0;
}

/* The input's first two bytes say where the segment ended, if anybody knows; the rest stands behind the header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_replay_summary summary = {0};
	int64_t bytes = 0;
	if (size < 2)
		return 0;
	size_t n = BLOCK + size - 2;
	unsigned char *segment = calloc(1, n);
	if (!segment)
		return 0;
	memcpy(segment + BLOCK, data + 2, size - 2);
	struct segment_scan scan = {.sequence = 1,
				    .known_end = data[0] < 128 ? -1 : (int64_t)data[1] * BLOCK,
				    .visit = touch,
				    .context = &bytes,
				    .summary = &summary};
	if (segment_scan(segment, n, &scan) != 0 || bytes > (int64_t)n ||
	    summary.damaged_bytes > scan.known_end + (int64_t)n + BLOCK)
		abort();
	free(segment);
	return 0;
}
