"""`pybuild doctor`: checks whether this machine has everything that a build needs, and names a fix for each problem."""

from __future__ import annotations

import os
import shutil
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.host.emulators import INSTALL, emulator_for, named_emulators, refusal, wanted
from pybuild.builder.host.id_map import MapKind, free_range
from pybuild.builder.host.in_place import require_in_place
from pybuild.builder.host.mountinfo import filesystem_of
from pybuild.builder.host.obstacles import SEE_DOCTOR, user_namespace_obstacle
from pybuild.builder.host.processors import PROCESSORS
from pybuild.builder.host.step_cgroups import Cgroups
from pybuild.builder.jobs.probe import Probe, Probed
from pybuild.builder.limits import StepLimits
from pybuild.builder.options import Isolation, Snapshotter
from pybuild.builder.sandbox.emulators import MACHINE, OWN
from pybuild.builder.sandbox.report import LESS, UNMASKED
from pybuild.builder.sandbox.uplink import TUN
from pybuild.builder.workers.pool import Pool
from pybuild.remote.errors import ConfigError
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.builder.host.id_map import IdMap
    from pybuild.builder.host.network import StepNetwork
    from pybuild.builder.host.rung import Rung
    from pybuild.store.store import Store

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
_MANY_LAYERS_KERNEL = (6, 8)  # overlay takes each lower directory by itself
_LOW_SPACE = 512 << 20  # bytes
_INSTALL_PASTA = "apt-get install passt (Debian, Ubuntu), dnf install passt (Fedora)"


class State(Enum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"  # builds work, with restrictions
    FAIL = "fail"  # RUN does not work


@frozen
class Check:
    """One line of the report. `fix` is a command or a setting, or "" if nothing has to be fixed."""

    name: str
    state: State
    found: str
    fix: str = ""


def examine(
    store: Store,
    pool: Pool,
    isolation: Isolation = Isolation.FULL,
    emulators: Mapping[str, str] | None = None,
    snapshots: Snapshotter = Snapshotter.AUTO,
) -> list[Check]:
    """Check everything that a build can need. A missing feature is part of the result, not an error.

    `isolation` and `snapshots` are what builds ask for: they decide whether a RUN fails without the rest. `emulators` are those of --emulator.
    """
    limits = _limits()  # first: Cgroups must be entered before the pool starts a process
    checks = [_kernel(os.uname().release)]
    probed: Probed | None = None
    rung = _rung()
    in_place = rung is not None and rung.in_place and isolation in (Isolation.AUTO, Isolation.IN_PLACE)
    try:
        probed = pool.run(Probe(store.ingest.new_path()))
        checks.append(Check("user namespaces", State.OK, "allowed"))
    except BuildError as error:
        obstacle = user_namespace_obstacle()
        state = State.NOTE if in_place else State.FAIL
        checks.append(Check("user namespaces", state, str(error), obstacle.fix))
    checks.append(_ids(pool.id_map))
    if probed is not None:
        checks += [_overlay(probed.overlay, store.root, snapshots), _proc(probed.proc, isolation)]
    checks += _isolation(rung, isolation)
    checks += [
        _network(pool.network if probed is not None else None),
        _cgroups(probed),
        limits,
        _space(store.root),
        *_processors(pool, emulators or {}),
        _git(),
    ]
    return checks


def _kernel(release: str) -> Check:
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_KERNEL:
        return Check("kernel", State.FAIL, f"Linux {release}", "Linux 5.12 or newer: mount_setattr(2) is needed")
    if numbers < _MANY_LAYERS_KERNEL:
        return Check("kernel", State.NOTE, f"Linux {release}: images of at most about 100 layers", "Linux 6.8 or newer")
    return Check("kernel", State.OK, f"Linux {release}")


def _ids(id_map: IdMap) -> Check:
    users, groups = (sum(extent.count for extent in run) for run in (id_map.uids, id_map.gids))
    found = f"{users} users and {groups} groups ({id_map.kind.value})"
    if id_map.kind is not MapKind.SINGLE:
        return Check("ids", State.OK, found)
    user = os.environ.get("USER") or str(os.getuid())
    new_ids = "-".join(map(str, free_range()))
    fix = f"usermod --add-subuids {new_ids} --add-subgids {new_ids} {user}"
    if "newuidmap" in id_map.missing:
        fix = "apt-get install uidmap (Debian, Ubuntu), dnf install shadow-utils (Fedora)"
    elif os.geteuid() == 0:
        fix = "start the container with more ids"
    return Check("ids", State.NOTE, f"one user and one group: {id_map.missing}; chown and USER fail in a RUN", fix)


def _overlay(problem: str, root: str, snapshots: Snapshotter = Snapshotter.AUTO) -> Check:
    """Without overlays steps run in copies, unless --snapshots=overlay asks for one."""
    if problem:
        found = f"does not mount on the filesystem of {root}: {problem}"
        fix = (
            "a store on ext4, xfs, btrfs or tmpfs: --root DIR or PYBUILD_ROOT; in a container a volume, as with"
            " -v NAME:/var/lib/pybuild, or memory, with --tmpfs /var/lib/pybuild:mode=700"
        )
        if snapshots is Snapshotter.OVERLAY:
            return Check("overlay", State.FAIL, found, f"{fix}; or --snapshots=auto")
        if os.path.isdir(root) and os.statvfs(root).f_flag & os.ST_NOEXEC:
            return Check(
                "overlay", State.FAIL, f"{found}; and programs cannot run from it, as it is mounted with noexec", fix
            )
        return Check(
            "overlay", State.NOTE, f"{found}; steps run in copies of their files, which takes time and space", fix
        )
    memory = ", which is memory" if filesystem_of(root) == "tmpfs" else ""
    unused = "; not used, as --snapshots=copy asks for" if snapshots is Snapshotter.COPY else ""
    return Check("overlay", State.OK, f"mounts on the filesystem of {root}{memory}{unused}")


def _proc(problem: str, isolation: Isolation = Isolation.FULL) -> Check:
    if problem:
        state = State.FAIL if isolation is Isolation.FULL else State.NOTE
        return Check("/proc", state, f"the kernel refuses to mount a new one: {problem}", UNMASKED)
    return Check("/proc", State.OK, "a new one mounts")


def _rung() -> Rung | None:
    """What can keep steps apart here; None if not even namespaces can."""
    with Pool(isolation=Isolation.AUTO) as pool:
        try:
            return pool.rung
        except BuildError:
            return None


def _isolation(rung: Rung | None, wanted: Isolation) -> Iterator[Check]:
    """A row for each value of --isolation: whether it works here, what it gives up, and what gives more."""
    if rung is None or rung.in_place:
        state = State.NOTE if rung is not None and wanted in (Isolation.AUTO, Isolation.IN_PLACE) else State.FAIL
        for name in ("full", "container"):
            yield Check(f"isolation {name}", state, "needs user namespaces")
    elif rung.is_full:
        yield Check("isolation full", State.OK, "works")
        yield Check("isolation container", State.OK, "works, and gives up nothing here")
    else:
        state = State.FAIL if wanted is Isolation.FULL else State.NOTE
        yield Check("isolation full", state, f"refused: {rung.listed()}", f"{rung.more()}; or {LESS}")
        yield Check("isolation container", State.OK, f"works: {rung.gives_up()}")
    yield _in_place(wanted)


def _in_place(wanted: Isolation) -> Check:
    """Whether steps can run in the root of this container."""
    try:
        require_in_place()
    except BuildError as error:
        state = State.FAIL if wanted is Isolation.IN_PLACE else State.OK
        return Check("isolation in-place", state, f"not here: {error}", error.hint or "" if state is State.FAIL else "")
    return Check("isolation in-place", State.OK, "works: it keeps RUN steps apart from nothing")


def _network(network: StepNetwork | None) -> Check:
    """`network` is None if not even namespaces work."""
    if network is not None and network.uplink is not None:
        return Check("network", State.OK, f"each RUN has its own, with a way out through {network.uplink.program}")
    found = "RUN uses the network of this machine, or none with --network=none"
    if network is not None and network.problem:
        fix = "let this user open it, as with chmod 666 /dev/net/tun" if TUN in network.problem else ""
        return Check("network", State.NOTE, f"{found}: {network.problem}", fix)
    if shutil.which("pasta") is None:
        return Check("network", State.NOTE, f"{found}: pasta is not installed", _INSTALL_PASTA)
    return Check("network", State.NOTE, f"{found}: this machine has no route to another one")


def _cgroups(probed: Probed | None) -> Check:
    try:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as file:
            controllers = file.read().split()
    except OSError:
        controllers = []
    version = (
        f"version 2 with {', '.join(controllers)}" if controllers else "version 1, or version 2 without controllers"
    )
    hidden = probed is not None and not probed.cgroup
    return Check("cgroups", State.OK, f"{version}; {'hidden from steps' if hidden else 'visible to steps'}")


def _limits() -> Check:
    """Try each of --memory, --cpus and --pids-limit."""
    working, failing = [], {}
    for limits in (StepLimits(memory=1 << 30), StepLimits(cpus=1.0), StepLimits(pids=100)):
        (controller,) = limits.controllers
        try:
            with Cgroups(limits):
                working.append(controller.option)
        except BuildError as error:
            failing[str(error)] = (error.hint or "").removesuffix(SEE_DOCTOR).rstrip("; ")
    found = "; ".join([f"{', '.join(working)} work" if working else "none of the limits works", *failing])
    return Check("limits", State.NOTE if failing else State.OK, found, next(filter(None, failing.values()), ""))


def _space(root: str) -> Check:
    usage = shutil.disk_usage(root)
    inodes = os.statvfs(root)
    found = f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB at {root}"
    if usage.free < _LOW_SPACE or (inodes.f_files and inodes.f_favail < 10_000):
        return Check(
            "space", State.NOTE, f"{found}, {inodes.f_favail} inodes", "free some space, or choose another --root"
        )
    return Check("space", State.OK, found)


def _processors(pool: Pool, emulators: Mapping[str, str]) -> Iterator[Check]:
    """Which processors' programs RUN steps can start here, and how. Each emulator is tried."""
    own = Platform.host().architecture
    others = [name for name in PROCESSORS if name != own]
    try:
        named = named_emulators(os.environ, emulators)
        found = pool.emulate(wanted(others, named, check=True))
        paths = {name: emulator.path for name in others if (emulator := emulator_for(name, named)) is not None}
    except (BuildError, ConfigError) as error:
        yield Check("processors", State.NOTE, f"{own}; {error}", error.hint or "")
        return
    started = [name for name in others if found[name].by == MACHINE]
    yield Check("processors", State.OK, f"{', '.join([own, *started])}: this machine starts their programs")
    ours = [f"{name} by {paths[name]}" for name in others if found[name].by == OWN]
    failed = {name: found[name] for name in paths if not found[name].by}
    if failed:
        name, reason = next(iter(failed.items()))
        why = refusal(Platform("linux", name), reason)
        yield Check("emulators", State.NOTE, f"none for {', '.join(failed)}: {why}", why.hint or "")
    if ours:
        yield Check("emulators", State.OK, f"{', '.join(ours)}: registered for each build alone")
    elif not failed:
        yield Check("emulators", State.NOTE, "none: RUN for another processor fails", INSTALL)


def _git() -> Check:
    if shutil.which("git") is None:
        return Check("git", State.NOTE, "not installed: builds cannot use git repositories", "apt-get install git")
    return Check("git", State.OK, "installed")
