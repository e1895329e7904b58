/*
 * HTML by the tags of WHATWG MIME Sniffing §7.1, XML, and SVG by its root element. Whatever a browser might take for a
 * document that scripts must be found here, since nothing found here is ever shown inline. Pure.
 */
#include <string.h>

#include "media_private.h"

/* What is left of the head. */
struct cursor {
	const unsigned char *at, *end;
};

static bool is_space(unsigned char c)
{
	return c == '\t' || c == '\n' || c == '\f' || c == '\r' || c == ' ';
}

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && is_space(*c->at))
		c->at++;
}

static unsigned char lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? (unsigned char)(c - 'A' + 'a') : c;
}

/* Whether this text (in lower case) stands here, in any case. */
static bool looking_at(const struct cursor *c, const char *text)
{
	size_t n = strlen(text);
	if ((size_t)(c->end - c->at) < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (lower(c->at[i]) != (unsigned char)text[i])
			return false;
	}
	return true;
}

/* The same, followed by a blank, by > or by / (which the standard leaves out: <br/>), or by the end of the head. */
static bool looking_at_tag(const struct cursor *c, const char *tag)
{
	if (!looking_at(c, tag))
		return false;
	const unsigned char *next = c->at + strlen(tag);
	return next == c->end || is_space(*next) || *next == '>' || *next == '/';
}

/* Moves past the first `text`; to the end where there is none. */
static void skip_past(struct cursor *c, const char *text)
{
	const unsigned char *found = memmem(c->at, (size_t)(c->end - c->at), text, strlen(text));
	c->at = found != NULL ? found + strlen(text) : c->end;
}

/* A document type may have a subset in brackets, and quoted identifiers; enough of it to find its end. */
static void skip_doctype(struct cursor *c)
{
	unsigned char quote = 0;
	int brackets = 0;
	for (; c->at < c->end; c->at++) {
		unsigned char ch = *c->at;
		if (quote != 0)
			quote = ch == quote ? 0 : quote;
		else if (ch == '"' || ch == '\'')
			quote = ch;
		else if (ch == '[')
			brackets++;
		else if (ch == ']')
			brackets--;
		else if (ch == '>' && brackets <= 0)
			break;
	}
	if (c->at < c->end)
		c->at++;
}

static const char *html_tag(const struct cursor *c)
{
	static const char *const tags[] = {
		"<html", "<head",  "<script", "<iframe", "<h1",     "<div",   "<font", "<table",
		"<a",    "<style", "<title",  "<b",      "<body",   "<br",    "<p",    "<img",
		"<svg",  "<form",  "<meta",   "<link",   "<object", "<embed", "<base",
	};
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		if (looking_at_tag(c, tags[i]))
			return "text/html";
	}
	return NULL;
}

/* The root element's name is "svg", with or without a prefix: <svg, <svg:svg, <x:svg. */
static bool root_is_svg(const struct cursor *c)
{
	struct cursor name = *c;
	if (looking_at_tag(c, "<svg"))
		return true;
	if (name.at == name.end || *name.at != '<')
		return false;
	while (name.at < name.end && !is_space(*name.at) && *name.at != '>' && *name.at != ':')
		name.at++;
	return looking_at_tag(&name, ":svg");
}

const char *media_match_markup(const unsigned char *head, size_t n)
{
	struct cursor c = {head, head + n};
	if (MEDIA_HAS(head, n, 0, "\xEF\xBB\xBF"))
		c.at += 3;
	skip_space(&c);
	const char *type = NULL; /* by what came before the root element */
	while (c.at < c.end && *c.at == '<') {
		if (looking_at(&c, "<?xml")) {
			type = "text/xml";
			skip_past(&c, "?>");
		} else if (looking_at(&c, "<?") && type != NULL) {
			skip_past(&c, "?>");
		} else if (looking_at(&c, "<!--")) {
			type = type != NULL ? type : "text/html";
			skip_past(&c, "-->");
		} else if (looking_at(&c, "<!doctype")) {
			bool html = looking_at_tag(&c, "<!doctype html");
			type = html && type == NULL ? "text/html"
			       : type != NULL       ? type
						    : "text/xml";
			skip_doctype(&c);
		} else {
			break;
		}
		skip_space(&c);
	}
	if (root_is_svg(&c))
		return "image/svg+xml";
	if (type != NULL && strcmp(type, "text/xml") == 0 && looking_at_tag(&c, "<html"))
		return "application/xhtml+xml";
	return type != NULL ? type : html_tag(&c);
}
