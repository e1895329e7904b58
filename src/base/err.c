/* The error value: filling it, and the one table from kind to HTTP status and title. */
#include "depotd/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "depotd/base/utf8.h"

static const struct {
	int status;
	const char *title;
} kinds[ERR_KIND_COUNT] = {
	[ERR_NONE] = {200, "OK"},
	[ERR_INVALID] = {400, "Bad request"},
	[ERR_UNAUTHORIZED] = {401, "Authentication required"},
	[ERR_FORBIDDEN] = {403, "Forbidden"},
	[ERR_NOT_FOUND] = {404, "Not found"},
	[ERR_METHOD] = {405, "Method not allowed"},
	[ERR_TIMEOUT] = {408, "Request timeout"},
	[ERR_CONFLICT] = {409, "Conflict"},
	[ERR_GONE] = {410, "Gone"},
	[ERR_LENGTH_REQUIRED] = {411, "Length required"},
	[ERR_PRECONDITION] = {412, "Precondition failed"},
	[ERR_TOO_LARGE] = {413, "Content too large"},
	[ERR_URI_TOO_LONG] = {414, "URI too long"},
	[ERR_MEDIA_TYPE] = {415, "Unsupported media type"},
	[ERR_RANGE] = {416, "Range not satisfiable"},
	[ERR_EXPECTATION] = {417, "Expectation failed"},
	[ERR_UNPROCESSABLE] = {422, "Unprocessable content"},
	[ERR_TOO_MANY] = {429, "Too many requests"},
	[ERR_HEADERS_TOO_LARGE] = {431, "Request header fields too large"},
	[ERR_INTERNAL] = {500, "Internal error"},
	[ERR_DAMAGED] = {500, "Damaged file"},
	[ERR_IO] = {500, "Storage failure"},
	[ERR_NOT_IMPLEMENTED] = {501, "Not implemented"},
	[ERR_UNAVAILABLE] = {503, "Service unavailable"},
	[ERR_BUSY] = {503, "Too busy"},
	[ERR_NO_MEMORY] = {503, "Out of memory"},
	[ERR_VERSION] = {505, "HTTP version not supported"},
	[ERR_DISK_FULL] = {507, "Insufficient storage"},
	[ERR_UNKNOWN_OUTCOME] = {503, "Outcome unknown"},
	/* nginx's "client closed request": only ever seen in a log. */
	[ERR_CANCELLED] = {499, "Cancelled"},
};

/* Formats apart first: an argument may well be err->message, when a caller wraps what it was told. */
static void err_format(struct err *err, const char *format, va_list args)
{
	char text[ERR_MESSAGE_MAX];
	int wanted = vsnprintf(text, sizeof(text), format, args);
	size_t length = wanted > 0 ? (size_t)wanted : 0;
	if (length >= sizeof(text))
		length = utf8_cut(text, sizeof(text) - 1);
	memcpy(err->message, text, length);
	err->message[length] = '\0';
}

__attribute__((format(printf, 2, 3))) static void err_reformat(struct err *err, const char *format,
							       ...)
{
	va_list args;
	va_start(args, format);
	err_format(err, format, args);
	va_end(args);
}

static enum err_kind kind_of_errno(int number, enum err_kind otherwise)
{
	switch (number) {
	case ENOSPC:
	case EDQUOT:
		return ERR_DISK_FULL;
	case EFBIG:
		return ERR_TOO_LARGE;
	case ENOMEM:
		return ERR_NO_MEMORY;
	case EMFILE:
	case ENFILE:
		return ERR_BUSY;
	default:
		return otherwise;
	}
}

int(err_set)(struct err *err, enum err_kind kind, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	err_format(err, format, args);
	va_end(args);
	err->kind = kind;
	err->sys_errno = 0;
	return -1;
}

int(err_set_errno)(struct err *err, enum err_kind otherwise, const char *format, ...)
{
	int number = errno;
	va_list args;
	va_start(args, format);
	err_format(err, format, args);
	va_end(args);
	err->kind = kind_of_errno(number, otherwise);
	err->sys_errno = number;
	char text[128];
	err_reformat(err, "%s: %s", err->message, strerror_r(number, text, sizeof(text)));
	errno = number;
	return -1;
}

void err_clear(struct err *err)
{
	*err = (struct err){.kind = ERR_NONE};
}

int err_http_status(enum err_kind kind)
{
	return (unsigned)kind < ERR_KIND_COUNT ? kinds[kind].status : 500;
}

const char *err_title(enum err_kind kind)
{
	return kinds[(unsigned)kind < ERR_KIND_COUNT ? kind : ERR_INTERNAL].title;
}
