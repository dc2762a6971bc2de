"""images/pybuild itself, made by this checkout, and what it builds in a container that allows no namespaces.

For `make containers` only: it takes minutes. It needs Debian's mirrors.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE, CHECKOUT, Pybuild
from tests.support.containers import make_own_image
from tests.support.people import forget, make_person
from tests.support.registry import docker_registry

PROGRESS = "--progress=plain"
FOUR_ROOTS = f"""\
FROM pybuild.test/debian AS first
ENV SOURCE_DATE_EPOCH=1700000000
RUN --mount=type=bind,from=pybuild.test/debs,target=/debs --mount=type=secret,id=token --mount=type=cache,target=/var/cache/apt \\
    test "$(cat /run/secrets/token)" = hidden && echo 'deb [trusted=yes] file:/debs ./' > /etc/apt/sources.list \\
    && apt-get update && apt-get install -y --no-install-recommends hello && hello > /greeting \\
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/aux-cache /etc/apt/sources.list
RUN adduser --system --group --home /srv/service service && su -s /bin/sh service -c 'id > /srv/service/id' && rm -rf /var/log/*
COPY --chown=service:service file /srv/service/
FROM {BASE} AS second
RUN cat /etc/passwd > /users && rm -rf /tmp/* /var/* && echo a > /tmp/a
RUN cp /bin/busybox /bin/new && mv /bin/new /bin/sh && echo 'x:x:7:7::/:/bin/sh' > /etc/passwd && mkdir /d && ln -s d /e
FROM scratch AS third
COPY --from=second /bin/busybox /sh
RUN ["/sh", "-c", "echo nothing else > /here; test ! -e /etc/passwd"]
FROM pybuild.test/debian
ENV SOURCE_DATE_EPOCH=1700000000
COPY --from=first /greeting /srv/service/ /a/
COPY --from=second /users /tmp/a /b/
COPY --from=third /here /c/
RUN test "$(stat -c %u /a/file)" -ge 100 || true; test ! -e /greeting && test ! -e /here && test ! -e /users
RUN for f in /lib/*/libc.so.6 /bin/sh /etc/passwd; do cp $f $f.new && mv $f.new $f; done; rm -rf /tmp/* /var/log /var/cache/*
USER 33
RUN id > /tmp/id && cat /a/greeting > /tmp/again
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the archives of images/pybuild and of its base, and `root`, the image's root."""
    place = tmp_path_factory.mktemp("own")
    make_root(place)
    return place


def test_four_roots_in_one_recipe_give_the_layers_of_root(base_archive: Path, made: Path) -> None:
    """Debian, busybox, nothing, and Debian again."""
    archives = debian_archives(made)
    built = []
    for person in (make_person("root"), make_own_image(str(made / "root"))):
        try:
            for archive in (base_archive, *archives):
                person.pybuild()("import", person.take(archive))
            context = person.context("context", FOUR_ROOTS, file="text\n")
            (person.home / "token").write_text("hidden")
            output = f"type=oci,dest={person.home}/image.tar,compression=uncompressed"
            secret = f"--secret=id=token,src={person.home}/token"
            person.pybuild(SOURCE_DATE_EPOCH="1700000000")(PROGRESS, secret, "-o", output, context)
            built.append([hashlib.sha256(layer).hexdigest() for layer in read_archive(person.home / "image.tar").layers])
            person.pybuild()("fsck")
        finally:
            forget(person)
    assert built[0] == built[1]


def make_root(place: Path) -> None:
    script = CHECKOUT / "images" / "pybuild" / "make.sh"
    subprocess.run(["sh", script, sys.executable, place / "made"], check=True, env={**os.environ, "PYBUILD_IMAGE_BASE": "mmdebstrap"})
    pybuild = Pybuild(place / "store")
    pybuild("import", place / "made" / "pybuild.tar", "own")
    pybuild("export", "own", "-o", f"type=tar,dest={place}/root.tar")
    (place / "root").mkdir()
    subprocess.run(["tar", "-C", place / "root", "-xpf", place / "root.tar"], check=True)


def debian_archives(place: Path) -> tuple[Path, Path]:
    """A minimal Debian, and a directory of packages with an index, as archives of images."""
    pybuild = Pybuild(place / "bases")
    pybuild("import", place / "made" / "debian.tar", "pybuild.test/debian")
    context = place / "debs"
    context.mkdir()
    subprocess.run(["apt-get", "download", "-qq", "hello"], cwd=context, check=True)
    (context / "Packages").write_text("".join(map(index_of, sorted(context.glob("*.deb")))))
    (context / "Buildfile").write_text("FROM scratch\nCOPY . /\n")
    pybuild("-t", "pybuild.test/debs", context)
    for name in ("debian", "debs"):
        pybuild("export", f"pybuild.test/{name}", "-o", f"type=oci,dest={place}/{name}-image.tar")
    return place / "debian-image.tar", place / "debs-image.tar"


def index_of(package: Path) -> str:
    """What apt reads of a package in a directory."""
    fields = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout.strip()
    data = package.read_bytes()
    return f"{fields}\nFilename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


def test_builds_killed_at_any_moment_leave_a_root_that_the_next_one_makes_right(base_archive: Path) -> None:
    """50 builds in one container, each killed by kill -9 while it switches between two roots, runs commands or writes layers."""
    person = make_own_image()
    try:
        person.pybuild()("import", person.take(base_archive))
        lines = "RUN rm -r /home && mkdir /d && seq 200 > /d/f && (sleep 1000 &)\nRUN rm /bin/[a-c]* && echo > /tmp/x\n"
        other = "RUN test ! -e /d && ls /home /bin/cat && mkdir -m 700 /home/me && rm -r /usr\n"
        recipe = f"FROM {BASE} AS one\n{lines}FROM {BASE} AS two\n{other}FROM {BASE}\n"
        context = person.context("context", recipe + "COPY --from=one /d /d\nCOPY --from=two /home /h\nRUN ls /d /h > /list\n")
        build = f"pybuild --progress=quiet --no-cache -o type=oci,dest={person.home}/image.tar,compression=uncompressed"
        rounds = f"i=0; while [ $i -lt 50 ]; do {build} {context} & p=$!; usleep $((i * 40000)); kill -9 $p; wait; i=$((i + 1)); done"
        said = person.shell(
            f"{rounds} 2>/dev/null; {build} {context} && pybuild fsck && ls /dev/shm /pybuild/run; ps -o args",
            SOURCE_DATE_EPOCH="1700000000",
        )
        assert "0 damaged, 0 left over" in said.out, said.err
        assert "sleep 1000" not in said.out
        assert "pybuild-" not in said.out.partition("0 left over")[2].partition("COMMAND")[0]
        killed = [hashlib.sha256(layer).hexdigest() for layer in read_archive(person.home / "image.tar").layers]
    finally:
        forget(person)
    machine = make_person("root")
    try:
        machine.pybuild()("import", machine.take(base_archive))
        context = machine.context("context", recipe + "COPY --from=one /d /d\nCOPY --from=two /home /h\nRUN ls /d /h > /list\n")
        output = f"type=oci,dest={machine.home}/image.tar,compression=uncompressed"
        machine.pybuild(SOURCE_DATE_EPOCH="1700000000")("-o", output, context)
        assert killed == [hashlib.sha256(layer).hexdigest() for layer in read_archive(machine.home / "image.tar").layers]
    finally:
        forget(machine)


def test_a_pod_of_an_ordinary_user_copies_and_pushes(base_archive: Path, made: Path, tmp_path: Path) -> None:
    """runAsUser: 1000, and all capabilities dropped: pybuild starts without a changed root."""
    pod = make_own_image(str(made / "root"), network=True, user=1000, capabilities=())
    pybuild = pod.pybuild()
    try:
        with docker_registry(tmp_path / "registry") as registry:
            base, name = registry.push(base_archive, "team/base:1"), f"{registry.host}/team/app:1"
            context = pod.context("context", f"FROM {base}\nCOPY --chown=33:44 file /d/\nWORKDIR /w\n", file="text\n")
            pushed = pybuild("--no-tls-verify", "build", PROGRESS, "-t", name, "--push", context).out.strip()
            assert registry.digest("team/app:1") == pushed
            ran = pybuild.run("--no-tls-verify", "build", PROGRESS, pod.context("run", f"FROM {base}\nRUN echo ran\n"))
        assert ran.status == 1
        assert "| ran" not in ran.err
        assert re.search(r"/Buildfile:2:1: error: RUN needs .*\n.*\n.*\nhint: ", ran.err, re.MULTILINE), ran.err
        assert " 0 damaged" in pybuild("fsck").out
    finally:
        forget(pod)
