"""Build, change one thing, build again: what hits and what misses, by real builds."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pybuild.store.store import Store
from tests.support.cli import Pybuild, copy_store, write_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SRC, COMPILE, WORKDIR, CONF = "COPY src /src/", "RUN cat /src/main > /out", "WORKDIR /app", "COPY *.conf /etc/app/"
FROM_STAGE, RUN = "COPY --from=build /out /app/out", "RUN cat out > /tmp/final"
RECIPE = f"""\
FROM pybuild.test/base AS build
{SRC}
{COMPILE}
FROM pybuild.test/base
ENV MODE=fast
{WORKDIR}
{CONF}
{FROM_STAGE}
{RUN}
"""
FILES = {
    "src__main": "main", "src__other": "other", "src__junk": "junk", "a.conf": "a", "b.conf": "b", "notes": "n",
    ".dockerignore": "src/junk\n",
}  # fmt: skip
FINAL = {WORKDIR, CONF, FROM_STAGE, RUN}
TIME = 1_600_000_000


@dataclass
class Scene:
    """A store in which the recipe was built once, and a moved copy of the context it was built from."""

    pybuild: Pybuild
    context: Path
    digest: str

    def recipe(self, *changes: tuple[str, str]) -> None:
        path = self.context / "Buildfile"
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    def write(self, name: str, text: str) -> None:
        """Write new content, with the modification time that all files have."""
        (self.context / name).write_text(text)
        os.utime(self.context / name, (TIME, TIME))

    def build(self, *flags: str) -> tuple[str, set[str]]:
        """Build; return the digest and the steps that were not cached."""
        done = self.pybuild("--network=none", "--progress=json", *flags, self.context)
        return done.out.strip(), {step for step, cached in done.finished().items() if not cached}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Scene:
    """The first build. Tests use copies of it."""
    place = tmp_path_factory.mktemp("first")
    copy_store(store_with_base, place / "store")
    context = write_context(place / "context", RECIPE, **FILES)
    for path in context.rglob("*"):
        os.utime(path, (TIME, TIME))
    scene = Scene(Pybuild(place / "store"), context, "")
    scene.digest, misses = scene.build("-t", "app")
    assert misses == {SRC, COMPILE, *FINAL}
    return scene


@pytest.fixture
def scene(built: Scene, tmp_path: Path) -> Scene:
    copy_store(built.pybuild.root, tmp_path / "store")
    subprocess.run(["cp", "-a", built.context, tmp_path / "context"], check=True)
    return Scene(Pybuild(tmp_path / "store"), tmp_path / "context", built.digest)


def nothing(_scene: Scene) -> None:
    pass


def touch(scene: Scene) -> None:
    for path in scene.context.rglob("*"):
        os.utime(path)


def write_the_same_again(scene: Scene) -> None:
    for name in ("src/main", "a.conf"):
        path = scene.context / name
        text = path.read_text()
        path.unlink()
        path.write_text(text)


def swap_for_a_link(scene: Scene) -> None:
    (scene.context / "src").rename(scene.context / "real")
    (scene.context / "src").symlink_to("real")
    (scene.context / ".dockerignore").write_text("real/junk\n")


def name_all_stages(scene: Scene) -> None:
    scene.recipe(("AS build", "AS compile"), ("FROM pybuild.test/base\nENV", "FROM pybuild.test/base AS app\nENV"))
    scene.recipe(("--from=build", "--from=compile"))


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        pytest.param(nothing, (), id="nothing"),
        pytest.param(touch, (), id="E65 times of all files"),
        pytest.param(write_the_same_again, (), id="E65 files written again, with the same content"),
        pytest.param(swap_for_a_link, (), id="E38 a source that is a link now"),
        pytest.param(lambda s: s.write("src/junk", "more junk"), (), id="E55 a file that is ignored"),
        pytest.param(lambda s: s.write("notes", "more"), (), id="a file that is not copied"),
        pytest.param(lambda s: s.write("c.txt", "new"), (), id="E67 a new file that no pattern matches"),
        pytest.param(lambda s: os.chown(s.context / "src/main", 7, 8), (), id="E42 owner of a file of the context"),
        pytest.param(lambda s: s.recipe((RUN, f"# why\n{RUN}")), (), id="a comment"),
        pytest.param(lambda s: s.recipe((COMPILE, f"# why\n{COMPILE}")), (), id="a comment in another stage"),
        pytest.param(lambda s: (s.context / "src/junk").unlink(), (), id="E55 a file that was ignored and is gone"),
        pytest.param(lambda s: s.write(".dockerignore", "# other\nsrc/junk\nnothing\n"), (), id="E54 an ignore file with the same meaning"),
        pytest.param(lambda s: s.recipe((FROM_STAGE, f"ARG A=1\n{FROM_STAGE}"), (RUN, "")), (), id="E21 an ARG with a value before a COPY"),
        pytest.param(lambda s: s.recipe((RUN, f"{RUN}\nENV A=1 MODE=slow\nUSER app\nLABEL a=b")), (), id="ENV, USER and LABEL after the last step"),
        pytest.param(lambda s: s.recipe(("ENV MODE=fast", "ENV MODE=slow\nENV MODE=fast")), (), id="ENV set twice, with the old value last"),
        pytest.param(lambda s: s.recipe((WORKDIR, "WORKDIR /app/../app/")), (), id="a WORKDIR written in another way"),
        pytest.param(nothing, ("--build-arg", "NO_PROXY=a", "--build-arg", "https_proxy=b"), id="E66 more proxies"),
        pytest.param(lambda s: s.recipe(("COPY src", "copy    src")), (), id="how an instruction is written"),
        pytest.param(name_all_stages, (), id="the name of a stage"),
        pytest.param(lambda s: s.recipe((RUN, f"{RUN}\nCMD x")), (), id="config after the last step"),
        pytest.param(lambda s: s.recipe((RUN, f"ARG A\n{RUN}")), (), id="E21 an ARG without a value"),
        pytest.param(nothing, ("--build-arg", "A=1"), id="E20 a build argument without an ARG"),
        pytest.param(nothing, ("--build-arg", "HTTP_PROXY=http://proxy:1"), id="E66 a proxy"),
        pytest.param(nothing, ("--label", "a=b"), id="a label"),
    ],
)  # fmt: skip
def test_a_change_without_effect_is_served_from_the_cache(
    scene: Scene, change: Callable[[Scene], object], flags: tuple[str, ...]
) -> None:
    change(scene)
    assert scene.build(*flags)[1] == set()


def test_a_rebuild_gives_the_same_image(scene: Scene) -> None:
    touch(scene)
    assert scene.build() == (scene.digest, set())


OTHER_COMPILE = "RUN cp /src/main /out"
OTHER_WORKDIR = {"WORKDIR /srv/app", CONF, "COPY --from=build /out /srv/app/out", RUN}


def order_of_env(scene: Scene) -> None:
    scene.recipe((RUN, "ENV A=1\nENV B=2\nRUN true"))
    scene.build()
    scene.recipe(("ENV A=1\nENV B=2", "ENV B=2\nENV A=1"))


def swap(scene: Scene, name: str, link: str) -> None:
    (scene.context / name).unlink()
    (scene.context / name).symlink_to(link)


@pytest.mark.parametrize(
    ("change", "flags", "misses"),
    [
        pytest.param(
            lambda s: s.write("src/main", "MAIN"), (), {SRC, COMPILE, FROM_STAGE, RUN}, id="content, size and time as before"
        ),
        pytest.param(lambda s: s.write("src/other", "OTHER"), (), {SRC, COMPILE}, id="content that the result does not show"),
        pytest.param(lambda s: (s.context / "src/main").chmod(0o600), (), {SRC, COMPILE}, id="E65 mode"),
        pytest.param(
            lambda s: (s.context / "src/other").rename(s.context / "src/another"), (), {SRC, COMPILE}, id="E65 name in a directory"
        ),
        pytest.param(
            lambda s: (s.context / "a.conf").rename(s.context / "c.conf"), (), FINAL - {WORKDIR}, id="E67 name of a matched file"
        ),
        pytest.param(lambda s: s.write("c.conf", "c"), (), FINAL - {WORKDIR}, id="E67 one more matched file"),
        pytest.param(
            lambda s: s.recipe((COMPILE, OTHER_COMPILE)), (), {OTHER_COMPILE}, id="another command that gives the same file"
        ),
        pytest.param(lambda s: s.recipe((RUN, f"ARG A=1\n{RUN}")), (), {RUN}, id="E21 an ARG, used or not"),
        pytest.param(
            lambda s: s.recipe((WORKDIR, f"ARG A\n{WORKDIR}")), ("--build-arg", "A=1"), {RUN}, id="E21 an ARG before a COPY"
        ),
        pytest.param(lambda s: s.recipe(("MODE=fast", "MODE=slow")), (), {RUN}, id="ENV"),
        pytest.param(lambda s: s.recipe(("MODE=fast", "A=1 MODE=fast")), (), {RUN}, id="one more ENV, unused"),
        pytest.param(order_of_env, (), {"RUN true"}, id="the order of ENV"),
        pytest.param(
            lambda s: s.recipe((COMPILE, f"ENV A=1 B=2\n{COMPILE}")), (), {COMPILE}, id="ENV of another stage that gives the same file"
        ),
        pytest.param(
            lambda s: s.recipe(("FROM pybuild", "ARG A=0\nFROM pybuild"), (RUN, f"ARG A\n{RUN}")), ("--build-arg", "A=1"), {RUN}, id="E19 an ARG of all stages, declared"
        ),
        pytest.param(
            lambda s: s.recipe((RUN, f"ARG HTTP_PROXY\n{RUN}")), ("--build-arg", "HTTP_PROXY=http://a"), {RUN}, id="E66 a proxy that the recipe declares"
        ),
        pytest.param(lambda s: s.recipe((WORKDIR, "WORKDIR /srv/app"), ("/app/out", "/srv/app/out")), (), OTHER_WORKDIR, id="WORKDIR"),
        pytest.param(lambda s: s.recipe((RUN, f'SHELL ["/bin/sh", "-ec"]\n{RUN}')), (), {RUN}, id="SHELL"),
        pytest.param(lambda s: s.recipe((RUN, f"RUN {RUN[4:]} ")), ("--network=default",), {COMPILE, RUN}, id="network"),
        pytest.param(lambda s: (s.context / "src/main").chmod(0o755), (), {SRC, COMPILE}, id="E65 a file made executable"),
        pytest.param(lambda s: (s.context / "src/empty").mkdir(), (), {SRC, COMPILE}, id="E65 an empty directory"),
        pytest.param(lambda s: s.write(".dockerignore", ""), (), {SRC, COMPILE}, id="E55 a file that was ignored before"),
        pytest.param(
            lambda s: swap(s, "src/other", "main"), (), {SRC, COMPILE}, id="E65 a link in the place of a file"
        ),
        pytest.param(
            lambda s: s.recipe((CONF, f"COPY --chown=1:2 {CONF[5:]}")), (), {f"COPY --chown=1:2 {CONF[5:]}", FROM_STAGE, RUN}, id="the owner of what is copied"
        ),
        pytest.param(
            lambda s: s.recipe((SRC, f"COPY --exclude=other {SRC[5:]}")), (), {f"COPY --exclude=other {SRC[5:]}", COMPILE}, id="a file that is left out"
        ),
        pytest.param(nothing, ("--no-cache-filter=BUILD",), {SRC, COMPILE}, id="a stage without the cache, which gives the same file"),
        pytest.param(nothing, ("--no-cache-filter", "1,nobody"), FINAL, id="the last stage without the cache"),
        pytest.param(lambda s: s.recipe((RUN, f"USER app\n{RUN}")), (), {RUN}, id="USER"),
        pytest.param(lambda s: s.recipe((WORKDIR, f"USER app\n{WORKDIR}")), (), FINAL, id="USER before a WORKDIR"),
        pytest.param(nothing, ("--no-cache",), {SRC, COMPILE, *FINAL}, id="a build without the cache"),
    ],
)  # fmt: skip
def test_a_change_misses_from_where_it_counts(
    scene: Scene, change: Callable[[Scene], object], flags: tuple[str, ...], misses: set[str]
) -> None:
    change(scene)
    assert scene.build(*flags)[1] == misses


SECRET = "--secret=id=token,env=TOKEN"


@dataclass(frozen=True)
class Way:
    """How a RUN is written, and how its build is started."""

    flags: str = ""  # of the RUN
    arguments: tuple[str, ...] = ()
    token: str = "one"


@pytest.mark.parametrize(
    ("first", "second", "cached"),
    [
        pytest.param(
            Way("--mount=type=secret,id=token", (SECRET,)), Way("--mount=type=secret,id=token", (SECRET,), "two"), True,
            id="E66 another value of a secret",
        ),
        pytest.param(
            Way("--mount=type=secret,id=token,env=T", (SECRET,)), Way("--mount=type=secret,id=token,env=T", (SECRET,), "two"), True,
            id="E66 another value of a secret in a variable",
        ),
        pytest.param(Way("--mount=type=secret,id=token", (SECRET,)), Way("--mount=type=secret,id=token"), True, id="E66 no secret"),
        pytest.param(Way("--mount=type=secret,id=a"), Way("--mount=type=secret,id=b"), False, id="E66 another secret"),
        pytest.param(Way("--mount=type=ssh"), Way("--mount=type=ssh,id=other"), False, id="E66 another agent"),
        pytest.param(
            Way("--mount=type=cache,target=/c"), Way("--mount=type=cache,target=/c,id=other"), True, id="E66 a cache of another id"
        ),
        pytest.param(Way("--mount=type=cache,target=/c"), Way("--mount=type=cache,target=/d"), False, id="E66 a cache at another target"),
        pytest.param(
            Way(arguments=("--add-host=db:10.0.0.1",)), Way(arguments=("--add-host=db:10.0.0.2",)), True, id="E66 another address"
        ),
        pytest.param(
            Way(arguments=("--add-host=db:10.0.0.1",)), Way(arguments=("--add-host=web:10.0.0.1",)), False, id="E66 another host"
        ),
        pytest.param(Way(), Way(arguments=("--shm-size=1m", "--ulimit=nofile=99")), True, id="E66 limits"),
        pytest.param(Way("--network=none"), Way(), True, id="E66 the network of the build, named in the recipe"),
        pytest.param(Way(), Way("--mount=type=tmpfs,target=/t"), False, id="E66 one more mount"),
        pytest.param(
            Way(), Way("--security=insecure", ("--allow=security.insecure",)), False, id="E66 insecure"
        ),
    ],
)  # fmt: skip
def test_how_a_run_is_started_is_part_of_its_key(first: Way, second: Way, cached: bool, pybuild: Pybuild, tmp_path: Path) -> None:
    found: list[bool] = []
    for way in (first, second):
        context = write_context(tmp_path / "c", f"FROM pybuild.test/base\nRUN {way.flags} true\n")
        done = pybuild("--network=none", "--progress=json", *way.arguments, context, TOKEN=way.token)
        found += done.finished().values()
    assert found == [False, cached]


def test_a_base_whose_tag_moved_misses_everything(scene: Scene, tmp_path: Path) -> None:
    base = write_context(tmp_path / "base", "FROM pybuild.test/base\nRUN echo new > /new\n")
    scene.pybuild("--network=none", "-t", "pybuild.test/base", base)
    assert scene.build()[1] == {SRC, COMPILE, *FINAL}


def test_a_base_whose_tag_moved_back_hits_again(scene: Scene, tmp_path: Path) -> None:
    scene.pybuild("tag", "pybuild.test/base", "old")
    base = write_context(tmp_path / "base", "FROM old\nRUN echo new > /new\n")
    scene.pybuild("--network=none", "-t", "pybuild.test/base", base)
    scene.pybuild("tag", "old", "pybuild.test/base")
    assert scene.build() == (scene.digest, set())


def test_restored_files_hit_again(scene: Scene) -> None:
    scene.write("src/main", "MAIN")
    assert scene.build()[0] != scene.digest
    scene.write("src/main", "main")
    assert scene.build() == (scene.digest, set())


def test_results_of_a_no_cache_build_serve_later_builds(scene: Scene) -> None:
    digest, _ = scene.build("--no-cache")
    assert scene.build() == (digest, set())


def test_a_change_of_only_the_epoch_gives_other_layers_but_runs_nothing(scene: Scene) -> None:
    digest, misses = scene.build("--build-arg", "SOURCE_DATE_EPOCH=1")
    assert (misses, digest == scene.digest) == (set(), False)


@pytest.mark.parametrize("step", [SRC, COMPILE, None])
def test_a_stage_whose_records_are_gone_does_not_run_for_an_image_that_is_cached(scene: Scene, step: str | None) -> None:
    """`step`: the step whose records are gone; None: all steps of the stage."""
    with Store(str(scene.pybuild.root)) as store, store.metadata.transaction() as db:
        gone = db.execute(
            "DELETE FROM records WHERE snapshot IN (SELECT snapshot FROM build_steps WHERE stage = 'build' AND number > 0"
            " AND instruction = coalesce(?, instruction))",
            (step,),
        )
        assert gone.rowcount == (2 if step is None else 1)
    assert scene.build() == (scene.digest, set())


def test_an_unknown_stage_name_is_reported(scene: Scene) -> None:
    done = scene.pybuild("--network=none", "--no-cache-filter=biuld", scene.context)
    assert done.out.strip() == scene.digest
    assert "note: --no-cache-filter biuld: the recipe has no stage with this name; did you mean build?" in done.err


def test_no_cache_and_a_filter_exclude_each_other(scene: Scene) -> None:
    done = scene.pybuild.run("--no-cache", "--no-cache-filter=build", scene.context)
    assert (done.status, "--no-cache covers all stages" in done.err) == (2, True)


def test_a_fresh_stage_with_other_files_makes_the_rest_again(scene: Scene) -> None:
    scene.recipe((COMPILE, "RUN cat /proc/sys/kernel/random/uuid > /out"))
    digest, _ = scene.build()
    assert scene.build() == (digest, set())
    other, misses = scene.build("--no-cache-filter=build")
    assert (other == digest, {FROM_STAGE, RUN} < misses) == (False, True)
    assert scene.build() == (other, set())
