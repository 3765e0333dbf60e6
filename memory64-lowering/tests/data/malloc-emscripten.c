// `malloc` and `printf` of the C library of emscripten, with MEMORY64=1: 6 GiB are wanted,
// and what there is is filled and checked.
//
// Debian's emscripten 3.1.6: emcc -O2 -sMEMORY64=1 -sDEFAULT_TO_CXX=0 -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH \
//     -sMAXIMUM_MEMORY=8GB -o malloc-emscripten.wasm malloc-emscripten.c
// It is what emcc links; its next step, which makes JavaScript, did not end.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    uint64_t sum = 0;
    char *blocks[6];
    for (int i = 0; i < 6; i++) {
        blocks[i] = malloc((size_t)1 << 30);
        if (!blocks[i]) { printf("no block %d\n", i); return 1; }
        for (uint64_t at = 0; at < (uint64_t)1 << 30; at += 65544) {
            uint64_t v = (uint64_t)(uintptr_t)blocks[i] * 31 + at;
            memcpy(blocks[i] + at, &v, 8);
        }
    }
    for (int i = 0; i < 6; i++)
        for (uint64_t at = 0; at < (uint64_t)1 << 30; at += 65544) {
            uint64_t v;
            memcpy(&v, blocks[i] + at, 8);
            if (v != (uint64_t)(uintptr_t)blocks[i] * 31 + at) { printf("wrong\n"); return 2; }
            sum = sum * 31 + v;
        }
    printf("%d arguments, sum %llx, %zu bytes a pointer\n", argc, (unsigned long long)sum, sizeof(void *));
    return 0;
}
