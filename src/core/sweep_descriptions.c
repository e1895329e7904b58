/*
 * The part of the sweep that brings descriptions up to their rows.
 *
 * A change commits the row first and then has the file describe itself anew; a crash, or a disk that refuses, in between leaves a
 * description that is a revision behind, and `reindex` would bring back what was. So after each start, after each description
 * that failed and each change whose outcome the database did not tell, the changed rows are held against their files.
 *
 * Once is not enough: a server that stood still (SIGSTOP, a stalled host) commits what it was sent before it notices that nobody
 * listens any more, so a change may come after the walk has passed its row. Hence walks follow until one has begun SETTLE_NS after
 * the last reason to doubt; whatever the server was sent then has ended, by its statement_timeout if by nothing else.
 * Thread: the sweep's; doubts come from any.
 */
#include "depotd/base/clock.h"

#include "core_private.h"

#define SETTLE_NS INT64_C(10000000000)

enum { ROW_BATCH = 500, REVISION_UNCHANGED = 1 };

void descriptions_doubt(struct core *core)
{
	atomic_store(&core->descriptions_doubted_ns, clock_monotonic_ns());
}

/* One file that cannot be described must not keep the others from it. */
static int describe_batch(struct core *core, const struct file_list *list,
			  struct sweep_summary *summary, struct err *err)
{
	int result = 0;
	for (size_t i = 0; i < list->n && !atomic_load(&core->stopping); i++) {
		struct err why;
		if (list->files[i]->revision == REVISION_UNCHANGED)
			continue;
		int rc = describe_if_newer(core, list->files[i], &why);
		if (rc < 0) {
			*err = why;
			result = -1;
		}
		summary->described += rc == 1;
	}
	return result;
}

int sweep_descriptions(struct core *core, struct sweep_summary *summary, struct err *err)
{
	struct uuid after;
	bool more = true, first = true;
	int result = 0;
	int64_t doubted_ns = atomic_load(&core->descriptions_doubted_ns);
	bool settled = clock_monotonic_ns() - doubted_ns >= SETTLE_NS;
	if (doubted_ns == 0)
		return 0;
	while (more && !atomic_load(&core->stopping)) {
		struct file_list list = {0};
		if (metadata_walk(core->metadata, first ? NULL : &after, ROW_BATCH, &list, err) <
		    0) {
			result = -1;
			break;
		}
		if (describe_batch(core, &list, summary, err) < 0)
			result = -1;
		more = list.more && list.n > 0;
		if (list.n > 0)
			after = list.files[list.n - 1]->id;
		first = false;
		file_list_release(&list);
	}
	if (result < 0)
		descriptions_doubt(core);
	else if (settled && !more) /* unless there was another reason meanwhile */
		atomic_compare_exchange_strong(&core->descriptions_doubted_ns, &doubted_ns, 0);
	return result;
}
