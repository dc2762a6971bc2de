"""Users and groups of an image, from its /etc/passwd and /etc/group.

The files are parsed here. The C library's lookups would load the name service modules of this machine or of the image.
"""

from __future__ import annotations

from pybuild.builder.errors import BuildError
from pybuild.values import frozen
from pybuild.values.pattern import pattern

_MAX_ID = 0xFFFFFFFE  # 2^32 - 1 means "leave as it is" to chown(2)
_NUMBER = pattern(r"[0-9]{1,10}")


@frozen
class Identity:
    """The ids and the home directory of a process."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@frozen
class _User:
    name: str
    uid: int
    gid: int
    home: str


@frozen
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def is_numeric(text: str) -> bool:
    """Whether an owner (`user`, `user:group`) has no names: then the files of the image do not matter."""
    return all(_NUMBER.fullmatch(part) for part in text.split(":") if part)


class UserDatabase:
    """The contents of passwd and group; either can be empty."""

    def __init__(self, passwd: bytes, group: bytes) -> None:
        self._users = [user for line in _lines(passwd) if (user := _user(line))]
        self._groups = [found for line in _lines(group) if (found := _group(line))]

    def identity(self, text: str) -> Identity:
        """The identity for `USER text`: `user` or `user:group`, as names or numbers. "" is root.

        A number is always an id, even if it is also the name of a user or group (moby/sys/user, GetExecUser).
        A number that is in passwd gets that user's groups; any other number has group 0. If a group is given, there are no
        supplementary groups; `:group` is root with that group. Raises BuildError for an unknown name.
        """
        name, _, group = text.partition(":")
        name = name or "0"
        user = self._find(name)
        if user is None:
            uid, gid, home = self._number(name, "user", "passwd"), 0, "/"
            groups: tuple[int, ...] = ()
        else:
            uid, gid, home = user.uid, user.gid, user.home or "/"
            groups = tuple(found.gid for found in self._groups if user.name in found.members)
        if group:
            gid = self._gid(group)
            groups = ()
        return Identity(uid, gid, tuple(dict.fromkeys((gid, *groups))), home)

    def owner(self, text: str) -> tuple[int, int]:
        """uid and gid for `--chown=text`. A number alone is both uid and gid; a name alone has its group from passwd.

        Raises BuildError for an unknown name.
        """
        name, colon, group = text.partition(":")
        user = self._find(name) if not _NUMBER.fullmatch(name) else None
        uid = user.uid if user is not None else self._number(name, "user", "passwd") if name else 0
        if colon:
            return uid, self._gid(group) if group else (user.gid if user is not None else uid)
        return uid, user.gid if user is not None else uid

    def workdir_owner(self, text: str) -> tuple[int, int]:
        """uid and gid of the directories that WORKDIR makes. A number alone is also the gid here, unlike in a RUN.

        As in BuildKit, root stands in for a name that is not in the files.
        """
        name, _, group = text.partition(":")
        known_group = group if group and self._knows_group(group) else ""
        return self.owner((name if self._knows_user(name) else "0") + (f":{known_group}" if known_group else ""))

    def unknown_in(self, text: str) -> str | None:
        """The part of `user:group` that the files lack, as `user NAME` or `group NAME`; None if they have both."""
        name, _, group = text.partition(":")
        if name and not self._knows_user(name):
            return f"user {name}"
        return f"group {group}" if group and not self._knows_group(group) else None

    def _knows_user(self, name: str) -> bool:
        return self._find(name) is not None or _id(name) is not None

    def _knows_group(self, name: str) -> bool:
        return _id(name) is not None or any(group.name == name for group in self._groups)

    def _find(self, name: str) -> _User | None:
        number = _id(name)
        for user in self._users:
            if user.name == name if number is None else user.uid == number:
                return user
        return None

    def _gid(self, name: str) -> int:
        if not _NUMBER.fullmatch(name):
            for group in self._groups:
                if group.name == name:
                    return group.gid
        return self._number(name, "group", "group")

    @staticmethod
    def _number(text: str, kind: str, file: str) -> int:
        number = _id(text)
        if number is not None:
            return number
        raise BuildError(
            f"unable to find {kind} {text}: no matching entries in /etc/{file}",
            hint="create it in a RUN, or use a number",
        )


def _id(text: str) -> int | None:
    """A user or group id; None if the text is not a number, or the number is too large for the kernel."""
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= _MAX_ID else None


def _lines(data: bytes) -> list[list[str]]:
    return [
        line.split(":")
        for line in map(str.strip, data.decode("utf-8", "surrogateescape").split("\n"))
        if line and not line.startswith("#")
    ]


def _user(fields: list[str]) -> _User | None:
    if len(fields) < 4 or not fields[0] or (uid := _id(fields[2])) is None or (gid := _id(fields[3])) is None:
        return None
    return _User(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _group(fields: list[str]) -> _Group | None:
    if len(fields) < 3 or not fields[0] or (gid := _id(fields[2])) is None:
        return None
    members = fields[3].split(",") if len(fields) > 3 else []
    return _Group(fields[0], gid, tuple(member for member in members if member))
