"""Records of a cache that claim what is not so: what they can change, and what they cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_hostile_caches import Machines, right, without
from tests.support.cli import BASE
from tests.support.hostile_caches import SpoiledCache, with_keys
from tests.support.machines import Machine, checkout

if TYPE_CHECKING:
    from pathlib import Path

LAST = "COPY --from=builder"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Machines:
    return Machines(tmp_path_factory.mktemp("machines"), store_with_base)


def exchange_layers(cache: SpoiledCache, one: str, other: str) -> None:
    first, second = cache.record(one).layer, cache.record(other).layer
    cache.change(one, lambda record: replace(record, layer=second))
    cache.change(other, lambda record: replace(record, layer=first))


def test_a_result_of_another_step(machines: Machines, tmp_path: Path) -> None:
    """Nothing tells that a layer is the result of another step: the image has it, and so has the store from then on."""
    cache = machines.cache.copy()
    exchange_layers(cache, "settings", LAST)
    machine = machines.new("exchanged")
    done = machine.build(cache.write(tmp_path / "cache"))
    assert done.out != machines.expected
    assert "Traceback" not in done.err
    machine.pybuild.assert_whole()
    again = machine.build()
    assert again.out in (done.out, machines.expected)
    right(machine, machines, "--no-cache")
    assert machine.ran(right(machine, machines)) == []  # without --no-cache too
    machine.pybuild.assert_whole()


def built(machine: Machine, recipe: str, *options: str, path: str = "/y") -> str:
    """What a recipe gives at a path."""
    context = checkout(machine.context.parent / "other", BASE, recipe)
    out = machine.context.parent / "out"
    machine.pybuild("-q", "--network=none", *options, "-o", f"type=local,dest={out}", context)
    machine.pybuild.assert_whole()
    return (out / path.lstrip("/")).read_text()


def cache_of(machines: Machines, recipe: str, name: str) -> SpoiledCache:
    """The cache that a machine of its own writes for a recipe."""
    machine = machines.new(name, recipe)
    place = machine.context.parent / "cache"
    machine.build(f"--cache-to=type=local,dest={place},mode=max")
    return SpoiledCache.read(place)


KINDS = {
    "COPY": ("COPY src/a /x", "COPY settings /x", "COPY --from=b /x /y"),
    "RUN": ("COPY src/a /x\nRUN true", "COPY settings /x\nRUN true", "COPY --from=b /x /y"),
    "bind": ("COPY src/a /x", "COPY settings /x", "RUN --mount=from=b,target=/m cat /m/x > /y"),
    "link": ("COPY src/a /x", "COPY settings /x", "COPY --link --from=b /x /y"),
    "linked": ("COPY --link src/a /x", "COPY --link settings /x", "COPY --from=b /x /y"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("served", [True, False])
def test_a_key_that_is_that_of_another_step(machines: Machines, tmp_path: Path, kind: str, served: bool) -> None:
    """A record calls the files of one step by the canonical key of another one, which no recipe here has asked for.

    The other recipe must not get these files, neither from the cache nor by the steps that are made on top.
    """
    ours, theirs, last = KINDS[kind]
    recipe, other = (f"FROM {{base}} AS b\n{first}\nFROM {{base}}\n{last}\n" for first in (ours, theirs))
    canonical = cache_of(machines, other, f"other {kind} {served}").record(theirs.partition("\n")[0]).canonical
    cache = cache_of(machines, recipe, f"ours {kind} {served}")
    cache.change(ours.partition("\n")[0], lambda record: replace(record, canonical=canonical))
    if not served:
        cache = without(cache, last)
    machine = machines.new(f"victim {kind} {served}")
    option = cache.write(tmp_path / "cache")
    built(machine, recipe, option)
    assert built(machine, other) == "s\n"


def test_a_key_beside_that_of_the_step(machines: Machines, tmp_path: Path) -> None:
    """A record has the keys of its step, and one of another step on the same layers."""
    other = "FROM {base}\nRUN echo right > /y\n"
    (key,) = cache_of(machines, other, "other step").record("RUN echo right").keys
    recipe = "FROM {base}\nRUN echo wrong > /y\n"
    cache = cache_of(machines, recipe, "this step")
    cache.change("RUN echo wrong", lambda record: with_keys(record, {**record.keys, key: "definition"}))
    machine = machines.new("two keys")
    assert built(machine, recipe, cache.write(tmp_path / "cache")) == "wrong\n"
    assert built(machine, other) == "right\n"


def test_a_linked_copy_with_the_key_of_another_step(machines: Machines, tmp_path: Path) -> None:
    other = "FROM {base}\nRUN echo right > /y\n"
    (key,) = cache_of(machines, other, "other step of link").record("RUN echo right").keys
    recipe = "FROM {base} AS b\nRUN echo wrong > /y\nFROM {base}\nCOPY --link --from=b /y /y\n"
    cache = cache_of(machines, recipe, "step of link")
    cache.change("COPY --link", lambda record: replace(record, canonical=key))
    machine = machines.new("link")
    assert built(machine, recipe, cache.write(tmp_path / "cache")) == "wrong\n"
    assert built(machine, other) == "right\n"
