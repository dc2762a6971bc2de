"""The worker processes of one build, started when they are first needed: a fully cached build starts none.

A worker does one job at a time. There are as many as the machine has cores, of two kinds: those inside the namespace
of the steps, for files that belong to its ids, and those outside. What only a started worker needs is imported then.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeVar

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.workers.tasks import Locks, Semaphore, Tasks, run_until_complete, wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pybuild.builder.host.id_map import IdMap
    from pybuild.builder.jobs.job import Job
    from pybuild.builder.sandbox.spec import SandboxSpec
    from pybuild.builder.workers.process import WorkerProcess
    from pybuild.builder.workers.sandbox_client import SandboxWorker, Status

_MODULE = "pybuild.builder.workers.job_worker"

R = TypeVar("R")


class Pool:
    """A context manager; leaving it ends every worker, and with them every process of every step."""

    def __init__(self) -> None:
        self._id_map: IdMap | None = None
        self._sandbox: SandboxWorker | None = None
        self._workers: set[WorkerProcess] = set()
        self._free: dict[bool, list[WorkerProcess]] = {False: [], True: []}  # in_namespace -> without work
        self._cores = Semaphore(os.cpu_count() or 1)
        self.locks = Locks()  # for what two tasks would make both
        self._refused = False

    @property
    def id_map(self) -> IdMap:
        """The ids of the namespace."""
        if self._id_map is None:
            from pybuild.builder.host.id_map import choose_id_map

            self._id_map = choose_id_map()
        return self._id_map

    @property
    def tree_map(self) -> str:
        """The name under which trees that can be used here were made; "" once a namespace was refused."""
        return "" if self._refused else self.id_map.name

    async def run_step(self, spec: SandboxSpec, on_output: Callable[[int, bytes], None], vault: int = -1) -> Status:
        """Run a command in the sandbox; `vault` holds its secrets. Raises SandboxError, PrivilegeError."""
        return await self._sandbox_worker().run(spec, on_output, vault)

    def run_on_terminal(self, spec: SandboxSpec, relay: Callable[[int, int], None], vault: int = -1) -> None:
        """Run a command of the sandbox on a terminal, and nothing beside it (sandbox.py). Raises SandboxError, PrivilegeError."""
        self._sandbox_worker().run_on_terminal(spec, relay, vault)

    async def job(self, job: Job[R]) -> R:
        """Have a worker do a job; raise what it raised. Waits for one of the cores."""
        async with self._cores:
            return await self._run(job)

    async def job_without_core(self, job: Job[R]) -> R:
        """As `job`, for one that waits for the network, or for others, and not for a core."""
        return await self._run(job)

    def run(self, job: Job[R]) -> R:
        """As `job`, for callers that cannot wait with the others: those stand still until the job is done."""
        return run_until_complete(self._run(job))

    def run_many(self, jobs: Sequence[Job[R]], at_once: int, tick: Callable[[], None] = lambda: None) -> list[R]:
        """Do jobs that wait for the network and not for a core, several at a time, each in a process.

        `tick` is called now and then. The results are in the order of the jobs; raises what the first failing one raised.
        """
        slots = Semaphore(at_once)

        async def one(job: Job[R]) -> R:
            async with slots:
                return await self._run(job)

        results = {}
        with Tasks[int, R](tick) as tasks:
            for number, job in enumerate(jobs):
                tasks.start(number, one(job))
            while tasks:
                number, result = tasks.next_ended()
                results[number] = result
        return [results[number] for number in range(len(jobs))]

    def stop(self) -> None:
        """End all workers, and with them what they were doing; the next job starts new ones. Idempotent."""
        while self._workers:
            self._workers.pop().kill()
        self._free = {False: [], True: []}
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = None

    close = stop

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sandbox_worker(self) -> SandboxWorker:
        if self._sandbox is None:
            from pybuild.builder.workers.sandbox_client import SandboxWorker

            try:
                self._sandbox = SandboxWorker(self.id_map)
            except PrivilegeError:
                self._refused = True
                raise
        return self._sandbox

    async def _run(self, job: Job[R]) -> R:
        from pybuild.builder.workers.messages import read_answer, request_message

        free = self._free[job.in_namespace]
        worker = free.pop() if free else self._start(job)
        try:
            worker.channel.send(request_message(job))
            await wait_readable(worker.channel.fileno())
            answer, _ = worker.channel.receive()
        except EOFError:
            self._end(worker)
            raise BuildError(
                "a worker process has ended", hint="it was killed, or the machine is out of memory"
            ) from None
        except BaseException:
            self._end(worker)  # in the middle of its work
            raise
        free.append(worker)
        return read_answer(answer, job)

    def _start(self, job: Job[object]) -> WorkerProcess:
        from pybuild.builder.workers.process import WorkerProcess

        if not job.in_namespace:
            worker = WorkerProcess(_MODULE, paths=_paths())
        else:
            namespace = os.pidfd_open(self._sandbox_worker().pid)
            try:
                worker = WorkerProcess(_MODULE, paths=_paths(), pass_fds=(namespace,))
            finally:
                os.close(namespace)
        self._workers.add(worker)
        return worker

    def _end(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        worker.kill()


def _paths() -> list[str]:
    """Our packages and the libraries that the main process uses; never the working directory."""
    from pybuild.builder.workers.process import packages_directory

    return [packages_directory(), *(path for path in sys.path if path and os.path.isabs(path))]
