/* What a step tries against all processes that its /proc shows, and against the files of /proc and /sys.
 *
 *     attack FIFO FIFO    wait at the first, attack, and let the process at the second go on
 *
 * Prints a line "reached WHAT PID" for each success, "read TEXT" for what it has read, and how much it has tried. Not counted:
 * what any user can read of a process, and the numbers of its open files, which processes of the same user can list.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

static int processes, files, parent;

/* The number that the parent of this process has in /proc. */
static int parent_in_proc(void) {
    char text[512] = "", *after;
    int number = 0, fd = open("/proc/self/stat", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || !(after = strrchr(text, ')'))) exit(3);
    close(fd);
    sscanf(after, ") %*c %d", &number);
    return number;
}

/* Read or write one byte of a FIFO, whose other end waits for it. Whoever comes first makes it. */
static void meet(const char *path, int flags) {
    char byte = '\n';
    int fd;
    umask(0);
    mkfifo(path, 0666);
    fd = open(path, flags);
    if (fd < 0 || (flags == O_RDONLY ? read(fd, &byte, 1) : write(fd, &byte, 1)) != 1) exit(3);
    close(fd);
}

static void reached(const char *what, const char *where) { printf("reached %s %s\n", what, where); }

static void reads(const char *pid, const char *name) {
    char path[512], text[256];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return;
    ssize_t size = read(fd, text, sizeof text - 1);
    if (size > 0) {
        reached(name, pid);
        for (ssize_t i = 0; i < size; i++) if (!text[i]) text[i] = ' ';
        text[size] = 0;
        printf("read %s\n", text);
    }
    close(fd);
}

static void follows(const char *pid, const char *name) {
    char path[512], target[256];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    if (readlink(path, target, sizeof target) > 0) reached(name, pid);
}

static void lists(const char *pid, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    DIR *directory = opendir(path);
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            reached(name, pid);
            break;
        }
    closedir(directory);
}

static void writes(const char *pid, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd = open(path, O_WRONLY);
    if (fd < 0) return;
    reached(name, pid);
    close(fd);
}

/* A process by the number that it has in /proc, and by the number that it would have here. */
static void process(const char *pid) {
    static const char *readable[] = {"environ", "maps", "smaps", "auxv", "mem", "io", "stack", "syscall", "pagemap"};
    static const char *links[] = {"root", "cwd", "exe", "ns/user", "ns/pid", "ns/mnt", "ns/net", "fd/0", "fd/1", "fd/3"};
    static const char *writable[] = {"mem", "oom_score_adj", "oom_adj", "coredump_filter", "clear_refs", "comm", "sched",
                                     "autogroup", "uid_map", "gid_map", "setgroups", "timerslack_ns", "loginuid",
                                     "attr/current", "attr/exec"};
    char path[64], byte;
    int number = atoi(pid);
    processes++;
    for (unsigned i = 0; i < sizeof readable / sizeof *readable; i++) reads(pid, readable[i]);
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) follows(pid, links[i]);
    for (unsigned i = 0; i < sizeof writable / sizeof *writable; i++) writes(pid, writable[i]);
    lists(pid, "fdinfo");
    lists(pid, "map_files");
    lists(pid, "root/");
    lists(pid, "cwd/");

    snprintf(path, sizeof path, "/proc/%s", pid);
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    if (directory >= 0) {
        /* The kernel accepts a signal to process 1 of the own namespace, which is the parent, and drops it. */
        if (!syscall(SYS_pidfd_send_signal, directory, SIGKILL, NULL, 0) && number != parent) reached("pidfd_send_signal", pid);
        if (syscall(SYS_setns, directory, 0x10000000) >= 0) reached("setns", pid);
        close(directory);
    }
    if (number == getpid()) return;
    if (ptrace(PTRACE_SEIZE, number, NULL, NULL) == 0) reached("ptrace", pid);
    if (ptrace(PTRACE_ATTACH, number, NULL, NULL) == 0) reached("ptrace", pid);
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    if (process_vm_readv(number, &here, 1, &there, 1, 0) > 0) reached("process_vm_readv", pid);
    if (number != 1 && kill(number, SIGKILL) == 0) reached("kill", pid);
    if (number != 1 && setpriority(PRIO_PROCESS, number, 19) == 0) reached("setpriority", pid);
}

/* Every file below a directory that can be opened for writing, but for covers by /dev/null. */
static void tree(const char *top, int is_proc, int depth) {
    char path[4096];
    struct stat found;
    DIR *directory = depth < 12 ? opendir(top) : NULL;
    struct dirent *entry;
    if (!directory) return;
    while ((entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (is_proc && depth == 0 && entry->d_name[0] >= '0' && entry->d_name[0] <= '9') continue;
        snprintf(path, sizeof path, "%s/%s", top, entry->d_name);
        if (lstat(path, &found)) continue;
        if (S_ISDIR(found.st_mode)) tree(path, is_proc, depth + 1);
        if (S_ISCHR(found.st_mode) && found.st_rdev == makedev(1, 3)) continue;
        if (S_ISLNK(found.st_mode)) continue;
        files++;
        if (access(path, W_OK) == 0) reached("write", path);
    }
    closedir(directory);
}

int main(int count, char **arguments) {
    char own[32] = "";
    if (count != 3) return 2;
    meet(arguments[1], O_RDONLY);
    if (readlink("/proc/self", own, sizeof own - 1) < 0) return 2;
    parent = parent_in_proc();
    kill(-1, SIGKILL);
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while ((entry = readdir(proc)))
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && strcmp(entry->d_name, own)) process(entry->d_name);
    writes("self", "oom_score_adj");
    writes("self", "uid_map");
    tree("/proc", 1, 0);
    tree("/sys", 0, 0);
    printf("tried %d processes and %d files\n", processes, files);
    fflush(stdout);
    meet(arguments[2], O_WRONLY);
    return 0;
}
