/* libuuid behind a wall: its header declares uuid_parse() and uuid_compare() of its own. */
#ifndef DEPOTD_BASE_UUID_PRIVATE_H
#define DEPOTD_BASE_UUID_PRIVATE_H

/* 16 bytes of a version 4 UUID: random but for the version and variant bits. Thread: any. */
void uuid_random_bytes(unsigned char out[16]);

#endif
