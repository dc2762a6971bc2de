"""The worker processes of one build, started when they are first needed: a fully cached build starts none.

A worker does one job at a time. As many jobs run at a time as the machine has cores; jobs that wait for the network do
not count. Workers inside the namespace of the steps handle files that belong to its ids, the others run outside.
Modules that only a started worker needs are imported when it starts.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.options import Isolation, Snapshotter
from pybuild.builder.sandbox.container_root import entered
from pybuild.builder.workers.tasks import Locks, Semaphore, Tasks, run_until_complete, wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO
    from types import TracebackType

    from pybuild.builder.host.id_map import IdMap
    from pybuild.builder.host.network import StepNetwork
    from pybuild.builder.host.rung import Rung
    from pybuild.builder.jobs.job import Job
    from pybuild.builder.sandbox.emulators import Found, Wanted
    from pybuild.builder.sandbox.frames import Message
    from pybuild.builder.sandbox.spec import SandboxSpec
    from pybuild.builder.workers.process import WorkerProcess
    from pybuild.builder.workers.sandbox_client import SandboxWorker, Status

COPIES_WANTED = "--snapshots=copy"  # the obstacle if nothing was tried
_MODULE = "pybuild.builder.workers.job_worker"
_REGISTRY_MODULE = "pybuild.builder.workers.registry_worker"

OnProgress: TypeAlias = "Callable[[int, int | None], None]"  # bytes done, bytes in total
R = TypeVar("R")


class Pool:
    """A context manager: leaving it ends every worker and every process of every step.

    `on_note` takes what workers tell the user: why they wait. `isolation` and `snapshots` are those of the steps. `keep` are
    paths that steps leave alone if they run in the root of this container.
    """

    def __init__(
        self,
        on_note: Callable[[str], None] = lambda text: None,
        isolation: Isolation = Isolation.FULL,
        keep: Sequence[str] = (),
        snapshots: Snapshotter = Snapshotter.AUTO,
    ) -> None:
        self.on_note = on_note
        self.keep = keep
        self._isolation = isolation
        self._snapshots = snapshots
        self._overlay_obstacle: str | None = None  # None: overlays have not been tried
        self._rung: Rung | None = None
        self._network: StepNetwork | None = None
        self._id_map: IdMap | None = None
        self._sandbox: SandboxWorker | None = None
        self._root_lock = -1  # of the root of the container, once steps run there
        self._workers: set[WorkerProcess] = set()
        self._idle: dict[bool, list[WorkerProcess]] = {False: [], True: []}  # in_namespace -> workers without a job
        self._cores = Semaphore(os.cpu_count() or 1)
        self.locks = Locks()  # keep two tasks from making the same thing
        self._namespace_refused = False
        self._emulators: tuple[Wanted, ...] = ()

    @property
    def id_map(self) -> IdMap:
        """The map of the ids of the steps' namespace."""
        if self._id_map is None:
            from pybuild.builder.host.id_map import choose_id_map

            self._id_map = choose_id_map()
            if self._isolation in (Isolation.AUTO, Isolation.CONTAINER):
                from pybuild.builder.host.shifted_ids import shifted

                self._id_map = shifted(self._id_map)
        return self._id_map

    @property
    def tree_map(self) -> str:
        """The name of the id map of the trees that can be used here; "" after the machine has refused a namespace."""
        return "" if self._namespace_refused else self.id_map.name

    @property
    def rung(self) -> Rung:
        """What keeps steps apart here. Found out once, before the first step. Raises PrivilegeError."""
        from pybuild.builder.host.rung import FULL, IN_PLACE, Rung

        if self._isolation is Isolation.FULL:
            return FULL
        if self._rung is None:
            refused = self._sandbox_worker().refused
            in_place = self._isolation is Isolation.IN_PLACE
            self._rung = IN_PLACE if in_place else Rung(tuple(refused.items()), self.id_map.step_maps())
        return self._rung

    @property
    def network(self) -> StepNetwork:
        """How a step with a network of its own reaches that of the machine. Found out once. Raises PrivilegeError."""
        if self._network is None:
            from pybuild.builder.host.network import StepNetwork, find_uplink

            uplink = None if self.rung.in_place else find_uplink()
            problem = "" if uplink is None else self._sandbox_worker().try_uplink(uplink)
            self._network = StepNetwork(None if problem else uplink, problem)
        return self._network

    async def overlay_obstacle(self, new_path: Callable[[], str]) -> str:
        """Why steps do not run in overlays here; "" if they do. Tried once, before the first step.

        `new_path` gives an unused path on the filesystem of the steps. Raises PrivilegeError.
        """
        if self._snapshots is Snapshotter.OVERLAY:
            return ""
        if self._snapshots is Snapshotter.COPY:
            return COPIES_WANTED
        if self.rung.in_place:
            return "in place nothing is mounted"
        async with self.locks(("overlay",)):
            if self._overlay_obstacle is None:
                from pybuild.builder.jobs.overlay_trial import TryOverlay

                self._overlay_obstacle = (await self._run(TryOverlay(new_path()))).obstacle
        return self._overlay_obstacle

    def start_ahead(self) -> None:
        """Start the worker that will talk to a registry. It gets ready while this process does other things, such as parsing."""
        from pybuild.builder.workers.process import WorkerProcess

        with suppress(BuildError):  # the first job says what is wrong
            worker = WorkerProcess(_REGISTRY_MODULE, paths=_paths())
            self._workers.add(worker)
            self._idle[False].append(worker)

    def emulate(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Have the kernel start programs of other processors in steps; return what came of it by processor.

        Raises SandboxError, PrivilegeError.
        """
        worker = self._sandbox_worker()
        self._emulators = tuple(wanted) if self._isolation is not Isolation.IN_PLACE else ()
        return worker.emulate(wanted)

    async def run_step(self, spec: SandboxSpec, on_output: Callable[[int, bytes], None], vault: int = -1) -> Status:
        """Run a command in the sandbox; `vault` is the secrets' descriptor. Raises SandboxError, PrivilegeError."""
        return await self._sandbox_worker().run(spec, on_output, vault)

    def run_on_terminal(self, spec: SandboxSpec, relay: Callable[[int, int], None], vault: int = -1) -> None:
        """Run a command in the sandbox, on a terminal, while nothing else runs. Raises SandboxError, PrivilegeError."""
        self._sandbox_worker().run_on_terminal(spec, relay, vault)

    async def job(self, job: Job[R], on_progress: OnProgress | None = None, files: Sequence[FileIO] = ()) -> R:
        """Have a worker do a job, as soon as a core is free; return its result. Raises what the job raised.

        `on_progress` is called with bytes, done and in total, while the job writes a layer or downloads, if it takes long.
        The job gets the descriptors of `files`, which are closed here as soon as they are sent.
        """
        async with self._cores:
            return await self._run(job, on_progress, files)

    async def job_without_core(
        self, job: Job[R], on_progress: OnProgress | None = None, files: Sequence[FileIO] = ()
    ) -> R:
        """Like `job`, without waiting for a core: for jobs that wait for the network, for another build, or for a job
        that has a core.
        """
        return await self._run(job, on_progress, files)

    def run(self, job: Job[R]) -> R:
        """Like `job_without_core`, for callers that are not coroutines. All tasks stand still until the job is done."""
        return run_until_complete(self._run(job))

    def run_many(self, jobs: Sequence[Job[R]], at_once: int, tick: Callable[[], None] = lambda: None) -> list[R]:
        """Do jobs that wait for the network, at most `at_once` at a time, each in a worker of its own.

        `tick` is called at least every 0.1 s. Returns the results in the order of the jobs; raises the error of the
        first job that fails.
        """
        semaphore = Semaphore(at_once)

        async def one(job: Job[R]) -> R:
            async with semaphore:
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
        """End all workers, whatever they are doing; the next job starts new ones. Idempotent."""
        while self._workers:
            self._workers.pop().kill()
        self._idle = {False: [], True: []}
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._root_lock >= 0:
            os.close(self._root_lock)

    def _sandbox_worker(self) -> SandboxWorker:
        if self._sandbox is None:
            from pybuild.builder.workers.sandbox_client import SandboxWorker

            if self._isolation is not Isolation.IN_PLACE:
                try:
                    attempt = self._isolation is not Isolation.FULL and self._rung is None
                    self._sandbox = SandboxWorker(self.id_map, attempt=attempt)
                except PrivilegeError:
                    if self._isolation is not Isolation.AUTO or not entered():
                        self._namespace_refused = True
                        raise
                    self._isolation, self._id_map = Isolation.IN_PLACE, None  # the last rung
            if self._sandbox is None:
                from pybuild.builder.host.in_place import lock_root, require_in_place

                require_in_place()
                if self._root_lock < 0:
                    self._root_lock = lock_root()
                self._sandbox = SandboxWorker(None, lock=self._root_lock)
            if self._emulators:  # those of a worker that was stopped
                self._sandbox.emulate(self._emulators)
        return self._sandbox

    async def _run(self, job: Job[R], on_progress: OnProgress | None = None, files: Sequence[FileIO] = ()) -> R:
        from pybuild.builder.workers.messages import JobNote, JobProgress, read_answer, read_progress, request_message

        request, descriptors = request_message(job), [file.fileno() for file in files]
        worker, sent = self._send_to_idle(job, request, descriptors), True
        if worker is None:
            worker, sent = self._start(job), False
        try:
            if not sent:
                worker.channel.send(request, descriptors)
            for file in files:
                file.close()
            while True:
                if not worker.channel.has_message():
                    await wait_readable(worker.channel.fileno())
                answer, _ = worker.channel.receive()
                match read_progress(answer):
                    case None:
                        break
                    case JobNote(note=text):
                        self.on_note(text)
                    case JobProgress(done=done, total=total) if on_progress is not None:
                        on_progress(done, total)
        except EOFError:
            self._end(worker)
            raise BuildError(
                "a worker process ended unexpectedly", hint="it was killed, or the machine is out of memory"
            ) from None
        except BaseException:
            self._end(worker)  # it is in the middle of a job
            raise
        self._idle[job.in_namespace].append(worker)
        return read_answer(answer, job)

    def _send_to_idle(self, job: Job[object], request: Message, descriptors: Sequence[int]) -> WorkerProcess | None:
        """Send a job to an idle worker, if there is one. One that was killed while it was idle is passed over."""
        idle = self._idle[job.in_namespace]
        while idle:
            worker = idle.pop()
            try:
                worker.channel.send(request, descriptors)
            except EOFError:
                self._end(worker)
            else:
                return worker
        return None

    def _start(self, job: Job[object]) -> WorkerProcess:
        from pybuild.builder.workers.process import WorkerProcess

        sandbox = self._sandbox_worker() if job.in_namespace else None
        if sandbox is None or self._isolation is Isolation.IN_PLACE:
            worker = WorkerProcess(_MODULE, paths=_paths())
        else:
            namespace = os.pidfd_open(sandbox.pid)
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
    """The directories of our packages and of the main process's libraries; never the working directory."""
    from pybuild.builder.workers.process import packages_directory

    return [packages_directory(), *(path for path in sys.path if path and os.path.isabs(path))]
