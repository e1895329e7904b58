/*
 * A private PostgreSQL for tests: its own directory, a unix socket only, stopped when the program ends, however it ends.
 *
 * postgres is a child of this program, under an unprivileged account where the program is root's. A watcher process holds
 * the other end of a pipe: when the program dies, the pipe closes and the watcher ends the server (paused or not) and
 * removes the directory. initdb's work is kept beside the program as a template.
 */
#ifndef DEPOTD_TESTS_UNIT_POSTGRES_CLUSTER_H
#define DEPOTD_TESTS_UNIT_POSTGRES_CLUSTER_H

#include <stdbool.h>

struct postgres_cluster;

/*
 * The program's one cluster, started by the first call. NULL where PostgreSQL's binaries are missing (says so once) or do not
 * run. Safe against power cuts it is not: fsync is off.
 */
struct postgres_cluster *postgres_cluster(void);
/* Another one, for tests that stop it. `options` are further ones of postgres: "-c max_connections=5". */
struct postgres_cluster *postgres_cluster_new(const char *options);
void postgres_cluster_free(struct postgres_cluster **cluster);

/* Makes an empty database; the URL, in memory of the cluster's until the next call. */
const char *postgres_cluster_database(struct postgres_cluster *cluster, const char *name);
/* The path of its unix socket. */
const char *postgres_cluster_socket(const struct postgres_cluster *cluster);
/* Runs SQL as superuser; the first value of the last result, or "" (memory of the cluster's until the next call). */
const char *postgres_cluster_query(struct postgres_cluster *cluster, const char *database,
				   const char *sql);

void postgres_cluster_stop(struct postgres_cluster *cluster,
			   bool crash); /* waits until it is down */
/* after a stop; waits until it is up */
bool postgres_cluster_start(struct postgres_cluster *cluster);
/* SIGSTOP and SIGCONT to the server and all its backends. */
void postgres_cluster_pause(struct postgres_cluster *cluster);
void postgres_cluster_resume(struct postgres_cluster *cluster);

#endif
