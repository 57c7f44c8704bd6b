// LD_PRELOAD library: logs what a power cut would lose in files named "*.db*" (except "-shm", which is memory).
//
// Every write and truncation since a file's last sync goes into the log POWERCUT_LOG, with the bytes before and after.
// After the process has been killed, tests/support/powercut.rs undoes them. With POWERCUT_NORMAL set, the library only
// pretends to sync the write-ahead log after a write, but really syncs it before a checkpoint (a sync that follows
// another sync). That is what SQLite does with synchronous=NORMAL.
//
// A record, little endian: kind (1: 0 write, 1 truncation, 2 sync), length of the path (2), offset (8), the file's size
// before (8), length of the old bytes (4), length of the new bytes (4), path, old bytes, new bytes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE, TRUNCATE, SYNC };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static int normal;
static int written_since_sync;
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *path = getenv("POWERCUT_LOG");
    if (path) out = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    normal = getenv("POWERCUT_NORMAL") != NULL;
}

static int is_database(int file, char path[4096]) {
    if (out < 0 || file < 3) return 0;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, 4095);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, ".db") && !strstr(path, "-shm");
}

static void record(uint8_t kind, int file, const char *path, uint64_t offset, const void *data, size_t count) {
    struct stat status;
    if (fstat(file, &status)) abort();
    uint16_t path_length = strlen(path);
    uint64_t size = status.st_size;
    uint32_t old = 0, new = kind == WRITE ? count : 0;
    if (kind == WRITE && offset < size) old = count < size - offset ? count : size - offset;
    if (kind == TRUNCATE && offset < size) old = size - offset;
    size_t total = 27 + path_length + old + new;
    char *bytes = malloc(total), *at = bytes;
    memcpy(at, &kind, 1), at += 1;
    memcpy(at, &path_length, 2), at += 2;
    memcpy(at, &offset, 8), at += 8;
    memcpy(at, &size, 8), at += 8;
    memcpy(at, &old, 4), at += 4;
    memcpy(at, &new, 4), at += 4;
    memcpy(at, path, path_length), at += path_length;
    if (old) {
        // The program may have opened the file for writing only.
        int again = open(path, O_RDONLY | O_CLOEXEC);
        if (again < 0 || pread(again, at, old, offset) != (ssize_t)old) abort();
        close(again);
        at += old;
    }
    if (new) memcpy(at, data, new);
    if (real_write(out, bytes, total) != (ssize_t)total) abort();
    free(bytes);
}

static void wrote(const char *path) {
    if (strstr(path, "-wal")) written_since_sync = 1;
}

ssize_t pwrite64(int file, const void *data, size_t count, off_t offset) {
    char path[4096];
    if (!is_database(file, path)) return real_pwrite(file, data, count, offset);
    pthread_mutex_lock(&lock);
    record(WRITE, file, path, offset, data, count);
    wrote(path);
    ssize_t result = real_pwrite(file, data, count, offset);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite(int file, const void *data, size_t count, off_t offset) { return pwrite64(file, data, count, offset); }

ssize_t write(int file, const void *data, size_t count) {
    char path[4096];
    if (!is_database(file, path)) return real_write(file, data, count);
    pthread_mutex_lock(&lock);
    record(WRITE, file, path, lseek(file, 0, SEEK_CUR), data, count);
    wrote(path);
    ssize_t result = real_write(file, data, count);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate64(int file, off_t length) {
    char path[4096];
    if (!is_database(file, path)) return real_ftruncate(file, length);
    pthread_mutex_lock(&lock);
    record(TRUNCATE, file, path, length, NULL, 0);
    int result = real_ftruncate(file, length);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int synced(int (*sync)(int), int file) {
    char path[4096];
    int result = sync(file);
    if (result || !is_database(file, path)) return result;
    pthread_mutex_lock(&lock);
    int is_log = strstr(path, "-wal") != NULL;
    if (!(normal && is_log && written_since_sync)) record(SYNC, file, path, 0, NULL, 0);
    if (is_log) written_since_sync = 0;
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int file) { return synced(real_fsync, file); }

int fdatasync(int file) { return synced(real_fdatasync, file); }
