"""What a RUN cannot have where nothing keeps it apart from the container: it is refused before anything runs, not ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.limits import StepLimits
from pybuild.builder.options import Network, Snapshotter
from pybuild.builder.plan.graph import RunStep
from pybuild.parser import TmpfsMount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Node
    from pybuild.values.source import Span

_CONTAINER = "set it for the container of the build, whose RUN steps have what it has"


def refuse_in_place(nodes: Iterable[Node], options: BuildOptions) -> None:
    """Raise PlanError if the options, or a RUN among these nodes, ask for what does not exist with the isolation in-place."""
    runs = [(node, node.step) for node in nodes if isinstance(node.step, RunStep)]
    if runs:
        _refuse_options(options)
    for node, step in runs:
        if step.network is Network.NONE:
            raise _refused("RUN --network=none", "a step has the network of its container", _flag(node, "network"))
        if step.insecure:
            raise _refused("RUN --security=insecure", "a step has what the container allows", _flag(node, "security"))
        for number, mount in enumerate(step.mounts):
            if isinstance(mount, TmpfsMount) and mount.size is not None:
                place = _flag(node, "mount", number)
                raise _refused("size= of a tmpfs mount", "it is a directory that is emptied", place, "leave size= out")


def _refuse_options(options: BuildOptions) -> None:
    given = {
        "--network=none": options.network is Network.NONE,
        "--add-host": bool(options.hosts),
        "--shm-size": options.limits.shm_size != StepLimits().shm_size,
        **{controller.option: True for controller in options.limits.controllers},
        "--on-fail": options.on_fail.wanted,
        "--snapshots": options.snapshots is not Snapshotter.AUTO,
    }
    hints = {
        "--add-host": "hostAliases of a pod and --add-host of docker run do it",
        "--on-fail": "after the failure the root of the container has the files of the step",
        "--snapshots": "leave it out, and PYBUILD_SNAPSHOTS unset: the root of the container itself becomes the stage",
    }
    for option, is_given in given.items():
        if is_given:
            raise _refused(option, "steps run in the container as it is", None, hints.get(option, _CONTAINER))


def _refused(what: str, why: str, span: Span | None, hint: str = _CONTAINER) -> PlanError:
    return PlanError(f"{what} is not possible with the isolation in-place: {why}", span=span, hint=hint)


def _flag(node: Node, name: str, number: int = 0) -> Span:
    """The place of a flag; that of the instruction if the flag is not written there, such as one of a trigger."""
    found = [flag.span for flag in node.flags if flag.name == name]
    return found[number] if number < len(found) else node.span
