"""pybuild why: which steps of a build were not cached, and why."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from pybuild.builder.solve.explain_files import why as explain_steps
from pybuild.builder.solve.explain_miss import listed_steps
from pybuild.commands.chosen_build import chosen_build
from pybuild.report import printable
from pybuild.store.objects.builds import Outcome
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.misses import ExplainedMiss
    from pybuild.store.objects.builds import BuiltStep, StoredBuild

_MAX_FILES = 10  # per step
_MAX_TEXT = 100  # characters of an instruction on one line


@click.command()
@click.argument("build", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the builds that the store remembers, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all files.")
@click.pass_obj
def why(root: str, build: str | None, as_list: bool, as_json: bool) -> int:
    """Explain why steps of a build were not cached.

    BUILD is the id of a build, the beginning or end of one, or the name or digest of an image; without it, or with
    `last`, it is the last build. Each step is compared with
    the most similar step of an earlier build or of a cache that the build was given; the first difference decides. Values of variables whose names look like
    secrets are not shown. The store remembers the last 100 builds.
    """
    with Store(root, Access.READ) as store:
        builds = store.builds.all()
        if as_list:
            for known in reversed(builds):
                if not known.cache:
                    click.echo(_build_line(known))
            return 0
        name = chosen_build(store, store.builds.ids(), build, "why")
        chosen = next(known for known in builds if known.id == name)
        found = explain_steps(store, chosen, builds)
    if as_json:
        fields = {"build": chosen.id, "recipe": chosen.recipe, "steps": [_step_fields(step) for step in found]}
        click.echo(json.dumps(fields))
        return 0
    for line in report_lines(chosen, found):
        click.echo(line)
    return 0


def explain_build(store: Store, build: str) -> None:
    """Print on standard error what `pybuild why` says about a build that has just ended; nothing if it had no steps."""
    builds = store.builds.all()
    chosen = next((known for known in builds if known.id == build), None)
    if chosen is None:
        return
    for line in report_lines(chosen, explain_steps(store, chosen, builds)):
        click.echo(line, err=True)


def report_lines(build: StoredBuild, found: Sequence[ExplainedMiss]) -> Iterator[str]:
    """The explanation of a whole build, as text."""
    steps = listed_steps(build)
    cached = sum(step.outcome is Outcome.CACHED for step in steps)
    yield printable(
        f"build {build.id} of {_recipe_path(build.recipe)}: {len(steps) - cached} of {len(steps)} steps not cached"
    )
    for step in found:
        miss = step.miss
        yield ""
        end = "" if miss.step.outcome is Outcome.RAN else f"  ({miss.step.outcome.value})"
        yield printable(f"{_recipe_path(build.recipe)}:{miss.step.line}: {_step_text(miss.step)}") + end
        for cause in miss.causes:
            yield f"    {printable(cause)}"
        yield from (f"    {line}" for line in _file_lines(step))
        if miss.earlier is not None:
            earlier = miss.earlier.build
            yield f"    compared with {printable(f'the cache {earlier.cache}') if earlier.cache else f'build {earlier.id}'}"


def one_line(recipe: str, step: ExplainedMiss) -> str:
    """A step and why it is not cached, in one line."""
    causes = [printable(cause) for cause in (*step.miss.causes, *_file_lines(step))]
    return printable(f"{recipe}:{step.miss.step.line}: {_step_text(step.miss.step)}: ") + "; ".join(causes)


def _step_text(step: BuiltStep) -> str:
    """The instruction, after its platform in a build for several."""
    platform = f"[{step.platform}] " if step.platform else ""
    return platform + _cut(step.instruction)


def _step_fields(step: ExplainedMiss) -> dict[str, object]:
    miss = step.miss
    files = None if step.files is None else [{"path": os.fsdecode(path), "how": how} for path, how in step.files]
    return {
        "node": miss.step.node, "stage": miss.step.stage, "number": miss.step.number, "line": miss.step.line,
        "instruction": miss.step.instruction, "outcome": miss.step.outcome.value, "causes": list(miss.causes),
        **({"platform": miss.step.platform} if miss.step.platform else {}),
        "files": files, "compared_with": None if miss.earlier is None else miss.earlier.build.id,
    }  # fmt: skip


def _file_lines(step: ExplainedMiss) -> Iterator[str]:
    if step.files is None:
        yield "other files; the store no longer knows which"
        return
    for path, how in step.files[:_MAX_FILES]:
        yield printable(f"/{os.fsdecode(path)}: {how}")
    if len(step.files) > _MAX_FILES:
        yield f"and {len(step.files) - _MAX_FILES} more files"


def _build_line(build: StoredBuild) -> str:
    steps = listed_steps(build)
    cached = sum(step.outcome is Outcome.CACHED for step in steps)
    result = build.manifest[:19] or "failed"
    target = f" --target {build.target}" if build.target else ""
    return printable(f"{build.id}  {result:<19}  {cached}/{len(steps)} cached  {_recipe_path(build.recipe)}{target}")


def _recipe_path(recipe: str) -> str:
    """The path of a recipe, relative if it is below the working directory."""
    relative = os.path.relpath(recipe) if os.path.isabs(recipe) else recipe
    return recipe if relative.startswith("../") else relative


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
