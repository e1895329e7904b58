/* Idempotency-Key, which a client writes freely, and a key as it is kept, which a disk may have damaged. */
#include "depotd/model/idempotency.h"
#include "fuzz.h"

static void check_key(const char *value)
{
	char key[IDEMPOTENCY_KEY_MAX + 1], again[IDEMPOTENCY_KEY_MAX + 1];
	char quoted[2 * IDEMPOTENCY_KEY_MAX + 3];
	struct err err = {.kind = ERR_NONE};
	size_t n = 0;
	if (idempotency_key_parse(value, key, &err) < 0) {
		MUST(err.kind == ERR_INVALID);
		return;
	}
	MUST(strlen(key) >= 1 && strlen(key) <= IDEMPOTENCY_KEY_MAX);
	quoted[n++] = '"';
	for (const char *at = key; *at; at++) {
		MUST(*at >= ' ' && *at <= '~');
		if (*at == '"' || *at == '\\')
			quoted[n++] = '\\';
		quoted[n++] = *at;
	}
	quoted[n++] = '"';
	quoted[n] = '\0';
	MUST(idempotency_key_parse(quoted, again, &err) == 0);
	MUST(strcmp(key, again) == 0);
}

static void check_kept(const char *text, size_t n)
{
	struct idempotency read, again;
	struct err err = {.kind = ERR_NONE};
	struct buf out;
	if (idempotency_decode(text, n, &read, &err) != 1)
		return;
	buf_init(&out, 4096);
	idempotency_encode(&read, &out);
	MUST(idempotency_decode(buf_text(&out), out.len, &again, &err) == 1);
	MUST(strcmp(read.key, again.key) == 0);
	MUST(memcmp(read.fingerprint, again.fingerprint, SHA256_LEN) == 0);
	MUST(uuid_compare(&read.request, &again.request) == 0);
	buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	check_key(text);
	check_kept(text, strlen(text));
	free(text);
	return 0;
}
