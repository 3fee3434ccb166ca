/* Loaded into a program (LD_PRELOAD): makes the Nth of its system calls on files below a folder fail, or kills it there.

   FAULT_ROOT    the folder; calls on other files are let through and not counted
   FAULT_COUNTER a file of eight zero bytes, in which calls are counted over all processes
   FAULT_AT      the number of the call at which it happens, from 1 on; 0 to count only
   FAULT_HOW     EIO, ENOSPC (from then on, for whatever writes), EINTR, SHORT (half of what was asked for), KILL,
                 KILLALL (the whole process group)
   FAULT_PROGRAM a text that the command line has to contain */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { READS, WRITES, OTHERS };

static uint64_t *counter;
static uint64_t at;
static const char *root, *how;
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    char line[4096] = "";
    const char *program = getenv("FAULT_PROGRAM"), *path = getenv("FAULT_COUNTER");
    root = getenv("FAULT_ROOT");
    how = getenv("FAULT_HOW");
    if (!program || !path || !root || !how) return;
    int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY, 0);
    ssize_t n = fd < 0 ? 0 : syscall(SYS_read, fd, line, sizeof line - 1);
    if (fd >= 0) syscall(SYS_close, fd);
    for (ssize_t i = 0; i < n; i++)
        if (!line[i]) line[i] = ' ';
    if (n <= 0 || !strstr(line, program)) return;
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR, 0);
    if (fd < 0) return;
    void *map = (void *)syscall(SYS_mmap, NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    at = strtoull(getenv("FAULT_AT") ? getenv("FAULT_AT") : "0", NULL, 10);
    root_length = strlen(root);
    counter = map;
}

static int below(const char *path) { return !strncmp(path, root, root_length) && path[root_length] == '/'; }

static int named(const char *path) {
    char full[2 * PATH_MAX];
    if (path[0] == '/') return below(path);
    if (syscall(SYS_getcwd, full, PATH_MAX) < 0) return 0;
    strcat(strcat(full, "/"), path);
    return below(full);
}

static int opened(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

/* Count a call; return an error number, 0 to let it through, -1 to do half of it. */
static int fault(enum kind kind) {
    uint64_t number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (!at || number < at) return 0;
    if (!strcmp(how, "ENOSPC") && kind == WRITES) return ENOSPC;
    if (number != at) return 0;
    if (!strcmp(how, "KILL")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "KILLALL")) kill(0, SIGKILL);
    if (!strcmp(how, "SHORT") && kind != OTHERS) return -1;
    if (!strcmp(how, "EINTR") && kind != OTHERS) return EINTR;
    return EIO;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(condition, kind, value) \
    if (counter && (condition)) { int e = fault(kind); if (e > 0) { errno = e; return value; } }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); va_list list; va_start(list, flags); mode_t mode = va_arg(list, int); va_end(list); \
        FAIL_IF(named(path), flags & O_CREAT ? WRITES : OTHERS, -1) \
        return real(path, flags, mode); }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); va_list list; va_start(list, flags); mode_t mode = va_arg(list, int); va_end(list); \
        FAIL_IF(named(path), flags & O_CREAT ? WRITES : OTHERS, -1) \
        return real(folder, path, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

#define HALF(condition, kind, count) \
    if (counter && (condition)) { int e = fault(kind); \
        if (e > 0) { errno = e; return -1; } if (e < 0 && count > 1) count /= 2; }
ssize_t read(int fd, void *data, size_t count) { REAL(read); HALF(opened(fd), READS, count) return real(fd, data, count); }
ssize_t write(int fd, const void *data, size_t count) { REAL(write); HALF(opened(fd), WRITES, count) return real(fd, data, count); }
#define PREAD(name) ssize_t name(int fd, void *data, size_t count, off_t offset) { \
    REAL(name); HALF(opened(fd), READS, count) return real(fd, data, count, offset); }
#define PWRITE(name) ssize_t name(int fd, const void *data, size_t count, off_t offset) { \
    REAL(name); HALF(opened(fd), WRITES, count) return real(fd, data, count, offset); }
PREAD(pread) PREAD(pread64) PWRITE(pwrite) PWRITE(pwrite64)
ssize_t readv(int fd, const struct iovec *data, int count) { REAL(readv); HALF(opened(fd), READS, count) return real(fd, data, count); }
ssize_t writev(int fd, const struct iovec *data, int count) { REAL(writev); HALF(opened(fd), WRITES, count) return real(fd, data, count); }
#define FD(name) int name(int fd) { REAL(name); FAIL_IF(opened(fd), WRITES, -1) return real(fd); }
FD(fsync) FD(fdatasync) FD(syncfs)
#define TRUNCATE(name) int name(int fd, off_t size) { REAL(name); FAIL_IF(opened(fd), WRITES, -1) return real(fd, size); }
TRUNCATE(ftruncate) TRUNCATE(ftruncate64)
int rename(const char *old, const char *new) { REAL(rename); FAIL_IF(named(new), OTHERS, -1) return real(old, new); }
int renameat(int a, const char *old, int b, const char *new) {
    REAL(renameat); FAIL_IF(named(new), OTHERS, -1) return real(a, old, b, new); }
int renameat2(int a, const char *old, int b, const char *new, unsigned flags) {
    REAL(renameat2); FAIL_IF(named(new), OTHERS, -1) return real(a, old, b, new, flags); }
int link(const char *old, const char *new) { REAL(link); FAIL_IF(named(new), WRITES, -1) return real(old, new); }
int unlink(const char *path) { REAL(unlink); FAIL_IF(named(path), OTHERS, -1) return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); FAIL_IF(named(path), WRITES, -1) return real(path, mode); }
#define MMAP(name) void *name(void *address, size_t size, int protection, int flags, int fd, off_t offset) { \
    REAL(name); FAIL_IF(fd >= 0 && opened(fd), OTHERS, MAP_FAILED) return real(address, size, protection, flags, fd, offset); }
MMAP(mmap) MMAP(mmap64)
