/* PostgreSQL: not yet. */
#include "depotd/metadata/driver.h"

static int open_driver(const struct driver_config *config, struct driver **out, struct err *err)
{
	(void)config, (void)out;
	return err_set(err, ERR_NOT_IMPLEMENTED, "PostgreSQL: not yet");
}

const struct driver_ops driver_postgres = {
	.kind = "postgresql", .dialect = "postgres", .open = open_driver};
