"""--call, --check and --format."""

from __future__ import annotations

import click
import pytest

from pybuild.options.call import Call, Method, read_call


@pytest.mark.parametrize(
    ("call", "format", "check", "expected"),
    [
        (None, None, False, None),
        ("build", None, False, None),
        ("build", "oci", False, None),
        (None, None, True, Call(Method.CHECK)),
        ("check", None, False, Call(Method.CHECK)),
        ("lint", None, False, Call(Method.CHECK)),
        ("check", None, True, Call(Method.CHECK)),
        (None, "sarif", True, Call(Method.CHECK, "sarif")),
        ("check,format=json", None, False, Call(Method.CHECK, "json")),
        ("check,format=json", "json", False, Call(Method.CHECK, "json")),
        (",format=json", None, True, Call(Method.CHECK, "json")),
        ("check,ignorestatus=true", None, False, Call(Method.CHECK, ignore_status=True)),
        ("check,ignorestatus=0,format=github", None, False, Call(Method.CHECK, "github")),
        ("outline,format=json", None, False, Call(Method.OUTLINE, "json")),
        ("targets", "json", False, Call(Method.TARGETS, "json")),
    ],
)
def test_calls(call: str | None, format: str | None, check: bool, expected: Call | None) -> None:
    assert read_call(call, format, check=check) == expected


@pytest.mark.parametrize(
    ("call", "format", "check", "said"),
    [
        ("nope", None, False, "--call=nope: expected build, check, outline, targets"),
        ("outline", None, True, "--check is --call=check"),
        ("build", None, True, "--check is --call=check"),
        ("check,color=no", None, False, "unknown option 'color'"),
        ("check,format=json", "text", False, "contradict each other"),
        ("outline", "sarif", False, "--format=sarif: outline has the formats text, json"),
        ("check,format=xml", None, False, "--format=xml: check has the formats text, json, sarif, github"),
        (None, "json", False, "add one of them"),
        (None, "docker", False, "images of the store are in the format oci"),
    ],
)
def test_refused_calls(call: str | None, format: str | None, check: bool, said: str) -> None:
    with pytest.raises(click.UsageError, match=r".") as caught:
        read_call(call, format, check=check)
    assert said in str(caught.value)
