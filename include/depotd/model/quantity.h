/* Sizes (512K, 10G; 1024s), durations (30s, 5m, 36h, 7d, 250ms), rates, as configuration and forms have them. Pure. */
#ifndef DEPOTD_MODEL_QUANTITY_H
#define DEPOTD_MODEL_QUANTITY_H

#include <stdint.h>

/* 1 ok, 0 malformed or overflowing. A bare number is bytes. K M G T, upper or lower case, optionally followed by iB or B. */
int quantity_parse_size(const char *text, int64_t *bytes);
/* 1 ok, 0 malformed. A bare number is seconds. Result in milliseconds. Never negative. */
int quantity_parse_duration(const char *text, int64_t *ms);
/* The shortest exact form that parses back: 10G, 90s. */
void quantity_format_size(int64_t bytes, char out[24]);
void quantity_format_duration(int64_t ms, char out[24]);

#endif
