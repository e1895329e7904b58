/* Where the process begins; everything is in src/app. */
#include <unistd.h>

#include "depotd/app/app.h"

int main(int argc, char **argv)
{
	return app_main(argc, argv, environ);
}
