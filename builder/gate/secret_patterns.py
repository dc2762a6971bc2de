"""What looks like a secret. A pattern needs a form that nothing else has: a rule that cries wolf gets turned off.

Sources: the formats that GitHub, GitLab, Slack, Stripe, npm, PyPI, Docker, Google, Hugging Face, SendGrid, HashiCorp, age and
AWS publish for their tokens; RFC 7468 and RFC 4880 for keys; the manuals of the programs that read the files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Iterator


class SecretPattern(NamedTuple):
    """A kind of secret. `sign` is in every text that the expression matches: it is found much faster."""

    what: str
    sign: bytes
    expression: re.Pattern[bytes]


def _token(what: str, sign: bytes, text: bytes) -> SecretPattern:
    return SecretPattern(what, sign, pattern(rb"(?<![A-Za-z0-9_])" + text))


_KEY_LINE = rb"(?:\\n|[\sA-Za-z0-9+/=:,.\-])"  # of a key, in a file or in a string of JSON
TOKENS: tuple[SecretPattern, ...] = (
    SecretPattern(
        "a private key",
        b"PRIVATE KEY",
        pattern(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _KEY_LINE + rb"{64}"),
    ),
    _token("an AWS access key", b"AKIA", rb"AKIA[A-Z2-7]{16}(?![A-Za-z0-9])(?<!EXAMPLE)"),
    *(
        SecretPattern("an AWS secret key", name, pattern(name + rb"[\"']?\s{0,4}[=:]\s{0,4}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])(?<!EXAMPLEKEY)"))
        for name in (b"aws_secret_access_key", b"AWS_SECRET_ACCESS_KEY", b"SecretAccessKey")
    ),
    *(
        _token("a GitHub token", sign, sign + rb"[A-Za-z0-9]{36}(?![A-Za-z0-9])")
        for sign in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")  # "gh" alone is in most English texts
    ),
    _token("a GitHub token", b"github_pat_", rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _token("a GitLab token", b"glpat-", rb"glpat-[A-Za-z0-9_-]{20}"),
    _token("a Slack token", b"xox", rb"xox[abeprs]-[0-9]{8,14}-[A-Za-z0-9-]{16,}"),
    _token("a Stripe key", b"k_live_", rb"[rs]k_live_[A-Za-z0-9]{24}"),
    _token("a Google API key", b"AIza", rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _token("an npm token", b"npm_", rb"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _token("a PyPI token", b"pypi-AgE", rb"pypi-AgE[A-Za-z0-9_-]{60,}"),
    _token("a Docker token", b"dckr_", rb"dckr_[po]at_[A-Za-z0-9_-]{27,}"),
    _token("a Hugging Face token", b"hf_", rb"hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])"),
    _token("a SendGrid key", b"SG.", rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _token("a Vault token", b"hvs.", rb"hvs\.[A-Za-z0-9_-]{90,}"),
    _token("an age key", b"AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}"),
    _token("an Azure storage key", b"AccountKey=", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
)  # fmt: skip

_PLACEHOLDER = rb"(?!\$|<|\{|%|x{3}|\*{3}|(?i:your|change|example|none|null|true|false|password\b))"
_FILES: tuple[tuple[str, bytes, bytes], ...] = (  # what, the path, the content
    ("a password of a .netrc file", rb"(?:.*/)?[._]netrc|etc/apt/auth\.conf(?:\.d/[^/]+)?", rb"(?m)\bpassword\s+" + _PLACEHOLDER + rb"\S+"),
    ("a password in a URL", rb"(?:.*/)?\.git-credentials|(?:.*/)?\.?pip(?:\.conf|/pip\.conf)|etc/apt/sources\.list(?:\.d/[^/]+)?|(?:.*/)?\.git/config|(?:.*/)?\.npmrc|(?:.*/)?\.yarnrc(?:\.yml)?|(?:.*/)?uv\.toml", rb"://[^\s/:@$]{1,200}:" + _PLACEHOLDER + rb"[^\s/@$]{1,200}@"),
    ("credentials of registries", rb"(?:.*/)?\.docker/config\.json|(?:.*/)?\.dockercfg|(?:.*/)?containers/auth\.json|kaniko/\.docker/config\.json", rb"\"(?:auth|identitytoken|registrytoken|password)\"\s{0,8}:\s{0,8}\"[A-Za-z0-9+/=._-]{6,}\""),
    ("a token or password of npm", rb"(?:.*/)?\.npmrc", rb"(?m)^[^#;\n]{0,200}(?:_authToken|_auth|_password)\s{0,4}=\s{0,4}" + _PLACEHOLDER + rb"[^\s\"$]{6,}"),
    ("a password of a .pypirc file", rb"(?:.*/)?\.pypirc", rb"(?m)^\s{0,8}password\s{0,4}[:=]\s{0,4}" + _PLACEHOLDER + rb"\S+"),
    ("a password of a .pgpass file", rb"(?:.*/)?\.pgpass", rb"(?m)^[^#:\n]+:[^:\n]*:[^:\n]*:[^:\n]*:[^\s*]+"),
    ("a password of a .my.cnf file", rb"(?:.*/)?\.my\.cnf", rb"(?m)^\s{0,8}password\s{0,4}=\s{0,4}" + _PLACEHOLDER + rb"\S+"),
    ("credentials of AWS", rb"(?:.*/)?\.aws/credentials", rb"(?m)^\s{0,8}aws_(?:secret_access_key|session_token)\s{0,4}=\s{0,4}" + _PLACEHOLDER + rb"\S+(?<!EXAMPLEKEY)"),
    ("credentials of a Kubernetes cluster", rb"(?:.*/)?\.kube/config|etc/kubernetes/(?:admin|kubelet)\.conf", rb"(?m)^\s{0,40}(?:client-key-data|token|password):\s{1,4}" + _PLACEHOLDER + rb"\S+"),
    ("a Vault token", rb"(?:.*/)?\.vault-token", rb"\S{16,}"),
    ("the password of a Terraform or cargo registry", rb"(?:.*/)?\.terraform\.d/credentials\.tfrc\.json|(?:.*/)?\.cargo/credentials(?:\.toml)?", rb"\"?token\"?\s{0,4}[:=]\s{0,4}\"" + _PLACEHOLDER + rb"[^\"\s]{8,}\""),
    ("a secret of an .env file", rb"(?:.*/)?\.env(?:\.(?!example|sample|template|dist)[^/]+)?", rb"(?mi)^(?:export\s+)?[A-Z0-9_]*(?:API_?KEY|SECRET|PASSWORD|PASSWD|TOKEN)[A-Z0-9_]*\s{0,4}=\s{0,4}[\"']?" + _PLACEHOLDER + rb"[^\s\"'$]{6,}"),
)  # fmt: skip
_NAMED = tuple((what, pattern(path), pattern(content)) for what, path, content in _FILES)


def secrets_in(path: bytes, data: bytes) -> Iterator[tuple[str, int]]:
    """What looks like a secret in the content of a file, and the number of its line, from 1; each kind once."""
    for what, name, content in _NAMED:
        if name.fullmatch(path) and (found := content.search(data)) is not None:
            yield what, data.count(b"\n", 0, found.start()) + 1
    yield from tokens_in(data)


def tokens_in(data: bytes) -> Iterator[tuple[str, int]]:
    """The tokens and keys in a text, each kind once, with the number of the line."""
    seen = set()
    for one in TOKENS:
        if one.what not in seen and one.sign in data and (found := one.expression.search(data)) is not None:
            seen.add(one.what)
            yield one.what, data.count(b"\n", 0, found.start()) + 1
