/* Asks the kernel what a shell cannot ask, and prints the answers. Static, so that any image can run it.
 *
 *   probe calls         name and errno of system calls with arguments that no kernel accepts
 *   probe sockets       domain and errno of socket(2)
 *   probe tty           what the streams of the step allow with a terminal
 *   probe ptrace PID    attach to a process
 *   probe connect NAME  connect to an abstract unix socket
 *   probe ids           real and effective user
 *   probe agent TYPE... send requests without content to the agent of SSH_AUTH_SOCK, print the types of its answers
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void answer(const char *name, long result) {
    printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

static const struct { const char *name; long number; } calls[] = {
#define CALL(name) {#name, SYS_##name},
    CALL(acct) CALL(add_key) CALL(bpf) CALL(clock_settime) CALL(clone) CALL(clone3) CALL(delete_module) CALL(finit_module)
    CALL(fsconfig) CALL(fsmount) CALL(fsopen) CALL(fspick) CALL(init_module) CALL(io_uring_enter) CALL(io_uring_register)
    CALL(io_uring_setup) CALL(kcmp) CALL(kexec_load) CALL(keyctl) CALL(mbind) CALL(mount) CALL(mount_setattr) CALL(move_mount)
    CALL(move_pages) CALL(open_by_handle_at) CALL(open_tree) CALL(perf_event_open) CALL(pidfd_getfd) CALL(pivot_root)
    CALL(process_madvise) CALL(quotactl) CALL(reboot) CALL(request_key) CALL(set_mempolicy) CALL(setdomainname)
    CALL(sethostname) CALL(setns) CALL(settimeofday) CALL(swapoff) CALL(swapon) CALL(syslog) CALL(umount2) CALL(unshare)
    CALL(userfaultfd) CALL(vhangup)
#ifdef __x86_64__
    CALL(iopl) CALL(ioperm) {"x32_getpid", 0x40000000 | SYS_getpid},
#endif
    CALL(capset) CALL(chroot) CALL(fchownat) CALL(getrandom) CALL(memfd_create) CALL(mknodat) CALL(openat2) CALL(ptrace)
    CALL(setgroups) CALL(setresuid) CALL(statx) CALL(copy_file_range)
};

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "calls")) {
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
            answer(calls[i].name, syscall(calls[i].number, -1L, -1L, -1L, -1L, -1L, -1L));
    } else if (!strcmp(what, "sockets")) {
        for (int domain = 0; domain <= 46; domain++) {
            char name[16];
            snprintf(name, sizeof name, "%d", domain);
            answer(name, socket(domain, SOCK_DGRAM, 0));
        }
    } else if (!strcmp(what, "tty")) {
        for (int fd = 0; fd <= 2; fd++)
            answer("TIOCSTI", ioctl(fd, TIOCSTI, "x"));
        answer("/dev/tty", open("/dev/tty", O_RDWR));
    } else if (!strcmp(what, "ptrace") && argc > 2) {
        answer("ptrace", ptrace(PTRACE_ATTACH, atoi(argv[2]), 0, 0));
    } else if (!strcmp(what, "connect") && argc > 2) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t length = strlen(argv[2]);
        memcpy(address.sun_path + 1, argv[2], length);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        answer("connect", connect(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length));
    } else if (!strcmp(what, "agent")) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, getenv("SSH_AUTH_SOCK"), sizeof address.sun_path - 1);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        answer("connect", connect(fd, (struct sockaddr *)&address, sizeof address));
        for (int i = 2; i < argc; i++) {
            unsigned char frame[5] = {0, 0, 0, 1, atoi(argv[i])}, reply[1 << 16];
            if (write(fd, frame, 5) != 5 || read(fd, reply, sizeof reply) < 5)
                return 1;
            printf("%s %d\n", argv[i], reply[4]);
        }
    } else if (!strcmp(what, "ids")) {
        printf("%d %d\n", getuid(), geteuid());
    } else {
        return 2;
    }
    return 0;
}
