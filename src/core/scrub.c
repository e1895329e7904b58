/*
 * The scrub: reads stored files again, those that were not read for the longest time first, and holds them against their rows.
 *
 * Invariants: a file is marked only after its bytes were wrong twice, read past the page cache; a mark goes with the first reading
 * that is right; what was found stands in the database before the next round asks it what is due, so a restart goes on where
 * the last one was. Reading keeps to core_config.scrub_rate and to idle I/O priority; calls to the database do not, since others
 * may wait for what they hold. Rows without bytes are found here, bytes without rows by the sweep.
 * Threads: maintenance_scrub() on any, one at a time; the scrubber's own calls it again and again.
 */
#include <errno.h>
#include <linux/ioprio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "depotd/base/clock.h"
#include "depotd/blob/upkeep.h"
#include "depotd/metadata/upkeep.h"

#include "upkeep_private.h"

#define SECOND_NS INT64_C(1000000000)
#define SAVED_NS (SECOND_NS / 10)

enum {
	DUE_BATCH = 200,
	ENROLL_BATCH = 500,
	ENROLL_PAUSE_MS = 20,
	SECOND_MS = 1000,
	HOUR_MS = 3600 * 1000,
	DAY_MS = 24 * HOUR_MS,
	ROUND_MS = 5 * 1000, /* between rounds, at the most */
	ROUND_SHORTEST_MS = 100,
	RECORD_SECONDS = 5, /* between two writes to the database while large files are read */
	FILE_COST = 4096,   /* bytes that a file counts as at the least: opening it reads, too */
};

struct scrubber {
	pthread_mutex_t scrubbing; /* one round at a time; before lock */
	pthread_mutex_t lock;      /* guards stopping, woken */
	pthread_cond_t wake;
	bool stopping, woken, running;
	pthread_t thread;

	/* Guarded by scrubbing. */
	int64_t recorded_ns;    /* monotonic: when what was found was last recorded */
	int64_t next_attend_ns; /* monotonic: when to see again what others know */
	bool attending, idle;   /* in attend(); at idle I/O priority */
	int64_t paid_until_ns;  /* monotonic: bytes up to then are read */
	int64_t next_enroll_ns; /* monotonic: when to look for files without a place, from the start */
	struct uuid enrolled;         /* how far that has come */
	struct scrub_result *results; /* DUE_BATCH; not in the database yet. damage is strdup()ed */
	size_t result_count;
	struct uuid gone[DUE_BATCH];
	size_t gone_count;
	struct scrub_summary *summary; /* of the round */
};

/* --- pacing --- */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Waits until then (monotonic ns) or until it is woken, where it may be. True: stop. */
static bool wait_until(struct core *core, int64_t until_ns, bool wakeable)
{
	struct scrubber *s = core->scrubber;
	struct timespec until = {until_ns / SECOND_NS, until_ns % SECOND_NS};
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while (rc != ETIMEDOUT && !s->stopping && !(wakeable && s->woken))
		rc = pthread_cond_timedwait(&s->wake, &s->lock, &until);
	bool stop = s->stopping;
	if (wakeable)
		s->woken = false;
	pthread_mutex_unlock(&s->lock);
	return stop;
}

static void attend(struct core *core);

/*
 * Waits until n bytes are within the rate. What the reading itself took counts; more than that is not saved up while there is
 * nothing to do. What cannot wait for the end of a large file is attended to meanwhile, unpaid. False: stop.
 */
static bool pay(struct core *core, int64_t n)
{
	struct scrubber *s = core->scrubber;
	int64_t rate = core->config.scrub_rate, now = clock_monotonic_ns();
	bool stop = atomic_load(&core->stopping);
	if (rate <= 0 || s->attending)
		return !stop;
	if (s->paid_until_ns < now - SAVED_NS)
		s->paid_until_ns = now - SAVED_NS;
	s->paid_until_ns += (int64_t)((double)n / (double)rate * (double)SECOND_NS);
	do {
		attend(core);
		stop = wait_until(core, least(s->paid_until_ns, s->next_attend_ns), true);
	} while (!stop && clock_monotonic_ns() < s->paid_until_ns);
	return !stop;
}

/* A scrub_pace_fn. */
static bool pace(void *context, int64_t n)
{
	struct core *core = context;
	core->scrubber->summary->bytes += n;
	metric_add(core->scrubbed_bytes, n);
	return pay(core, n);
}

/* Of this thread; a kernel or a sandbox that refuses leaves it as it is. */
static void set_idle(struct core *core, bool idle)
{
	core->scrubber->idle = idle;
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
		      idle ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)
			   : IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0));
}

/* --- one file --- */

enum verdict {
	VERDICT_RIGHT,
	VERDICT_DAMAGED,
	VERDICT_GONE,    /* removed meanwhile */
	VERDICT_UNKNOWN, /* not to be found out now */
};

static enum verdict unreadable(const struct err *err, char damage[DAMAGE_TEXT_MAX])
{
	if (err->kind != ERR_IO) /* no memory, no descriptors: nothing is known of the file */
		return VERDICT_UNKNOWN;
	snprintf(damage, DAMAGE_TEXT_MAX, "cannot be read: %.120s", err->message);
	return VERDICT_DAMAGED;
}

/* Asked in this order: removal takes the row first, so a row that is still there after the bytes were missed lacks them. */
static enum verdict without_bytes(struct metadata *metadata, const struct uuid *id,
				  char damage[DAMAGE_TEXT_MAX], struct err *err)
{
	struct file_record *row = NULL;
	int rc = maintenance_row(metadata, id, &row, err);
	file_record_unref(&row);
	if (rc == 1)
		snprintf(damage, DAMAGE_TEXT_MAX, DAMAGE_MISSING);
	return rc < 0 ? VERDICT_UNKNOWN : rc == 1 ? VERDICT_DAMAGED : VERDICT_GONE;
}

static enum verdict read_once(struct metadata *metadata, struct blob_store *blobs,
			      const struct file_record *file, scrub_pace_fn paced, void *context,
			      char damage[DAMAGE_TEXT_MAX], struct err *err)
{
	unsigned char sha256[SHA256_LEN];
	struct blob_reader *reader = NULL;
	enum verdict verdict = VERDICT_RIGHT;
	int64_t size;
	int rc = blob_open_raw(blobs, &file->id, &reader, err);
	if (rc == 0)
		return without_bytes(metadata, &file->id, damage, err);
	if (rc < 0)
		return unreadable(err, damage);
	if (blob_size(reader) != file->size) {
		snprintf(damage, DAMAGE_TEXT_MAX, "%lld bytes where the row says %lld",
			 (long long)blob_size(reader), (long long)file->size);
		verdict = VERDICT_DAMAGED;
	} else if (maintenance_hash_reader(reader, paced, context, sha256, &size, err) < 0) {
		verdict = unreadable(err, damage);
	} else if (size != file->size || memcmp(sha256, file->sha256, SHA256_LEN) != 0) {
		snprintf(damage, DAMAGE_TEXT_MAX,
			 "the bytes do not have the digest that they were stored with");
		verdict = VERDICT_DAMAGED;
	}
	blob_reader_free(&reader);
	return verdict;
}

/* Holds the bytes of a file against its row. damage says what is wrong with damaged ones, err why it is unknown. */
static enum verdict scrub_file(struct metadata *metadata, struct blob_store *blobs,
			       const struct file_record *file, scrub_pace_fn paced, void *context,
			       char damage[DAMAGE_TEXT_MAX], struct err *err)
{
	enum verdict verdict = read_once(metadata, blobs, file, paced, context, damage, err);
	/* Once more: one bit on the way from the disk is not the disk's. */
	return verdict == VERDICT_DAMAGED
		       ? read_once(metadata, blobs, file, paced, context, damage, err)
		       : verdict;
}

/* --- what was found --- */

static void forget_results(struct scrubber *s)
{
	while (s->result_count > 0)
		free((void *)(uintptr_t)s->results[--s->result_count].damage);
	s->gone_count = 0;
}

static int record(struct core *core, struct err *err)
{
	struct scrubber *s = core->scrubber;
	if (metadata_scrub_record(core->metadata, s->results, s->result_count, err) < 0 ||
	    metadata_scrub_forget(core->metadata, s->gone, s->gone_count, err) < 0)
		return -1;
	forget_results(s);
	s->recorded_ns = clock_monotonic_ns();
	return 0;
}

/* Says it once: when it is found, and when it is over. */
static void tell(struct core *core, const struct file_record *file, const char *why)
{
	bool before = damage_known(core, &file->id);
	if (before == (why != NULL))
		return;
	damage_mark(core, &file->id, why != NULL);
	core->scrubber->summary->damaged += why != NULL;
	core->scrubber->summary->healed += why == NULL;
	if (core->config.damaged)
		core->config.damaged(core->config.damaged_context, file, why);
}

/* 0, or -1: nothing can be known now, of this file and most likely of any. */
static int look_at(struct core *core, const struct file_record *file, struct err *err)
{
	struct scrubber *s = core->scrubber;
	char damage[DAMAGE_TEXT_MAX] = "";
	struct core_health health;
	set_idle(core, true);
	enum verdict verdict =
		scrub_file(core->metadata, core->blobs, file, pace, core, damage, err);
	set_idle(core, false);
	if (verdict == VERDICT_UNKNOWN)
		return -1;
	core_health(core, &health);
	if (verdict == VERDICT_DAMAGED && !health.data_ok) /* a disk that is away is no damage */
		return err_set(err, ERR_UNAVAILABLE, "%s", health.data_err.message);
	s->summary->files++;
	metric_add(core->scrubbed_files, 1);
	if (verdict == VERDICT_GONE) {
		s->gone[s->gone_count++] = file->id;
		damage_mark(core, &file->id, false);
		return 0;
	}
	char *why = verdict == VERDICT_DAMAGED ? strdup(damage) : NULL;
	if (verdict == VERDICT_DAMAGED && !why)
		return err_set(err, ERR_NO_MEMORY, "scrub");
	tell(core, file, why);
	s->results[s->result_count++] = (struct scrub_result){file->id, clock_wall_ms(), why};
	/* Damage at once: others shall know. */
	bool now = why || clock_monotonic_ns() - s->recorded_ns > RECORD_SECONDS * SECOND_NS;
	return now ? record(core, err) : 0;
}

/* --- a round --- */

static int look_at_suspects(struct core *core, struct err *err)
{
	struct uuid id;
	int rc = 0;
	while (rc == 0 && !atomic_load(&core->stopping) && damage_next_suspect(core, &id)) {
		struct file_record *file = NULL;
		rc = maintenance_row(core->metadata, &id, &file, err);
		if (rc == 1)
			rc = look_at(core, file, err);
		file_record_unref(&file);
		if (rc == 0 && core->scrubber->result_count + core->scrubber->gone_count > 0)
			rc = record(core, err);
	}
	return rc < 0 ? -1 : 0;
}

static int64_t interval_ms(const struct core *core)
{
	return core->config.scrub_interval_ms;
}

/* Between rounds. */
static int64_t pause_ms(const struct core *core)
{
	int64_t ms = least(interval_ms(core) / 4, ROUND_MS);
	return ms < ROUND_SHORTEST_MS ? ROUND_SHORTEST_MS : ms;
}

/* Files come to have a place among those to look at long before they are due. */
static int enroll(struct core *core, struct err *err)
{
	struct scrubber *s = core->scrubber;
	int rc = 1;
	if (clock_monotonic_ns() < s->next_enroll_ns)
		return 0;
	while (rc == 1) {
		attend(core);
		rc = metadata_scrub_enroll(core->metadata, &s->enrolled, ENROLL_BATCH, err);
		if (rc == 1 &&
		    wait_until(core, clock_monotonic_ns() + ENROLL_PAUSE_MS * 1000000, false))
			return 0;
	}
	if (rc < 0)
		return -1;
	s->enrolled = (struct uuid){0};
	s->next_enroll_ns = clock_monotonic_ns() + least(interval_ms(core) / 16, DAY_MS) * 1000000;
	return 0;
}

/* One batch. 1 there may be more, 0 none is due, -1. */
static int look_at_due(struct core *core, int64_t now, struct err *err)
{
	struct scrubber *s = core->scrubber;
	struct scrub_due *due = calloc(DUE_BATCH, sizeof(*due));
	size_t n = 0;
	int rc = due ? 0 : err_set(err, ERR_NO_MEMORY, "scrub");
	if (rc == 0)
		rc = metadata_scrub_due(core->metadata, now - interval_ms(core),
					now - least(interval_ms(core), HOUR_MS), DUE_BATCH, due, &n,
					err);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0 && !atomic_load(&core->stopping)) {
			if (due[i].file)
				rc = look_at(core, due[i].file, err);
			else
				s->gone[s->gone_count++] = due[i].id;
			pay(core, FILE_COST);
		}
	}
	for (size_t i = 0; i < n; i++)
		file_record_unref(&due[i].file);
	free(due);
	struct err why;
	if (record(core, &why) < 0 && rc == 0) {
		*err = why;
		rc = -1;
	}
	return rc < 0 ? -1 : n == DUE_BATCH;
}

static void measure(struct core *core)
{
	struct err ignored;
	int64_t oldest;
	if (metadata_scrub_oldest(core->metadata, &oldest, &ignored) < 0)
		return;
	int64_t age = oldest < 0 ? 0 : clock_wall_ms() - oldest;
	metric_set(core->scrub_oldest, age < 0 ? 0 : age / SECOND_MS);
}

/* Whoever waits for a suspect, or marked a file elsewhere, does not wait for a file that takes hours to read. */
static void attend(struct core *core)
{
	struct scrubber *s = core->scrubber;
	struct err ignored; /* the round meets it, too */
	bool idle = s->idle;
	if (clock_monotonic_ns() < s->next_attend_ns && !damage_suspected(core))
		return;
	s->attending = true;
	set_idle(core, false);
	if (damage_load(core, &ignored) == 0)
		(void)look_at_suspects(core, &ignored);
	measure(core);
	set_idle(core, idle);
	s->attending = false;
	s->next_attend_ns = clock_monotonic_ns() + pause_ms(core) * 1000000;
}

static int round_locked(struct core *core, struct err *err)
{
	struct scrubber *s = core->scrubber;
	int64_t now = clock_wall_ms();
	int rc = 1;
	/* First what an earlier round could not record; then what others know. */
	s->attending = true;
	if (record(core, err) < 0 || damage_load(core, err) < 0 || look_at_suspects(core, err) < 0)
		rc = -1;
	s->attending = false;
	s->next_attend_ns = clock_monotonic_ns() + pause_ms(core) * 1000000;
	if (rc < 0)
		return -1;
	if (core->config.scrub_rate <= 0)
		return 0;
	if (enroll(core, err) < 0)
		return -1;
	measure(core);
	/* What is due when the round begins is looked at once, not again and again where the interval is short. */
	while (rc == 1 && !atomic_load(&core->stopping)) {
		rc = look_at_due(core, now, err);
		if (rc >= 0)
			measure(core);
	}
	return rc < 0 ? -1 : 0;
}

int maintenance_scrub(struct core *core, struct scrub_summary *summary, struct err *err)
{
	struct scrubber *s = core->scrubber;
	*summary = (struct scrub_summary){0};
	pthread_mutex_lock(&s->scrubbing);
	s->summary = summary;
	int rc = round_locked(core, err);
	s->summary = NULL;
	pthread_mutex_unlock(&s->scrubbing);
	return rc;
}

/* --- the scrubber --- */

static void *scrubber_thread(void *context)
{
	struct core *core = context;
	int64_t pause = pause_ms(core);
	bool stop = false;
	while (!stop) {
		struct scrub_summary summary;
		/* health and metrics say what is away; the next round tries again */
		struct err ignored;
		int rc = maintenance_scrub(core, &summary, &ignored);
		int64_t ms = rc < 0 && pause < SECOND_MS ? SECOND_MS : pause;
		stop = wait_until(core, clock_monotonic_ns() + ms * 1000000, true);
	}
	return NULL;
}

static void register_metrics(struct core *core, struct metrics *m)
{
	if (!m)
		return;
	core->scrubbed_files = metrics_counter(m, "depotd_scrubbed_files_total",
					       "Stored files read again and verified.", NULL);
	core->scrubbed_bytes =
		metrics_counter(m, "depotd_scrubbed_bytes_total", "Bytes of them.", NULL);
	core->scrub_oldest = metrics_gauge(m, "depotd_scrub_oldest_seconds",
					   "How long ago the file was looked at that was not for "
					   "the longest time.",
					   NULL);
	core->damaged_files = metrics_gauge(
		m, "depotd_damaged_files", "Stored files whose bytes are known to be wrong.", NULL);
}

int scrubber_new(struct core *core, struct err *err)
{
	pthread_condattr_t monotonic;
	struct scrubber *s = calloc(1, sizeof(*s));
	if (s)
		s->results = calloc(DUE_BATCH + 1, sizeof(*s->results));
	if (!s || !s->results) {
		free(s);
		return err_set(err, ERR_NO_MEMORY, "scrubber");
	}
	pthread_mutex_init(&s->scrubbing, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	register_metrics(core, core->config.metrics);
	core->scrubber = s;
	return 0;
}

int core_start_scrubber(struct core *core, struct err *err)
{
	struct scrubber *s = core->scrubber;
	sigset_t all, before;
	struct err ignored; /* a database that is away: the first round tries again */
	(void)damage_load(core, &ignored);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&s->thread, NULL, scrubber_thread, core);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		errno = rc;
		return err_set_errno(err, ERR_INTERNAL, "cannot start the scrubber");
	}
	pthread_setname_np(s->thread, "scrubber");
	s->running = true;
	return 0;
}

void scrubber_wake(struct core *core)
{
	struct scrubber *s = core->scrubber;
	pthread_mutex_lock(&s->lock);
	s->woken = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

void scrubber_stop(struct core *core)
{
	struct scrubber *s = core->scrubber;
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	if (s->running)
		pthread_join(s->thread, NULL);
	forget_results(s);
	free(s->results);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->scrubbing);
	free(s);
	core->scrubber = NULL;
}
