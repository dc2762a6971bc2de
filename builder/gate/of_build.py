"""Holding the image of a build to rules, before it gets a name or leaves this machine."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from pybuild.builder.gate.judge import RulesBroken, judge_all
from pybuild.builder.gate.stored import readable
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.store.objects.indexes import digest_of, images_of

if TYPE_CHECKING:
    from pybuild.builder.gate.rules import ImageRules
    from pybuild.builder.session import Session
    from pybuild.store.objects.indexes import Stored


def hold_to_rules(session: Session, built: Stored, rules: ImageRules) -> None:
    """Report what the images break; raise RulesBroken if that is anything. They stay in the store until gc."""
    images = images_of(built)
    found = judge_all(
        [readable(session.store, image, lambda: nullcontext(LayerFetcher.of(session))) for image in images], rules
    )
    for one in found:
        session.observe(one)
    if found:
        kept = f"it is kept without a name until pybuild gc: pybuild history --files {digest_of(built)} shows it"
        raise RulesBroken(found, hint=kept)
