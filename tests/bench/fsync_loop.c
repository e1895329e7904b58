/*
 * The yardstick of durable uploads: N threads, each making files one after the other as safely as plain POSIX can, with no HTTP and
 * no database: open(O_TMPFILE), write, fdatasync, linkat, fsync of the directory. Prints files per second.
 *
 *   fsync_loop DIRECTORY THREADS SECONDS [BYTES]
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_DEFAULT = 4096, BYTES_MAX = 1 << 20, THREADS_MAX = 1024 };

static struct {
	const char *directory;
	size_t bytes;
	atomic_bool stop;
	atomic_long files;
} run = {.bytes = BYTES_DEFAULT};

static void die(const char *what)
{
	fprintf(stderr, "fsync_loop: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void store_one(int directory, const char *bytes, unsigned thread, unsigned long number)
{
	char name[64], self[64];
	int fd = openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		die("open");
	if (write(fd, bytes, run.bytes) != (ssize_t)run.bytes)
		die("write");
	if (fdatasync(fd) < 0)
		die("fdatasync");
	snprintf(name, sizeof(name), "%u-%lu", thread, number);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, directory, name, AT_SYMLINK_FOLLOW) < 0)
		die("linkat");
	if (fsync(directory) < 0)
		die("fsync");
	close(fd);
}

static void *work(void *argument)
{
	unsigned thread = *(unsigned *)argument;
	char *bytes = malloc(BYTES_MAX);
	int directory = open(run.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!bytes || directory < 0)
		die(run.directory);
	memset(bytes, 'x', BYTES_MAX);
	for (unsigned long number = 0; !atomic_load(&run.stop); number++) {
		store_one(directory, bytes, thread, number);
		atomic_fetch_add(&run.files, 1);
	}
	close(directory);
	free(bytes);
	return NULL;
}

int main(int argc, char **argv)
{
	static pthread_t threads[THREADS_MAX];
	static unsigned numbers[THREADS_MAX];
	struct timespec before, after;
	unsigned long n, seconds;
	double elapsed;

	if (argc < 4 || (n = strtoul(argv[2], NULL, 10)) == 0 || n > THREADS_MAX ||
	    (seconds = strtoul(argv[3], NULL, 10)) == 0) {
		fprintf(stderr, "usage: fsync_loop DIRECTORY THREADS SECONDS [BYTES]\n");
		return 2;
	}
	run.directory = argv[1];
	if (argc > 4)
		run.bytes = strtoul(argv[4], NULL, 10);
	if (run.bytes > BYTES_MAX)
		run.bytes = BYTES_MAX;
	clock_gettime(CLOCK_MONOTONIC, &before);
	for (unsigned i = 0; i < n; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, work, &numbers[i]) != 0)
			die("pthread_create");
	}
	sleep((unsigned)seconds);
	atomic_store(&run.stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	elapsed = (double)(after.tv_sec - before.tv_sec) +
		  (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	printf("%.0f\n", (double)atomic_load(&run.files) / elapsed);
	return 0;
}
