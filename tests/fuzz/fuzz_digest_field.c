/* Repr-Digest and Content-Digest, and the entity tags and dates of conditional requests: fields that a client writes freely. */
#include "depotd/model/conditional.h"
#include "depotd/model/digest_field.h"
#include "fuzz.h"

static void check_digest(const char *value)
{
	unsigned char sha256[SHA256_LEN], again[SHA256_LEN];
	char text[DIGEST_FIELD_LEN + 1];
	struct err err = {.kind = ERR_NONE};
	int result = digest_field_parse(value, sha256, &err);
	MUST((result < 0) == (err.kind == ERR_INVALID));
	if (result != 1)
		return;
	digest_field_format(sha256, text);
	MUST(digest_field_parse(text, again, &err) == 1);
	MUST(memcmp(sha256, again, SHA256_LEN) == 0);
}

static void check_conditional(const char *value)
{
	const struct conditional_headers rows[] = {{.if_match = value},
						   {.if_none_match = value},
						   {.if_modified_since = value},
						   {.if_unmodified_since = value}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		MUST(conditional_evaluate(&rows[i], false, "\"abc\"", 784111777) !=
		     CONDITIONAL_NOT_MODIFIED);
		conditional_evaluate(&rows[i], true, "\"abc\"", 784111777);
	}
	conditional_range_stands(value, "\"abc\"", 784111777);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	check_digest(text);
	check_conditional(text);
	free(text);
	return 0;
}
