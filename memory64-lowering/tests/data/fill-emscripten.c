// `fill.c` by emscripten, without its C library.
//
// Debian's emscripten 3.1.6: emcc -O2 -msimd128 -mbulk-memory -sMEMORY64=1 -sDEFAULT_TO_CXX=0 -sSTANDALONE_WASM \
//     --no-entry -nostdlib -sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=16GB -o fill-emscripten.wasm fill-emscripten.c
// It is what emcc links; its next step, which makes JavaScript, did not end.

#include "fill.c"

// What emscripten wants exported, which a C library of its own would have.
void _initialize(void) {}
static int number;
int *__errno_location(void) { return &number; }
void *stackSave(void) { return __builtin_frame_address(0); }
void stackRestore(void *at) { (void)at; }
void *stackAlloc(size_t size) { (void)size; return 0; }
