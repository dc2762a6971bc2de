"""One example, built as its users build it: with nothing cached, with everything cached, and after an edit."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.examples.bases import NAME
from tests.examples.containers import CheckFailed
from tests.support.cli import CHECKOUT, Pybuild

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.examples.table import Example

EXAMPLES = CHECKOUT / "examples"
# Rules that the images keep; Debian itself has setuid programs.
DENIED = "secrets,package-caches,unknown-owner,world-writable,empty-password,second-root,capabilities"


@dataclass(frozen=True)
class Figures:
    """A row of the table."""

    name: str
    cold: float
    edited: float
    cached: float
    bytes: int  # of the first image's layers for one processor, compressed
    layers: int

    def row(self) -> str:
        size = f"{self.bytes / 1e6:.1f}"
        return f"| {self.name} | {self.cold:.1f} | {self.edited:.2f} | {self.cached:.2f} | {size} | {self.layers} |"


HEADER = "| example | cold, s | after an edit, s | cached, s | MB | layers |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Builds:
    """The builds of an example: one, or one for each of its images."""

    pybuild: Pybuild
    context: Path
    out: Path
    of: Mapping[str, tuple[str, ...]]  # tag -> options

    def archives(self) -> dict[str, Path]:
        return {tag: self.out / f"{tag}.tar" for tag in self.of}

    def make(self) -> tuple[float, list[tuple[str, bool]], list[dict[str, object]]]:
        """Build all; the seconds that took, the steps with whether they were cached, and the layers of the first image."""
        os.sync()  # what podman or mmdebstrap wrote is not part of the measurement
        begun = time.monotonic()
        done = []
        for tag, options in self.of.items():
            output = f"type=oci,dest={self.archives()[tag]}"
            found = self.pybuild.run("build", "--progress=json", "-t", tag, "-o", output, *options, self.context)
            if found.status != 0:
                raise CheckFailed(f"the build failed:\n{readable(found.events)}")
            done.append(found.events)
        seconds = time.monotonic() - begun
        steps = [
            (str(event["instruction"]), bool(event["cached"]))
            for events in done
            for event in events
            if event["event"] == "step_finished"
        ]
        built = next(event for event in done[0] if event["event"] == "built")
        layers: list[dict[str, object]] = built["layers"]  # type: ignore[assignment]
        return seconds, steps, layers


def readable(events: list[dict[str, object]]) -> str:
    """What the steps wrote, and the error."""
    written = [str(event["data"]) for event in events if event["event"] == "step_output"]
    errors = [f"{event['message']}\n" for event in events if event["event"] == "build_failed"]
    return "".join(written + errors)


def attempt(name: str, example: Example, place: Path, bases: Mapping[str, Path]) -> Figures:
    """Build an example with a store of its own, look at what came out, and measure; raises CheckFailed.

    `bases` are archives of the base image by processor; without any, pybuild pulls it.
    """
    context, out = place / "context", place / "out"
    if place.exists():
        shutil.rmtree(place)
    out.mkdir(parents=True)
    shutil.copytree(EXAMPLES / name, context)
    platforms = (f"--platform={','.join(example.platforms)}",) if example.platforms else ()
    pybuild = Pybuild(place / "store")
    for architecture, archive in bases.items():
        pybuild("import", f"--platform=linux/{architecture}", archive, NAME)
    own = example.builds or {name: ()}
    builds = Builds(pybuild, context, out, {tag: (*options, *platforms) for tag, options in own.items()})

    cold, steps, layers = builds.make()
    example.check(builds.archives(), False)
    for archive in builds.archives().values():
        judged = pybuild.run("check-image", f"--deny={DENIED}", f"oci-archive:{archive}")
        if judged.status != 0:
            raise CheckFailed(judged.out + judged.err)
    before = {tag: archive.read_bytes() for tag, archive in builds.archives().items()}

    cached, steps, _ = builds.make()
    ran = [instruction for instruction, was_cached in steps if not was_cached]
    if ran:
        raise CheckFailed(f"nothing had changed, and these steps ran again: {ran}")
    if before != {tag: archive.read_bytes() for tag, archive in builds.archives().items()}:
        raise CheckFailed("nothing had changed, and the archive is another one")

    file, old, new = example.edit
    text = (context / file).read_text()
    if text.count(old) != 1:
        raise CheckFailed(f"{file} has to have {old!r} once")
    (context / file).write_text(text.replace(old, new))
    edited, steps, _ = builds.make()
    ran = [instruction for instruction, was_cached in steps if not was_cached]
    if len(ran) != len(example.again) or not all(map(str.startswith, sorted(ran), sorted(example.again))):
        raise CheckFailed(f"after the edit of {file} these steps ran: {json.dumps(ran)}; expected: {example.again}")
    example.check(builds.archives(), True)
    pybuild.assert_whole()
    own_layers = [layer for layer in layers if not platforms or of_platform(layer, example.platforms[0])]
    return Figures(name, cold, edited, cached, sum(int(str(layer["size"])) for layer in own_layers), len(own_layers))


def of_platform(layer: Mapping[str, object], platform: str) -> bool:
    """Whether a layer belongs to the image for a platform."""
    of: list[str] = layer["platforms"]  # type: ignore[assignment]
    return platform in of
