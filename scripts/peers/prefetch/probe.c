// Tells whether the hardware prefetches for code that does much with each byte, as products of
// quantized weights do: prints a JSON object of speeds in GB/s.
//
//   scan      memory that is only read
//   cached    the code where its bytes are in the L2 cache
//   streamed  over memory: as fast as `cached` if the hardware prefetches
//   touched   with one load for each cache line of the next 16 KiB, in a row, before these are used
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CACHED = 256 << 10, ALL = 128 << 20, BURST = 16 << 10, LINE = 64, TURNS = 7 };

static volatile uint64_t sink;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void scan(const uint64_t *words, size_t count) {
    uint64_t sums[4] = {0};
    for (size_t i = 0; i < count; i += 4) {
        for (int lane = 0; lane < 4; lane++) sums[lane] ^= words[i + lane];
    }
    sink = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

// Some eighty instructions for each line, in four chains.
static void compute(const uint64_t *words, size_t count) {
    uint64_t sums[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < count; i += 4) {
        for (int lane = 0; lane < 4; lane++) {
            const uint64_t word = words[i + lane];
            sums[lane] += (word & 0x0f0f0f0f) * 7 + (word >> 4 & 0x0f0f0f0f) * 5 + (word >> 33 ^ word) * 3;
        }
    }
    sink = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

static void compute_touched(const uint64_t *words, size_t count) {
    for (size_t i = 0; i < count; i += BURST / 8) {
        uint64_t sum = 0;
        for (size_t at = 0; at < BURST / 8; at += LINE / 8) sum ^= words[i + at];
        sink = sum;
        compute(words + i, BURST / 8);
    }
}

// The best of some turns, each over `bytes` again and again until all bytes were read once.
static double speed(void (*run)(const uint64_t *, size_t), const uint64_t *words, size_t bytes) {
    double best = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        const double start = now();
        for (size_t done = 0; done < ALL; done += bytes) run(words, bytes / 8);
        const double found = ALL / (now() - start) / 1e9;
        if (found > best) best = found;
    }
    return best;
}

int main(void) {
    uint64_t *words = malloc(ALL);
    if (!words) return 1;
    for (size_t i = 0; i < ALL / 8; i++) words[i] = i * 0x9e3779b97f4a7c15;
    printf("{\"scan\": %.2f, ", speed(scan, words, ALL));
    printf("\"cached\": %.2f, ", speed(compute, words, CACHED));
    printf("\"streamed\": %.2f, ", speed(compute, words, ALL));
    printf("\"touched\": %.2f}\n", speed(compute_touched, words, ALL));
    free(words);
    return 0;
}
