/* HTTP dates, RFC 3339, sizes and durations: what is read and written again reads the same. */
#include "depotd/base/clock.h"
#include "depotd/model/quantity.h"
#include "fuzz.h"

static void check_times(const char *text)
{
	int64_t value, again;
	char rfc3339[CLOCK_RFC3339_LEN + 1], date[CLOCK_HTTP_DATE_LEN + 1];
	if (clock_parse_rfc3339(text, &value)) {
		clock_format_rfc3339(value, rfc3339);
		MUST(clock_parse_rfc3339(rfc3339, &again) && again == value);
	}
	if (clock_parse_http_date(text, &value)) {
		clock_format_http_date(value * 1000, date);
		/* 23:59:60 of the last day is past what four digits can say. */
		if (value * 1000 <= 253402300799000)
			MUST(clock_parse_http_date(date, &again) && again == value);
	}
}

static void check_quantities(const char *text)
{
	int64_t value, again;
	char formatted[24];
	if (quantity_parse_size(text, &value)) {
		quantity_format_size(value, formatted);
		MUST(value >= 0 && quantity_parse_size(formatted, &again) && again == value);
	}
	if (quantity_parse_duration(text, &value)) {
		quantity_format_duration(value, formatted);
		MUST(value >= 0 && quantity_parse_duration(formatted, &again) && again == value);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	check_times(text);
	check_quantities(text);
	if (size >= sizeof(int64_t)) {
		int64_t any;
		char out[CLOCK_HTTP_DATE_LEN + 1];
		memcpy(&any, data, sizeof(any));
		clock_format_rfc3339(any, out);
		MUST(strlen(out) == CLOCK_RFC3339_LEN);
		clock_format_http_date(any, out);
		MUST(strlen(out) == CLOCK_HTTP_DATE_LEN);
	}
	free(text);
	return 0;
}
