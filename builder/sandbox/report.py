"""What the processes of a step report about its end, and how an error of the kernel is put into words."""

from __future__ import annotations

import errno
import json
import os

MAKE_NAMESPACES = "make the step's namespaces"
LESS = "build with --isolation=container, or auto, which do with what this machine allows"
UNFILTERED = "--security-opt seccomp=unconfined (podman, Docker) or seccompProfile: Unconfined (Kubernetes)"
UNMASKED = "--security-opt unmask=ALL (podman), --security-opt systempaths=unconfined (Docker) or procMount: Unmasked (Kubernetes)"
HOST_NAME = "set the host name"
CONNECT = "connect the step to the network"
_SETTING_UP = ("prepare the sandbox", "mount ", "set ")  # what can fail because of the machine, not of the recipe
_REFUSALS = frozenset((errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP))
_REPORT_TEXT = 500  # characters of a text in a report
_REPORT_BYTES = 1300  # three reports, of keeper, init and command, fit into the smallest pipe: one page, pipe(7)


def report(status: int, result: dict[str, object]) -> None:
    """Write a report. Of long texts the middle is cut out: nothing reads the pipe before the keeper has ended."""
    line = b""
    limit = _REPORT_TEXT
    while not line or len(line) > _REPORT_BYTES:
        cut = {name: _shortened(value, limit) if isinstance(value, str) else value for name, value in result.items()}
        line = json.dumps(cut).encode("ascii") + b"\n"
        limit //= 2
    os.write(status, line)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[len(text) - limit // 2 :]}"


def reason(error: BaseException) -> str:
    """What the kernel said, with the call or the path that it said it about."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error) or type(error).__name__
    text = error.strerror or os.strerror(error.errno)
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return text if name is None else f"{text}: {name}"


def hint_for(doing: str, error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return "the machine or a cgroup has its limit of processes"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "this process or the machine has its limit of open files"
    if doing == MAKE_NAMESPACES:
        return "pybuild needs them for RUN only; pybuild doctor says what this machine lacks"
    if doing == CONNECT:
        return "--network=host gives RUN steps the network of this machine"
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    if doing.startswith(HOST_NAME):
        return f"{LESS}; or start the container with {UNFILTERED}, and with {UNMASKED}"
    if doing.startswith("mount overlay"):
        return (
            "the filesystem of the store might be one that overlayfs cannot use, such as an overlay itself (the root of a"
            " container) or NFS: choose another place with --root, for example a volume (-v NAME:/var/lib/pybuild, or"
            " --tmpfs /var/lib/pybuild:mode=700 in memory), or build with --snapshots=auto, which copies files there"
        )
    return "pybuild doctor says what this machine lacks" if doing.startswith(_SETTING_UP) else None
