"""The plan of a recipe: its nodes and config, and errors with their places."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.builder.options import Network
from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, WorkdirStep
from pybuild.builder.plan.stage_state import DEFAULT_PATH
from pybuild.store.formats.oci_config import ExecConfig
from tests.support.recipes import Images, chain, config, image, planned, refusal, steps

PATH = f"PATH={DEFAULT_PATH}"


def env_of_last_run(text: str, images: Images | None = None, **fields: object) -> dict[str, str]:
    """The environment of the last RUN, without PATH."""
    step = next(step for step in reversed(steps(text, images, **fields)) if isinstance(step, RunStep))
    return dict(pair.split("=", 1) for pair in step.env if pair != PATH)


# Nodes


def test_only_steps_that_make_layers_are_nodes() -> None:
    text = "FROM base\nENV a=b\nWORKDIR /w\nLABEL l=1\nCOPY x .\nUSER 1\nCMD x\nRUN y"
    assert [type(step) for step in steps(text)] == [BaseStep, WorkdirStep, CopyStep, RunStep]


def test_each_node_comes_after_its_inputs() -> None:
    result = planned(
        "FROM base AS a\nRUN 1\nFROM a AS b\nRUN 2\nFROM base\nRUN 3\nCOPY --from=b / /b/\nCOPY --from=a / /a/"
    )
    for node in result.nodes:
        assert all(below < node.id for below in (node.parent, *node.sources) if below is not None)


def test_a_stage_from_a_stage_stands_on_its_last_node() -> None:
    result = planned("FROM base AS a\nRUN 1\nFROM a\nRUN 2")
    assert [node.text for node in chain(result, result.image.node)] == ["FROM base", "RUN 1", "RUN 2"]


def test_a_copy_from_a_stage_reads_its_last_node() -> None:
    result = planned("FROM base AS a\nRUN 1\nENV x=y\nFROM base\nCOPY --from=a / /")
    (copy,) = (node for node in result.nodes if isinstance(node.step, CopyStep))
    assert [result.nodes[source].text for source in copy.sources if source is not None] == ["RUN 1"]


def test_a_copy_from_an_empty_stage_reads_nothing() -> None:
    result = planned("FROM scratch AS a\nFROM base\nCOPY --from=a / /")
    assert [node.sources for node in result.nodes if isinstance(node.step, CopyStep)] == [(None,)]


def test_scratch_has_no_node() -> None:
    assert planned("FROM scratch\nENV a=b").image.node is None


def test_a_base_without_layers_has_no_node() -> None:
    assert planned("FROM base\nENV a=b", Images({"base": image(layers=0)})).image.node is None


def test_unused_stages_are_not_planned() -> None:
    result = planned("FROM base AS unused\nRUN 1\nFROM base\nRUN 2")
    assert [node.text for node in result.nodes if isinstance(node.step, RunStep)] == ["RUN 2"]


def test_errors_in_the_words_of_an_unused_stage_are_not_found() -> None:
    planned("FROM base AS unused\nWORKDIR it's\nSTOPSIGNAL ${X:-NONE}\nFROM base")


def test_steps_are_counted_within_their_stage() -> None:
    result = planned("FROM base AS a\nRUN 1\nRUN 2\nFROM a AS b\nENV x=y\nRUN 3\nFROM b\nRUN 4")
    assert [(node.stage, node.number) for node in result.nodes if isinstance(node.step, RunStep)] == [
        ("a", 1), ("a", 2), ("b", 1), ("stage-2", 1),
    ]  # fmt: skip


def test_steps_have_the_network_of_the_build() -> None:
    (_, run) = steps("FROM base\nRUN x", network=Network.NONE)
    assert isinstance(run, RunStep) and run.network is Network.NONE


# Commands


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        pytest.param("RUN a b", ("/bin/sh", "-c", "a b"), id="shell form"),
        pytest.param('RUN ["a", "b"]', ("a", "b"), id="exec form"),
        pytest.param('SHELL ["/bin/bash", "-ec"]\nRUN a', ("/bin/bash", "-ec", "a"), id="shell of the stage"),
        pytest.param("ENV x=1\nRUN echo $x ${x}", ("/bin/sh", "-c", "echo $x ${x}"), id="not expanded"),
        pytest.param("RUN a \\\n  b", ("/bin/sh", "-c", "a   b"), id="continued"),
    ],
)
def test_a_run_has_the_words_of_its_command(text: str, argv: tuple[str, ...]) -> None:
    step = steps(f"FROM base\n{text}")[-1]
    assert isinstance(step, RunStep) and step.argv == argv


def test_a_shell_of_the_base_is_used() -> None:
    images = Images({"base": image(ExecConfig(shell=("/bin/ash", "-c")))})
    step = steps("FROM base\nRUN a", images)[-1]
    assert isinstance(step, RunStep) and step.argv == ("/bin/ash", "-c", "a")


def test_a_run_has_the_directory_and_user_that_are_set_before_it() -> None:
    found = steps("FROM base\nRUN 1\nUSER app:staff\nWORKDIR /w\nRUN 2")
    assert [(step.cwd, step.user) for step in found if isinstance(step, RunStep)] == [("/", ""), ("/w", "app:staff")]


# ARG and ENV


@pytest.mark.parametrize(
    ("text", "build_args", "env"),
    [
        pytest.param("ARG A=1\nFROM base\nRUN x", {}, {}, id="a global ARG is not seen in a stage"),
        pytest.param("ARG A=1\nFROM base\nARG A\nRUN x", {}, {"A": "1"}, id="a global ARG that is declared again"),
        pytest.param("ARG A=1\nFROM base\nARG A=2\nRUN x", {}, {"A": "2"}, id="its own default comes first"),
        pytest.param("ARG A=1\nFROM base\nARG A\nRUN x", {"A": "3"}, {"A": "3"}, id="build-arg over global default"),
        pytest.param("ARG A=1\nFROM base\nARG A=2\nRUN x", {"A": "3"}, {"A": "3"}, id="build-arg over own default"),
        pytest.param("FROM base\nARG A=1\nRUN x", {"A": ""}, {"A": ""}, id="an empty build-arg is a value"),
        pytest.param("FROM base\nRUN x", {"A": "3"}, {}, id="a build-arg that is not declared"),
        pytest.param("FROM base\nRUN x\nARG A\n", {"A": "3"}, {}, id="declared too late"),
        pytest.param("FROM base\nARG A\nRUN x", {}, {}, id="no value at all"),
        pytest.param("FROM base\nARG A=1 B=2\nRUN x", {}, {"A": "1", "B": "2"}, id="two in one line"),
        pytest.param("FROM base\nARG A=1 B=$A\nRUN x", {}, {"A": "1", "B": "1"}, id="the second uses the first"),
        pytest.param("FROM base\nARG A=1\nARG A=2\nRUN x", {}, {"A": "2"}, id="declared twice"),
        pytest.param("FROM base\nARG A=1\nARG A\nRUN x", {}, {"A": "1"}, id="declared again without a default"),
        pytest.param("FROM base AS a\nARG A=1\nFROM a\nRUN x", {}, {"A": "1"}, id="inherited from the stage below"),
        pytest.param("FROM base AS a\nARG A=1\nFROM a\nARG A\nRUN x", {}, {"A": "1"}, id="inherited and declared"),
        pytest.param("FROM base AS a\nARG A=1\nFROM base\nRUN x", {}, {}, id="not that of another stage"),
        pytest.param("FROM base\nARG A=1\nENV A=2\nRUN x", {}, {"A": "2"}, id="ENV over ARG"),
        pytest.param("FROM base\nENV A=2\nARG A=1\nRUN x", {}, {"A": "2"}, id="ENV over an ARG that comes later"),
        pytest.param("FROM base\nENV A=2\nARG A\nRUN x", {"A": "3"}, {"A": "2"}, id="ENV over build-arg"),
        pytest.param("FROM base\nARG A=1\nENV B=$A\nRUN x", {}, {"A": "1", "B": "1"}, id="ENV from ARG"),
        pytest.param("FROM base\nENV a=1\nENV a=2 b=$a\nRUN x", {}, {"a": "2", "b": "1"}, id="the value before the line"),
        pytest.param("FROM base\nENV a=1 a=2\nRUN x", {}, {"a": "2"}, id="twice in one line"),
        pytest.param("FROM base\nENV A B=C\nRUN x", {}, {"A": "B=C"}, id="old form"),
        pytest.param("FROM base\nENV a=x=y\nRUN x", {}, {"a": "x=y"}, id="a value with an equals sign"),
        pytest.param("ARG A=1\nARG B=${A}2\nFROM base\nARG B\nRUN x", {}, {"B": "12"}, id="global from global"),
        pytest.param("ARG A\nFROM base\nARG A\nRUN x", {"A": "3"}, {"A": "3"}, id="declared globally without value"),
        pytest.param("ARG TARGETARCH\nFROM base\nRUN x", {}, {}, id="platform, not declared in the stage"),
        pytest.param("FROM base\nARG TARGETARCH\nRUN x", {}, {"TARGETARCH": "amd64"}, id="platform"),
        pytest.param("FROM base\nARG TARGETARCH=x\nRUN x", {}, {"TARGETARCH": "x"}, id="platform with own default"),
        pytest.param("FROM base\nARG BUILDOS\nRUN x", {"BUILDOS": "plan9"}, {"BUILDOS": "plan9"}, id="platform, overridden"),
        pytest.param("FROM base\nARG TARGETSTAGE\nRUN x", {}, {"TARGETSTAGE": "default"}, id="target, not named"),
        pytest.param("FROM base\nARG TARGETVARIANT\nRUN x", {}, {"TARGETVARIANT": ""}, id="no variant"),
    ],
)  # fmt: skip
def test_the_environment_of_a_run(text: str, build_args: dict[str, str], env: dict[str, str]) -> None:
    assert env_of_last_run(text, build_args=build_args) == env


def test_the_name_of_the_target_is_an_arg() -> None:
    assert env_of_last_run("FROM base AS app\nARG TARGETSTAGE\nRUN x", target="app") == {"TARGETSTAGE": "app"}


@pytest.mark.parametrize(
    ("text", "build_args", "env"),
    [
        pytest.param("RUN x", {"HTTP_PROXY": "p"}, {"HTTP_PROXY": "p", "http_proxy": "p"}, id="in both cases"),
        pytest.param("RUN x", {"no_proxy": "n"}, {"NO_PROXY": "n", "no_proxy": "n"}, id="given in small letters"),
        pytest.param("RUN x", {"all_proxy": ""}, {}, id="an empty proxy is not set"),
        pytest.param("ENV http_proxy=e\nRUN x", {"http_proxy": "p"}, {"http_proxy": "e", "HTTP_PROXY": "p"}, id="ENV wins"),
        pytest.param(
            "ARG FTP_PROXY\nRUN x", {"FTP_PROXY": "p"}, {"FTP_PROXY": "p", "ftp_proxy": "p"}, id="declared as well"
        ),
    ],
)  # fmt: skip
def test_a_run_has_proxies_without_an_arg(text: str, build_args: dict[str, str], env: dict[str, str]) -> None:
    assert env_of_last_run(f"FROM base\n{text}", build_args=build_args) == env


def test_args_never_reach_the_config() -> None:
    assert config("ARG G=1\nFROM base\nARG G\nARG A=2\nRUN x", build_args={"HTTP_PROXY": "p"}).env == (PATH,)


def test_a_base_with_an_environment_keeps_its_order_and_its_path() -> None:
    base = ExecConfig(env=("B=1", "PATH=/own", "A=2"))
    assert config("FROM base\nENV C=3 B=4", base).env == ("B=4", "PATH=/own", "A=2", "C=3")


def test_a_base_without_a_path_gets_the_default_one() -> None:
    assert config("FROM base\nENV C=3", ExecConfig(env=("B=1",))).env == ("B=1", PATH, "C=3")


# Paths


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("WORKDIR /a", "/a", id="absolute"),
        pytest.param("WORKDIR a", "/base/a", id="relative to that of the base"),
        pytest.param("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "/a/c", id="relative to the one before"),
        pytest.param("WORKDIR /a//b/./c/..", "/a//b/./c/..", id="an absolute one stays as it is"),
        pytest.param("WORKDIR /../../a\nWORKDIR b", "/a/b", id="no way out of the root"),
        pytest.param("WORKDIR //a\nWORKDIR .", "/a", id="a relative one is clean"),
        pytest.param("WORKDIR $none", "/base", id="an empty one changes nothing"),
        pytest.param("ENV d=/x\nWORKDIR $d/y", "/x/y", id="expanded"),
        pytest.param("WORKDIR /a/", "/a/", id="trailing slash"),
    ],
)
def test_workdir_is_absolute(text: str, path: str) -> None:
    assert config(f"FROM base\n{text}", ExecConfig(working_dir="/base")).working_dir == path


def test_workdir_at_the_root_makes_no_step() -> None:
    assert [type(step) for step in steps("FROM base\nWORKDIR /")] == [BaseStep]


def test_steps_have_the_clean_form_of_the_working_directory() -> None:
    made = steps("FROM base\nWORKDIR /a//b/./c/../\nRUN x")
    assert (made[1], made[2].cwd) == (WorkdirStep("/a/b", ""), "/a/b")  # type: ignore[union-attr]


def test_a_base_without_a_working_directory_gets_none() -> None:
    assert config("FROM base").working_dir == ""
    made = steps("FROM base\nRUN x\nCOPY a b")
    assert (made[1].cwd, made[2].dest) == ("/", "/b")  # type: ignore[union-attr]


def test_a_stage_from_a_stage_inherits_its_working_directory() -> None:
    assert config("FROM base AS a\nWORKDIR /x\nUSER app\nFROM a\nWORKDIR y").working_dir == "/x/y"


@pytest.mark.parametrize(
    ("words", "dest"),
    [
        pytest.param("a /x", "/x", id="absolute"),
        pytest.param("a x", "/w/x", id="relative"),
        pytest.param("a .", "/w/", id="the working directory"),
        pytest.param("a ./", "/w/", id="the working directory with a slash"),
        pytest.param("a ..", "/", id="above it"),
        pytest.param("a /x/", "/x/", id="slash at the end"),
        pytest.param("a /x//y/../", "/x/", id="clean, with its slash"),
        pytest.param("a /", "/", id="the root"),
        pytest.param('["a b", "/x y"]', "/x y", id="JSON"),
        pytest.param("a $dir/", "/e/", id="expanded"),
        pytest.param("a $none", "/w/", id="empty"),
    ],
)
def test_the_destination_of_a_copy_is_absolute_and_keeps_its_slash(words: str, dest: str) -> None:
    step = steps(f"FROM base\nWORKDIR /w\nENV dir=/e\nCOPY {words}")[-1]
    assert isinstance(step, CopyStep) and step.dest == dest


def test_a_variable_with_a_blank_is_one_source() -> None:
    step = steps('FROM base\nENV FILES="a b"\nCOPY $FILES c /d/')[-1]
    assert isinstance(step, CopyStep) and step.sources == ("a b", "c")


@pytest.mark.parametrize(
    ("flags", "chown", "mode"),
    [
        pytest.param("", None, None, id="none"),
        pytest.param("--chown=app:0 --chmod=4755", "app:0", 0o4755, id="both"),
        pytest.param("--chmod=0644", None, 0o644, id="leading zero"),
        pytest.param("--chmod=0", None, 0, id="mode 0"),
        pytest.param("--chown=$who --chmod=$how", "me", 0o600, id="expanded"),
        pytest.param("--chown=$nobody --chmod=$nothing", None, None, id="variables without a value"),
    ],
)
def test_the_flags_of_a_copy(flags: str, chown: str | None, mode: int | None) -> None:
    step = steps(f"FROM base\nARG who=me\nARG how=600\nCOPY {flags} a /")[-1]
    assert isinstance(step, CopyStep) and (step.chown, step.mode) == (chown, mode)


def test_a_workdir_step_has_the_user_that_is_set_before_it() -> None:
    assert steps("FROM base\nUSER app\nWORKDIR /w\nUSER root")[-1] == WorkdirStep("/w", "app")


# Config

SHELL = ("/bin/sh", "-c")
BASE_CONFIG = ExecConfig(
    user="old", exposed_ports=("1/tcp",), env=(PATH,), entrypoint=("e",), cmd=("c",), volumes=("/v",), working_dir="/w",
    labels={"l": "1", "m": "2"}, stop_signal="SIGHUP", shell=None, extra={"Unknown": 7},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("USER app", {"user": "app"}, id="USER"),
        pytest.param("EXPOSE 80 53/udp", {"exposed_ports": ("1/tcp", "53/udp", "80/tcp")}, id="EXPOSE"),
        pytest.param("EXPOSE 8-9 8/TCP", {"exposed_ports": ("1/tcp", "8/tcp", "9/tcp")}, id="EXPOSE of a range"),
        pytest.param(
            'ENV p="2 3"\nEXPOSE $p', {"env": (PATH, "p=2 3"), "exposed_ports": ("1/tcp", "2/tcp", "3/tcp")}, id="EXPOSE splits"
        ),
        pytest.param("VOLUME /b /a", {"volumes": ("/a", "/b", "/v")}, id="VOLUME"),
        pytest.param('VOLUME ["/a b"]', {"volumes": ("/a b", "/v")}, id="VOLUME as JSON"),
        pytest.param("LABEL l=3 n=4\nLABEL n=5", {"labels": {"l": "3", "m": "2", "n": "5"}}, id="LABEL, the last wins"),
        pytest.param("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}, id="STOPSIGNAL"),
        pytest.param("STOPSIGNAL 9", {"stop_signal": "9"}, id="STOPSIGNAL as a number"),
        pytest.param('CMD ["x"]', {"cmd": ("x",), "args_escaped": True}, id="CMD"),
        pytest.param("CMD x $y", {"cmd": (*SHELL, "x $y"), "args_escaped": True}, id="CMD in shell form"),
        pytest.param("ENTRYPOINT x", {"entrypoint": (*SHELL, "x"), "cmd": None}, id="ENTRYPOINT clears an inherited CMD"),
        pytest.param(
            'CMD ["x"]\nENTRYPOINT ["y"]', {"entrypoint": ("y",), "cmd": ("x",), "args_escaped": True}, id="ENTRYPOINT keeps a CMD of the stage"
        ),
        pytest.param("ENTRYPOINT []", {"entrypoint": (), "cmd": None}, id="ENTRYPOINT with an empty list"),
        pytest.param("CMD []", {"cmd": (), "args_escaped": True}, id="CMD with an empty list"),
        pytest.param('CMD ["x"]\nCMD ["y"]', {"cmd": ("y",), "args_escaped": True}, id="the last CMD"),
        pytest.param('SHELL ["a", "b"]', {"shell": ("a", "b")}, id="SHELL"),
        pytest.param(
            'SHELL ["a"]\nCMD x', {"shell": ("a",), "cmd": ("a", "x"), "args_escaped": True}, id="CMD in a shell of the stage"
        ),
    ],
)  # fmt: skip
def test_instructions_change_their_field_of_the_config(text: str, fields: dict[str, object]) -> None:
    assert config(f"FROM base\n{text}", BASE_CONFIG) == replace(BASE_CONFIG, **fields)  # type: ignore[arg-type]


def test_an_entrypoint_removes_the_cmd_of_the_stage_below() -> None:
    found = config('FROM base AS a\nCMD ["x"]\nUSER u\nFROM a\nENTRYPOINT ["y"]')
    assert (found.user, found.cmd, found.entrypoint) == ("u", None, ("y",))


def test_scratch_starts_with_a_path_and_the_root_as_working_directory() -> None:
    found = config("FROM scratch")
    assert (found.env, found.working_dir) == ((PATH,), "/")


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("WORKDIR it's", "2:9 unexpected end of the word", id="a lone quote"),
        pytest.param("COPY --chmod=${x:-999} a b", "2:14 --chmod=999: expected an octal mode", id="a mode that is not octal"),
        pytest.param("COPY --chmod=${x:-10000} a b", "2:14 --chmod=10000: expected an octal mode", id="a mode too large"),
        pytest.param(
            "COPY b [a /x", "2:8 COPY: malformed character class in the pattern '[a'", id="a malformed pattern"
        ),
        pytest.param("COPY ${a:?none} /x", "2:6 a: none", id="a required value"),
        pytest.param("ENV a=b \\\n  c=${d?none}", "3:5 d: none", id="in the middle of a continuation"),
        pytest.param("ENV $x=1\nRUN a", "3:1 RUN: the environment has a variable without a name", id="a variable without a name"),
        pytest.param("ENV a=${b:x}", "2:7 unsupported modifier (:x)", id="an unknown modifier"),
        pytest.param("LABEL a=${", "2:9 a variable is not closed", id="a variable that is not closed"),
        pytest.param("ARG a='", "2:7 unexpected end of the word", id="the default of an ARG"),
        pytest.param("VOLUME /a $x", "2:1 VOLUME: a path is empty", id="VOLUME without a path"),
        pytest.param('VOLUME ["${x:- }"]', "2:1 VOLUME: a path is empty", id="VOLUME of a blank"),
        pytest.param("STOPSIGNAL ${x:-SIGNONE}", "2:12 STOPSIGNAL SIGNONE: no such signal", id="an unknown signal"),
        pytest.param("STOPSIGNAL $x", "2:12 STOPSIGNAL : no such signal", id="no signal"),
        pytest.param("EXPOSE ${x:-65536}", "2:1 invalid port '65536'", id="a port too high"),
        pytest.param("EXPOSE ${x:-9}-8", "2:1 invalid range of ports '9-8'", id="a reversed range"),
        pytest.param("EXPOSE ${x:-1}/xyz", "2:1 invalid protocol 'xyz'", id="an unknown protocol"),
        pytest.param("EXPOSE $", "2:1 invalid port '$'", id="a lone dollar"),
        pytest.param("RUN []", "2:1 RUN: the command is empty", id="RUN with an empty list"),
    ],
)
def test_errors_in_a_stage_have_a_place_in_the_recipe(text: str, message: str) -> None:
    assert refusal(f"FROM base\n{text}").startswith(message)


def test_the_first_error_in_the_order_of_the_recipe_is_raised() -> None:
    assert refusal("FROM base AS a\nVOLUME $x\nFROM a\nSTOPSIGNAL $y").startswith("2:1 ")
