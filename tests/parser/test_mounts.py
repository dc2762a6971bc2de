"""The options of --mount and their values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.parser import (
    BindMount,
    CacheMount,
    Mount,
    ParseError,
    Run,
    RunMount,
    SecretMount,
    SizeError,
    SshMount,
    TmpfsMount,
    Word,
    expand,
    parse,
    parse_size,
    read_mount,
)

PROPERTY = settings(max_examples=300)


def written(value: str) -> Mount:
    run = parse(f"FROM x\nRUN --mount={value} y").stages[0].instructions[0]
    assert isinstance(run, Run)
    (mount,) = run.mounts
    return mount


def values(value: str, **scope: str) -> RunMount:
    return read_mount(written(value), lambda word: expand(word.text, scope))


def refusal(value: str) -> tuple[int, str]:
    with pytest.raises(ParseError) as caught:
        written(value)
    assert caught.value.span.line == 2
    return caught.value.span.column, caught.value.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("target=/a", BindMount("/a", "/", None, True), id="E29-bind is the default and read-only"),
        pytest.param("type=bind", BindMount("", "/", None, True), id="E29-without a target"),
        pytest.param("from=,src=,target=", BindMount("", "/", None, True), id="E29-empty options"),
        pytest.param("type=tmpfs", TmpfsMount("", None, False), id="a tmpfs without a target"),
        pytest.param(
            "type=cache,id=,target=", CacheMount("", None, "shared", "/", None, False, 0o755, 0, 0), id="E30-empty options"
        ),
        pytest.param(
            "type=secret,id=a,source=,target=,env=", SecretMount("a", "/run/secrets/a", None, False, 0o400, 0, 0),
            id="E31-empty options",
        ),
        pytest.param("type=ssh,id=,target=", SshMount("default", None, False, 0o600, 0, 0), id="an agent with empty options"),
        pytest.param("type=bind,dst=a", BindMount("a", "/", None, True), id="E29-a relative target stays so"),
        pytest.param("target=/a,rw", BindMount("/a", "/", None, False), id="E29-rw"),
        pytest.param("target=/a,readwrite=true", BindMount("/a", "/", None, False), id="E29-readwrite"),
        pytest.param("target=/a,ro=false", BindMount("/a", "/", None, False), id="E29-ro can be false"),
        pytest.param("destination=/a,src=b/c,from=S", BindMount("/a", "b/c", "S", True), id="E29-source and from"),
        pytest.param(
            "type=cache,target=/a",
            CacheMount("/a", None, "shared", "/", None, False, 0o755, 0, 0),
            id="E30-a cache without an id",
        ),
        pytest.param(
            "TYPE=Cache,Target=/a,id=i,sharing=LOCKED,ro,mode=0700,uid=1,gid=2,from=s,source=/t",
            CacheMount("/a", "i", "locked", "/t", "s", True, 0o700, 1, 2),
            id="E30-a cache with everything",
        ),
        pytest.param("type=tmpfs,target=/a", TmpfsMount("/a", None, False), id="a tmpfs"),
        pytest.param("type=tmpfs,target=/a,size=1.5k", TmpfsMount("/a", 1536, False), id="a tmpfs with a size"),
        pytest.param(
            "type=secret,id=a/b",
            SecretMount("a/b", "/run/secrets/b", None, False, 0o400, 0, 0),
            id="E31-a secret is named by the end of its id",
        ),
        pytest.param(
            "type=secret,target=/x/y",
            SecretMount("y", "/x/y", None, False, 0o400, 0, 0),
            id="E31-the id of a secret is the end of its target",
        ),
        pytest.param(
            "type=secret,source=s,dst=/t,required,mode=0444,uid=3,gid=4",
            SecretMount("s", "/t", None, True, 0o444, 3, 4),
            id="E31-a secret with everything",
        ),
        pytest.param(
            "type=secret,id=s,env=S", SecretMount("s", None, "S", False, 0o400, 0, 0), id="E31-env alone makes no file"
        ),
        pytest.param(
            "type=secret,id=s,env=S,target=/t,required=false",
            SecretMount("s", "/t", "S", False, 0o400, 0, 0),
            id="E31-env and a target",
        ),
        pytest.param("type=ssh", SshMount("default", None, False, 0o600, 0, 0), id="an agent"),
        pytest.param(
            "type=ssh,id=k,target=/s,required=1,mode=0666,uid=5,gid=6",
            SshMount("k", "/s", True, 0o666, 5, 6),
            id="an agent with everything",
        ),
    ],
)
def test_a_mount_has_values(value: str, expected: RunMount) -> None:
    assert values(value) == expected


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [
        pytest.param("type=vol,target=/a", 13, "unsupported mount type 'vol'", id="an unknown type"),
        pytest.param("type=$T,target=/a", 13, "cannot contain variables", id="a type with a variable"),
        pytest.param(
            "target=/a,bind-propagation=suid", 23, "invalid mount option 'bind-propagation'", id="propagation"
        ),
        pytest.param("target=/a,rw,bind-propagation=dev", 26, "invalid mount option", id="propagation behind rw"),
        pytest.param("target=/a,z", 23, "invalid mount option 'z'", id="relabelling"),
        pytest.param("target=/a,", 23, "invalid mount option ''", id="a comma at the end"),
        pytest.param("target=/a,target=/b", 23, "duplicate mount option 'target'", id="a key twice"),
        pytest.param("target=/a,dst=/b", 23, "duplicate mount option 'dst'", id="a key under two names"),
        pytest.param("target=/a,type=bind,type=bind", 33, "duplicate mount option 'type'", id="type twice"),
        pytest.param("target=/a,ro,rw", 26, "exclude each other", id="ro and rw"),
        pytest.param("target=/a\\\\,b", 13, "a quote or a backslash", id="a backslash that stays"),
        pytest.param("target=/a\\,b", 13, "invalid mount option 'b'", id="a comma that is escaped"),
        pytest.param("'target=/a,\"b\"'", 13, "a quote or a backslash", id="a quote that stays"),
        pytest.param("target=/a,source", 23, "needs a value", id="a key without a value"),
        pytest.param("target=/a,readonly=", 23, "empty value", id="a key with an empty value"),
        pytest.param("target=/", 13, "root directory", id="E29-the root as target"),
        pytest.param("target=/a/..", 13, "root directory", id="E29-the root in other words"),
        pytest.param("target=/a,id=b", 23, "not allowed with type=bind", id="a bind with an id"),
        pytest.param("target=/a,mode=0755", 23, "not allowed with type=bind", id="a bind with a mode"),
        pytest.param("target=/a,sharing=locked", 23, "not allowed with type=bind", id="a bind with sharing"),
        pytest.param("type=cache,target=/a,size=1", 34, "not allowed with type=cache", id="a cache with a size"),
        pytest.param("type=cache,target=/a,required", 34, "not allowed with type=cache", id="a cache that is required"),
        pytest.param("type=tmpfs,target=/a,from=b", 34, "not allowed with type=tmpfs", id="a tmpfs from somewhere"),
        pytest.param("type=secret,id=a,from=b", 30, "not allowed with type=secret", id="E31-a secret from somewhere"),
        pytest.param("type=secret", 5, "needs an id or a target", id="E31-a secret without a name"),
        pytest.param("type=secret,id=a,source=b", 30, "not both", id="E31-a secret with two names"),
        pytest.param("type=secret,id=..", 5, "needs a target", id="E31-a secret that is the parent"),
        pytest.param("type=secret,id=a,env=1A", 30, "not a valid name of a variable", id="E31-an invalid variable name"),
        pytest.param("type=secret,id=a,required=maybe", 30, "expected true or false", id="an invalid boolean"),
        pytest.param("type=cache,target=/a,sharing=some", 34, "expected shared, private or locked", id="sharing"),
        pytest.param("type=cache,target=/a,mode=888", 34, "expected an octal mode", id="a mode"),
        pytest.param("type=cache,target=/a,mode=17777", 34, "expected an octal mode", id="a mode too high"),
        pytest.param("type=cache,target=/a,uid=-1", 34, "expected a number", id="a negative owner"),
        pytest.param("type=cache,target=/a,gid=4294967295", 34, "expected a number", id="a group that means no change"),
        pytest.param("type=tmpfs,target=/a,size=big", 34, "invalid size 'big'", id="a size"),
    ],
)
def test_an_invalid_mount_is_an_error_at_its_option(value: str, column: int, message: str) -> None:
    found, words = refusal(value)
    assert message in words
    assert found == column


def test_values_can_contain_variables() -> None:
    value = "type=cache,target=$T/x,id=${I:-j},uid=$U,sharing=$S,ro=$R"
    expected = CacheMount("/a/x", "j", "private", "/", None, True, 0o755, 7, 0)
    assert values(value, T="/a", U="7", S="private", R="1") == expected


@pytest.mark.parametrize(
    ("value", "scope", "message"),
    [
        pytest.param("type=cache,target=/a,mode=$T", {}, "'mode' is empty", id="E9-a variable without a value"),
        pytest.param("target=$T", {"T": "/"}, "root directory", id="E9-a variable that is the root"),
        pytest.param("type=cache,target=/a,uid=$U", {"U": "me"}, "expected a number", id="E9-not a number"),
        pytest.param("target=$T", {"T": "/a\0b"}, "a NUL character", id="E9-a NUL"),
        pytest.param("target=/a,ro=$R", {"R": "x"}, "expected true or false", id="E9-not a boolean"),
    ],
)
def test_values_with_variables_are_checked_after_expansion(
    value: str, scope: dict[str, str], message: str
) -> None:
    with pytest.raises(ParseError, match=message):
        values(value, **scope)


def test_a_comma_in_the_value_of_a_variable_does_not_separate_options() -> None:
    assert values("target=$T", T="/a,rw") == BindMount("/a,rw", "/", None, True)


def test_an_option_is_found_by_its_canonical_name() -> None:
    mount = written("dst=/a,from=b")
    assert isinstance(mount.option("from"), Word)
    assert mount.option("target") is not None
    assert mount.option("source") is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1", 1), ("64k", 65536), ("1.5G", 3 << 29), ("2MiB", 2 << 20), ("1 kb", 1024), ("1T", 1 << 40)],
)
def test_a_size_is_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1.k", "9" * 20, "99999999p", "1e3"])
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(SizeError):
        parse_size(text)


@PROPERTY
@given(st.text(st.sampled_from('typebindcache=,/$\\" a0rw'), max_size=40))
def test_any_text_is_a_mount_or_refused(text: str) -> None:
    try:
        recipe = parse(f"FROM x\nRUN --mount={text} y")
    except ParseError as error:
        assert error.span.line == 2
    else:
        assert len(recipe.stages[0].instructions) == 1
