/* A command for WASI that counts lines, words and bytes, of its standard input or of the files that are
 * named, and sums a layer if the host has one with the number 0. Needs a C library. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "polychord.h"

static int count(const char *name, FILE *file) {
    unsigned long lines = 0, words = 0, bytes = 0;
    int byte, inside = 0;
    while ((byte = getc(file)) != EOF) {
        bytes++;
        lines += byte == '\n';
        words += !inside && !isspace(byte);
        inside = !isspace(byte);
    }
    if (ferror(file)) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return 1;
    }
    printf("%lu %lu %lu %s\n", lines, words, bytes, name);
    return 0;
}

int main(int argc, char **argv) {
    int failed = 0;
    struct polychord_mapped layer;
    if (argc < 2) {
        failed = count("-", stdin);
    }
    for (int index = 1; index < argc; index++) {
        FILE *file = fopen(argv[index], "rb");
        if (file == NULL) {
            fprintf(stderr, "%s: %s\n", argv[index], strerror(errno));
            failed = 1;
            continue;
        }
        failed |= count(argv[index], file);
        fclose(file);
    }
    if (polychord_layer_map(0, &layer) == 0) {
        unsigned long sum = 0;
        for (size_t index = 0; index < layer.len; index++) {
            sum += ((const unsigned char *)layer.bytes)[index];
        }
        printf("layer 0: %zu bytes, which sum up to %lu\n", layer.len, sum);
    }
    return failed;
}
