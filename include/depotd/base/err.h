/*
 * One bounded error value, without allocation.
 *
 * A function that can fail takes a `struct err *err` as its very last parameter and returns -1 (or NULL) after filling
 * it; on success err is left alone. err may never be NULL. Lower floors return errors and never log them: the exchange,
 * the workers' loop and app log, once. `message` is for people: it says what and where, and is shown to the client for
 * the 4xx kinds only.  Thread: any; a struct err belongs to its caller.
 */
#ifndef DEPOTD_BASE_ERR_H
#define DEPOTD_BASE_ERR_H

enum err_kind {
	ERR_NONE = 0,     /* no error */
	ERR_INVALID,      /* what the caller gave is malformed; message says what and where (400) */
	ERR_UNAUTHORIZED, /* credentials are needed (401) */
	ERR_FORBIDDEN,    /* seen, but may not be done (403) */
	ERR_NOT_FOUND,    /* no such thing (404) */
	ERR_METHOD,       /* the resource exists, the method does not (405) */
	ERR_TIMEOUT,      /* the peer was too slow (408) */
	ERR_CONFLICT,     /* the state forbids it (409) */
	ERR_GONE,         /* was there, is no more (410) */
	ERR_LENGTH_REQUIRED,   /* 411 */
	ERR_PRECONDITION,      /* If-Match and its kin failed (412) */
	ERR_TOO_LARGE,         /* over a limit of size (413) */
	ERR_URI_TOO_LONG,      /* 414 */
	ERR_MEDIA_TYPE,        /* 415 */
	ERR_RANGE,             /* no satisfiable range (416) */
	ERR_EXPECTATION,       /* 417 */
	ERR_UNPROCESSABLE,     /* well-formed, but contradicts what is known (422) */
	ERR_TOO_MANY,          /* rate limit (429) */
	ERR_HEADERS_TOO_LARGE, /* 431 */
	ERR_INTERNAL,          /* a defect or an unexpected state (500) */
	ERR_DAMAGED,           /* stored bytes are not what they were; never served (500) */
	ERR_IO,              /* a disk or device failed; never retried as if it had worked (500) */
	ERR_NOT_IMPLEMENTED, /* 501 */
	ERR_UNAVAILABLE,     /* the database (or another part) is away; try later (503) */
	ERR_BUSY,            /* a bounded queue or pool is full; try later (503) */
	ERR_NO_MEMORY,       /* malloc failed (503) */
	ERR_VERSION,         /* HTTP version not supported (505) */
	ERR_DISK_FULL,       /* ENOSPC, EDQUOT or below storage.reserve (507) */
	ERR_UNKNOWN_OUTCOME, /* a COMMIT was sent and its answer lost: neither success nor failure (503) */
	ERR_CANCELLED, /* the client left or the server stops; nobody reads an answer */
	ERR_KIND_COUNT
};

enum { ERR_MESSAGE_MAX = 320 };

struct err {
	enum err_kind kind;
	int sys_errno; /* errno of the failed call, 0 where there was none */
	char message[ERR_MESSAGE_MAX];
};

/* Fills err (message truncated to fit, always terminated, on a UTF-8 boundary). Returns -1, so: return err_set(…). */
int err_set(struct err *err, enum err_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same from errno: appends ": <strerror>" and keeps errno. ENOSPC and EDQUOT become ERR_DISK_FULL, ENOMEM
 * ERR_NO_MEMORY, EMFILE/ENFILE ERR_BUSY; everything else `otherwise`.
 */
int err_set_errno(struct err *err, enum err_kind otherwise, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What both return, said where compilers and analysers see it: a caller that returns it has failed, always. */
static inline int err_failed(int result)
{
	if (result != -1)
		__builtin_unreachable();
	return result;
}
#define err_set(...) err_failed((err_set)(__VA_ARGS__))
#define err_set_errno(...) err_failed((err_set_errno)(__VA_ARGS__))

void err_clear(struct err *err);

/* The one table from error kind to HTTP status (RFC 9110 §15, RFC 4918 §11.5 for 507). */
int err_http_status(enum err_kind kind);

/* The short, fixed title of a kind for problem documents: "Not found", "Insufficient storage", … */
const char *err_title(enum err_kind kind);

#endif
