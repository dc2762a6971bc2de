"""RUN for other processors, with nothing to set up: by emulators that only the steps of one build have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.foreign import busybox, foreign_emulator, machines_handlers
from tests.support.runs import outputs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Pybuild
    from tests.support.people import Person

RECIPE = """FROM scratch
COPY --chmod=755 busybox /suid/busybox
COPY --chmod=755 busybox /bin/sh
COPY passwd /etc/passwd
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n"


def steps(*commands: str) -> str:
    return RECIPE + "".join(f"{command}\n" for command in commands)


def printed(pybuild: Pybuild, platform: str, *arguments: object) -> list[str]:
    done = pybuild("--progress=json", "--network=none", "--platform", platform, *arguments)
    return list(outputs(done).values())


def test_a_run_for_another_processor(person: Person) -> None:
    """Only the steps have the emulator, and they see nothing of it."""
    before = machines_handlers()
    recipe = steps(
        "RUN /suid/busybox uname -m; /suid/busybox ls /proc/sys/fs/binfmt_misc; /suid/busybox grep binfmt /proc/mounts; true",
        "RUN --mount=type=secret,id=s,required=true /suid/busybox cat /run/secrets/s; exec -a nonesuch /bin/sh",
    )
    context = person.context("c", recipe, busybox=busybox("arm64"), passwd=PASSWD)
    secret = person.take(context / "passwd")
    done = person.pybuild().run(
        "--progress=json", "--network=none", "--platform=linux/arm64", "--secret", f"id=s,src={secret}", context
    )
    first, second = outputs(done).values() if outputs(done) else pytest.fail(done.err)
    assert first == "aarch64\n"
    assert second == f"{PASSWD}nonesuch: applet not found\n"  # the name that a program is called by is kept
    assert done.status == 1
    assert machines_handlers() == before
    person.pybuild().assert_whole()


@pytest.mark.parametrize("person", ["root", "range"], indirect=True)
def test_a_setuid_program_is_one_under_emulation_too(person: Person) -> None:
    tables = "/var/spool/cron/crontabs"
    recipe = steps(
        f"RUN PATH=/suid; busybox mkdir -p -m 700 {tables}; echo kept > {tables}/app; busybox chmod 4755 /suid/busybox",
        "USER app",
        f"RUN /suid/busybox crontab -l; /suid/busybox ls {tables}",  # busybox gives up root for most commands, ls too
    )
    context = person.context("c", recipe, busybox=busybox("arm64"), passwd=PASSWD)
    done = person.pybuild().run("--progress=json", "--network=none", "--platform=linux/arm64", context)
    assert outputs(done).popitem()[1] == f"kept\nls: can't open '{tables}': Permission denied\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name, content in {"busybox": busybox("arm"), "passwd": PASSWD.encode()}.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "Buildfile").write_text(steps("RUN /suid/busybox uname -m"))
    return tmp_path


def test_32_bits_with_an_emulator_that_the_user_names(pybuild: Pybuild, context: Path) -> None:
    emulator = context / "of: mine"
    emulator.symlink_to(foreign_emulator("arm"))
    assert printed(pybuild, "linux/arm/v7", "--emulator", f"armhf={emulator}", context) == ["armv7l\n"]
    named = pybuild.with_environment({"PYBUILD_EMULATORS": f"arm64=/nothing arm={foreign_emulator('arm')}"})
    assert printed(named, "linux/arm", "--no-cache", "--isolation=auto", context) == ["armv7l\n"]
    (context / "config.toml").write_text(f'[emulators]\narm = "{emulator}"\n')
    configured = pybuild.with_environment({"PYBUILD_CONFIG": str(context / "config.toml")})
    assert printed(configured, "linux/arm", "--no-cache", context) == ["armv7l\n"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nothing", "/nothing: No such file or directory"),
        ("/bin/ls", "/bin/ls: is not a static program, and images do not have its libraries"),
        ("/etc/passwd", "/etc/passwd: is not executable"),
    ],
)
def test_a_program_that_is_not_an_emulator(pybuild: Pybuild, context: Path, path: str, said: str) -> None:
    message = pybuild.refused("--platform=linux/arm", "--emulator", f"arm={path}", context)
    assert f"Buildfile:5:1: error: the emulator of arm cannot be used: {said}" in message
    assert "hint: --emulator, or the configuration, names it" in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("arm=relative", "--emulator arm=relative: expected an absolute path"),
        ("vax=/bin/true", "--emulator vax=/bin/true: unknown processor 'vax'; known are 386, amd64, arm"),
        ("/bin/true", "--emulator /bin/true: expected NAME=VALUE"),
    ],
)
def test_a_value_that_names_no_emulator(pybuild: Pybuild, context: Path, value: str, said: str) -> None:
    assert said in pybuild.refused("--emulator", value, context, status=2)


def test_an_insecure_step_cannot_change_the_emulators_of_others(pybuild: Pybuild, context: Path) -> None:
    mounts = "/suid/busybox mount -t binfmt_misc none /suid && echo -1 > /suid/status"
    recipe = steps(f"RUN --security=insecure {mounts} || true", "RUN /suid/busybox uname -m")
    (context / "Buildfile").write_text(recipe)
    *_, last = printed(pybuild, "linux/arm", "--allow=security.insecure", context)
    assert last == "armv7l\n"


def test_doctor_lists_the_processors(pybuild: Pybuild) -> None:
    out = pybuild("doctor").out
    assert "processors           amd64, 386: this machine starts their programs" in out
    assert f"arm64 by {foreign_emulator('aarch64')}" in out and ": registered for each build alone" in out
    wrong = pybuild.with_environment({"PYBUILD_EMULATORS": f"s390x={foreign_emulator('arm')}"})
    assert "note  emulators            none for s390x: RUN for linux/s390x" in wrong("doctor").out
