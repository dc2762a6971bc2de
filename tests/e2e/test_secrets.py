"""Secrets are visible in their step and nowhere else."""

from __future__ import annotations

import base64
import gzip
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE, CHECKOUT, Pybuild, write_context
from tests.support.processes import running
from tests.support.runs import outputs

if TYPE_CHECKING:
    from tests.support.people import Person


def forms(secret: bytes) -> list[bytes]:
    """The encodings in which a secret could be stored."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)]


def holds(data: bytes, found: list[bytes]) -> bool:
    if data.startswith(b"\x1f\x8b"):
        data += gzip.decompress(data)
    return any(form in data for form in found)


def other_processes(pybuild: int) -> list[bytes]:
    """Arguments and environment of all processes except pybuild itself and the command of a step."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == pybuild:
            continue
        try:
            status = Path(f"/proc/{name}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) == 1 or numbers[-1] == "1":
                found += [Path(f"/proc/{name}/{file}").read_bytes() for file in ("cmdline", "environ")]
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or outside this container
            continue
    return found


@pytest.mark.parametrize("end", ["success", "failure", "cancel"])
def test_a_secret_is_only_in_its_step(tmp_path: Path, pybuild: Pybuild, end: str) -> None:
    file, variable = os.urandom(64), secrets.token_urlsafe(64)[:64]
    both = [*forms(file), *forms(variable.encode())]
    (tmp_path / "secret").write_bytes(file)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The step waits while this connection is open, so the test can look around during the step.
        wait = f"nc 127.0.0.1 {listener.getsockname()[1]} < /dev/null"
        recipe = f"FROM {BASE}\nRUN --mount=type=secret,id=f --mount=type=secret,id=v,env=V --mount=type=secret,id=v,target=/v"
        recipe += f' wc -c < /run/secrets/f; printf %s "$V" | cmp - /v && echo same; {wait}; test {end} = success\n'
        command = Pybuild(pybuild.root, {"PB_VARIABLE": variable})
        archive = tmp_path / "image.tar"
        flags = ["--network=host", "-t", "app", "-o", f"type=oci,dest={archive}", "--secret", f"id=f,src={tmp_path / 'secret'}"]
        with running(command, *flags, "--secret", "id=v,env=PB_VARIABLE", write_context(tmp_path / "c", recipe)) as build:
            build.wait_for("step_output", "same")
            connection, _ = listener.accept()
            seen = other_processes(build.pid)
            if end == "cancel":
                os.kill(build.pid, signal.SIGINT)
            connection.close()
            done = build.end()
    assert done.status == {"success": 0, "failure": 1, "cancel": 130}[end], done.err
    assert list(outputs(done).values()) == ["64\nsame\n"]
    assert len(seen) > 6
    assert archive.exists() == (end == "success")
    pybuild.assert_whole()
    texts = [done.out.encode(), done.err.encode(), *seen]
    if end == "success":
        texts += [archive.read_bytes(), pybuild("history", "app").out.encode(), pybuild("inspect", "app").out.encode()]
    texts += [path.read_bytes() for path in pybuild.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [text[:100] for text in texts if holds(text, both)]


def test_the_search_finds_a_secret() -> None:
    """Proves that the search above can find a secret."""
    secret = os.urandom(64)
    assert holds(gzip.compress(b"a" + secret + b"b"), forms(secret)) and not holds(b"x" * 100, forms(secret))


def test_files_of_secrets_have_owner_and_mode(person: Person) -> None:
    """E31: the default is root and 0400; mount points are not part of a layer; a missing secret is an empty variable."""
    owned = "uid=0,gid=0" if person.name == "pybuild-single" else "uid=1000,gid=50"
    recipe = f"""FROM {BASE}
WORKDIR /w
RUN --mount=type=secret,id=dir/a --mount=type=secret,id=b,target=conf/b,mode=0440,{owned} --mount=type=secret,id=b,env=B \\
    stat -c '%n %a %u %g' /run/secrets/a conf/b && cat /run/secrets/a && echo $B && ((echo x > conf/b) 2> /dev/null || echo read-only)
RUN --mount=type=secret,id=none --mount=type=secret,id=none,env=NONE ls /run; echo ${{NONE-unset}} ${{NONE:-empty}}
"""
    context = person.context("c", recipe, secret="from a file\n")
    image = person.home / "i.tar"
    flags = ["--secret", f"id=dir/a,src={context / 'secret'}", "--secret", "id=b,env=VALUE"]
    pybuild = person.pybuild(VALUE="from a variable")
    done = pybuild("--progress=json", "-o", f"type=oci,dest={image}", *flags, context)
    first, second = outputs(done).values()
    uid, gid = ("0", "0") if person.name == "pybuild-single" else ("1000", "50")
    assert first.splitlines() == [
        "/run/secrets/a 400 0 0", f"conf/b 440 {uid} {gid}", "from a file", "from a variable", "read-only",
    ]  # fmt: skip
    assert second == "empty\n"
    assert [read_archive(image).names(layer) for layer in (1, 2, 3)] == [["w"], [], []]
    again = person.pybuild(VALUE="another")("--progress=json", *flags, context)
    assert set(again.finished().values()) == {True}, "another value is no other step"


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        pytest.param("id=a,required", [], "2:1: error: this step requires the secret 'a'", id="E31-a required one"),
        pytest.param("id=a", ["id=a,env=UNSET"], "error: --secret id=a: the variable UNSET is not set", id="no variable"),
        pytest.param("id=a", ["id=a,src=/none"], "cannot read /none: No such file or directory", id="no file"),
        pytest.param("id=a", ["id=a,src=/proc"], "cannot read /proc: Is a directory", id="a directory"),
        pytest.param("id=a", ["id=a,src=/dev/zero"], "id=a: the secret exceeds the limit of 500 KiB", id="an endless one"),
        pytest.param("id=a,env=A", ["id=a,src=nul"], "'a' holds a NUL byte, which an environment variable cannot", id="a NUL byte"),
        pytest.param("id=a,target=/bin", ["id=a,src=nul"], "the image has a directory at /bin", id="a directory there"),
    ],
)
def test_invalid_secrets_are_errors(
    tmp_path: Path, pybuild: Pybuild, options: str, flags: list[str], message: str
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN --mount=type=secret,{options} true\n", nul=b"a\0b")
    arguments = [word for flag in flags for word in ("--secret", flag)]
    assert message in pybuild.refused(*arguments, context, cwd=context)


@pytest.mark.parametrize("required", ["", ",required"])
def test_a_mistyped_id_is_named_when_the_step_fails(tmp_path: Path, pybuild: Pybuild, required: str) -> None:
    recipe = f"FROM {BASE}\nRUN --mount=type=secret,id=tokn{required} cat /run/secrets/tokn\n"
    context = write_context(tmp_path / "c", recipe, token="x")
    message = pybuild.refused("--secret", "id=token,src=token", context, cwd=context)
    advice = "--secret id=tokn,src=FILE or --secret id=tokn,env=NAME; or did you mean 'token', which was given?"
    absence = "" if required else "the secret 'tokn' was not given: "
    assert message.splitlines()[-1] == f"hint: {absence}{advice}"


def test_a_step_that_fails_with_its_secret_has_no_hint(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f"FROM {BASE}\nRUN --mount=type=secret,id=token false\n"
    context = write_context(tmp_path / "c", recipe, token="x")
    assert "hint" not in pybuild.refused("--secret", "id=token,src=token", context, cwd=context)


def test_a_build_with_secrets_leaves_no_core_dump(tmp_path: Path) -> None:
    """prctl(2), PR_GET_DUMPABLE: other processes cannot read the memory of the main process either."""
    code = """
from pybuild.builder.secrets import BuildSecrets
from pybuild.builder.options import SecretSource
from pybuild.builder.sandbox import linux
before = linux._prctl(linux.PR_GET_DUMPABLE)
with BuildSecrets((SecretSource("a", "", "A"),), (), {"A": "x"}) as secrets:
    print(before, linux._prctl(linux.PR_GET_DUMPABLE), secrets.secret("a"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout == "1 0 VaultSecret(offset=0, size=1, text=True)\n"
