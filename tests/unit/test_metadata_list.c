/*
 * Lists against an oracle: some thousands of rows, every filter with every sort, page by page, the same from both stores as
 * from a plain loop over the records in memory.
 *
 * The oracle folds case by the C library's Unicode tables, not by ours; both ignore what is said of in search_fold.c.
 */
#include <locale.h>
#include <stdio.h>
#include <wchar.h>
#include <wctype.h>

#include "../../src/metadata/store_private.h"
#include "depotd/base/clock.h"
#include "depotd/base/json.h"
#include "depotd/base/utf8.h"
#include "metadata_fixture.h"

enum { ROWS = 3000, RANDOM_QUERIES = 250, LEAVES_MAX = 64, TEXT_MAX = 1200, PAGES_MAX = 100000 };

static struct file_record *rows[ROWS];

/* What the oracle reads of each row, made once. */
static struct {
	wchar_t *name; /* folded */
	size_t length;
	json_t *tags, *attributes;
} known[ROWS];

static int64_t now_ms;
static locale_t utf8;

/* --- a fixed sequence of random numbers (xorshift64*), so that a failure can be seen again --- */

static uint64_t sequence = UINT64_C(0x9E3779B97F4A7C15);

static uint64_t next_random(void)
{
	sequence ^= sequence >> 12;
	sequence ^= sequence << 25;
	sequence ^= sequence >> 27;
	return sequence * UINT64_C(0x2545F4914F6CDD1D);
}

static size_t below(size_t n)
{
	return (size_t)(next_random() >> 33) % n;
}

#define ONE_OF(array) ((array)[below(COUNT(array))])

/* --- rows --- */

/* What sorts, folds or matches in surprising ways; and common ones, so that names repeat. */
static const char *const names[] = {
	"a",
	"A",
	"b",
	"B",
	"_",
	"%",
	"\\",
	"'",
	"\"",
	"a b",
	"a-b",
	"a_b",
	"aab",
	"aXb",
	"AB",
	"Ab",
	"ab",
	"10%",
	"10x",
	"100%_\\",
	"\\%",
	"O'Brien \"x\".txt",
	"z",
	"Z",
	"zebra",
	"Zebra",
	"äpfel",
	"Äpfel",
	"apfel",
	"Öl",
	"öl",
	"ol",
	"École.pdf",
	"école.PDF",
	"ÉCOLE",
	"ñandú",
	"Ñandú",
	"ΣΊΣΥΦΟΣ",
	"σίσυφος",
	"Привет мир.doc",
	"ПРИВЕТ",
	"日本語.txt",
	"日本",
	"\xF0\x9F\x90\x98.png",
	"\xF0\x9F\x90\x98\xF0\x9F\x90\x98",
	"\xF0\x90\x90\x80 deseret",
	"\xF0\x90\x90\xA8 DESERET",
	"\xEF\xBF\xBD",
	"\xEE\x80\x80 private use",
	"e\xCC\x81 combining",
	"é composed",
	"unnamed",
	"unnamed",
	"unnamed",
	"IMG_0001.JPG",
	"img_0001.jpg",
	"report (1).pdf",
	"report (2).pdf",
	"Report.PDF",
	"  spaces  ",
	"tab like",
	"ß",
	"SS",
	"straße",
	"STRASSE",
	"ŁÓDŹ",
	"łódź",
	"Ǆ",
	"ǅ",
	"ǆ",
	"a.tar.gz",
	"..",
	"-- name: x",
	"{}",
	"[]",
	"{\"a\":1}",
	"NULL",
	"null",
};

static const char *const types[] = {"image/png",       "image/jpeg",
				    "text/plain",      "text/plain; charset=utf-8",
				    "application/pdf", "imagery/x"};
static const char *const owners[] = {NULL, NULL, "ann", "bob", "Ann", "zoë"};
static const char *const tag_sets[] = {"[]",
				       "[]",
				       "[\"q4\"]",
				       "[\"q4\",\"red\"]",
				       "[\"Q4\"]",
				       "[\"red\",\"blue\",\"q4\"]",
				       "[\"a%b\"]",
				       "[\"\xF0\x9F\x90\x98\"]",
				       "[\"o'x\\\"y\\\\\"]"};
static const char *const attribute_sets[] = {
	"{}",
	"{}",
	"{\"project\":\"apollo\"}",
	"{\"project\":\"Apollo\"}",
	"{\"project\":[\"apollo\",\"gemini\"]}",
	"{\"camera\":{\"iso\":400,\"lens\":{\"mm\":50.5},\"model\":\"X\"}}",
	"{\"camera\":{\"iso\":\"400\"}}",
	"{\"flag\":true,\"none\":null,\"other\":false}",
	"{\"a.b\":\"dotted\"}",
	"{\"a\":{\"b\":\"dotted\"}}",
	"{\"list\":[1,2,[3],{\"x\":4}]}",
	"{\"\xC3\xA9\":\"\xC3\xBC\",\"n\":\"%_\\\\\"}",
	"{\"deep\":{\"er\":{\"est\":[\"end\",\"end\"]}}}",
};

/* As wide characters in lower case; Σ, σ and ς are one. */
static size_t fold(const char *text, wchar_t out[TEXT_MAX])
{
	size_t n = strlen(text), length = 0;

	for (size_t at = 0; at < n && length < TEXT_MAX;) {
		uint32_t code = 0;
		unsigned bytes = utf8_decode(text + at, n - at, &code);

		assert_true(bytes > 0);
		out[length] = (wchar_t)towlower_l((wint_t)code, utf8);
		if (out[length] == L'ς')
			out[length] = L'σ';
		length++;
		at += bytes;
	}
	return length;
}

static void know(size_t i)
{
	wchar_t folded[TEXT_MAX];
	struct err err = {0};

	known[i].length = fold(rows[i]->name, folded);
	known[i].name = calloc(known[i].length + 1, sizeof(wchar_t));
	assert_non_null(known[i].name);
	wmemcpy(known[i].name, folded, known[i].length);
	known[i].tags = json_parse(rows[i]->tags, strlen(rows[i]->tags), &err);
	known[i].attributes = json_parse(rows[i]->attributes, strlen(rows[i]->attributes), &err);
}

static void make_row(size_t i)
{
	struct file_record record = sample();
	char name[TEXT_MAX];

	/* Days with a few rows in the same millisecond, and other times between. */
	record.created_ms =
		INT64_C(1700000000000) + (int64_t)(below(40)) * 86400000 + (int64_t)below(3);
	record.id = id_at(record.created_ms);
	record.size = (int64_t)(below(4) == 0 ? below(5) : below(2000));
	snprintf(name, sizeof(name), "%s%s", ONE_OF(names), below(3) == 0 ? ONE_OF(names) : "");
	record.name = name;
	record.type = ONE_OF(types);
	record.owner = ONE_OF(owners);
	record.tags = ONE_OF(tag_sets);
	record.attributes = ONE_OF(attribute_sets);
	record.visibility = below(2) ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	for (size_t k = 0; k < SHA256_LEN; k++)
		record.sha256[k] = (unsigned char)(below(3) ? 0x5A : k == 0 ? below(3) : 1);
	record.expires_ms = below(20) == 0   ? now_ms - 1000
			    : below(20) == 0 ? now_ms + 100000000
					     : FILE_EXPIRES_NEVER;
	rows[i] = make(&record);
	know(i);
}

static void store_rows(struct metadata *store)
{
	struct registration registrations[ROWS];
	struct err err = {0};

	for (size_t i = 0; i < ROWS; i++)
		registrations[i] = (struct registration){.files = &rows[i], .n = 1};
	for (size_t i = 0; i < ROWS; i += 100)
		assert_ok(metadata_register(store, &registrations[i], 100, &err), &err);
	for (size_t i = 0; i < ROWS; i++)
		assert_ok(registrations[i].result, &registrations[i].err);
}

static int make_rows(void **state)
{
	(void)state;
	now_ms = clock_wall_ms();
	utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	for (size_t i = 0; i < ROWS; i++)
		make_row(i);
	return utf8 ? 0 : -1;
}

static int free_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		file_record_unref(&rows[i]);
		free(known[i].name);
		json_decref(known[i].tags);
		json_decref(known[i].attributes);
	}
	freelocale(utf8);
	return 0;
}

/* --- the oracle --- */

static bool contains(size_t row, const wchar_t *part, size_t n)
{
	for (size_t i = 0; i + n <= known[row].length; i++) {
		if (wmemcmp(known[row].name + i, part, n) == 0)
			return true;
	}
	return false;
}

static bool leaf_is(const json_t *leaf, const char *value)
{
	char text[64];

	if (json_is_string(leaf))
		return strcmp(json_string_value(leaf), value) == 0;
	if (json_is_boolean(leaf))
		return strcmp(json_is_true(leaf) ? "true" : "false", value) == 0;
	if (json_is_integer(leaf))
		snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(leaf));
	else if (json_is_real(leaf))
		snprintf(text, sizeof(text), "%.1f", json_real_value(leaf));
	else
		return false;
	return strcmp(text, value) == 0;
}

/* Whether value stands at path below object, whichever way dots in keys and dots between them fall together. */
static bool has_leaf(json_t *value, const char *path, const char *wanted)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_object(value)) {
		json_object_foreach(value, key, member)
		{
			size_t n = strlen(key);

			if (strncmp(path, key, n) != 0)
				continue;
			if (path[n] == '\0' && !json_is_object(member) &&
			    has_leaf(member, "", wanted))
				return true;
			if (path[n] == '.' && json_is_object(member) &&
			    has_leaf(member, path + n + 1, wanted))
				return true;
		}
		return false;
	}
	if (!json_is_array(value))
		return leaf_is(value, wanted);
	json_array_foreach(value, i, member)
	{
		if (leaf_is(member, wanted))
			return true;
	}
	return false;
}

static bool has_tag(size_t row, const char *wanted)
{
	json_t *tag;
	size_t i;

	json_array_foreach(known[row].tags, i, tag)
	{
		if (strcmp(json_string_value(tag), wanted) == 0)
			return true;
	}
	return false;
}

/* The query but for q. */
static bool passes(size_t i, const struct list_query *q)
{
	const struct file_record *row = rows[i];
	size_t major = strcspn(row->type, "/");

	if (row->expires_ms != FILE_EXPIRES_NEVER && row->expires_ms <= now_ms)
		return false;
	if (q->name && strcmp(row->name, q->name) != 0)
		return false;
	if (q->type && strcmp(row->type, q->type) != 0)
		return false;
	if (q->type_major &&
	    (strlen(q->type_major) != major || strncmp(row->type, q->type_major, major) != 0))
		return false;
	if (q->owner && (!row->owner || strcmp(row->owner, q->owner) != 0))
		return false;
	if (q->has_sha256 && memcmp(row->sha256, q->sha256, SHA256_LEN) != 0)
		return false;
	if ((q->min_size >= 0 && row->size < q->min_size) ||
	    (q->max_size >= 0 && row->size > q->max_size))
		return false;
	if (row->created_ms < q->created_after || row->created_ms >= q->created_before)
		return false;
	for (size_t k = 0; k < q->tag_count; k++) {
		if (!has_tag(i, q->tags[k]))
			return false;
	}
	for (size_t k = 0; k < q->attribute_count; k++) {
		if (!has_leaf(known[i].attributes, q->attributes[k].path, q->attributes[k].value))
			return false;
	}
	return true;
}

static const struct list_query *ordering;

/* Names by code point, which is how UTF-8 sorts by byte. */
static int compare_rows(const void *a, const void *b)
{
	const struct file_record *left = *(struct file_record *const *)a,
				 *right = *(struct file_record *const *)b;
	int64_t l = ordering->sort == LIST_SORT_SIZE ? left->size : left->created_ms;
	int64_t r = ordering->sort == LIST_SORT_SIZE ? right->size : right->created_ms;
	int order = ordering->sort == LIST_SORT_NAME ? strcmp(left->name, right->name)
						     : (l > r) - (l < r);

	if (order == 0)
		order = uuid_compare(&left->id, &right->id);
	return ordering->descending ? -order : order;
}

static size_t expected(const struct list_query *query, struct file_record *out[ROWS])
{
	wchar_t part[TEXT_MAX];
	size_t n = 0, length = query->q ? fold(query->q, part) : 0;

	for (size_t i = 0; i < ROWS; i++) {
		if (passes(i, query) && contains(i, part, length))
			out[n++] = rows[i];
	}
	ordering = query;
	qsort(out, n, sizeof(struct file_record *), compare_rows);
	return n;
}

/* --- comparing --- */

static void describe(const struct list_query *q)
{
	print_error("sort %d %s limit %u q=%s name=%s type=%s major=%s owner=%s sha=%d size "
		    "%lld..%lld created %lld..%lld\n",
		    (int)q->sort, q->descending ? "desc" : "asc", q->limit, q->q ? q->q : "-",
		    q->name ? q->name : "-", q->type ? q->type : "-",
		    q->type_major ? q->type_major : "-", q->owner ? q->owner : "-", q->has_sha256,
		    (long long)q->min_size, (long long)q->max_size, (long long)q->created_after,
		    (long long)q->created_before);
	for (size_t i = 0; i < q->tag_count; i++)
		print_error("  tag %s\n", q->tags[i]);
	for (size_t i = 0; i < q->attribute_count; i++)
		print_error("  attr %s = %s\n", q->attributes[i].path, q->attributes[i].value);
}

/* Fetches every page and compares row by row. */
static void compare_pages(struct metadata *store, struct list_query *query)
{
	struct file_record *wanted[ROWS], *end = NULL;
	size_t n = expected(query, wanted), met = 0;
	bool more = true;

	query->has_position = false;
	for (int pages = 0; more; pages++) {
		struct file_list list = {0};
		struct err err = {0};

		assert_true(pages < PAGES_MAX);
		assert_ok(metadata_list(store, query, &list, &err), &err);
		assert_true(list.n <= query->limit);
		for (size_t i = 0; i < list.n; i++, met++) {
			if (met < n && uuid_compare(&list.files[i]->id, &wanted[met]->id) == 0)
				continue;
			describe(query);
			print_error("row %zu of %zu is \"%s\", not \"%s\"\n", met, n,
				    list.files[i]->name, met < n ? wanted[met]->name : "(the end)");
			fail();
		}
		more = list.more;
		if (more) {
			assert_non_null(list.end);
			file_record_unref(&end);
			end = file_record_ref(list.end);
			query->has_position = true;
			query->position_number =
				query->sort == LIST_SORT_SIZE ? end->size : end->created_ms;
			query->position_name = end->name;
			query->position_id = end->id;
		}
		file_list_release(&list);
	}
	file_record_unref(&end);
	if (met != n) {
		describe(query);
		print_error("%zu rows, not %zu\n", met, n);
		fail();
	}
}

static void compare_sorts(struct metadata *store, struct list_query *query)
{
	for (int sort = LIST_SORT_CREATED; sort <= LIST_SORT_SIZE; sort++) {
		for (int descending = 0; descending < 2; descending++) {
			query->sort = (enum list_sort)sort;
			query->descending = descending;
			query->limit = 1 + (unsigned)below(400);
			compare_pages(store, query);
		}
	}
}

/* --- filters, one by one and at random --- */

static void all_files(struct list_query *query)
{
	list_query_init(query);
}

static void by_q(struct list_query *query)
{
	static const char *const qs[] = {
		"a",
		"A",
		"B",
		"_",
		"%",
		"\\",
		"'",
		"\"",
		"a_b",
		"10%",
		"%_",
		"\\%",
		"äp",
		"ÄP",
		"öL",
		"école",
		"ÉCOLE",
		"Éc",
		"ñAN",
		"σίσυ",
		"ΣΥΦΟΣ",
		"ς",
		"привет",
		"ВЕТ М",
		"日本",
		"語.",
		"\xF0\x9F\x90\x98",
		"\xF0\x90\x90\x80",
		"\xF0\x90\x90\xA8 d",
		"\xEF\xBF\xBD",
		"e\xCC\x81",
		"unnamed",
		"NAMED",
		"img_0001",
		"(1)",
		".PDF",
		"ß",
		"ss",
		"łódź",
		"Ǆ",
		"ǅ",
		"z",
		"nothing has this",
		"{\"a\"",
		"-- n",
		"  ",
		"rep",
		"report (",
		"t.p",
		"zeb",
	};

	query->q = ONE_OF(qs);
}

static void by_name(struct list_query *query)
{
	query->name = ONE_OF(names);
}

static void by_type(struct list_query *query)
{
	static const char *const majors[] = {"image", "text", "video", "application"};

	query->type = query->type_major = NULL;
	if (below(2))
		query->type = below(8) ? ONE_OF(types) : "no/such";
	else
		query->type_major = ONE_OF(majors);
}

static void by_owner(struct list_query *query)
{
	static const char *const wanted[] = {"ann", "bob", "Ann", "zoë", "nobody"};

	query->owner = ONE_OF(wanted);
}

static void by_tags(struct list_query *query)
{
	static const char *const wanted[] = {
		"q4", "Q4", "red", "blue", "a%b", "\xF0\x9F\x90\x98", "o'x\"y\\", "none"};

	query->tag_count = 1 + below(3);
	for (size_t i = 0; i < query->tag_count; i++)
		query->tags[i] = below(3) ? wanted[below(3)] : ONE_OF(wanted);
}

static void by_attributes(struct list_query *query)
{
	static const struct list_attribute wanted[] = {
		{"project", "apollo"}, {"project", "gemini"},  {"project", "Apollo"},
		{"camera.iso", "400"}, {"camera.model", "X"},  {"camera.lens.mm", "50.5"},
		{"flag", "true"},      {"other", "false"},     {"none", "null"},
		{"none", ""},          {"a.b", "dotted"},      {"list", "1"},
		{"list", "3"},         {"list.x", "4"},        {"é", "ü"},
		{"n", "%_\\"},         {"deep.er.est", "end"}, {"deep.er", "end"},
		{"missing", "x"},      {"camera", "X"},
	};

	query->attribute_count = 1 + below(2);
	for (size_t i = 0; i < query->attribute_count; i++)
		query->attributes[i] = ONE_OF(wanted);
}

static void by_sha256(struct list_query *query)
{
	query->has_sha256 = true;
	memcpy(query->sha256, rows[below(ROWS)]->sha256, SHA256_LEN);
}

static void by_size(struct list_query *query)
{
	static const int64_t bounds[] = {-1, 0, 1, 3, 100, 1500, INT64_MAX};

	query->min_size = ONE_OF(bounds);
	query->max_size = ONE_OF(bounds);
}

static void by_created(struct list_query *query)
{
	int64_t some = rows[below(ROWS)]->created_ms,
		other = rows[below(ROWS)]->created_ms + (int64_t)below(2);

	query->created_after = below(3) ? some : INT64_MIN;
	query->created_before = below(3) ? other : INT64_MAX;
}

typedef void (*filter_fn)(struct list_query *query);
static const filter_fn filters[] = {all_files, by_q,          by_name,   by_type, by_owner,
				    by_tags,   by_attributes, by_sha256, by_size, by_created};

static struct fixture *filled(void **state)
{
	struct fixture *f = fixture(state);

	sequence = UINT64_C(0x9E3779B97F4A7C15);
	store_rows(f->store);
	return f;
}

/* From here on the store's lists look at the clock, as those of millions of rows do: a page may be short, and goes on. */
static void seem_large(struct metadata *store)
{
	atomic_store(&store->small, false);
	atomic_store(&store->small_until_ns, INT64_MAX);
}

static void compare_filters(struct fixture *f, int rounds)
{
	for (size_t i = 0; i < COUNT(filters); i++) {
		for (int round = 0; round < (filters[i] == all_files ? 1 : rounds); round++) {
			struct list_query query;

			list_query_init(&query);
			filters[i](&query);
			compare_sorts(f->store, &query);
		}
	}
}

static void each_filter_with_each_sort_gives_the_same_pages_as_a_loop(void **state)
{
	compare_filters(filled(state), 6);
}

static void each_filter_of_a_large_store_gives_the_same_pages_as_a_loop(void **state)
{
	struct fixture *f = filled(state);

	seem_large(f->store);
	compare_filters(f, 2);
}

static void every_name_and_search_gives_the_same_pages_as_a_loop(void **state)
{
	struct fixture *f = filled(state);

	for (size_t i = 0; i < COUNT(names); i++) {
		struct list_query query;

		list_query_init(&query);
		query.limit = 100;
		query.sort = (enum list_sort)(i % 3);
		query.descending = i % 2;
		query.q = names[i];
		compare_pages(f->store, &query);
		query.q = NULL;
		query.name = names[i];
		compare_pages(f->store, &query);
	}
}

static void compare_filters_together(struct fixture *f, int queries)
{
	for (int i = 0; i < queries; i++) {
		struct list_query query;

		list_query_init(&query);
		for (size_t k = 1 + below(3); k > 0; k--)
			ONE_OF(filters)(&query);
		query.sort = (enum list_sort)below(3);
		query.descending = below(2);
		query.limit = below(4) ? 1 + (unsigned)below(300) : 1 + (unsigned)below(5);
		if (query.limit < 6 && i % 8)
			query.limit = 50;
		compare_pages(f->store, &query);
	}
}

static void filters_together_give_the_same_pages_as_a_loop(void **state)
{
	compare_filters_together(filled(state), RANDOM_QUERIES);
}

static void filters_together_of_a_large_store_give_the_same_pages_as_a_loop(void **state)
{
	struct fixture *f = filled(state);

	seem_large(f->store);
	compare_filters_together(f, RANDOM_QUERIES / 4);
}

/* The most that a page may have, read in pieces: 64 rows, then more. */
static void large_pages_of_a_large_store_give_every_row(void **state)
{
	struct fixture *f = filled(state);
	struct list_query query;

	seem_large(f->store);
	for (int i = 0; i < 12; i++) {
		list_query_init(&query);
		if (i >= 6)
			query.max_size = INT64_MAX - 1;
		query.limit = 1000;
		query.sort = (enum list_sort)(i % 3);
		query.descending = i % 2;
		compare_pages(f->store, &query);
	}
}

/* Each piece but the last has a row behind it: a page that ended there would be taken for the end of the list. */
static void a_list_as_long_as_its_pieces_ends(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record *stored[64 + 128];
	struct list_query query;
	struct file_list list;
	struct err err = {0};
	size_t met = 0;

	for (size_t i = 0; i < COUNT(stored); i++) {
		struct file_record record = sample();
		stored[i] = put(f->store, &record);
	}
	seem_large(f->store);
	list_query_init(&query);
	query.limit = 1000;
	for (bool more = true; more; met += list.n, file_list_release(&list)) {
		assert_ok(metadata_list(f->store, &query, &list, &err), &err);
		more = list.more;
		if (more) {
			query.has_position = true;
			query.position_number = list.end->created_ms;
			query.position_id = list.end->id;
		}
		assert_true(met + list.n <= COUNT(stored));
	}
	assert_int_equal(met, COUNT(stored));
	for (size_t i = 0; i < COUNT(stored); i++)
		file_record_unref(&stored[i]);
}

/* All of a row's tags, owner and type, and of its attributes those that are plain texts: more than the ways are chosen among. */
static void by_all_of(struct list_query *query, size_t row)
{
	const char *key;
	json_t *value;
	size_t i;

	query->owner = rows[row]->owner;
	query->type = rows[row]->type;
	json_array_foreach(known[row].tags, i, value) query->tags[query->tag_count++] =
		json_string_value(value);
	json_object_foreach(known[row].attributes, key, value)
	{
		if (json_is_string(value) && query->attribute_count < LIST_ATTRIBUTES_MAX)
			query->attributes[query->attribute_count++] =
				(struct list_attribute){key, json_string_value(value)};
	}
}

static void all_filters_of_a_file_give_the_same_pages_as_a_loop(void **state)
{
	struct fixture *f = filled(state);

	for (int round = 0; round < 12; round++) {
		struct list_query query;

		list_query_init(&query);
		by_all_of(&query, below(ROWS));
		compare_sorts(f->store, &query);
		by_size(&query);
		by_created(&query);
		compare_sorts(f->store, &query);
	}
}

static void pages_of_one_row_give_every_row(void **state)
{
	struct fixture *f = filled(state);
	struct list_query query;

	list_query_init(&query);
	query.q = "zeb";
	query.limit = 1;
	query.sort = LIST_SORT_NAME;
	compare_pages(f->store, &query);
}

static void an_update_moves_a_file_to_its_new_filters(void **state)
{
	struct fixture *f = fixture(state);
	struct file_record record = sample(), *before;
	struct list_query query;
	struct file_list list;
	struct err err = {0};

	record.name = "Before.txt";
	record.tags = "[\"old\",\"both\"]";
	record.attributes = "{\"k\":\"old\"}";
	before = put(f->store, &record);
	record.name = "ÄFTER.txt";
	record.tags = "[\"new\",\"both\"]";
	record.attributes = "{\"k\":\"new\"}";
	record.revision = 2;
	assert_int_equal(metadata_update(f->store, &record, 1, &err), 1);

	const struct {
		const char *q, *tag, *value;
		size_t n;
	} cases[] = {{"before", NULL, NULL, 0}, {"äfter", NULL, NULL, 1}, {NULL, "old", NULL, 0},
		     {NULL, "new", NULL, 1},    {NULL, "both", NULL, 1},  {NULL, NULL, "old", 0},
		     {NULL, NULL, "new", 1},    {"äft", "both", "new", 1}};
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (int sort = 0; sort < 3; sort++) {
			list_query_init(&query);
			query.sort = (enum list_sort)sort;
			query.q = cases[i].q;
			query.tags[0] = cases[i].tag;
			query.tag_count = cases[i].tag ? 1 : 0;
			query.attributes[0] = (struct list_attribute){"k", cases[i].value};
			query.attribute_count = cases[i].value ? 1 : 0;
			assert_ok(metadata_list(f->store, &query, &list, &err), &err);
			assert_int_equal(list.n, cases[i].n);
			assert_false(list.more);
			file_list_release(&list);
		}
	}
	assert_int_equal(metadata_remove(f->store, &record.id, &err), 1);
	for (size_t i = 0; i < COUNT(cases); i++) {
		list_query_init(&query);
		query.q = cases[i].q;
		query.tags[0] = cases[i].tag;
		query.tag_count = cases[i].tag ? 1 : 0;
		assert_ok(metadata_list(f->store, &query, &list, &err), &err);
		assert_int_equal(list.n, 0);
		file_list_release(&list);
	}
	file_record_unref(&before);
}

static void a_list_of_nothing_is_empty_and_has_no_next_page(void **state)
{
	struct fixture *f = fixture(state);
	struct list_query query;
	struct file_list list;
	struct err err = {0};

	list_query_init(&query);
	assert_ok(metadata_list(f->store, &query, &list, &err), &err);
	assert_int_equal(list.n, 0);
	assert_false(list.more);
	assert_null(list.end);
	file_list_release(&list);
}

#define T(test, setup) cmocka_unit_test_setup_teardown(test, setup, fixture_end)
#define SHARED(setup)                                                                              \
	T(each_filter_with_each_sort_gives_the_same_pages_as_a_loop, setup),                       \
		T(each_filter_of_a_large_store_gives_the_same_pages_as_a_loop, setup),             \
		T(every_name_and_search_gives_the_same_pages_as_a_loop, setup),                    \
		T(filters_together_give_the_same_pages_as_a_loop, setup),                          \
		T(filters_together_of_a_large_store_give_the_same_pages_as_a_loop, setup),         \
		T(large_pages_of_a_large_store_give_every_row, setup),                             \
		T(a_list_as_long_as_its_pieces_ends, setup),                                       \
		T(all_filters_of_a_file_give_the_same_pages_as_a_loop, setup),                     \
		T(pages_of_one_row_give_every_row, setup),                                         \
		T(an_update_moves_a_file_to_its_new_filters, setup),                               \
		T(a_list_of_nothing_is_empty_and_has_no_next_page, setup)

int main(void)
{
	const struct CMUnitTest sqlite[] = {SHARED(fixture_sqlite)};
	const struct CMUnitTest postgres[] = {SHARED(fixture_postgres)};
	int failed =
		cmocka_run_group_tests_name("metadata lists sqlite", sqlite, make_rows, free_rows);

	return failed + cmocka_run_group_tests_name("metadata lists postgresql", postgres,
						    make_rows, free_rows);
}
