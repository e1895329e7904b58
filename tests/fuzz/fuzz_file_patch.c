/*
 * JSON merge patch of a record: what comes out can be described and read back, and patching again changes nothing. The
 * input is also tried as a description.
 */
#include "depotd/model/attributes.h"
#include "fuzz.h"

static const struct file_record sample = {
	.id = {{1}},
	.size = 1,
	.created_ms = 1795352400123,
	.revision = 1,
	.name = "report.pdf",
	.type = "application/pdf",
	.tags = "[\"q4\"]",
	.attributes = "{\"a\":{\"b\":[1,2.5]},\"project\":\"apollo\"}",
};

static void check_description(const struct file_record *record)
{
	struct buf text;
	struct err err;
	struct file_record *back = NULL;
	buf_init(&text, 128 * 1024); /* BLOB_DESCRIPTION_MAX */
	file_record_describe(record, &text);
	MUST(!text.failed);
	MUST(file_record_from_description(buf_text(&text), text.len, &back, &err) == 1);
	MUST(strcmp(back->name, record->name) == 0 && strcmp(back->tags, record->tags) == 0);
	MUST(strcmp(back->attributes, record->attributes) == 0);
	MUST(back->expires_ms == record->expires_ms && back->revision == record->revision);
	file_record_unref(&back);
	if (file_record_pack(record, &text)) {
		MUST(text.len <= FILE_PACKED_MAX);
		MUST(file_record_unpack(&record->id, buf_text(&text), text.len, &back, &err) == 1);
		MUST(strcmp(back->name, record->name) == 0 && back->size == record->size);
		MUST(back->created_ms == record->created_ms);
		file_record_unref(&back);
	}
	buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;
	struct file_record *record = NULL, *again = NULL, *described = NULL;
	if (file_record_patch(&sample, (const char *)data, size, &record, &err) == 0) {
		check_description(record);
		MUST(file_record_patch(record, (const char *)data, size, &again, &err) == 0);
		MUST(again->revision == record->revision);
		MUST(strcmp(again->attributes, record->attributes) == 0);
	} else {
		MUST(err.kind == ERR_INVALID && err.message[0] != '\0');
	}
	if (file_record_unpack(&sample.id, (const char *)data, size, &described, &err))
		check_description(described);
	file_record_unref(&record);
	file_record_unref(&again);
	file_record_unref(&described);
	return 0;
}
