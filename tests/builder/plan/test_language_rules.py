"""Rules of the language about variables, stages and histories. Ids begin with the number of the rule."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.builder.output.assemble import image_config
from pybuild.builder.plan.history import instruction_of
from pybuild.builder.plan.stage_state import DEFAULT_PATH
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig
from tests.support.cli import Pybuild, write_context
from tests.support.recipes import Images, config, history, image, options, planned, refusal, steps

PATH = f"PATH={DEFAULT_PATH}"
ON_A_STAGE = "FROM base AS one\nARG A=1\nENV E=2\nFROM one\n"


@pytest.mark.parametrize(
    ("text", "env"),
    [
        pytest.param("FROM base\nENV a=1\nENV a=2 b=$a", ("a=2", "b=1"), id="E10-words of one ENV see the variables before it"),
        pytest.param("FROM base\nARG a=1 b=$a\nENV c=$b", ("c=1",), id="E10-items of one ARG see earlier items"),
        pytest.param("ARG G=1\nFROM base\nENV a=<$G>", ("a=<>",), id="E19-a global ARG is not known in a stage"),
        pytest.param("ARG G=1\nFROM base\nARG G\nENV a=$G", ("a=1",), id="E19-a global ARG is known after it is declared again"),
        pytest.param("ARG G=1\nFROM base\nARG G=2\nENV a=$G", ("a=2",), id="E19-a default wins over the global value"),
        pytest.param(ON_A_STAGE + "ENV a=$A", ("E=2", "a=1"), id="E19-a stage from a stage has its ARGs"),
        pytest.param(ON_A_STAGE + "ARG A\nENV a=$A", ("E=2", "a=1"), id="E19-a declaration without a default keeps the value"),
        pytest.param("FROM base AS one\nARG A=1\nFROM base\nENV a=<$A>", ("a=<>",), id="E19-another stage does not have its ARGs"),
        pytest.param("FROM base\nARG A=1\nENV A=2\nARG A=3\nENV a=$A", ("A=2", "a=2"), id="E19-ENV wins over every ARG"),
        pytest.param("FROM base\nENV a=1 b=2\nENV a=3", ("a=3", "b=2"), id="E23-a name that is set again keeps its place"),
        pytest.param("FROM base\nARG a=1", (), id="E23-an ARG is never in the config"),
        pytest.param("FROM base\nENV PATH=/x:$PATH", (f"PATH=/x:{DEFAULT_PATH}",), id="E24-the default PATH can be added to"),
    ],
)  # fmt: skip
def test_the_environment_of_the_image(text: str, env: tuple[str, ...]) -> None:
    assert config(text).env == (env if env and env[0].startswith("PATH") else (PATH, *env))


@pytest.mark.parametrize(
    ("base", "env"),
    [
        pytest.param((), (PATH,), id="E24-a base without PATH gets one"),
        pytest.param(("A=1",), ("A=1", PATH), id="E24-PATH is added after the variables of the base"),
        pytest.param(("PATH=/x",), ("PATH=/x",), id="E24-the PATH of the base is kept"),
    ],
)
def test_the_path_of_an_image(base: tuple[str, ...], env: tuple[str, ...]) -> None:
    assert config("FROM base", ExecConfig(env=base)).env == env


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("FROM base AS a\nENV x=${y:?no}\nFROM base", id="E26-words of a stage that is not needed are not expanded"),
        pytest.param("FROM nowhere AS a\nFROM base", id="E26-the base of a stage that is not needed is not looked up"),
        pytest.param("FROM base AS a\nCOPY --from=nowhere x y\nFROM base", id="E26-the sources of a stage that is not needed are not looked up"),
    ],
)
def test_stages_that_the_target_does_not_need_are_not_planned(text: str) -> None:
    assert len(planned(text).stages) == 1


def test_syntax_errors_are_found_in_all_stages() -> None:
    """E26-syntax errors are found in all stages."""
    assert refusal("FROM base AS a\nCOPY x\nFROM base").startswith("2:")


@dataclass(frozen=True)
class Starts:
    """ENTRYPOINT and CMD of an image."""

    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    base: ExecConfig = field(default_factory=lambda: ExecConfig(cmd=("sh",)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('ENTRYPOINT ["e"]', Starts(("e",), None), id="E51-ENTRYPOINT empties the CMD of the base"),
        pytest.param('CMD ["c"]\nENTRYPOINT ["e"]', Starts(("e",), ("c",)), id="E51-ENTRYPOINT keeps the CMD of its own stage"),
        pytest.param('CMD ["c"]\nFROM one\nENTRYPOINT ["e"]', Starts(("e",), None), id="E51-ENTRYPOINT empties the CMD of the stage below"),
        pytest.param(
            'SHELL ["/s", "-x"]\nCMD a  $b', Starts(None, ("/s", "-x", "a  $b")), id="E51-the shell form has the SHELL in front"
        ),
    ],
)  # fmt: skip
def test_entrypoint_and_cmd_of_the_image(text: str, expected: Starts) -> None:
    found = config(f"FROM base AS one\n{text}", expected.base)
    assert (found.entrypoint, found.cmd) == (expected.entrypoint, expected.cmd)


@pytest.mark.parametrize(
    ("text", "args", "line"),
    [
        pytest.param("ARG b=1\nARG a=2\nARG b=3", {}, "|2 b=3 a=2 ", id="E61-in the order of declaration, each once"),
        pytest.param("ARG a=1\nENV a=2", {}, "|1 a=2 ", id="E61-with the value in effect"),
        pytest.param("ARG a", {}, "|1 a= ", id="E61-an ARG without a value"),
        pytest.param("ENV a=1", {"x": "1"}, "", id="E61-build arguments that are not declared are missing"),
        pytest.param("ENV a=1", {"http_proxy": "p"}, "", id="E61-proxies that are not declared are missing"),
        pytest.param("ARG http_proxy", {"http_proxy": "p"}, "|1 http_proxy=p ", id="E61-proxies that are declared"),
        pytest.param(
            "ARG BUILDKIT_SBOM_SCAN_STAGE=true", {}, "|1 BUILDKIT_SBOM_SCAN_STAGE=true ", id="E61-an ARG that is not a variable"
        ),
    ],
)
def test_the_args_of_a_run_in_the_history(text: str, args: dict[str, str], line: str) -> None:
    assert history(f"FROM base\n{text}\nRUN x", build_args=args)[-1] == f"RUN {line}/bin/sh -c x # buildkit"


def test_args_for_the_sbom_scanner_are_not_variables() -> None:
    _, run = steps("FROM base\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nRUN x")
    assert run.variables == (PATH,)  # type: ignore[union-attr]
    assert config("FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nENV a=<$BUILDKIT_SBOM_SCAN_STAGE>").env[-1] == "a=<>"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]', id="E62-docker's CMD"),
        pytest.param("/bin/sh -c #(nop) COPY file:ab in /x ", "COPY file:ab in /x ", id="E62-buildah's COPY"),
        pytest.param("/bin/sh -c apt  update", "RUN /bin/sh -c apt  update", id="E62-a RUN"),
        pytest.param("|1 A=b c /bin/sh -c x", "RUN |1 A=b c /bin/sh -c x", id="E62-a RUN with ARGs"),
        pytest.param("RUN /bin/sh -c x # buildkit", "RUN /bin/sh -c x # buildkit", id="E62-BuildKit's"),
        pytest.param("# debian.sh --arch amd64", "# debian.sh --arch amd64", id="E62-a line of another form"),
        pytest.param("", "", id="E62-nothing"),
    ],
)
def test_history_lines_of_other_builders(line: str, shown: str) -> None:
    assert instruction_of(line) == shown


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param("", ["", "", "CMD"], id="E63-an empty history is filled up"),
        pytest.param("a", ["a", "", "CMD"], id="E63-missing lines are added at the end"),
        pytest.param("a~bc", ["a", "~b", "c", "CMD"], id="E63-a history that fits is kept"),
        pytest.param("abc~d", ["a", "b", "~c", "~d", "CMD"], id="E63-lines beyond the layers have no layer"),
    ],
)
def test_a_base_whose_history_does_not_fit_its_layers(lines: str, expected: list[str]) -> None:
    base = tuple(
        History(created_by=letter, empty_layer=lines[max(0, at - 1)] == "~") for at, letter in enumerate(lines) if letter != "~"
    )  # fmt: skip
    stage = planned("FROM base\nCMD x", Images({"base": image(layers=2, history=base)})).image
    found = image_config(stage, [Digest.of(b"1"), Digest.of(b"2")], {}, options()).history
    assert [("~" if line.empty_layer else "") + line.created_by for line in found[:-1]] == expected[:-1]
    assert found[-1].empty_layer


def test_source_date_epoch_does_not_change_the_times_of_the_base() -> None:
    """E63-SOURCE_DATE_EPOCH sets the time of new lines only."""
    old = History(created="2001-02-03T04:05:06Z", created_by="old")
    stage = planned("FROM base\nCMD x", Images({"base": image(history=(old,))})).image
    found = image_config(stage, [Digest.of(b"1")], {}, options(epoch=0)).history
    assert [line.created for line in found] == ["2001-02-03T04:05:06Z", "1970-01-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("os.version", "10", id="E64-an unknown field of the base stays"),
        pytest.param("moby.buildkit.cache.v0", {"layers": [1]}, id="E64-an unknown field of any type"),
    ],
)
def test_unknown_fields_of_a_config(key: str, value: object) -> None:
    base = image()
    known = ImageConfig.from_bytes(json.dumps({**json.loads(base.config.to_bytes()), key: value}).encode())
    stage = planned("FROM base\nENV a=b", Images({"base": type(base)(base.manifest_digest, base.manifest, known, 7, base.config_digest)})).image
    written = json.loads(image_config(stage, [Digest.of(b"1")], {}, options()).to_bytes())
    assert written[key] == value
    assert written["config"]["Env"] == [PATH, "a=b"]


def test_the_config_of_an_image_from_scratch() -> None:
    """E64-a directory and a PATH, and nothing else."""
    assert config("FROM scratch") == ExecConfig(env=(PATH,), working_dir="/")


OWNERS = """\
FROM pybuild.test/base
USER app
WORKDIR /named/deep
USER 1234
WORKDIR /number
USER app:0
WORKDIR /both
USER 0
WORKDIR rel
RUN stat -c '%n %a %u:%g' /named /named/deep /number /both /both/rel > /found
"""


def test_the_owner_of_a_workdir(tmp_path: Path, pybuild: Pybuild) -> None:
    """E50-the user that is set before WORKDIR, with its group in the image; a number is also the group."""
    pybuild("-o", f"type=local,dest={tmp_path}/out", write_context(tmp_path / "c", OWNERS))
    assert (tmp_path / "out/found").read_text().splitlines() == [
        "/named 755 1000:1000", "/named/deep 755 1000:1000", "/number 755 1234:1234", "/both 755 1000:0", "/both/rel 755 0:0",
    ]  # fmt: skip
