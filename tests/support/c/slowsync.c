// LD_PRELOAD library: simulates a slow or broken disk at fsync and fdatasync, and one that hangs at a rename.
//
// The file SLOWSYNC_ORDERS is read at every sync, which lets a test change the disk while the program runs: "ok",
// "slow MICROSECONDS" (sleeps, then syncs), "hang" (waits for another order), or "fail" (EIO); "freeze" holds a rename
// only, which is how small files are replaced. Without the file the disk works normally.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void pause_for(long microseconds) {
    struct timespec time = { microseconds / 1000000, microseconds % 1000000 * 1000 };
    nanosleep(&time, NULL);
}

static void read_order(char *order, size_t size) {
    const char *path = getenv("SLOWSYNC_ORDERS");
    int orders = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t length = orders >= 0 ? read(orders, order, size - 1) : 0;
    order[length > 0 ? length : 0] = 0;
    if (orders >= 0) close(orders);
}

static void wait_while(const char *hung, char *order, size_t size) {
    read_order(order, size);
    while (!strncmp(order, hung, strlen(hung))) {
        pause_for(10000);
        read_order(order, size);
    }
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    char order[64];
    wait_while("freeze", order, sizeof order);
    return real(from, to);
}

static int synced(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char order[64];
    wait_while("hang", order, sizeof order);
    if (!strncmp(order, "fail", 4)) {
        errno = EIO;
        return -1;
    }
    if (!strncmp(order, "slow ", 5)) pause_for(atol(order + 5));
    return real(file);
}

int fsync(int file) { return synced("fsync", file); }

int fdatasync(int file) { return synced("fdatasync", file); }
