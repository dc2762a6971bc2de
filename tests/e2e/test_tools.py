"""Archives exchanged with other tools: skopeo, podman, umoci and tar read and write the same images as pybuild."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.registry import docker_registry
from tests.support.saved import Saved
from tests.support.tars import entry, listing, symlink, tar
from tests.support.tools import Podman, run, skopeo_config, skopeo_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person

EPOCH = "1700000000"
# Everything that a layer can contain, in layers that change one another.
RECIPE = f"""\
FROM {BASE}
RUN mkdir -m 750 /d && echo one > /d/one && ln /d/one /d/two && ln /d/one /three && ln /d/one /five && ln -s ../three /d/four \\
    && chown 1234:5678 /d/one && chmod 4711 /d/one && mkfifo -m 640 /pipe && mkdir -m 1777 /sticky
RUN rm /d/one /etc/group && rm -r /home && mkdir /home && echo more >> /d/two && touch -d @86400 /pipe
COPY --chown=app file /srv/
RUN mkdir /empty && echo gone > /gone && rm /gone
LABEL note="of the image"
CMD ["cat", "/srv/file"]
"""
FORMS = {
    "oci archive": "type=oci,dest={}/oci.tar",
    "oci archive, zstd": "type=oci,dest={}/oci-zstd.tar,compression=zstd,force-compression=true",
    "layout": "type=oci,dest={}/layout,tar=false",
    "docker archive": "type=docker,dest={}/docker.tar",
    "docker archive, plain": "type=docker,dest={}/docker-plain.tar,compression=uncompressed,force-compression=true",
}
SKOPEO = {
    "oci archive": "oci-archive:{}/oci.tar",
    "oci archive, zstd": "oci-archive:{}/oci-zstd.tar",
    "layout": "oci:{}/layout:latest",
    "docker archive": "docker-archive:{}/docker.tar",
    "docker archive, plain": "docker-archive:{}/docker-plain.tar:docker.io/library/app:latest",
}
forms = pytest.mark.parametrize("form", FORMS)


def file_of(directory: Path, form: str) -> Path:
    return directory / FORMS[form].partition("/")[2].partition(",")[0]


@dataclass(frozen=True)
class App:
    """An image in a store and in every output format of a build."""

    pybuild: Pybuild
    context: Path
    out: Path
    digest: str

    @property
    def flat(self) -> bytes:
        return (self.out / "flat.tar").read_bytes()

    def config(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.pybuild("inspect", "app").out)["config"]
        return found

    def imported(self, store: Path, source: object, *name: str) -> tuple[Pybuild, list[str]]:
        """Import into a new store; return the store and the digests."""
        pybuild = Pybuild(store)
        digests = pybuild("import", source, *name).out.split()
        pybuild.assert_whole()
        return pybuild, digests


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> App:
    home = tmp_path_factory.mktemp("app")
    context = write_context(home / "context", RECIPE, file="content\n")
    out = home / "out"
    out.mkdir()
    pybuild = Pybuild(home / "store")
    pybuild("import", base_archive)
    outputs = [text.format(out) for text in FORMS.values()] + [f"type=tar,dest={out}/flat.tar", str(out / "files")]
    digest = pybuild("-t", "app", *[part for text in outputs for part in ("-o", text)], context).out.strip()
    return App(pybuild, context, out, digest)


@pytest.fixture
def podman() -> Iterator[Podman]:
    with tempfile.TemporaryDirectory() as directory:  # podman accepts only short paths
        yield Podman(Path(directory))


def rows(data: bytes) -> dict[str, tuple[object, ...]]:
    """A tar as the standard library reads it. All names of a file get the same group, in any order."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for member in opened:
            name = member.name.removeprefix("./").rstrip("/")
            if name in ("", "."):
                continue
            group = first.setdefault(member.linkname if member.islnk() else name, name)
            of = opened.extractfile(member) if member.isreg() else None
            held = of.read() if of is not None else member.linkname if member.issym() else b""
            kind = tarfile.REGTYPE if member.islnk() else member.type
            mtime = None if member.isdir() else int(member.mtime)
            content = () if member.islnk() else (held,)
            found[name] = (kind, member.mode & 0o7777, member.uid, member.gid, mtime, group, *content)
    return found


# -- what is written here, read there


@forms
def test_skopeo_reads_the_image(app: App, form: str, tmp_path: Path) -> None:
    source = SKOPEO[form].format(app.out)
    assert skopeo_config(source) == app.config()
    skopeo_copy(source, f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert len(manifest["layers"]) == len(app.config()["rootfs"]["diff_ids"])  # type: ignore[index]


@pytest.mark.parametrize("form", [form for form in FORMS if "zstd" not in form])
def test_podman_loads_the_image(app: App, form: str, podman: Podman, tmp_path: Path) -> None:
    name = podman.load(file_of(app.out, form))
    # For a directory, podman uses the path as the name.
    assert name.startswith("localhost/") if form == "layout" else name == "docker.io/library/app:latest"
    (found,) = json.loads(podman("image", "inspect", name))
    assert found["Config"]["Cmd"] == ["cat", "/srv/file"] and found["Config"]["Labels"] == {"note": "of the image"}
    config = json.loads(app.pybuild("inspect", "app").out)["manifest"]["config"]["digest"]
    assert "sha256:" + found["Id"] == config
    assert rows(podman.flat(name, tmp_path / "flat.tar").read_bytes()) == rows(app.flat)


def test_umoci_unpacks_the_layout_to_what_tar_unpacks(app: App, tmp_path: Path) -> None:
    run("umoci", "--log=error", "unpack", "--image", f"{app.out}/layout:latest", tmp_path / "bundle")
    (tmp_path / "tree").mkdir()
    run("tar", "--extract", "--numeric-owner", "--same-permissions", "--same-owner", "--file", app.out / "flat.tar", "--directory", tmp_path / "tree")  # fmt: skip
    ours, theirs = listing(tmp_path / "tree"), listing(tmp_path / "bundle/rootfs")
    del ours[""], theirs[""]  # the root of the tar is the directory into which it is unpacked
    assert ours == theirs
    assert {"d/two", "three", "pipe", "sticky", "srv/file", "empty"} <= set(ours)
    assert not {"d/one", "etc/group", "gone"} & set(ours)


def test_local_output_has_the_files_of_the_tar_with_the_owner_of_the_caller(app: App) -> None:
    files = listing(app.out / "files")
    del files[""]
    expected = rows(app.flat)
    assert set(files) == set(expected)
    for path, (kind, mode, uid, gid, mtime, held, *_) in files.items():
        assert (uid, gid) == (os.getuid(), os.getgid())
        row = expected[path]
        assert mode == (row[1] if kind == stat.S_IFLNK else row[1] & (0o1777 if kind == stat.S_IFDIR else 0o777))  # type: ignore[operator]
        if kind != stat.S_IFDIR:
            assert mtime == row[4]
        if kind == stat.S_IFREG and len(row) == 7:
            assert held == row[6]
    assert files["three"][-1] == files["five"][-1] == "five"


def test_a_second_run_writes_the_same_bytes(app: App, tmp_path: Path) -> None:
    outputs = [text.format(tmp_path) for text in FORMS.values()] + [f"type=tar,dest={tmp_path}/flat.tar"]
    done = app.pybuild("-t", "app", *[part for text in outputs for part in ("-o", text)], app.context)
    assert done.out.strip() == app.digest
    for path in sorted(app.out.rglob("*")):
        there = tmp_path / path.relative_to(app.out)
        if path.is_file() and path.relative_to(app.out).parts[0] != "files":
            assert there.read_bytes() == path.read_bytes(), there


# -- what is written there, read here


@forms
def test_an_exported_image_is_imported_unchanged(app: App, form: str, tmp_path: Path) -> None:
    pybuild, (digest,) = app.imported(tmp_path / "store", file_of(app.out, form))
    if "," not in form:
        assert digest == app.digest
    assert json.loads(pybuild("inspect", "app").out)["config"] == app.config()
    pybuild("export", "app", "-o", f"type=tar,dest={tmp_path}/flat.tar")
    assert (tmp_path / "flat.tar").read_bytes() == app.flat


def test_podman_takes_each_platform_of_an_index(pybuild: Pybuild, podman: Podman, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nARG TARGETARCH\nCOPY f /for-$TARGETARCH\n", f="text")
    layout = tmp_path / "layout"
    pybuild("--platform=linux/amd64,linux/arm64", "-o", f"type=oci,dest={layout},tar=false", context)
    with docker_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/team/app:1"
        pybuild("--no-tls-verify", "copy", f"oci:{layout}", f"docker://{name}")
        for place in (f"oci:{layout}", f"docker://{name}"):
            for architecture in ("amd64", "arm64"):
                image = podman("pull", "--quiet", "--tls-verify=false", f"--arch={architecture}", place).strip()
                (found,) = json.loads(podman("image", "inspect", image))
                assert found["Architecture"] == architecture
                assert f"for-{architecture}" in rows(podman.flat(image, tmp_path / f"{architecture}.tar").read_bytes())


@pytest.mark.parametrize(
    ("target", "file", "names"),
    [
        ("docker-archive:{}/x.tar", "x.tar", []),
        ("docker-archive:{}/x.tar:ghcr.io/team/app:2", "x.tar", ["ghcr.io/team/app:2"]),
        ("oci-archive:{}/x.tar", "x.tar", []),
        ("oci-archive:{}/x.tar:v2", "x.tar", []),
        ("oci-archive:{}/x.tar:ghcr.io/team/app:2", "x.tar", ["ghcr.io/team/app:2"]),
        ("oci:{}/x:v2", "x", []),
    ],
    ids=["docker archive", "named docker archive", "oci archive", "tagged", "named", "layout"],
)
def test_an_image_of_skopeo_can_be_imported(app: App, target: str, file: str, names: list[str], tmp_path: Path) -> None:
    skopeo_copy(SKOPEO["oci archive"].format(app.out), target.format(tmp_path))
    pybuild, (digest,) = app.imported(tmp_path / "store", tmp_path / file)
    assert json.loads(pybuild("inspect", digest).out)["names"] == names
    assert json.loads(pybuild("inspect", digest).out)["config"] == app.config()
    pybuild("export", digest, "-o", f"type=tar,dest={tmp_path}/flat.tar")
    assert (tmp_path / "flat.tar").read_bytes() == app.flat


@pytest.mark.parametrize("pack", ["gzip", "xz", "zstd", "bzip2"])
def test_a_compressed_archive_of_skopeo_can_be_imported(app: App, pack: str, tmp_path: Path) -> None:
    skopeo_copy(SKOPEO["layout"].format(app.out), f"docker-archive:{tmp_path}/x.tar:app:1")
    plain, (digest,) = app.imported(tmp_path / "plain", tmp_path / "x.tar")
    run(pack, "-1", tmp_path / "x.tar")
    (packed,) = tmp_path.glob("x.tar*.*" if pack != "zstd" else "x.tar.zst")
    other, (same,) = app.imported(tmp_path / "packed", packed)
    # The config has the diff_ids. The digests of blobs are not compared: docs/dev/decisions/0004-isal-for-gzip.md.
    configs = [json.loads(store("inspect", each).out)["config"] for store, each in ((plain, digest), (other, same))]
    assert configs[0] == configs[1]
    assert plain("images", "--json").out.count("app:1") == 1


@pytest.mark.parametrize("format_", ["docker-archive", "oci-archive", "oci-dir"])
def test_an_image_saved_by_podman_can_be_imported(app: App, format_: str, podman: Podman, tmp_path: Path) -> None:
    podman.load(app.out / "docker.tar")
    podman("save", "--quiet", "--format", format_, "--output", tmp_path / "saved", "app")
    pybuild, (digest,) = app.imported(tmp_path / "store", tmp_path / "saved", "mine:1")
    assert json.loads(pybuild("inspect", "mine:1").out)["config"] == app.config()
    assert json.loads(pybuild("inspect", digest).out)["names"] == ["mine:1"]
    pybuild("export", "mine:1", "-o", f"type=tar,dest={tmp_path}/flat.tar")
    assert (tmp_path / "flat.tar").read_bytes() == app.flat


def test_several_images_saved_by_podman_can_be_imported(app: App, podman: Podman, base_archive: Path, tmp_path: Path) -> None:
    podman.load(app.out / "docker.tar")
    podman("tag", "app", "ghcr.io/team/app:2")
    base = podman.load(base_archive)
    podman(
        "save", "--quiet", "--multi-image-archive", "--output", tmp_path / "saved", "app", base, "ghcr.io/team/app:2"
    )
    pybuild, digests = app.imported(tmp_path / "store", tmp_path / "saved")
    names = {name for digest in digests for name in json.loads(pybuild("inspect", digest).out)["names"]}
    assert len(digests) == 2 and names == {"app:latest", f"{BASE}:latest", "ghcr.io/team/app:2"}
    chosen, _ = app.imported(tmp_path / "chosen", tmp_path / "saved", BASE)
    assert [json.loads(line)["name"] for line in chosen("images", "--json").out.splitlines()] == [f"{BASE}:latest"]
    assert "has 2 images, and other:latest is not" in pybuild.refused("import", tmp_path / "saved", "other")


def test_an_image_changed_by_umoci_can_be_imported(app: App, tmp_path: Path) -> None:
    run("cp", "-r", app.out / "layout", tmp_path / "layout")
    image = f"{tmp_path}/layout:latest"
    run("umoci", "--log=error", "unpack", "--image", image, tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/d/two").write_text("changed\n")
    (tmp_path / "bundle/rootfs/srv/file").unlink()
    run("umoci", "--log=error", "repack", "--image", f"{tmp_path}/layout:changed", tmp_path / "bundle")
    pybuild, digests = app.imported(tmp_path / "store", tmp_path / "layout")
    assert len(digests) == 2 and app.digest in digests
    pybuild("import", tmp_path / "layout", "mine:changed")
    pybuild("export", "mine:changed", "-o", f"type=tar,dest={tmp_path}/flat.tar")
    run("umoci", "--log=error", "unpack", "--image", f"{tmp_path}/layout:changed", tmp_path / "again")
    (tmp_path / "tree").mkdir()
    run("tar", "--extract", "--same-owner", "--same-permissions", "--file", tmp_path / "flat.tar", "--directory", tmp_path / "tree")  # fmt: skip
    ours, theirs = listing(tmp_path / "tree"), listing(tmp_path / "again/rootfs")
    del ours[""], theirs[""]
    assert ours == theirs and "srv/file" not in ours


@pytest.mark.parametrize(
    "output", ["type=tar,dest={}/x", "{}/x", "type=docker,dest={}/x", "type=oci,dest={}/x,compression=zstd"]
)
def test_an_unread_image_can_be_exported(app: App, output: str, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = registry.push(app.out / "oci-zstd.tar", "app")
        pybuild = Pybuild(tmp_path / "store")
        pybuild("pull", name)
    pybuild("export", name, "-o", output.format(tmp_path))
    pybuild("export", name, "-o", f"type=tar,dest={tmp_path}/flat.tar")
    assert (tmp_path / "flat.tar").read_bytes() == app.flat
    pybuild.assert_whole()


# -- pipes


def piped(
    app: App, *arguments: object, data: bytes = b"", store: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    pybuild = app.pybuild if store is None else Pybuild(store)
    command = [*pybuild.command, *map(str, arguments)]
    return subprocess.run(command, input=data, env=pybuild.env(), capture_output=True, timeout=120)


def test_a_root_filesystem_goes_through_pipes(app: App, tmp_path: Path) -> None:
    """tar | pybuild import - NAME, pybuild export NAME -o - | tar"""
    packed = subprocess.run(["tar", "--create", "--directory", app.out / "files", "."], capture_output=True, check=True)
    done = piped(app, "import", "-", "tree", data=packed.stdout, store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    flat = piped(app, "export", "tree", "-o", "-", store=tmp_path / "store").stdout
    (tmp_path / "tree").mkdir()
    subprocess.run(["tar", "--extract", "--same-permissions", "--directory", tmp_path / "tree"], input=flat, check=True)
    ours, theirs = listing(tmp_path / "tree"), listing(app.out / "files")
    del ours[""], theirs[""]
    assert ours == theirs


@pytest.mark.parametrize(
    ("output", "file"),
    [("-", "flat.tar"), ("type=oci,dest=-", "oci.tar"), ("type=docker,dest=/dev/stdout", "docker.tar")],
)
def test_standard_output_contains_only_the_archive(app: App, output: str, file: str) -> None:
    done = piped(app, "-t", "app", "-o", output, app.context)
    assert done.stdout == (app.out / file).read_bytes()
    assert app.digest.encode() in done.stderr
    assert piped(app, "export", "app", "-o", output).stdout == done.stdout


def test_a_closed_pipe_is_not_a_crash(app: App) -> None:
    command = [*app.pybuild.command, "export", "app", "-o", "-"]
    with subprocess.Popen(command, env=app.pybuild.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


@pytest.mark.parametrize("file", ["oci.tar", "docker.tar"])
def test_an_archive_on_standard_input_can_be_imported(app: App, file: str, tmp_path: Path) -> None:
    done = piped(app, "import", "-", data=(app.out / file).read_bytes(), store=tmp_path / "store")
    assert done.stdout.decode().split() == [app.digest]
    Pybuild(tmp_path / "store").assert_whole()


# -- compressions


def compressions(app: App, archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        files = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
        (item,) = json.loads(files["index.json"].read())["manifests"]  # type: ignore[union-attr]
        manifest = json.loads(files["blobs/" + item["digest"].replace(":", "/")].read())  # type: ignore[union-attr]
    return [layer["mediaType"].partition(".tar")[2] or "plain" for layer in manifest["layers"]]


def test_compression_applies_to_new_layers_unless_forced(app: App, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    app.pybuild("-o", f"type=oci,dest={out},compression=zstd", app.context)
    assert compressions(app, out) == ["+gzip", *["+zstd"] * 4]
    app.pybuild("-o", f"type=oci,dest={out},compression=zstd,force-compression=true", app.context)
    assert compressions(app, out) == ["+zstd"] * 5
    app.pybuild("export", "app", "-o", f"type=oci,dest={out},compression=uncompressed")
    assert compressions(app, out) == ["plain"] * 5
    app.pybuild("export", "app", "-o", f"type=oci,dest={out}")
    assert out.read_bytes() == (app.out / "oci.tar").read_bytes()


def test_a_docker_archive_contains_zstd_only_on_request(app: App, podman: Podman, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    pybuild, _ = app.imported(tmp_path / "store", app.out / "oci-zstd.tar")
    pybuild("export", "app", "-o", f"type=oci,dest={out}")
    assert compressions(app, out) == ["+zstd"] * 5
    pybuild("export", "app", "-o", f"type=docker,dest={out},compression=zstd")
    assert compressions(app, out) == ["+zstd"] * 5
    skopeo_copy(f"docker-archive:{out}", f"dir:{tmp_path}/copy")
    pybuild("export", "app", "-o", f"type=docker,dest={out}")
    assert compressions(app, out) == ["+gzip"] * 5
    assert podman.load(out) == "docker.io/library/app:latest"


def test_an_output_can_have_its_own_names(app: App, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    app.pybuild("export", "app", "-o", f'type=docker,dest={out},"name=ghcr.io/a/b:1,c"')
    _, digests = app.imported(tmp_path / "store", out)
    names = json.loads(Pybuild(tmp_path / "store")("inspect", *digests).out)["names"]
    assert names == ["c:latest", "ghcr.io/a/b:1"]


# -- users, times, failures


@pytest.mark.parametrize("person", ["range", "single"], indirect=True)
def test_an_ordinary_user_writes_the_same_archives_as_root(app: App, person: Person, tmp_path: Path) -> None:
    archive = person.home / "oci.tar"
    archive.write_bytes((app.out / "oci.tar").read_bytes())
    archive.chmod(0o644)
    pybuild = person.pybuild()
    pybuild("import", archive)
    out = person.home / "out"
    pybuild("export", "app", "-o", f"type=tar,dest={out}.tar", "-o", f"type=docker,dest={out}-docker.tar", "-o", out)
    assert (person.home / "out.tar").read_bytes() == app.flat
    assert (person.home / "out-docker.tar").read_bytes() == (app.out / "docker.tar").read_bytes()
    mine, roots = listing(out), listing(app.out / "files")
    assert {row[2] for path, row in mine.items()} == {person.uid}
    assert {path: (*row[:2], *row[4:6]) for path, row in mine.items() if path} == {
        path: (*row[:2], *row[4:6]) for path, row in roots.items() if path
    }


def test_times_are_those_of_the_layers(app: App, tmp_path: Path) -> None:
    app.pybuild(
        "-o", f"type=tar,dest={tmp_path}/flat.tar", "-o", tmp_path / "files", app.context, SOURCE_DATE_EPOCH="86401"
    )
    found = rows((tmp_path / "flat.tar").read_bytes())
    assert found["srv/file"][4] == 86401 and found["pipe"][4] == 86400
    assert found["etc/passwd"][4] == 1_700_000_000  # of the base, not of this build
    assert int((tmp_path / "files/srv/file").stat().st_mtime) == 86401


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=oci,dest={}/no/x.tar", "no is not a directory"),
        ("type=tar,dest={}/there", "it is a directory"),
        ("type=oci,dest={}/there", "it is a directory"),
        ("{}/file", "it is not a directory"),
        ("type=oci,dest={}/file,tar=false", "it is not a directory"),
    ],
)
def test_an_invalid_destination_is_reported_before_anything_runs(
    output: str, message: str, app: App, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    done = app.pybuild.run("--no-cache", "--progress=json", "-o", output.format(tmp_path), app.context)
    assert done.status == 1 and done.finished() == {}
    assert message in done.err and "Traceback" not in done.err
    assert "cannot write" in app.pybuild.refused("export", "app", "-o", output.format(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["file", "there"] and (tmp_path / "file").read_bytes() == b"mine"


def test_a_failed_build_keeps_the_outputs_of_the_last_one(app: App, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"FROM {BASE}\nRUN false\n")
    out = tmp_path / "x.tar"
    out.write_bytes(b"before")
    app.pybuild.refused("-o", f"type=oci,dest={out}", "-o", tmp_path / "files", context)
    assert out.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["context", "x.tar"]


ZERO = "sha256:" + "0" * 64
HOSTILE = {
    "a layer outside": (Saved(item_fields={"Layers": ["../x"]}), 'entry "../x": leaves the root'),
    "a layer of other bytes": (Saved(diff_ids=[ZERO]), f"the config promises {ZERO}"),
    "an entry outside": (Saved([tar(entry(b"../\x1b[2J"))]), 'entry "../\\x1b[2J": leaves the root'),
    "a layer outside by a link": (Saved(extra=[symlink(b"layer.tar", b"../../etc")]), "outside of the archive"),
    "a bomb of a config": (Saved(config=b" " * (9 << 20)), "exceeds the limit of 8 MiB"),
    "a name with an escape": (Saved(tags=["a:1\x1b[2J"]), "invalid tag"),
}


@pytest.mark.parametrize(("archive", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_a_one_line_error(archive: Saved, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive.data())
    error = Pybuild(tmp_path / "store").refused("import", path)
    lines = [line for line in error.splitlines() if not line.startswith("hint: ")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert "\x1b" not in error
    assert Pybuild(tmp_path / "store")("images", "--json").out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "app", "-o", "type=zip,dest=x"),
        ("-o", "type=oci,dest=x,level=3", "."),
        ("export", "app"),
        ("import",),
        ("import", "x.tar", "app@sha256:" + "0" * 64),
    ],
)
def test_wrong_usage_is_a_usage_error(arguments: tuple[str, ...], app: App) -> None:
    assert "Error: " in app.pybuild.refused(*arguments, status=2)
