#include <stdio.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname kernel;
    if (uname(&kernel) != 0) {
        perror("about");
        return 1;
    }
    printf("a program for %s, on a kernel that says %s\n",
#if defined __x86_64__
           "amd64"
#elif defined __aarch64__
           "arm64"
#else
#error "which processor is this?"
#endif
           , kernel.machine);
    return 0;
}
