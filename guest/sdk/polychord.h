/* What a Polychord host offers to its guests, for C and C++.
 *
 * The same as the Rust crate polychord-guest, by the same names: polychord_layer_map is
 * polychord_guest::layer::map. docs/guests.md of the repository leads through a guest from nothing.
 *
 *   clang --target=wasm32 -O2 -nostdlib -mbulk-memory -I guest/sdk \
 *       -Wl,--no-entry -o guest.wasm guest.c
 *
 * Functions that can be refused return a negative number then, one of enum polychord_error.
 *
 * What polychord_layer_map gives is valid until the guest returns to the host, which may exchange
 * the bytes before it calls again. In the same call it stays as it is until the guest itself releases
 * the layer or writes to the 64-bit memory there.
 *
 * On other targets than WebAssembly every function refuses with POLYCHORD_NOT_ENABLED.
 *
 * Licensed under MIT or Apache-2.0, at your option. */
#ifndef POLYCHORD_H
#define POLYCHORD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define POLYCHORD_C extern "C"
#else
#define POLYCHORD_C extern
#endif

/* POLYCHORD_HOST("game", "now") double now(void);
 * declares a function that the embedding program has defined for its guests, in C or C++.
 *
 * POLYCHORD_EXPORT("sum") double sum(int32_t layer) { ... }
 * defines a function that the host can call. */
#ifdef __wasm__
#define POLYCHORD_HOST(module, name) \
    POLYCHORD_C __attribute__((import_module(module), import_name(name)))
#ifdef __cplusplus
#define POLYCHORD_EXPORT(name) extern "C" __attribute__((export_name(name)))
#else
#define POLYCHORD_EXPORT(name) __attribute__((export_name(name)))
#endif
#else
#define POLYCHORD_HOST(module, name) POLYCHORD_C
#ifdef __cplusplus
#define POLYCHORD_EXPORT(name) extern "C"
#else
#define POLYCHORD_EXPORT(name)
#endif
#endif

/* Why a function of the host refused. */
enum polychord_error {
    /* The host made no 64-bit memory for this guest, or none that does what was asked for. */
    POLYCHORD_NOT_ENABLED = -1,
    /* No layer with this number is registered. */
    POLYCHORD_LAYER_NOT_FOUND = -2,
    /* The buffer is smaller than the layer or structure. */
    POLYCHORD_BUFFER_TOO_SMALL = -3,
    /* The range leaves the 64-bit memory, or is longer than one call can copy (2^31 - 1 bytes). */
    POLYCHORD_INVALID_RANGE = -4,
    /* The bytes could not be brought in: a file has become shorter or cannot be read. */
    POLYCHORD_READ_FAILED = -5,
    /* A pointer with its length leaves the address space. */
    POLYCHORD_POINTER_OVERFLOW = -6,
    /* A pointer is null, or leaves the guest's memory. */
    POLYCHORD_POINTER_OUT_OF_BOUNDS = -7,
    /* The host failed in a way that is not the guest's fault. */
    POLYCHORD_INTERNAL = -8,
    /* The layer is not in the memory that pointers are about (of this header alone). */
    POLYCHORD_OTHER_MEMORY = -102
};

/* The bytes of a layer, where they are in the guest's memory. */
struct polychord_mapped {
    const void *bytes;
    size_t len;
};

/* What the memories were used for, since the guest was started. */
struct polychord_stats {
    /* Calls that read from the 64-bit memory, and that wrote to it, and succeeded. */
    uint64_t reads, writes;
    /* Bytes that they moved. */
    uint64_t bytes_read, bytes_written;
    /* Layers brought in, by copying or by mapping, and those of them that were mapped. */
    uint64_t loads, maps;
    /* Bytes of all loads. */
    uint64_t bytes_loaded;
    /* Requests that were refused or failed. */
    uint64_t errors;
};

/* The functions of the host, as the ABI has them; use those below. */
#ifdef __wasm__
#define POLYCHORD_ABI(result, name, params, args) \
    POLYCHORD_HOST("env", #name) result polychord_import_##name params;
#else
#define POLYCHORD_ABI(result, name, params, args) \
    static inline result polychord_import_##name params { args return POLYCHORD_NOT_ENABLED; }
#endif
POLYCHORD_ABI(int32_t, memory64_is_enabled, (void), )
POLYCHORD_ABI(int32_t, memory64_load_layer, (int32_t layer, void *to, size_t max),
              (void)layer; (void)to; (void)max;)
POLYCHORD_ABI(int32_t, memory64_read, (int64_t offset, void *to, size_t len),
              (void)offset; (void)to; (void)len;)
POLYCHORD_ABI(int32_t, memory64_write, (int64_t offset, const void *from, size_t len),
              (void)offset; (void)from; (void)len;)
POLYCHORD_ABI(int64_t, memory64_map_layer, (int32_t layer), (void)layer;)
POLYCHORD_ABI(int64_t, memory64_layer_bytes, (int32_t layer), (void)layer;)
POLYCHORD_ABI(int32_t, memory64_prefetch, (int32_t layer), (void)layer;)
POLYCHORD_ABI(int32_t, memory64_release, (int32_t layer), (void)layer;)
POLYCHORD_ABI(int32_t, memory64_stats_into, (void *to, size_t len), (void)to; (void)len;)
POLYCHORD_ABI(int32_t, all_gather, (void *data, size_t chunk, size_t total),
              (void)data; (void)chunk; (void)total;)
#undef POLYCHORD_ABI

/* How long a layer is, in bytes. */
static inline int64_t polychord_layer_bytes(uint32_t layer) {
    return polychord_import_memory64_layer_bytes((int32_t)layer);
}

/* Copies a whole layer into a buffer of at most `max` bytes, and returns its length. */
static inline int32_t polychord_layer_load(uint32_t layer, void *to, size_t max) {
    return polychord_import_memory64_load_layer((int32_t)layer, to, max);
}

/* Where a layer is: the address, or in a guest with several 32-bit memories the index of the memory
 * in bits 32 and up. Brings the layer in if it is not there. */
static inline int64_t polychord_layer_address(uint32_t layer) {
    return polychord_import_memory64_map_layer((int32_t)layer);
}

/* The bytes of a layer, in place, or those of nothing if it is refused. Returns 0, or why it was.
 *
 * A layer that the host loaded before the call costs nothing. Another one is copied to its place
 * first, even if its file could be mapped: pages are exchanged only while no code of the guest runs. */
static inline int32_t polychord_layer_map(uint32_t layer, struct polychord_mapped *to) {
    const int64_t address = polychord_layer_address(layer);
    const int64_t len = address < 0 ? address : polychord_layer_bytes(layer);
    to->bytes = NULL;
    to->len = 0;
    if (len < 0) {
        return (int32_t)len;
    }
    if (address == 0 || (uint64_t)address > UINTPTR_MAX) {
        return POLYCHORD_OTHER_MEMORY;
    }
    to->bytes = (const void *)(uintptr_t)address;
    to->len = (size_t)len;
    return 0;
}

/* Says that a layer will be needed soon. */
static inline int32_t polychord_layer_prefetch(uint32_t layer) {
    return polychord_import_memory64_prefetch((int32_t)layer);
}

/* Says that a layer is not needed for now. What was mapped of it must not be used any more. */
static inline int32_t polychord_layer_release(uint32_t layer) {
    return polychord_import_memory64_release((int32_t)layer);
}

/* 1 if the host made a 64-bit memory for this guest, else 0. */
static inline int polychord_memory64_is_enabled(void) {
    return polychord_import_memory64_is_enabled() == 1;
}

/* Copies from the 64-bit memory, and returns the number of bytes. */
static inline int32_t polychord_memory64_read(uint64_t offset, void *to, size_t len) {
    return polychord_import_memory64_read((int64_t)offset, to, len);
}

/* Copies to the 64-bit memory, and returns the number of bytes. */
static inline int32_t polychord_memory64_write(uint64_t offset, const void *from, size_t len) {
    return polychord_import_memory64_write((int64_t)offset, from, len);
}

/* Fills a structure with statistics. Returns 0, or why it was refused. */
static inline int32_t polychord_memory64_stats(struct polychord_stats *to) {
    const int32_t written = polychord_import_memory64_stats_into(to, sizeof *to);
    if (written < 0) {
        return written;
    }
    return (size_t)written == sizeof *to ? 0 : (int32_t)POLYCHORD_INTERNAL;
}

/* Waits for all ranks, and exchanges what each has computed: rank r brings `chunk` bytes from
 * r * chunk on, fewer where `total` ends, and gets all others. Returns 0, or why it was refused. */
static inline int32_t polychord_all_gather(void *data, size_t chunk, size_t total) {
    return polychord_import_all_gather(data, chunk, total);
}

/* What an error means, in English. */
static inline const char *polychord_error_text(int32_t error) {
    switch (error) {
    case POLYCHORD_NOT_ENABLED: return "the host made no 64-bit memory for this guest that could do it";
    case POLYCHORD_LAYER_NOT_FOUND: return "no layer with this number is registered";
    case POLYCHORD_BUFFER_TOO_SMALL: return "the buffer is smaller than the layer";
    case POLYCHORD_INVALID_RANGE: return "the range leaves the 64-bit memory, or is too long for one call";
    case POLYCHORD_READ_FAILED: return "the bytes could not be read from their source";
    case POLYCHORD_POINTER_OVERFLOW: return "the pointer with its length leaves the address space";
    case POLYCHORD_POINTER_OUT_OF_BOUNDS: return "the pointer is null or leaves the guest's memory";
    case POLYCHORD_INTERNAL: return "the host failed";
    case POLYCHORD_OTHER_MEMORY: return "the layer is not in the memory that pointers are about";
    default: return error < 0 ? "the host refused" : "no error";
    }
}

#endif
