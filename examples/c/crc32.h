#ifndef CRC32_H
#define CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The CRC-32 of ISO 3309 of more bytes, after `crc` of those before them; 0 at the beginning. */
uint32_t crc32(uint32_t crc, const unsigned char *bytes, size_t count);

#endif
