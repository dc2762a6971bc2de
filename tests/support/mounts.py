"""Cache mounts that travel between machines, in caches that are directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.runs import outputs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Done
    from tests.support.machines import Machine

PIP = "/root/.cache/pip"
# Lists what is there, then keeps what was "downloaded" for this version, as a package manager does.
RECIPE = f"""\
FROM {{base}}
ARG V=1
RUN --mount=type=cache,id=pip,target={PIP} find {PIP} -type f | sort | sed 's|^|had |'; mkdir -p {PIP}/http && echo wheel $V > {PIP}/http/$V
RUN --mount=type=cache,target=/npm find /npm -type f | sort | sed 's|^|had |'; echo tarball > /npm/package; echo $V > /made
"""


def to(cache: Path, mounts: str | None = "all", *more: str) -> str:
    keys = ["type=local", f"dest={cache}", "mode=max", *more]
    return "--cache-to=" + ",".join([*keys, f'"mounts={mounts}"'] if mounts is not None else keys)


def from_(cache: Path) -> str:
    return f"--cache-from=type=local,src={cache}"


def had(done: Done) -> list[str]:
    """What the RUNs found in their cache mounts."""
    return [line[4:] for line in "".join(outputs(done).values()).splitlines() if line.startswith("had ")]


def notes(done: Done) -> list[str]:
    return [str(event["text"]) for event in done.events if event["event"] == "note" and "mount" in str(event["text"])]


def mounts_in(machine: Machine, cache: Path | str) -> dict[str, dict[str, object]]:
    """What `pybuild cache ls` says of the cache mounts."""
    return {m["name"]: m for m in json.loads(machine.pybuild("cache", "ls", "--json", cache).out)["mounts"]}
