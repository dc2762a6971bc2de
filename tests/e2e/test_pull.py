"""Images from a registry: pulled, used as a base, copied from; layers are unpacked only when a step reads them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import no_namespaces
from tests.support.archive import read_archive
from tests.support.archives import Archive
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.disks import small_disk
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.people import Person


@pytest.fixture
def empty(tmp_path: Path) -> Pybuild:
    """The command with an empty store."""
    return Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})


def test_pull_stores_the_image_under_its_name(registry: DockerRegistry, empty: Pybuild, base_archive: Path) -> None:
    name = f"{registry.host}/team/base:1"
    done = empty("pull", name)
    assert done.out.strip() == read_archive(base_archive).digest
    assert done.err.splitlines()[-2].startswith(f"[{name}] ")
    assert done.err.endswith(f"pulled {name}\n")
    assert name in empty("images").out
    assert empty("pull", "-q", name).err == ""
    empty.assert_whole()


@pytest.mark.parametrize("person", ["single"], indirect=True)
def test_a_home_of_another_user_is_not_looked_into(registry: DockerRegistry, person: Person) -> None:
    """`docker run --user` leaves HOME what it was. Podman and git go on as well."""
    closed = person.home / "closed"
    closed.mkdir(mode=0o700)
    for home in (str(closed), "/dev/null"):
        done = person.pybuild(HOME=home)("pull", f"{registry.host}/team/base:1")
        assert "closed" not in done.err


@pytest.mark.parametrize("text", ["", "{", '{"credsStore": "missing"}'], ids=["empty", "broken", "no helper"])
def test_credentials_that_cannot_be_read_do_not_matter_without_login(
    registry: DockerRegistry, empty: Pybuild, text: str
) -> None:
    file = empty.root.parent / "auth.json"
    file.write_text(text)
    assert empty("pull", "-q", f"{registry.host}/team/base:1", REGISTRY_AUTH_FILE=str(file)).err == ""


def test_a_refusal_names_the_credentials_that_cannot_be_read(empty: Pybuild, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text("{")
    with docker_registry(tmp_path / "registry", login=("me", "secret")) as closed:
        refused = empty.refused("pull", f"{closed.host}/team/base:1", REGISTRY_AUTH_FILE=str(file))
    assert "access denied without credentials" in refused
    assert f"hint: not used: {file} is not JSON" in refused


def test_a_pulled_layer_stays_a_blob_until_it_is_read(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path, base_archive: Path
) -> None:
    name = f"{registry.host}/team/base:1"
    empty("pull", name)
    assert os.listdir(empty.root / "tocs") == []
    empty("export", name, "-o", f"type=oci,dest={tmp_path}/out.tar")
    context = write_context(tmp_path / "c", f"FROM {name}\nENV a=b\n")
    empty(context)
    assert os.listdir(empty.root / "tocs") == []
    assert read_archive(tmp_path / "out.tar").digest == read_archive(base_archive).digest
    assert "A /bin/busybox" in empty("history", "--files", name).out
    assert len(os.listdir(empty.root / "tocs")) == 1
    assert os.listdir(empty.root / "trees") == []


RECIPE = """\
FROM {name} AS first
RUN echo made > /made
COPY file /file
FROM scratch
COPY --from=first /made /file /
COPY --from={name} /etc/passwd /passwd
"""


def test_from_and_copy_pull_missing_images(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/team/base:1"
    context = write_context(tmp_path / "c", RECIPE.format(name=name), file="1\n")
    out = f"type=oci,dest={tmp_path}/out.tar"
    first = empty("--progress=json", "-t", "t", "-o", out, context)
    assert {event["image"] for event in first.events if event["event"] == "transfer"} == {name}
    image = read_archive(tmp_path / "out.tar")
    assert [image.names(0), image.names(1)] == [["file", "made"], ["passwd"]]
    again = empty("--progress=json", context)
    assert again.out == first.out
    assert not [event for event in again.events if event["event"] == "transfer"]
    assert all(again.finished().values())
    empty.assert_whole()


def test_pull_always_notices_a_moved_tag(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/team/moving:1"
    context = write_context(tmp_path / "c", f"FROM {name}\nCOPY file /\n", file="1\n")
    digests = []
    for text in (b"one", b"two"):
        archive = tmp_path / f"{text.decode()}.tar"
        archive.write_bytes(Archive(layers=[tar(entry(b"f", data=text))]).data())
        registry.push(archive, "team/moving:1")
        digests.append([empty(context).out, empty("--pull", context).out, empty("--pull=never", context).out])
    assert len({*digests[0]}) == 1
    assert digests[1][0] == digests[0][0]
    assert digests[1][1] == digests[1][2] != digests[0][0]


def test_an_image_is_found_by_the_requested_digest(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path, base_archive: Path
) -> None:
    digest = read_archive(base_archive).digest
    context = write_context(tmp_path / "c", f"FROM {registry.host}/team/base@{digest}\nCOPY file /\n", file="1\n")
    first = empty(context).out
    assert empty("--pull=never", context).out == first


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("FROM {host}/team/base:none\n", "Buildfile:1:6: error: {host}/team/base:none: {host}/team/base: there is no manifest none"),
        ("FROM scratch\nCOPY --from={host}/team/none /a /\n", "Buildfile:2:13: error: {host}/team/none"),
        ("FROM name.invalid/x\n", "Buildfile:1:6: error: name.invalid/x: name.invalid: the name cannot be resolved"),
        ("FROM Bad_Name/x\n", "Buildfile:1:6: error: invalid image name 'Bad_Name/x'"),
    ],
    ids=["no such tag", "no such repository, in a COPY", "no such host", "no such name"],
)
def test_a_failed_pull_is_reported_with_its_position(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path, recipe: str, message: str
) -> None:
    context = write_context(tmp_path / "c", recipe.format(host=registry.host))
    assert message.format(host=registry.host) in empty.refused(context)


def test_no_registry_is_contacted_with_pull_never(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {registry.host}/team/base:1\n")
    assert "not in the store, and --pull=never" in empty.refused("--pull=never", context)


@pytest.mark.parametrize("position", ["before the verb", "after the verb"])
def test_certificates_are_checked_by_default(
    tmp_path: Path, empty: Pybuild, base_archive: Path, position: str
) -> None:
    with docker_registry(tmp_path / "registry", tls=True, login=("me", "secret word")) as secure:
        name = secure.push(base_archive, "team/base:1")
        assert "certificate" in empty.refused("pull", name)
        shown = empty.refused(*(["--tls-verify=false", "pull", name] if position == "before the verb" else ["pull", "--tls-verify=false", name]))
        assert "secret word" not in shown
        auth = tmp_path / "auth.json"
        subprocess.run(
            ["skopeo", "login", "--tls-verify=false", "--authfile", auth, "-u", "me", "-p", "secret word", secure.host],
            check=True, capture_output=True,
        )  # fmt: skip
        shutil.copy(secure.authority or "", tmp_path / "ca.pem")
        config = tmp_path / "config.toml"
        config.write_text(f'[registry."{secure.host}"]\nca-files = ["{tmp_path}/ca.pem"]\n')
        empty("pull", name, PYBUILD_CONFIG=str(config), REGISTRY_AUTH_FILE=str(auth))
        empty.assert_whole()


def hostile(path: Path, honest: bytes, evil: bytes) -> None:
    """An image whose config claims the diff_id of a correct layer but has another blob."""
    archive = Archive(layers=[evil])
    archive.diff_ids = ["sha256:" + hashlib.sha256(honest).hexdigest()]
    path.write_bytes(archive.data())


def test_the_first_reader_detects_a_layer_with_a_false_diff_id(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path
) -> None:
    hostile(tmp_path / "evil.tar", tar(entry(b"f", data=b"honest")), tar(entry(b"f", data=b"evil")))
    name = registry.push(tmp_path / "evil.tar", "team/evil:1")
    context = write_context(tmp_path / "c", f"FROM {name}\nWORKDIR /x\n")
    message = empty.refused(context)
    blob = "sha256:" + hashlib.sha256(Archive().blob_of_layer(tar(entry(b"f", data=b"evil")))).hexdigest()
    assert f"error: layer {blob}: expands to sha256:" in message
    assert "the config promises sha256:" in message


def test_a_false_diff_id_affects_only_its_own_image(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    honest, evil = tar(entry(b"f", data=b"honest")), tar(entry(b"f", data=b"evil"))
    hostile(tmp_path / "evil.tar", honest, evil)
    (tmp_path / "honest.tar").write_bytes(Archive(layers=[honest]).data())
    empty("pull", registry.push(tmp_path / "evil.tar", "team/evil:2"))
    empty("pull", good := registry.push(tmp_path / "honest.tar", "team/good:2"))
    out = f"type=oci,dest={tmp_path}/out.tar"
    empty("-o", out, write_context(tmp_path / "c", f"FROM {good}\nWORKDIR /x\n"))
    assert read_archive(tmp_path / "out.tar").layers[0] == honest
    empty("import", tmp_path / "honest.tar", "honest:1")
    empty("-o", out, write_context(tmp_path / "d", "FROM scratch\nCOPY --from=honest:1 /f /g\n"))
    assert b"honest" in read_archive(tmp_path / "out.tar").layers[0]


@pytest.mark.parametrize("how", ["filter", "sysctl"])
def test_pulling_needs_no_namespace(registry: DockerRegistry, person: Person, how: str) -> None:
    pybuild = person.pybuild()
    forbidden = Pybuild(pybuild.root, pybuild.environment, (*person.prefix, sys.executable, no_namespaces.__file__, how, pybuild.command[-1]))
    context = person.context("c", f"FROM {registry.host}/team/base:1\nCOPY file /\nWORKDIR /x\n", file="1\n")
    digest = forbidden(context, SOURCE_DATE_EPOCH="1").out
    assert person.pybuild()(context, SOURCE_DATE_EPOCH="1").out == digest


def test_a_pulled_and_an_imported_base_give_the_same_image(registry: DockerRegistry, person: Person) -> None:
    steps = "RUN echo 1 > /f\nCOPY file /\n"
    pulled = person.context("a", f"FROM {registry.host}/team/base:1\n{steps}", file="1\n")
    imported = person.context("b", f"FROM {BASE}\n{steps}", file="1\n")
    build = person.pybuild(SOURCE_DATE_EPOCH="1700000000")
    assert build(pulled).out == build(imported).out


# -- space


def test_an_image_that_does_not_fit_is_not_fetched(registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/team/base:1"
    context = write_context(tmp_path / "c", f"FROM {name}\nWORKDIR /new\n")
    with small_disk(tmp_path / "disk", "size=1200k") as disk:
        pybuild = Pybuild(disk / "store", {"HOME": str(tmp_path)})
        for command in (["pull", name], [context]):
            error = pybuild.refused(*command)
            assert f"{name}: what has to be fetched: 1." in error
            assert " MB is more than what is left: " in error and f" free on {disk}" in error
            assert "fetched\n" not in error
            assert not [blob for blob in (pybuild.root / "blobs").rglob("*/*") if blob.stat().st_size > 10_000]


def test_an_image_that_might_not_fit_when_it_is_unpacked_is_fetched(registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/team/base:1"
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        done = Pybuild(disk / "store", {"HOME": str(tmp_path)})("pull", name)
    assert f"{name}: 1.0 MB to fetch; unpacked, it might not fit: " in done.err
    assert "it might not fit" not in Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})("pull", name).err


def test_a_check_with_pull_knows_the_bases_and_stores_nothing(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/base:1"
    context = write_context(tmp_path / "c", f"FROM {name}\nENV A=$PATH B=$NONE\nWORKDIR $NONE\n")
    without = empty.run("--check", context)
    assert (without.status, "is not in the store" in without.err) == (0, True)
    done = empty.run("--check", "--pull", context)
    assert (done.status, done.err) == (1, "")
    assert [line.split(": ")[2] for line in done.out.splitlines() if ": warning: " in line][:1] == ["UndefinedVar"]
    assert name not in empty("images").out
    empty.assert_whole()
    empty("pull", "-q", name)
    with_stored = empty.run("--check", context)
    assert (with_stored.status, with_stored.out) == (0, without.out), "what the store holds makes no difference"
    note = "note: line 2, found with the bases of the store: UndefinedVar: Usage of undefined variable '$NONE'"
    assert note in with_stored.err.splitlines()


def test_a_check_with_pull_of_an_image_that_does_not_exist(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", f"FROM {registry.host}/team/none\nMAINTAINER a\nENV A=$B\n")
    done = empty.run("--check", "--pull", context)
    assert done.status == 1
    assert f"{context}/Buildfile:1:6: error: " in done.err
    assert done.out.splitlines()[-1] == "Check complete, 1 error and 1 warning found."
