/* Calls functions that the embedding program has defined for it. */
#include "polychord.h"

/* Takes a text, and returns how many bytes it has. */
POLYCHORD_HOST("host", "log") int64_t host_log(const char *text, size_t len);
/* Writes the name of the program, and returns its length. */
POLYCHORD_HOST("host", "name") uint32_t host_name(char *to, size_t max);
POLYCHORD_HOST("host", "scale") double host_scale(double by, uint32_t number);

/* Greets the program by its name. Returns three times the bytes that it was told. */
POLYCHORD_EXPORT("greet") double greet(void) {
    char name[32];
    const uint32_t len = host_name(name, sizeof name);
    int64_t told = host_log("hello, ", 7);
    told += len <= sizeof name ? host_log(name, len) : host_log("whatever you are", 16);
    return host_scale(3.0, (uint32_t)told);
}
