/* Preloaded into a sidecar, it notes two kinds of calls in the file that FAULTS_TRACE names, with
 * their begin and end by the monotonic clock in nanoseconds:
 *
 *   W begin end number path    a write whose bytes hold FAULTS_MARK followed by a number of eight
 *                              digits; where they hold several, the greatest
 *   F begin end result path    an fsync or fdatasync
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 8

static int trace = -1;
static const char *mark;
static size_t mark_size;
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_TRACE");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    mark = getenv("FAULTS_MARK");
    mark_size = mark ? strlen(mark) : 0;
    if (path)
        trace = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void note(char kind, long long from, long long until, long number, int fd) {
    char link[64], path[1024], line[1200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    int length = snprintf(line, sizeof line, "%c %lld %lld %ld %s\n", kind, from, until, number, path);
    if (real_write(trace, line, length) != length)
        abort();
}

static long marked(const char *data, size_t size) {
    long greatest = -1;
    const char *end = data + size, *at = data;
    if (trace < 0 || !mark_size)
        return -1;
    while ((at = memmem(at, end - at, mark, mark_size)) && end - (at += mark_size) >= DIGITS) {
        char digits[DIGITS + 1] = {0};
        memcpy(digits, at, DIGITS);
        long number = strtol(digits, NULL, 10);
        if (number > greatest)
            greatest = number;
    }
    return greatest;
}

#define TRACED_WRITE(call)                                   \
    long number = marked(data, size);                        \
    long long from = number < 0 ? 0 : now();                 \
    ssize_t written = call;                                  \
    if (number >= 0)                                         \
        note('W', from, now(), number, fd);                  \
    return written;

ssize_t write(int fd, const void *data, size_t size) {
    TRACED_WRITE(real_write(fd, data, size))
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    TRACED_WRITE(real_pwrite(fd, data, size, at))
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    TRACED_WRITE(real_pwrite64(fd, data, size, at))
}

#define TRACED_FLUSH(call)                                   \
    long long from = now();                                  \
    int result = call;                                       \
    if (trace >= 0)                                          \
        note('F', from, now(), result, fd);                  \
    return result;

int fsync(int fd) {
    TRACED_FLUSH(real_fsync(fd))
}

int fdatasync(int fd) {
    TRACED_FLUSH(real_fdatasync(fd))
}
