/* Makes a system call fail, below everything that a program is made of: the tests of tests/faults.rs load it by
 * LD_PRELOAD into whole runs of the program.
 *
 * POLYCHORD_FAULT=FUNCTION:WHEN:KIND
 *     FUNCTION  one of the names below
 *     WHEN      5 for the fifth call alone, 5+ for it and all later ones, %5 for each fifth one
 *     KIND      a number of errno, `short` for half of the bytes, `jump=SECONDS` for a clock
 * POLYCHORD_FAULT_PATH=TEXT  counts only calls about files whose path has this text in it
 * POLYCHORD_FAULT_LOG=FILE   gets a line for each call that was made to fail
 * POLYCHORD_FAULT_COUNTS=FILE  gets the number of calls of each function at the end
 *
 * Calls by functions of the C library are replaced by name. Those that the program's own code makes directly, as
 * the crate `rustix` does, are caught by a seccomp filter that looks at the address of the instruction, and are
 * made again, or fail, in the handler of SIGSYS. Calls within the C library itself (malloc, fopen, dlopen) are
 * not seen, and reads and writes only of files and of standard output: not of pipes and sockets, nor what goes to
 * standard error, where errors are told. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum function { OPEN, READ, WRITE, FSYNC, TRUNCATE, RENAME, MMAP, MPROTECT, MADVISE, MEMFD, THREAD, MONOTONIC, REALTIME, FUNCTIONS };

static const char *const NAMES[FUNCTIONS] = {
    "open", "read", "write", "fsync", "truncate", "rename", "mmap", "mprotect", "madvise", "memfd", "thread", "monotonic", "realtime",
};

static struct {
    int armed, function, from_then_on, each, error, shortened;
    unsigned long when;
    long jump;
    const char *path;
    char log[512], counts[512];
} fault = { .function = -1 };

static atomic_ulong calls[FUNCTIONS];

static void append(const char *path, const char *line, size_t len) {
    long file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        syscall(SYS_write, file, line, len);
        syscall(SYS_close, file);
    }
}

/* The path of an open file, or nothing. */
static void path_of(int file, char *path, size_t room) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long len = file < 0 ? -1 : syscall(SYS_readlinkat, AT_FDCWD, link, path, room - 1);
    path[len < 0 ? 0 : len] = 0;
}

/* Whether this call is to fail. */
static int hits(enum function function, int file, const char *name) {
    if (!fault.armed) return 0;
    char path[512] = "";
    int is_asked = (int)function == fault.function;
    if (is_asked || fault.path) {
        if (name) snprintf(path, sizeof path, "%s", name);
        else path_of(file, path, sizeof path);
    }
    if (fault.path && !strstr(path, fault.path)) return 0;
    unsigned long number = atomic_fetch_add(&calls[function], 1) + 1;
    if (!is_asked) return 0;
    int is_hit = fault.each ? number % fault.when == 0
        : fault.from_then_on ? number >= fault.when : number == fault.when;
    if (is_hit && fault.log[0]) {
        char line[700];
        int len = snprintf(line, sizeof line, "%s %lu %d %s\n", NAMES[function], number, getpid(), path);
        append(fault.log, line, (size_t)len);
    }
    return is_hit;
}

static int is_file(int file) {
    struct stat found;
    if (file == 1) return 1;
    if (file == 2) return 0;
    return syscall(SYS_fstat, file, &found) == 0 && S_ISREG(found.st_mode);
}

/* Rust's standard library has a stack for signals in each thread, and ends the process if there is none. That is not
 * ours to change: these calls do not fail. */
static int is_signal_stack(long len, long flags) { return (flags & MAP_ANONYMOUS) && len < 64 << 10; }
static int is_guard(long len, long protection) { return protection == PROT_NONE && len == sysconf(_SC_PAGESIZE); }

/* Makes a call, or lets it fail: the result, or a negative errno, as the kernel has it. */
static long make(long number, long a, long b, long c, long d, long e, long f) {
    int error = 0;
    switch (number) {
#ifdef SYS_open
    case SYS_open: error = hits(OPEN, -1, (const char *)a); break;
#endif
    case SYS_openat: case SYS_openat2: error = hits(OPEN, -1, (const char *)b); break;
    case SYS_read: case SYS_pread64:
        if (is_file((int)a) && (error = hits(READ, (int)a, NULL)) && fault.shortened) {
            c -= c / 2;
            error = 0;
        }
        break;
    case SYS_write: case SYS_pwrite64:
        if (is_file((int)a) && (error = hits(WRITE, (int)a, NULL)) && fault.shortened) {
            c -= c / 2;
            error = 0;
        }
        break;
    case SYS_readv: case SYS_preadv: case SYS_writev: case SYS_pwritev: {
        int is_read = number == SYS_readv || number == SYS_preadv;
        if (is_file((int)a) && (error = hits(is_read ? READ : WRITE, (int)a, NULL)) && fault.shortened) {
            c = c > 1 ? c - c / 2 : c;
            error = 0;
        }
        break;
    }
    case SYS_fsync: case SYS_fdatasync: error = hits(FSYNC, (int)a, NULL); break;
    case SYS_ftruncate: case SYS_fallocate: error = hits(TRUNCATE, (int)a, NULL); break;
#ifdef SYS_rename
    case SYS_rename: error = hits(RENAME, -1, (const char *)b); break;
#endif
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2: error = hits(RENAME, -1, (const char *)d); break;
    case SYS_mmap: error = !is_signal_stack(b, d) && hits(MMAP, (int)e, NULL); break;
    case SYS_mremap: error = hits(MMAP, -1, ""); break;
    case SYS_mprotect: error = !is_guard(b, c) && hits(MPROTECT, -1, ""); break;
    case SYS_madvise: error = hits(MADVISE, -1, ""); break;
    case SYS_memfd_create: error = hits(MEMFD, -1, (const char *)a); break;
    }
    if (error && fault.error) return -fault.error;
    int before = errno;
    long result = syscall(number, a, b, c, d, e, f);
    if (result == -1) {
        result = -errno;
        errno = before;
    }
    return result;
}

/* Calls that the program makes without the C library. */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define REGISTER(context, name) (context)->uc_mcontext.gregs[REG_##name]
#define CALL(context) REGISTER(context, RAX), REGISTER(context, RDI), REGISTER(context, RSI), REGISTER(context, RDX), \
    REGISTER(context, R10), REGISTER(context, R8), REGISTER(context, R9)
#define RESULT(context) REGISTER(context, RAX)
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define REGISTER(context, number) (long)(context)->uc_mcontext.regs[number]
#define CALL(context) REGISTER(context, 8), REGISTER(context, 0), REGISTER(context, 1), REGISTER(context, 2), \
    REGISTER(context, 3), REGISTER(context, 4), REGISTER(context, 5)
#define RESULT(context) (context)->uc_mcontext.regs[0]
#endif

static const int CAUGHT[] = {
    SYS_openat, SYS_openat2, SYS_read, SYS_pread64, SYS_readv, SYS_preadv, SYS_write, SYS_pwrite64, SYS_writev,
    SYS_pwritev, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_renameat2, SYS_mmap, SYS_mremap,
    SYS_mprotect, SYS_madvise, SYS_memfd_create,
#ifdef SYS_open
    SYS_open, SYS_rename,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
};
enum { CAUGHT_CALLS = sizeof CAUGHT / sizeof *CAUGHT };

static void caught(int signal, siginfo_t *info, void *data) {
    (void)signal;
    (void)info;
    ucontext_t *context = data;
    RESULT(context) = make(CALL(context));
}

/* The code of the program itself is the first one that the linker knows. */
static int first_code(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    uint64_t *range = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            range[0] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            range[1] = range[0] + info->dlpi_phdr[i].p_memsz;
        }
    }
    return 1;
}

static void catch_calls_of_the_program(void) {
    uint64_t code[2] = { 0, 0 };
    dl_iterate_phdr(first_code, code);
    /* A filter compares 32 bits: seldom, code lies across a border of these, and its own calls are not seen. */
    if (code[0] >> 32 != code[1] >> 32 || code[1] == 0) return;
    struct sigaction action = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART };
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter filter[8 + CAUGHT_CALLS + 2];
    int n = 0;
    const unsigned char end = 8 + CAUGHT_CALLS;
#define ADDRESS(half) (offsetof(struct seccomp_data, instruction_pointer) + (__BYTE_ORDER == __LITTLE_ENDIAN ? (half) : 4 - (half)))
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ADDRESS(4));
    filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(code[0] >> 32), 0, (unsigned char)(end - n - 1)); n++;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ADDRESS(0));
    filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)code[0], 0, (unsigned char)(end - n - 1)); n++;
    filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)code[1], (unsigned char)(end - n - 1), 0); n++;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, (unsigned char)(end - n - 1)); n++;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CAUGHT_CALLS; i++, n++) {
        filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)CAUGHT[i], (unsigned char)(end + 1 - n - 1), 0);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = { .len = (unsigned short)n, .filter = filter };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void wrong(const char *spec) {
    fprintf(stderr, "shim: no fault is called %s\n", spec);
    _exit(99);
}

__attribute__((constructor)) static void start(void) {
    const char *spec = getenv("POLYCHORD_FAULT"), *log = getenv("POLYCHORD_FAULT_LOG");
    const char *counts = getenv("POLYCHORD_FAULT_COUNTS");
    fault.path = getenv("POLYCHORD_FAULT_PATH");
    snprintf(fault.log, sizeof fault.log, "%s", log ? log : "");
    snprintf(fault.counts, sizeof fault.counts, "%s", counts ? counts : "");
    if (spec) {
        char name[32], when[32], kind[32];
        if (sscanf(spec, "%31[^:]:%31[^:]:%31s", name, when, kind) != 3) wrong(spec);
        for (int i = 0; i < FUNCTIONS; i++) if (!strcmp(name, NAMES[i])) fault.function = i;
        fault.each = when[0] == '%';
        fault.from_then_on = strchr(when, '+') != NULL;
        fault.when = strtoul(when + fault.each, NULL, 10);
        if (!strcmp(kind, "short")) fault.shortened = 1;
        else if (!strncmp(kind, "jump=", 5)) fault.jump = atol(kind + 5);
        else fault.error = atoi(kind);
        if (fault.function < 0 || !fault.when || !(fault.shortened || fault.jump || fault.error)) wrong(spec);
    }
    catch_calls_of_the_program();
    fault.armed = 1;
}

__attribute__((destructor)) static void end(void) {
    fault.armed = 0;
    if (!fault.counts[0]) return;
    char text[1024];
    int len = 0;
    for (int i = 0; i < FUNCTIONS; i++) {
        len += snprintf(text + len, sizeof text - (size_t)len, "%s %lu\n", NAMES[i], atomic_load(&calls[i]));
    }
    append(fault.counts, text, (size_t)len);
}

/* Functions of the C library. */

static long returned(long result) {
    if (result >= 0 || result < -4095) return result;
    errno = (int)-result;
    return -1;
}

#define L(value) (long)(value)
#define SYSCALL(number, a, b, c, d, e, f) returned(make(number, L(a), L(b), L(c), L(d), L(e), L(f)))
#define MODE(flags) \
    int mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, int); \
        va_end(list); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return (int)SYSCALL(SYS_openat, AT_FDCWD, path, flags, mode, 0, 0); }
int open64(const char *path, int flags, ...) { MODE(flags) return (int)SYSCALL(SYS_openat, AT_FDCWD, path, flags, mode, 0, 0); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return (int)SYSCALL(SYS_openat, at, path, flags, mode, 0, 0); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return (int)SYSCALL(SYS_openat, at, path, flags, mode, 0, 0); }
ssize_t read(int file, void *to, size_t len) { return SYSCALL(SYS_read, file, to, len, 0, 0, 0); }
ssize_t pread(int file, void *to, size_t len, off_t at) { return SYSCALL(SYS_pread64, file, to, len, at, 0, 0); }
ssize_t pread64(int file, void *to, size_t len, off_t at) { return SYSCALL(SYS_pread64, file, to, len, at, 0, 0); }
ssize_t readv(int file, const struct iovec *to, int count) { return SYSCALL(SYS_readv, file, to, count, 0, 0, 0); }
ssize_t preadv(int file, const struct iovec *to, int count, off_t at) { return SYSCALL(SYS_preadv, file, to, count, at, 0, 0); }
ssize_t preadv64(int file, const struct iovec *to, int count, off_t at) { return SYSCALL(SYS_preadv, file, to, count, at, 0, 0); }
ssize_t write(int file, const void *from, size_t len) { return SYSCALL(SYS_write, file, from, len, 0, 0, 0); }
ssize_t pwrite(int file, const void *from, size_t len, off_t at) { return SYSCALL(SYS_pwrite64, file, from, len, at, 0, 0); }
ssize_t pwrite64(int file, const void *from, size_t len, off_t at) { return SYSCALL(SYS_pwrite64, file, from, len, at, 0, 0); }
ssize_t writev(int file, const struct iovec *from, int count) { return SYSCALL(SYS_writev, file, from, count, 0, 0, 0); }
int fsync(int file) { return (int)SYSCALL(SYS_fsync, file, 0, 0, 0, 0, 0); }
int fdatasync(int file) { return (int)SYSCALL(SYS_fdatasync, file, 0, 0, 0, 0, 0); }
int ftruncate(int file, off_t len) { return (int)SYSCALL(SYS_ftruncate, file, len, 0, 0, 0, 0); }
int ftruncate64(int file, off_t len) { return (int)SYSCALL(SYS_ftruncate, file, len, 0, 0, 0, 0); }
int rename(const char *from, const char *to) { return (int)SYSCALL(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0, 0); }
int renameat(int a, const char *from, int b, const char *to) { return (int)SYSCALL(SYS_renameat2, a, from, b, to, 0, 0); }
void *mmap(void *at, size_t len, int protection, int flags, int file, off_t offset) {
    return (void *)SYSCALL(SYS_mmap, at, len, protection, flags, file, offset);
}
void *mmap64(void *at, size_t len, int protection, int flags, int file, off_t offset) {
    return (void *)SYSCALL(SYS_mmap, at, len, protection, flags, file, offset);
}
int mprotect(void *at, size_t len, int protection) { return (int)SYSCALL(SYS_mprotect, at, len, protection, 0, 0, 0); }
int madvise(void *at, size_t len, int advice) { return (int)SYSCALL(SYS_madvise, at, len, advice, 0, 0, 0); }
int memfd_create(const char *name, unsigned flags) { return (int)SYSCALL(SYS_memfd_create, name, flags, 0, 0, 0, 0); }

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *data) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    return hits(THREAD, -1, "") ? fault.error : next(thread, how, run, data);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, time);
    if (clock == CLOCK_MONOTONIC ? hits(MONOTONIC, -1, "") : clock == CLOCK_REALTIME && hits(REALTIME, -1, "")) {
        time->tv_sec += fault.jump;
        if (time->tv_sec < 0) time->tv_sec = 0;
    }
    return result;
}
