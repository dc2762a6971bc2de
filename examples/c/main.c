#include <inttypes.h>
#include <stdio.h>

#include "crc32.h"

int main(void) {
    unsigned char bytes[65536];
    uint32_t crc = 0;
    size_t count;
    while ((count = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        crc = crc32(crc, bytes, count);
    if (ferror(stdin)) {
        perror("crc");
        return 1;
    }
    printf("%08" PRIx32 "\n", crc);
    return 0;
}
