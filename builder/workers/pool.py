"""The worker processes of one build, started when they are first needed: a fully cached build starts none."""

from __future__ import annotations

import os
import selectors
import sys
import typing
from typing import TYPE_CHECKING, TypeVar

import store.errors
from builder import errors, userns
from builder.errors import BuildError, PrivilegeError
from builder.workers.codec import decode, encode
from builder.workers.sandbox import SandboxWorker
from builder.workers.spawn import WorkerProcess, packages_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from builder.sandbox.spec import SandboxSpec
    from builder.userns import IdMap
    from builder.workers.job import Job
    from builder.workers.sandbox import Status

_TICK_SECONDS = 0.2
_MODULE = "builder.workers.job_worker"

R = TypeVar("R")


class Pool:
    """A context manager; leaving it ends every worker, and with them every process of every step."""

    def __init__(self) -> None:
        self._id_map: IdMap | None = None
        self._sandbox: SandboxWorker | None = None
        self._plain: WorkerProcess | None = None
        self._inside: WorkerProcess | None = None
        self._refused = False

    @property
    def id_map(self) -> IdMap:
        """The ids of the namespace."""
        if self._id_map is None:
            self._id_map = userns.choose()
        return self._id_map

    @property
    def tree_map(self) -> str:
        """The name under which trees that can be used here were made; "" once a namespace was refused."""
        return "" if self._refused else self.id_map.name

    def run_step(self, spec: SandboxSpec, on_output: Callable[[int, bytes], None]) -> Status:
        """Run a command in the sandbox. Raises SandboxError, PrivilegeError."""
        return self._sandbox_worker().run(spec, on_output)

    def run(self, job: Job[R]) -> R:
        """Run a job to its end; raise what it raised."""
        worker = self._worker_inside() if job.in_namespace else self._worker_outside()
        _send(worker, job)
        return _receive(worker, job)

    def run_many(self, jobs: Sequence[Job[R]], workers: int, tick: Callable[[], None] = lambda: None) -> list[R]:
        """Run jobs that need no namespace, several at a time, each in a process; raise what the first failing one raised.

        `tick` is called now and then while they run. Results are in the order of the jobs.
        """
        results: dict[int, R] = {}
        waiting = list(enumerate(jobs))[::-1]
        free = [WorkerProcess(_MODULE, paths=_paths()) for _ in range(min(workers, len(jobs)))]
        everyone = tuple(free)
        try:
            with selectors.DefaultSelector() as selector:
                while waiting or selector.get_map():
                    while waiting and free:
                        number, job = waiting.pop()
                        worker = free.pop()
                        _send(worker, job)
                        selector.register(worker.channel.fileno(), selectors.EVENT_READ, (number, job, worker))
                    for key, _ in selector.select(_TICK_SECONDS):
                        number, job, worker = key.data
                        selector.unregister(key.fd)
                        results[number] = _receive(worker, job)
                        free.append(worker)
                    tick()
        finally:
            for worker in everyone:
                worker.kill()
        return [results[number] for number in range(len(jobs))]

    def stop(self) -> None:
        """End all workers, and with them what they were doing; the next job starts new ones. Idempotent."""
        for worker in (self._inside, self._plain):
            if worker is not None:
                worker.kill()
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = self._inside = self._plain = None

    close = stop

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sandbox_worker(self) -> SandboxWorker:
        if self._sandbox is None:
            try:
                self._sandbox = SandboxWorker(self.id_map)
            except PrivilegeError:
                self._refused = True
                raise
        return self._sandbox

    def _worker_outside(self) -> WorkerProcess:
        if self._plain is None:
            self._plain = WorkerProcess(_MODULE, paths=_paths())
        return self._plain

    def _worker_inside(self) -> WorkerProcess:
        if self._inside is None:
            namespace = os.pidfd_open(self._sandbox_worker().pid)
            try:
                self._inside = WorkerProcess(_MODULE, paths=_paths(), pass_fds=(namespace,))
            finally:
                os.close(namespace)
        return self._inside


def _send(worker: WorkerProcess, job: Job[object]) -> None:
    try:
        worker.channel.send({"job": type(job).__name__, "args": encode(job)})
    except EOFError:
        raise _gone() from None


def _receive(worker: WorkerProcess, job: Job[R]) -> R:
    """Wait for the result of the job that was sent last."""
    try:
        answer, _ = worker.channel.receive()
    except EOFError:
        raise _gone() from None
    if "error" in answer:
        raise _error(str(answer["error"]), str(answer["message"]), answer.get("hint"))
    result = answer["result"]
    assert isinstance(result, dict)
    kind: type[R] = typing.get_type_hints(type(job).run)["return"]
    return decode(kind, result)


def _gone() -> BuildError:
    return BuildError("a worker process has ended", hint="it was killed, or the machine is out of memory")


def _paths() -> list[str]:
    """Our packages and the libraries that the main process uses; never the working directory."""
    return [packages_directory(), *(path for path in sys.path if path and os.path.isabs(path))]


def _error(name: str, message: str, hint: object) -> Exception:
    """The exception that a worker named, if it is one of ours."""
    kind = getattr(errors, name, None) or getattr(store.errors, name, None)
    text = str(hint) if hint else None
    if isinstance(kind, type) and issubclass(kind, BuildError | store.errors.StoreError):
        return kind(message, hint=text)
    return BuildError(f"{name}: {message}", hint=text)
