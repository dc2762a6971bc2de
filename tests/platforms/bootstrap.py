"""Make a Debian root for another processor, with an emulator that only this user namespace has.

    python bootstrap.py ARCHITECTURE EMULATOR SUITE OUT.tar [OPTION…]

As root; an empty EMULATOR stands for this machine's processor, and the options are mmdebstrap's, or more mirrors. mmdebstrap
asks arch-test whether programs of the processor start, and /proc/sys/fs/binfmt_misc for a handler.
"""

from __future__ import annotations

import os
import sys

from pybuild.builder.host.processors import PROCESSORS
from pybuild.builder.sandbox import linux

HANDLERS = "/proc/sys/fs/binfmt_misc"
MIRROR = "http://deb.debian.org/debian"


def enter() -> None:
    """Become root of a new user namespace with all ids; a child of the caller goes on in it."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.read(ready[0], 1)
        for kind in ("uid", "gid"):
            with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as ids:
                ids.write("0 0 4294967295\n")
        os.write(done[1], b".")
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID)
    os.write(ready[1], b".")
    os.read(done[0], 1)
    linux.mount(None, b"/", None, linux.MS_REC | linux.MS_PRIVATE)
    inside = os.fork()  # the first process of the new pid namespace, for which a new /proc can be mounted
    if inside:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]))


def main() -> None:
    architecture, emulator, suite, out, *options = sys.argv[1:]
    if emulator:
        enter()
        linux.mount(b"none", HANDLERS.encode(), b"binfmt_misc", 0)
        with open(f"{HANDLERS}/register", "w", encoding="ascii") as register:
            register.write(PROCESSORS[architecture].rule(architecture, emulator))
    words = ["--mode=root", "--variant=minbase", f"--arch={architecture}", "--quiet", suite, out, MIRROR, *options]
    os.execvp("mmdebstrap", ["mmdebstrap", *words])


if __name__ == "__main__":
    main()
