/*
 * The log. Two streams (events to standard error, the access log to standard output), each with a ring and a writer
 * thread of its own, so that a stalled reader of one holds up neither callers nor the other stream.
 *
 * A caller formats its line outside of the lock and copies it into the ring under it; a line that does not fit is counted,
 * and the next one that does is preceded by how many were lost. The writer writes straight out of the ring, in pieces that
 * a pipe which polls writable takes without blocking: so it can always be told to stop.
 */
#include "depotd/base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "depotd/base/utf8.h"

enum {
	LINE_MAX_BYTES = 8192, /* of an event's line; the rest is cut off */
	RING_BYTES = 1 << 20,  /* of each stream */
	STALL_POLL_MS = 100,   /* how often a stalled writer looks whether it should stop */
	STOP_GRACE_MS = 2000,  /* how long log_stop() waits for a stalled reader */
};

struct stream {
	const int fd;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t more;  /* signalled when the ring gets bytes and when stopping */
	char *ring; /* RING_BYTES; NULL while there is no writer: lines are written directly */
	size_t head, tail; /* bytes ever put in and taken out; the writer alone moves tail */
	uint64_t lost;     /* lines that found the ring full and were not reported yet */
	bool stopping;
	bool given_up; /* the writer left bytes behind: its reader stalled for all of the grace */
	int64_t stop_by_ms;
	pthread_t writer;
};

static struct stream events = {
	.fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
static struct stream accesses = {
	.fd = STDOUT_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static _Atomic int threshold = LOG_LEVEL_INFO;
static _Atomic int to_journal = -1; /* whether standard error is the journal; -1 not yet known */

static const struct {
	const char *name;
	char priority; /* of sd-daemon(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", '3'},
	[LOG_LEVEL_WARNING] = {"warning", '4'},
	[LOG_LEVEL_INFO] = {"info", '6'},
	[LOG_LEVEL_DEBUG] = {"debug", '7'},
};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* systemd.exec(5): $JOURNAL_STREAM is "device:inode" of the socket it connected; what we inherited may be another. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;
	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	char expected[48];
	snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, expected) == 0;
}

static bool journal(void)
{
	int known = atomic_load_explicit(&to_journal, memory_order_relaxed);
	if (known < 0) {
		known = stderr_is_journal();
		atomic_store_explicit(&to_journal, known, memory_order_relaxed);
	}
	return known > 0;
}

/* --- composing a line --- */

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
};

enum { LINE_ROOM = LINE_MAX_BYTES - 1 }; /* one byte stays for the line feed */

static void line_append(struct line *line, const char *text, size_t n)
{
	if (n > LINE_ROOM - line->len)
		n = LINE_ROOM - line->len;
	memcpy(line->text + line->len, text, n);
	line->len += n;
}

/* The line and paragraph separators are no controls, but a reader may start a new line at them. */
static bool breaks_line(uint32_t code)
{
	return utf8_is_control(code) || code == 0x2028 || code == 0x2029;
}

/* What breaks lines and what is not UTF-8 become \xNN (every byte of them); all else stays. */
static void line_append_escaped(struct line *line, const char *text, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n;) {
		uint32_t code = 0;
		unsigned length = utf8_decode(text + i, n - i, &code);
		if (length > 0 && !breaks_line(code)) {
			if (length <= LINE_ROOM - line->len)
				line_append(line, text + i, length);
			i += length;
			continue;
		}
		for (unsigned k = 0; k < (length > 0 ? length : 1); k++, i++) {
			unsigned char c = (unsigned char)text[i];
			char hex[4] = {'\\', 'x', digits[c >> 4], digits[c & 0x0F]};
			line_append(line, hex, sizeof(hex));
		}
	}
}

static void line_begin(struct line *line, enum log_level level, const char *request_id)
{
	char head[64];
	line->len = 0;
	if (journal()) {
		snprintf(head, sizeof(head), "<%c>", levels[level].priority);
	} else {
		char now[CLOCK_RFC3339_LEN + 1];
		clock_format_rfc3339(clock_wall_ms(), now);
		snprintf(head, sizeof(head), "%s %s: ", now, levels[level].name);
	}
	line_append(line, head, strlen(head));
	if (request_id != NULL) {
		line_append(line, "[", 1);
		line_append_escaped(line, request_id, strlen(request_id));
		line_append(line, "] ", 2);
	}
}

static void line_end(struct line *line)
{
	line->text[line->len++] = '\n';
}

/* --- the ring; s->lock is held --- */

static bool ring_put(struct stream *s, const char *text, size_t n)
{
	if (n > RING_BYTES - (s->head - s->tail))
		return false;
	size_t at = s->head % RING_BYTES;
	size_t first = n < RING_BYTES - at ? n : RING_BYTES - at;
	memcpy(s->ring + at, text, first);
	memcpy(s->ring, text + first, n - first);
	s->head += n;
	return true;
}

/* A line of its own that says how many were lost; it stays counted until it fits. */
static void ring_report_lost(struct stream *s)
{
	if (s->lost == 0)
		return;
	char now[CLOCK_RFC3339_LEN + 1], text[128];
	clock_format_rfc3339(clock_wall_ms(), now);
	bool prefix = s == &events && journal();
	int n = snprintf(
		text, sizeof(text), "%s%s%llu log lines were lost: their reader was too slow\n",
		prefix ? "<4>" : now, prefix ? "" : " warning: ", (unsigned long long)s->lost);
	if (ring_put(s, text, (size_t)n))
		s->lost = 0;
}

/* --- writing --- */

/* Takes part of a piece that poll() says will not block. false: the reader is gone, or did not come back in time. */
static bool stream_write_some(struct stream *s, const char *text, size_t n, size_t *written)
{
	for (;;) {
		struct pollfd ready = {.fd = s->fd, .events = POLLOUT};
		int polled = poll(&ready, 1, STALL_POLL_MS);
		if (polled > 0) {
			ssize_t got = write(s->fd, text, n < PIPE_BUF ? n : PIPE_BUF);
			if (got >= 0) {
				*written = (size_t)got;
				return true;
			}
			if (errno != EINTR && errno != EAGAIN)
				return false;
		}
		pthread_mutex_lock(&s->lock);
		bool late = s->stopping && clock_monotonic_ms() >= s->stop_by_ms;
		s->given_up = s->given_up || late;
		pthread_mutex_unlock(&s->lock);
		if (late)
			return false;
	}
}

static void *stream_run(void *context)
{
	struct stream *s = context;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (s->head == s->tail)
			ring_report_lost(s);
		if (s->head == s->tail) {
			if (s->stopping)
				break;
			pthread_cond_wait(&s->more, &s->lock);
			continue;
		}
		size_t at = s->tail % RING_BYTES;
		size_t n = s->head - s->tail;
		if (n > RING_BYTES - at)
			n = RING_BYTES - at;
		pthread_mutex_unlock(&s->lock);
		/* Callers only write outside of [tail, head), so this stretch is the writer's. */
		size_t written =
			n; /* a reader that is gone gets nothing: drop what it would have got */
		stream_write_some(s, s->ring + at, n, &written);
		pthread_mutex_lock(&s->lock);
		s->tail += written;
		if (s->given_up)
			break;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Without a writer thread: as it comes, whole, by whoever has it. s->lock is held, so lines do not mix. */
static void stream_write_directly(struct stream *s, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t got = write(s->fd, text, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			struct pollfd ready = {.fd = s->fd, .events = POLLOUT};
			poll(&ready, 1, -1);
			continue;
		}
		if (got < 0)
			return;
		text += got;
		n -= (size_t)got;
	}
}

static void stream_put(struct stream *s, const char *text, size_t n)
{
	pthread_mutex_lock(&s->lock);
	if (s->ring == NULL) {
		stream_write_directly(s, text, n);
	} else {
		bool was_empty = s->head == s->tail;
		ring_report_lost(s);
		if (s->lost > 0 || !ring_put(s, text, n))
			s->lost++;
		else if (was_empty)
			pthread_cond_signal(&s->more);
	}
	pthread_mutex_unlock(&s->lock);
}

static int stream_start(struct stream *s)
{
	char *ring = malloc(RING_BYTES);
	if (ring == NULL)
		return -1;
	/* Signals are for the threads that wait for them; with SIGPIPE blocked a write to nobody is just EPIPE. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&s->lock);
	s->ring = ring;
	s->head = s->tail = 0;
	s->stopping = s->given_up = false;
	int failed = pthread_create(&s->writer, NULL, stream_run, s);
	if (failed != 0) {
		s->ring = NULL;
		free(ring);
	}
	pthread_mutex_unlock(&s->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed == 0)
		pthread_setname_np(s->writer, s == &events ? "log" : "log-access");
	return failed == 0 ? 0 : -1;
}

static void stream_stop(struct stream *s)
{
	pthread_mutex_lock(&s->lock);
	bool running = s->ring != NULL && !s->stopping;
	s->stopping = true;
	s->stop_by_ms = clock_monotonic_ms() + STOP_GRACE_MS;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
	if (!running)
		return;
	pthread_join(s->writer, NULL);
	pthread_mutex_lock(&s->lock);
	free(s->ring);
	s->ring = NULL;
	pthread_mutex_unlock(&s->lock);
}

int log_start(void)
{
	atomic_store_explicit(&to_journal, -1, memory_order_relaxed);
	if (stream_start(&events) < 0)
		return -1;
	if (stream_start(&accesses) < 0) {
		stream_stop(&events);
		return -1;
	}
	return 0;
}

void log_stop(void)
{
	stream_stop(&accesses);
	stream_stop(&events);
}

void log_event(enum log_level level, const char *request_id, const char *format, ...)
{
	if (!log_enabled(level))
		return;
	char message[LINE_MAX_BYTES];
	va_list args;
	va_start(args, format);
	int wanted = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	size_t n = wanted > 0 ? (size_t)wanted : 0;
	if (n >= sizeof(message))
		n = utf8_cut(message, sizeof(message) - 1);
	struct line line;
	line_begin(&line, level, request_id);
	line_append_escaped(&line, message, n);
	line_end(&line);
	stream_put(&events, line.text, line.len);
}

void log_access(const char *text, size_t n)
{
	struct line line = {.len = 0};
	if (n > 0 && text[n - 1] == '\n')
		n--;
	line_append_escaped(&line, text, n);
	line_end(&line);
	stream_put(&accesses, line.text, line.len);
}
