/* A small upload whose file stands under its name, and which nobody has committed: what a crash may leave. */
#ifndef DEPOTD_TESTS_PLACED_UPLOAD_H
#define DEPOTD_TESTS_PLACED_UPLOAD_H

#include "core_scene.h"

#include "../../src/core/upload_private.h"

static inline struct upload *scene_placed(struct scene *scene, const char *name, const char *data)
{
	struct upload *upload = scene_sealed(scene, name, data, NULL);
	committer_enter(upload);
	assert_int_equal(upload_place(upload, &scene->err), 1);
	return upload;
}

#endif
