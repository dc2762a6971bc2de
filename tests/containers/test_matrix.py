"""One recipe on a machine and in containers of every kind: the same layers, or a clear word.

`make test` builds small recipes with busybox. `make containers` (PYBUILD_CONTAINERS=all) adds a real one with Debian, which
installs packages, adds a user and runs as that user, and prints the table.

allowed_differences.txt lists the files that may differ, each with its reason; any other difference fails.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE
from tests.support.containers import CONTAINERS, make_container, make_own_image
from tests.support.people import Person, forget, make_person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALLOWED = Path(__file__).with_name("allowed_differences.txt")
DEBIAN = "pybuild.test/debian"
COPYING = f"""\
FROM {BASE} AS made
COPY --chown=33:44 --chmod=4750 file /d/file
ADD file /d/added
WORKDIR /w/x
FROM {BASE}
COPY --from=made / /all/
ENV a=b
"""
ONE_ID = f"""\
FROM {BASE} AS made
COPY --chown=33:44 file /srv/file
RUN --mount=type=secret,id=token --mount=type=cache,target=/cache \\
    test "$(cat /run/secrets/token)" = hidden && echo cached > /cache/f && cp /cache/f /srv/f && chmod 4711 /srv/f
RUN rm -r /home && mkdir /home && ln /srv/f /srv/g && ln -s f /srv/h && mkfifo -m 640 /srv/p && rm /etc/group
RUN mkdir /opt && mv /opt /opt2 && test "$(stat -c %u:%g /srv/file)" = 33:44 || true
FROM {BASE}
COPY --from=made /srv /srv
RUN --mount=type=bind,from=made,source=/srv,target=/bound --mount=type=tmpfs,target=/t cat /bound/f > /t/f && cp /t/f /out
"""
MANY_IDS = f"""\
FROM {BASE} AS made
RUN echo a > /a && chown 33:44 /a && chmod 4755 /a && mkdir -m 1777 /d && chown 65534:65534 /d
USER app
RUN id -u > /tmp/me && id -G >> /tmp/me && echo > /dev/stdout
USER 1234:5678
RUN touch /tmp/other
FROM {BASE}
COPY --from=made --chown=7:8 /a /b
COPY --from=made /tmp /tmp2
RUN chown -R 9:9 /tmp2
"""
PACKAGES = f"""\
FROM {DEBIAN} AS tool
ENV SOURCE_DATE_EPOCH=1700000000
RUN useradd --uid 4321 worker && install -d -o worker /out && su worker -c 'id > /out/id' && chgrp www-data /out/id
FROM {DEBIAN}
ENV SOURCE_DATE_EPOCH=1700000000
RUN --mount=type=cache,target=/var/cache/apt --mount=type=secret,id=token,target=/run/token \
    test "$(cat /run/token)" = hidden \
    && apt-get install -y --no-install-recommends /debs/sudo_*.deb /debs/libcap2-bin_*.deb \
    && rm -r /var/log/* /var/cache/ldconfig/aux-cache
RUN adduser --system --group --home /srv/service service \
    && install -o service -g service -m 640 /etc/debian_version /srv/service/version \
    && su -s /bin/sh service -c 'umask 077; mkdir ~/data && id > ~/data/id' \
    && cp /bin/true /srv/service/capped && setcap cap_net_raw=ep /srv/service/capped \
    && echo 'service ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/service && rm -rf /var/log/*
COPY --from=tool /out /srv/out
COPY --from=tool --chown=www-data /out /srv/out2
COPY --chown=service:service --chmod=600 file /srv/service/
USER service
RUN sudo -n id -u > /srv/service/root && touch /srv/service/mine
USER root
RUN rm -r /debs && getcap /srv/service/capped | grep net_raw && chown -R service /srv/out2
"""
RECIPES = {"copying": COPYING, "one id": ONE_ID, "many ids": MANY_IDS}
ALL = os.environ.get("PYBUILD_CONTAINERS") == "all"
if ALL:
    RECIPES["packages"] = PACKAGES
PEOPLE = ("root", "range", "single")
# Environment -> its isolation with --isolation=auto, and the recipes that it can build.
EVERYTHING = {"copying", "one id", "many ids", "packages"}
ROWS: dict[str, tuple[str, set[str]]] = {
    "root": ("full", EVERYTHING),
    "range": ("full", EVERYTHING),
    "single": ("full", {"copying", "one id"}),
    "podman": ("container", EVERYTHING),
    "seccomp-off": ("container", EVERYTHING),
    "unmasked": ("container", EVERYTHING),
    "unconfined": ("full", EVERYTHING),
    "65536-ids": ("container", EVERYTHING),
    "pod-with-ids": ("container", EVERYTHING),
    "unmasked-pod-with-ids": ("full", EVERYTHING),
    "read-only": ("container", EVERYTHING),
    "user-1000": ("container", {"copying", "one id"}),
    "no-volume": ("container", EVERYTHING),
    "user-1000-no-volume": ("container", {"copying", "one id"}),
    "docker": ("none", {"copying"}),
    "docker-user-1000": ("none", {"copying"}),
    "own-image": ("in-place", EVERYTHING),
}
SOME = ("root", "podman", "65536-ids", "read-only", "user-1000", "no-volume", "docker", "own-image")  # without PYBUILD_CONTAINERS
ONE_USER = {"single", "user-1000", "user-1000-no-volume"}


@dataclass(frozen=True)
class Built:
    """What a build in an environment gave: the layers by digest, or the error."""

    layers: tuple[tuple[str, bytes], ...]
    said: str


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A minimal Debian with a few packages to install, as an archive."""
    if not ALL:
        return None
    place = tmp_path_factory.mktemp("debian")
    fetch = "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qq --download-only --no-install-recommends sudo libcap2-bin"
    keep = 'mkdir "$1/debs" && mv "$1"/var/cache/apt/archives/*.deb "$1/debs/"'
    hooks = [f"--customize-hook={fetch}", f"--customize-hook={keep}"]
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", *hooks, "bookworm", place / "debian.tar"], check=True)
    machine = make_person("root")
    pybuild = machine.pybuild()
    pybuild("import", place / "debian.tar", DEBIAN)
    pybuild("export", DEBIAN, "-o", f"type=oci,dest={place}/oci.tar,compression=zstd")
    forget(machine)
    return place / "oci.tar"


@pytest.fixture(scope="module")
def built(base_archive: Path, debian: Path | None) -> Iterator[Callable[[str, str], Built]]:
    """Environment and recipe -> what came out. Each environment keeps its store for all recipes."""
    people: dict[str, Person] = {}
    results: dict[tuple[str, str], Built] = {}
    known: dict[str, bytes] = {}  # equal layers share their memory

    def in_environment(name: str) -> Person:
        if name not in people:
            make = make_person if name in PEOPLE else make_container
            people[name] = make_own_image() if name == "own-image" else make(name)
            for archive in filter(None, (base_archive, debian)):
                people[name].pybuild()("import", people[name].take(archive))
        return people[name]

    def build(name: str, recipe: str) -> Built:
        if (name, recipe) not in results:
            person = in_environment(name)
            context = person.context(recipe.replace(" ", "-"), RECIPES[recipe], file="text\n")
            token, image = person.home / "token", person.home / "image.tar"
            token.write_text("hidden")
            pybuild = person.pybuild(SOURCE_DATE_EPOCH="1700000000")
            secret = f"--secret=id=token,src={token}"
            output = f"type=oci,dest={image},compression=uncompressed"
            done = pybuild.run("--isolation=auto", "--progress=plain", secret, "-o", output, context)
            assert "Traceback" not in done.err, done.err
            layers: tuple[tuple[str, bytes], ...] = ()
            if done.status == 0:
                digests = [(hashlib.sha256(layer).hexdigest(), layer) for layer in read_archive(image).layers]
                layers = tuple((digest, known.setdefault(digest, layer)) for digest, layer in digests)
                image.unlink()
            results[name, recipe] = Built(layers, done.err)
        return results[name, recipe]

    yield build
    for person in people.values():
        forget(person)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [("environment", "isolation", "recipe", "result")]
    yield rows
    if ALL:
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print()
            for row in rows:
                print("  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip())


def isolation_in(said: str) -> str:
    if "RUN needs a user namespace" in said:
        return "none"
    found = re.search("isolation of RUN steps is `(.*?)`", said)
    return found[1] if found else "full"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ROWS if ALL else SOME)
def test_an_environment_gives_the_layers_of_root_or_a_clear_word(
    built: Callable[[str, str], Built], table: list[tuple[str, ...]], name: str, recipe: str
) -> None:
    isolation, works = ROWS[name]
    here = built(name, recipe)
    if recipe not in works:
        assert not here.layers
        error = here.said.splitlines()
        words = "one user and one group" if name in ONE_USER else "--security-opt seccomp=unconfined"
        assert any(line.startswith("hint: ") and (words in line or "subordinate" in line) for line in error), here.said
        table.append((name, isolation, recipe, f"refused: {next(line for line in error if 'error: ' in line)}"))
        return
    if recipe != "copying":
        assert isolation_in(here.said) == isolation
        assert ("RUN steps work in copies of their files" in here.said) == name.endswith("no-volume")
    expected = built("root", recipe)
    assert here.layers, here.said
    differing = list(differences(name, recipe, expected, here))
    table.append((name, isolation, recipe, f"allowed: {', '.join(differing)}" if differing else "same layers"))


def differences(name: str, recipe: str, expected: Built, found: Built) -> Iterator[str]:
    """The paths that differ and may; fails for one that may not."""
    assert len(found.layers) == len(expected.layers)
    for (digest, layer), (other, other_layer) in zip(found.layers, expected.layers, strict=True):
        if digest == other:
            continue
        here, there = entries(layer), entries(other_layer)
        paths = sorted(path for path in {*here, *there} if here.get(path) != there.get(path))
        assert paths, "the layers differ, and their entries do not"
        for path in paths:
            assert is_allowed(name, recipe, path), (
                f"{name}, {recipe}: {path} is {here.get(path)}, and {there.get(path)} where root builds"
            )
            yield path


def entries(layer: bytes) -> dict[str, tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found: dict[str, tuple[object, ...]] = {}
        for entry in tar:
            file = tar.extractfile(entry) if entry.isfile() else None
            content = hashlib.sha256(file.read()).hexdigest() if file is not None else entry.linkname
            headers = tuple(sorted(item for item in entry.pax_headers.items() if item[0] not in ("path", "linkpath")))
            found[entry.name] = (entry.type, oct(entry.mode), entry.uid, entry.gid, entry.mtime, content, headers)
        return found


def allowed() -> list[list[str]]:
    lines = [line for line in ALLOWED.read_text().splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=3) for line in lines]


def is_allowed(name: str, recipe: str, path: str) -> bool:
    return any(
        fnmatch.fnmatch(recipe, rule[0]) and fnmatch.fnmatch(name, rule[1]) and fnmatch.fnmatch(path, rule[2])
        for rule in allowed()
    )


def test_each_allowed_difference_has_a_reason() -> None:
    assert all(len(rule) == 4 for rule in allowed())


def test_every_container_has_a_row() -> None:
    assert set(ROWS) == {*PEOPLE, *CONTAINERS, "own-image"}
