"""Holding an image to rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import RuleBroken
from pybuild.builder.gate import files, secrets, sizes, users
from pybuild.builder.gate.rules import in_order
from pybuild.builder.gate.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pybuild.builder.gate.rules import ImageRules
    from pybuild.store.importing.archived import ReadableImage

MOST_OF_ONE_RULE = 200  # findings; an image can have a million files that belong to nobody
_FROM_TABLES = frozenset(
    ("max-waste", "setuid", "setgid", "capabilities", "world-writable", "devices", "package-caches")
)


class RulesBroken(BuildError):
    """An image breaks rules. `findings` are reported before this is raised."""

    def __init__(self, findings: Sequence[RuleBroken], *, hint: str | None = None) -> None:
        names = list(dict.fromkeys(one.rule for one in findings))
        rules = "a rule" if len(names) == 1 else f"{len(names)} rules"
        super().__init__(f"the image breaks {rules}: {', '.join(names)}", hint=hint)
        self.findings = tuple(findings)


def judge(image: ReadableImage, rules: ImageRules) -> list[RuleBroken]:
    """What the image breaks, in the order of the rules; of each rule at most MOST_OF_ONE_RULE findings and their number.

    Layers are read only if a rule needs them, and the content of files only for secrets and accounts. Raises StoreError.
    """
    subject, asked, allowed = Subject(image), rules.asked, rules.allowances()
    found: list[Iterable[RuleBroken]] = [sizes.broken_sizes(subject, rules), users.broken_by_user(subject, rules)]
    if "secrets" in asked:
        found.append(secrets.secrets_in_config(subject, allowed))
    if not (_FROM_TABLES | users.NEED_FILES | {"secrets"}).isdisjoint(asked):
        tables = image.tables()
        found.append(sizes.broken_waste(subject, rules, tables, allowed))
        found.append(files.broken_by_files(subject, asked, tables, allowed))
        if "package-caches" in asked:
            found.append(files.broken_by_caches(subject, tables, allowed))
        if not users.NEED_FILES.isdisjoint(asked):
            found.append(users.broken_by_accounts(subject, asked, tables, allowed))
        if "secrets" in asked:
            found.append(secrets.secrets_in_layers(subject, tables, allowed))
    return in_order(list(_limited(chain.from_iterable(found))))


def judge_all(images: Sequence[ReadableImage], rules: ImageRules) -> list[RuleBroken]:
    """What the images of an index break; of several, each text begins with the platform. Raises StoreError."""
    if len(images) == 1:
        return judge(images[0], rules)
    return [
        replace(one, text=f"{image.config.platform}: {one.text}") for image in images for one in judge(image, rules)
    ]


def _limited(found: Iterable[RuleBroken]) -> Iterator[RuleBroken]:
    counts: Counter[str] = Counter()
    for one in found:
        counts[one.rule] += 1
        if counts[one.rule] <= MOST_OF_ONE_RULE:
            yield one
    for rule, count in counts.items():
        if count > MOST_OF_ONE_RULE:
            yield RuleBroken(rule, f"and {count - MOST_OF_ONE_RULE} more findings of this rule")
