/*
 * Uploads on their way to a row: the sweep spares them, whatever the grace. Any thread.
 */
#include "unconfirmed_private.h"

void committer_enter(struct upload *upload)
{
	struct core *core = upload->core;
	if (upload->entered)
		return;
	upload->entered = true;
	pthread_mutex_lock(&core->committing_lock);
	upload->prev_committing = NULL;
	upload->next_committing = core->committing;
	if (core->committing)
		core->committing->prev_committing = upload;
	core->committing = upload;
	pthread_mutex_unlock(&core->committing_lock);
}

void committer_leave(struct upload *upload)
{
	struct core *core = upload->core;
	upload->entered = false;
	pthread_mutex_lock(&core->committing_lock);
	if (upload->prev_committing)
		upload->prev_committing->next_committing = upload->next_committing;
	else
		core->committing = upload->next_committing;
	if (upload->next_committing)
		upload->next_committing->prev_committing = upload->prev_committing;
	pthread_mutex_unlock(&core->committing_lock);
}

size_t committer_spare(struct core *core, struct uuid *ids, size_t n)
{
	pthread_mutex_lock(&core->committing_lock);
	for (const struct upload *upload = core->committing; upload;
	     upload = upload->next_committing)
		for (size_t i = 0; i < n; i++)
			if (uuid_compare(&ids[i], &upload->id) == 0)
				ids[i--] = ids[--n];
	pthread_mutex_unlock(&core->committing_lock);
	for (size_t i = 0; i < n; i++)
		if (unconfirmed_has(core, &ids[i]) || pending_has(core, &ids[i]))
			ids[i--] = ids[--n];
	return n;
}

bool committer_has(struct core *core, const struct uuid *id)
{
	struct uuid one = *id;
	pthread_mutex_lock(&core->committing_lock);
	const struct upload *upload = core->committing;
	while (upload && uuid_compare(&upload->id, &one) != 0)
		upload = upload->next_committing;
	pthread_mutex_unlock(&core->committing_lock);
	return upload != NULL;
}

bool row_comes(struct core *core, const struct uuid *id)
{
	return committer_has(core, id) || pending_has(core, id);
}
