"""What a step in a container cannot do to pybuild, to the steps beside it and to the container.

The /proc of such a step shows all processes of the container: the first test makes sure of it, so that the others mean
something. Each attack runs beside a step that has secrets in its memory and its environment, and goes on afterwards.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Done
from tests.support.containers import make_container
from tests.support.people import Person, forget

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET_OF_PYBUILD, SECRET_OF_STEP = "4d1c7a0e-of-pybuild", "9be27f13-of-step"
# Both steps make the FIFOs, as root or not: whoever comes second finds them.
MEET = "--mount=type=cache,id=meet,target=/meet,mode=0777"
MAKE = "mkfifo -m 666 /meet/begin /meet/end 2>/dev/null"
VICTIM = f"""\
FROM {BASE} AS victim
RUN {MEET} SECRET={SECRET_OF_STEP}; export SECRET; {MAKE}; {{}}; echo > /meet/begin; cat /meet/end; echo the victim goes on
"""
CONTAINERS = ["podman", "65536-ids", "user-1000", "seccomp-off"]


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("attack") / "attack"
    source = Path(__file__).with_name("attack.c")
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-o", path, source], check=True)
    return path.read_bytes()


@pytest.fixture(params=CONTAINERS)
def person(request: pytest.FixtureRequest, base_archive: Path) -> Iterator[Person]:
    found = make_container(request.param)
    found.take(base_archive)
    found.pybuild()("import", found.home / "base.tar")
    yield found
    forget(found)


def beside_a_victim(person: Person, attacker: str, attack: bytes = b"", victim: str = "true") -> Done:
    """Build the victim, which also runs the command `victim`, and beside it a stage with the lines `attacker`."""
    recipe = f"{VICTIM.format(victim)}FROM {BASE} AS attacker\nCOPY --chmod=755 attack /\n{attacker}\nFROM {BASE}\n"
    recipe += "COPY --from=victim /etc/group /a\nCOPY --from=attacker /etc/group /b\nRUN echo the build goes on\n"
    context = person.context("context", recipe, attack=attack)
    return person.pybuild(SECRET=SECRET_OF_PYBUILD).run("--isolation=container", "--progress=plain", context)


def assert_all_went_on(done: Done) -> None:
    assert done.status == 0, done.err
    assert "| the victim goes on" in done.err
    assert "| the build goes on" in done.err


def test_the_proc_of_a_step_shows_pybuild_and_other_steps(person: Person) -> None:
    look = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done"
    done = beside_a_victim(person, f"RUN {MEET} {MAKE}; cat /meet/begin; {look}; echo > /meet/end")
    assert_all_went_on(done)
    assert "--isolation=container" in done.err
    assert "the victim goes on" in re.sub(r"^.*\| the victim.*$|^\S.*RUN.*$", "", done.err, flags=re.MULTILINE)


def test_nothing_of_other_processes_can_be_read_traced_or_ended(person: Person, attack: bytes) -> None:
    done = beside_a_victim(person, f'RUN {MEET} ["/attack", "/meet/begin", "/meet/end"]\n', attack)
    assert_all_went_on(done)
    assert re.findall(r"\| ((?:reached|read) .*)", done.err) == []
    tried = re.search(r"\| tried (\d+) processes and (\d+) files", done.err)
    assert tried is not None
    assert int(tried[1]) >= 6  # pybuild, its worker, two keepers, two inits, the victim
    assert int(tried[2]) > 1000
    assert SECRET_OF_PYBUILD not in done.err


@pytest.mark.parametrize("user", ["root", "app"])
def test_a_signal_to_everything_stays_in_the_step(person: Person, user: str) -> None:
    if person.name == "user-1000" and user != "root":
        user = "root"
    every = "kill -9 -1; for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = 1 ] || [ $n = $$ ] || kill -9 $n 2>/dev/null; done"
    lines = f"USER {user}\nRUN {MEET} {MAKE}; cat /meet/begin; {every}; echo > /meet/end; echo still here\n"
    done = beside_a_victim(person, lines)
    assert_all_went_on(done)
    assert "| still here" in done.err


def test_each_step_has_a_user_namespace_of_its_own(person: Person) -> None:
    show = "readlink /proc/self/ns/user"
    done = beside_a_victim(person, f"RUN {MEET} {MAKE}; {show}; cat /meet/begin; echo > /meet/end", victim=show)
    assert_all_went_on(done)
    assert len(set(re.findall(r"\| user:\[(\d+)\]", done.err))) == 2


def test_a_command_gets_no_descriptor_of_pybuild(person: Person) -> None:
    recipe = f"FROM {BASE}\nRUN for f in /proc/self/fd/*; do echo ${{f##*/}}; done\n"
    done = person.pybuild().run("--isolation=container", "--progress=plain", person.context("context", recipe))
    assert re.findall(r"\| (\d+)$", done.err, flags=re.MULTILINE) == ["0", "1", "2", "3"]  # 3: the directory itself


def test_the_root_of_a_step_is_not_the_user_of_pybuild(person: Person) -> None:
    """Where more than one id exists. The id outside is that of the files that a step leaves in the store."""
    recipe = f"FROM {BASE}\nRUN touch /made\n"
    person.pybuild()("--isolation=container", person.context("context", recipe))
    (made,) = (person.home / "store" / "trees").glob("*/fs/made")
    owner = made.lstat().st_uid
    assert (owner == person.uid) == (person.name == "user-1000")
    assert owner - person.uid in {"podman": (65_536,), "seccomp-off": (65_536,), "65536-ids": (1,)}.get(person.name, (0,))
