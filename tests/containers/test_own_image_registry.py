"""pybuild's own image as a job of a CI: it pulls its base, pushes, and leaves a cache for the next job, whose store is empty."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.containers import make_own_image
from tests.support.people import forget
from tests.support.registry import DockerRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cli import Done
    from tests.support.people import Person

LINES = (
    "COPY --chown=33:44 file /d/\n"
    "RUN --mount=type=cache,target=/c,id=c cat /c/kept 2>/dev/null; echo mounted > /c/kept; echo ran; ls -ln /d | tail -1 > /listed\n"
)


@pytest.fixture
def job() -> Iterator[Callable[[], Person]]:
    """Makes a pod with a store of its own on the network of the machine, where the registry is."""
    with ExitStack() as stack:

        def make() -> Person:
            found = make_own_image(network=True)
            stack.callback(forget, found)
            return found

        yield make


def build(job: Person, registry: DockerRegistry, lines: str, *options: str) -> Done:
    recipe = f"FROM {registry.host}/team/base:1\n{lines}"
    context = job.context("context", recipe, file="text\n")
    pybuild = job.pybuild(SOURCE_DATE_EPOCH="1000000000")
    return pybuild.run("--no-tls-verify", "build", "--progress=plain", *options, context)


def test_a_job_pushes_and_the_next_one_finds_its_steps(registry: DockerRegistry, job: Callable[[], Person]) -> None:
    name, cache = f"{registry.host}/team/app", f"type=registry,ref={registry.host}/team/app:cache"
    first = build(job(), registry, LINES, "-t", f"{name}:1", "--push", "--cache-to", f"{cache},mode=max,mounts=c", "--cache-from", cache)
    assert first.status == 0, first.err
    assert "| ran" in first.err
    assert first.out.strip() == registry.digest("team/app:1")
    second = build(job(), registry, LINES, "-t", f"{name}:2", "--push", "--cache-from", cache, "--require-cached")
    assert second.status == 0, second.err
    assert second.out == first.out
    assert registry.digest("team/app:2") == first.out.strip()
    changed = LINES.replace("echo ran", "echo ran again")
    third = build(job(), registry, changed, "--cache-from", cache)
    assert third.status == 0, third.err
    assert "CACHED COPY" in third.err
    assert "| mounted" in third.err  # the cache mount has travelled
    assert "| ran again" in third.err
