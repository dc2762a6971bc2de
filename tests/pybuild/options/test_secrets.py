"""Valid and invalid values of --secret and --ssh."""

from __future__ import annotations

import click
import pytest

from pybuild.builder.options import AgentSource, SecretSource
from pybuild.options.secrets import parse_agents, parse_secrets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("id=a,src=f", SecretSource("a", "f")),
        ("id=a,source=f", SecretSource("a", "f")),
        ("ID=a, SRC=f", SecretSource("a", "f")),
        ('id=a,"src=f,g"', SecretSource("a", "f,g")),
        ("id=a,src=f=g", SecretSource("a", "f=g")),
        ("id=a,env=V", SecretSource("a", "", "V")),
        ("id=a", SecretSource("a", "a")),
        ("id=SET", SecretSource("SET", "", "SET")),
        ("type=file,id=SET", SecretSource("SET", "SET")),
        ("type=file,id=a,src=f", SecretSource("a", "f")),
        ("type=env,id=a", SecretSource("a", "", "a")),
        ("type=env,id=a,src=V", SecretSource("a", "", "V")),
    ],
)
def test_a_secret_is_read_as_buildx_reads_it(
    monkeypatch: pytest.MonkeyPatch, text: str, secret: SecretSource
) -> None:
    monkeypatch.setenv("SET", "x")
    monkeypatch.delenv("a", raising=False)
    assert parse_secrets([text]) == (secret,)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([""], "id= is missing"),
        (["src=a"], "id= is missing"),
        (["id=a,mode=0400"], "unexpected 'mode=0400'"),
        (["id=a,src"], "unexpected 'src'"),
        (["id=a,id=b"], "id= is given twice"),
        (["id=a,src=b,source=c"], "source= is given twice"),
        (["id=a,src=b,env=c"], "exclude each other"),
        (["id=a,type=dir"], "type=dir: it can be file or env"),
        (["id=a,type=file,env=c"], "type=file does not take env="),
        (["id=a", "id=a,src=b"], "the id a is given twice"),
        (['id=a,"src=b'], "unexpected end of data"),
    ],
)
def test_invalid_secrets_are_wrong_usage(texts: list[str], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        parse_secrets(texts)


def test_agents_have_an_id_and_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/s")
    assert parse_agents(["default", "a=/t=u", "b"]) == (
        AgentSource("default", "/s"), AgentSource("a", "/t=u"), AgentSource("b", "/s"),
    )  # fmt: skip
    for texts, message in ((["=x"], "expected default"), (["a", "a=b"], "given twice")):
        with pytest.raises(click.UsageError, match=message):
            parse_agents(texts)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(click.UsageError, match="no agent is running"):
        parse_agents(["default"])
