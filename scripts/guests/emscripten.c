/* What emscripten makes of C: arguments, environment, input and numbers by WASI, beside a function that the
   embedding program gives to each guest. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((import_module("env"), import_name("memory64_is_enabled"))) int32_t memory64_is_enabled(void);

int main(int argc, char **argv) {
    char line[64];
    unsigned lines = 0;
    double sum = 0;
    for (int i = 1; i < argc; i++)
        printf("argument %s\n", argv[i]);
    while (fgets(line, sizeof line, stdin))
        lines++;
    for (int i = 1; i <= 10; i++)
        sum += 1.0 / i;
    const char *greeting = getenv("GREETING");
    printf("%u lines, GREETING=%s, %.17g\n", lines, greeting ? greeting : "", sum);
    printf("64-bit memories are %s\n", memory64_is_enabled() ? "there" : "not there");
    return argc;
}
