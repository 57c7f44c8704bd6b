// LD_PRELOAD library: a slow or broken disk, at fsync and fdatasync.
//
// The file SLOWSYNC_ORDERS is read at every sync, so that a test changes the disk while the program runs: "ok",
// "slow MICROSECONDS" (sleeps, then syncs), or "fail" (EIO). Without the file the disk is well.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int synced(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *path = getenv("SLOWSYNC_ORDERS");
    char order[64] = "";
    int orders = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (orders >= 0) {
        ssize_t length = read(orders, order, sizeof order - 1);
        order[length > 0 ? length : 0] = 0;
        close(orders);
    }
    if (!strncmp(order, "fail", 4)) {
        errno = EIO;
        return -1;
    }
    if (!strncmp(order, "slow ", 5)) {
        long pause = atol(order + 5);
        struct timespec time = { pause / 1000000, pause % 1000000 * 1000 };
        nanosleep(&time, NULL);
    }
    return real(file);
}

int fsync(int file) { return synced("fsync", file); }

int fdatasync(int file) { return synced("fdatasync", file); }
