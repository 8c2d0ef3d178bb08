/* Makes one call that changes files below a folder fail: a write, sync, cut, rename, or the creation of a file.

   FAIL_UNDER: the folder. FAIL_AT: which of its calls fails, from 1. FAIL_ERROR: the errno. FAIL_ON: if set, those
   after it fail too, as on a disk that is full. Calls are counted over all forks of the process: see calls_counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long *count;

__attribute__((constructor)) static void share_count(void) {
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* How many calls were counted since it was last asked. */
long calls_counted(void) { return atomic_exchange(count, 0); }

static int is_under(const char *path) {
    const char *folder = getenv("FAIL_UNDER");
    return folder && !strncmp(path, folder, strlen(folder));
}

static int is_open_under(int fd) {
    char link[64], path[4096];
    int before = errno;
    if (!getenv("FAIL_UNDER")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return is_under(path);
}

static int fails(void) {
    const char *at = getenv("FAIL_AT"), *error = getenv("FAIL_ERROR");
    long number = atomic_fetch_add(count, 1) + 1;
    if (!at || !error || number < atol(at) || (number > atol(at) && !getenv("FAIL_ON"))) return 0;
    errno = atoi(error);
    return 1;
}

#define REAL(type, name, arguments)                                    \
    static type(*real) arguments;                                      \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

#define OF_FD(type, name, arguments, values)                           \
    type name arguments {                                              \
        REAL(type, name, arguments);                                   \
        if (is_open_under(fd) && fails()) return -1;                   \
        return real values;                                            \
    }

#define OF_PATH(name, arguments, values)                               \
    int name arguments {                                               \
        REAL(int, name, arguments);                                    \
        if (is_under(to) && fails()) return -1;                        \
        return real values;                                            \
    }

#define CREATES(name)                                                  \
    int name(const char *path, int flags, ...) {                       \
        REAL(int, name, (const char *, int, ...));                     \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                  \
        if (flags & O_CREAT && is_under(path) && access(path, F_OK) && fails()) return -1; \
        return real(path, flags, mode);                                \
    }

OF_FD(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
OF_FD(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t place), (fd, from, size, place))
OF_FD(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t place), (fd, from, size, place))
OF_FD(ssize_t, writev, (int fd, const struct iovec *from, int size), (fd, from, size))
OF_FD(ssize_t, sendfile, (int fd, int from, off_t *place, size_t size), (fd, from, place, size))
OF_FD(ssize_t, sendfile64, (int fd, int from, off64_t *place, size_t size), (fd, from, place, size))
OF_FD(int, fsync, (int fd), (fd))
OF_FD(int, fdatasync, (int fd), (fd))
OF_FD(int, ftruncate, (int fd, off_t size), (fd, size))
OF_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
OF_PATH(rename, (const char *from, const char *to), (from, to))
OF_PATH(link, (const char *from, const char *to), (from, to))
OF_PATH(mkdir, (const char *to, mode_t mode), (to, mode))
CREATES(open)
CREATES(open64)

ssize_t copy_file_range(int from, off64_t *place, int fd, off64_t *to, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, (int, off64_t *, int, off64_t *, size_t, unsigned));
    if (is_open_under(fd) && fails()) return -1;
    return real(from, place, fd, to, size, flags);
}
