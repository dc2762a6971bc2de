"""The build checks that need the values of variables, the ignore file or the bases; and the effect of warnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.events import CheckWarning, Event
from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.plan.lint import Inspector, report_warnings, warnings_of
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.replaced_words import replaced_words
from pybuild.builder.plan.resolve import resolve
from pybuild.parser import Add, Copy, Word, parse
from pybuild.store.formats.oci_config import ExecConfig
from tests.support.recipes import Images, image, options

BASE = ExecConfig(env=("FROM_BASE=x",))
WITH_SHELL = ExecConfig(shell=("/bin/bash", "-c"))


def no_files(ignored: str | None = None) -> Callable[[str], ContextSource]:
    """A context that cannot be read, with this ignore file."""
    return lambda name: ContextSource("/does/not/exist", ignored)


def inspected(text: str, ignored: str | None = None, *, all_stages: bool = False, **fields: object) -> list[str]:
    """All warnings about a recipe, as `line rule: text`."""
    images = Images({"base": image(BASE), "shell": image(WITH_SHELL)})
    resolved = resolve(parse(text), options(**fields), images, all_stages=all_stages)
    inspector = Inspector(resolved, options(**fields), no_files(ignored))
    plan(resolved, options(**fields), inspector)
    found, _ = warnings_of(inspector, resolved, options(**fields))
    return [f"{warning.span.line} {warning.rule}: {warning.message}" for warning in found]


def undefined(line: int, name: str, similar: str = "") -> str:
    return f"{line} UndefinedVar: Usage of undefined variable '${name}'" + (similar and f" (did you mean ${similar}?)")


def json_args(line: int, keyword: str) -> str:
    return f"{line} JSONArgsRecommended: JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"


def ignored_file(line: int, path: str, how: str = "Copy") -> str:
    return f'{line} CopyIgnoredFile: Attempting to {how} file "{path}" that is excluded by .dockerignore'


def relative(line: int, path: str) -> str:
    return f'{line} WorkdirRelativePath: Relative workdir "{path}" can have unexpected results if the base image changes'


def invalid_default(line: int, word: str) -> str:
    return f"{line} InvalidDefaultArgInFrom: Default value for ARG {word} results in empty or invalid base image name"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("FROM base\nENV a=$b", [undefined(2, "b")], id="an undefined variable"),
        pytest.param("ARG s=base\nFROM base\nRUN --mount=from=$s,target=/x y", [], id="`from` of a mount has the variables of FROM"),
        pytest.param("FROM base\nRUN --mount=target=/x$b y", [undefined(2, "b")], id="other options of a mount have the variables of the stage"),
        pytest.param("FROM base\nENV a=${b:-c}", [undefined(2, "b")], id="a variable with a default is reported too"),
        pytest.param("FROM base\nENV a=$FROM_BASE$PATH", [], id="a variable of the base"),
        pytest.param("FROM base\nARG b\nENV a=$b", [], id="an ARG without a value is declared"),
        pytest.param("FROM base\nENV PATH=$PAHT:/x", [undefined(2, "PAHT", "PATH")], id="a letter in the wrong place"),
        pytest.param("FROM base\nENV a=1 b=$a", [undefined(2, "a")], id="the environment is that before the instruction"),
        pytest.param("FROM base\nARG a=1 b=$a", [], id="the items of an ARG see earlier ones"),
        pytest.param("FROM base\nARG a b=$a", [], id="the items of an ARG see earlier ones without a value"),
        pytest.param("FROM base\nARG b=$a a=1", [undefined(2, "a")], id="the items of an ARG do not see later ones"),
        pytest.param("FROM base\nARG X=${X:-d}", [undefined(2, "X")], id="an ARG that names itself"),
        pytest.param("FROM base\nARG X\nARG X=${X:-d}", [], id="an ARG that names itself and is declared"),
        pytest.param("ARG X=1\nFROM base\nARG X=${X:-d}", [undefined(3, "X")], id="an ARG before FROM is not that of the stage"),
        pytest.param("FROM base\nARG TARGETARCH=${TARGETARCH}", [undefined(2, "TARGETARCH")], id="a predefined ARG that is not declared"),
        pytest.param("FROM base\nCOPY x$a y$b /$c", [undefined(2, "a"), undefined(2, "b"), undefined(2, "c")], id="COPY"),
        pytest.param("FROM base\nCOPY --chown=1$a --chmod=7$b f /", [undefined(2, "a"), undefined(2, "b")], id="flags"),
        pytest.param("FROM base\nCOPY <<E <<'F' /\n$a\nE\n$b\nF", [undefined(2, "a")], id="heredocs that are expanded"),
        pytest.param("FROM base\nLABEL a=$b\nUSER u$c\nVOLUME /$d", [undefined(2, "b"), undefined(3, "c"), undefined(4, "d")], id="LABEL, USER and VOLUME"),
        pytest.param("FROM base\nSTOPSIGNAL 1$b", [undefined(2, "b")], id="STOPSIGNAL"),
        pytest.param("FROM base\nEXPOSE 8$a", [], id="the ports of an EXPOSE are not looked at"),
        pytest.param("FROM base\nRUN $a\nENV b='$c' d=\\$e\nSHELL [\"$f\"]", [], id="text without variables"),
        pytest.param("FROM base\nENV a=$b$b", [undefined(2, "b")], id="a variable used twice is reported once"),
        pytest.param("ARG g=1\nFROM base\nENV a=$g", [undefined(3, "g")], id="an ARG before FROM is not known in a stage"),
        pytest.param("FROM base AS s\nARG b=1\nFROM s\nENV a=$b", [], id="a stage knows the ARGs of the one below"),
        pytest.param("FROM base\nWORKDIR a", [relative(2, "a")], id="a relative WORKDIR"),
        pytest.param("FROM base\nWORKDIR a\nWORKDIR b", [relative(2, "a")], id="only the first relative WORKDIR of a stage"),
        pytest.param("FROM base\nWORKDIR /a\nWORKDIR b", [], id="a WORKDIR relative to an absolute one"),
        pytest.param("FROM base AS s\nWORKDIR /a\nFROM s AS t\nFROM t\nWORKDIR b", [], id="a WORKDIR relative to that of a stage below"),
        pytest.param("FROM base\nENV d=/x\nWORKDIR $d/y", [], id="the expanded path counts"),
        pytest.param(
            "FROM base\nARG e\nCOPY $e f /\nADD f $e",
            ["3 EmptySource: COPY: a source is empty, which means the whole context",
             "4 EmptyDestination: ADD: the destination is empty, which means the working directory /"],
            id="empty paths of COPY and ADD",
        ),
        pytest.param(
            'FROM base AS s\nFROM base\nCOPY --from=s ["", "/d/"]',
            ["3 EmptySource: COPY: a source is empty, which means everything in it"], id="everything of a stage",
        ),
        pytest.param(
            "FROM base\nARG e\nWORKDIR /w/\nWORKDIR /${e}\nUSER $e\nWORKDIR $e",
            ["5 EmptyUser: USER: the name is empty, which means root",
             '6 EmptyWorkdir: WORKDIR: the path is empty, so the working directory is still /'],
            id="an empty USER and WORKDIR",
        ),
        pytest.param(
            "FROM base\nARG e\nENV $e=1 a=$e\nLABEL b=$e $e=2",
            ["3 EmptyName: ENV: a name is empty: a RUN after it cannot start", "4 EmptyName: LABEL: a name is empty"],
            id="names, but not values, of ENV and LABEL",
        ),
        pytest.param("FROM base\nARG e\n# check=skip=EmptyUser\nUSER $e", [], id="an empty USER that is skipped"),
        pytest.param("FROM base\nCMD a", [json_args(2, "CMD")], id="CMD of a shell"),
        pytest.param("FROM base\nENTRYPOINT a", [json_args(2, "ENTRYPOINT")], id="ENTRYPOINT of a shell"),
        pytest.param('FROM base\nCMD ["a"]\nENTRYPOINT ["b"]\nHEALTHCHECK CMD c', [], id="commands in exec form"),
        pytest.param('FROM base\nSHELL ["/bin/bash"]\nCMD a', [], id="the stage has a SHELL"),
        pytest.param("FROM shell\nCMD a", [], id="the base has a SHELL"),
        pytest.param(
            "FROM base\nEXPOSE 80/TCP 81/udp",
            ["2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"],
            id="a protocol in capital letters",
        ),
        pytest.param(
            "FROM base\nARG p=127.0.0.1:80:80\nEXPOSE $p 81",
            ["3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"],
            id="a port of the host",
        ),
        pytest.param("ARG v\nFROM ba${v:-se}", [], id="a FROM with a valid default"),
        pytest.param("ARG v=base\nFROM $v", [], id="with a default"),
    ],
)  # fmt: skip
def test_warnings_of_a_recipe(text: str, found: list[str]) -> None:
    assert inspected(text) == found


@pytest.mark.parametrize(
    ("text", "constant"),
    [
        ("FROM --platform=linux/amd64 scratch", "linux/amd64"),
        ("FROM --platform=linux/arm64 scratch AS build", "linux/arm64"),
        ("FROM --platform='linux/arm64' scratch", "linux/arm64"),
        ("FROM --platform=linux/aarch64 scratch AS aarch64", "linux/aarch64"),
        ("FROM --platform=linux/arm64 scratch AS build-arm64", ""),
        ("FROM --platform=linux/aarch64 scratch AS arm64", ""),
        ("FROM --platform=linux/arm64 scratch AS linux", ""),
        ("FROM --platform=amd64 scratch AS on-linux", ""),
        ("FROM --platform=$BUILDPLATFORM scratch", ""),
        ("FROM --platform=${BUILDPLATFORM:-linux/arm64} scratch", ""),
    ],
)
def test_constant_platforms(text: str, constant: str) -> None:
    message = f'1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "{constant}"'
    assert inspected(text) == ([message] if constant else [])


def test_one_rule_finds_at_most_100_times() -> None:
    found = inspected("FROM base\n" + "".join(f"ENV a{n}=$b\nWORKDIR /a\n" for n in range(200)) + "CMD x")
    assert found == [*(undefined(2 + 2 * n, "b") for n in range(100)), json_args(402, "CMD")]


def test_the_default_of_an_arg_is_not_expanded_if_the_user_gives_a_value() -> None:
    assert inspected("FROM base\nARG X=${Y:-d}", build_args={"X": "1"}) == []


@pytest.mark.parametrize(
    ("text", "default"),
    [
        pytest.param("ARG v\nFROM ${v}", "${v}", id="empty"),
        pytest.param("ARG v\nFROM $v", "$v", id="the word as written"),
        pytest.param("ARG w\nARG v=BAD${w}\nFROM $v", "$v", id="no name"),
    ],
)
def test_a_base_name_that_is_invalid_without_a_build_argument(text: str, default: str) -> None:
    line = text.count("\n") + 1
    assert inspected(text, build_args={"v": "base"}) == [invalid_default(line, default)]


@pytest.mark.parametrize(
    ("ignored", "text", "found"),
    [
        pytest.param("a", "COPY a /", [ignored_file(2, "a")], id="the file itself"),
        pytest.param("a", "ADD ./a/b /", [ignored_file(2, "a/b", "Add")], id="below an ignored directory"),
        pytest.param("a\n!a/b", "COPY a/c /", [], id="nothing is reported with a ! line"),
        pytest.param("a", "COPY b /", [], id="another file"),
        pytest.param("a", "COPY --from=s a /", [], id="another stage"),
        pytest.param("*", "COPY . /", [ignored_file(2, ".")], id="everything"),
        pytest.param(".*", "COPY . /", [], id="names that begin with a dot are not everything"),
        pytest.param("*.txt", "ARG n=a\nCOPY $n.txt /", [ignored_file(3, "a.txt")], id="a name out of a variable"),
        pytest.param(None, "COPY a /", [], id="no ignore file"),
    ],
)
def test_copies_of_ignored_files(ignored: str | None, text: str, found: list[str]) -> None:
    recipe = f"FROM base\n{text}" if "--from" not in text else f"FROM base AS s\nFROM base\n{text}"
    assert inspected(recipe, ignored) == found


def test_a_build_does_not_warn_about_stages_that_it_does_not_need() -> None:
    text = "FROM base AS s\nENV a b\nENV c=$d\nCMD e\nFROM base"
    assert inspected(text) == []
    assert len(inspected(text, all_stages=True)) == 3


def checked(text: str, *missing: int, **fields: object) -> tuple[list[str], list[str], list[str]]:
    """What a check finds if the bases of these stages are missing: warnings, mistakes, and what is not judged."""
    mistakes: list[PlanError] = []
    images = Images({"base": image(BASE)})
    recipe = resolve(parse(text), options(**fields), images, all_stages=True, on_error=mistakes.append)
    unknown = {*missing, *(index for index, stage in recipe.stages.items() if not stage.is_known)}
    inspector = Inspector(recipe, options(**fields), no_files(), unknown)
    plan(recipe, options(**fields), inspector, inspector.take_mistake)
    found, _ = warnings_of(inspector, recipe, options(**fields))
    return (
        [f"{warning.span.line} {warning.rule}" for warning in found],
        [f"{error.span.line if error.span else 0} {error}" for error in [*mistakes, *inspector.mistakes]],
        [f"{span.line} {' '.join(names)}" for span, names in inspector.unjudged],
    )


@pytest.mark.parametrize(
    ("text", "found", "mistakes", "unjudged"),
    [
        pytest.param("ENV a=$b\nCMD c", ["3 JSONArgsRecommended"], [], [], id="the base could set a variable"),
        pytest.param("VOLUME $SRC", [], [], ["2 SRC"], id="the base could set a path"),
        pytest.param("WORKDIR $SRC\nUSER $USER\nCOPY $a $b", [], [], [], id="words that the base could set"),
        pytest.param("WORKDIR a$SRC", [], [], [], id="a path that could be absolute"),
        pytest.param("WORKDIR a", ["2 WorkdirRelativePath"], [], [], id="a path without variables"),
        pytest.param("ENV a=$b c=/x\nVOLUME $a\nVOLUME $c", [], [], ["3 a"], id="a value made of an unknown one"),
        pytest.param("ENV a=$b\nENV a=x\nWORKDIR $a", ["4 WorkdirRelativePath"], [], [], id="a value that is known again"),
        pytest.param("ARG a=$b c=$a\nVOLUME $c", [], [], ["3 c"], id="an ARG made of an unknown value"),
        pytest.param("VOLUME $SRC\nARG s=SIGNO\nSTOPSIGNAL $s\nMAINTAINER x", ["5 MaintainerDeprecated"], ["4 STOPSIGNAL SIGNO: no such signal"], ["2 SRC"], id="one line does not end the check of the rest"),
        pytest.param("ARG m=999\nCOPY --chmod=$m a$b /c", [], ["3 --chmod=999: expected an octal mode"], [], id="a mistake beside an unknown value"),
        pytest.param("ENV a=${b:?no}", [], [], ["2 b"], id="the base could set a required variable"),
        pytest.param("WORKDIR $a/it's", [], ["2 unexpected end of the word while looking for a matching single quote"], [], id="quotes beside an unknown value"),
        pytest.param("EXPOSE $PORT $OTHER/TCP", [], [], ["2 PORT OTHER"], id="ports"),
        pytest.param("EXPOSE $PORT 81/TCP", ["2 ExposeProtoCasing"], [], [], id="the known ports are judged"),
    ],
)  # fmt: skip
def test_what_is_judged_without_the_base(text: str, found: list[str], mistakes: list[str], unjudged: list[str]) -> None:
    got = checked(f"FROM base\n{text}", 0)
    assert got[0] == found
    assert [line[: len(start)] for line, start in zip(got[1], mistakes, strict=True)] == mistakes
    assert got[2] == unjudged


def test_a_stage_on_a_stage_without_a_base() -> None:
    assert checked("FROM base AS s\nFROM s\nENV a=$b\nVOLUME $c\nFROM base\nENV a=$b", 0) == (["6 UndefinedVar"], [], ["4 c"])


@pytest.mark.parametrize(
    ("text", "found", "mistakes"),
    [
        pytest.param("FROM base\nWORKDIR it's\nVOLUME $no\nENV x=$y", ["3 UndefinedVar", "4 UndefinedVar"], ["2 unexpected end", "3 VOLUME: a path is empty"], id="all lines of a stage"),
        pytest.param("FROM base\nENV a=it's\nENV b=$a", [], ["2 unexpected end"], id="a variable of a wrong line is not undefined"),
        pytest.param("FROM $none\nENV a=$b\nARG s=SIGNO\nSTOPSIGNAL $s", ["1 InvalidDefaultArgInFrom", "1 UndefinedArgInFrom"], ["1 FROM $none: the name is empty", "4 STOPSIGNAL"], id="a FROM without a name"),
        pytest.param("FROM --platform=a/b/c/d base\nMAINTAINER x", ["2 MaintainerDeprecated"], ["1 --platform=a/b/c/d"], id="a wrong platform"),
        pytest.param("FROM base\nCOPY --from=7 a b\nCOPY --from=x: a b\nCMD x", ["4 JSONArgsRecommended"], ["2 COPY --from=7", "3 in"], id="sources that do not exist"),
        pytest.param("ARG a=${b!x} b=base\nFROM $b\nCMD x", ["3 JSONArgsRecommended"], ["1 unsupported modifier"], id="an ARG before FROM"),
        pytest.param("FROM base\nRUN --device=a/b=c d\nCMD x", ["3 JSONArgsRecommended"], ["2 RUN --device"], id="a flag that is not supported"),
    ],
)  # fmt: skip
def test_a_check_finds_all_mistakes(text: str, found: list[str], mistakes: list[str]) -> None:
    got = checked(text)
    assert sorted(got[0]) == found
    assert [line[: len(start)] for line, start in zip(got[1], mistakes, strict=True)] == mistakes


def sent(text: str, **build_args: str) -> list[Event]:
    events: list[Event] = []
    resolved = resolve(parse(text), options(build_args=build_args), Images({"base": image()}))
    report_warnings(Inspector(resolved, options(), no_files()), resolved, options(build_args=build_args), events.append)
    return events


def test_warnings_are_sent_as_events() -> None:
    (event,) = sent("FROM base\nMAINTAINER a")
    assert isinstance(event, CheckWarning)
    assert (event.rule, event.span.line, event.source.filename) == ("MaintainerDeprecated", 2, "Buildfile")


@pytest.mark.parametrize(
    ("text", "build_args"),
    [
        ("# check=error=true\nFROM base as B\nMAINTAINER a", {}),
        ("FROM base as B\nMAINTAINER a", {"BUILDKIT_DOCKERFILE_CHECK": "error=true"}),
    ],
)
def test_warnings_fail_the_build_with_check_error(text: str, build_args: dict[str, str]) -> None:
    with pytest.raises(PlanError) as caught:
        sent(text, **build_args)
    assert str(caught.value) == "lint violation found for rules: FromAsCasing, MaintainerDeprecated, StageNameCasing"


def test_check_error_does_not_fail_a_build_without_warnings() -> None:
    assert sent("# check=error=true\nFROM base") == []
    assert sent("# check=error=true\nFROM base as b", BUILDKIT_DOCKERFILE_CHECK="skip=all;error=true") == []
    assert len(sent("# check=error=true\nFROM base as b", BUILDKIT_DOCKERFILE_CHECK="error=false")) == 1


def test_an_invalid_check_build_argument_is_refused() -> None:
    with pytest.raises(PlanError, match="BUILDKIT_DOCKERFILE_CHECK=bogus: invalid check option"):
        sent("FROM base", BUILDKIT_DOCKERFILE_CHECK="bogus")


NOT_REPLACED = {  # field -> why variables in it are not those of the stage
    "from_": "has the variables of FROM",
    "exclude": "its variables are not replaced",
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(text, field.name, id=f"{kind.__name__}.{field.name}")
        for kind, text in ((Copy, "COPY a b"), (Add, "ADD a b"))
        for field in fields(kind)
        if "Word" in str(field.type)
    ],
)
def test_undefined_variables_are_found_in_every_word_of_a_copy(text: str, name: str) -> None:
    (copy,) = parse(f"FROM base\n{text}").stages[0].instructions
    assert isinstance(copy, Copy | Add)
    word = Word("$nope", copy.span)
    value = (word,) if isinstance(getattr(copy, name), tuple) else word
    found = word in replaced_words(replace(copy, **{name: value}))  # type: ignore[arg-type]
    place = f"{type(copy).__name__}.{name}"
    assert found != (name in NOT_REPLACED), f"{place}: add it to replaced_words, or say in NOT_REPLACED why it is not there"
