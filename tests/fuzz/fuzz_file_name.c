/*
 * File names and Content-Disposition: what is cleaned is clean and stays so; no name, not even a dirty one, puts a control
 * or a second quote into the header.
 */
#include "depotd/model/file_name.h"
#include "fuzz.h"

static void check_disposition(const char *name)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	disposition_format(false, name, &out);
	if (!out.failed) {
		size_t quotes = 0;
		for (size_t i = 0; i < out.len; i++) {
			unsigned char c = (unsigned char)out.data[i];
			MUST(c >= 0x20 && c < 0x7F && c != '\\');
			quotes += c == '"';
		}
		MUST(quotes == 2);
	}
	buf_release(&out);
}

static void check_clean(const uint8_t *data, size_t size)
{
	struct buf name, again;
	struct err err;
	buf_init(&name, FILE_NAME_MAX_BYTES);
	buf_init(&again, FILE_NAME_MAX_BYTES);
	if (file_name_clean((const char *)data, size, &name, &err) == 0) {
		long chars = utf8_length(buf_text(&name), name.len);
		MUST(chars >= 1 && chars <= FILE_NAME_MAX_CHARS);
		MUST(strlen(buf_text(&name)) == name.len &&
		     strpbrk(buf_text(&name), "/\\") == NULL);
		MUST(file_name_clean(buf_text(&name), name.len, &again, &err) == 0);
		MUST(strcmp(buf_text(&name), buf_text(&again)) == 0);
		check_disposition(buf_text(&name));
	} else {
		MUST(err.kind == ERR_INVALID);
	}
	buf_reset(&name);
	if (tag_clean((const char *)data, size, &name, &err) == 0)
		MUST(name.len >= 1 && memchr(name.data, ',', name.len) == NULL);
	buf_release(&name);
	buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	check_clean(data, size);
	check_disposition(text);
	free(text);
	return 0;
}
