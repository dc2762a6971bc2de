"""COPY --link: a layer that does not depend on the layers below it, so that it fits on another base."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.solve.cache_keys import definition_key, link_key, stacked_key
from tests.support.archive import built_layers
from tests.support.cli import Pybuild, write_context
from tests.support.recipes import PLATFORM, history, refusal, steps

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.builder.plan.graph import CopyStep


def step(text: str) -> CopyStep:
    return steps(f"FROM base\n{text}")[-1]  # type: ignore[return-value]


# From the recipe


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("COPY --link a /b", True),
        ("COPY --link=false a /b", False),
        ("COPY --link --chown=1:2 a /b", True),
        ("COPY --link --chmod=755 a /b", False),
    ],
)
def test_a_link_copy_is_independent_unless_it_has_a_mode(text: str, link: bool) -> None:
    assert step(text).link is link


@pytest.mark.parametrize("owner", ["app", "1:staff", ":staff"])
def test_an_independent_layer_takes_numeric_owners_only(owner: str) -> None:
    said = refusal(f"FROM base\nCOPY --link --chown={owner} a /b")
    assert said == f"2:21 --chown={owner}: with --link the owner must be a number"


def test_history_does_not_show_link() -> None:
    assert history("FROM base\nCOPY --link --chown=1 a /b") == ["COPY --chown=1 a /b # buildkit"]


def test_a_link_has_another_key_than_a_copy() -> None:
    assert definition_key(step("COPY --link a /b"), PLATFORM, []) != definition_key(step("COPY a /b"), PLATFORM, [])


def test_a_step_on_a_link_copy_depends_on_the_layers_below() -> None:
    link = link_key(step("COPY --link a /b"), PLATFORM, "content").digest
    assert len({stacked_key("a", link), stacked_key("b", link), link}) == 3


# What the layer holds


def test_an_independent_layer_holds_every_copied_file_and_its_parents(pybuild: Pybuild, tmp_path: Path) -> None:
    """The base has /etc, and the second COPY finds its file there already."""
    recipe = "FROM pybuild.test/base\nCOPY --link --chown=3:4 f /etc/x/f\nCOPY --link --chown=3:4 f /etc/x/f\n"
    layers = built_layers(pybuild, write_context(tmp_path / "context", recipe, f="f"), tmp_path)
    owners = {"etc": (0o755, 3, 4), "etc/x": (0o755, 3, 4), "etc/x/f": (0o644, 3, 4)}
    assert [{name: (m.mode, m.uid, m.gid) for name, m in layer.items()} for layer in layers] == [owners, owners]


def test_links_of_the_image_are_not_followed_and_what_is_there_is_replaced(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = (
        "FROM pybuild.test/base\n"
        "RUN mkdir -p /real/d /dir && echo old > /file && ln -s /real /link && touch /real/kept /dir/hidden\n"
        "COPY --link f /link/f\n"
        "COPY --link f /dir\n"
        "COPY --link d /file\n"
        "RUN test -d /link -a ! -L /link -a -f /link/f -a ! -e /link/kept && test -f /dir && test -f /file/in\n"
        "COPY f /dir/again/\n"
    )
    said = pybuild.refused("--network=none", write_context(tmp_path / "context", recipe, f="f", d__in="in"))
    assert 'Buildfile:7:1: error: cannot copy to non-directory: "/dir"' in said


def test_a_link_and_a_copy_with_a_mode_follows(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = "FROM pybuild.test/base\nRUN mkdir /real && ln -s real /link\nCOPY --link --chmod=700 f /link/f\n"
    layers = built_layers(pybuild, write_context(tmp_path / "context", recipe, f="f"), tmp_path)
    assert [name for name in layers[1] if name.endswith("f")] == ["real/f"]


# The cache

BASES = "FROM pybuild.test/base AS made\nRUN echo made > /made\nFROM pybuild.test/base\nARG VERSION\nRUN echo $VERSION > /v\n"
LINKS = {"COPY --link f /d/f", "COPY --link --from=made /made /m", "COPY --link <<EOF /h"}
RECIPE = BASES + "COPY --link f /d/f\nCOPY --link --from=made /made /m\nCOPY --link <<EOF /h\ntext\nEOF\nRUN cat /d/f /m /h\n"


def misses(pybuild: Pybuild, context: Path, version: str, *flags: object) -> tuple[str, set[str]]:
    arguments = ("--network=none", "--progress=json", f"--build-arg=VERSION={version}", *flags, context)
    done = pybuild(*arguments)
    return done.out.strip(), {step for step, cached in done.finished().items() if not cached}


def test_a_changed_base_keeps_the_layer(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", RECIPE, f="f")
    first, _ = misses(pybuild, context, "1")
    second, ran = misses(pybuild, context, "2")
    assert ran == {"RUN echo $VERSION > /v", "RUN cat /d/f /m /h"}
    assert misses(pybuild, context, "1") == (first, set())
    assert misses(pybuild, context, "2") == (second, set())
    assert first != second


def test_the_layer_is_the_same_on_another_base(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", RECIPE, f="f")
    names = []
    for version in "12":
        output = tmp_path / f"{version}.tar"
        misses(pybuild, context, version, "-o", f"type=oci,dest={output}")
        with tarfile.open(output) as tar:
            names.append({member.name for member in tar if "sha256/" in member.name})
    # All blobs except manifest, config, and the layers of the two RUNs that differ.
    assert len(names[0] - names[1]) == 3


def test_other_content_misses_on_every_base(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", RECIPE, f="f")
    misses(pybuild, context, "1")
    (context / "f").write_text("other")
    _, ran = misses(pybuild, context, "1")
    assert ran == {"COPY --link f /d/f", "RUN cat /d/f /m /h"}


def test_the_same_files_copied_by_another_text_hit(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nCOPY --link f /x\nRUN true\n", f="f")
    misses(pybuild, context, "1")
    write_context(context, "FROM scratch AS s\nCOPY f /y\nFROM pybuild.test/base\nCOPY --link --from=s y /x\nRUN true\n")
    _, ran = misses(pybuild, context, "1")
    assert ran == {"COPY f /y"}


def test_no_cache_makes_the_layer_again(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", RECIPE, f="f")
    misses(pybuild, context, "1")
    _, ran = misses(pybuild, context, "1", "--no-cache")
    assert ran >= LINKS


def test_a_link_copy_works_on_scratch(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = "FROM scratch\nCOPY --link f /a/\nCOPY --link --exclude=x d /a/d\n"
    layers = built_layers(pybuild, write_context(tmp_path / "context", recipe, f="f", d__x="", d__y=""), tmp_path)
    assert [sorted(layer) for layer in layers] == [["a", "a/d", "a/d/y"]]
