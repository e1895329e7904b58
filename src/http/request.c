/* What an owner asks of the request. Owner's thread. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "exchange_private.h"

void *exchange_context(const struct exchange *x)
{
	return x->server->context;
}

const char *exchange_method(const struct exchange *x)
{
	return x->head.method;
}

bool exchange_is_head(const struct exchange *x)
{
	return x->head.is_head;
}

const char *exchange_target(const struct exchange *x)
{
	return x->target.path != NULL ? x->target.path : x->head.target;
}

const char *exchange_param(const struct exchange *x, unsigned i)
{
	return i < x->match.param_count ? x->match.params[i] : NULL;
}

/* Joins all fields of that name; field i is the first. */
static const char *join_fields(struct exchange *x, const char *name, unsigned first)
{
	size_t n = 1, at = 0;
	for (unsigned i = first; head_find(&x->head, name, &i) != NULL; i++)
		n += x->head.fields[i].value_len + 2;
	char *joined = arena_alloc(&x->arena, n);
	if (joined == NULL)
		return x->head.fields[first].value;
	for (unsigned i = first; head_find(&x->head, name, &i) != NULL; i++) {
		const struct head_field *f = &x->head.fields[i];
		if (at > 0) {
			memcpy(joined + at, ", ", 2);
			at += 2;
		}
		memcpy(joined + at, f->value, f->value_len);
		at += f->value_len;
	}
	return joined;
}

const char *exchange_header(struct exchange *x, const char *name)
{
	unsigned i = 0;
	if (head_find(&x->head, name, &i) == NULL)
		return NULL;
	unsigned next = i + 1;
	if (head_find(&x->head, name, &next) == NULL)
		return x->head.fields[i].value;
	return join_fields(x, name, i);
}

void exchange_conditionals(struct exchange *x, struct conditional_headers *out)
{
	out->if_match = exchange_header(x, "If-Match");
	out->if_none_match = exchange_header(x, "If-None-Match");
	out->if_modified_since = exchange_header(x, "If-Modified-Since");
	out->if_unmodified_since = exchange_header(x, "If-Unmodified-Since");
	out->if_range = exchange_header(x, "If-Range");
}

size_t exchange_query_count(const struct exchange *x)
{
	return x->target.count;
}

void exchange_query(const struct exchange *x, size_t i, const char **key, const char **value)
{
	*key = x->target.parameters[i].key;
	*value = x->target.parameters[i].value;
}

const char *exchange_query_get(const struct exchange *x, const char *key)
{
	for (size_t i = 0; i < x->target.count; i++) {
		if (strcmp(x->target.parameters[i].key, key) == 0)
			return x->target.parameters[i].value;
	}
	return NULL;
}

int64_t exchange_content_length(const struct exchange *x)
{
	return x->head.content_length;
}

bool exchange_has_length(const struct exchange *x)
{
	return x->head.has_length;
}

bool exchange_wants_html(struct exchange *x)
{
	return accept_prefers_html(exchange_header(x, "Accept"));
}

const char *exchange_request_id(const struct exchange *x)
{
	return x->request_id;
}

struct arena *exchange_arena(struct exchange *x)
{
	return &x->arena;
}

const char *exchange_peer_text(const struct exchange *x)
{
	return x->peer_text;
}

void exchange_set_state(struct exchange *x, void *state)
{
	x->handler_state = state;
}

void exchange_release_anywhere(struct exchange *x)
{
	x->release_anywhere = true;
}

void *exchange_state(const struct exchange *x)
{
	return x->handler_state;
}
