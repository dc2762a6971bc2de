"""Valid and invalid values of -o/--output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from pybuild.builder.output.export import Format, ImageOutput, LocalOutput, Output, RegistryOutput, TarOutput
from pybuild.options.outputs import _KEYS, parse_output, parse_outputs
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

OCI, DOCKER = Format.OCI, Format.DOCKER
NAME = Reference.parse("app:1")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", LocalOutput("out")),
        ("./out/", LocalOutput("./out/")),
        ("a=b", LocalOutput("a=b")),
        ("-", TarOutput("-")),
        ("type=local,dest=out", LocalOutput("out")),
        ("type=tar", TarOutput("-")),
        ("type=tar,dest=-", TarOutput("-")),
        ("dest=x.tar,type=tar", TarOutput("x.tar")),
        ("type=oci,dest=x.tar", ImageOutput(OCI, "x.tar")),
        ("type=oci,dest=-", ImageOutput(OCI, "-")),
        ("type=oci,dest=/dev/stdout", ImageOutput(OCI, "-")),
        ("TYPE=oci, DEST=x.tar", ImageOutput(OCI, "x.tar")),
        ("type=docker,dest=x.tar", ImageOutput(DOCKER, "x.tar")),
        ("type=oci,dest=d,tar=false", ImageOutput(OCI, "d", directory=True)),
        ("type=oci,dest=d,tar=0", ImageOutput(OCI, "d", directory=True)),
        ("type=oci,dest=x,tar=true", ImageOutput(OCI, "x")),
        ("type=oci,dest=x,compression=zstd", ImageOutput(OCI, "x", compression=Compression.ZSTD)),
        (
            "type=oci,dest=x,compression=uncompressed,force-compression=true",
            ImageOutput(OCI, "x", compression=Compression.UNCOMPRESSED, force=True),
        ),
        ("type=oci,dest=x,force-compression=1", ImageOutput(OCI, "x", compression=Compression.GZIP, force=True)),
        ("type=oci,dest=x,force-compression=false", ImageOutput(OCI, "x")),
        ("type=docker,dest=x,name=app:1", ImageOutput(DOCKER, "x", names=(NAME,))),
        ('type=oci,dest=x,"name=app:1,b"', ImageOutput(OCI, "x", names=(NAME, Reference.parse("b:latest")))),
        ('type=oci,"dest=a,b"', ImageOutput(OCI, "a,b")),
        ("type=oci,dest=a=b", ImageOutput(OCI, "a=b")),
        ("type=registry", RegistryOutput()),
        ("type=image,push=true", RegistryOutput()),
        ('type=registry,"name=app:1,b"', RegistryOutput((NAME, Reference.parse("b:latest")))),
        ("type=registry,compression=zstd", RegistryOutput(compression=Compression.ZSTD)),
        ("type=registry,force-compression=true", RegistryOutput(compression=Compression.GZIP, force=True)),
        ("type=registry,oci-mediatypes=false", RegistryOutput(docker_types=True)),
    ],
)
def test_an_output_is_read_as_buildx_reads_it(text: str, output: Output) -> None:
    assert parse_output(text) == output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty value"),
        ("dest=x.tar", "type= is missing; it can be oci, docker, tar, local, registry, image"),
        ("dest=x.tar,name=a", "type= is missing; it can be oci, docker, tar, local, registry, image"),
        ("a,b", "expected KEY=VALUE, not 'a'"),
        ("type=oci,x", "expected KEY=VALUE, not 'x'"),
        ("type=oci,=x", "expected KEY=VALUE, not '=x'"),
        ("type=oci,,dest=x", "expected KEY=VALUE, not ''"),
        ("type=zip,dest=x", "unknown type 'zip'; it can be oci, docker, tar, local, registry, image"),
        ("type=registry,dest=x", "unknown key 'dest'; type=registry takes type, name, compression, force-compression, oci-mediatypes, push"),
        ("type=registry,push=false", "expected push=true"),
        ("type=image,name=x", "expected push=true"),
        ("type=registry,compression=zstd,oci-mediatypes=false", "compression=zstd needs OCI's media types"),
        ("type=oci,type=oci,dest=x", "type= is given twice"),
        ("type=oci,dest=x,dest=y", "dest= is given twice"),
        ("type=oci", "expected dest=FILE, or dest=- for standard output"),
        ("type=docker", "expected dest=FILE"),
        ("type=local", "expected dest=DIRECTORY"),
        ("type=local,dest=-", "expected dest=DIRECTORY"),
        ("type=oci,dest=-,tar=false", "expected dest=DIRECTORY"),
        ("type=oci,dest=x,annotation=y", "annotation: expected annotation.KEY=VALUE or annotation-LEVEL.KEY=VALUE"),
        ("type=docker,dest=x,tar=false", "unknown key 'tar'; type=docker takes type, dest, name, compression, force-compression"),
        ("type=local,dest=x,compression=gzip", "unknown key 'compression'; type=local takes type, dest"),
        ("type=tar,dest=x,name=a", "unknown key 'name'; type=tar takes type, dest"),
        ("type=oci,dest=x,compression=lz4", "compression=lz4: it can be uncompressed, gzip, zstd"),
        ("type=oci,dest=x,tar=maybe", "tar=maybe: it can be true or false"),
        ("type=oci,dest=x,force-compression=", "force-compression=: it can be true or false"),
        ("type=oci,dest=x,name=", "invalid image name ''"),
        ("type=oci,dest=x,name=a,b", 'a value with commas is quoted together with its key: "name=a,b"'),
        ("type=oci,dest=x,name=A", "invalid image name 'A'"),
        ("type=oci,dest=x,name=a@sha256:" + "0" * 64, "a digest cannot be chosen"),
        ('type=oci,"dest=x', "unexpected end of data"),
    ],
)  # fmt: skip
def test_invalid_values_are_usage_errors(text: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_output(text)
    assert message in caught.value.message
    assert caught.value.message.startswith("--output")


@pytest.mark.parametrize("texts", [["-", "type=oci,dest=-"], ["type=tar", "type=docker,dest=/dev/stdout"]])
def test_only_one_output_goes_to_standard_output(texts: Sequence[str]) -> None:
    with pytest.raises(click.UsageError, match="only one output can go to standard output"):
        parse_outputs(texts)


def test_no_archive_is_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(click.UsageError, match="refusing to write an archive to a terminal"):
        parse_outputs(["-"])
    assert parse_outputs(["out"]) == (LocalOutput("out"),)


@pytest.mark.parametrize("kind", sorted({*_KEYS} - {"registry", "image"}))
def test_every_type_is_an_output(kind: str) -> None:
    assert parse_output(f"type={kind},dest=x").destination == "x", f"type={kind}: add a case to parse_output"


@pytest.mark.parametrize(
    ("texts", "outputs"),
    [
        ([], (RegistryOutput(),)),
        (["type=registry,name=app:1"], (RegistryOutput((NAME,)),)),
        (["type=image,name=app:1"], (RegistryOutput((NAME,)),)),
        (["out"], (LocalOutput("out"), RegistryOutput())),
    ],
)
def test_push_adds_an_output_unless_one_pushes(texts: Sequence[str], outputs: tuple[Output, ...]) -> None:
    assert parse_outputs(texts, push=True) == outputs
