"""The first differences between two images of one recipe: by layer, then by path, with the usual cure."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING

from pybuild.builder.files.layer_contents import blob_place
from pybuild.builder.plan.history import instruction_of
from pybuild.builder.reproduce.contents import LARGEST, difference
from pybuild.store.formats.clamp import stored_time
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.oci_config import normalise_history
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, sort_key
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store

MOST = 20  # differences that are looked into
_SECONDS = "set SOURCE_DATE_EPOCH, for the build and in the RUN (ARG SOURCE_DATE_EPOCH)"
_CURES = (  # a pattern of the path -> what helps
    (r"(^|/)__pycache__/|\.pyc$", "set PYTHONDONTWRITEBYTECODE=1, or compile with python -m compileall --invalidation-mode unchecked-hash; pip install --no-compile"),
    (r"^var/cache/ldconfig/", "rm /var/cache/ldconfig/aux-cache at the end of the RUN"),
    (r"^var/(cache/(apt|debconf)|lib/apt/lists)/", "rm -rf /var/lib/apt/lists/* /var/cache/apt/*, or a cache mount for both"),
    (r"^var/log/|\.log$", "remove logs at the end of the RUN"),
    (r"^(etc|var/lib/dbus)/machine-id$", "empty /etc/machine-id at the end of the RUN"),
    (r"^etc/(shadow|passwd|group|gshadow)-?$", "useradd writes the day: set SOURCE_DATE_EPOCH in the RUN"),
    (r"^(root/|home/[^/]+/)\.cache/", "remove ~/.cache at the end of the RUN, or a cache mount for it"),
    (r"^tmp/|^var/tmp/|^run/", "remove temporary files at the end of the RUN, or a tmpfs mount for them"),
    (r"(^|/)(ssh_host_|.*\.(key|pem)$)", "make keys when the container starts, not in the image"),
)  # fmt: skip
_CONTENT_CURES = (
    ("build id", "link with -Wl,--build-id=none, or give the compiler a fixed directory: -ffile-prefix-map"),
    ("section .", "use a fixed directory and -ffile-prefix-map, and no __DATE__ and __TIME__ (SOURCE_DATE_EPOCH sets them)"),
    ("header of gzip", "gzip -n"),
    ("time ", "give the archiver fixed times: tar --mtime=@$SOURCE_DATE_EPOCH --sort=name, zip -X, ar with D"),
)  # fmt: skip


@frozen
class ChangedPath:
    """One difference between two builds. `layer` counts from 1; 0 is the config."""

    platform: str
    layer: int
    instruction: str
    path: str
    what: tuple[str, ...]
    cure: str


def compare(
    one: tuple[Store, StoredImage], other: tuple[Store, StoredImage], clamp: int | None
) -> Iterator[ChangedPath]:
    """The differences of two images. `clamp`: store/formats/clamp.py."""
    (store, image), (second, again) = one, other
    platform = str(image.exact_platform)
    lines = [line for line in normalise_history(image.config).history if not line.empty_layer]
    pairs = list(zip(image.config.diff_ids, again.config.diff_ids, strict=False))
    chains = [store.snapshots.changesets(image.snapshot)[::-1], second.snapshots.changesets(again.snapshot)[::-1]]
    differing = False
    for number, (diff_id, other_id) in enumerate(pairs):
        if diff_id == other_id:
            continue
        differing = True
        text = instruction_of(lines[number].created_by).removesuffix(" # buildkit") if number < len(lines) else ""
        layers = _Layer(store, chains[0][number]), _Layer(second, chains[1][number])
        for path, what in _of_layers(*layers, clamp):
            yield ChangedPath(
                platform, number + 1, text, path.decode("utf-8", "backslashreplace"), what, _cure(path, what)
            )
    if not differing and image.manifest_digest != again.manifest_digest:
        first, then = (json.dumps(json.loads(one.config.to_bytes()), indent=1).encode() for one in (image, again))
        yield ChangedPath(platform, 0, "", "", tuple(difference(first, then)), _SECONDS)


class _Layer:
    """The files of one layer in one of the stores."""

    def __init__(self, store: Store, changeset: str) -> None:
        self._store, self._changeset = store, changeset
        self.entries = {entry.path: entry for entry in store.changesets.toc(changeset)}

    def content(self, path: bytes) -> bytes | None:
        """The content of a file; None if it is too large to be looked into."""
        entry = self.entries[path]
        if entry.hardlink:
            entry = self.entries[entry.hardlink]
        blob = self._store.changesets.any_blob(self._changeset)
        if blob is None or entry.offset < 0 or entry.size > LARGEST:
            return None
        with closing(blob_place(self._store, blob).open_compressed()) as raw:
            reader = DecompressingReader(raw, blob.compression, hashed=False)
            left = entry.offset
            while left:
                left -= len(reader.read(min(left, 1 << 20)))
            parts: list[bytes] = []
            while (size := entry.size - sum(map(len, parts))) > 0:
                parts.append(reader.read(min(size, 1 << 20)))
        return b"".join(parts)


def _of_layers(one: _Layer, other: _Layer, clamp: int | None) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    for path in sorted(one.entries.keys() | other.entries.keys(), key=sort_key):
        entry, again = one.entries.get(path), other.entries.get(path)
        if entry is None or again is None:
            yield path, (f"only in the {'second' if entry is None else 'first'} build",)
            continue
        what = _of_entries(entry, again, clamp)
        if entry.kind is again.kind is Kind.FILE and entry.sha256 != again.sha256:
            contents = one.content(path), other.content(path)
            known = contents[0] is not None and contents[1] is not None
            what += (
                difference(contents[0] or b"", contents[1] or b"")
                if known
                else [f"the content, {entry.size} and {again.size} bytes"]
            )
        if what:
            yield path, tuple(what)


def _of_entries(one: Entry, other: Entry, clamp: int | None) -> list[str]:
    """What differs in the metadata of a path."""
    times = stored_time(one.mtime, clamp), stored_time(other.mtime, clamp)
    facts = (
        ("type", one.kind.name.lower(), other.kind.name.lower()),
        ("mode", f"{one.mode:o}", f"{other.mode:o}"),
        ("owner", f"{one.uid}:{one.gid}", f"{other.uid}:{other.gid}"),
        ("time", *map(str, times)),
        ("link", show(one.link), show(other.link)),
        ("hard link", show(one.hardlink), show(other.hardlink)),
        ("attributes", str(one.xattrs), str(other.xattrs)),
        ("device", str(one.rdev), str(other.rdev)),
    )
    return [f"{name}: {first}, {second}" for name, first, second in facts if first != second]


def _cure(path: bytes, what: tuple[str, ...]) -> str:
    text = path.decode("utf-8", "replace")
    for pattern, cure in _CURES:
        if re.search(pattern, text):
            return cure
    for words, cure in _CONTENT_CURES:
        if any(words in line and not line.startswith("time: ") for line in what):
            return cure
    dated = any(line.startswith("time: ") or re.search(r"\d\d:\d\d|\b1[5-9]\d{8}\b|\b20\d\d\b", line) for line in what)
    return _SECONDS if dated else ""
