/*
 * Named statements out of sql/DIALECT/statements.sql, embedded at build.
 *
 * "-- name: file_insert" begins a statement and "-- fragment: row" a piece of one; the text ends at the next such line.
 * "-- name: list = head row tail" is the statement made of these fragments, one behind the other. Lines that are comments
 * alone are left out, and the final semicolon; a comment inside a string over several lines would be taken for one, so SQL
 * here has none. Immutable once parsed; any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "depotd/base/arena.h"
#include "depotd/base/buf.h"
#include "depotd/base/embedded.h"
#include "depotd/metadata/driver.h"

static const char name_mark[] = "-- name:";
static const char fragment_mark[] = "-- fragment:";

enum { PIECES_MAX = 2048, TEXT_MAX = 64 * 1024, MEMORY_MAX = 8 * 1024 * 1024 };

/* A statement or a fragment while it is being read. */
struct piece {
	const char *name;
	const char *recipe; /* the fragments it is made of, or NULL */
	const char *text;
	bool fragment;
};

struct statements {
	struct statement *all; /* sorted by name; index is the place therein */
	size_t count;
	struct arena memory;
};

struct parser {
	struct arena *memory;
	struct piece *pieces;
	size_t count;
	struct buf text; /* of the last piece, so far */
};

struct line {
	const char *text;
	size_t len; /* without the newline, and without blanks at both ends */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void trim(struct line *line)
{
	while (line->len > 0 && is_blank(line->text[0])) {
		line->text++;
		line->len--;
	}
	while (line->len > 0 && is_blank(line->text[line->len - 1]))
		line->len--;
}

/* Moves *at behind the line that begins there. */
static struct line next_line(const char *text, size_t n, size_t *at)
{
	const char *begin = text + *at;
	const char *newline = memchr(begin, '\n', n - *at);
	struct line line = {begin, newline ? (size_t)(newline - begin) : n - *at};

	*at += line.len + (newline ? 1 : 0);
	trim(&line);
	return line;
}

static bool begins_with(const struct line *line, const char *mark)
{
	return line->len >= strlen(mark) && memcmp(line->text, mark, strlen(mark)) == 0;
}

/* Ends the last piece: cuts blanks and the semicolon off its text. */
static int end_piece(struct parser *p, struct err *err)
{
	struct piece *piece = p->count > 0 ? &p->pieces[p->count - 1] : NULL;
	size_t n = p->text.len;

	if (!piece)
		return 0;
	while (n > 0 &&
	       (is_blank(p->text.data[n - 1]) || (p->text.data[n - 1] == ';' && !piece->fragment)))
		n--;
	if (p->text.failed || (n == 0) == !piece->recipe)
		return err_set(err, ERR_INTERNAL,
			       "statement %s is empty, too long, or has both fragments and text",
			       piece->name);
	if (n > 0)
		piece->text = arena_strndup(p->memory, p->text.data, n);
	buf_reset(&p->text);
	return 0;
}

/* "NAME" or "NAME = A B C". */
static int begin_piece(struct parser *p, struct line line, bool fragment, struct err *err)
{
	struct line name = line, recipe = {NULL, 0};
	const char *equals = memchr(line.text, '=', line.len);
	struct piece *piece = &p->pieces[p->count];

	if (p->count == PIECES_MAX)
		return err_set(err, ERR_INTERNAL, "more than %d statements", PIECES_MAX);
	p->count++;
	if (equals) {
		name.len = (size_t)(equals - line.text);
		recipe = (struct line){equals + 1, line.len - name.len - 1};
	}
	trim(&name);
	trim(&recipe);
	piece->fragment = fragment;
	piece->name = arena_strndup(p->memory, name.text, name.len);
	piece->recipe = equals ? arena_strndup(p->memory, recipe.text, recipe.len) : NULL;
	if (!piece->name || (equals && !piece->recipe))
		return err_set(err, ERR_NO_MEMORY, "statements");
	return 0;
}

static int read_pieces(struct parser *p, const char *text, size_t n, struct err *err)
{
	for (size_t at = 0; at < n;) {
		struct line line = next_line(text, n, &at);
		bool fragment = begins_with(&line, fragment_mark);

		if (fragment || begins_with(&line, name_mark)) {
			size_t mark = strlen(fragment ? fragment_mark : name_mark);

			if (end_piece(p, err) < 0)
				return -1;
			if (begin_piece(p, (struct line){line.text + mark, line.len - mark},
					fragment, err) < 0)
				return -1;
		} else if (p->count > 0 && line.len > 0 && !begins_with(&line, "--")) {
			buf_append(&p->text, line.text, line.len);
			buf_putc(&p->text, '\n');
		}
	}
	return end_piece(p, err);
}

static const struct piece *find_fragment(const struct parser *p, const char *name, size_t n)
{
	for (size_t i = 0; i < p->count; i++) {
		if (p->pieces[i].fragment && strlen(p->pieces[i].name) == n &&
		    memcmp(p->pieces[i].name, name, n) == 0)
			return &p->pieces[i];
	}
	return NULL;
}

static const char *compose(struct parser *p, const struct piece *piece, struct err *err)
{
	const char *text;

	buf_reset(&p->text);
	for (const char *at = piece->recipe; *at;) {
		size_t n = strcspn(at, " \t");
		const struct piece *fragment = find_fragment(p, at, n);

		if (!fragment || !fragment->text) {
			err_set(err, ERR_INTERNAL, "statement %s: no fragment %.*s", piece->name,
				(int)n, at);
			return NULL;
		}
		buf_puts(&p->text, fragment->text);
		buf_putc(&p->text, '\n');
		at += n + strspn(at + n, " \t");
	}
	text = p->text.failed ? NULL : arena_strndup(p->memory, p->text.data, p->text.len);
	if (!text)
		err_set(err, ERR_NO_MEMORY, "statement %s", piece->name);
	return text;
}

static int compare_names(const void *a, const void *b)
{
	const struct statement *left = a, *right = b;

	return strcmp(left->name, right->name);
}

static int collect(struct parser *p, struct statements *s, struct err *err)
{
	s->all = calloc(p->count + 1, sizeof(*s->all));
	if (!s->all)
		return err_set(err, ERR_NO_MEMORY, "statements");
	for (size_t i = 0; i < p->count; i++) {
		const struct piece *piece = &p->pieces[i];
		struct statement *statement = &s->all[s->count];

		if (piece->fragment)
			continue;
		statement->name = piece->name;
		statement->text = piece->recipe ? compose(p, piece, err) : piece->text;
		if (!statement->text)
			return -1;
		s->count++;
	}
	qsort(s->all, s->count, sizeof(*s->all), compare_names);
	for (size_t i = 0; i < s->count; i++) {
		s->all[i].index = i;
		if (i > 0 && compare_names(&s->all[i - 1], &s->all[i]) == 0)
			return err_set(err, ERR_INTERNAL, "statement %s is there twice",
				       s->all[i].name);
	}
	return 0;
}

int statements_parse(const char *text, size_t n, struct statements **out, struct err *err)
{
	struct statements *s = calloc(1, sizeof(*s));
	struct parser parser = {.pieces = calloc(PIECES_MAX, sizeof(*parser.pieces))};
	int rc = -1;

	buf_init(&parser.text, TEXT_MAX);
	if (!s || !parser.pieces) {
		err_set(err, ERR_NO_MEMORY, "statements");
		goto out;
	}
	arena_init(&s->memory, MEMORY_MAX);
	parser.memory = &s->memory;
	if (read_pieces(&parser, text, n, err) < 0 || collect(&parser, s, err) < 0)
		goto out;
	*out = s;
	s = NULL;
	rc = 0;
out:
	buf_release(&parser.text);
	free(parser.pieces);
	statements_free(&s);
	return rc;
}

int statements_load(const char *dialect, struct statements **out, struct err *err)
{
	size_t n = strlen(dialect);

	for (const struct embedded_file *file = embedded_sql; file->path; file++) {
		if (strncmp(file->path, dialect, n) == 0 &&
		    strcmp(file->path + n, "/statements.sql") == 0)
			return statements_parse(file->data, file->len, out, err);
	}
	return err_set(err, ERR_INTERNAL, "no statements for %s in this binary", dialect);
}

void statements_free(struct statements **statements)
{
	if (!*statements)
		return;
	free((*statements)->all);
	arena_release(&(*statements)->memory);
	free(*statements);
	*statements = NULL;
}

size_t statements_count(const struct statements *statements)
{
	return statements->count;
}

const struct statement *statements_find(const struct statements *statements, const char *name)
{
	struct statement key = {.name = name};

	return bsearch(&key, statements->all, statements->count, sizeof key, compare_names);
}
