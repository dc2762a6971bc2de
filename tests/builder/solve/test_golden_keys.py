"""The cache keys of recipes that use every flag and every kind of step, compared with fixtures/golden_keys.json.

A key that changes makes every record of every user's store a miss. A new field of a parser or plan value can do that
unseen: this test shows it. Write the file again in two cases only:

* `_VERSION` in builder/solve/cache_keys.py changed in the same commit, because steps now make something else from the same
  inputs;
* the recipes below changed. Then the difference must not touch the keys of the other recipes.

To write it: `.venv/bin/python -m tests.builder.solve.test_golden_keys`
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pybuild.builder.options import Entitlement, Network
from pybuild.builder.plan.graph import BaseStep, CopyStep, FilesMount, Node, Plan, PlannedCacheMount, RunStep
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import ContextFiles, resolve
from pybuild.builder.plan.unsupported import REFUSED
from pybuild.builder.solve.cache_keys import (
    SCRATCH,
    Key,
    base_key,
    content_key,
    definition_key,
    link_key,
    mounting_key,
    stacked_key,
)
from pybuild.parser import parse
from pybuild.parser.flags import FLAGS
from pybuild.store.formats.oci_config import ExecConfig, chain_id
from pybuild.store.formats.platform import Platform
from pybuild.store.objects.images import StoredImage
from tests.support.fields import flags_of
from tests.support.recipes import Images, image, options

GOLDEN = Path(__file__).parents[3] / "fixtures" / "golden_keys.json"
WRITE = ".venv/bin/python -m tests.builder.solve.test_golden_keys"
CHANGED = "a key has changed, so every user runs this step again: see the docstring of this file"
SHA256 = "sha256:" + "1" * 64
COMMIT = "2" * 40


@dataclass
class Recipe:
    """A recipe, and the options of its build."""

    text: str
    options: dict[str, object] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()  # ONBUILD of the image `base`
    contexts: dict[str, StoredImage | ContextFiles] = field(default_factory=dict)
    context_identity: str = ""  # of the main context, if it never changes

    def main(self) -> ContextFiles:
        return ContextFiles("", self.context_identity)

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        return self.contexts.get(name)

    def plan(self) -> Plan:
        config = ExecConfig(env=("FROM_BASE=1",), user="app", working_dir="/srv", on_build=self.triggers)
        images = Images({"base": image(config), "other": image(layers=2), "linux/arm64 base": image(layers=3)})
        chosen = options(**self.options)
        return plan(resolve(parse(self.text), chosen, images, contexts=self), chosen)


RECIPES = {
    # FROM
    "FROM an image": Recipe("FROM base\nRUN x"),
    "FROM scratch": Recipe("FROM scratch\nCOPY a /b"),
    "FROM a stage": Recipe("FROM base AS a\nRUN x\nFROM a\nRUN y"),
    "FROM with --platform": Recipe("FROM --platform=linux/arm64 base\nRUN x"),
    "FROM a named context of files": Recipe("FROM files\nRUN x", contexts={"files": ContextFiles("files")}),
    "FROM a named context that is an image": Recipe("FROM files\nRUN x", contexts={"files": image(layers=2)}),
    "the platform of the build": Recipe("FROM scratch\nCOPY a /b\nRUN x", {"platform": Platform("linux", "arm", "v7")}),
    "ONBUILD": Recipe("FROM base\nRUN own", triggers=("ARG A=1", "COPY a .", "RUN trigger")),
    # Config and variables
    "ARG and ENV": Recipe("ARG G=g\nFROM base\nARG G\nARG A=a N\nENV E=$A F='2 3'\nRUN x", {"build_args": {"A": "b"}}),
    "SHELL, USER and WORKDIR": Recipe('FROM base\nSHELL ["/bin/ash", "-e"]\nUSER u:g\nWORKDIR w\nRUN x'),
    "WORKDIR at the root": Recipe("FROM base\nWORKDIR /\nRUN x"),
    "instructions that only change the config": Recipe(
        'FROM base\nLABEL a=b\nCMD x\nENTRYPOINT ["y"]\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK CMD z\n'
        "MAINTAINER m\nONBUILD RUN later\nRUN x"
    ),
    # RUN
    "RUN in exec form": Recipe('FROM base\nRUN ["a", "b c"]'),
    "RUN of a heredoc": Recipe("FROM base\nRUN <<E\na\nE"),
    "RUN of a heredoc that is a program": Recipe("FROM base\nRUN <<-E\n#!/bin/awk\n\tx\n\tE"),
    "RUN --network=none": Recipe("FROM base\nRUN --network=none x"),
    "RUN --network=host": Recipe("FROM base\nRUN --network=host x", {"allow": frozenset(Entitlement)}),
    "RUN --security=insecure": Recipe("FROM base\nRUN --security=insecure x", {"allow": frozenset(Entitlement)}),
    "the network of the build": Recipe("FROM base\nRUN x", {"network": Network.NONE}),
    "--add-host": Recipe("FROM base\nRUN x", {"hosts": (("b", "10.0.0.2"), ("a", "10.0.0.1"))}),
    "the host name of the build": Recipe("FROM base\nRUN x", {"hostname": "h"}),
    "a proxy": Recipe("FROM base\nRUN x", {"build_args": {"http_proxy": "http://proxy"}}),
    "RUN --mount=type=tmpfs": Recipe("FROM base\nRUN --mount=type=tmpfs,target=t,size=1m,ro x"),
    "RUN --mount=type=secret": Recipe("FROM base\nRUN --mount=type=secret,id=s x"),
    "RUN --mount=type=secret with all options": Recipe(
        "FROM base\nRUN --mount=type=secret,id=s,target=/t,env=S,required,mode=0440,uid=1,gid=2 x"
    ),
    "RUN --mount=type=ssh": Recipe("FROM base\nRUN --mount=type=ssh x"),
    "RUN --mount=type=ssh with all options": Recipe(
        "FROM base\nRUN --mount=type=ssh,id=k,target=/t,required,mode=0640,uid=1,gid=2 x"
    ),
    "RUN --mount=type=cache": Recipe("FROM base\nRUN --mount=type=cache,target=/c x"),
    "RUN --mount=type=cache with all options": Recipe(
        "FROM other AS o\nFROM base\n"
        "RUN --mount=type=cache,target=/c,id=i,sharing=locked,from=o,source=/s,ro,mode=0700,uid=1,gid=2 x",
        {"build_args": {"BUILDKIT_CACHE_MOUNT_NS": "n"}},
    ),
    "RUN --mount=type=bind of the context": Recipe(
        "FROM base\nRUN --mount=target=/a --mount=type=bind,target=b,source=s,rw x"
    ),
    "RUN --mount=type=bind of an image": Recipe("FROM base\nRUN --mount=type=bind,from=other,source=/s,target=/t x"),
    "RUN --mount=type=bind of a stage": Recipe(
        "FROM base AS a\nRUN x\nFROM base\nRUN --mount=type=bind,from=a,source=/s,target=/t y"
    ),
    "RUN with several mounts": Recipe(
        "FROM base\nRUN --mount=type=tmpfs,target=/a --mount=type=cache,target=/b --mount=type=bind,target=/c x"
    ),
    # COPY
    "COPY": Recipe("FROM base\nCOPY a b c/"),
    "COPY --chown --chmod": Recipe("FROM base\nCOPY --chown=u:g --chmod=0750 a /b"),
    "COPY --chmod with symbols": Recipe("FROM base\nCOPY --chmod=u=rw,go+X a /b"),
    "COPY --exclude --parents": Recipe("FROM base\nCOPY --exclude=*.o --exclude=x --parents a/./b* /c/"),
    "COPY --link": Recipe("FROM base\nCOPY --link --chown=1:2 a /b"),
    "COPY --from a stage": Recipe("FROM base AS a\nRUN x\nFROM base\nCOPY --from=a /f /t"),
    "COPY --from an empty stage": Recipe("FROM scratch AS a\nFROM base\nCOPY --from=a /f /t"),
    "COPY --from an image": Recipe("FROM base\nCOPY --from=other /f /t"),
    "COPY --from --link": Recipe("FROM base AS a\nRUN x\nFROM base\nCOPY --link --from=a /f /t"),
    "COPY --from a named context": Recipe(
        "FROM base\nCOPY --from=files f /t", contexts={"files": ContextFiles("files")}
    ),
    "COPY --from a named context that never changes": Recipe(
        "FROM base\nCOPY --from=files f /t", contexts={"files": ContextFiles("files", f"git {COMMIT}")}
    ),
    "COPY of a context that never changes": Recipe("FROM base\nCOPY a /b", context_identity=f"git {COMMIT}"),
    "COPY of heredocs": Recipe("FROM base\nARG A=1\nCOPY <<E <<-'F' /d/\n$A\nE\n\t$A\n\tF"),
    # ADD
    "ADD": Recipe("FROM base\nADD a.tar /b/"),
    "ADD --unpack=false": Recipe("FROM base\nADD --unpack=false a.tar /b/"),
    "ADD with the flags of COPY": Recipe("FROM base\nADD --chown=1:2 --chmod=700 --exclude=x --link a /b"),
    "ADD of a URL": Recipe("FROM base\nADD https://example.org/f /d/"),
    "ADD of a URL with all options": Recipe(
        f"FROM base\nADD --checksum={SHA256} --unpack=true --chown=1:2 --chmod=600 https://example.org/f.tar /d/"
    ),
    "ADD of a repository": Recipe("FROM base\nADD https://example.org/r.git#v1:sub /d/"),
    "ADD of a repository with all options": Recipe(
        f"FROM base\nADD --keep-git-dir=true --checksum={COMMIT} --link https://example.org/r.git#v1 /d/"
    ),
    "ADD of files and a URL": Recipe("FROM base\nADD a https://example.org/f /d/"),
}


def keys_of(plan: Plan, node: Node) -> dict[str, Key]:
    """All keys under which the result of a step can be found. Each key of an input is the text of its node."""
    step = node.step
    assert not isinstance(step, BaseStep)
    parent, *sources = (
        SCRATCH if one is None else f"key of {plan.nodes[one].text}" for one in (node.parent, *node.sources)
    )
    if isinstance(step, CopyStep):
        sources += [f"identity of {source.redacted}" for _, source in step.remote]
    inputs = sources if isinstance(step, CopyStep) and step.link else [parent, *sources]
    keys = {"definition": definition_key(step, node.platform, inputs)}
    if isinstance(step, CopyStep):
        if step.link:
            keys["link"] = link_key(step, node.platform, "content")
        else:
            keys["content"] = content_key(step, node.platform, parent, "content")
    if isinstance(step, RunStep):
        mounts = [mount for mount in step.mounts if isinstance(mount, FilesMount | PlannedCacheMount)]
        contents = [f"content of {mount.target}" for mount in mounts if mount.source is not None]
        if contents:
            keys["content"] = mounting_key(step, node.platform, parent, contents)
    return keys


def found_keys(recipe: Recipe) -> list[dict[str, object]]:
    """The keys of all steps of a recipe, as they are in the file."""
    result = recipe.plan()
    return [
        {"step": node.text, "kind": kind, "digest": key.digest, "inputs": json.loads(key.inputs)}
        for node in result.nodes
        if not isinstance(node.step, BaseStep)
        for kind, key in keys_of(result, node).items()
    ]


def keys_without_steps() -> dict[str, str]:
    """The keys that no step has: of the layers of an image, and of a --link layer on top of others."""
    return {
        "an image": base_key(str(chain_id(image(layers=2).config.diff_ids))),
        "a layer of COPY --link": stacked_key("key of the step below", "key of the layer"),
    }


def test_every_recipe_has_its_keys_in_the_file() -> None:
    stored = json.loads(GOLDEN.read_text())
    names = [*keys_without_steps(), *RECIPES]
    assert not set(names) - set(stored), f"new recipe: run {WRITE}"
    assert list(stored) == names, f"a recipe was removed, renamed or moved: run {WRITE}"


def planned(recipe: Recipe) -> list[tuple[object, ...]]:
    """What a recipe does, without the places of its words."""
    return [(node.step, node.platform, node.parent, node.sources) for node in recipe.plan().nodes]


FLAGS_OF_STEPS = [
    (keyword, name)
    for keyword in ("FROM", "RUN", "COPY", "ADD")
    for name in FLAGS[keyword]
    if (keyword, name) not in REFUSED
]


@pytest.mark.parametrize(("keyword", "name"), FLAGS_OF_STEPS, ids=str)
def test_every_flag_is_in_a_recipe_and_changes_a_step(keyword: str, name: str) -> None:
    recipes = [recipe for recipe in RECIPES.values() if (keyword, name) in flags_of(parse(recipe.text))]
    assert recipes, f"{keyword} --{name}: add a recipe to RECIPES, then run {WRITE}"
    without = [replace(recipe, text=re.sub(rf" --{name}(=\S+)?(?= )", "", recipe.text)) for recipe in recipes]
    changes = any(planned(recipe) != planned(other) for recipe, other in zip(recipes, without, strict=True))
    assert changes, f"{keyword} --{name}: the planner does not put it into the step"


@pytest.mark.parametrize("name", RECIPES)
def test_the_keys_of_a_recipe_have_not_changed(name: str) -> None:
    stored = json.loads(GOLDEN.read_text()).get(name)
    assert stored is not None, f"new recipe: run {WRITE}"
    assert found_keys(RECIPES[name]) == stored, CHANGED


def test_the_keys_of_layers_have_not_changed() -> None:
    stored = json.loads(GOLDEN.read_text())
    assert keys_without_steps() == {name: stored.get(name) for name in keys_without_steps()}, CHANGED


def dump() -> str:
    """The file: two lines a key, so that a difference can be read."""
    parts = [f" {json.dumps(name)}: {json.dumps(digest)}" for name, digest in keys_without_steps().items()]
    for name, recipe in RECIPES.items():
        lines = [json.dumps(key).replace(', "inputs": ', ',\n   "inputs": ', 1) for key in found_keys(recipe)]
        parts.append(f" {json.dumps(name)}: [\n  " + ",\n  ".join(lines) + "\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    GOLDEN.write_text(dump())
