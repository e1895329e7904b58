/* A private PostgreSQL for tests: see the header. One thread. */
#include "postgres_cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"

enum {
	TEXT_MAX = 512,
	CHILDREN_MAX = 512,
	START_TIMEOUT_S = 60,
	STARTS_MAX = 20,
	STOP_TIMEOUT_S = 20,
	ARGUMENTS_MAX = 64
};

struct postgres_cluster {
	char directory
		[64]; /* holds data and the socket; short, since a socket's path may have 107 bytes */
	char options[TEXT_MAX];
	char url[TEXT_MAX], socket[TEXT_MAX], answer[TEXT_MAX];
	pid_t server, watcher;
	int watched; /* the watcher's pipe */
};

static struct postgres_cluster *shared;

/* --- programs and accounts --- */

/* The folder of the newest PostgreSQL's programs, or NULL. */
static const char *programs(void)
{
	static char folder[PATH_MAX];
	static const char *const patterns[] = {"/usr/lib/postgresql/*/bin/initdb",
					       "/usr/local/bin/initdb", "/usr/bin/initdb"};

	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]) && !folder[0]; i++) {
		glob_t found;

		if (glob(patterns[i], 0, NULL, &found) == 0) {
			const char *path = found.gl_pathv[found.gl_pathc - 1];

			snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path),
				 path);
			globfree(&found);
		}
	}
	return folder[0] ? folder : NULL;
}

static const struct passwd *account(void)
{
	const struct passwd *user = getpwnam("postgres");

	return user ? user : getpwnam("nobody");
}

/* In a child: PostgreSQL does not run as root. */
static void become_unprivileged(void)
{
	const struct passwd *user = account();

	if (geteuid() != 0)
		return;
	if (!user || setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)
		_exit(127);
}

static void give_to_account(const char *path)
{
	const struct passwd *user = account();

	if (geteuid() == 0 && user && chown(path, user->pw_uid, user->pw_gid) < 0)
		perror(path);
}

/* In a child: output to a file of the cluster's, or nowhere. */
static void redirect(const char *path)
{
	int in = open("/dev/null", O_RDWR),
	    out = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : in;

	dup2(in, STDIN_FILENO);
	dup2(out < 0 ? in : out, STDOUT_FILENO);
	dup2(out < 0 ? in : out, STDERR_FILENO);
	close_range(STDERR_FILENO + 1, ~0U, 0);
}

/* Runs a program to its end. */
static bool run(const char *const *arguments)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		become_unprivileged();
		redirect(NULL);
		execv(arguments[0], (char *const *)(uintptr_t)arguments);
		_exit(127);
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* --- ending, from here or from the watcher --- */

/* The server and its children: backends have sessions of their own, so no group holds them all. */
static size_t family(pid_t server, pid_t out[CHILDREN_MAX])
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	if (server > 0)
		out[n++] = server;
	while (proc && (entry = readdir(proc)) && n < CHILDREN_MAX) {
		char path[PATH_MAX], line[TEXT_MAX] = "", *end;
		int pid = (int)strtol(entry->d_name, NULL, 10), parent = 0, fd;

		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, line, sizeof(line) - 1) > 0 && (end = strrchr(line, ')')) &&
		    sscanf(end, ") %*c %d", &parent) == 1 && parent == server)
			out[n++] = pid;
		close(fd);
	}
	if (proc)
		closedir(proc);
	return n;
}

static void signal_family(pid_t server, int number)
{
	pid_t members[CHILDREN_MAX];
	size_t n = family(server, members);

	for (size_t i = 0; i < n; i++)
		kill(members[i], number);
}

/* The watcher: outlives the program by as long as it takes to clean up. It is told the server's pid through the pipe. */
static void watch(int pipe_end, const char *directory)
{
	pid_t server = 0, told;

	setsid();
	for (int number = 1; number < 32; number++)
		signal(number, SIG_IGN);
	while (read(pipe_end, &told, sizeof(told)) == (ssize_t)sizeof(told))
		server = told;
	if (server > 0) {
		signal_family(server, SIGKILL); /* ends what is paused, too */
	}
	scratch_remove(directory);
	_exit(0);
}

static bool start_watcher(struct postgres_cluster *c)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	c->watcher = fork();
	if (c->watcher == 0) {
		dup2(ends[0], STDIN_FILENO);
		int nowhere = open("/dev/null", O_RDWR);
		dup2(nowhere, STDOUT_FILENO);
		dup2(nowhere, STDERR_FILENO);
		close_range(STDERR_FILENO + 1, ~0U, 0);
		watch(STDIN_FILENO, c->directory);
	}
	close(ends[0]);
	c->watched = ends[1];
	return c->watcher > 0;
}

/* --- making --- */

static bool init_data(const char *data)
{
	char initdb[PATH_MAX];
	/* A linguistic order for the database's default, so that a forgotten COLLATE "C" shows. */
	const char *icu[] = {initdb,
			     "-D",
			     data,
			     "-U",
			     "depotd",
			     "-A",
			     "trust",
			     "-N",
			     "-E",
			     "UTF8",
			     "--locale=C.UTF-8",
			     "--locale-provider=icu",
			     "--icu-locale=de",
			     NULL};
	const char *plain[] = {initdb,  "-D", data, "-U",   "depotd",           "-A",
			       "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8", NULL};

	snprintf(initdb, sizeof(initdb), "%s/initdb", programs());
	return run(icu) || run(plain);
}

/* Beside the program: $BUILD/tests/unit/postgres-template. Only ever renamed into place whole. */
static bool template_path(char *out, size_t max)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return false;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	return snprintf(out, max, "%s/postgres-template", self) < (int)max;
}

static bool copy_tree(const char *from, const char *to)
{
	const char *arguments[] = {"/bin/cp", "-a", from, to, NULL};

	return run(arguments);
}

static bool make_data(const struct postgres_cluster *c)
{
	char template[PATH_MAX], fresh[PATH_MAX + 16], data[TEXT_MAX];

	snprintf(data, sizeof(data), "%s/data", c->directory);
	if (template_path(template, sizeof(template)) && copy_tree(template, data))
		return true;
	scratch_remove(data);
	if (!init_data(data))
		return false;
	/* Keep it for the next program; two that try at once do not disturb each other. */
	snprintf(fresh, sizeof(fresh), "%s.%d", template, (int)getpid());
	if (mkdir(fresh, 0700) == 0) {
		char inside[PATH_MAX + 32];

		give_to_account(fresh);
		snprintf(inside, sizeof(inside), "%s/data", fresh);
		if (!copy_tree(data, inside) || rename(inside, template) < 0)
			scratch_remove(inside);
		scratch_remove(fresh);
	}
	return true;
}

static size_t split(char *text, char **words, size_t max)
{
	size_t n = 0;
	char *word;

	while (text && n < max) {
		word = strsep(&text, " ");
		if (word[0])
			words[n++] = word;
	}
	return n;
}

static void exec_server(const struct postgres_cluster *c)
{
	char program[PATH_MAX], data[TEXT_MAX], log[TEXT_MAX], options[2 * TEXT_MAX];
	char *arguments[ARGUMENTS_MAX] = {program, (char[]){"-D"}, data, (char[]){"-k"},
					  (char *)(uintptr_t)c->directory};
	size_t n = 5;

	snprintf(program, sizeof(program), "%s/postgres", programs());
	snprintf(data, sizeof(data), "%s/data", c->directory);
	snprintf(log, sizeof(log), "%s/log", c->directory);
	snprintf(options, sizeof(options),
		 "-c listen_addresses= -c fsync=off -c full_page_writes=off -c shared_buffers=64MB "
		 "-c max_connections=64 "
		 "-c max_wal_size=256MB -c autovacuum_naptime=5 %s",
		 c->options);
	n += split(options, arguments + n, ARGUMENTS_MAX - n - 1);
	setsid();
	become_unprivileged();
	redirect(log);
	execv(program, arguments);
	_exit(127);
}

static bool answers(struct postgres_cluster *c)
{
	char url[TEXT_MAX];

	snprintf(url, sizeof(url), "host=%s user=depotd dbname=postgres", c->directory);
	return PQping(url) == PQPING_OK;
}

static void print_log(const struct postgres_cluster *c)
{
	char path[TEXT_MAX], line[TEXT_MAX];
	FILE *log;

	snprintf(path, sizeof(path), "%s/log", c->directory);
	log = fopen(path, "re");
	while (log && fgets(line, sizeof(line), log))
		fprintf(stderr, "postgres: %s", line);
	if (log)
		fclose(log);
}

static bool start_server(struct postgres_cluster *c)
{
	c->server = fork();
	if (c->server == 0)
		exec_server(c);
	return c->server > 0 &&
	       write(c->watched, &c->server, sizeof(c->server)) == (ssize_t)sizeof(c->server);
}

/* A server does not start while a backend of one that was killed still has its shared memory: then it is tried again. */
bool postgres_cluster_start(struct postgres_cluster *c)
{
	int starts = 1;

	if (!start_server(c))
		return false;
	for (int tries = 0; tries < START_TIMEOUT_S * 100; tries++) {
		if (answers(c))
			return true;
		if (waitpid(c->server, NULL, WNOHANG) == c->server &&
		    (++starts > STARTS_MAX || !start_server(c)))
			break;
		poll(NULL, 0, 10);
	}
	print_log(c);
	return false;
}

void postgres_cluster_stop(struct postgres_cluster *c, bool crash)
{
	pid_t nobody = 0;

	if (c->server <= 0)
		return;
	if (crash)
		signal_family(c->server, SIGKILL);
	kill(c->server, SIGINT);
	for (int tries = 0; waitpid(c->server, NULL, WNOHANG) == 0; tries++) {
		if (tries == STOP_TIMEOUT_S * 100)
			signal_family(c->server, SIGKILL);
		poll(NULL, 0, 10);
	}
	c->server = 0;
	if (write(c->watched, &nobody, sizeof(nobody)) < 0)
		perror("watcher");
}

struct postgres_cluster *postgres_cluster_new(const char *options)
{
	struct postgres_cluster *c;

	if (!programs()) {
		fprintf(stderr, "PostgreSQL's programs (initdb, postgres) are missing: its tests "
				"are skipped\n");
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	snprintf(c->options, sizeof(c->options), "%s", options);
	snprintf(c->directory, sizeof(c->directory), "/tmp/depotd-pg-XXXXXX");
	snprintf(c->socket, sizeof(c->socket), "%s/.s.PGSQL.5432",
		 mkdtemp(c->directory) ? c->directory : "");
	give_to_account(c->directory);
	if (!start_watcher(c) || !make_data(c) || !postgres_cluster_start(c)) {
		fprintf(stderr, "PostgreSQL does not start: its tests are skipped\n");
		postgres_cluster_free(&c);
	}
	return c;
}

void postgres_cluster_free(struct postgres_cluster **cluster)
{
	struct postgres_cluster *c = *cluster;

	*cluster = NULL;
	if (!c)
		return;
	if (c->server > 0) {
		signal_family(c->server, SIGCONT);
		postgres_cluster_stop(c, false);
	}
	close(c->watched); /* the watcher removes the directory */
	while (waitpid(c->watcher, NULL, 0) < 0 && errno == EINTR)
		;
	free(c);
}

static void free_shared(void)
{
	postgres_cluster_free(&shared);
}

struct postgres_cluster *postgres_cluster(void)
{
	static bool tried;

	if (!tried) {
		tried = true;
		shared = postgres_cluster_new("");
		atexit(free_shared);
	}
	return shared;
}

/* --- using --- */

const char *postgres_cluster_socket(const struct postgres_cluster *c)
{
	return c->socket;
}

const char *postgres_cluster_query(struct postgres_cluster *c, const char *database,
				   const char *sql)
{
	char url[TEXT_MAX];
	PGconn *connection;
	PGresult *result;

	snprintf(url, sizeof(url),
		 "host=%s user=depotd dbname=%s options='-c client_min_messages=error'",
		 c->directory, database);
	connection = PQconnectdb(url);
	result = PQexec(connection, sql);
	c->answer[0] = '\0';
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
		snprintf(c->answer, sizeof(c->answer), "%s", PQgetvalue(result, 0, 0));
	else if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		 PQresultStatus(result) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(connection));
	PQclear(result);
	PQfinish(connection);
	return c->answer;
}

const char *postgres_cluster_database(struct postgres_cluster *c, const char *name)
{
	char sql[TEXT_MAX];

	snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
	postgres_cluster_query(c, "postgres", sql);
	snprintf(sql, sizeof(sql), "CREATE DATABASE %s", name);
	postgres_cluster_query(c, "postgres", sql);
	snprintf(c->url, sizeof(c->url), "host=%s user=depotd dbname=%s", c->directory, name);
	return c->url;
}

/* Backends first: a server that is paused makes no new ones. */
void postgres_cluster_pause(struct postgres_cluster *c)
{
	kill(c->server, SIGSTOP);
	signal_family(c->server, SIGSTOP);
}

void postgres_cluster_resume(struct postgres_cluster *c)
{
	signal_family(c->server, SIGCONT);
}
