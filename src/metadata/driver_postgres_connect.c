/*
 * Connecting to PostgreSQL: a race between all addresses of all hosts that the URL names, won by the first that lets us write.
 *
 * libpq's own walk over several hosts waits for each in turn, and a host that died takes its whole time. Here the hosts are
 * tried in order with a short head start each, one that refuses is asked again while others have not answered, and one that
 * is silent gets a fresh attempt every second: packets that were lost in a black hole are sent again only after ever longer
 * pauses. So a failover is over for us when some host takes writes, whatever the others do.
 * Names are resolved anew with every race, since failing over may mean that a name has another address.
 * Any thread that nobody waits for without a deadline: name resolution is the C library's, and blocks.
 */
#include <libpq-fe.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "depotd/base/clock.h"
#include "postgres_private.h"

enum {
	SETTINGS_MAX = 20,
	NUMBER_TEXT_MAX = 24,
	OPTIONS_MAX = 1024,
	ADDRESS_MAX = 80,
	IDLE_IN_TRANSACTION_MS = 60000,
	TARGETS_MAX = 16,
	RUNNERS_MAX = 32,
	HEAD_START_MS = 200, /* of each target before the next */
	AGAIN_MS = 300,      /* after a target refused while others have not answered */
	COMPANION_MS = 1000, /* after a target was asked and has not answered */
	SET_UP_MS = 2000,
};

/* --- settings --- */

/* Keywords for PQconnectStartParams: a later one wins. */
struct settings {
	const char *keywords[SETTINGS_MAX + 1];
	const char *values[SETTINGS_MAX + 1];
	size_t n;
	char connect_timeout[NUMBER_TEXT_MAX], user_timeout[NUMBER_TEXT_MAX];
	char options[OPTIONS_MAX];
};

static void set(struct settings *s, const char *keyword, const char *value)
{
	if (value && value[0] && s->n < SETTINGS_MAX) {
		s->keywords[s->n] = keyword;
		s->values[s->n++] = value;
	}
}

static void set_unless_env(struct settings *s, const char *keyword, const char *variable,
			   const char *value)
{
	if (!getenv(variable))
		set(s, keyword, value);
}

/*
 * What holds unless the URL says otherwise. A dead peer is noticed by the kernel in some 25 s; our own deadlines are
 * shorter, this is for connections that nobody waits for. A standby is no use to us: go on to the next host.
 */
static void set_defaults(struct settings *s, const struct driver_config *config)
{
	snprintf(s->connect_timeout, sizeof(s->connect_timeout), "%lld",
		 (long long)(config->connect_timeout_ms + 999) / 1000);
	snprintf(s->user_timeout, sizeof(s->user_timeout), "%lld",
		 (long long)config->statement_timeout_ms);
	set_unless_env(s, "connect_timeout", "PGCONNECT_TIMEOUT", s->connect_timeout);
	set_unless_env(s, "target_session_attrs", "PGTARGETSESSIONATTRS", "read-write");
	set(s, "tcp_user_timeout", s->user_timeout);
	set(s, "keepalives", "1");
	set(s, "keepalives_idle", "10");
	set(s, "keepalives_interval", "5");
	set(s, "keepalives_count", "3");
	set(s, "fallback_application_name", "depotd");
	set(s, "client_encoding", "UTF8");
}

/*
 * The server's own limits, behind what the user's options say: for a statement, and for a transaction that this process lets
 * lie, so that a stopped process holds no locks.
 */
static void set_limits(struct settings *s, const char *options, int64_t statement_timeout_ms)
{
	if (!options)
		options = getenv("PGOPTIONS");
	snprintf(s->options, sizeof(s->options),
		 "%s -c statement_timeout=%lld -c idle_in_transaction_session_timeout=%d",
		 options ? options : "", (long long)statement_timeout_ms, IDLE_IN_TRANSACTION_MS);
	set(s, "options", s->options);
}

/* --- whom to ask --- */

/* One address of one host. */
struct target {
	const char *host, *port; /* pieces of the URL; NULL: as libpq finds it */
	char address[ADDRESS_MAX];
	unsigned number;  /* of the host in the URL */
	int64_t start_ns; /* when to ask, or to ask again */
	bool started, failed;
};

/* One attempt at one target. */
struct runner {
	struct pg_connection *c; /* NULL: this place is free */
	struct target *target;
	PostgresPollingStatusType next;
};

struct race {
	struct pg_attempt *attempt;
	const char *options; /* the URL's, or NULL */
	char hosts[OPTIONS_MAX],
		ports[OPTIONS_MAX]; /* of the environment, for the targets to point into */
	struct target targets[TARGETS_MAX];
	size_t target_count;
	struct runner runners[RUNNERS_MAX];
	size_t running;
	int64_t deadline_ns;
	struct err why; /* the last failure */
};

static struct target *add_target(struct race *r, const char *host, const char *port,
				 unsigned number)
{
	struct target *target = &r->targets[r->target_count];

	if (r->target_count == TARGETS_MAX)
		return NULL;
	r->target_count++;
	*target = (struct target){.host = host, .port = port, .number = number};
	return target;
}

/* A failed resolution is the failure of a host: the others may do. */
static void add_addresses(struct race *r, const char *host, const char *port, unsigned number)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
	int rc = getaddrinfo(host, NULL, &hints, &found);

	if (rc != 0) {
		err_set(&r->why, ERR_UNAVAILABLE, "PostgreSQL: connect: %s: %s", host,
			gai_strerror(rc));
		return;
	}
	for (struct addrinfo *a = found; a; a = a->ai_next) {
		struct target *target = add_target(r, host, port, number);

		if (target && getnameinfo(a->ai_addr, a->ai_addrlen, target->address, ADDRESS_MAX,
					  NULL, 0, NI_NUMERICHOST) != 0)
			r->target_count--;
	}
	freeaddrinfo(found);
}

static void add_host(struct race *r, const char *host, const char *address, const char *port,
		     unsigned number)
{
	bool name = host && host[0] && host[0] != '/' && host[0] != '@';

	if (address && address[0]) {
		struct target *target = add_target(r, host, port, number);

		if (target)
			snprintf(target->address, ADDRESS_MAX, "%s", address);
	} else if (name) {
		add_addresses(r, host, port, number);
	} else {
		add_target(r, host, port, number);
	}
}

/* Cuts the list at its next comma; NULL where there is no list or it has come to its end. */
static const char *next_member(char **list)
{
	return *list ? strsep(list, ",") : NULL;
}

static char *option(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++) {
		if (strcmp(options->keyword, keyword) == 0)
			return options->val && options->val[0] ? options->val : NULL;
	}
	return NULL;
}

static char *from_environment(const char *name, char text[OPTIONS_MAX])
{
	snprintf(text, OPTIONS_MAX, "%s", getenv(name) ? getenv(name) : "");
	return text[0] ? text : NULL;
}

/* What a service file says is libpq's to know: then it is one attempt at whatever that is. */
static void list_targets(struct race *r, const PQconninfoOption *options)
{
	bool service = option(options, "service") || getenv("PGSERVICE");
	char *hosts = option(options, "host"), *addresses = option(options, "hostaddr"),
	     *ports = option(options, "port");
	const char *port = NULL;

	if (!hosts && !addresses && !service)
		hosts = from_environment("PGHOST", r->hosts);
	if (!ports && !service)
		ports = from_environment("PGPORT", r->ports);
	if (!hosts && !addresses) {
		add_target(r, NULL, NULL, 0);
		return;
	}
	for (unsigned number = 0; hosts || addresses; number++) {
		const char *host = next_member(&hosts), *address = next_member(&addresses);

		if (ports) /* one port is for all hosts */
			port = next_member(&ports);
		add_host(r, host, address, port, number);
	}
}

/* In order, but for the one that let us in last, which is asked first. */
static void line_up(struct race *r)
{
	int64_t now_ns = clock_monotonic_ns();
	size_t place = 0;

	for (int rest = 0; rest < 2; rest++) {
		for (size_t i = 0; i < r->target_count; i++) {
			bool first = r->targets[i].number == r->attempt->favourite;

			if (first == (rest == 0))
				r->targets[i].start_ns =
					now_ns + (int64_t)place++ * HEAD_START_MS * NS_PER_MS;
		}
	}
}

/* --- running --- */

static int cannot_answer(struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "PostgreSQL: connect: no answer in time");
}

static void runner_end(struct race *r, struct runner *runner)
{
	pg_disconnect(&runner->c);
	r->running--;
}

/* Whoever has not been asked yet is asked now. */
static void call_the_next(struct race *r, int64_t now_ns)
{
	struct target *next = NULL;

	for (size_t i = 0; i < r->target_count; i++) {
		struct target *target = &r->targets[i];

		if (!target->started && (!next || target->start_ns < next->start_ns))
			next = target;
	}
	if (next)
		next->start_ns = now_ns;
}

static void runner_failed(struct race *r, struct runner *runner)
{
	int64_t now_ns = clock_monotonic_ns(), again_ns = now_ns + AGAIN_MS * NS_PER_MS;
	struct target *target = runner->target;

	if (pg_connection_refused(runner->c, &r->why))
		r->attempt->crowded = true;
	target->failed = true;
	if (target->start_ns > again_ns)
		target->start_ns = again_ns;
	runner_end(r, runner);
	call_the_next(r, now_ns);
}

static int start_runner(struct race *r, struct runner *runner, struct target *target,
			struct err *err)
{
	const struct driver_config *config = r->attempt->config;
	struct settings settings = {0};

	if (pg_connection_new(config->statements, &runner->c, err) < 0)
		return -1;
	r->running++;
	runner->target = target;
	runner->next = PGRES_POLLING_WRITING;
	target->started = true;
	target->start_ns = clock_monotonic_ns() + COMPANION_MS * NS_PER_MS;
	set_defaults(&settings, config);
	set(&settings, "dbname", config->url);
	set(&settings, "host", target->host);
	set(&settings, "hostaddr", target->address);
	set(&settings, "port", target->port);
	set_limits(&settings, r->options, r->attempt->statement_timeout_ms);
	runner->c->conn = PQconnectStartParams(settings.keywords, settings.values, 1);
	if (!runner->c->conn)
		return err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
	/* A refusal then has its SQLSTATE in the message; there is no other way to learn it. */
	PQsetErrorVerbosity(runner->c->conn, PQERRORS_VERBOSE);
	if (PQstatus(runner->c->conn) == CONNECTION_BAD)
		runner_failed(r, runner);
	return 0;
}

static int start_who_is_due(struct race *r, struct err *err)
{
	size_t place = 0;

	for (size_t i = 0; i < r->target_count; i++) {
		struct target *target = &r->targets[i];

		while (place < RUNNERS_MAX && r->runners[place].c)
			place++;
		if (place == RUNNERS_MAX)
			return 0;
		if (clock_monotonic_ns() >= target->start_ns &&
		    start_runner(r, &r->runners[place], target, err) < 0)
			return -1;
	}
	return 0;
}

/* Everybody was asked, and everybody said no. */
static bool is_over(const struct race *r)
{
	for (size_t i = 0; i < r->target_count; i++) {
		if (!r->targets[i].failed)
			return false;
	}
	return r->running == 0;
}

/* When something is to be done even if nobody answers. */
static int64_t wake_time(const struct race *r)
{
	int64_t first_ns = r->deadline_ns;

	for (size_t i = 0; i < r->target_count; i++) {
		if (r->targets[i].start_ns < first_ns)
			first_ns = r->targets[i].start_ns;
	}
	return first_ns;
}

/* Waits for the sockets of all runners. 0, -1 the attempt is to be given up; ready[i] says whose turn it is. */
static int wait_for_any(struct race *r, bool ready[RUNNERS_MAX], struct err *err)
{
	struct pollfd fds[RUNNERS_MAX + 1] = {{.fd = r->attempt->wake_fd, .events = POLLIN}};
	int64_t left_ms = (wake_time(r) - clock_monotonic_ns() + NS_PER_MS - 1) / NS_PER_MS;

	for (size_t i = 0; i < RUNNERS_MAX; i++) {
		struct runner *runner = &r->runners[i];

		fds[i + 1].fd = runner->c ? PQsocket(runner->c->conn) : -1;
		fds[i + 1].events = runner->next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
	}
	if (poll(fds, RUNNERS_MAX + 1, left_ms > 0 ? (int)left_ms : 0) < 0)
		return 0; /* a signal */
	if (fds[0].revents)
		return err_set(err, ERR_CANCELLED, "PostgreSQL: connecting was given up");
	for (size_t i = 0; i < RUNNERS_MAX; i++)
		ready[i] = r->runners[i].c && fds[i + 1].revents;
	return 0;
}

static int take_server(void *context, const struct value *columns, size_t n, struct err *err)
{
	struct pg_connection *c = context;

	if (n < 2 || columns[n - 1].kind != VALUE_INT || columns[n - 2].kind != VALUE_TEXT)
		return err_set(err, ERR_INTERNAL, "session_setup does not say which server it is");
	c->server = columns[n - 1].number;
	c->deferring_first = strcmp(columns[n - 2].text, "off") == 0;
	c->deferring = c->deferring_first;
	return 0;
}

/* The statement session_setup: what every connection has set, and which server it is. */
static int set_up(struct pg_connection *c, int64_t deadline_ns, struct err *err)
{
	struct command setup = {.statement = statements_find(c->statements, "session_setup"),
				.row = take_server,
				.context = c};
	struct pg_step step = {.command = &setup};
	struct pg_failure failure = {0};
	bool refused;
	int rc;

	if (!setup.statement)
		return err_set(err, ERR_INTERNAL, "no statement session_setup");
	rc = pg_fly(c, &step, 1, deadline_ns, &refused, &failure, err);
	if (rc == 0)
		rc = pg_deliver(&step, err);
	pg_steps_clear(&step, 1);
	return rc;
}

/* The runner's connection, ready for use, or NULL: it was not to be. */
static struct pg_connection *arrive(struct race *r, struct runner *runner)
{
	int64_t deadline_ns = clock_monotonic_ns() + SET_UP_MS * NS_PER_MS;
	struct pg_connection *c = runner->c;

	PQsetErrorVerbosity(c->conn, PQERRORS_DEFAULT);
	if (PQsetnonblocking(c->conn, 1) != 0) {
		runner_failed(r, runner);
		return NULL;
	}
	pg_connection_begin(c);
	if (set_up(c, deadline_ns < r->deadline_ns ? deadline_ns : r->deadline_ns, &r->why) < 0) {
		runner->target->failed = true;
		runner_end(r, runner);
		return NULL;
	}
	r->attempt->favourite = runner->target->number;
	runner->c = NULL;
	r->running--;
	return c;
}

static struct pg_connection *advance(struct race *r, const bool ready[RUNNERS_MAX])
{
	for (size_t i = 0; i < RUNNERS_MAX; i++) {
		struct runner *runner = &r->runners[i];
		struct pg_connection *c;

		if (!ready[i])
			continue;
		runner->next = PQconnectPoll(runner->c->conn);
		if (runner->next == PGRES_POLLING_FAILED)
			runner_failed(r, runner);
		else if (runner->next == PGRES_POLLING_OK && (c = arrive(r, runner)))
			return c;
	}
	return NULL;
}

static int run_race(struct race *r, struct pg_connection **out, struct err *err)
{
	struct pg_connection *c = NULL;

	while (!c) {
		bool ready[RUNNERS_MAX] = {false};

		if (clock_monotonic_ns() >= r->deadline_ns)
			return cannot_answer(err);
		if (start_who_is_due(r, err) < 0)
			return -1;
		if (is_over(r)) {
			*err = r->why;
			return -1;
		}
		if (wait_for_any(r, ready, err) < 0)
			return -1;
		c = advance(r, ready);
	}
	*out = c;
	return 0;
}

static PQconninfoOption *parse(const char *url, struct err *err)
{
	char *why = NULL;
	PQconninfoOption *options = PQconninfoParse(url, &why);

	if (!options)
		err_set(err, ERR_INVALID, "database URL: %.*s", why ? (int)strcspn(why, "\n") : 0,
			why ? why : "");
	PQfreemem(why);
	return options;
}

int pg_check_url(const char *url, struct err *err)
{
	PQconninfoOption *options = parse(url, err);

	if (!options)
		return -1;
	PQconninfoFree(options);
	return 0;
}

int pg_connect(struct pg_attempt *attempt, struct pg_connection **out, struct err *err)
{
	PQconninfoOption *options = parse(attempt->config->url, err);
	struct race *r = calloc(1, sizeof(*r));
	int rc = -1;

	if (!options)
		goto out;
	if (!r) {
		err_set(err, ERR_NO_MEMORY, "PostgreSQL connection");
		goto out;
	}
	attempt->crowded = false;
	r->attempt = attempt;
	r->options = option(options, "options");
	list_targets(r, options);
	line_up(r);
	r->deadline_ns = clock_monotonic_ns() + attempt->config->connect_timeout_ms * NS_PER_MS;
	rc = run_race(r, out, err);
	for (size_t i = 0; i < RUNNERS_MAX; i++) {
		if (r->runners[i].c)
			runner_end(r, &r->runners[i]);
	}
out:
	if (options)
		PQconninfoFree(options);
	free(r);
	return rc;
}
