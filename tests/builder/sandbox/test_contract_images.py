"""Hostile images in the sandbox; and the sandbox leaves nothing in the layers of harmless ones."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import SCRIPT, Pybuild, copy_store, write_context
from tests.support.runs import outputs
from tests.support.tars import directory, entry, hardlink, symlink, tar

CANARY = "a-secret-of-this-machine"
BUSYBOX = Path("/bin/busybox").read_bytes()
SHELL = (
    directory(b"bin/"), entry(b"bin/busybox", data=BUSYBOX, mode=0o755), hardlink(b"bin/sh", b"bin/busybox"),
)  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Pybuild:
    """The pybuild command with an empty store."""
    return Pybuild(tmp_path / "store")


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """A directory of this machine that no step may change or read."""
    place = tmp_path / "sentinel"
    place.mkdir()
    (place / "canary").write_text(CANARY)
    return place


def listing(place: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """The content of a directory, to see whether it changed."""
    found = {}
    for path in (place, *place.iterdir()):
        status = path.lstat()
        found[path.name] = (
            status.st_mode,
            status.st_mtime_ns,
            status.st_ctime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
    return found


def import_root(pybuild: Pybuild, place: Path, *members: bytes) -> None:
    """Import an image `hostile` with a shell and these entries."""
    place.write_bytes(tar(*SHELL, *members))
    pybuild("import", place, "hostile")


def added(pybuild: Pybuild, context: Path, *arguments: str) -> list[list[str]]:
    """The names in each layer of the image that a context builds."""
    archive = context.parent / "added.tar"
    pybuild(*arguments, "-o", f"type=oci,dest={archive}", context)
    image = read_archive(archive)
    return [image.names(number) for number in range(len(image.layers))]


# -- links in place of mount points


@pytest.mark.parametrize("name", [b"proc", b"sys", b"dev"])
@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_a_link_in_place_of_a_mount_point_is_refused(
    tmp_path: Path, empty: Pybuild, sentinel: Path, name: bytes, target: str
) -> None:
    before = listing(sentinel)
    path = str(sentinel) if target == "absolute" else "../../../.." + str(sentinel)
    import_root(empty, tmp_path / "root.tar", symlink(name, path.encode()))
    context = write_context(tmp_path / "c", "FROM hostile\nRUN true\n")
    assert f"error: the image has a non-directory at /{name.decode()}\n" in empty.refused(context)
    assert listing(sentinel) == before


def test_links_within_dev_are_covered(tmp_path: Path, empty: Pybuild, sentinel: Path) -> None:
    before = listing(sentinel)
    links = [symlink(b"dev/" + name, os.fsencode(sentinel)) for name in (b"console", b"null", b"pts", b"shm")]
    import_root(empty, tmp_path / "root.tar", directory(b"dev/"), *links)
    context = write_context(tmp_path / "c", "FROM hostile\nRUN busybox ls /dev/pts /dev/shm && echo x > /dev/null\n")
    assert CANARY not in empty(context).err
    assert listing(sentinel) == before


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("link", id="E33-a link is one of the image"),
        pytest.param("FIFO", id="E33-only a regular file is read"),
        pytest.param("file of 11 MB", id="E33-and no large one"),
        pytest.param("loop", id="E33-a loop of links"),
    ],
)
def test_only_a_small_passwd_file_inside_the_image_is_read(
    tmp_path: Path, empty: Pybuild, sentinel: Path, kind: str
) -> None:
    match kind:
        case "link":  # to a file that only this machine has
            member, message = symlink(b"etc/passwd", os.fsencode(sentinel / "canary")), "unable to find user app"
        case "FIFO":
            member, message = entry(b"etc/passwd", b"6"), "/etc/passwd of the image is not a regular file"
        case "loop":
            member, message = symlink(b"etc/passwd", b"passwd"), "too many levels of symbolic links"
        case _:
            member = entry(b"etc/passwd", data=b"app:x:1:1::/:\n" * 800_000)
            message = "/etc/passwd of the image exceeds the limit of 10 MiB"
    import_root(empty, tmp_path / "root.tar", directory(b"etc/"), member)
    context = write_context(tmp_path / "c", "FROM hostile\nUSER app\nRUN true\n")
    said = empty.refused(context)
    assert message in said and CANARY not in said


def test_hosts_that_is_a_directory_is_refused(tmp_path: Path, empty: Pybuild) -> None:
    import_root(empty, tmp_path / "root.tar", directory(b"etc/"), directory(b"etc/hosts/"))
    context = write_context(tmp_path / "c", "FROM hostile\nRUN true\n")
    assert "error: /etc/hosts of the image is a directory\n" in empty.refused(context)


# -- working directories


@pytest.mark.parametrize("number", [3, 8])
def test_no_descriptor_of_the_builder_is_a_working_directory(tmp_path: Path, pybuild: Pybuild, number: int) -> None:
    recipe = f"FROM pybuild.test/base\nWORKDIR /proc/self/fd/{number}\nRUN pwd; ls -a; ls ../../../../../../tmp\n"
    said = pybuild.refused(write_context(tmp_path / "c", recipe))
    assert f"error: cannot enter the working directory /proc/self/fd/{number}" in said
    assert "pytest" not in said.replace(str(tmp_path), "")


def test_a_working_directory_through_a_link_stays_in_the_image(
    tmp_path: Path, pybuild: Pybuild, sentinel: Path
) -> None:
    before = listing(sentinel)
    recipe = f"FROM pybuild.test/base\nRUN ln -s {sentinel} /app\nWORKDIR /app/made\nRUN pwd -P; ls -a /app/\n"
    done = pybuild("--progress=json", write_context(tmp_path / "c", recipe))
    said = outputs(done)["RUN pwd -P; ls -a /app/"]
    assert said.split()[0] == f"{sentinel}/made"
    assert "canary" not in said
    assert listing(sentinel) == before


# -- layers without traces of the sandbox


def test_mount_points_never_get_into_a_layer(tmp_path: Path, empty: Pybuild) -> None:
    recipe = 'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "true"]\nRUN ["/bin/busybox", "touch", "/new"]\n'
    context = write_context(tmp_path / "c", recipe, busybox=BUSYBOX)
    (context / "busybox").chmod(0o755)
    assert added(empty, context) == [["bin", "bin/busybox"], [], ["new"]]


def test_parents_of_mount_points_stay_unchanged(tmp_path: Path, empty: Pybuild) -> None:
    odd = {"mode": 0o1751, "uid": 12, "gid": 34, "mtime": 5}
    import_root(empty, tmp_path / "root.tar", directory(b"./", **odd), directory(b"etc/", **odd))
    recipe = "FROM hostile\nRUN true\nRUN busybox stat -c '%a %u %g %Y' / /etc\n"
    context = write_context(tmp_path / "c", recipe)
    done = empty("--progress=json", context)
    assert list(outputs(done).values()) == ["1751 12 34 5\n" * 2]
    assert added(empty, context)[1:] == [[], []]


def test_a_linked_resolv_conf_stays_a_link(tmp_path: Path, empty: Pybuild) -> None:
    members = (directory(b"etc/"), symlink(b"etc/resolv.conf", b"../run/resolve/stub.conf"))
    import_root(empty, tmp_path / "root.tar", *members)
    command = "busybox readlink /etc/resolv.conf; busybox cat /etc/resolv.conf"
    context = write_context(tmp_path / "c", f"FROM hostile\nRUN {command}\n")
    done = empty("--progress=json", context)
    assert list(outputs(done).values()) == ["../run/resolve/stub.conf\n" + Path("/etc/resolv.conf").read_text()]
    assert added(empty, context)[1:] == [[]]


def test_changes_on_a_steps_own_mounts_are_lost(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = "FROM pybuild.test/base\nRUN echo x > /dev/shm/a; echo x > /dev/b; touch /run/kept /tmp/kept\n"
    context = write_context(tmp_path / "c", recipe)
    assert added(pybuild, context)[1:] == [["run", "run/kept", "tmp", "tmp/kept"]]


def test_names_that_look_like_whiteouts_are_refused(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "FROM pybuild.test/base\nRUN touch /.wh.bin\n")
    assert ".wh.bin" in pybuild.refused(context)


# -- the user's terminal


def test_a_step_cannot_type_on_the_terminal(tmp_path: Path, pybuild: Pybuild) -> None:
    source = Path(__file__).with_name("probe.c")
    context = write_context(tmp_path / "c", "FROM pybuild.test/base\nCOPY probe /\nRUN /probe tty\n")
    subprocess.run(["gcc", "-O1", "-static", "-o", context / "probe", source], check=True)
    master, slave = os.openpty()
    # `setsid --ctty` makes the slave the controlling terminal of pybuild.
    command = ["setsid", "--ctty", "--wait", SCRIPT, "--progress=json", str(context)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=pybuild.env()) as process:
        assert process.stderr is not None
        events = [json.loads(line) for line in process.stderr if line.startswith(b"{")]
    assert process.returncode == 0
    said = "".join(str(event["data"]) for event in events if event["event"] == "step_output")
    assert said.split() == ["TIOCSTI", "ENOTTY"] * 3 + ["/dev/tty", "ENXIO"]
    (waiting,) = struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, b"\0" * 4))
    assert waiting == 0
    os.close(master)
    os.close(slave)


# -- the user's umask


def test_the_umask_of_the_caller_changes_no_layer(tmp_path: Path, store_with_base: Path) -> None:
    recipe = "FROM pybuild.test/base\nWORKDIR /a/b\nCOPY file sub/\nRUN mkdir made && touch made/file\n"
    context = write_context(tmp_path / "c", recipe, file="x")
    digests = set()
    for umask in ("000", "022", "777"):
        root = tmp_path / umask
        copy_store(store_with_base, root)
        pybuild = Pybuild(root, {"SOURCE_DATE_EPOCH": "1000"}, ("sh", "-c", f'umask {umask}; exec "$0" "$@"', SCRIPT))
        digests.add(pybuild(context).out)
    assert len(digests) == 1
