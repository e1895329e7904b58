/* What every unit test includes: cmocka, and what cmocka wants to stand before it. */
#ifndef DEPOTD_TESTS_UNIT_H
#define DEPOTD_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
