/* Start pybuild, or a program of /pybuild, whatever the root of the container holds.

   /pybuild is the root of a small Debian. Its programs name their loader and their libraries by paths that begin with
   /pybuild, and /pybuild/pybuild leads to /pybuild: so these paths mean the same before and after a chroot to /pybuild.
   Python starts there, so that no preloaded library, no cache of the loader and no name service of an image is loaded. The
   root of the container is a descriptor; pybuild goes back to it, where contexts, volumes, /proc and /dev are
   (store/system/container_root.py). The variable with the numbers of the descriptors is what tells pybuild that it runs in its
   own image; it counts only together with the changed root.

   Without CAP_SYS_CHROOT Python starts without the change, and every RUN that needs it is refused. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define HOME "/pybuild"
#define PYTHON HOME "/usr/bin/python3"
#ifndef LIBRARIES /* of modules that are imported later */
#define LIBRARIES HOME "/usr/lib/" MULTIARCH ":" HOME "/usr/lib"
#endif
#define GIT HOME "/usr/lib/git-core/git"
#define MAIN "import sys; sys.path.insert(0, '" HOME "/opt/pybuild'); from pybuild.__main__ import main; main()"

static void fail(const char *doing) {
    fprintf(stderr, "pybuild: cannot %s: %s\n", doing, strerror(errno));
    exit(1);
}

/* Name service in /pybuild asks whom the container asks. The files may be mounted read-only, or not be there. */
static void copy(const char *from, const char *to) {
    char data[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    if (in < 0)
        return;
    ssize_t size = read(in, data, sizeof data);
    close(in);
    if (size <= 0 || (out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644)) < 0)
        return;
    if (write(out, data, size) != size)
        unlink(to);
    close(out);
}

/* git opens it. A tool that unpacked this image without the right to make devices has left it out. */
static void make_null(void) {
    struct stat found;
    if (stat(HOME "/dev/null", &found) == 0)
        return;
    if (mknod(HOME "/dev/null", S_IFCHR | 0666, makedev(1, 3)) == 0)
        chmod(HOME "/dev/null", 0666);
    else
        close(open(HOME "/dev/null", O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
}

static int enter(void) {
    char numbers[32];
    int root = open("/", O_RDONLY | O_DIRECTORY), here = open(".", O_RDONLY | O_DIRECTORY);
    if (root < 0)
        return 0;
    if (here < 0)
        here = dup(root);
    if (here < 0 || chroot(HOME) != 0) {
        close(root);
        close(here);
        return 0;
    }
    snprintf(numbers, sizeof numbers, "%d:%d", root, here);
    return chdir("/") == 0 && setenv("PYBUILD_CONTAINER_ROOT", numbers, 1) == 0;
}

int main(int count, char **words) {
    const char *slash = strrchr(words[0], '/'), *name = slash ? slash + 1 : words[0];
    char **command = calloc(count + 4, sizeof *command);
    if (command == NULL)
        fail("start");
    int used = 0;
    unsetenv("PYBUILD_CONTAINER_ROOT");
    setenv("SSL_CERT_FILE", HOME "/etc/ssl/certs/ca-certificates.crt", 0);
    if (strcmp(name, "git") == 0) {
        setenv("GIT_EXEC_PATH", HOME "/usr/lib/git-core", 1);
        setenv("GIT_TEMPLATE_DIR", HOME "/usr/share/git-core/templates", 0);
        setenv("GIT_SSL_CAINFO", getenv("SSL_CERT_FILE"), 0);
        command[used++] = GIT;
    } else {
        if (strcmp(name, "pybuild-python") != 0) { /* the user's call, not that of a worker */
            copy("/etc/resolv.conf", HOME "/etc/resolv.conf");
            copy("/etc/hosts", HOME "/etc/hosts");
            make_null();
        }
        enter();
        setenv("LD_LIBRARY_PATH", LIBRARIES, 1);
        command[used++] = PYTHON;
        if (strcmp(name, "pybuild-python") != 0) {
            command[used++] = "-SIc";
            command[used++] = MAIN;
        }
    }
    for (int word = 1; word < count; word++)
        command[used++] = words[word];
    execv(command[0], command);
    fail("start " HOME);
}
