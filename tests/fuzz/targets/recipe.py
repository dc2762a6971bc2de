"""The text of a recipe: parsing it, replacing its variables, storing it in the cache of parses, and planning it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fixtures.make_golden import RECIPES
from pybuild.builder.errors import PlanError
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.parser import ParseError, parse
from pybuild.parser.serial import from_json, to_json
from tests.fuzz.target import FuzzTarget, check_refusal
from tests.support.parsed import PIECES, check_place, use
from tests.support.recipes import image, options

if TYPE_CHECKING:
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage


class AnyImage:
    """Has an image of each name."""

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        return image()


def read(data: bytes) -> bool:
    """A recipe survives the cache, an error of parser and planner has a place in the text, and plans are reproducible."""
    try:
        recipe = parse(data)
    except ParseError as error:
        check_place(error)
        return check_refusal(error)
    assert from_json(to_json(recipe), recipe.source) == recipe
    use(recipe)
    chosen = options()
    try:
        found = plan(resolve(recipe, chosen, AnyImage()), chosen)
    except PlanError as error:
        check_place(error.at(source=recipe.source))
        return check_refusal(error)
    assert plan(resolve(recipe, chosen, AnyImage()), chosen) == found
    for node in found.nodes:
        assert all(below < node.id for below in (node.parent, *node.sources) if below is not None)
    return True


TARGET = FuzzTarget(
    read, seeds=tuple(path.read_bytes() for path in sorted(RECIPES.glob("*.Buildfile"))), words=tuple(PIECES)
)
