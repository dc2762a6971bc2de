"""The command of a step: the process that gives up its privileges, one after the other, and becomes the command."""

from __future__ import annotations

import errno
import os
import resource
import warnings  # noqa: F401  # os.execvpe imports it, and after pivot_root Python finds no modules

from pybuild.builder.sandbox import capabilities, linux, terminal
from pybuild.builder.sandbox.report import reason, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pybuild.builder.sandbox.own_ids import OwnIds
    from pybuild.builder.sandbox.spec import SandboxSpec

_SHOWN_PROGRAM = 200  # characters of a program's name in messages
_OPEN_FILES = 1 << 20
# Not in the kernel, not switched on, too old, or forbidden in a container.
_NO_LANDLOCK = frozenset((errno.ENOSYS, errno.EOPNOTSUPP, errno.E2BIG, errno.EPERM))
_STACK_BYTES = 8 << 20


def run_command(
    spec: SandboxSpec, streams: tuple[int, int, int], status: int, seccomp: bytes, vault: int, own_ids: OwnIds | None
) -> NoReturn:
    """The last steps before exec. Each one in this order still allows the next."""
    doing = "read the secrets"
    try:
        # Only this process reads secrets into its memory, which exec replaces.
        env: dict[str, str | bytes] = {**dict(pair.split("=", 1) for pair in spec.env)}
        env |= {name: os.pread(vault, size, offset) if size else b"" for name, offset, size in spec.secrets}
        doing = "connect the output of the command"
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        doing = "reset the signals"
        # Python ignores SIGPIPE and SIGXFSZ, and exec would keep that: `yes | head` would print an error.
        linux.reset_signals()
        doing = "make a session"
        os.setsid()
        if spec.terminal:
            terminal.take_control()
        doing = "set the limits of the command"
        _set_limits()
        for number, soft, hard in spec.rlimits:
            resource.setrlimit(number, (soft, hard))
        if own_ids is not None:
            doing = "make a user namespace for the step"
            own_ids.enter(spec)
        doing = "make a session keyring"
        try:
            linux.join_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # no keyrings in the kernel, or forbidden in a container
                raise
        doing = "keep the step from the machine's abstract sockets"
        _scope_sockets()
        doing = "read the capabilities"
        allowed = capabilities.bounding_set()
        if spec.in_place:
            doing = "give up what the container allows and a step does not get"
            allowed &= capabilities.limit_in_container(seccomp)
        elif not spec.insecure:
            doing = "load the seccomp filter"
            # This needs CAP_SYS_ADMIN, because no_new_privs stays off: sudo and other setuid programs must work.
            linux.seccomp_set_mode_filter(seccomp)
            doing = "give up capabilities"
            allowed = capabilities.DEFAULT_MASK
            capabilities.limit_bounding_set(allowed)
        doing = f"become user {spec.uid}"
        if _may_set_groups():
            os.setgroups(spec.groups)
        os.setresgid(spec.gid, spec.gid, spec.gid)
        os.setresuid(spec.uid, spec.uid, spec.uid)
        doing = "give up capabilities"
        mask = allowed if spec.uid == 0 else 0
        linux.capset(mask, mask, 0)
        linux.clear_ambient()
        doing = "close the files of pybuild"
        # All descriptors of the worker are close-on-exec. A mistake there would let the step report its own result.
        os.set_inheritable(status, False)
        close_all_but(status)
        doing = ""
        os.execvpe(spec.argv[0], spec.argv, env)
    except BaseException as error:
        if not doing:
            text = _exec_error(spec, error)
        elif isinstance(error, OSError) and error.errno == errno.EINVAL and doing.startswith("become"):
            text = f"cannot {doing}: this namespace maps no such id"
        else:
            text = f"cannot {doing}: {reason(error)}"
        report(status, {"error": text, "hint": None})
    finally:
        os._exit(127)


def _exec_error(spec: SandboxSpec, error: BaseException) -> str:
    program = spec.argv[0] if len(spec.argv[0]) <= _SHOWN_PROGRAM else f"{spec.argv[0][: _SHOWN_PROGRAM - 1]}…"
    if isinstance(error, FileNotFoundError):
        return f"{program}: not found in the image"
    if isinstance(error, PermissionError):
        return f"{program}: cannot be executed as user {spec.uid}"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return f"cannot start {program}: the command and its environment exceed the kernel's limit"
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return f"cannot start {program}: {reason}"


def close_all_but(*descriptors: int) -> None:
    """Close all descriptors except 0, 1, 2 and these."""
    first = 3
    for descriptor in sorted(descriptors):
        if descriptor > first:
            linux.close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    linux.close_range(first)


def _set_limits() -> None:
    """No core dumps, which would end up in the layer; many open files; the usual stack. Hard limits only go down."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, wanted in ((resource.RLIMIT_NOFILE, _OPEN_FILES), (resource.RLIMIT_STACK, _STACK_BYTES)):
        hard = resource.getrlimit(kind)[1]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (soft, hard if kind == resource.RLIMIT_STACK else soft))


def _scope_sockets() -> None:
    """Only abstract unix sockets of the step itself can be reached, also on the machine's network. Before Linux 6.12 and
    without Landlock a network of its own does that. Like the seccomp filter this needs CAP_SYS_ADMIN: setuid programs work.
    """
    try:
        linux.landlock_scope(linux.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET)
    except OSError as error:
        if error.errno not in _NO_LANDLOCK:
            raise


def _may_set_groups() -> bool:
    with open("/proc/self/setgroups", encoding="ascii") as file:
        return file.read().strip() == "allow"
