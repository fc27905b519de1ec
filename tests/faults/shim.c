/* Stands between a process and the C library (LD_PRELOAD), and lets one of the calls by which it writes below a folder fail.
   Nothing happens until `arm`. Calls are counted over all threads, from 1; each is noted in a log, one line: name, space, path. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { GO, REFUSE, BELIE, KILL, KILL_AFTER, TEAR, KILL_TORN, REFUSE_ALL };
/* GO: as always. REFUSE: not carried out, and reported failed. BELIE: carried out, and reported failed. KILL: the process ends as
   it enters. KILL_AFTER: as it leaves. TEAR: half of the bytes are written and reported so, and whatever comes then is refused.
   KILL_TORN: half of the bytes, and the process ends. REFUSE_ALL: this one and all that follow. */

static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1, mode, error_number;
static long wanted;
static atomic_long count;
static atomic_int broken;

void arm(const char *folder, int log, long number, int how, int error) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    log_file = log, wanted = number, mode = how, error_number = error;
    atomic_store(&count, 0);
    atomic_store(&broken, 0);
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void path_of(int descriptor, const char *path, char *out, size_t size) {
    char link[64];
    ssize_t length = 0;
    if (path == NULL || path[0] != '/') {
        if (descriptor == AT_FDCWD) {
            length = getcwd(out, size) ? (ssize_t)strlen(out) : 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
            length = readlink(link, out, size - 1);
        }
        if (length < 0) length = 0;
        out[length] = 0;
        if (path == NULL) return;
        out[length++] = '/';
    }
    snprintf(out + length, size - length, "%s", path);
}

static int verdict(const char *name, int descriptor, const char *path) {
    char full[2 * PATH_MAX], line[2 * PATH_MAX + 64];
    if (log_file < 0) return GO;
    int before = errno;
    path_of(descriptor, path, full, sizeof full);
    errno = before;
    if (strncmp(full, root, root_length) != 0 || (full[root_length] != '/' && full[root_length] != 0)) return GO;
    long number = atomic_fetch_add(&count, 1) + 1;
    int length = snprintf(line, sizeof line, "%s %s\n", name, full[root_length] ? full + root_length + 1 : ".");
    syscall(SYS_write, log_file, line, length);
    if (atomic_load(&broken)) return REFUSE;
    if (number != wanted) return GO;
    if (mode == KILL) end();
    if (mode == REFUSE_ALL) atomic_store(&broken, 1);
    return mode == REFUSE_ALL ? REFUSE : mode;
}

static long refuse(void) {
    errno = error_number;
    return -1;
}

static long leave(int verdict, long result) {
    if (verdict == KILL_AFTER || verdict == KILL_TORN) end();
    if (verdict == TEAR) atomic_store(&broken, 1);
    return verdict == BELIE && result >= 0 ? refuse() : result;
}

#define REAL(name) __typeof__(name) *real = dlsym(RTLD_NEXT, #name)
#define CALL(name, parameters, arguments, descriptor, path)                                                                      \
    int name parameters {                                                                                                        \
        REAL(name);                                                                                                              \
        int v = verdict(#name, descriptor, path);                                                                                \
        if (v == TEAR) v = REFUSE;                                                                                               \
        return v == REFUSE ? refuse() : leave(v, real arguments);                                                                \
    }
#define WRITE(name, parameters, whole, half)                                                                                     \
    ssize_t name parameters {                                                                                                    \
        REAL(name);                                                                                                              \
        int v = verdict(#name, fd, NULL);                                                                                        \
        if (v == REFUSE) return refuse();                                                                                        \
        return (v == TEAR || v == KILL_TORN) && n > 1 ? leave(v, real half) : leave(v, real whole);                              \
    }

WRITE(write, (int fd, const void *data, size_t n), (fd, data, n), (fd, data, n / 2))
WRITE(pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at), (fd, data, n / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at), (fd, data, n / 2, at))
WRITE(writev, (int fd, const struct iovec *data, int n), (fd, data, n), (fd, data, n / 2))
WRITE(pwritev, (int fd, const struct iovec *data, int n, off_t at), (fd, data, n, at), (fd, data, n / 2, at))
WRITE(pwritev64, (int fd, const struct iovec *data, int n, off64_t at), (fd, data, n, at), (fd, data, n / 2, at))

CALL(fsync, (int fd), (fd), fd, NULL)
CALL(fdatasync, (int fd), (fd), fd, NULL)
CALL(ftruncate, (int fd, off_t size), (fd, size), fd, NULL)
CALL(ftruncate64, (int fd, off64_t size), (fd, size), fd, NULL)
CALL(fallocate, (int fd, int how, off_t at, off_t size), (fd, how, at, size), fd, NULL)
CALL(fallocate64, (int fd, int how, off64_t at, off64_t size), (fd, how, at, size), fd, NULL)
CALL(fchmod, (int fd, mode_t m), (fd, m), fd, NULL)
CALL(fchown, (int fd, uid_t user, gid_t group), (fd, user, group), fd, NULL)
CALL(chown, (const char *path, uid_t user, gid_t group), (path, user, group), AT_FDCWD, path)
CALL(chmod, (const char *path, mode_t m), (path, m), AT_FDCWD, path)
CALL(mkdir, (const char *path, mode_t m), (path, m), AT_FDCWD, path)
CALL(mkdirat, (int fd, const char *path, mode_t m), (fd, path, m), fd, path)
CALL(rmdir, (const char *path), (path), AT_FDCWD, path)
CALL(unlink, (const char *path), (path), AT_FDCWD, path)
CALL(unlinkat, (int fd, const char *path, int flags), (fd, path, flags), fd, path)
CALL(rename, (const char *from, const char *path), (from, path), AT_FDCWD, path)
CALL(renameat, (int a, const char *from, int fd, const char *path), (a, from, fd, path), fd, path)
CALL(link, (const char *from, const char *path), (from, path), AT_FDCWD, path)
CALL(linkat, (int a, const char *from, int fd, const char *path, int flags), (a, from, fd, path, flags), fd, path)
CALL(symlink, (const char *to, const char *path), (to, path), AT_FDCWD, path)

static int opened(int v, int descriptor) {
    if (v == BELIE && descriptor >= 0) close(descriptor);
    return leave(v, descriptor);
}

#define OPEN(name, parameters, arguments, descriptor)                                                                            \
    int name parameters {                                                                                                        \
        REAL(name);                                                                                                              \
        mode_t m = 0;                                                                                                            \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                                     \
            __builtin_va_list list;                                                                                              \
            __builtin_va_start(list, flags);                                                                                     \
            m = __builtin_va_arg(list, int);                                                                                     \
            __builtin_va_end(list);                                                                                              \
        }                                                                                                                        \
        int v = flags & O_CREAT ? verdict(#name, descriptor, path) : GO;                                                         \
        if (v == TEAR) v = REFUSE;                                                                                               \
        return v == REFUSE ? refuse() : opened(v, real arguments);                                                               \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, m), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, m), AT_FDCWD)
OPEN(openat, (int fd, const char *path, int flags, ...), (fd, path, flags, m), fd)
OPEN(openat64, (int fd, const char *path, int flags, ...), (fd, path, flags, m), fd)
