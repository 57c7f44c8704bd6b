// Tries what a hardened service must not do, and what this one must be able to do. Prints a line "tried WHAT ok" or
// "tried WHAT ERRNO" for each.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *name, int failed) {
    printf("tried %s %s\n", name, failed ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

static int writes(const char *path) {
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return 1;
    close(file);
    unlink(path);
    return 0;
}

static int reads(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 1;
    close(file);
    return 0;
}

static int lists(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return 1;
    closedir(folder);
    return 0;
}

static int talks(int family, int kind) {
    int end = socket(family, kind, 0);
    if (end < 0) return 1;
    close(end);
    return 0;
}

// Captures everything on an interface, as on a mirror port.
static int captures(const char *interface) {
    int end = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (end < 0) return 1;
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(interface) };
    struct packet_mreq all = { .mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC };
    int failed = bind(end, (struct sockaddr *)&address, sizeof address) != 0
        || setsockopt(end, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0;
    close(end);
    return failed;
}

int main(int count, char **arguments) {
    // What is allowed really happens, so this runs only in a disposable container, never on the test machine itself.
    if (access("/run/host/container-manager", R_OK) != 0) {
        fprintf(stderr, "not in a container of systemd-nspawn\n");
        return 1;
    }
    const char *state = count > 1 ? arguments[1] : "/var/lib/checkind";
    const char *interface = count > 2 ? arguments[2] : "s1";
    char path[512];

    snprintf(path, sizeof path, "%s/probe", state);
    say("may_write_state", writes(path));
    say("may_capture", captures(interface));
    say("may_use_inet", talks(AF_INET, SOCK_STREAM));
    say("may_use_unix", talks(AF_UNIX, SOCK_STREAM));

    say("write_etc", writes("/etc/probe"));
    say("write_usr", writes("/usr/probe"));
    say("write_var", writes("/var/lib/probe"));
    say("write_boot", writes("/boot/probe"));
    say("see_homes", lists("/home"));
    say("see_home_of_root", lists("/root"));
    say("read_others_tmp", reads("/tmp/secret"));
    say("see_other_processes", reads("/proc/1/comm"));
    say("see_kernel_files", reads("/proc/cpuinfo"));
    say("see_devices", access("/dev/console", F_OK) != 0);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("map_write_and_execute", page == MAP_FAILED);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("make_written_memory_executable", mprotect(page, 4096, PROT_READ | PROT_EXEC));
    say("talk_vsock", talks(AF_VSOCK, SOCK_STREAM));
    say("talk_key", talks(AF_KEY, SOCK_RAW));
    say("set_host_name", sethostname("probe", 5));
    say("set_personality", personality(PER_LINUX32) < 0);
    personality(PER_LINUX);
    say("change_root", chroot("/"));
    say("mount", mount("tmpfs", "/mnt", "tmpfs", 0, ""));
    say("be_more_important", setpriority(PRIO_PROCESS, 0, -1));
    struct sched_param first = { .sched_priority = 1 };
    say("be_real_time", sched_setscheduler(0, SCHED_FIFO, &first));
    snprintf(path, sizeof path, "%s/setuid", state);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    say("set_user_id_bit", file < 0 || fchmod(file, 04700) != 0);
    unlink(path);
    say("become_root", setuid(0));
    // Last, because these change what the process sees.
    say("new_mount_namespace", unshare(CLONE_NEWNS));
    say("new_user_namespace", unshare(CLONE_NEWUSER));
    return 0;
}
