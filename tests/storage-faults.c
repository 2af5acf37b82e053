/* Faults of the storage under one program, for tests. Compiled as a shared library and preloaded
 * (LD_PRELOAD).
 *
 * Counts the calls that change files below a directory, or make changes durable, from 1. From the
 * N-th on it lets them fail, or it ends the process at the N-th, before or after it is made. A
 * killed process loses nothing that the kernel has taken. With cut-power it loses that too: before
 * the process is ended, what its files were written since their last fsync or fdatasync is undone,
 * or kept, by the seed's dice: all, none, whole writes, or single sectors of 512 octets. That files
 * were made, removed or renamed is kept in any case.
 *
 *   STORAGE_FAULT_BELOW  the directory, by its real name; nothing is counted without
 *   STORAGE_FAULT        none, kill-before, kill-after, cut-power (before the call), enospc, eio,
 *                        erofs (also where a file is opened to be written, which is not counted),
 *                        hang (until the file of STORAGE_FAULT_WHILE is gone)
 *   STORAGE_FAULT_AT     the first call that is hit (1)
 *   STORAGE_FAULT_TIMES  how many are hit (all from there on)
 *   STORAGE_FAULT_CALLS  only these are counted, with commas between: write, fsync, truncate,
 *                        unlink, rename (all)
 *   STORAGE_FAULT_WHILE  counted only while this file exists; a fault and calls in it, with a blank
 *                        between, take the place of STORAGE_FAULT and STORAGE_FAULT_CALLS
 *   STORAGE_FAULT_SEED   with cut-power: what is lost (1)
 *   STORAGE_FAULT_LOG    a file outside of the directory: a line for each counted call: number,
 *                        call, file
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, KILL_BEFORE, KILL_AFTER, CUT_POWER, HANG, FAIL };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *below, *calls, *only_while, *log_path;
static enum kind kind;
static int error_number;
static unsigned long first_hit = 1, times = ULONG_MAX, dice = 1;
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

static enum kind kind_named(const char *name, int *number) {
    if (!strcmp(name, "none")) return NONE;
    if (!strcmp(name, "kill-before")) return KILL_BEFORE;
    if (!strcmp(name, "kill-after")) return KILL_AFTER;
    if (!strcmp(name, "cut-power")) return CUT_POWER;
    if (!strcmp(name, "hang")) return HANG;
    *number = !strcmp(name, "enospc")  ? ENOSPC
              : !strcmp(name, "eio")   ? EIO
              : !strcmp(name, "erofs") ? EROFS
                                       : 0;
    if (!*number) die("a fault is none of its values");
    return FAIL;
}

static void read_environment(void) {
    below = getenv("STORAGE_FAULT_BELOW");
    if (!below) return;
    const char *name = getenv("STORAGE_FAULT");
    kind = kind_named(name ? name : "none", &error_number);
    first_hit = number("STORAGE_FAULT_AT", 1);
    times = number("STORAGE_FAULT_TIMES", ULONG_MAX);
    dice = number("STORAGE_FAULT_SEED", 1) * 2654435761u + 1;
    calls = getenv("STORAGE_FAULT_CALLS");
    only_while = getenv("STORAGE_FAULT_WHILE");
    log_path = getenv("STORAGE_FAULT_LOG");
}

/* What was written since the last fsync, in order: with cut-power only. */
struct change {
    struct change *next, *previous;
    char path[PATH_MAX];
    ino_t file;
    off_t offset, size_before;
    /* -1 for a change of the size to `offset`. */
    ssize_t length;
    unsigned char *old, *new;
    size_t old_length;
};
static struct change *oldest, *newest;
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

static unsigned long roll(unsigned long sides) {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return dice % sides;
}

static ssize_t put(int file, const void *octets, size_t length, off_t offset) {
    return syscall(SYS_pwrite64, file, octets, length, offset);
}

static int open_file_of(const struct change *change) {
    int file = syscall(SYS_openat, AT_FDCWD, change->path, O_RDWR | O_CLOEXEC, 0);
    struct stat status;
    if (file >= 0 && (fstat(file, &status) || status.st_ino != change->file))
        syscall(SYS_close, file), file = -1;
    return file;
}

static void cut_power(void) {
    unsigned long manner = roll(4);
    enum { LOSE_ALL, KEEP_ALL, LOSE_WRITES, LOSE_SECTORS };
    if (manner != KEEP_ALL) {
        for (struct change *change = newest; change; change = change->previous) {
            int file = open_file_of(change);
            if (file < 0) continue;
            if (change->old_length &&
                put(file, change->old, change->old_length, change->offset) < 0)
                die("no undoing");
            if (syscall(SYS_ftruncate, file, change->size_before)) die("no undoing");
            syscall(SYS_close, file);
        }
        for (struct change *change = oldest; change && manner != LOSE_ALL; change = change->next) {
            int file = open_file_of(change);
            if (file < 0) continue;
            if (change->length < 0) {
                if (roll(2)) syscall(SYS_ftruncate, file, change->offset);
            } else if (manner == LOSE_WRITES) {
                if (roll(2)) put(file, change->new, change->length, change->offset);
            } else {
                for (off_t at = 0, end; at < change->length; at = end) {
                    end = (change->offset + at) / 512 * 512 + 512 - change->offset;
                    if (end > change->length) end = change->length;
                    if (roll(2)) put(file, change->new + at, end - at, change->offset + at);
                }
            }
            syscall(SYS_close, file);
        }
    }
    syscall(SYS_kill, getpid(), SIGKILL);
}

/* To be called with `changing` locked, before the change is made. */
static void remember(int descriptor, const void *octets, ssize_t length, off_t offset) {
    struct change *change = calloc(1, sizeof *change);
    struct stat status;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (!change || fstat(descriptor, &status) ||
        readlink(link, change->path, sizeof change->path - 1) < 0)
        die("no memory");
    change->file = status.st_ino;
    change->size_before = status.st_size;
    change->offset = offset;
    change->length = length;
    /* What is overwritten, or cut off. */
    off_t end = length < 0 ? status.st_size : offset + length;
    if (end > status.st_size) end = status.st_size;
    if (end > offset) {
        change->old_length = end - offset;
        change->old = malloc(change->old_length);
        if (!change->old) die("no memory");
        /* The descriptor may be open for writing only. */
        int file = open_file_of(change);
        if (file < 0 || syscall(SYS_pread64, file, change->old, change->old_length, offset) !=
                            (ssize_t)change->old_length)
            die("what is overwritten cannot be read");
        syscall(SYS_close, file);
    }
    if (length > 0) {
        change->new = malloc(length);
        if (!change->new) die("no memory");
        memcpy(change->new, octets, length);
    }
    change->previous = newest;
    if (newest) newest->next = change;
    else oldest = change;
    newest = change;
}

static void forget(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status)) die("no status");
    for (struct change *change = oldest, *next; change; change = next) {
        next = change->next;
        if (change->file != status.st_ino) continue;
        *(change->previous ? &change->previous->next : &oldest) = change->next;
        *(change->next ? &change->next->previous : &newest) = change->previous;
        free(change->old), free(change->new), free(change);
    }
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

static int is_below(const char *path) {
    size_t length = strlen(below);
    return !strncmp(path, below, length) && path[length] == '/';
}

/* The fault that is ordered now, its error and its calls. */
struct order {
    enum kind kind;
    int error_number;
    char calls[64];
};

/* What the file of STORAGE_FAULT_WHILE says, or else the environment. None while there is no such
 * file. */
static int read_order(struct order *order) {
    *order = (struct order){kind, error_number, ""};
    if (calls) snprintf(order->calls, sizeof order->calls, "%s", calls);
    if (!only_while) return 1;
    int file = syscall(SYS_openat, AT_FDCWD, only_while, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return 0;
    char text[128], name[32];
    ssize_t octets = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (octets <= 0) return 1;
    text[octets] = 0, order->calls[0] = 0;
    if (sscanf(text, "%31s %63s", name, order->calls) < 1) die("a fault is none of its values");
    order->kind = kind_named(name, &order->error_number);
    return 1;
}

/* Counts a call on this file. What is to happen: NONE, KILL_AFTER, or FAIL with errno set. */
static enum kind count(const char *call, const char *path) {
    size_t length = strlen(below);
    struct order order;
    if (!is_below(path)) return NONE;
    if (!read_order(&order)) return NONE;
    if (order.calls[0] && !lists(order.calls, call)) return NONE;
    unsigned long this_one = atomic_fetch_add(&counted, 1) + 1;
    if (log_path) {
        char line[PATH_MAX + 64];
        int octets = snprintf(line, sizeof line, "%lu %s %s\n", this_one, call, path + length + 1);
        int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
        int log = syscall(SYS_openat, AT_FDCWD, log_path, flags, 0600);
        if (log < 0 || octets < 0 || syscall(SYS_write, log, line, (size_t)octets) != octets)
            die("no log");
        syscall(SYS_close, log);
    }
    if (this_one < first_hit || this_one - first_hit >= times) return NONE;
    if (order.kind == KILL_BEFORE) syscall(SYS_kill, getpid(), SIGKILL);
    if (order.kind == CUT_POWER) cut_power();
    if (order.kind == FAIL) errno = order.error_number;
    while (order.kind == HANG && only_while && !access(only_while, F_OK)) usleep(10000);
    return order.kind == HANG ? NONE : order.kind;
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
    if (directory != AT_FDCWD && name[0] != '/')
        die("a name relative to an open directory is not handled");
    if (strlen(name) >= sizeof copy) return NONE;
    strcpy(copy, name);
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : name;
    if (slash) *slash = 0;
    if (!realpath(slash ? (*copy ? copy : "/") : ".", real)) return NONE;
    snprintf(real + strlen(real), sizeof real - strlen(real), "/%s", last);
    return count(call, real);
}

/* A read-only file system lets nothing be opened to be written. */
static int may_open(const char *name, int flags) {
    pthread_once(&once, read_environment);
    int before = errno;
    char real[PATH_MAX];
    struct order order;
    if (!below || (flags & O_ACCMODE) == O_RDONLY || !realpath(name, real) || !is_below(real))
        return errno = before, 1;
    if (!read_order(&order) || order.kind != FAIL || order.error_number != EROFS)
        return errno = before, 1;
    return errno = EROFS, 0;
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

/* Is this a file whose unsynced changes are to be known? Then `changing` is locked until it is let
 * go. */
static int lock_changes(int descriptor) {
    pthread_once(&once, read_environment);
    if (!below || kind != CUT_POWER) return 0;
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t octets = readlink(link, path, sizeof path - 1);
    if (octets < 0) return 0;
    path[octets] = 0;
    if (!is_below(path)) return 0;
    pthread_mutex_lock(&changing);
    return 1;
}

static off_t place_of_next_write(int descriptor) {
    struct stat status;
    if (fcntl(descriptor, F_GETFL) & O_APPEND)
        return fstat(descriptor, &status) ? 0 : status.st_size;
    return lseek(descriptor, 0, SEEK_CUR);
}

/* A call that changes a file. OCTETS and LENGTH as they are asked for; all of it is taken to be
 * written. */
#define CHANGING(type, name, octets, length, offset, call) \
    int is_known = lock_changes(descriptor); \
    enum kind fault = on_descriptor(name, descriptor); \
    type result = -1; \
    if (fault != FAIL) { \
        if (is_known) remember(descriptor, octets, length, offset); \
        result = (call); \
    } \
    if (is_known) pthread_mutex_unlock(&changing); \
    after(fault); \
    return result;

/* A call that makes a file's changes durable. */
#define SYNCING(call) \
    int is_known = lock_changes(descriptor); \
    enum kind fault = on_descriptor("fsync", descriptor); \
    int result = -1; \
    if (fault != FAIL) { \
        result = (call); \
        if (is_known && !result) forget(descriptor); \
    } \
    if (is_known) pthread_mutex_unlock(&changing); \
    after(fault); \
    return result;

ssize_t write(int descriptor, const void *octets, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t)
    CHANGING(ssize_t, "write", octets, length, place_of_next_write(descriptor),
             next(descriptor, octets, length))
}
ssize_t writev(int descriptor, const struct iovec *parts, int number_of_parts) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int)
    if (lock_changes(descriptor)) die("writev to a file is not handled");
    BETWEEN(ssize_t, on_descriptor("write", descriptor), next(descriptor, parts, number_of_parts))
}
ssize_t pwrite(int descriptor, const void *octets, size_t length, off_t offset) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t)
    CHANGING(ssize_t, "write", octets, length, offset, next(descriptor, octets, length, offset))
}
ssize_t pwrite64(int descriptor, const void *octets, size_t length, off64_t offset) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t)
    CHANGING(ssize_t, "write", octets, length, offset, next(descriptor, octets, length, offset))
}
int fsync(int descriptor) {
    NEXT(int, "fsync", int)
    SYNCING(next(descriptor))
}
int fdatasync(int descriptor) {
    NEXT(int, "fdatasync", int)
    SYNCING(next(descriptor))
}
int ftruncate(int descriptor, off_t length) {
    NEXT(int, "ftruncate", int, off_t)
    CHANGING(int, "truncate", NULL, -1, length, next(descriptor, length))
}
int ftruncate64(int descriptor, off64_t length) {
    NEXT(int, "ftruncate64", int, off64_t)
    CHANGING(int, "truncate", NULL, -1, length, next(descriptor, length))
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
int open(const char *path, int flags, ...) {
    NEXT(int, "open", const char *, int, ...)
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return may_open(path, flags) ? next(path, flags, mode) : -1;
}
int open64(const char *path, int flags, ...) {
    NEXT(int, "open64", const char *, int, ...)
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return may_open(path, flags) ? next(path, flags, mode) : -1;
}
