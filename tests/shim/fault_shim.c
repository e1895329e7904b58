/*
 * Makes system calls and allocations of an unchanged binary fail, for tests: LD_PRELOAD=build/fault_shim.so. Never part of depotd.
 *
 * It stands before libc for the functions of the table at the end of this file (those that depotd, SQLite, libpq and libmicrohttpd
 * use on files, and the allocator) and lets each call pass, unless a rule says otherwise. Rules are lines of text:
 *
 *     FUNCTION[,FUNCTION…] [below=DIR] [path=TEXT] [kind=dir|file] [opening=write] [nth=N] [times=N] ACTION…
 *
 *     write,pwrite below=/data nth=3 error=ENOSPC       the third such call and all after it fail
 *     fsync below=/data kind=dir times=1 error=EIO      the next one fails, then all is well again
 *     write below=/data short=7                         every write takes 7 bytes at the most
 *     write,fsync below=/data delay=1000                each takes a second more
 *     linkat nth=2 times=1 kill                         SIGKILL instead of the second call; `kill after`: right behind it
 *     fdatasync times=1 error=EIO after                 done, but said to have failed
 *     alloc nth=100 times=1 error=ENOMEM                the 100th allocation (malloc, calloc, realloc, …) is refused
 *     openat,openat2 opening=write error=EROFS          opens for reading pass
 *     any below=/data                                   only counts
 *
 * FUNCTION is a name of the table, `alloc`, or `any` (all but alloc). open64 counts as open, pwrite64 as pwrite and so on; openat2
 * by syscall() is `openat2`; a durable write by io_submit() counts as the pwrite and the fdatasync that it stands for. below=
 * and path= look at the full path of what the call is about (of linkat and renameat: the new name; of alloc: the object file
 * that asks; of an O_TMPFILE: its directory). nth counts the calls that match, from 1; times is how many of them from there
 * on are hit (0, the default: all). Of several rules that hit, delays add up and the first error counts.
 *
 * The rules come from $FAULT_SHIM_RULES (`;` for a line's end), or from the file $FAULT_SHIM_CONTROL, which a test may
 * rewrite while the process runs (tests/http/fault_shim.py does it). That file is mapped, so looking whether it changed costs
 * nothing:
 *
 *     0     uint64  generation: odd while the test writes, another even number when new rules stand; all counters begin anew
 *     8     uint64  generation that was read last
 *     64    of each rule two uint64: calls that matched, calls that were hit
 *     4096  the text of the rules, with a NUL behind it
 *
 * $FAULT_SHIM_LOG names a file that gets a line for each call hit: function, path, action. A rule that cannot be read ends the
 * process with 99. Threads: all; no lock is held while a call runs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 64, TABLES = 16, COUNTERS_AT = 64, TEXT_AT = 4096, CONTROL_SIZE = 65536 };

enum call {
	CALL_OPEN,
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_CLOSE,
	CALL_READ,
	CALL_PREAD,
	CALL_WRITE,
	CALL_PWRITE,
	CALL_WRITEV,
	CALL_PWRITEV,
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_SYNCFS,
	CALL_SYNC_FILE_RANGE,
	CALL_LINKAT,
	CALL_RENAMEAT,
	CALL_UNLINKAT,
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_FSETXATTR,
	CALL_FGETXATTR,
	CALL_MKDIRAT,
	CALL_STATVFS,
	CALL_STATX,
	CALL_SENDFILE,
	CALL_MMAP,
	CALL_COUNT,
	CALL_ALLOC = CALL_COUNT,
};

static const char *const call_names[] = {
	"open",    "openat",   "openat2",  "close",     "read",      "pread",     "write",
	"pwrite",  "writev",   "pwritev",  "fsync",     "fdatasync", "syncfs",    "sync_file_range",
	"linkat",  "renameat", "unlinkat", "ftruncate", "fallocate", "fsetxattr", "fgetxattr",
	"mkdirat", "statvfs",  "statx",    "sendfile",  "mmap",      "alloc",
};
_Static_assert(sizeof(call_names) / sizeof(*call_names) == CALL_ALLOC + 1, "a name for each");

static const struct {
	const char *name;
	int number;
} errors[] = {
	{"EPERM", EPERM},     {"ENOENT", ENOENT}, {"EINTR", EINTR},
	{"EIO", EIO},         {"EAGAIN", EAGAIN}, {"ENOMEM", ENOMEM},
	{"EACCES", EACCES},   {"EEXIST", EEXIST}, {"EXDEV", EXDEV},
	{"EINVAL", EINVAL},   {"ENFILE", ENFILE}, {"EMFILE", EMFILE},
	{"EFBIG", EFBIG},     {"ENOSPC", ENOSPC}, {"EROFS", EROFS},
	{"EMLINK", EMLINK},   {"ENOSYS", ENOSYS}, {"EOPNOTSUPP", EOPNOTSUPP},
	{"EDQUOT", EDQUOT},   {"ESTALE", ESTALE}, {"ETIMEDOUT", ETIMEDOUT},
	{"E2BIG", E2BIG},     {"ERANGE", ERANGE}, {"ENODATA", ENODATA},
	{"EUCLEAN", EUCLEAN}, {"ENODEV", ENODEV}, {"ENXIO", ENXIO},
};

struct rule {
	uint32_t calls; /* one bit for each call */
	char below[512], path[128];
	size_t below_len;
	char kind; /* 'd', 'f' or 0 */
	uint64_t nth, times;
	int error;
	size_t shorter; /* 0: not */
	long delay_ms;
	bool kill, after, writing;
	_Atomic uint64_t *matched, *hit; /* in the control file, or in the two below */
	_Atomic uint64_t own_matched, own_hit;
};

struct table {
	struct rule rules[RULES_MAX];
	size_t n;
	uint32_t calls; /* of all rules together */
};

/* What is to be done about one call. */
struct verdict {
	int error; /* 0: none */
	size_t shorter;
	bool kill, after;
};

/* A reader may still look at the table before the present one, never at one 16 generations old. */
static struct table tables[TABLES];
static _Atomic(struct table *) current;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static _Atomic uint64_t *control; /* the mapped file, or NULL */
static _Atomic uint64_t loaded;
static int log_fd = -1;
/* The shim's own calls, and those of libc in its service, are let through. */
static _Thread_local bool inside __attribute__((tls_model("initial-exec")));
/* Flags of the open() that is being judged. */
static _Thread_local int opening __attribute__((tls_model("initial-exec")));

static void die(const char *what, const char *text)
{
	dprintf(2, "fault_shim: %s: %s\n", what, text);
	_exit(99);
}

/* --- reading the rules --- */

static uint32_t parse_calls(char *list)
{
	uint32_t calls = 0;
	char *rest = NULL;
	for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		uint32_t bit = strcmp(name, "any") == 0 ? (UINT32_C(1) << CALL_COUNT) - 1 : 0;
		for (unsigned i = 0; i <= CALL_ALLOC; i++)
			if (strcmp(name, call_names[i]) == 0)
				bit = UINT32_C(1) << i;
		if (!bit)
			die("no such function", name);
		calls |= bit;
	}
	return calls;
}

static int parse_error(const char *name)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (strcmp(name, errors[i].name) == 0)
			return errors[i].number;
	die("no such error", name);
	return 0;
}

static unsigned long parse_number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (*end || end == text)
		die("no number", text);
	return n;
}

static void parse_word(struct rule *rule, const char *word)
{
	const char *value = strchr(word, '=');
	size_t n = value ? (size_t)(value - word) : strlen(word);
	value = value ? value + 1 : "";
#define IS(name) (n == sizeof(name) - 1 && memcmp(word, name, n) == 0)
	if (IS("below") && strlen(value) < sizeof(rule->below))
		rule->below_len = (size_t)snprintf(rule->below, sizeof(rule->below), "%s", value);
	else if (IS("path") && strlen(value) < sizeof(rule->path))
		snprintf(rule->path, sizeof(rule->path), "%s", value);
	else if (IS("kind") && (strcmp(value, "dir") == 0 || strcmp(value, "file") == 0))
		rule->kind = value[0];
	else if (IS("opening") && strcmp(value, "write") == 0)
		rule->writing = true;
	else if (IS("nth"))
		rule->nth = parse_number(value);
	else if (IS("times"))
		rule->times = parse_number(value);
	else if (IS("error"))
		rule->error = parse_error(value);
	else if (IS("short"))
		rule->shorter = parse_number(value);
	else if (IS("delay"))
		rule->delay_ms = (long)parse_number(value);
	else if (IS("kill"))
		rule->kill = true;
	else if (IS("after"))
		rule->after = true;
	else
		die("not understood", word);
#undef IS
}

static void parse(struct table *table, char *text)
{
	char *line_rest = NULL, *word_rest = NULL;
	memset(table, 0, sizeof(*table));
	for (char *line = strtok_r(text, ";\n", &line_rest); line;
	     line = strtok_r(NULL, ";\n", &line_rest)) {
		char *word = strtok_r(line, " \t", &word_rest);
		if (!word || *word == '#')
			continue;
		if (table->n == RULES_MAX)
			die("too many rules", line);
		struct rule *rule = &table->rules[table->n];
		rule->nth = 1;
		rule->calls = parse_calls(word);
		while ((word = strtok_r(NULL, " \t", &word_rest)))
			parse_word(rule, word);
		rule->matched =
			control ? control + COUNTERS_AT / 8 + table->n * 2 : &rule->own_matched;
		rule->hit = control ? rule->matched + 1 : &rule->own_hit;
		table->calls |= rule->calls;
		table->n++;
	}
}

/*
 * Takes over what the test wrote, unless it is still writing. Whoever comes while another thread does this waits for it: by the old
 * rules he would be judged after the test has seen its own call return.
 */
static void reload(void)
{
	static unsigned next;
	static char text[CONTROL_SIZE - TEXT_AT];
	pthread_mutex_lock(&loading);
	uint64_t generation = atomic_load(control);
	if (generation % 2 == 0 && generation != atomic_load(&loaded)) {
		memcpy(text, (const char *)control + TEXT_AT, sizeof(text) - 1);
		if (atomic_load(control) == generation) {
			for (size_t i = 0; i < (size_t)RULES_MAX * 2; i++)
				atomic_store(control + COUNTERS_AT / 8 + i, 0);
			struct table *table = &tables[next++ % TABLES];
			parse(table, text);
			atomic_store(&current, table);
			atomic_store(&loaded, generation);
			atomic_store(control + 1, generation);
		}
	}
	pthread_mutex_unlock(&loading);
}

static void start(void)
{
	const char *path = getenv("FAULT_SHIM_CONTROL"), *rules = getenv("FAULT_SHIM_RULES");
	const char *log_path = getenv("FAULT_SHIM_LOG");
	if (log_path)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_path,
				      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (path) {
		int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
		void *map = mmap(NULL, CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd < 0 || map == MAP_FAILED)
			die("cannot map", path);
		syscall(SYS_close, fd);
		control = map;
		reload();
	} else if (rules) {
		static char text[CONTROL_SIZE];
		snprintf(text, sizeof(text), "%s", rules);
		parse(&tables[0], text);
		atomic_store(&current, &tables[0]);
	}
}

/* --- looking at a call --- */

/* The full path of what stands behind dir and name (NULL: the descriptor itself); "" where it cannot be told. */
static void full_path(int dir, const char *name, char *out, size_t size)
{
	char link[64];
	long n = 0;
	out[0] = '\0';
	if (!name || name[0] != '/') {
		if (dir == AT_FDCWD)
			snprintf(link, sizeof(link), "/proc/self/cwd");
		else
			snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
		n = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
		if (n < 0)
			n = 0;
		out[n] = '\0';
	}
	if (name)
		snprintf(out + n, size - (size_t)n, "%s%s", name[0] == '/' ? "" : "/", name);
}

static bool is_directory(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool matches(const struct rule *rule, enum call call, int fd, const char *path)
{
	if (!(rule->calls >> call & 1))
		return false;
	if (rule->below_len && (strncmp(path, rule->below, rule->below_len) != 0 ||
				(path[rule->below_len] && path[rule->below_len] != '/')))
		return false;
	if (rule->path[0] && !strstr(path, rule->path))
		return false;
	if (rule->writing && (call > CALL_OPENAT2 || !(opening & (O_WRONLY | O_RDWR | O_CREAT))))
		return false;
	return !rule->kind || (rule->kind == 'd') == is_directory(fd);
}

static void note(enum call call, const char *path, const struct rule *rule)
{
	char line[1200];
	if (log_fd < 0)
		return;
	int n = snprintf(line, sizeof(line), "%s %.1000s error=%d short=%zu delay=%ld%s%s\n",
			 call_names[call], path, rule->error, rule->shorter, rule->delay_ms,
			 rule->kill ? " kill" : "", rule->after ? " after" : "");
	syscall(SYS_write, log_fd, line, n);
}

static void pause_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

static void judge_by(struct table *table, enum call call, int fd, const char *path,
		     struct verdict *verdict)
{
	long delay_ms = 0;
	for (size_t i = 0; i < table->n; i++) {
		struct rule *rule = &table->rules[i];
		if (!matches(rule, call, fd, path))
			continue;
		uint64_t nth = atomic_fetch_add(rule->matched, 1) + 1;
		if (nth < rule->nth || (rule->times && nth >= rule->nth + rule->times))
			continue;
		atomic_fetch_add(rule->hit, 1);
		note(call, path, rule);
		delay_ms += rule->delay_ms;
		if (verdict->error || verdict->kill)
			continue;
		verdict->error = rule->error;
		verdict->kill = rule->kill;
		verdict->after = rule->after;
		if (rule->shorter)
			verdict->shorter = rule->shorter;
	}
	if (delay_ms)
		pause_ms(delay_ms);
}

static void kill_now(void)
{
	syscall(SYS_kill, getpid(), SIGKILL);
	for (;;)
		pause();
}

/*
 * fd: what the call is about, or AT_FDCWD/a directory with name. caller: for allocations. Errno is left alone. Kills right here
 * where it is not to be afterwards.
 */
static struct verdict judge(enum call call, int fd, const char *name, void *caller)
{
	struct verdict verdict = {0};
	if (inside)
		return verdict;
	int saved = errno;
	inside = true;
	if (call != CALL_ALLOC) /* libraries may allocate before this one was started */
		pthread_once(&started, start);
	if (control && atomic_load(control) != atomic_load(&loaded))
		reload();
	struct table *table = atomic_load(&current);
	if (table && (table->calls >> call & 1)) {
		char path[PATH_MAX] = "";
		Dl_info info;
		if (call != CALL_ALLOC)
			full_path(fd, name, path, sizeof(path));
		else if (dladdr(caller, &info) && info.dli_fname)
			snprintf(path, sizeof(path), "%s", info.dli_fname);
		judge_by(table, call, fd, path, &verdict);
	}
	if (verdict.kill && !verdict.after)
		kill_now();
	inside = false;
	errno = saved;
	return verdict;
}

__attribute__((constructor)) static void begin(void)
{
	(void)judge(CALL_CLOSE, -1, NULL, NULL);
}

/* What the call comes to, when the real one (which ran only if it was to) came to result. */
static long conclude(const struct verdict *verdict, long result)
{
	if (verdict->kill)
		kill_now();
	if (!verdict->error)
		return result;
	errno = verdict->error;
	return -1;
}

/* The next definition of a function: libc's. */
static void *next(_Atomic(void *) *cache, const char *name)
{
	void *found = atomic_load(cache);
	if (!found) {
		bool before = inside;
		inside = true;
		found = dlsym(RTLD_NEXT, name);
		inside = before;
		if (!found)
			die("libc has no", name);
		atomic_store(cache, found);
	}
	return found;
}

/* --- the functions --- */

/*
 * One function: judged, then called unless it is to fail. fd and name say what it is about. The cast through a union of nothing
 * but memcpy is what POSIX asks for between dlsym()'s pointer and a function's.
 */
#define PASS(result, name, type, call, fd, path, args)                                             \
	static _Atomic(void *) cache_;                                                             \
	__typeof__(type) real_;                                                                    \
	void *found_ = next(&cache_, name);                                                        \
	memcpy(&real_, &found_, sizeof(real_));                                                    \
	struct verdict v_ = judge(call, fd, path, NULL);                                           \
	if (v_.error && !v_.after)                                                                 \
		return (result)conclude(&v_, -1);                                                  \
	return (result)conclude(&v_, (long)real_ args)

#define SHORTER(n) (v_.shorter && (n) > v_.shorter ? v_.shorter : (n))

/* Also keeps the flags for the rules. */
static mode_t mode_of(int flags, va_list more)
{
	opening = flags;
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPEN(function)                                                                             \
	int function(const char *path, int flags, ...);                                            \
	int function(const char *path, int flags, ...)                                             \
	{                                                                                          \
		va_list more;                                                                      \
		va_start(more, flags);                                                             \
		mode_t mode = mode_of(flags, more);                                                \
		va_end(more);                                                                      \
		PASS(int, #function, int (*)(const char *, int, ...), CALL_OPEN, AT_FDCWD, path,   \
		     (path, flags, mode));                                                         \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(function)                                                                           \
	int function(int dir, const char *path, int flags, ...);                                   \
	int function(int dir, const char *path, int flags, ...)                                    \
	{                                                                                          \
		va_list more;                                                                      \
		va_start(more, flags);                                                             \
		mode_t mode = mode_of(flags, more);                                                \
		va_end(more);                                                                      \
		PASS(int, #function, int (*)(int, const char *, int, ...), CALL_OPENAT, dir, path, \
		     (dir, path, flags, mode));                                                    \
	}
OPENAT(openat)
OPENAT(openat64)

/*
 * A write with RWF_DSYNC that a thread has submitted, and waits for: done at once, as the two calls that it stands for, each judged
 * as such.
 */
static _Thread_local struct io_event submitted;
static _Thread_local bool is_submitted;

static long submit(const struct iocb *request)
{
	int saved = errno;
	ssize_t done = pwrite((int)request->aio_fildes, (const void *)(uintptr_t)request->aio_buf,
			      (size_t)request->aio_nbytes, request->aio_offset);
	if (done >= 0 && (request->aio_rw_flags & RWF_DSYNC) != 0 &&
	    fdatasync((int)request->aio_fildes) < 0)
		done = -1;
	submitted = (struct io_event){.res = done < 0 ? -errno : done};
	is_submitted = true;
	errno = saved;
	return 1;
}

long syscall(long number, ...)
{
	long a[6];
	va_list more;
	va_start(more, number);
	for (size_t i = 0; i < 6; i++)
		a[i] = va_arg(more, long);
	va_end(more);
	if (number == SYS_openat2) {
		struct open_how how;
		memcpy(&how, (const void *)a[2], sizeof(how));
		opening = (int)how.flags;
		PASS(long, "syscall", long (*)(long, ...), CALL_OPENAT2, (int)a[0],
		     (const char *)a[1], (number, a[0], a[1], a[2], a[3], a[4], a[5]));
	}
	if (number == SYS_io_submit && a[1] == 1 &&
	    (**(struct iocb **)a[2]).aio_lio_opcode == IOCB_CMD_PWRITE)
		return submit(*(struct iocb **)a[2]);
	if (number == SYS_io_getevents && is_submitted) {
		memcpy((void *)a[3], &submitted, sizeof(submitted));
		is_submitted = false;
		return 1;
	}
	static _Atomic(void *) cache;
	long (*real)(long, ...);
	void *found = next(&cache, "syscall");
	memcpy(&real, &found, sizeof(real));
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* An error of close() is told after the descriptor is gone, as Linux does. */
int close(int fd)
{
	static _Atomic(void *) cache;
	int (*real)(int);
	void *found = next(&cache, "close");
	memcpy(&real, &found, sizeof(real));
	struct verdict verdict = judge(CALL_CLOSE, fd, NULL, NULL);
	return (int)conclude(&verdict, real(fd));
}

ssize_t read(int fd, void *data, size_t n)
{
	PASS(ssize_t, "read", ssize_t(*)(int, void *, size_t), CALL_READ, fd, NULL,
	     (fd, data, SHORTER(n)));
}

ssize_t write(int fd, const void *data, size_t n)
{
	PASS(ssize_t, "write", ssize_t(*)(int, const void *, size_t), CALL_WRITE, fd, NULL,
	     (fd, data, SHORTER(n)));
}

#define AT_OFFSET(function, call, constant)                                                        \
	ssize_t function(int fd, constant void *data, size_t n, off_t offset);                     \
	ssize_t function(int fd, constant void *data, size_t n, off_t offset)                      \
	{                                                                                          \
		PASS(ssize_t, #function, ssize_t (*)(int, constant void *, size_t, off_t), call,   \
		     fd, NULL, (fd, data, SHORTER(n), offset));                                    \
	}
AT_OFFSET(pread, CALL_PREAD, )
AT_OFFSET(pread64, CALL_PREAD, )
AT_OFFSET(pwrite, CALL_PWRITE, const)
AT_OFFSET(pwrite64, CALL_PWRITE, const)

/* A short one takes the first piece alone, cut: what to take instead of the n pieces. */
struct pieces {
	struct iovec one;
	const struct iovec *at;
	int n;
};

static struct pieces cut(size_t shorter, const struct iovec *at, int n)
{
	struct pieces pieces = {{0}, at, n};
	if (shorter && n >= 1) {
		pieces.one = at[0];
		if (pieces.one.iov_len > shorter)
			pieces.one.iov_len = shorter;
		pieces.n = 1;
		pieces.at = NULL;
	}
	return pieces;
}

static ssize_t writev_cut(ssize_t (*real)(int, const struct iovec *, int), size_t shorter, int fd,
			  const struct iovec *at, int n)
{
	struct pieces pieces = cut(shorter, at, n);
	return real(fd, pieces.at ? pieces.at : &pieces.one, pieces.n);
}

static ssize_t pwritev_cut(ssize_t (*real)(int, const struct iovec *, int, off_t), size_t shorter,
			   int fd, const struct iovec *at, int n, off_t offset)
{
	struct pieces pieces = cut(shorter, at, n);
	return real(fd, pieces.at ? pieces.at : &pieces.one, pieces.n, offset);
}

ssize_t writev(int fd, const struct iovec *at, int n)
{
	static _Atomic(void *) cache;
	ssize_t (*real)(int, const struct iovec *, int);
	void *found = next(&cache, "writev");
	memcpy(&real, &found, sizeof(real));
	struct verdict v = judge(CALL_WRITEV, fd, NULL, NULL);
	if (v.error && !v.after)
		return conclude(&v, -1);
	return conclude(&v, writev_cut(real, v.shorter, fd, at, n));
}

#define PWRITEV(function)                                                                          \
	ssize_t function(int fd, const struct iovec *at, int n, off_t offset);                     \
	ssize_t function(int fd, const struct iovec *at, int n, off_t offset)                      \
	{                                                                                          \
		static _Atomic(void *) cache;                                                      \
		ssize_t (*real)(int, const struct iovec *, int, off_t);                            \
		void *found = next(&cache, #function);                                             \
		memcpy(&real, &found, sizeof(real));                                               \
		struct verdict v = judge(CALL_PWRITEV, fd, NULL, NULL);                            \
		if (v.error && !v.after)                                                           \
			return conclude(&v, -1);                                                   \
		return conclude(&v, pwritev_cut(real, v.shorter, fd, at, n, offset));              \
	}
PWRITEV(pwritev)
PWRITEV(pwritev64)

/* A function about the descriptor that is its first parameter. */
#define ON_FD(function, call, parameters, types, arguments)                                        \
	int function parameters;                                                                   \
	int function parameters                                                                    \
	{                                                                                          \
		PASS(int, #function, int(*) types, call, fd, NULL, arguments);                     \
	}
ON_FD(fsync, CALL_FSYNC, (int fd), (int), (fd))
ON_FD(fdatasync, CALL_FDATASYNC, (int fd), (int), (fd))
ON_FD(syncfs, CALL_SYNCFS, (int fd), (int), (fd))
ON_FD(sync_file_range, CALL_SYNC_FILE_RANGE, (int fd, off_t from, off_t n, unsigned flags),
      (int, off_t, off_t, unsigned), (fd, from, n, flags))
ON_FD(ftruncate, CALL_FTRUNCATE, (int fd, off_t n), (int, off_t), (fd, n))
ON_FD(ftruncate64, CALL_FTRUNCATE, (int fd, off_t n), (int, off_t), (fd, n))
ON_FD(fallocate, CALL_FALLOCATE, (int fd, int mode, off_t from, off_t n), (int, int, off_t, off_t),
      (fd, mode, from, n))
ON_FD(fallocate64, CALL_FALLOCATE, (int fd, int mode, off_t from, off_t n),
      (int, int, off_t, off_t), (fd, mode, from, n))
ON_FD(fsetxattr, CALL_FSETXATTR, (int fd, const char *name, const void *value, size_t n, int flags),
      (int, const char *, const void *, size_t, int), (fd, name, value, n, flags))
ON_FD(fstatvfs, CALL_STATVFS, (int fd, struct statvfs *out), (int, struct statvfs *), (fd, out))
ON_FD(fstatvfs64, CALL_STATVFS, (int fd, struct statvfs64 *out), (int, struct statvfs64 *),
      (fd, out))

ssize_t fgetxattr(int fd, const char *name, void *value, size_t n)
{
	PASS(ssize_t, "fgetxattr", ssize_t(*)(int, const char *, void *, size_t), CALL_FGETXATTR,
	     fd, NULL, (fd, name, value, n));
}

/* posix_fallocate() returns its error. */
int posix_fallocate(int fd, off_t from, off_t n)
{
	return fallocate(fd, 0, from, n) < 0 ? errno : 0;
}

/* A function about a name below a directory; the rest are its parameters. */
#define ON_NAME(function, call, dir, name, parameters, types, arguments)                           \
	int function parameters;                                                                   \
	int function parameters                                                                    \
	{                                                                                          \
		PASS(int, #function, int(*) types, call, dir, name, arguments);                    \
	}
ON_NAME(linkat, CALL_LINKAT, to_dir, to,
	(int dir, const char *path, int to_dir, const char *to, int flags),
	(int, const char *, int, const char *, int), (dir, path, to_dir, to, flags))
ON_NAME(link, CALL_LINKAT, AT_FDCWD, to, (const char *path, const char *to),
	(const char *, const char *), (path, to))
ON_NAME(renameat, CALL_RENAMEAT, to_dir, to,
	(int dir, const char *path, int to_dir, const char *to),
	(int, const char *, int, const char *), (dir, path, to_dir, to))
ON_NAME(renameat2, CALL_RENAMEAT, to_dir, to,
	(int dir, const char *path, int to_dir, const char *to, unsigned flags),
	(int, const char *, int, const char *, unsigned), (dir, path, to_dir, to, flags))
ON_NAME(rename, CALL_RENAMEAT, AT_FDCWD, to, (const char *path, const char *to),
	(const char *, const char *), (path, to))
ON_NAME(unlinkat, CALL_UNLINKAT, dir, path, (int dir, const char *path, int flags),
	(int, const char *, int), (dir, path, flags))
ON_NAME(unlink, CALL_UNLINKAT, AT_FDCWD, path, (const char *path), (const char *), (path))
ON_NAME(mkdirat, CALL_MKDIRAT, dir, path, (int dir, const char *path, mode_t mode),
	(int, const char *, mode_t), (dir, path, mode))
ON_NAME(mkdir, CALL_MKDIRAT, AT_FDCWD, path, (const char *path, mode_t mode),
	(const char *, mode_t), (path, mode))
ON_NAME(statvfs, CALL_STATVFS, AT_FDCWD, path, (const char *path, struct statvfs *out),
	(const char *, struct statvfs *), (path, out))
ON_NAME(statvfs64, CALL_STATVFS, AT_FDCWD, path, (const char *path, struct statvfs64 *out),
	(const char *, struct statvfs64 *), (path, out))
ON_NAME(statx, CALL_STATX, dir, path,
	(int dir, const char *path, int flags, unsigned mask, struct statx *out),
	(int, const char *, int, unsigned, struct statx *), (dir, path, flags, mask, out))

#define SENDFILE(function)                                                                         \
	ssize_t function(int out, int in, off_t *offset, size_t n);                                \
	ssize_t function(int out, int in, off_t *offset, size_t n)                                 \
	{                                                                                          \
		PASS(ssize_t, #function, ssize_t (*)(int, int, off_t *, size_t), CALL_SENDFILE,    \
		     in, NULL, (out, in, offset, SHORTER(n)));                                     \
	}
SENDFILE(sendfile)
SENDFILE(sendfile64)

/* Of files alone: what libc and the allocator map for themselves is none of ours. */
#define MMAP(function)                                                                             \
	void *function(void *at, size_t n, int protection, int flags, int fd, off_t offset);       \
	void *function(void *at, size_t n, int protection, int flags, int fd, off_t offset)        \
	{                                                                                          \
		if (fd >= 0) {                                                                     \
			PASS(void *, #function, void *(*)(void *, size_t, int, int, int, off_t),   \
			     CALL_MMAP, fd, NULL, (at, n, protection, flags, fd, offset));         \
		}                                                                                  \
		static _Atomic(void *) cache;                                                      \
		void *(*real)(void *, size_t, int, int, int, off_t);                               \
		void *found = next(&cache, #function);                                             \
		memcpy(&real, &found, sizeof(real));                                               \
		return real(at, n, protection, flags, fd, offset);                                 \
	}
MMAP(mmap)
MMAP(mmap64)

/* --- the allocator: glibc's own, which strdup(), asprintf() and all the libraries come to through these names --- */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);

static bool refused(void *caller)
{
	struct verdict verdict = judge(CALL_ALLOC, -1, NULL, caller);
	return conclude(&verdict, 0) < 0;
}

void *malloc(size_t n)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(old, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, n);
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
	void *found = refused(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, n);
	if (!found)
		return ENOMEM;
	*out = found;
	return 0;
}
