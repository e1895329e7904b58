/*
 * What search and filters read of a file: the folded name and the facets. Both stores get them from here, so that both find
 * the same files whatever their collations and versions. Pure; any thread.
 */
#ifndef DEPOTD_METADATA_SEARCH_PRIVATE_H
#define DEPOTD_METADATA_SEARCH_PRIVATE_H

#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/base/err.h"
#include "depotd/model/file_record.h"

/* Appends text (UTF-8) with each character folded: É becomes é, Σ and ς become σ. Broken UTF-8 passes as it is. */
void search_fold(const char *text, struct buf *out);

enum { FACETS_MAX = 512 };

enum facet_kind {
	FACET_TYPE = 't',  /* image/png */
	FACET_MAJOR = 'm', /* image */
	FACET_OWNER = 'o',
	FACET_TAG = 'g',
	FACET_ATTRIBUTE = 'a', /* path, then value */
};

struct facet_set {
	int64_t numbers[FACETS_MAX]; /* no number twice; past the limit they are left out */
	size_t n;
};

/*
 * The number of one facet: the first 64 bits of SHA-256 over the kind and the text (and, for an attribute, a NUL and its value;
 * value is NULL for the others). Stored in rows: must never change.
 */
int facet_number(enum facet_kind kind, const char *text, const char *value, int64_t *out,
		 struct err *err);
/* All facets of a file: type, its family, owner, tags, each leaf of the attributes. */
int facet_set_of(const struct file_record *record, struct facet_set *out, struct err *err);
/* PostgreSQL's facet_bits (0001_files.sql): a Bloom filter of the facets and the digest, two bits for each. */
int64_t facet_bits(const struct facet_set *facets, const unsigned char sha256[SHA256_LEN]);

#endif
