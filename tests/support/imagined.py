"""Images for pages that exist as tables of contents only."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NoReturn

from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig
from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of, sort_key
from pybuild.store.importing.archived import ImageLayer, ReadableImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TIME = "2026-11-30T10:00:00Z"


def a_file(path: bytes | str, size: int = 1, content: str = "", *, of: str = "", **fields: Any) -> Entry:
    """A file; equal `content` is equal content. `of` is the first name of a hard link."""
    name = path if isinstance(path, bytes) else path.encode()
    digest = Digest.of((content or f"{name!r} {size}").encode())
    entry = Entry(name, Kind.FILE, 0o644, size=size, hardlink=of.encode(), sha256=bytes.fromhex(digest.hex), offset=0)
    return entry._replace(**fields)


def removed(path: str) -> Entry:
    return Entry(path.encode(), Kind.WHITEOUT)


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a layer in order, with directories that they lack."""
    found = {entry.path: entry for entry in entries}
    for path in list(found):
        while (path := parent_of(path)) and path not in found:
            found[path] = Entry(path, Kind.DIRECTORY, 0o755)
    return [found[path] for path in sorted(found, key=sort_key)]


def imagined(
    layers: Sequence[Iterable[Entry]], config: ExecConfig | None = None, instructions: Sequence[str] = ()
) -> ReadableImage:
    """An image with these layers, the lowest first."""
    tables = [Toc.of(with_parents(layer)) for layer in layers]
    texts = [*instructions, *(f"RUN step {number}" for number in range(len(instructions), len(tables)))]
    digests = [Digest.of(f"{number} {text}".encode()) for number, text in enumerate(texts)]
    history = [History(TIME, text) for text in texts]
    history.insert(1, History(TIME, "ENV A=1", empty_layer=True))
    return ReadableImage(
        ("app:1",),
        Digest.of(repr(layers).encode()[:1000]),
        None,
        ImageConfig("amd64", "linux", "", TIME, "", config or ExecConfig(env=("A=1",), cmd=("sh",)), tuple(digests), tuple(history)),
        tuple(ImageLayer(digest, digest, 1000 * (number + 1)) for number, digest in enumerate(digests)),
        lambda: tables,
        _no_tar,
    )


def _no_tar(number: int) -> NoReturn:
    raise AssertionError(f"a page reads no content, not that of layer {number}")


def a_large_image(paths: int, layers: int = 8) -> ReadableImage:
    """An image with about so many paths, in directories of all depths, in `layers` layers that hide some of each other."""
    dice = random.Random(1)
    words = ["lib", "share", "src", "node", "core", "util", "test", "index", "main", "data", "python", "perl", "doc", "locale", "type", "module", "parse", "http", "json", "log"]
    directories = [b"usr", b"opt", b"app", b"var", b"etc"]
    found: list[dict[bytes, Entry]] = [{} for _ in range(layers)]
    for number in range(paths):
        parent = directories[dice.randrange(len(directories))]
        layer = found[0 if dice.random() < 0.4 else dice.randrange(layers)]
        if number % 10 == 0 and parent.count(b"/") < 10:
            path = parent + f"/{dice.choice(words)}{dice.choice(words)}{number % 1000}".encode()
            layer[path] = Entry(path, Kind.DIRECTORY, 0o755)
            directories.append(path)
        else:
            name = f"{dice.choice(words)}-{dice.choice(words)}{number}.{dice.choice(['js', 'py', 'so', 'h', 'md', 'json'])}"
            path = parent + b"/" + name.encode()
            size = int(dice.lognormvariate(8, 2))
            mode, uid = (0o4755, 0) if number % 10_000 == 1 else (0o644, dice.choice((0, 0, 0, 1000)))
            layer[path] = a_file(path, size, str(dice.randrange(paths * 3)), mode=mode, uid=uid, mtime=1_700_000_000 + number)
    for path in dice.sample(sorted(found[0]), paths // 100):
        if found[0][path].kind is Kind.FILE:
            found[-1][path] = removed(path.decode()) if dice.random() < 0.5 else a_file(path, 5)
    return imagined([layer.values() for layer in found])
