"""Everything about a Python process that a library call could change for good."""

from __future__ import annotations

import ctypes
import gc
import locale
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from pathlib import Path

_PR_GET = {"parent death signal": 2, "subreaper": 37}


def state() -> dict[str, object]:
    """The state of this process, as values that can be compared."""
    libc = ctypes.CDLL(None)
    flags = {}
    for name, option in _PR_GET.items():
        value = ctypes.c_int(0)
        libc.prctl(option, ctypes.byref(value), 0, 0, 0)
        flags[name] = value.value
    mask = os.umask(0o077)
    os.umask(mask)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    own = Path("/proc/self")
    status = (own / "status").read_text().splitlines()
    return {
        **flags,
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "in the kernel": [line for line in status if line.startswith(("SigB", "SigI", "SigC", "Cap", "Seccomp", "NoNewPrivs", "Groups"))],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup": wakeup,
        "timers": [signal.getitimer(number) for number in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "umask": mask,
        "directory": os.getcwd(),
        "root": os.readlink("/proc/self/root"),
        "limits": {
            number: resource.getrlimit(number) for name, number in vars(resource).items() if name.startswith("RLIMIT_")
        },
        "environment": dict(os.environ),
        "users": (os.getresuid(), os.getresgid(), os.getgroups()),
        "session": (os.getsid(0), os.getpgid(0), os.nice(0)),
        "namespaces": {path.name: os.readlink(path) for path in (own / "ns").iterdir()},
        "mounts": [line for line in (own / "mountinfo").read_text().splitlines() if os.getcwd() in line],
        "descriptors": {
            path.name: (os.readlink(path), os.get_blocking(int(path.name)), os.get_inheritable(int(path.name)))
            for path in (own / "fd").iterdir()
            if path.exists()
        },
        "children": (own / f"task/{os.getpid()}/children").read_text(),
        "threads": (threading.active_count(), len(list((own / "task").iterdir()))),
        "import path": (list(sys.path), list(map(repr, sys.meta_path)), list(map(repr, sys.path_hooks))),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook, sys.gettrace()),
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "warnings": list(warnings.filters),
    }  # fmt: skip


def differences(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """What has changed, by name."""
    return {name: (value, after[name]) for name, value in before.items() if after[name] != value}
