/*
 * The yardstick of one upload's latency: what the disk and the database take for the least that makes anything durable, one
 * after the other: one fdatasync of 4 KiB written over a preallocated file, and one PostgreSQL transaction that inserts one
 * row.
 *
 *   commit_yardstick DIRECTORY CONNECTION-STRING SECONDS
 *
 * prints the medians, in microseconds: of the fdatasync, of the commit, and of the two together.
 */

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 4096, SAMPLES_MAX = 1 << 20 };

struct sample {
	double sync_us, commit_us;
};

static double medians[SAMPLES_MAX];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "commit_yardstick: %s: %s\n", what, why);
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Written once over its whole length: later writes change bytes and nothing of the file system's own. */
static int open_preallocated(const char *directory)
{
	static char block[BLOCK];
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/yardstick", directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die("open", path);
	memset(block, 'y', sizeof(block));
	for (off_t i = 0; i < BLOCKS; i++) {
		if (pwrite(fd, block, BLOCK, i * BLOCK) != BLOCK)
			die("write", path);
	}
	if (fsync(fd) < 0)
		die("fsync", path);
	return fd;
}

static void run_sql(PGconn *connection, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die("PostgreSQL", PQerrorMessage(connection));
	PQclear(result);
}

static PGconn *open_database(const char *conninfo)
{
	PGconn *connection = PQconnectdb(conninfo);

	if (PQstatus(connection) != CONNECTION_OK)
		die("PostgreSQL", PQerrorMessage(connection));
	run_sql(connection, PQexec(connection, "SET client_min_messages = warning"));
	run_sql(connection,
		PQexec(connection,
		       "CREATE TABLE IF NOT EXISTS yardstick (id bigserial PRIMARY KEY, "
		       "name text NOT NULL, size bigint NOT NULL)"));
	run_sql(connection,
		PQprepare(connection, "insert",
			  "INSERT INTO yardstick (name, size) VALUES ('upload', 4096)", 0, NULL));
	return connection;
}

static struct sample measure_once(int fd, PGconn *connection, unsigned number)
{
	char block[BLOCK];
	double begun, synced;

	memset(block, (int)number, sizeof(block));
	begun = now_us();
	if (pwrite(fd, block, BLOCK, (off_t)(number % BLOCKS) * BLOCK) != BLOCK ||
	    fdatasync(fd) < 0)
		die("fdatasync", "failed");
	synced = now_us();
	run_sql(connection, PQexecPrepared(connection, "insert", 0, NULL, NULL, NULL, 0));
	return (struct sample){.sync_us = synced - begun, .commit_us = now_us() - synced};
}

static int by_value(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* sync and commit say which of the two count. */
static double median(const struct sample *samples, size_t n, int sync, int commit)
{
	for (size_t i = 0; i < n; i++)
		medians[i] = sync * samples[i].sync_us + commit * samples[i].commit_us;
	qsort(medians, n, sizeof(*medians), by_value);
	return n ? medians[n / 2] : 0;
}

int main(int argc, char **argv)
{
	static struct sample samples[SAMPLES_MAX];
	size_t n = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: commit_yardstick DIRECTORY CONNECTION-STRING SECONDS\n");
		return 2;
	}
	int fd = open_preallocated(argv[1]);
	PGconn *connection = open_database(argv[2]);
	double until = now_us() + strtod(argv[3], NULL) * 1e6;
	while (n < SAMPLES_MAX && now_us() < until) {
		samples[n] = measure_once(fd, connection, (unsigned)n);
		n++;
	}
	PQfinish(connection);
	close(fd);
	printf("sync=%.0f commit=%.0f both=%.0f\n", median(samples, n, 1, 0),
	       median(samples, n, 0, 1), median(samples, n, 1, 1));
	return 0;
}
