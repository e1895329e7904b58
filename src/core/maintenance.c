/* What check, reindex and the sweep share. Worker threads or the command line. */
#include <stdlib.h>
#include <string.h>

#include "depotd/blob/upkeep.h"

#include "upkeep_private.h"

/* The row behind the id's predecessor: metadata_find() does not show expired ones. */
int maintenance_row(struct metadata *metadata, const struct uuid *id, struct file_record **out,
		    struct err *err)
{
	struct uuid before = *id;
	struct file_list list = {0};
	for (size_t i = sizeof(before.bytes); i-- > 0;)
		if (before.bytes[i]-- != 0)
			break;
	bool first = uuid_is_nil(id);
	if (metadata_walk(metadata, first ? NULL : &before, 1, &list, err) < 0)
		return -1;
	int rc = list.n == 1 && uuid_compare(&list.files[0]->id, id) == 0;
	if (rc)
		*out = file_record_ref(list.files[0]);
	file_list_release(&list);
	return rc;
}

int maintenance_hash_reader(struct blob_reader *reader, scrub_pace_fn paced, void *context,
			    unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err)
{
	/* A whole file and its end in one, or a good piece of it. */
	size_t n = blob_size(reader) < BLOB_RAW_PIECE
			   ? ((size_t)blob_size(reader) / BLOB_RAW_ALIGN + 1) * BLOB_RAW_ALIGN
			   : BLOB_RAW_PIECE;
	char *piece = aligned_alloc(BLOB_RAW_ALIGN, n);
	struct digest *digest = piece ? digest_new(err) : NULL;
	int64_t at = 0;
	size_t got = 1;
	int rc = digest ? 0 : -1;
	if (!piece)
		err_set(err, ERR_NO_MEMORY, "hashing a stored file");
	while (rc == 0 && got > 0) {
		rc = blob_read(reader, at, piece, n, &got, err);
		if (rc == 0 && got > 0)
			rc = digest_update(digest, piece, got, err);
		at += rc == 0 ? (int64_t)got : 0;
		if (rc == 0 && got > 0 && paced && !paced(context, (int64_t)got))
			rc = err_set(err, ERR_CANCELLED, "the server stops");
	}
	if (rc == 0)
		rc = digest_final(digest, sha256, err);
	if (rc == 0)
		*size = at;
	digest_free(&digest);
	free(piece);
	return rc;
}

int maintenance_hash(struct blob_store *blobs, const struct uuid *id,
		     unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err)
{
	struct blob_reader *reader = NULL;
	int rc = blob_open(blobs, id, &reader, err);
	if (rc != 1)
		return rc;
	blob_will_read(reader, 0, blob_size(reader));
	rc = maintenance_hash_reader(reader, NULL, NULL, sha256, size, err);
	blob_reader_free(&reader);
	return rc < 0 ? -1 : 1;
}

int maintenance_hash_raw(struct blob_store *blobs, const struct uuid *id,
			 unsigned char sha256[SHA256_LEN], int64_t *size, struct err *err)
{
	struct blob_reader *reader = NULL;
	int rc = blob_open_raw(blobs, id, &reader, err);
	if (rc != 1)
		return rc;
	rc = maintenance_hash_reader(reader, NULL, NULL, sha256, size, err);
	blob_reader_free(&reader);
	return rc < 0 ? -1 : 1;
}

int maintenance_described(struct blob_store *blobs, const struct uuid *id, struct file_record **out,
			  struct err *err)
{
	struct file_record *record = NULL;
	struct buf text;
	buf_init(&text, BLOB_DESCRIPTION_MAX);
	int rc = blob_description(blobs, id, &text, err);
	if (rc == 0)
		err_set(err, ERR_NOT_FOUND, "the file does not describe itself");
	if (rc == 1)
		rc = file_record_unpack(id, text.data, text.len, &record, err);
	if (rc == 1 && uuid_compare(&record->id, id) != 0) {
		err_set(err, ERR_INVALID, "the file describes another");
		file_record_unref(&record);
		rc = 0;
	}
	if (rc == 1)
		*out = record;
	buf_release(&text);
	return rc;
}
