"""System calls that fail: ENOSPC, EDQUOT, EIO, EMFILE, ENOMEM at calls on the store, injected by strace(1).

A first run of each work is traced, to learn which calls of which process concern the store. One of these fails in each
round. strace counts the calls of each process for itself, so for a call of a worker the same call of its siblings fails too.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.faults.figures import Wrong
from tests.faults.started import started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial
    from tests.faults.works import Site, Work
    from tests.support.cli import Done

VERBS = ("build", "build", "build", "fetch", "fetch", "pull", "import", "export", "gc")
_FULL = ("ENOSPC", "EDQUOT", "EIO")
_NEW = ("ENOSPC", "EDQUOT", "EIO", "ENOMEM")
_DESCRIPTORS = ("EMFILE", "ENOMEM")
_PROCESSES = ("EAGAIN", "ENOMEM")
ERRORS: dict[str, Sequence[str]] = {
    "write": _FULL, "pwrite64": _FULL, "pread64": ("EIO",), "openat": ("EMFILE", "ENOMEM", "EIO", "ENOSPC"),
    "openat2": ("EMFILE", "EIO"), "mkdir": _NEW, "mkdirat": _NEW, "link": _NEW, "linkat": _NEW, "rename": _NEW,
    "renameat": _NEW, "renameat2": _NEW, "unlink": ("EIO", "ENOMEM"), "unlinkat": ("EIO", "ENOMEM"), "rmdir": ("EIO",),
    "symlink": _NEW, "symlinkat": _NEW, "setxattr": _FULL, "fsetxattr": _FULL, "lsetxattr": _FULL, "fsync": _FULL,
    "fdatasync": _FULL, "syncfs": _FULL, "ftruncate": _FULL, "truncate": _FULL, "copy_file_range": _FULL,
    "fallocate": ("ENOSPC",), "fchmod": ("EIO",), "chmod": ("EIO",), "fchown": ("EIO",), "fchownat": ("EIO",),
    "utimensat": ("EIO",), "getdents64": ("EIO",), "flock": ("ENOLCK",), "mmap": ("ENOMEM",), "clone": _PROCESSES,
    "clone3": _PROCESSES, "fork": _PROCESSES, "vfork": _PROCESSES, "pipe2": _DESCRIPTORS, "socketpair": _DESCRIPTORS,
    "memfd_create": _DESCRIPTORS, "sendmsg": ("ENOMEM",),
}  # fmt: skip
_WITHOUT_PATH = frozenset(
    {"mmap", "clone", "clone3", "fork", "vfork", "pipe2", "socketpair", "memfd_create", "sendmsg"}
)
_LINE = re.compile(r"(\d+) +(\w+)\(")
_PATIENCE = 120.0  # seconds until a command counts as hanging


@dataclass(frozen=True)
class Point:
    """The call that fails: the `number`-th of its name in a process, which is the main one or a worker."""

    call: str
    number: int
    main: bool


@dataclass
class Points:
    """Where each work can fail."""

    trial: Trial
    known: dict[str, dict[str, list[Point]]] = field(default_factory=dict)

    def of(self, work: Work) -> dict[str, list[Point]]:
        """Name of a call -> its points. The first question about a work runs it under strace."""
        if work.name not in self.known:
            self.known[work.name] = self._traced(work)
        return self.known[work.name]

    def _traced(self, work: Work) -> dict[str, list[Point]]:
        site = self.trial.site
        log = site.place / "trace"
        work.prepare(site)
        names = ",".join(f"?{name}" for name in ERRORS)
        done, answer = work.run(_under(site, "-f", "-y", "-s", "4096", "-e", f"trace={names}", "-o", log))
        assert answer is not None, done.err
        found: dict[str, list[Point]] = {}
        with open(log, encoding="utf-8", errors="replace") as lines:
            for point in _points(lines, (f"{site.store}/", f"{site.outputs}/")):
                found.setdefault(point.call, []).append(point)
        os.unlink(log)
        return found


def _under(site: Site, *options: object) -> Site:
    """The same site, its command under strace."""
    command = site.command
    return replace(site, command=replace(command, command=("strace", "-qq", *map(str, options), *command.command)))


def _points(lines: Iterable[str], places: tuple[str, ...]) -> Iterator[Point]:
    """The calls in a trace that concern these places, or that come after the first such call of their process.

    A call that has the number of another call of the main process, before that one has opened the store, is left out:
    Python would fail to start.
    """
    main = ""
    numbers: dict[tuple[str, str], int] = {}
    begun: set[str] = set()
    early: dict[str, int] = {}  # call -> how many the main process has made before it opened the store
    workers: set[tuple[str, int]] = set()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue  # the second half of a call
        pid, call = match[1], match[2]
        main = main or pid
        number = numbers[pid, call] = numbers.get((pid, call), 0) + 1
        here = any(place in line for place in places)
        if here:
            begun.add(pid)
        if pid == main and main not in begun:
            early[call] = number
        if here or (call in _WITHOUT_PATH and pid in begun):
            if pid == main:
                yield Point(call, number, main=True)
            else:
                workers.add((call, number))
    yield from (Point(call, number, main=False) for call, number in sorted(workers) if number > early.get(call, 0))


def run(trial: Trial, budget: Budget) -> None:
    """Let one call of a work fail, round after round."""
    points = Points(trial)
    for _ in budget.spend(trial.figures):
        work = trial.draw(VERBS)
        found = points.of(work)
        call = trial.random.choice(sorted(found))
        point = trial.random.choice(found[call])
        error = trial.random.choice(ERRORS[call])
        process = "the main process" if point.main else "workers"
        fault = f"{work.name}, {error} at {call} {point.number} of {process}"
        work.prepare(trial.site)
        _inject(trial, work, point, error, fault)
        trial.check(work, fault)


def _inject(trial: Trial, work: Work, point: Point, error: str, fault: str) -> None:
    log = trial.site.place / "injected"
    follow = () if point.main else ("-f", "--seccomp-bpf")
    inject = f"inject={point.call}:error={error}:when={point.number}"
    with started(
        _under(trial.site, *follow, "-y", "-o", log, "-e", inject, "-e", f"trace={point.call}"), work
    ) as command:
        if not command.ended_within(_PATIENCE):
            trial.figures.add(Wrong.ENDED, f"{fault}: still running after {_PATIENCE} s")
            return
        done = command.end()
    hit = _injected(log)
    trial.figures.count(
        "failed with the error" if done.status else "succeeded in spite of it" if hit else "not reached"
    )
    trial.check_end(done, (0, 1), f"{fault} ({hit})")
    if done.status == 0:
        trial.compare(work, work.read(done), fault)
    elif not _explains(done, error):
        trial.figures.add(Wrong.ENDED, f"{fault}: {hit}: it does not say what failed: {done.err[-1000:]}")


def _injected(log: Path) -> str:
    """The first call that failed on purpose."""
    with open(log, encoding="utf-8", errors="replace") as lines:
        return next((line.strip()[:300] for line in lines if "(INJECTED)" in line), "")


def _explains(done: Done, error: str) -> bool:
    """Whether the error of a command names the error of the call."""
    number = getattr(errno, error)
    # SQLite keeps the error of the call to itself; the name of its own code says which kind of call it was.
    # It opens tables read-only if it cannot open them for writing.
    known = [os.strerror(number), "(SQLITE_IOERR", "(SQLITE_CANTOPEN", "(SQLITE_READONLY"]
    match error:
        case "EMFILE":
            known += ["the store's tables: "]
        case "ENOSPC":
            known += ["no space", "No space", "disk is full"]  # the last is SQLite's
        case "EIO":
            known += ["disk I/O error", "is malformed"]  # SQLite's; the second when it reads
        case "ENOMEM":
            known += ["out of memory", "failed to map segment"]  # the second is what the dynamic linker says
    return "error: " in done.err and any(text in done.err for text in known)
