/*
 * Media types: the first line is the name, the second the client's word, the rest the bytes. What may be shown inline is
 * never called something that a browser runs.
 */
#include "depotd/model/media_type.h"
#include "fuzz.h"

/* Takes the text up to a line feed (all of it without one) and moves past. */
static char *take_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t n = end != NULL ? (size_t)(end - *data) : *size;
	char *line = fuzz_text(*data, n);
	size_t taken = end != NULL ? n + 1 : n;
	*data += taken;
	*size -= taken;
	return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *name = take_line(&data, &size);
	char *client = take_line(&data, &size);
	unsigned char *head =
		malloc(size + 1); /* ends where it ends, so that reading past it is found */
	MUST(head != NULL);
	unsigned char *exact = size > 0 ? realloc(head, size) : head;
	MUST(exact != NULL);
	if (size > 0)
		memcpy(exact, data, size);
	for (int whole = 0; whole < 2; whole++) {
		struct media_type_verdict v =
			media_type_decide(exact, size, whole != 0, name, client);
		MUST(media_type_valid(v.type));
		MUST(v.sniffed == NULL || media_type_valid(v.sniffed));
		if (media_type_may_inline(v.sniffed))
			MUST(strstr(v.type, "html") == NULL && strstr(v.type, "xml") == NULL &&
			     strstr(v.type, "script") == NULL);
	}
	media_type_valid(client);
	free(exact);
	free(name);
	free(client);
	return 0;
}
