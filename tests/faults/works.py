"""The commands that faults are tried on, each with a result that is known: builds (one fetches its base), pull, import, export
and gc.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.archive import read_archive
from tests.support.archives import Archive
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.registry import docker_registry
from tests.support.tars import directory, entry, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.cli import Done

Command = tuple[Any, ...]
# SOURCE_DATE_EPOCH of all builds. It is before every time that the clock of a command jumps to: a file that is older keeps
# its own time.
SITE_TIME = "800000000"
VARIANTS = 3
OUTPUTS = frozenset(
    {*(f"id{number}" for number in range(VARIANTS)), "fetched", "app.tar", "three.tar", "flat.tar", "layout"}
)
RECIPE = f"""\
FROM {BASE} AS made
ARG number
RUN seq $number 3000 > /numbers
RUN set -e; mkdir -p /deep/a/b/c; for i in $(seq 40); do echo $i > /deep/a/f$i; ln /deep/a/f$i /deep/a/b/l$i; ln -s ../../f$i /deep/a/b/c/s$i; done
FROM {BASE}
ARG number
ENV NUMBER=$number
WORKDIR /srv
COPY . .
COPY --from=made /numbers /deep ./made/
RUN --mount=type=cache,target=/cache sha256sum noise > sum && rm noise /srv/made/a/f1 && echo $number >> /cache/log
USER app
RUN id > /tmp/id && mkdir /tmp/empty
"""


@dataclass(frozen=True)
class Site:
    """A directory with all that the commands of one kind of fault write: a store, a home, and their outputs."""

    place: Path
    command: Pybuild  # its store is place/store

    @property
    def pybuild(self) -> Pybuild:
        """The command, as all faults are tried on it."""
        own = {"TMPDIR": str(self.place / "tmp"), "HOME": str(self.place / "home"), "SOURCE_DATE_EPOCH": SITE_TIME}
        return self.command.with_environment(own)

    @property
    def store(self) -> Path:
        return self.place / "store"

    @property
    def outputs(self) -> Path:
        return self.place / "outputs"

    def files_left(self) -> list[Path]:
        """Files that no command may leave: unfinished work in the store, temporary ones, outputs that nobody asked for."""
        directories = (self.store / "ingest", self.place / "tmp", self.place / "home")
        found = [path for directory in directories for path in directory.iterdir()]
        return found + [path for path in self.outputs.iterdir() if path.name not in OUTPUTS]


def new_site(place: Path, wrap: Callable[[Pybuild], Pybuild]) -> Site:
    """A site with an empty store. `wrap` says how its commands are started."""
    for name in ("tmp", "home", "outputs"):
        (place / name).mkdir(parents=True)
    return Site(place, wrap(Pybuild(place / "store")))


@dataclass(frozen=True)
class Answer:
    """What a command has made. `image` does not depend on how layers are compressed; `blobs` does."""

    image: str
    blobs: str


@dataclass(frozen=True)
class Work:
    """A command, what gives it something to do, and how to find out what it has made."""

    name: str
    before: tuple[Command, ...]
    arguments: Command
    read: Callable[[Done], Answer]

    def prepare(self, site: Site) -> None:
        """Undo it in the store, so that it has something to do. A name that is not there is gone already."""
        for command in self.before:
            done = site.pybuild.run(*command)
            assert done.status == 0 or "no image" in done.err, done.err

    def run(self, site: Site) -> tuple[Done, Answer | None]:
        """Run it, undisturbed or not; there is an answer if it succeeds."""
        done = site.pybuild.run(*self.arguments)
        return done, self.read(done) if done.status == 0 else None


@dataclass(frozen=True)
class Sources:
    """What the works read, and never write: contexts, an archive, a registry."""

    base: Path
    archive: Path  # of an image with three layers
    contexts: tuple[Path, ...]
    pulled: str  # the name of the same image on a registry
    remote_base: str  # the name of a base with two layers, which only the registry has
    on_remote_base: Path  # a context with a recipe that begins with that base


@contextmanager
def sources(place: Path, base: Path) -> Iterator[Sources]:
    """Make all sources. `base` is the archive of the base image."""
    place.mkdir()
    noise = random.Random(0)
    layers = [
        tar(
            directory(f"d{number}/".encode()),
            *(entry(f"d{number}/f{i}".encode(), data=noise.randbytes(30_000)) for i in range(60)),
        )
        for number in range(3)
    ]
    archive = place / "three.tar"
    archive.write_bytes(
        Archive(
            layers=layers,
            history=[{"created_by": "made"}] * 3,
            annotations={"io.containerd.image.name": "docker.io/test/three:1"},
        ).data()
    )
    contexts = []
    for number in range(VARIANTS):
        data = noise.randbytes(1 << 20) + bytes(2 << 20) + noise.randbytes(1 << 20)
        contexts.append(
            write_context(place / f"context{number}", RECIPE, noise=data, file=f"{number}\n", sub__small="x" * 5000)
        )
    with ExitStack() as stack:
        registry = stack.enter_context(docker_registry(place / "registry"))
        # No layer stands on the layers of the base of the site, so all of this image has to be fetched.
        remote = place / "remote.tar"
        first = tar(entry(b"first", data=noise.randbytes(500_000)))
        remote.write_bytes(Archive(layers=[first, *read_archive(base).layers]).data())
        name = registry.push(remote, "team/base:1")
        context = write_context(place / "on-remote", f"FROM {name}\nCOPY file /\nRUN cat /file > /made\n", file="1\n")
        yield Sources(base, archive, tuple(contexts), registry.push(archive, "team/three:1"), name, context)


def build_work(site: Site, number: int, context: Path, *options: str, cached: bool = False) -> Work:
    """A build of one variant, with everything to do or with what the store has."""
    identity = site.outputs / f"id{number}"
    arguments = ("build", "--network=none", "--build-arg", f"number={number}", "--pids-limit=100", "-t", f"app{number}")

    def read(done: Done) -> Answer:
        return Answer(identity.read_text(), done.out.strip())

    before: tuple[Command, ...] = () if cached else (("rmi", f"app{number}"), ("gc", "--all"))
    name = f"build {number}{' again' if cached else ''}"
    return Work(name, before, (*arguments, *options, "--iidfile", identity, context), read)


def works(site: Site, given: Sources) -> dict[str, list[Work]]:
    """Verb -> its works. The site's store has to have the base and `three` first: `stock`."""
    archive = site.outputs / "three.tar"
    flat = site.outputs / "flat.tar"
    layout = site.outputs / "layout"
    builds = [build_work(site, number, context) for number, context in enumerate(given.contexts)]
    builds += [
        build_work(site, number, context, "--no-cache", f"--output=type=oci,dest={site.outputs}/app.tar", cached=True)
        for number, context in enumerate(given.contexts)
    ]

    def read_export(_: Done) -> Answer:
        return Answer(
            read_archive(archive).manifest["config"]["digest"], hashlib.sha256(archive.read_bytes()).hexdigest()
        )

    def read_flat(_: Done) -> Answer:
        digest = hashlib.sha256(flat.read_bytes()).hexdigest()
        return Answer(digest, digest)

    def read_layout(_: Done) -> Answer:
        index = (layout / "index.json").read_text()
        blobs = sorted(path.name for path in (layout / "blobs/sha256").iterdir())
        return Answer(index, "".join(blobs))

    def printed(done: Done) -> Answer:
        return Answer(done.out.strip(), done.out.strip())

    def nothing(_: Done) -> Answer:
        return Answer("", "")

    fetched = site.outputs / "fetched"

    def read_fetched(done: Done) -> Answer:
        return Answer(fetched.read_text(), done.out.strip())

    remove = (("rmi", "test/three:1"), ("rmi", given.pulled), ("gc", "--all"))
    have = (("import", given.archive),)
    return {
        "build": builds,
        "fetch": [
            Work(
                "fetch",
                (("rmi", "fetched"), ("rmi", given.remote_base), ("gc", "--all")),
                ("build", "--network=none", "-t", "fetched", "--iidfile", fetched, given.on_remote_base),
                read_fetched,
            )
        ],
        "pull": [Work("pull", remove, ("pull", given.pulled), printed)],
        "import": [Work("import", remove, ("import", given.archive), printed)],
        "export": [
            Work(
                "export",
                have,
                ("export", "test/three:1", "-o", f"type=oci,name=test/three:1,dest={archive}"),
                read_export,
            ),
            Work(
                "export layout",
                have,
                ("export", "test/three:1", "-o", f"type=oci,tar=false,name=test/three:1,dest={layout}"),
                read_layout,
            ),
            Work("export flat", have, ("export", "test/three:1", "-o", f"type=tar,dest={flat}"), read_flat),
        ],
        "gc": [Work("gc", (*builds[-1].before, builds[0].arguments, ("rmi", "app0")), ("gc", "--all"), nothing)],
    }


def stock(site: Site, given: Sources) -> None:
    """Give a new store what all works need."""
    site.pybuild("import", given.base)
    site.pybuild("import", given.archive)
