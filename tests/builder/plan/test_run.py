"""The steps that heredocs and flags of a RUN make."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.builder.options import Entitlement, Network
from pybuild.builder.plan.graph import RunStep, ScriptMount
from pybuild.parser import TmpfsMount
from tests.support.recipes import history, planned, refusal, steps


def last_run(text: str, **fields: Any) -> RunStep:
    found = steps(f"FROM base\n{text}", **fields)[-1]
    assert isinstance(found, RunStep)
    return found


SHELL = ("/bin/sh", "-c")


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        pytest.param("RUN <<E\na $X\n\n b\\\nE", (*SHELL, "a $X\n\n b\\\n"), id="E17-a body alone is the command"),
        pytest.param('ENV X=1\nRUN <<"E"\na $X\nE', (*SHELL, "a $X\n"), id="E17-a quoted heredoc is not expanded either"),
        pytest.param("RUN cat <<E | b\n$X\nE", (*SHELL, "cat <<E | b\n$X\nE"), id="E17-a heredoc in a command is read by the shell"),
        pytest.param(
            "RUN a <<E b <<F\n1\nE\n2\nF", (*SHELL, "a <<E b <<F\n1\nE\n2\nF"), id="E17-several bodies in their order"
        ),
        pytest.param("RUN <<-E\n\ta\n\tE", (*SHELL, "a\n"), id="E17-without the tabs"),
        pytest.param("RUN <<E\n# a\nE", (*SHELL, "# a\n"), id="E3-a comment in a body is kept"),
        pytest.param('SHELL ["/x", "-y"]\nRUN <<E\na\nE', ("/x", "-y", "a\n"), id="E17-the shell of the stage"),
        pytest.param("RUN <<E\nE", (*SHELL, ""), id="E17-an empty body"),
        pytest.param("RUN <<E\n#!/bin/awk\n$X\nE", (*SHELL, "/dev/pipes/E"), id="E18-a program has the name of its heredoc"),
        pytest.param("RUN <<-E\n\t#!/bin/awk\nE", (*SHELL, "#!/bin/awk\n"), id="E18-a body that begins with a tab is not a program"),
    ],
)
def test_a_heredoc_of_a_run_is_a_command(text: str, argv: tuple[str, ...]) -> None:
    assert last_run(text).argv == argv


def test_a_heredoc_that_is_a_program_is_a_file_with_its_name() -> None:
    step = last_run("RUN <<-'A B'\n#!/bin/awk -f\n\t$X `y`\nA B")
    assert step.mounts == (ScriptMount("/dev/pipes", "A B", "#!/bin/awk -f\n$X `y`\n"),)
    assert history("FROM base\nRUN <<E\n#!/bin/awk\nE") == ["RUN /bin/sh -c /dev/pipes/E # buildkit"]


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        pytest.param("target=/a//b/../c,size=1k", TmpfsMount("/a/c", 1024, False), id="E28-a target is made clean"),
        pytest.param("target=a,ro", TmpfsMount("/w/a", None, True), id="E29-a target joins the working directory"),
        pytest.param("target=../../a", TmpfsMount("/a", None, False), id="E29-a target does not leave the root"),
        pytest.param("target=/$X/${Y:-y},size=$Z", TmpfsMount("/x/y", 5, False), id="E9-the options of a mount"),
    ],
)
def test_a_tmpfs_is_mounted(options: str, mount: TmpfsMount) -> None:
    assert last_run(f"WORKDIR /w\nARG X=x Z=5\nRUN --mount=type=tmpfs,{options} a").mounts == (mount,)


@pytest.mark.parametrize(
    ("flag", "build", "network"),
    [
        pytest.param("", Network.DEFAULT, Network.DEFAULT, id="no flag"),
        pytest.param("", Network.NONE, Network.NONE, id="the network of the build"),
        pytest.param("--network=default", Network.NONE, Network.NONE, id="the default is the build's"),
        pytest.param("--network=none", Network.HOST, Network.NONE, id="none"),
        pytest.param("--network=host", Network.HOST, Network.HOST, id="the build allows it"),
    ],
)
def test_a_run_chooses_its_network(flag: str, build: Network, network: Network) -> None:
    assert last_run(f"RUN {flag} a", network=build).network is network


def test_an_allowed_entitlement_can_be_used() -> None:
    allow = frozenset(Entitlement)
    assert last_run("RUN --network=host a", allow=allow).network is Network.HOST
    assert last_run("RUN --security=insecure a", allow=allow).insecure
    assert not last_run("RUN --security=sandbox a", allow=allow).insecure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("RUN --network=host a", "2:5 RUN --network asks for network.host", id="the network of the host"),
        pytest.param(
            "RUN --network=none --security=insecure a", "2:20 RUN --security asks for security.insecure", id="all power"
        ),
        pytest.param("RUN --mount=type=tmpfs,target=/$X a", "2:24 the root directory", id="E29-the root as a target"),
        pytest.param("RUN --mount=type=tmpfs,target=$X a", "2:24 the root directory", id="E9-no target in the root"),
        pytest.param("RUN --mount=type=bind a", "2:5 the root directory", id="E29-no target in the root"),
        pytest.param("RUN --mount=type=tmpfs,target=a/.. a", "2:24 the root directory", id="E29-back to the root"),
        pytest.param(
            "RUN --mount=type=tmpfs,target=/a,size=${X:-y} a", "2:34 mount option size: invalid size", id="E9-no size"
        ),
        pytest.param("RUN <<a/b\n#!/x\na/b", "2:5 the delimiter 'a/b' cannot be", id="E18-a name with a slash"),
        pytest.param("RUN <<..\n#!/x\n..", "2:5 the delimiter '..' cannot be", id="E18-a name that is `..`"),
    ],
)
def test_errors_have_a_place_in_the_recipe(text: str, message: str) -> None:
    assert refusal(f"FROM base\n{text}").startswith(message)


def test_triggers_can_have_heredocs() -> None:
    result = planned("FROM base AS a\nONBUILD RUN <<E\n#!/x\nE\nFROM a")
    (step,) = (node.step for node in result.nodes if isinstance(node.step, RunStep))
    assert step.mounts == (ScriptMount("/dev/pipes", "E", "#!/x\n"),)
