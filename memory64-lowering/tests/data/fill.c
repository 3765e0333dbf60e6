// Fills and checks memory with an allocator of its own that grows the memory from inside.
//
// Debian's clang 19: clang --target=wasm64 -O2 -msimd128 -mbulk-memory -nostdlib -Wl,--no-entry \
//     -Wl,--export-memory -o fill.wasm fill.c

typedef unsigned long size_t;
typedef unsigned long long u64;

#define PAGE 65536ul
#define EXPORT(name) __attribute__((export_name(name)))

extern unsigned char __heap_base;

struct Block {
    size_t size;
    struct Block *next;
};

static struct Block *freed;
static unsigned char *top;

static void *allocate(size_t size) {
    size = (size + 15) & ~15ul;
    for (struct Block **at = &freed; *at; at = &(*at)->next) {
        if ((*at)->size >= size) {
            struct Block *block = *at;
            *at = block->next;
            return block + 1;
        }
    }
    if (!top) top = (unsigned char *)(((size_t)&__heap_base + 15) & ~15ul);
    struct Block *block = (struct Block *)top;
    size_t end = (size_t)top + sizeof *block + size;
    size_t have = __builtin_wasm_memory_size(0) * PAGE;
    if (end > have) {
        size_t pages = (end - have + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) return 0;
    }
    block->size = size;
    top = (unsigned char *)end;
    return block + 1;
}

static void release(void *memory) {
    struct Block *block = (struct Block *)memory - 1;
    block->next = freed;
    freed = block;
}

// Writes a word every `step` bytes of `count` blocks of `size` bytes, reads all of them, and returns a
// sum of what was read; 0 if a word is wrong, 1 if there is no memory.
EXPORT("fill") u64 fill(size_t count, size_t size, size_t step) {
    u64 **blocks = allocate(count * sizeof(u64 *));
    if (!blocks) return 1;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = allocate(size);
        if (!blocks[i]) return 1;
        for (size_t at = 0; at + 8 <= size; at += step) {
            *(u64 *)((unsigned char *)blocks[i] + at) = (u64)(size_t)blocks[i] * 31 + at;
        }
    }
    u64 sum = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at + 8 <= size; at += step) {
            u64 word = *(u64 *)((unsigned char *)blocks[i] + at);
            if (word != (u64)(size_t)blocks[i] * 31 + at) return 0;
            sum = sum * 1099511628211u + word;
        }
        __builtin_memcpy(blocks[0], blocks[i], 64);
    }
    for (size_t i = 0; i < count; i++) release(blocks[i]);
    release(blocks);
    return sum | 2;
}
