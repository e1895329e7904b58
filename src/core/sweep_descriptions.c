/*
 * The part of the sweep that brings descriptions up to their rows.
 *
 * A change commits the row first and then has the file describe itself anew; a crash, or a disk that refuses, in between leaves a
 * description that is a revision behind, and `reindex` would bring back what was. So after each start, and after each description
 * that failed, the changed rows are held against their files once. Thread: the sweep's.
 */
#include "core_private.h"

enum { ROW_BATCH = 500, REVISION_UNCHANGED = 1 };

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
	/* Taken down before the walk: what fails beside it puts it up again. */
	if (!atomic_exchange(&core->descriptions_doubtful, false))
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
		atomic_store(&core->descriptions_doubtful, true);
	return result;
}
