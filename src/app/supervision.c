/*
 * Signals, limits and systemd: the one file that knows libsystemd. Main thread.
 *
 * The signals are blocked before the first thread is made, so that every thread inherits that and only the main thread
 * takes them, by waiting.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "app_private.h"
#include "depotd/base/clock.h"

static void fill_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void supervision_prepare(void)
{
	sigset_t set;
	fill_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
}

enum supervision_event supervision_wait(int64_t timeout_ms)
{
	sigset_t set;
	fill_set(&set);
	int64_t deadline = clock_monotonic_ms() + timeout_ms;
	for (;;) {
		int caught;
		if (timeout_ms < 0) {
			caught = sigwaitinfo(&set, NULL);
		} else {
			int64_t left = deadline - clock_monotonic_ms();
			left = left < 0 ? 0 : left;
			struct timespec wait = {.tv_sec = left / 1000,
						.tv_nsec = left % 1000 * 1000000};
			caught = sigtimedwait(&set, NULL, &wait);
		}
		if (caught == SIGHUP)
			return SUPERVISION_RELOAD;
		if (caught > 0)
			return SUPERVISION_STOP;
		if (errno == EAGAIN)
			return SUPERVISION_TIMEOUT;
	}
}

static void die(int number)
{
	(void)number;
	_exit(EXIT_FAILED);
}

void supervision_next_signal_kills(void)
{
	struct sigaction action = {.sa_handler = die};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int64_t supervision_open_files(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}

int supervision_sockets(int *first, struct err *err)
{
	int n = sd_listen_fds(1);
	if (n < 0) {
		errno = -n;
		return err_set_errno(err, ERR_INTERNAL, "LISTEN_FDS");
	}
	*first = SD_LISTEN_FDS_START;
	for (int fd = *first; fd < *first + n; fd++) {
		if (sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0)
			return err_set(err, ERR_INVALID,
				       "inherited descriptor %d is no listening TCP socket", fd);
	}
	return n;
}

int64_t supervision_watchdog_ms(void)
{
	uint64_t interval_us = 0;
	if (sd_watchdog_enabled(0, &interval_us) <= 0)
		return 0;
	/* Half of what we are given, as sd_watchdog_enabled(3) recommends. */
	int64_t ms = (int64_t)(interval_us / 2000);
	return ms > 0 ? ms : 1;
}

void supervision_notify(const char *state)
{
	sd_notify(0, state);
}

void supervision_notify_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_monotonic_ns() / 1000);
}
