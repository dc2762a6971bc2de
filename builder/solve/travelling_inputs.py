"""What steps were made of, as records of a cache tell it, and how to compare it with a step here.

Of the environment only names and hashes of values travel, because a build argument of another stage might be a token; the
command is readable only if the history of the image shows it anyway.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASHED = "sha256:"  # before the hash of a text that does not travel


def travelling(inputs: str, sources: str, *, clear: bool) -> str:
    """The fields of a key (a JSON text) as they travel. With `clear` the command is readable.

    `sources` is the digest of the sources of a COPY, "" if it is not known.
    """
    fields = json.loads(inputs)
    if "env" in fields:
        pairs = (str(pair).partition("=") for pair in fields["env"])
        fields["env"] = [f"{name}={_hash(value)}" for name, _, value in pairs]
    if "argv" in fields and not clear:
        fields["argv"] = [_hash(str(word)) for word in fields["argv"]]
    if sources:
        fields["source_content"] = sources
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def is_hashed(value: str) -> bool:
    """Whether a value of a cache does not say what it was."""
    return value.startswith(_HASHED) and len(value) == len(_HASHED) + 64


def comparable(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    """The fields of `new` with those values hashed that are hashed in `old`, of a cache: equal values become equal."""
    found = dict(new)
    hashes = {pair.partition("=")[0] for pair in _texts(old.get("env")) if is_hashed(pair.partition("=")[2])}
    if "env" in new:
        pairs = [pair.partition("=") for pair in _texts(new["env"])]
        found["env"] = [f"{name}={_hash(value) if name in hashes else value}" for name, _, value in pairs]
    if any(map(is_hashed, _texts(old.get("argv")))):
        found["argv"] = [_hash(word) for word in _texts(new.get("argv"))]
    return found


def placed_alike(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    """The fields of `old`, a COPY, in the form of `new`: by its sources alone if `new` is known by these alone."""
    if new.get("kind") != "source" or "source_content" not in old:
        return dict(old)
    same = {name: value for name, value in new.items() if name not in old}  # the text is compared as an instruction
    return {**same, **old, "kind": "source", "content": old["source_content"]}


def _hash(text: str) -> str:
    return _HASHED + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
