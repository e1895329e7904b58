/*
 * Requests: whatever comes over the wire, a head is found in the same place however it is cut, what is accepted has one meaning,
 * and a body's framing is undone alike however it is cut.
 */
#include "../../src/http/framing_private.h"
#include "../../src/http/head_private.h"
#include "../../src/http/router_private.h"
#include "../../src/http/target_private.h"
#include "fuzz.h"

static const struct http_handler handler;
static const struct http_route routes[] = {
	{"GET", "/", &handler},
	{"GET", "/files", &handler},
	{"POST", "/files", &handler},
	{"PUT", "/files/{name}", &handler},
	{"PUT", "/files/{name...}", &handler},
	{"GET", "/files/{id}", &handler},
	{"PATCH", "/files/{id}/metadata", &handler},
	{NULL, NULL, NULL},
};

static void check_accepted(const struct head *head)
{
	unsigned i = 0, seen = 0;
	MUST(head_is_token(head->method, strlen(head->method)));
	MUST(strlen(head->target) == head->target_len);
	MUST(head->minor <= 1);
	for (; head_find(head, "Transfer-Encoding", &i) != NULL; i++)
		seen++;
	MUST(seen == (head->content_length == HEAD_CHUNKED));
	for (i = 0; head_find(head, "Content-Length", &i) != NULL; i++)
		seen++;
	MUST(seen <= 1);
	for (i = 0; i < head->field_count; i++) {
		const struct head_field *f = &head->fields[i];
		MUST(head_is_token(f->name, f->name_len) && f->name[f->name_len] == '\0');
		MUST(strlen(f->value) == f->value_len);
		MUST(strpbrk(f->value, "\r\n") == NULL);
	}
}

static void check_target(const struct head *head)
{
	static struct router *router;
	struct router_match match;
	struct target target;
	struct arena arena;
	struct err err;
	unsigned i = 0;
	if (router == NULL)
		MUST(router_new(routes, &router, &err) == 0);
	arena_init(&arena, 1 << 18);
	if (target_parse(head->target, &arena, &target, &err) == 0) {
		MUST(target.path[0] == '/' || target.path[0] == '*');
		MUST(strchr(target.path, '?') == NULL);
		if (router_match(router, head->method, target.path, &arena, &match, &err) == 1)
			MUST(match.handler == &handler);
	}
	const struct head_field *accept = head_find(head, "Accept", &i);
	(void)accept_prefers_html(accept != NULL ? accept->value : NULL);
	arena_release(&arena);
}

/* Undoes the framing in pieces: how much was consumed. A checksum stands for the body. */
static size_t unframe(int64_t length, const uint8_t *data, size_t n, size_t step,
		      enum framing_state *state, uint32_t *sum)
{
	struct framing f;
	struct err err;
	size_t used = 0, part;
	framing_init(&f, length);
	*sum = 0;
	while (used < n) {
		size_t piece = n - used < step ? n - used : step;
		char *copy = fuzz_text(data + used, piece);
		size_t taken = framing_step(&f, copy, piece, &part, &err);
		MUST(taken <= piece && part <= taken);
		for (size_t i = taken - part; i < taken; i++)
			*sum = *sum * 31 + (unsigned char)copy[i];
		free(copy);
		used += taken;
		if (taken == 0)
			break;
	}
	*state = f.state;
	return used;
}

static void check_body(int64_t length, const uint8_t *data, size_t n)
{
	enum framing_state whole, cut;
	uint32_t sum, cut_sum;
	size_t used = unframe(length, data, n, n + 1, &whole, &sum);
	size_t cut_used = unframe(length, data, n, 1, &cut, &cut_sum);
	MUST((whole == FRAMING_DONE) == (cut == FRAMING_DONE));
	if (whole == FRAMING_DONE)
		MUST(used == cut_used && sum == cut_sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct head_field fields[HEAD_FIELDS_MAX];
	struct head head;
	struct err err;
	char *text = fuzz_text(data, size);
	size_t skip = head_leading_crlf(text, size), scanned = 0, byte_wise = 0;
	char *from = text + skip;
	size_t n = size - skip, end = head_end(from, n, &scanned);
	for (size_t have = 0; have < n && have < 4096; have++) {
		size_t found = head_end(from, have, &byte_wise);
		MUST(found == 0 || found == end);
		if (found > 0)
			break;
	}
	if (end == 0) {
		(void)head_check_partial(from, n, &err);
	} else {
		int hopeless = head_check_partial(from, n, &err);
		unsigned lines = head_count_lines(from, end);
		char *copy = fuzz_text((const uint8_t *)from, end);
		int result = head_parse(copy, end, fields, &head, &err);
		MUST(result == 0 || err.kind != ERR_NONE);
		MUST(head.field_count <= lines);
		if (result == 0) {
			MUST(hopeless == 0);
			check_accepted(&head);
			check_target(&head);
			check_body(head.content_length, (const uint8_t *)from + end, n - end);
		}
		free(copy);
	}
	check_body(HEAD_CHUNKED, data, size);
	free(text);
	return 0;
}
