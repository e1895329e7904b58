/* The one file that sees libuuid. Any thread. */
#include <uuid/uuid.h>

#include "uuid_private.h"

void uuid_random_bytes(unsigned char out[16])
{
	uuid_generate_random(out);
}
