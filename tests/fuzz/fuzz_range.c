/* Range: what is satisfiable lies inside the file, whatever its size. The first 8 bytes are the size. */
#include "depotd/model/range.h"
#include "fuzz.h"

static void check(const char *header, int64_t size)
{
	struct byte_range ranges[RANGE_MAX];
	size_t n = 0;
	if (range_parse(header, size, ranges, &n) != RANGE_SATISFIABLE)
		return;
	MUST(n >= 1 && n <= RANGE_MAX);
	for (size_t i = 0; i < n; i++) {
		MUST(ranges[i].first >= 0 && ranges[i].length >= 1);
		MUST(ranges[i].length <= size && ranges[i].first <= size - ranges[i].length);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t length = 1000;
	if (size >= sizeof(length)) {
		memcpy(&length, data, sizeof(length));
		length &= INT64_MAX;
		data += sizeof(length);
		size -= sizeof(length);
	}
	char *header = fuzz_text(data, size);
	check(header, length);
	check(header, 1000);
	check(header, 0);
	check(header, INT64_MAX);
	free(header);
	return 0;
}
