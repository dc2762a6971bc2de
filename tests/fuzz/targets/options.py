"""The values of options and flags: the first line is the name of the kind, the rest the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.builder.sources.contexts import context_name
from pybuild.options import steps
from pybuild.options.annotations import parse_annotation
from pybuild.options.arguments import csv_fields, size_option
from pybuild.options.outputs import parse_output
from pybuild.options.secrets import parse_secrets
from pybuild.options.sources import _epoch
from pybuild.parser import (
    ExpansionError,
    PatternError,
    apply_mode,
    expand,
    match_pattern,
    parse_duration,
    parse_mode,
    parse_ports,
    parse_size,
    valid_signal,
)
from pybuild.parser.errors import ValueTextError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.values.errors import PybuildError
from pybuild.values.redact import redact
from tests.fuzz.target import FuzzTarget

if TYPE_CHECKING:
    from collections.abc import Callable


def read(data: bytes) -> bool:
    """A value is read, or refused with an error of pybuild or of the command line; what is written is read as the same."""
    kind, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
    if kind not in KINDS:
        return False
    try:
        KINDS[kind](text)
    except (PybuildError, click.UsageError, PatternError, ExpansionError, ValueTextError) as error:
        assert str(error) and len(str(error)) < 4 * len(text) + 1000
        return False
    return True


def _duration(text: str) -> None:
    assert abs(parse_duration(text)) < 1 << 63


def _size(text: str) -> None:
    assert 0 <= parse_size(text) < 1 << 63
    assert size_option("--x", text) == parse_size(text)


def _mode(text: str) -> None:
    mode = parse_mode(text)
    for before in (0, 0o644, 0o7777):
        for directory in (False, True):
            after = apply_mode(mode, before, directory=directory)
            assert 0 <= after <= 0o7777


def _platform(text: str) -> None:
    found = Platform.parse(text)
    assert Platform.parse(str(found)) == found
    assert found.matches(found)


def _digest(text: str) -> None:
    assert str(Digest.parse(text)) == text


def _ports(text: str) -> None:
    ports = parse_ports([text])
    assert parse_ports(ports[:99]) == ports[:99]


def _pattern(text: str) -> None:
    pattern, _, name = text.partition("\n")
    match_pattern(pattern, name.replace("/", ""))


def _word(text: str) -> None:
    word, _, value = text.partition("\n")
    expand(word, {"A": value, "B": "b" * 9, "C": ""})


def _redact(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


KINDS: dict[str, Callable[[str], object]] = {
    "size": _size,
    "duration": _duration,
    "mode": _mode,
    "ports": _ports,
    "platform": _platform,
    "digest": _digest,
    "pattern": _pattern,
    "word": _word,
    "redact": _redact,
    "signal": valid_signal,
    "csv": lambda text: csv_fields("--x", text),
    "output": parse_output,
    "secret": lambda text: parse_secrets([text]),
    "ulimit": lambda text: steps._ulimits((text,)),
    "add-host": steps._host,
    "memory": steps._memory,
    "shm-size": steps._shm_size,
    "cpus": steps._cpus,
    "annotation": parse_annotation,
    "context": context_name,
    "epoch": lambda text: _epoch({"SOURCE_DATE_EPOCH": text}),
}
TARGET = FuzzTarget(
    read,
    seeds=(
        b"size\n1.5GiB", b"duration\n1h2m3.5s", b"duration\n-500ms", b"mode\n0755", b"mode\nu+x,g=u,o-rwX", b"ports\n80-90/udp", b"ports\n443",
        b"platform\nlinux/arm/v7", b"platform\naarch64", b"digest\nsha256:" + b"0a" * 32, b"pattern\n[a-z]*?\\*\nabc*", b"word\n${A%%*/}-${A/x/y}\na/b/x",
        b"word\n${A:-$B}${C:+x}${A#?}\nv", b"redact\nhttps://u:p@h/x git://t@h", b"signal\nSIGRTMIN+3", b"csv\na,\"b\"\"c\",d", b"output\ntype=oci,dest=x,name=a:b",
        b"output\ntype=docker,dest=-,compression=zstd,force-compression=true", b"output\nout", b"secret\nid=a,src=/b", b"secret\nid=a,env=B,type=env",
        b"ulimit\nnofile=1024:2048", b"ulimit\ncore=-1", b"add-host\nhost:[::1]", b"add-host\nhost=127.0.0.1", b"memory\n512m", b"shm-size\n1g", b"cpus\n1.5",
        b"annotation\nmanifest:a=b", b"context\nname", b"epoch\n1700000000",
    ),
    words=(
        *(kind.encode() + b"\n" for kind in KINDS), b"\xc2\xb2", b"\xd9\xa1", b"\xe2\x84\xaa", b"\0", b"\xff", b"\n", b'"', b'""', b",", b"=", b":", b"-",
        b"${", b"}", b"//", b"%%", b"##", b"*", b"\\", b"type=", b"dest=", b"id=", b"name=", b"1" * 20,
    ),
    longest=300,
)  # fmt: skip
