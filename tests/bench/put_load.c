/*
 * The load of the upload rows: N keep-alive connections in one thread on epoll, each sending the next upload as soon as the
 * last one was answered. It shares the machine with what it measures, so it does as little as it can: one send and one recv
 * for each upload. No two uploads have the same name or bytes; an answer other than 201 is counted apart and never as an
 * upload.
 *
 *   put_load PORT CONNECTIONS SECONDS [--bytes N] [--form TARGET]
 *
 * prints one line: uploads answered 201 within the time and per second, those of 202, errors, stored in all (201 within the time
 * and after it: what the server must have now), latency percentiles in microseconds, and the client's own CPU for each upload.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CONNECTIONS_MAX = 4096,
	BYTES_MAX = 1 << 20,
	HEAD_MAX = 512,
	ANSWER_MAX = 16 * 1024,
	EVENTS = 256,
	DRAIN_S = 30, /* for answers that come after the time */
	SUB_BITS = 6, /* a histogram's buckets: 64 for each power of two, so 1.6 % wide */
	BUCKETS = (32 - SUB_BITS + 1) << SUB_BITS,
};

static const char boundary[] = "----put-load-5d41402abc4b2a76b9719d91";

struct connection {
	int fd;
	bool blocked;        /* the socket was full, epoll watches for room */
	bool waiting;        /* a request was begun and not yet answered */
	uint64_t begun;      /* microseconds */
	size_t sent, length; /* of the request */
	char *request;
	size_t have; /* of the answer */
	char answer[ANSWER_MAX];
};

static struct {
	uint16_t port;
	unsigned connections;
	double seconds;
	size_t bytes;
	const char *form; /* target of a multipart form, or NULL: PUT */

	int epoll;
	bool stopping;
	unsigned waiting;
	unsigned long number, created, created_late, accepted, errors;
	uint32_t latency[BUCKETS];
	char *body; /* `bytes` of filling, behind which the form's end stands */
	size_t body_length;
} run = {.bytes = 4096};

static void die(const char *what)
{
	fprintf(stderr, "put_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- latencies --- */

static unsigned bucket_of(uint64_t us)
{
	uint32_t value = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;

	if (value < 1u << SUB_BITS)
		return value;
	unsigned shift = 31u - (unsigned)__builtin_clz(value) - SUB_BITS;
	return ((shift + 1) << SUB_BITS) + ((value >> shift) & ((1u << SUB_BITS) - 1));
}

static uint64_t value_of(unsigned bucket)
{
	unsigned shift = bucket >> SUB_BITS;

	if (shift == 0)
		return bucket;
	return (uint64_t)((1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1))) << (shift - 1);
}

static uint64_t percentile(double share)
{
	uint64_t total = 0, seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		total += run.latency[i];
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += run.latency[i];
		if (seen && (double)seen >= share * (double)total)
			return value_of(i);
	}
	return 0;
}

/* --- requests --- */

static void build_body(void)
{
	int tail;

	run.body = malloc(run.bytes + HEAD_MAX);
	if (!run.body)
		die("malloc");
	memset(run.body, 'x', run.bytes);
	tail = snprintf(run.body + run.bytes, HEAD_MAX, "\r\n--%s--\r\n", boundary);
	run.body_length = run.bytes + (run.form ? (size_t)tail : 0);
}

/* The head (and, in a form, the part's), then the bytes, the first of which are the upload's number. */
static size_t build_request(char *out)
{
	char part[HEAD_MAX], number[24];
	unsigned long n = run.number++;
	int head, digits = snprintf(number, sizeof(number), "%022lu\n", n);

	if (run.form) {
		int length = snprintf(part, sizeof(part),
				      "--%s\r\nContent-Disposition: form-data; name=\"file\"; "
				      "filename=\"load-%lu.bin\"\r\n"
				      "Content-Type: application/octet-stream\r\n\r\n",
				      boundary, n);
		head = snprintf(out, HEAD_MAX * 2,
				"POST %s HTTP/1.1\r\nHost: bench\r\n"
				"Content-Type: multipart/form-data; boundary=%s\r\n"
				"Content-Length: %zu\r\n\r\n%s",
				run.form, boundary, run.body_length + (size_t)length, part);
	} else {
		head = snprintf(out, HEAD_MAX * 2,
				"PUT /files/load-%lu.bin HTTP/1.1\r\nHost: bench\r\n"
				"Content-Type: application/octet-stream\r\n"
				"Content-Length: %zu\r\n\r\n",
				n, run.bytes);
	}
	memcpy(out + head, run.body, run.body_length);
	if ((size_t)digits <= run.bytes)
		memcpy(out + head, number, (size_t)digits);
	return (size_t)head + run.body_length;
}

static void watch(struct connection *c, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(run.epoll, operation, c->fd, &event) < 0)
		die("epoll_ctl");
}

static void open_connection(struct connection *c)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(run.port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		die("fcntl");
	c->have = 0;
	c->blocked = false;
	watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void push(struct connection *c)
{
	while (c->sent < c->length) {
		ssize_t n = send(c->fd, c->request + c->sent, c->length - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			c->blocked = true;
			watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0)
			return; /* the answer, or the end, is read by pull() */
		c->sent += (size_t)n;
	}
	if (c->blocked)
		watch(c, EPOLL_CTL_MOD, EPOLLIN);
	c->blocked = false;
}

static void next_request(struct connection *c)
{
	c->length = build_request(c->request);
	c->sent = 0;
	c->have = 0;
	c->waiting = true;
	run.waiting++;
	c->begun = now_us();
	push(c);
}

/* --- answers --- */

/* The answer's whole length once its head is there; 0 before; an answer without a length is an error. */
static size_t answer_length(const struct connection *c)
{
	const char *end = memmem(c->answer, c->have, "\r\n\r\n", 4);
	const char *line = c->answer;

	if (!end)
		return 0;
	while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		line++;
		if (strncasecmp(line, "Content-Length:", 15) == 0)
			return (size_t)(end + 4 - c->answer) + strtoul(line + 15, NULL, 10);
	}
	return SIZE_MAX;
}

static void complain(const struct connection *c)
{
	if (run.errors++ == 0)
		fprintf(stderr, "put_load: an upload was not stored: %.*s\n",
			(int)(c->have < 400 ? c->have : 400), c->answer);
}

static void answered(struct connection *c)
{
	c->waiting = false;
	run.waiting--;
	if (memcmp(c->answer, "HTTP/1.1 201", 12) == 0) {
		run.latency[bucket_of(now_us() - c->begun)] += !run.stopping;
		if (run.stopping)
			run.created_late++;
		else
			run.created++;
	} else if (memcmp(c->answer, "HTTP/1.1 202", 12) == 0) {
		run.accepted++;
	} else {
		complain(c);
	}
	if (!run.stopping)
		next_request(c);
}

static void lost(struct connection *c)
{
	if (c->waiting) {
		c->waiting = false;
		run.waiting--;
		complain(c);
	}
	close(c->fd);
	if (run.stopping)
		return;
	open_connection(c);
	next_request(c);
}

static void pull(struct connection *c)
{
	ssize_t n = recv(c->fd, c->answer + c->have, sizeof(c->answer) - c->have, 0);
	size_t length;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || !c->waiting) {
		lost(c);
		return;
	}
	c->have += (size_t)n;
	length = answer_length(c);
	if (length > sizeof(c->answer))
		lost(c);
	else if (length && c->have >= length)
		answered(c);
}

static void serve_events(uint64_t until)
{
	struct epoll_event events[EVENTS];
	uint64_t now;

	while ((now = now_us()) < until && run.waiting) {
		int n = epoll_wait(run.epoll, events, EVENTS, (int)((until - now) / 1000) + 1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				pull(c);
			else
				push(c);
		}
	}
}

static void print_result(double elapsed)
{
	struct rusage used;
	unsigned long all = run.created + run.created_late + run.accepted + run.errors;

	getrusage(RUSAGE_SELF, &used);
	double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
		     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
	printf("rate=%.1f created=%lu accepted=%lu errors=%lu stored=%lu p50=%" PRIu64
	       " p90=%" PRIu64 " p99=%" PRIu64 " max=%" PRIu64 " cpu=%.1f\n",
	       (double)run.created / elapsed, run.created, run.accepted, run.errors + run.waiting,
	       run.created + run.created_late, percentile(0.5), percentile(0.9), percentile(0.99),
	       percentile(1), all ? cpu / (double)all : 0);
}

static void usage(void)
{
	fprintf(stderr, "usage: put_load PORT CONNECTIONS SECONDS [--bytes N] [--form TARGET]\n");
	exit(2);
}

static void read_arguments(int argc, char **argv)
{
	if (argc < 4 || argc % 2 != 0)
		usage();
	run.port = (uint16_t)strtoul(argv[1], NULL, 10);
	run.connections = (unsigned)strtoul(argv[2], NULL, 10);
	run.seconds = strtod(argv[3], NULL);
	for (int i = 4; i < argc; i += 2) {
		if (strcmp(argv[i], "--bytes") == 0)
			run.bytes = strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--form") == 0)
			run.form = argv[i + 1];
		else
			usage();
	}
	if (!run.port || !run.connections || run.connections > CONNECTIONS_MAX ||
	    run.seconds <= 0 || run.bytes > BYTES_MAX)
		usage();
}

int main(int argc, char **argv)
{
	struct connection *all;
	uint64_t begun;
	double elapsed;

	read_arguments(argc, argv);
	build_body();
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	all = calloc(run.connections, sizeof(*all));
	if (run.epoll < 0 || !all)
		die("start");
	for (unsigned i = 0; i < run.connections; i++) {
		all[i].request = malloc(2 * HEAD_MAX + run.body_length);
		if (!all[i].request)
			die("malloc");
		open_connection(&all[i]);
	}
	begun = now_us();
	for (unsigned i = 0; i < run.connections; i++)
		next_request(&all[i]);
	serve_events(begun + (uint64_t)(run.seconds * 1e6));
	elapsed = (double)(now_us() - begun) / 1e6;
	run.stopping = true;
	serve_events(now_us() + DRAIN_S * 1000000ull);
	print_result(elapsed);
	return 0;
}
