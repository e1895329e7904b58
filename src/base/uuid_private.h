/* libuuid behind a wall: its header declares uuid_parse() and uuid_compare() of its own. */
#ifndef DEPOTD_BASE_UUID_PRIVATE_H
#define DEPOTD_BASE_UUID_PRIVATE_H

/* 16 random bytes; as many as 6 of the bits in bytes 6 and 8 may be a version 4 UUID's fixed ones. Thread: any. */
void uuid_random_bytes(unsigned char out[16]);

#endif
