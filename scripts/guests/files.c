/* A command in C with files: what it prints depends on nothing but its arguments and /data.

   Built by scripts/test-guests with Debian's clang, lld and wasi-libc. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory, in order, and the sizes of files. */
static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return fail(path);
    char *names[64];
    size_t count = 0;
    struct dirent *entry;
    while (count < 64 && (entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof *names, compare);
    for (size_t index = 0; index < count; index++) {
        char name[512];
        struct stat stat_of;
        snprintf(name, sizeof name, "%s/%s", path, names[index]);
        if (lstat(name, &stat_of)) return fail(name);
        if (S_ISREG(stat_of.st_mode)) printf("%s %lld\n", names[index], (long long)stat_of.st_size);
    }
    return 0;
}

static int write_and_read(void) {
    FILE *file = fopen("/data/numbers", "w+");
    if (!file) return fail("/data/numbers");
    for (int number = 0; number < 1000; number++) fprintf(file, "%d %.17g\n", number, number / 7.0);
    rewind(file);
    unsigned hash = 2166136261u;
    int byte;
    while ((byte = fgetc(file)) != EOF) hash = (hash ^ (unsigned)byte) * 16777619u;
    if (fseek(file, -5, SEEK_END)) return fail("fseek");
    char end[8] = {0};
    if (!fgets(end, sizeof end, file)) return fail("fgets");
    fclose(file);
    printf("hash %08x, end %s", hash, end);
    if (mkdir("/data/folder", 0777) || rename("/data/numbers", "/data/folder/renamed"))
        return fail("rename");
    if (list("/data") || list("/data/folder")) return 1;
    if (unlink("/data/folder/renamed") || rmdir("/data/folder")) return fail("remove");
    return 0;
}

/* What is not in /data is not there. */
static int stay_inside(void) {
    const char *outside[] = {"/etc/passwd", "/data/../secret", "/data/link"};
    for (int index = 0; index < 3; index++) {
        if (open(outside[index], O_RDONLY) >= 0) {
            printf("%s can be opened\n", outside[index]);
            return 1;
        }
        printf("%s cannot be opened\n", outside[index]);
    }
    return 0;
}

int main(int argc, char **argv) {
    for (int index = 1; index < argc; index++) printf("argument %s\n", argv[index]);
    printf("GREETING %s\n", getenv("GREETING") ? getenv("GREETING") : "(none)");
    char line[100];
    while (fgets(line, sizeof line, stdin)) printf("line %s", line);
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return fail("clock_gettime");
    printf("the time is %s\n", now.tv_sec > 0 ? "known" : "not known");
    if (write_and_read() || stay_inside()) return 1;
    fprintf(stderr, "done\n");
    return argc > 1 ? atoi(argv[argc - 1]) : 0;
}
