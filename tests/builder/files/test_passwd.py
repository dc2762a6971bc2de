"""Users and groups of an image, and the ids for USER, --chown and WORKDIR."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.builder.errors import BuildError
from pybuild.builder.files.passwd import Identity, UserDatabase

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1001:App:/home/app:/bin/sh
nohome:x:7:7
\tindented:x:8:8:::\r
11:x:12:13:a name of digits:/eleven:
twice:x:20:20::/first:
twice:x:21:21::/second:
"""
GROUP = b"""\
root:x:0:
staff:x:50:other,app
wheel:x:10:app
app:x:1001:
more:x:60:nobody,apple
50:x:51:
"""
USERS = UserDatabase(PASSWD, GROUP)
EMPTY = UserDatabase(b"", b"")


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        pytest.param("", Identity(0, 0, (0,), "/root"), id="E32-an empty text is root"),
        pytest.param("root", Identity(0, 0, (0,), "/root"), id="E32-root"),
        pytest.param("app", Identity(1000, 1001, (1001, 50, 10), "/home/app"), id="E32-a name with its groups"),
        pytest.param("1000", Identity(1000, 1001, (1001, 50, 10), "/home/app"), id="E32-a number in passwd"),
        pytest.param("0001000", Identity(1000, 1001, (1001, 50, 10), "/home/app"), id="E32-a number with zeros"),
        pytest.param("4711", Identity(4711, 0, (0,), "/"), id="E32-a number that is not in passwd"),
        pytest.param("app:staff", Identity(1000, 50, (50,), "/home/app"), id="E32-a group removes the supplementary groups"),
        pytest.param("app:", Identity(1000, 1001, (1001, 50, 10), "/home/app"), id="E32-an empty group is ignored"),
        pytest.param("app:77", Identity(1000, 77, (77,), "/home/app"), id="E32-an unknown group by number"),
        pytest.param("1042:1043", Identity(1042, 1043, (1043,), "/"), id="E32-two unknown numbers"),
        pytest.param(":staff", Identity(0, 50, (50,), "/root"), id="E32-a group alone"),
        pytest.param(":", Identity(0, 0, (0,), "/root"), id="E32-a colon alone"),
        pytest.param("nohome", Identity(7, 7, (7,), "/"), id="E32-a short line has no home"),
        pytest.param("indented", Identity(8, 8, (8,), "/"), id="E32-blanks around a line"),
        pytest.param("11", Identity(11, 0, (0,), "/"), id="E32-a number is an id, not a name of digits"),
        pytest.param("0:50", Identity(0, 50, (50,), "/root"), id="E32-the same for a group"),
        pytest.param("twice", Identity(20, 20, (20,), "/first"), id="E32-the first line of a name counts"),
        pytest.param("4294967294", Identity(4294967294, 0, (0,), "/"), id="E32-the largest id"),
    ],
)
def test_the_identity_of_user(text: str, identity: Identity) -> None:
    assert USERS.identity(text) == identity


@pytest.mark.parametrize("text", ["", "0", "0:0"])
def test_root_needs_no_files(text: str) -> None:
    assert EMPTY.identity(text) == Identity(0, 0, (0,), "/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nobody", "unable to find user nobody: no matching entries in /etc/passwd", id="E32-a name"),
        pytest.param("# a comment", "unable to find user # a comment", id="E32-a comment"),
        pytest.param("app:nogroup", "unable to find group nogroup: no matching entries in /etc/group", id="E32-a group"),
        pytest.param("app:staff:x", "unable to find group staff:x", id="E32-two colons"),
        pytest.param("4294967295", "unable to find user 4294967295", id="E32-the id that means no change"),
        pytest.param("99999999999999999999", "unable to find user 9999", id="E32-a number too large"),
        pytest.param("9" * 5000, "unable to find user 9999", id="E32-a number of thousands of digits"),
        pytest.param("-1", "unable to find user -1", id="E32-a negative number"),
        pytest.param("²", "unable to find user ²", id="E32-a digit that is not ASCII"),
        pytest.param("1_0", "unable to find user 1_0", id="E32-an underscore between digits"),
        pytest.param(" 1", "unable to find user  1", id="E32-a blank before a number"),
    ],
)
def test_unknown_users_and_groups_are_refused(text: str, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        USERS.identity(text)
    assert str(caught.value).startswith(message)
    assert caught.value.hint == "create it in a RUN, or use a number"


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        pytest.param("app", (1000, 1001), id="E45-a name has its own group"),
        pytest.param("1000", (1000, 1000), id="E45-a number is its own group, even if it is in passwd"),
        pytest.param("4711", (4711, 4711), id="E45-an unknown number"),
        pytest.param("app:staff", (1000, 50), id="E45-names"),
        pytest.param("1:2", (1, 2), id="E45-numbers"),
        pytest.param("app:2", (1000, 2), id="E45-a name and a number"),
        pytest.param("1:staff", (1, 50), id="E45-a number and a name"),
        pytest.param(":staff", (0, 50), id="E45-a group alone"),
        pytest.param("app:", (1000, 1001), id="E45-an empty group"),
        pytest.param("11", (11, 11), id="E45-a name of digits is a number here"),
    ],
)
def test_the_owner_of_chown(text: str, owner: tuple[int, int]) -> None:
    assert USERS.owner(text) == owner


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("nobody", id="E45-an unknown name"),
        pytest.param("app:nogroup", id="E45-an unknown group"),
        pytest.param("4294967295", id="E45-the id that means no change"),
        pytest.param("1:4294967295", id="E45-an unknown group by name"),
        pytest.param("²", id="E45-a digit that is not ASCII"),
        pytest.param("x:1", id="E45-an unknown name with a group"),
    ],
)
def test_chown_to_an_unknown_name_is_refused_and_never_root(text: str) -> None:
    with pytest.raises(BuildError, match="unable to find"):
        USERS.owner(text)


@pytest.mark.parametrize(("text", "owner"), [("", (0, 0)), ("app", (1000, 1001)), ("1000", (1000, 1000))])
def test_the_owner_of_workdir(text: str, owner: tuple[int, int]) -> None:
    assert USERS.workdir_owner(text) == owner


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"bad", id="one field"),
        pytest.param(b"bad:x:1", id="no group"),
        pytest.param(b"bad:x::", id="empty ids"),
        pytest.param(b"bad:x:1:y:", id="a group that is no number"),
        pytest.param(b"bad:x:-1:1:", id="a negative id"),
        pytest.param(b"bad:x:4294967295:1:", id="an id that no chown takes"),
        pytest.param(b"bad:x:" + b"9" * 5000 + b":1:", id="an id of thousands of digits"),
        pytest.param("bad:x:²:1:".encode(), id="a digit that is not ASCII"),
        pytest.param(b"#bad:x:1:1:", id="a comment"),
        pytest.param(b":x:1:1:", id="no name"),
        pytest.param(b"+::::::", id="a line for a name service"),
        pytest.param(b"\xff\x00:x:1:1:", id="bytes that are no text"),
    ],
)
def test_an_invalid_line_is_ignored(line: bytes) -> None:
    users = UserDatabase(line + b"\nroot:x:0:0::/root:\n", b"bad:x:" + b"9" * 5000 + b":root\nbad\nbad:x:y:root\n")
    assert users.identity("root") == Identity(0, 0, (0,), "/root")
    with pytest.raises(BuildError):
        users.identity("bad")


def test_a_large_file_is_parsed_quickly() -> None:
    count = 100_000
    passwd = b"".join(b"u%d:x:%d:%d::/h:\n" % (n, n, n) for n in range(count))
    group = b"all:x:9:" + b",".join(b"u%d" % n for n in range(count)) + b"\n"
    users = UserDatabase(passwd, group)
    assert users.identity(f"u{count - 1}") == Identity(count - 1, count - 1, (count - 1, 9), "/h")


@settings(max_examples=200)
@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=12))
def test_any_content_gives_an_id_or_an_error(passwd: bytes, group: bytes, text: str) -> None:
    try:
        found = UserDatabase(passwd, group).identity(text)
    except BuildError:
        return
    assert all(0 <= number < 2**32 - 1 for number in (found.uid, found.gid, *found.groups))
