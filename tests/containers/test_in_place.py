"""What a RUN can do and what is left after it, in pybuild's own image, in a container that allows no namespaces.

The image is made of this machine (tests/support/in_container.py). `make containers` also builds images/pybuild, and in it a
recipe with Debian, busybox and scratch (own_image.py).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.agents import FAILURE, KEYS, LIST, REMOVE_ALL, an_agent, keys
from tests.support.cli import BASE
from tests.support.containers import make_own_image
from tests.support.people import forget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.containers import OwnImage

PROGRESS = "--progress=plain"


@pytest.fixture(scope="module")
def person(base_archive: Path) -> Iterator[OwnImage]:
    found = make_own_image()
    found.take(base_archive)
    found.pybuild()("import", found.home / "base.tar")
    yield found
    forget(found)


def recipe(person: OwnImage, lines: str, **files: str) -> Path:
    number = len(list(person.home.iterdir()))
    return person.context(f"context{number}", f"FROM {BASE}\n{lines}\n", **files)


def test_a_step_has_what_it_mounts_and_leaves_nothing_of_it(person: OwnImage) -> None:
    token = person.home / "token"
    token.write_text("hidden-4711")
    context = recipe(
        person,
        "RUN mkdir /b /t && echo below > /b/f && echo image > /etc/hidden\n"
        "RUN --mount=type=bind,target=/b --mount=type=bind,target=/w,rw --mount=type=tmpfs,target=/t "
        "--mount=type=cache,target=/c/deep --mount=type=secret,id=token,target=/etc/hidden,uid=5,mode=0440 "
        "cat /b/file && test ! -e /b/f && echo no > /b/lost && echo no > /w/lost && echo no > /t/lost && echo kept > /c/deep/kept "
        '&& test "$(wc -c < /etc/hidden)" = 11 && test "$(stat -L -c %u:%a /etc/hidden)" = 5:440\n'
        "RUN --mount=type=cache,target=/other/place,id=/c/deep cat /other/place/kept > /out; cat /etc/hidden; ls /b\n"
        "RUN <<EOF\n#!/bin/cat\nthe program\nEOF\n",
        file="of the context\n",
    )
    said = person.shell(
        f"pybuild {PROGRESS} -t mounts --secret=id=token,src={token} {context} || exit; cat /out; ls /b /dev/shm /c /other /dev/pipes;"
        " pybuild history --files mounts; pybuild fsck"
    )
    assert said.status == 0, said.err
    assert re.findall(r"\| (.*)$", said.err, flags=re.MULTILINE) == ["of the context", "image", "f", "#!/bin/cat", "the program"]
    assert "note: /b is mounted read-only: what the step wrote there is lost" in said.err
    assert "/w is mounted read-only" not in said.err
    assert said.out.splitlines()[1:5] == ["kept", "/b:", "f", ""]
    added = re.findall(r" [ACD] (/.*)$", said.out, flags=re.MULTILINE)
    assert set(added) - {path for path in added if path.startswith("/bin/")} >= {"/out", "/b/f", "/etc/hidden"}
    assert not [path for path in added if path.startswith(("/c", "/other", "/w")) or "lost" in path]
    assert "hidden-4711" not in said.out + said.err
    assert "0 damaged" in said.out


def test_a_step_reaches_an_ssh_agent_and_cannot_change_it(person: OwnImage, probe: bytes) -> None:
    context = person.context(
        "with agent",
        f"FROM {BASE}\nCOPY --chmod=755 probe /\n"
        f"RUN --mount=type=ssh,mode=0640 /probe agent {LIST} {REMOVE_ALL} {LIST}; ls -lL $SSH_AUTH_SOCK | cut -c 1-10\n"
        "USER app\n"
        f"RUN --mount=type=ssh,uid=1000,target=/s/agent /probe agent {LIST}; echo $SSH_AUTH_SOCK\n"
        f"RUN --mount=type=ssh /probe agent {LIST}; true\n"
        "RUN --mount=type=ssh,id=other echo at $SSH_AUTH_SOCK; ls /dev/shm | wc -l; ! ls /s\n",
        probe=probe,
    )
    with an_agent(person.home) as path:
        before = keys(path)
        done = person.pybuild().run(PROGRESS, f"--ssh=default={path}", context)
        assert keys(path) == before != ""
    assert done.status == 0, done.err
    assert re.findall(r"s \| (.*)$", done.err, flags=re.MULTILINE) == [
        "connect ok", f"{LIST} {KEYS}", f"{REMOVE_ALL} {FAILURE}", f"{LIST} {KEYS}", "srw-r-----",
        "connect ok", f"{LIST} {KEYS}", "/s/agent",
        "connect EACCES",
        "at /run/buildkit/ssh_agent.0", "1", "ls: /s: No such file or directory",
    ]  # fmt: skip


def test_a_failed_step_keeps_its_cache(person: OwnImage) -> None:
    failing = recipe(person, "RUN --mount=type=cache,target=/kept echo made > /kept/file; exit 3\n")
    second = recipe(person, "RUN --mount=type=cache,target=/kept cat /kept/file\n")
    said = person.shell(f"pybuild {PROGRESS} {failing}; pybuild {PROGRESS} {second} && pybuild fsck")
    assert said.status == 0, said.err
    assert "RUN exited with status 3" in said.err
    assert "| made" in said.err


def test_a_link_above_a_mount_leads_nowhere(person: OwnImage) -> None:
    """The step replaces a directory above its cache: files of a volume are neither removed nor taken for the cache."""
    volume = person.home / "volume"
    (volume / "above/cache").mkdir(parents=True)
    (volume / "above/cache/file").write_text("of the user\n")
    first = recipe(person, f"RUN --mount=type=cache,target=/m/above/cache rm -rf /m && ln -s {volume} /m\n")
    second = recipe(person, "RUN --mount=type=cache,target=/m/above/cache ls /m/above/cache; echo end\n")
    said = person.shell(f"pybuild {PROGRESS} {first} && pybuild {PROGRESS} {second}")
    assert said.status == 0, said.err
    assert (volume / "above/cache/file").read_text() == "of the user\n"
    assert re.findall(r"\| (.*)$", said.err, flags=re.MULTILINE) == ["end"]


def test_what_a_step_leaves_running_is_ended(person: OwnImage) -> None:
    """Daemons that fork twice, make sessions of their own, ignore signals, and fork all the time."""
    daemon = "setsid sh -c '(trap \"\" TERM HUP; while :; do sleep 1000; done) &' &"
    chain = "setsid sh -c 'f() { sh -c \"$1\" \"$1\" & }; export C; C=\"sh -c \\\"\\$C\\\" &\"; eval $C' &"
    context = recipe(person, f"RUN {daemon} {chain} (sleep 1000 &); echo begun\nRUN ps -o args; echo last\n")
    said = person.shell(f"pybuild {PROGRESS} --no-cache {context}; ps -o args")
    assert said.status == 0, said.err
    assert "| last" in said.err
    assert "sleep 1000" not in said.out
    assert not re.search(r"\| .*sleep 1000", said.err)


def test_mounts_of_the_container_are_left_alone_and_the_root_becomes_each_stage(person: OwnImage) -> None:
    context = recipe(
        person,
        f"RUN echo first > /first; rm -rf /var/* /tmp/*; rmdir {person.home}; echo other > /etc/hosts; ls /\n"
        f"FROM {BASE}\nRUN test ! -e /first && echo second > /second\n"
        "FROM scratch\nCOPY --from=0 /bin /bin\nCOPY --from=1 /second /\nRUN ls / > /listing; test ! -e /etc/passwd; cat /second\n",
    )
    said = person.shell(f"pybuild {PROGRESS} -t stages {context} && ls / && cat /listing && ls {context} && cat /etc/hosts")
    assert said.status == 0, said.err
    assert "Device or resource busy" in said.err
    root = {"bin", "dev", "etc", "listing", "mnt", "proc", "pybuild", "second", "sys"}
    assert root <= set(said.out.splitlines())
    assert "first" not in said.out.splitlines()
    done = person.pybuild()("export", "stages", "-o", f"type=tar,dest={person.home}/stages.tar")
    assert done.status == 0
    names = subprocess.run(["tar", "tf", person.home / "stages.tar"], capture_output=True, text=True, check=True).stdout.split()
    assert {name.strip("/").split("/")[0] for name in names} == {"bin", "listing", "second"}


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        ("RUN --network=none true", "", "Buildfile:2:5: error: RUN --network=none is not possible with the isolation in-place"),
        ("RUN --mount=type=tmpfs,target=/t,size=1m true", "", "Buildfile:2:5: error: size= of a tmpfs mount is not possible"),
        (
            "RUN --mount=type=cache,target=/t --security=insecure true",
            "--allow=security.insecure",
            "Buildfile:2:34: error: RUN --security=insecure is not possible",
        ),
        ("RUN true", "--network=none", "error: --network=none is not possible"),
        ("RUN true", "--add-host=a:127.0.0.1", "error: --add-host is not possible"),
        ("RUN true", "--shm-size=1m", "error: --shm-size is not possible"),
        ("RUN true", "--memory=100m", "error: --memory"),
        ("RUN --mount=type=cache,target=/proc/x true", "", "Buildfile:2:1: error: the step mounts something on /proc/x"),
        ("RUN --mount=type=cache,target=/pybuild true", "", "Buildfile:2:1: error: the step mounts something on /pybuild"),
    ],
)
def test_what_is_not_possible_is_refused_before_anything_runs(
    person: OwnImage, lines: str, arguments: str, said: str
) -> None:
    context = recipe(person, f"{lines}\nRUN echo it ran\n")
    done = person.pybuild().run(PROGRESS, "--no-cache", *arguments.split(), context)
    assert done.status == 1
    assert said in done.err
    assert "| it ran" not in done.err


def test_a_volume_that_hides_files_of_the_image_is_an_error(person: OwnImage) -> None:
    context = recipe(person, f"RUN true\nCOPY Buildfile {person.home}/x\nRUN ls {person.home}\n")
    done = person.pybuild().run(PROGRESS, "--no-cache", context)
    assert done.status == 1
    assert f"Buildfile:4:1: error: the image has {person.home}, where this container has a volume" in done.err


def test_a_capability_that_is_missing_is_named(base_archive: Path) -> None:
    from tests.support.container_config import DOCKER_CAPABILITIES

    few = tuple(name for name in DOCKER_CAPABILITIES if name not in ("FOWNER", "SETUID"))
    found = make_own_image(capabilities=few)
    try:
        found.take(base_archive)
        found.pybuild()("import", found.home / "base.tar")
        done = found.pybuild().run(recipe(found, "COPY Buildfile /\nRUN true"))
        assert done.status == 1
        assert "running steps in the root of this container needs CAP_FOWNER, CAP_SETUID" in done.err
        assert "hint: add them to the container" in done.err
        found.pybuild()("--target=copied", found.context("copies", f"FROM {BASE} AS copied\nCOPY Buildfile /\n"))
    finally:
        forget(found)


def test_a_killed_build_leaves_a_root_that_the_next_one_makes_right(person: OwnImage) -> None:
    first = recipe(person, "RUN echo a > /a; rm -rf /bin/ls /home; (sleep 1000 &); kill -9 -1; sleep 1000")
    second = recipe(person, "RUN ls /bin/ls /home && test ! -e /a && echo b > /b")
    said = person.shell(f"pybuild {PROGRESS} {first}; pybuild {PROGRESS} -t second {second} && pybuild fsck")
    assert said.status == 0, said.err
    assert "0 damaged" in said.out
    assert re.search(r"\| /bin/ls$", said.err, flags=re.MULTILINE)


def test_a_step_that_changes_one_of_many_names_of_a_file_fails(person: OwnImage) -> None:
    context = recipe(person, "RUN mv /bin/cat /bin/dog && rm /bin/ls && cp /bin/dog /bin/own\nRUN chmod 700 /bin/vi\n")
    done = person.pybuild().run(PROGRESS, "--no-cache", context)
    assert done.status == 1
    assert re.search(r'Buildfile:3:1: error: the step has changed a file with \d{3} names, "/bin/', done.err), done.err
