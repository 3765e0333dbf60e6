/* Sums layers of floats: where they lie, and in a copy. Needs no libc. */
#include "polychord.h"

static double sum(const float *values, size_t count) {
    double sum = 0;
    for (size_t index = 0; index < count; index++) {
        sum += (double)values[index];
    }
    return sum;
}

/* The sum of a layer where it lies, or NaN if the host refuses. Nothing is copied if the host has
 * loaded the layer before. */
POLYCHORD_EXPORT("sum_mapped") double sum_mapped(uint32_t layer) {
    struct polychord_mapped mapped;
    if (polychord_layer_map(layer, &mapped) < 0) {
        return __builtin_nan("");
    }
    return sum((const float *)mapped.bytes, mapped.len / sizeof(float));
}

/* The sum of a copy, for layers in a memory of the host. */
POLYCHORD_EXPORT("sum_loaded") double sum_loaded(uint32_t layer) {
    static float copy[1 << 18];
    const int32_t len = polychord_layer_load(layer, copy, sizeof copy);
    return len < 0 ? __builtin_nan("") : sum(copy, (size_t)len / sizeof(float));
}

/* Why a layer cannot be mapped: a code of the ABI, or 0 if it can be. */
POLYCHORD_EXPORT("refusal") int32_t refusal(uint32_t layer) {
    struct polychord_mapped mapped;
    return polychord_layer_map(layer, &mapped);
}

/* Layers that were copied in since the guest was started. */
POLYCHORD_EXPORT("copied") uint64_t copied(void) {
    struct polychord_stats stats;
    return polychord_memory64_stats(&stats) < 0 ? 0 : stats.loads - stats.maps;
}
