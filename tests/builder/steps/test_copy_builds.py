"""COPY in real builds, from a context and from another stage: what the layer holds."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tarfile
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import built_layers as built
from tests.support.cli import SCRIPT, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def test_files_of_every_kind_reach_the_layer(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY all /all/\n", all__file="x")
    source = context / "all"
    os.chown(source / "file", 7, 8)
    (source / "file").chmod(0o4755)
    os.utime(source / "file", (0, 1_000_000_000.9))
    os.setxattr(source / "file", "security.capability", CAPABILITY)
    os.link(source / "file", source / "again")
    os.mkfifo(source / "fifo", 0o600)
    (source / "link").symlink_to("../nowhere")
    (source / "empty").mkdir(mode=0o1777)
    (source / "empty").chmod(0o1777)
    (source / os.fsdecode(b"\xff\n")).touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "socket"))
        (layer,) = built(pybuild, context, tmp_path)
    assert {name: member.type for name, member in layer.items()} == {
        "all": tarfile.DIRTYPE, "all/again": tarfile.REGTYPE, "all/empty": tarfile.DIRTYPE, "all/fifo": tarfile.FIFOTYPE,
        "all/file": tarfile.LNKTYPE, "all/link": tarfile.SYMTYPE, "all/socket": tarfile.REGTYPE,
        "all/" + os.fsdecode(b"\xff\n"): tarfile.REGTYPE,
    }  # fmt: skip
    file = layer["all/again"]
    assert (file.mode, file.uid, file.gid, file.mtime) == (0o4755, 0, 0, 1_000_000_000)
    assert "SCHILY.xattr.security.capability" in file.pax_headers
    assert (layer["all/link"].linkname, layer["all/empty"].mode) == ("../nowhere", 0o1777)


@pytest.mark.parametrize(("source", "said"), [("with", True), ("without", False)])
def test_a_copied_socket_is_reported(pybuild: Pybuild, tmp_path: Path, source: str, said: bool) -> None:
    recipe = f"FROM pybuild.test/base\nCOPY {source} /x/\n"
    context = write_context(tmp_path / "context", recipe, with__f="", without__f="")
    with socket.socket(socket.AF_UNIX) as beside, socket.socket(socket.AF_UNIX) as inside:
        beside.bind(str(context / "beside"))
        inside.bind(str(context / "with/socket"))
        done = pybuild("--progress=plain", context)
    assert ("note: a socket of the context copied as empty files" in done.err) is said


def test_a_device_of_a_context_is_refused_at_its_place(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY d /d\n")
    (context / "d").mkdir()
    os.mknod(context / "d/null", 0o020666, os.makedev(1, 3))
    assert 'Buildfile:2:1: error: "d/null" is a device, which cannot be copied from a context' in pybuild.refused(context)


def test_hard_links_survive_a_copy_between_stages(pybuild: Pybuild, tmp_path: Path) -> None:
    """A later layer removed the first of the three names."""
    recipe = (
        "FROM pybuild.test/base AS made\n"
        "RUN mkdir /d && echo shared > /d/a && ln /d/a /d/b && ln /d/a /d/c\n"
        "RUN rm /d/a\n"
        "FROM pybuild.test/base\n"
        "COPY --from=made /d/c /d/b /e/\n"
        "RUN test $(stat -c %h /e/b) = 2 && test $(cat /e/b /e/c | wc -l) = 2\n"
    )
    layers = built(pybuild, write_context(tmp_path / "context", recipe), tmp_path)
    assert (layers[0]["e/b"].type, layers[0]["e/c"].linkname) == (tarfile.REGTYPE, "e/b")


def test_owners_modes_and_times_of_another_stage_are_kept(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = (
        "FROM pybuild.test/base AS made\n"
        "RUN echo x > /f && chown app:staff /f && chmod 2750 /f && touch -d @1000000000 /f\n"
        "FROM pybuild.test/base\n"
        "USER nobody\n"
        "COPY --from=made /f /kept\n"
        "COPY --from=made --chown=app /f /given\n"
        "COPY --from=made --chown=$NOBODY /f /empty\n"
    )
    layers = built(pybuild, write_context(tmp_path / "context", recipe), tmp_path)
    owners = [(m.uid, m.gid, m.mode, m.mtime) for layer in layers for m in layer.values()]
    time = 1_000_000_000
    assert owners == [(1000, 50, 0o2750, time), (1000, 1000, 0o2750, time), (1000, 50, 0o2750, time)]


def test_a_file_that_is_written_to_while_it_is_copied_ends_the_build(pybuild: Pybuild, tmp_path: Path) -> None:
    """The file is large, and its writer never stops."""
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY log /log\n", log="")
    os.truncate(context / "log", 64 << 20)
    stop = threading.Event()

    def write() -> None:
        with open(context / "log", "r+b", buffering=0) as log:
            while not stop.is_set():
                log.write(b"x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        said = pybuild.refused(context)
    finally:
        stop.set()
        writer.join()
    assert 'Buildfile:2:1: error: "log" of the context changed while it was copied' in said


def test_an_empty_stage_gives_an_empty_directory(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = "FROM scratch AS nothing\nFROM pybuild.test/base\nCOPY --from=nothing / /new\n"
    (layer,) = built(pybuild, write_context(tmp_path / "context", recipe), tmp_path)
    assert list(layer) == ["new"]


def test_proxies_reach_a_run_but_not_the_image(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = 'FROM pybuild.test/base\nRUN test -n "$https_proxy" && test "$https_proxy" = "$HTTPS_PROXY"\n'
    context = write_context(tmp_path / "context", recipe)
    output = tmp_path / "out.tar"
    proxy = "http://user:pass@proxy.test"
    spec = f"type=oci,dest={output},compression=uncompressed"
    pybuild("--network=none", "--build-arg", f"HTTPS_PROXY={proxy}", "-o", spec, context)
    assert proxy.encode() not in output.read_bytes()


def test_a_name_too_long_for_the_image_is_an_error_without_traceback(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = f"FROM pybuild.test/base\nWORKDIR /{'x' * 300}\nRUN true\n"
    said = pybuild.refused("--network=none", write_context(tmp_path / "context", recipe))
    assert os.strerror(errno.ENAMETOOLONG) in said


def test_a_file_that_did_not_change_is_not_read_for_a_key(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY d /d\n", d__stays="1", d__changes="2")
    pybuild(context)
    opened = tmp_path / "opened"
    traced = Pybuild(pybuild.root, command=("strace", "-f", "-qq", "-e", "trace=openat", "-o", str(opened), SCRIPT))
    assert traced("--progress=json", context).finished() == {"COPY d /d": True}
    assert '"stays"' not in opened.read_text()
    (context / "d/changes").write_text("3")
    assert traced("--progress=json", context).finished() == {"COPY d /d": False}
    assert opened.read_text().count('"stays"') == 1  # for the layer
    (layer,) = built(pybuild, context, tmp_path)
    assert sorted(layer) == ["d", "d/changes", "d/stays"]


def test_a_layer_is_read_from_the_files_whatever_the_memo_says(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY f /f\n", f="right")
    digest = pybuild(context).out
    (memo,) = (pybuild.root / "memo").iterdir()
    rows = memo.read_bytes()[12:]
    right, wrong = hashlib.sha256(b"right").digest(), hashlib.sha256(b"wrong").digest()
    assert right in rows
    rows = rows.replace(right, wrong)
    memo.write_bytes(b"pbmemo1\n" + zlib.crc32(rows).to_bytes(4, "little") + rows)
    again = pybuild("--progress=json", context)
    assert again.finished() == {"COPY f /f": False}
    assert again.out == digest
