"""The values that each instruction is read as, and the errors, with their places."""

from __future__ import annotations

from typing import TypeVar

import pytest

from pybuild.parser import (
    Add,
    Arg,
    Cmd,
    Copy,
    Device,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    ParseError,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
    parse,
)

Kind = TypeVar("Kind", bound=Instruction)
SECOND = 1_000_000_000


def read(kind: type[Kind], text: str) -> Kind:
    (stage,) = parse(f"FROM x\n{text}").stages
    (instruction,) = stage.instructions
    assert isinstance(instruction, kind)
    return instruction


def base(text: str) -> From:
    return parse(text).stages[0].base


def refusal(text: str) -> tuple[int, int, str]:
    with pytest.raises(ParseError) as caught:
        parse(f"FROM x\n{text}")
    return caught.value.span.line, caught.value.span.column, caught.value.message


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        pytest.param('CMD ["a", "b c"]', ("a", "b c"), id="E4-a list of strings is the command"),
        pytest.param('CMD   [ "a" ,"b" ]  ', ("a", "b"), id="E4-blanks around it do not matter"),
        pytest.param("CMD []", (), id="E4-an empty list is one"),
        pytest.param("CMD []", (), id="E4-an empty list"),
        pytest.param('CMD ["\\u0041\\n\\"\\\\"]', ('A\n"\\',), id="E4-escapes are those of JSON"),
        pytest.param('CMD ["$A"]', ("$A",), id="E9-variables in CMD stay"),
        pytest.param('CMD ["\\ud800"]', ("\ufffd",), id="E4-half of a surrogate pair is replaced"),
        pytest.param('CMD ["a", \\\n "b"]', ("a", "b"), id="E4-a list can be continued"),
    ],
)
def test_a_json_list_is_the_exec_form(text: str, argv: tuple[str, ...]) -> None:
    assert read(Cmd, text).command == ExecForm(argv)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        pytest.param("CMD a b", "a b", id="E4-words"),
        pytest.param("CMD ['a']", "['a']", id="E4-single quotes are not JSON"),
        pytest.param('CMD ["a",]', '["a",]', id="E4-a comma at the end is not JSON"),
        pytest.param('CMD ["a", b]', '["a", b]', id="E4-bare words are not JSON"),
        pytest.param('CMD ["a"', '["a"', id="E4-an open list is not JSON"),
        pytest.param('CMD ["a"] x', '["a"] x', id="E4-a list with something behind it is not JSON"),
        pytest.param('CMD ["\\d"]', '["\\d"]', id="E4-an escape that JSON does not know is not JSON"),
        pytest.param('CMD "a"', '"a"', id="E4-a string is not a list"),
        pytest.param("CMD $A  'b", "$A  'b", id="E9-the text of a command stays as it is"),
        pytest.param("CMD a \\\n  b # c", "a   b # c", id="E4-a continued line is one line"),
    ],
)
def test_anything_else_is_the_shell_form(text: str, command: str) -> None:
    assert read(Cmd, text).command == ShellForm(command)


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT", "SHELL", "HEALTHCHECK CMD", "COPY", "ADD", "VOLUME"])
@pytest.mark.parametrize(
    "items",
    [
        pytest.param('["a", 1]', id="E4-a number"),
        pytest.param('[["a"]]', id="E4-a list"),
        pytest.param('["a", null]', id="E4-null"),
        pytest.param('[{"a": "b"}]', id="E4-an object"),
    ],
)
def test_a_json_list_with_other_items_than_strings_is_an_error_at_the_list(keyword: str, items: str) -> None:
    line, column, message = refusal(f"{keyword} {items}")
    assert (line, column) == (2, len(keyword) + 2)
    assert "only string type" in message


@pytest.mark.parametrize("keyword", ["ENTRYPOINT", "CMD", "RUN"])
def test_commands_have_both_forms(keyword: str) -> None:
    kinds: dict[str, type[Entrypoint | Cmd | Run]] = {"ENTRYPOINT": Entrypoint, "CMD": Cmd, "RUN": Run}
    forms = ((f'{keyword} ["a"]', ExecForm(("a",))), (f"{keyword} a", ShellForm("a")), (keyword, ShellForm("")))
    for text, command in forms:
        instruction = read(kinds[keyword], text)
        assert instruction.command == command


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        pytest.param("ENV A B=C", [("A", "B=C")], id="E5-without = in its first word the rest is the value"),
        pytest.param("ENV A  b  c ", [("A", "b  c")], id="E5-blanks inside of it stay"),
        pytest.param('ENV A "b" c', [("A", '"b" c')], id="E5-quotes stay"),
        pytest.param("ENV A=b C=d", [("A", "b"), ("C", "d")], id="E5-with = there are pairs"),
        pytest.param("ENV A=", [("A", "")], id="E5-a value can be empty"),
        pytest.param("ENV A=b=c", [("A", "b=c")], id="E5-the first = counts"),
        pytest.param("ENV A='b c' D=\"e f\" G=h\\ i", [("A", "'b c'"), ("D", '"e f"'), ("G", "h\\ i")], id="quoted"),
        pytest.param("ENV A=b\\\n C=d", [("A", "b"), ("C", "d")], id="continued"),
        pytest.param('ENV A="b \\\n c"', [("A", '"b  c"')], id="continued in quotes"),
        pytest.param("ENV A='b c", [("A", "'b c")], id="an open quote reaches to the end"),
    ],
)
def test_pairs_are_read_in_both_forms(text: str, pairs: list[tuple[str, str]]) -> None:
    assert [(name.text, value.text) for name, value in read(Env, text).pairs] == pairs
    label = read(Label, text.replace("ENV", "LABEL"))
    assert [(name.text, value.text) for name, value in label.pairs] == pairs


def test_in_pairs_the_escape_character_of_the_recipe_escapes_quotes() -> None:
    (stage,) = parse('# escape=`\nFROM x\nENV A="C:\\" B="`"x"').stages
    (env,) = stage.instructions
    assert isinstance(env, Env)
    assert [(name.text, value.text) for name, value in env.pairs] == [("A", '"C:\\"'), ("B", '"`"x"')]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        pytest.param("ENV A=B C", 9, "can't find = in 'C'", id="E5-a word without = among pairs"),
        pytest.param("ENV A", 1, "ENV must have two arguments", id="E5-a name alone"),
        pytest.param("ENV", 1, "ENV requires at least one argument", id="ENV alone"),
        pytest.param("ENV =b", 5, "names can not be blank", id="a pair without a name"),
        pytest.param("LABEL a=b c", 11, "can't find = in 'c'", id="E5-a word without = among labels"),
        pytest.param("ARG =b", 5, "names can not be blank", id="an ARG without a name"),
        pytest.param("ARG ''=b", 5, "names can not be blank", id="an ARG whose name is empty quotes"),
        pytest.param("ARG a $B=b", 7, "invalid ARG name '$B'", id="an ARG whose name is a variable"),
        pytest.param('ARG "a=b c"', 5, "invalid ARG name '\"a'", id="an ARG in quotes as a whole"),
        pytest.param("ARG", 1, "ARG requires at least one argument", id="ARG alone"),
        pytest.param("COPY a", 1, "COPY requires at least two arguments", id="E7-COPY with one argument"),
        pytest.param('ADD ["a"]', 1, "ADD requires at least two arguments", id="E7-ADD with a list of one"),
        pytest.param("COPY", 1, "COPY requires at least two arguments", id="E7-COPY alone"),
        pytest.param("COPY a <<A\nA", 8, "cannot have a heredoc as its destination", id="a heredoc as destination"),
        pytest.param("COPY <<a/b /x\na/b", 6, "cannot be the name of a file", id="a heredoc in a directory"),
        pytest.param("COPY <<.. /x\n..", 6, "cannot be the name of a file", id="a heredoc that is the parent"),
        pytest.param('COPY <<"a b" /x\na b', 6, "cannot be the name of a file", id="a heredoc with a blank"),
        pytest.param("RUN <<../a\n#!/bin/sh\n../a", 5, "cannot be the name of a file", id="E18-a script elsewhere"),
        pytest.param("FROM", 1, "either one or three arguments", id="FROM alone"),
        pytest.param("FROM a b", 1, "either one or three arguments", id="FROM with two arguments"),
        pytest.param("FROM a AZ b", 1, "either one or three arguments", id="FROM without AS"),
        pytest.param("FROM a AS 1x", 11, "invalid name for build stage: '1x'", id="E8-a stage name with a digit first"),
        pytest.param("FROM a AS a/b", 11, "invalid name for build stage", id="E8-a stage name with a slash"),
        pytest.param("FROM a AS ä", 11, "invalid name for build stage", id="E8-a stage name that is not ASCII"),
        pytest.param("EXPOSE", 1, "EXPOSE requires at least one argument", id="E52-EXPOSE alone"),
        pytest.param("EXPOSE 80 x", 11, "invalid port 'x'", id="E52-an invalid port"),
        pytest.param("EXPOSE 65536", 8, "invalid port", id="E52-a port that is too high"),
        pytest.param("EXPOSE 2-1", 8, "invalid range", id="E52-a reversed range"),
        pytest.param("EXPOSE 80/xyz", 8, "invalid protocol 'xyz'", id="E52-an unknown protocol"),
        pytest.param("EXPOSE 80/", 8, "invalid protocol", id="E52-an empty protocol"),
        pytest.param('VOLUME ["a", " "]', 8, "VOLUME: a path is empty", id="E52-a blank volume"),
        pytest.param("VOLUME []", 1, "VOLUME requires at least one argument", id="E52-a list of no volumes"),
        pytest.param("VOLUME", 1, "VOLUME requires at least one argument", id="VOLUME alone"),
        pytest.param("STOPSIGNAL NOPE", 12, "no such signal", id="an unknown signal"),
        pytest.param("STOPSIGNAL 65", 12, "no such signal", id="a signal that is too high"),
        pytest.param("SHELL /bin/sh", 7, "SHELL takes a JSON list", id="a SHELL in words"),
        pytest.param("SHELL []", 7, "SHELL takes a JSON list", id="an empty SHELL"),
        pytest.param("WORKDIR", 1, "exactly one argument", id="WORKDIR alone"),
        pytest.param("USER", 1, "exactly one argument", id="USER alone"),
        pytest.param("MAINTAINER", 1, "exactly one argument", id="MAINTAINER alone"),
        pytest.param('CMD ["a\\u0000"]', 5, "a NUL character", id="a NUL that is escaped"),
        pytest.param("HEALTHCHECK", 1, "at least one argument", id="HEALTHCHECK alone"),
        pytest.param("HEALTHCHECK --retries=1", 1, "at least one argument", id="a HEALTHCHECK of flags"),
        pytest.param("HEALTHCHECK CMD", 1, "missing command", id="E52-a HEALTHCHECK without a command"),
        pytest.param("HEALTHCHECK CMD []", 1, "missing command", id="E52-a HEALTHCHECK with an empty list"),
        pytest.param("HEALTHCHECK NONE x", 1, "takes no arguments", id="E52-a HEALTHCHECK NONE with an argument"),
        pytest.param("HEALTHCHECK --retries=1 NONE", 1, "no flags", id="E52-a HEALTHCHECK NONE with a flag"),
        pytest.param("HEALTHCHECK RUN x", 13, "unknown type 'RUN'", id="E52-a HEALTHCHECK of another type"),
        pytest.param("HEALTHCHECK --interval=1 CMD x", 24, "invalid duration '1'", id="E52-a duration without a unit"),
        pytest.param("HEALTHCHECK --timeout=999us CMD x", 23, "less than 1ms", id="E52-a duration that is too short"),
        pytest.param("HEALTHCHECK --timeout=-1s CMD x", 23, "less than 1ms", id="E52-a negative duration"),
        pytest.param("HEALTHCHECK --retries=-1 CMD x", 23, "expected a number", id="E52-negative retries"),
        pytest.param("HEALTHCHECK --retries=x CMD x", 23, "expected a number", id="E52-retries that are not a number"),
        pytest.param("ONBUILD", 1, "ONBUILD requires at least one argument", id="E27-ONBUILD alone"),
        pytest.param("ONBUILD ONBUILD RUN x", 9, "ONBUILD isn't allowed", id="E27-a trigger that sets a trigger"),
        pytest.param("ONBUILD FROM x", 9, "FROM isn't allowed", id="E27-a trigger that begins a stage"),
        pytest.param("ONBUILD MAINTAINER x", 9, "MAINTAINER isn't allowed", id="E27-a MAINTAINER trigger"),
        pytest.param("ONBUILD RNU x", 9, "unknown instruction RNU", id="E27-an unknown trigger"),
        pytest.param("ONBUILD COPY a", 9, "COPY requires at least two", id="E27-a trigger without a destination"),
        pytest.param("ADD --checksum=sha256:ab a /b", 16, "expected sha256:", id="a checksum that is too short"),
        pytest.param(f"ADD --checksum=sha256:{'a' * 64} a b /c", 16, "exactly one source", id="a checksum of two"),
        pytest.param(
            "COPY --chmod=888 a /b", 14, "expected an octal mode up to 7777", id="E46-a mode that is not octal"
        ),
        pytest.param("COPY --chmod=17777 a /b", 14, "up to 7777", id="E46-a mode that is too high"),
        pytest.param("COPY --chmod=u+q a /b", 14, "invalid mode", id="E46-an invalid symbolic mode"),
    ],
)
def test_an_invalid_instruction_is_an_error_at_its_place(text: str, column: int, message: str) -> None:
    line, found, words = refusal(text)
    assert message in words
    assert (line, found) == (2, column)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        pytest.param("COPY --frm=a b /c", 6, "unknown flag --frm", id="unknown"),
        pytest.param("ENV --a=b C=d", 5, "unknown flag --a", id="on an instruction without flags"),
        pytest.param("CMD --a", 5, "unknown flag --a", id="on a command"),
        pytest.param("COPY --chown=1 --chown=2 a /b", 16, "duplicate flag --chown", id="twice"),
        pytest.param("COPY --link --link=false a /b", 13, "duplicate flag --link", id="twice without a value"),
        pytest.param("COPY --chown a /b", 6, "missing a value on flag --chown", id="without a value"),
        pytest.param("RUN --network= a", 5, "missing a value on flag --network", id="with an empty value"),
        pytest.param("COPY --link=yes a /b", 6, "expected true or false", id="boolean, with another value"),
        pytest.param('COPY --from="a b /c', 6, "cannot be read", id="with a quote that is not closed"),
        pytest.param("ADD --from=a b /c", 5, "unknown flag --from", id="of COPY on ADD"),
        pytest.param("COPY --checksum=a b /c", 6, "unknown flag --checksum", id="of ADD on COPY"),
        pytest.param("RUN --network=bridge x", 15, "invalid network mode 'bridge'", id="with an unknown network"),
        pytest.param("RUN --network=HOST x", 15, "invalid network mode 'HOST'", id="with a network in capitals"),
        pytest.param("RUN --security=INSECURE x", 16, "invalid security mode", id="with a security in capitals"),
        pytest.param("RUN --security=7 x", 16, "invalid security mode", id="with a number as security"),
        pytest.param("RUN --device=nope x", 14, "invalid device option", id="with a device that is not a CDI name"),
        pytest.param("RUN --device=a/b=c,required,required x", 14, "duplicate device option", id="device twice"),
        pytest.param("RUN --device=required x", 14, "a device needs a name", id="with a device without a name"),
        pytest.param("RUN --bogus x", 5, "unknown flag --bogus", id="unknown on RUN"),
    ],
)
def test_an_invalid_flag_is_an_error_at_its_place(text: str, column: int, message: str) -> None:
    line, found, words = refusal(text)
    assert message in words
    assert (line, found) == (2, column)


def test_an_empty_flag_is_as_good_as_none() -> None:
    copy = read(Copy, "COPY --from= --chown= --chmod= a /b")
    assert (copy.from_, copy.chown, copy.chmod) == (None, None, None)
    assert base("FROM --platform= x").platform is None
    assert read(Copy, "COPY --link= a /b").link
    assert read(Healthcheck, "HEALTHCHECK --retries= --interval= CMD a").retries is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("FROM x\nCPOY a b", "did you mean COPY?", id="an instruction"),
        pytest.param("FROM x\nCOPY --chonw=a b c", "did you mean --chown?", id="a flag"),
        pytest.param("FROM x\nENV --x=1 A=b", "ENV takes no flags", id="a flag of an instruction without flags"),
        pytest.param("FROM x\nRUN --mount=type=cahce,target=/x y", "did you mean cache?", id="a mount type"),
        pytest.param("FROM x\nRUN --mount=tpye=cache,target=/x y", "did you mean type?", id="a mount option"),
        pytest.param("RUN x", "a recipe begins with FROM", id="an instruction before FROM"),
    ],
)
def test_a_hint_says_what_could_be_meant(text: str, hint: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_from_has_an_image_an_alias_and_a_platform() -> None:
    stage = base("FROM --platform=$BUILDPLATFORM a:1 as Build")
    assert (stage.image.text, stage.alias) == ("a:1", "build")
    assert stage.platform is not None
    assert stage.platform.text == "$BUILDPLATFORM"
    assert base("FROM a").platform is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"E8-{name}") for name in ("a", "a-b", "a_b.c", "A1", "Scratch")]
)
def test_a_stage_name_is_in_lower_case(name: str) -> None:
    assert base(f"FROM x AS {name}").alias == name.lower()


def test_only_keywords_are_case_insensitive() -> None:
    assert read(Workdir, "wOrKdIr /A").path.text == "/A"


def test_args_have_defaults_or_none() -> None:
    items = read(Arg, "ARG A B= C=d 'E'").items
    assert [(item.name, None if item.default is None else item.default.text) for item in items] == [
        ("A", None),
        ("B", ""),
        ("C", "d"),
        ("E", None),
    ]


def test_args_before_the_first_from_belong_to_the_recipe() -> None:
    recipe = parse("ARG A=1\nARG B\nFROM $A\nARG A\n")
    assert [item.name for arg in recipe.args for item in arg.items] == ["A", "B"]
    assert len(recipe.stages[0].instructions) == 1


def test_a_run_has_all_its_flags() -> None:
    run = read(
        Run,
        "RUN --network=none --security=insecure --device=v/c=d,required --device=name=e "
        "--mount=type=tmpfs,target=/t --mount=target=/u x --y",
    )
    assert run.command == ShellForm("x --y")
    assert (run.network, run.security) == ("none", "insecure")
    assert [(device.name, device.required) for device in run.devices] == [("v/c=d", True), ("e", False)]
    assert isinstance(run.devices[0], Device)
    assert [mount.type for mount in run.mounts] == ["tmpfs", "bind"]
    assert [flag.name for flag in run.flags] == ["network", "security", "device", "device", "mount", "mount"]


def test_two_dashes_end_the_flags_and_are_removed() -> None:
    run = read(Run, "RUN --network=host -- --network=none x")
    assert (run.network, run.command) == ("host", ShellForm("--network=none x"))
    assert read(Cmd, "CMD -- a").command == ShellForm("a")


def test_a_copy_has_all_its_flags() -> None:
    copy = read(
        Copy,
        "COPY --from=Base --chown=a:b --chmod=u=rwX,go= --link --parents=TRUE --exclude=*.o --exclude='a b' s t /d",
    )
    assert [word.text for word in copy.sources] == ["s", "t"]
    assert copy.dest.text == "/d"
    values = (copy.from_, copy.chown, copy.chmod)
    assert [None if word is None else word.text for word in values] == ["Base", "a:b", "u=rwX,go="]
    assert (copy.link, copy.parents) == (True, True)
    assert [word.text for word in copy.exclude] == ["*.o", "a b"]


def test_an_add_has_all_its_flags() -> None:
    add = read(Add, "ADD --checksum=abcdef0 --keep-git-dir --unpack=false --link=false --chown=$U https://x/y.git /d")
    assert add.checksum is not None
    assert add.checksum.text == "abcdef0"
    assert (add.keep_git_dir, add.unpack, add.link) == (True, False, False)
    assert read(Add, "ADD a /b").unpack is None


def test_a_flag_with_variables_is_checked_later() -> None:
    copy = read(Copy, "COPY --chmod=$MODE --chown=$U a /b")
    assert copy.chmod is not None
    assert copy.chmod.text == "$MODE"
    assert read(Add, "ADD --checksum=$SUM a /b").checksum is not None
    assert read(Stopsignal, "STOPSIGNAL $SIG").signal.text == "$SIG"
    assert [word.text for word in read(Expose, "EXPOSE $PORT 80").ports] == ["$PORT", "80"]


def test_quotes_around_the_value_of_a_flag_are_removed() -> None:
    copy = read(Copy, "COPY --chown=\"$U\":'g' --from=b\\ c a /b")
    assert copy.chown is not None
    assert copy.from_ is not None
    assert (copy.chown.text, copy.from_.text) == ("$U:g", "b c")


def test_words_split_at_every_blank_and_list_items_do_not() -> None:
    assert [word.text for word in read(Copy, 'COPY "a b" /c').sources] == ['"a', 'b"']
    assert [word.text for word in read(Copy, 'COPY ["a b", "/c d/"]').sources] == ["a b"]
    assert [word.text for word in read(Volume, 'VOLUME ["a b"]').paths] == ["a b"]
    assert [word.text for word in read(Volume, "VOLUME a b").paths] == ["a", "b"]


def test_heredocs_of_a_copy_come_after_its_other_sources() -> None:
    copy = read(Copy, "COPY <<A b <<-'C' /d/\n\ta\nA\n\tc\n\tC\n")
    assert [word.text for word in copy.sources] == ["b"]
    first, second = copy.heredocs
    assert (first.name, first.expand, first.content, first.line) == ("A", True, "\ta\n", 3)
    assert (second.name, second.expand, second.content, second.body) == ("C", False, "c\n", "\tc\n")
    assert (first.span.column, second.span.column) == (6, 12)


@pytest.mark.parametrize(
    ("text", "script", "whole"),
    [
        pytest.param("RUN <<A\na $B\nA", "a $B\n", True, id="E17-one heredoc alone is the script"),
        pytest.param("RUN <<'A'\na $B\nA", "a $B\n", True, id="E17-one heredoc with a quoted delimiter is the script"),
        pytest.param("RUN <<-A\n\ta\n\t\tb\n\tA", "a\nb\n", True, id="E17-one heredoc with a dash is the script without its tabs"),
        pytest.param("RUN cat <<A\na\nA", "cat <<A\na\nA", False, id="E17-the heredoc of a command stays for the shell"),
        pytest.param("RUN cat <<-A\n\ta\n\tA", "cat <<-A\n\ta\nA", False, id="E17-the heredoc of a command keeps its tabs"),
        pytest.param("RUN <<A <<B\na\nA\nb\nB", "<<A <<B\na\nA\nb\nB", False, id="E17-two heredocs stay for the shell"),
        pytest.param("RUN <<A sh\na\nA", "<<A sh\na\nA", False, id="E17-a heredoc with a command behind it stays for the shell"),
        pytest.param("RUN a", "a", False, id="a command line is the script"),
    ],
)
def test_the_script_that_the_shell_runs(text: str, script: str, whole: bool) -> None:
    command = read(Run, text).command
    assert isinstance(command, ShellForm)
    assert (command.script, command.whole, command.file) == (script, whole, None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("RUN <<A\n#!/bin/x\nA", "A", id="E18-a body that begins with #! is a program"),
        pytest.param("RUN <<'A B'\n#!/bin/x\nA B", "A B", id="E18-a program can have any name"),
        pytest.param("RUN <<A\n #!/bin/x\nA", None, id="E18-not behind a blank"),
        pytest.param("RUN cat <<A\n#!/bin/x\nA", None, id="E18-not as the input of a command"),
    ],
)
def test_a_heredoc_with_a_shebang_is_a_program(text: str, name: str | None) -> None:
    command = read(Run, text).command
    assert isinstance(command, ShellForm)
    assert (None if command.file is None else command.file.name) == name


@pytest.mark.parametrize(
    ("text", "durations", "retries"),
    [
        pytest.param("CMD x", (None, None, None, None), None, id="E52-without flags"),
        pytest.param("--interval=1m30s CMD x", (90 * SECOND, None, None, None), None, id="E52-interval"),
        pytest.param("--timeout=1ms CMD x", (None, SECOND // 1000, None, None), None, id="E52-the shortest timeout"),
        pytest.param("--start-period=0 --retries=0 CMD x", (None, None, 0, None), 0, id="E52-nothing is allowed"),
        pytest.param("--start-interval=1.5s --retries=3 CMD x", (None, None, None, SECOND * 3 // 2), 3, id="E52-two"),
    ],
)
def test_a_healthcheck_has_durations(text: str, durations: tuple[int | None, ...], retries: int | None) -> None:
    check = read(Healthcheck, f"HEALTHCHECK {text}")
    assert (check.interval, check.timeout, check.start_period, check.start_interval) == durations
    assert check.retries == retries
    assert check.command == ShellForm("x")


def test_healthcheck_none_has_no_command() -> None:
    assert read(Healthcheck, "HEALTHCHECK none").command is None
    assert read(Healthcheck, 'HEALTHCHECK cmd ["a"]').command == ExecForm(("a",))


def test_the_maintainer_is_the_text_as_written() -> None:
    assert read(Maintainer, "MAINTAINER  J. $Doe  'j@x' ").name == "J. $Doe  'j@x'"


def test_the_argument_of_user_and_workdir_is_one_word() -> None:
    assert read(User, "USER a b").user.text == "a b"
    assert read(Workdir, "WORKDIR  /a  b ").path.text == "/a  b"
    assert read(Shell, 'SHELL ["a", "-c"]').argv == ("a", "-c")


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        pytest.param("ONBUILD RUN a", "RUN a", id="E6-as it is written"),
        pytest.param("onbuild  run  a", "run  a", id="E6-in its case and with its blanks"),
        pytest.param("ONBUILD RUN a \\\n b", "RUN a  b", id="E6-on one line"),
        pytest.param("ONBUILD RUN <<A\na $B\nA", "RUN <<A\na $B\nA", id="E6-a trigger with a heredoc"),
        pytest.param("ONBUILD COPY <<A <<-B /x\na\nA\n\tb\n\tB\n", "COPY <<A <<-B /x\na\nA\n\tb\nB", id="E6-a trigger with two heredocs"),
    ],
)
def test_a_trigger_is_the_text_with_its_heredocs(text: str, trigger: str) -> None:
    onbuild = read(Onbuild, text)
    assert onbuild.trigger == trigger
    assert onbuild.instruction.keyword == trigger.split()[0].upper()


def test_the_words_of_a_trigger_have_their_places() -> None:
    copy = read(Onbuild, "ONBUILD  COPY a \\\n /b").instruction
    assert isinstance(copy, Copy)
    assert (copy.span.line, copy.span.column) == (2, 10)
    assert (copy.dest.span.line, copy.dest.span.column) == (3, 2)
