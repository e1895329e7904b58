/* The body buffers of a server: shared by all visits of workers, made when they are first needed, and kept. Any thread. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server_private.h"

struct buffers {
	size_t count;         /* there may be */
	pthread_mutex_t lock; /* guards all below */
	void *free_list;      /* each begins with a pointer to the next */
	size_t left;          /* not allocated yet */
	size_t out;           /* somebody has them */
};

int buffers_new(size_t bytes, struct buffers **out, struct err *err)
{
	struct buffers *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return err_set(err, ERR_NO_MEMORY, "no memory for the body buffers");
	pthread_mutex_init(&b->lock, NULL);
	b->count = bytes / HTTP_BUFFER > 0 ? bytes / HTTP_BUFFER : 1;
	b->left = b->count;
	*out = b;
	return 0;
}

void buffers_free(struct buffers **buffers)
{
	struct buffers *b = *buffers;
	*buffers = NULL;
	if (b == NULL)
		return;
	for (void *buffer = b->free_list, *next; buffer != NULL; buffer = next) {
		memcpy(&next, buffer, sizeof(next));
		free(buffer);
	}
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Unless fewer than `keep` would be left. */
static void *take(struct buffers *b, size_t keep)
{
	bool make = false;
	void *buffer = NULL;
	pthread_mutex_lock(&b->lock);
	if (b->out + keep < b->count) {
		buffer = b->free_list;
		b->out++;
		if (buffer != NULL) {
			memcpy(&b->free_list, buffer, sizeof(b->free_list));
		} else {
			b->left--;
			make = true;
		}
	}
	pthread_mutex_unlock(&b->lock);
	if (!make)
		return buffer;
	buffer = malloc(HTTP_BUFFER);
	if (buffer == NULL) { /* another time, then */
		pthread_mutex_lock(&b->lock);
		b->left++;
		b->out--;
		pthread_mutex_unlock(&b->lock);
	}
	return buffer;
}

void *buffers_take(struct buffers *b)
{
	return take(b, 0);
}

void *buffers_take_spare(struct buffers *b)
{
	return take(b, b->count / 4);
}

void buffers_give(struct buffers *b, void *buffer)
{
	pthread_mutex_lock(&b->lock);
	memcpy(buffer, &b->free_list, sizeof(b->free_list));
	b->free_list = buffer;
	b->out--;
	pthread_mutex_unlock(&b->lock);
}
