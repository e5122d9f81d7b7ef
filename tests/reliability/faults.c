/* A disk that fails at its N-th call.

   Preloaded into a process, it counts the calls that change what lies under a folder and strikes at
   one of them; armed anew, it counts from 1 again. It can also write down what every call did. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT, KILL, KILL_HALFWAY, NO_SPACE, IO_ERROR, LIE };

static char folder[PATH_MAX];
static long strike_at, calls, bytes;
static int mode, record = -1;

/* Watch a folder; strike at call `at` (0: never); write down what happens into `log` (-1: do not). */
void faults_arm(const char *watched, long at, int how, int log) {
    snprintf(folder, sizeof folder, "%s", watched);
    strike_at = at, mode = how, record = log, calls = bytes = 0;
}
long faults_calls(void) { return calls; }
long faults_bytes(void) { return bytes; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void locate(char *out, int at, const char *path) {
    char place[64], base[PATH_MAX] = "";
    if (path && (path[0] == '/' || at == AT_FDCWD)) {
        snprintf(out, PATH_MAX, "%s", path);
        return;
    }
    snprintf(place, sizeof place, "/proc/self/fd/%d", at);
    ssize_t n = readlink(place, base, sizeof base - 1);
    base[n < 0 ? 0 : n] = 0;
    snprintf(out, PATH_MAX, path ? "%.2000s/%.2000s" : "%.4000s%s", base, path ? path : "");
}

/* Whether this call is watched and strikes; errno is set where it is to fail. */
static int strikes(const char *path) {
    size_t n = strlen(folder);
    if (!n || strncmp(path, folder, n) || (path[n] && path[n] != '/')) return -1;
    if (++calls != strike_at || mode == COUNT) return 0;
    if (mode == KILL) raise(SIGKILL);
    errno = mode == NO_SPACE ? ENOSPC : EIO;
    return mode;
}

static void note(const char *what, const char *path, const char *other, const void *data, size_t n) {
    if (record < 0) return;
    REAL(dprintf)(record, "%ld\t%s\t%s\t%s\t%zu\n", calls, what, path, other, n);
    if (n && REAL(write)(record, data, n) != (ssize_t)n) raise(SIGABRT);
}

/* A call that either happens or does not. */
#define WHOLE(what, path, other, call)                                    \
    int hit = strikes(path);                                              \
    if (hit == NO_SPACE || hit == IO_ERROR) return -1;                    \
    int done = (call);                                                    \
    if (hit == KILL_HALFWAY) raise(SIGKILL);                              \
    if (hit >= 0 && done >= 0) note(what, path, other, NULL, 0);          \
    return done

ssize_t write(int fd, const void *data, size_t n) {
    char path[PATH_MAX];
    locate(path, fd, NULL);
    int hit = strikes(path);
    if (hit < 0) return REAL(write)(fd, data, n);
    bytes += n;
    if (hit == NO_SPACE || hit == IO_ERROR) return -1;
    if (hit == KILL_HALFWAY || hit == LIE) {
        ssize_t done = REAL(write)(fd, data, n / 2);
        if (hit == KILL_HALFWAY || done < 0) raise(SIGKILL);
        return n;
    }
    ssize_t done = REAL(write)(fd, data, n);
    if (done > 0) note("write", path, "", data, done);
    return done;
}

int fsync(int fd) {
    char path[PATH_MAX];
    locate(path, fd, NULL);
    WHOLE("sync", path, "", REAL(fsync)(fd));
}

int rename(const char *from, const char *to) {
    WHOLE("rename", from, to, REAL(rename)(from, to));
}

int mkdir(const char *path, mode_t bits) { WHOLE("mkdir", path, "", REAL(mkdir)(path, bits)); }

int unlink(const char *path) { WHOLE("unlink", path, "", REAL(unlink)(path)); }

int rmdir(const char *path) { WHOLE("unlink", path, "", REAL(rmdir)(path)); }

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_MAX];
    locate(path, at, name);
    WHOLE("unlink", path, "", REAL(unlinkat)(at, name, flags));
}

static int opened(int at, const char *name, int flags, mode_t bits) {
    char path[PATH_MAX];
    locate(path, at, name);
    if (!(flags & O_CREAT)) return REAL(openat)(at, name, flags, bits);
    const char *what = flags & O_TRUNC ? "truncate" : "create";
    WHOLE(what, path, "", REAL(openat)(at, name, flags, bits));
}

#define OPEN(name, head, at, path, last)               \
    int name(head, int flags, ...) {                   \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode_t bits = va_arg(rest, mode_t);            \
        va_end(rest);                                  \
        return opened(at, path, flags | last, bits);   \
    }
#define TWO int at, const char *path
OPEN(open, const char *path, AT_FDCWD, path, 0)
OPEN(open64, const char *path, AT_FDCWD, path, O_LARGEFILE)
OPEN(openat, TWO, at, path, 0)
OPEN(openat64, TWO, at, path, O_LARGEFILE)
