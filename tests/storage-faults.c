/* Faults of the storage under one program, for tests. Compiled as a shared library and preloaded (LD_PRELOAD).
 *
 * Counts the calls that change files below a directory, or make changes durable, from 1; from the N-th on it lets them
 * fail, or ends the process at the N-th, before or after it is made. It loses nothing that the kernel has taken: what a
 * power cut loses is not shown by it.
 *
 *   STORAGE_FAULT_BELOW  the directory, by its real name; nothing is counted without
 *   STORAGE_FAULT        none, kill-before, kill-after, enospc, eio, erofs
 *   STORAGE_FAULT_AT     the first call that is hit (1)
 *   STORAGE_FAULT_TIMES  how many are hit (all from there on)
 *   STORAGE_FAULT_CALLS  only these are counted, with commas between: write, fsync, truncate, unlink, rename (all)
 *   STORAGE_FAULT_WHILE  counted only while this file exists
 *   STORAGE_FAULT_LOG    a file outside of the directory: a line for each counted call: number, call, file
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, KILL_BEFORE, KILL_AFTER, FAIL };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *below, *calls, *only_while, *log_path;
static enum kind kind;
static int error_number;
static unsigned long first_hit = 1, times = ULONG_MAX;
static atomic_ulong counted;

static void die(const char *problem) {
    dprintf(2, "storage-faults: %s\n", problem);
    _exit(99);
}

static unsigned long number(const char *name, unsigned long otherwise) {
    const char *text = getenv(name);
    if (!text) return otherwise;
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text) die("a number is none");
    return value;
}

static void read_environment(void) {
    below = getenv("STORAGE_FAULT_BELOW");
    if (!below) return;
    const char *name = getenv("STORAGE_FAULT");
    if (!name || !strcmp(name, "none")) kind = NONE;
    else if (!strcmp(name, "kill-before")) kind = KILL_BEFORE;
    else if (!strcmp(name, "kill-after")) kind = KILL_AFTER;
    else if (!strcmp(name, "enospc")) kind = FAIL, error_number = ENOSPC;
    else if (!strcmp(name, "eio")) kind = FAIL, error_number = EIO;
    else if (!strcmp(name, "erofs")) kind = FAIL, error_number = EROFS;
    else die("STORAGE_FAULT is none of its values");
    first_hit = number("STORAGE_FAULT_AT", 1);
    times = number("STORAGE_FAULT_TIMES", ULONG_MAX);
    calls = getenv("STORAGE_FAULT_CALLS");
    only_while = getenv("STORAGE_FAULT_WHILE");
    log_path = getenv("STORAGE_FAULT_LOG");
}

/* Is `word` one of those between the commas of `list`? */
static int lists(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length) {
        int begins = at == list || at[-1] == ',', ends = !at[length] || at[length] == ',';
        if (begins && ends) return 1;
    }
    return 0;
}

/* Counts a call on this file. What is to happen: NONE, KILL_AFTER, or FAIL with errno set. */
static enum kind count(const char *call, const char *path) {
    size_t length = strlen(below);
    if (strncmp(path, below, length) || path[length] != '/') return NONE;
    if (calls && !lists(calls, call)) return NONE;
    if (only_while && access(only_while, F_OK)) return NONE;
    unsigned long this_one = atomic_fetch_add(&counted, 1) + 1;
    if (log_path) {
        char line[PATH_MAX + 64];
        int octets = snprintf(line, sizeof line, "%lu %s %s\n", this_one, call, path + length + 1);
        int log = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (log < 0 || octets < 0 || syscall(SYS_write, log, line, (size_t)octets) != octets) die("no log");
        syscall(SYS_close, log);
    }
    if (this_one < first_hit || this_one - first_hit >= times) return NONE;
    if (kind == KILL_BEFORE) syscall(SYS_kill, getpid(), SIGKILL);
    if (kind == FAIL) errno = error_number;
    return kind;
}

static enum kind on_descriptor(const char *call, int descriptor) {
    pthread_once(&once, read_environment);
    if (!below) return NONE;
    int before = errno;
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t octets = readlink(link, path, sizeof path - 1);
    errno = before;
    if (octets < 0) return NONE;
    path[octets] = 0;
    return count(call, path);
}

static enum kind on_path(const char *call, int directory, const char *name) {
    pthread_once(&once, read_environment);
    if (!below) return NONE;
    /* The name's directory, made real; what is removed or renamed is itself no link here. */
    char copy[PATH_MAX], real[PATH_MAX + 256];
    if (directory != AT_FDCWD && name[0] != '/') die("a name relative to an open directory is not handled");
    if (strlen(name) >= sizeof copy) return NONE;
    strcpy(copy, name);
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : name;
    if (slash) *slash = 0;
    if (!realpath(slash ? (*copy ? copy : "/") : ".", real)) return NONE;
    snprintf(real + strlen(real), sizeof real - strlen(real), "/%s", last);
    return count(call, real);
}

static void after(enum kind what) {
    if (what == KILL_AFTER) syscall(SYS_kill, getpid(), SIGKILL);
}

#define NEXT(type, name, ...) \
    static type (*next)(__VA_ARGS__); \
    if (!next) next = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name);

/* Makes the call between its two possible faults. */
#define BETWEEN(type, what, call) \
    enum kind fault = (what); \
    if (fault == FAIL) return -1; \
    type result = (call); \
    after(fault); \
    return result;

ssize_t write(int descriptor, const void *octets, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t)
    BETWEEN(ssize_t, on_descriptor("write", descriptor), next(descriptor, octets, length))
}
ssize_t writev(int descriptor, const struct iovec *parts, int number_of_parts) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int)
    BETWEEN(ssize_t, on_descriptor("write", descriptor), next(descriptor, parts, number_of_parts))
}
ssize_t pwrite(int descriptor, const void *octets, size_t length, off_t offset) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t)
    BETWEEN(ssize_t, on_descriptor("write", descriptor), next(descriptor, octets, length, offset))
}
ssize_t pwrite64(int descriptor, const void *octets, size_t length, off64_t offset) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t)
    BETWEEN(ssize_t, on_descriptor("write", descriptor), next(descriptor, octets, length, offset))
}
int fsync(int descriptor) {
    NEXT(int, "fsync", int)
    BETWEEN(int, on_descriptor("fsync", descriptor), next(descriptor))
}
int fdatasync(int descriptor) {
    NEXT(int, "fdatasync", int)
    BETWEEN(int, on_descriptor("fsync", descriptor), next(descriptor))
}
int ftruncate(int descriptor, off_t length) {
    NEXT(int, "ftruncate", int, off_t)
    BETWEEN(int, on_descriptor("truncate", descriptor), next(descriptor, length))
}
int ftruncate64(int descriptor, off64_t length) {
    NEXT(int, "ftruncate64", int, off64_t)
    BETWEEN(int, on_descriptor("truncate", descriptor), next(descriptor, length))
}
int unlink(const char *path) {
    NEXT(int, "unlink", const char *)
    BETWEEN(int, on_path("unlink", AT_FDCWD, path), next(path))
}
int unlinkat(int directory, const char *path, int flags) {
    NEXT(int, "unlinkat", int, const char *, int)
    BETWEEN(int, on_path("unlink", directory, path), next(directory, path, flags))
}
int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *)
    BETWEEN(int, on_path("rename", AT_FDCWD, to), next(from, to))
}
