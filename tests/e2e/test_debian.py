"""A real image, a web server on Debian: built by pybuild, read and run by other tools."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import Pybuild, write_context
from tests.support.people import forget, make_person

LIST_TREE = Path(__file__).with_name("list_tree.py")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
PACKAGES = "python3 iputils-ping"
RECIPE = f"""\
FROM debian:bookworm
ENV PORT=8080 PYTHONUNBUFFERED=1
RUN apt-get update && apt-get install -y --no-install-recommends {PACKAGES}
RUN cd /srv && echo linked > one && ln one two && ln one /opt/three && ln -s ../opt/three four \\
    && chown 1234:5678 one && chmod 4711 one && rm /etc/issue.net && mkfifo -m 640 pipe
WORKDIR /srv/www
COPY --chown=www-data:www-data page index.html
COPY capped /usr/local/bin/
USER www-data
EXPOSE 8080
CMD python3 -m http.server --bind 127.0.0.1 "$PORT"
"""
PAGE = "a page out of the image\n"


@dataclass(frozen=True)
class App:
    """The built image, in a store and as an archive."""

    pybuild: Pybuild
    context: Path
    archive: Path
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Bundle:
    """The image as umoci unpacks it: an OCI layout and a runtime bundle."""

    layout: Path
    path: Path

    @property
    def root(self) -> Path:
        return self.path / "rootfs"


@pytest.fixture(scope="session")
def debian_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a minimal Debian root with the packages to install, so that each is downloaded only once."""
    path = tmp_path_factory.mktemp("debian") / "debian.tar"
    fetch = f"APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qq --download-only --no-install-recommends {PACKAGES}"
    keep = "--skip=cleanup/apt/lists,cleanup/apt/cache"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--customize-hook={fetch}", keep, "bookworm", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, debian_tar: Path) -> App:
    directory = tmp_path_factory.mktemp("app")
    pybuild = Pybuild(directory / "store")
    pybuild("import", debian_tar, "debian:bookworm")
    context = write_context(directory / "context", RECIPE, page=PAGE)
    shutil.copy("/bin/busybox", context / "capped")
    subprocess.run(["setcap", "cap_net_raw,cap_chown=ep", context / "capped"], check=True)
    proxies = [f"--build-arg={name}={os.environ[name]}" for name in PROXIES if name in os.environ]
    archive = directory / "app.tar"
    arguments = (*proxies, "-t", "app")
    pybuild(*arguments, "-o", f"type=oci,dest={archive}", context)
    return App(pybuild, context, archive, arguments)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, app: App) -> Bundle:
    directory = tmp_path_factory.mktemp("bundle")
    layout, path = directory / "layout", directory / "bundle"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci-archive:{app.archive}", f"oci:{layout}:app"], check=True)
    subprocess.run(["umoci", "--log=error", "unpack", "--image", f"{layout}:app", path], check=True)
    return Bundle(layout, path)


def rows(lines: str) -> dict[str, dict[str, object]]:
    return {row["path"]: row for row in map(json.loads, lines.splitlines())}


@pytest.fixture(scope="module")
def unpacked(bundle: Bundle) -> dict[str, dict[str, object]]:
    """The tree that umoci unpacked."""
    done = subprocess.run([sys.executable, LIST_TREE, bundle.root], check=True, capture_output=True, text=True)
    return rows(done.stdout)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, app: App) -> dict[str, dict[str, object]]:
    """The tree that a RUN on top of the image sees."""
    recipe = "FROM app\nUSER root\nCOPY list_tree.py /\nRUN python3 -B /list_tree.py / /list_tree.py\n"
    context = write_context(tmp_path_factory.mktemp("seen"), recipe)
    shutil.copy(LIST_TREE, context)
    done = app.pybuild("--progress=json", context)
    return rows("".join(str(event["data"]) for event in done.events if event["event"] == "step_output"))


def test_umoci_unpacks_the_tree_that_a_run_sees(
    unpacked: dict[str, dict[str, object]], seen: dict[str, dict[str, object]]
) -> None:
    assert set(unpacked) ^ set(seen) == set()
    assert {path: (row, seen[path]) for path, row in unpacked.items() if row != seen[path]} == {}
    assert len(seen) > 5000


def test_links_owners_and_capabilities_of_the_recipe_are_preserved(unpacked: dict[str, dict[str, object]]) -> None:
    group = [path for path, row in unpacked.items() if row.get("same_as") == unpacked["/opt/three"]["same_as"]]
    assert sorted(group) == ["/opt/three", "/srv/one", "/srv/two"]
    one = unpacked["/srv/one"]
    assert (one["mode"], one["uid"], one["gid"]) == (0o4711, 1234, 5678)
    assert unpacked["/srv/four"]["link"] == "../opt/three"
    assert (unpacked["/srv/www/index.html"]["uid"], unpacked["/srv/www/index.html"]["gid"]) == (33, 33)
    assert "/etc/issue.net" not in unpacked
    capable = {path for path, row in unpacked.items() if "capability" in row}
    assert capable == {"/usr/bin/ping", "/usr/local/bin/capped"}


RUNTIMES = {
    "runc": ("runc",),
    # Debian's crun refuses a machine with both versions of cgroups, so it sees only one.
    "crun": (
        "unshare", "--mount", "sh", "-c",
        'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled "$@"', "crun",
    ),
}  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_the_image_runs_and_serves_requests(tmp_path: Path, bundle: Bundle, runtime: tuple[str, ...]) -> None:
    config = json.loads((bundle.path / "config.json").read_text())
    process, linux = config["process"], config["linux"]
    process["terminal"] = False
    process["env"] = ["PORT=0" if pair == "PORT=8080" else pair for pair in process["env"]]
    linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] != "network"]
    linux.pop("resources", None)
    config["root"]["path"] = str(bundle.root)
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    (tmp_path / "config.json").write_text(json.dumps(config))

    command = [*runtime, "--root", str(tmp_path / "state")]
    name = f"pybuild-test-{os.getpid()}"
    start = ["timeout", "--kill-after=5", "120", *command, "run", "--bundle", str(tmp_path), name]
    with subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as container:
        try:
            assert container.stdout is not None
            found = re.match(r"Serving HTTP on 127\.0\.0\.1 port (\d+)", container.stdout.readline())
            assert found is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=60) as answer:
                assert answer.read().decode() == PAGE
        finally:
            subprocess.run([*command, "kill", name, "KILL"])
            container.wait()


def test_skopeo_reads_the_config(bundle: Bundle) -> None:
    done = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{bundle.layout}:app"], check=True, capture_output=True
    )
    config = json.loads(done.stdout)["config"]
    assert {"PORT=8080", "PYTHONUNBUFFERED=1"} < set(config["Env"])
    assert config["User"] == "www-data"
    assert config["WorkingDir"] == "/srv/www"
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["Cmd"] == ["/bin/sh", "-c", 'python3 -m http.server --bind 127.0.0.1 "$PORT"']


def test_gnu_tar_lists_every_layer_as_python_does(tmp_path: Path, app: App) -> None:
    layers = read_archive(app.archive).layers
    assert len(layers) == 6
    for number, data in enumerate(layers):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(data)
        done = subprocess.run(
            ["tar", "--quoting-style=literal", "-tf", path], check=True, capture_output=True, text=True
        )
        assert done.stderr == ""
        with tarfile.open(path) as tar:
            assert [name.rstrip("/") for name in done.stdout.splitlines()] == [member.name for member in tar]


def test_history_names_every_instruction(app: App) -> None:
    lines = [json.loads(line) for line in app.pybuild("history", "--json", "app").out.splitlines()]
    words = ["import", "ENV", "RUN", "RUN", "WORKDIR", "COPY", "COPY", "USER", "EXPOSE", "CMD"]
    assert [line["instruction"].split()[0] for line in lines] == words
    assert [line["layer"] is not None for line in lines] == [word not in ("ENV", "USER", "EXPOSE", "CMD") for word in words]


def test_a_second_build_gives_the_same_archive(tmp_path: Path, app: App) -> None:
    again = tmp_path / "again.tar"
    done = app.pybuild("--progress=json", *app.arguments, "-o", f"type=oci,dest={again}", app.context)
    assert set(done.finished().values()) == {True}
    assert again.read_bytes() == app.archive.read_bytes()


def entries(layer: bytes) -> dict[str, tuple[object, ...]]:
    """The entries of a layer, without times and without the content of logs and caches, which contains times."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            vague = member.name.startswith(("var/log/", "var/cache/"))
            content = hashlib.sha256(file.read()).hexdigest() if file is not None and not vague else ""
            found[member.name] = (member.type, member.mode, member.uid, member.gid, member.linkname, content)
    return found


def test_an_ordinary_user_with_subordinate_ids_gets_the_same_entries(app: App, debian_tar: Path) -> None:
    person = make_person("range")
    try:
        subprocess.run(["cp", "-r", "--preserve=mode,timestamps,xattr", app.context, person.home / "context"], check=True)
        shutil.copy(debian_tar, person.home / "debian.tar")
        (person.home / "debian.tar").chmod(0o644)
        pybuild = person.pybuild()
        pybuild("import", person.home / "debian.tar", "debian:bookworm")
        pybuild(*app.arguments, "-o", f"type=oci,dest={person.home}/app.tar", person.home / "context")
        ours, roots = read_archive(person.home / "app.tar").layers, read_archive(app.archive).layers
        assert ours[0] == roots[0]
        for layer, expected in zip(ours, roots, strict=True):
            assert entries(layer) == entries(expected)
        pybuild.assert_whole()
        pybuild("reset")
    finally:
        forget(person)


def test_the_store_passes_fsck(app: App) -> None:
    app.pybuild.assert_whole()
