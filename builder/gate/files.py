"""The rules about single files: modes, types, owners. Tables of contents are all that this reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.gate.package_caches import cache_of
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.sizes import content_size
from pybuild.store.layers.view import View
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pybuild.builder.events import RuleBroken
    from pybuild.builder.gate.rules import Allowances
    from pybuild.builder.gate.subject import Subject
    from pybuild.store.formats.toc import Toc

_SETUID, _SETGID, _STICKY, _WORLD_WRITE = 0o4000, 0o2000, 0o1000, 0o0002
_DEVICES = (Kind.CHAR, Kind.BLOCK)


def _setuid(entry: Entry) -> str:
    return f"set-user-ID: runs as user {entry.uid}" if entry.kind is Kind.FILE and entry.mode & _SETUID else ""


def _setgid(entry: Entry) -> str:
    # In a directory the bit only says which group new files get.
    return f"set-group-ID: runs as group {entry.gid}" if entry.kind is Kind.FILE and entry.mode & _SETGID else ""


def _capabilities(entry: Entry) -> str:
    has = entry.kind is Kind.FILE and any(name == b"security.capability" for name, _ in entry.xattrs)
    return "has file capabilities" if has else ""


def _world_writable(entry: Entry) -> str:
    if not entry.mode & _WORLD_WRITE:
        return ""
    if entry.kind is Kind.FILE:
        return f"everybody can write to it (mode {entry.mode:04o})"
    if entry.kind is Kind.DIRECTORY and not entry.mode & _STICKY:
        return f"everybody can replace files in it (mode {entry.mode:04o}, no sticky bit)"
    return ""


def _device(entry: Entry) -> str:
    kind = "character" if entry.kind is Kind.CHAR else "block"
    return f"is a {kind} device" if entry.kind in _DEVICES else ""


_CHECKS: dict[str, Callable[[Entry], str]] = {
    "setuid": _setuid,
    "setgid": _setgid,
    "capabilities": _capabilities,
    "world-writable": _world_writable,
    "devices": _device,
}


def broken_by_files(
    subject: Subject, rules: Sequence[str], tables: Sequence[Toc], allowed: Allowances
) -> Iterator[RuleBroken]:
    """What visible files of the image break of those rules that look at one file at a time."""
    checks = [(rule, check) for rule, check in _CHECKS.items() if rule in rules]
    if not checks:
        return
    view = View(tables[::-1])
    for number, toc in enumerate(tables):
        for entry in toc:
            for rule, check in checks:
                text = check(entry)
                if text and not allowed.path(rule, entry.path) and _is_visible(view, toc, entry):
                    yield subject.finding(rule, text, entry.path, number)


def broken_by_owners(
    subject: Subject,
    tables: Sequence[Toc],
    users: frozenset[int],
    groups: frozenset[int],
    allowed: Allowances,
) -> Iterator[RuleBroken]:
    """unknown-owner: the visible files whose user or group is not one of those that the image names."""
    view = View(tables[::-1])
    for number, toc in enumerate(tables):
        for entry in toc:
            if entry.kind is Kind.WHITEOUT or (entry.uid in users and entry.gid in groups):
                continue
            if allowed.path("unknown-owner", entry.path) or not _is_visible(view, toc, entry):
                continue
            what = f"user {entry.uid}" if entry.uid not in users else f"group {entry.gid}"
            yield subject.finding(
                "unknown-owner", f"belongs to {what}, which the image does not name", entry.path, number
            )


def broken_by_caches(subject: Subject, tables: Sequence[Toc], allowed: Allowances) -> Iterator[RuleBroken]:
    """package-caches: the caches in each layer, with their bytes. One that a later layer deletes is still transferred."""
    view = View(tables[::-1])
    for number, toc in enumerate(tables):
        found: dict[tuple[bytes, str], list[int]] = {}  # directory and tool -> bytes, and those that are visible
        for entry in toc:
            if not content_size(entry) or (cache := cache_of(entry.path)) is None:
                continue
            if allowed.path("package-caches", entry.path):
                continue
            sizes = found.setdefault(cache, [0, 0])
            sizes[0] += entry.size
            if _is_visible(view, toc, entry):
                sizes[1] += entry.size
        for (directory, tool), (size, visible) in found.items():
            gone = "" if visible else ", which a later layer deletes and every pull transfers"
            yield subject.finding("package-caches", f"{human_size(size)} of {tool}{gone}", directory, number, size)


def _is_visible(view: View, toc: Toc, entry: Entry) -> bool:
    """Whether no later layer hides this entry."""
    located = view.locate(entry.path)
    return located is not None and located[0] is toc
