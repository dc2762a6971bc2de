"""pybuild why: which steps of a build were not cached, and what made the difference."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from pybuild.builder.solve.explain_files import why as explained
from pybuild.builder.solve.explain_miss import told_of
from pybuild.report import visible
from pybuild.store.objects.builds import Outcome
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.misses import ExplainedMiss
    from pybuild.store.objects.builds import StoredBuild

_FILES = 10  # as many are listed
_TEXT = 100  # characters of an instruction that a line has room for


@click.command()
@click.argument("build", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the builds that are remembered, the last one first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; all files are in it.")
@click.pass_obj
def why(root: str, build: str | None, as_list: bool, as_json: bool) -> int:
    """Tell why the steps of a BUILD were not served from the cache: of the last one, unless an id says otherwise.

    Each step is compared with the nearest one of an earlier build; the first difference decides. Values of variables whose
    names sound like a secret are not shown. The last 100 builds are remembered.
    """
    with Store(root) as store:
        builds = store.builds.all()
        if as_list:
            for known in reversed(builds):
                click.echo(_line(known))
            return 0
        name = store.builds.find(build)
        chosen = next(known for known in builds if known.id == name)
        found = explained(store, chosen, builds)
    if as_json:
        fields = {"build": chosen.id, "recipe": chosen.recipe, "steps": [_step_fields(step) for step in found]}
        click.echo(json.dumps(fields))
        return 0
    for line in report_lines(chosen, found):
        click.echo(line)
    return 0


def explain_build(store: Store, build: str) -> None:
    """What `pybuild why` would say of a build that has just ended, on standard error. It may have ended before its steps."""
    builds = store.builds.all()
    chosen = next((known for known in builds if known.id == build), None)
    if chosen is None:
        return
    for line in report_lines(chosen, explained(store, chosen, builds)):
        click.echo(line, err=True)


def report_lines(build: StoredBuild, found: Sequence[ExplainedMiss]) -> Iterator[str]:
    """All of it, for people."""
    steps = told_of(build)
    cached = sum(step.outcome is Outcome.CACHED for step in steps)
    yield visible(f"build {build.id} of {_place(build.recipe)}: {len(steps) - cached} of {len(steps)} steps not cached")
    for step in found:
        miss = step.miss
        yield ""
        end = "" if miss.step.outcome is Outcome.RAN else f"  ({miss.step.outcome.value})"
        yield visible(f"{_place(build.recipe)}:{miss.step.line}: {_cut(miss.step.instruction)}") + end
        for cause in miss.causes:
            yield f"    {visible(cause)}"
        yield from (f"    {line}" for line in _file_lines(step))
        if miss.earlier is not None:
            yield f"    compared with build {miss.earlier.build.id}"


def one_line(recipe: str, step: ExplainedMiss) -> str:
    """A step and why, in a line."""
    causes = [visible(cause) for cause in (*step.miss.causes, *_file_lines(step))]
    return visible(f"{recipe}:{step.miss.step.line}: {_cut(step.miss.step.instruction)}: ") + "; ".join(causes)


def _step_fields(step: ExplainedMiss) -> dict[str, object]:
    miss = step.miss
    files = None if step.files is None else [{"path": os.fsdecode(path), "how": how} for path, how in step.files]
    return {
        "node": miss.step.node, "stage": miss.step.stage, "number": miss.step.number, "line": miss.step.line,
        "instruction": miss.step.instruction, "outcome": miss.step.outcome.value, "causes": list(miss.causes),
        "files": files, "compared_with": None if miss.earlier is None else miss.earlier.build.id,
    }  # fmt: skip


def _file_lines(step: ExplainedMiss) -> Iterator[str]:
    if step.files is None:
        yield "other files; which ones is not known any more"
        return
    for path, how in step.files[:_FILES]:
        yield visible(f"/{os.fsdecode(path)}: {how}")
    if len(step.files) > _FILES:
        yield f"and {len(step.files) - _FILES} more files"


def _line(build: StoredBuild) -> str:
    steps = told_of(build)
    cached = sum(step.outcome is Outcome.CACHED for step in steps)
    what = build.manifest[:19] or "failed"
    target = f" --target {build.target}" if build.target else ""
    return visible(f"{build.id}  {what:<19}  {cached}/{len(steps)} cached  {_place(build.recipe)}{target}")


def _place(recipe: str) -> str:
    """A recipe as somebody here would name it."""
    near = os.path.relpath(recipe) if os.path.isabs(recipe) else recipe
    return recipe if near.startswith("../") else near


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
