"""The file of --rules: what it can say, and where its mistakes are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder.errors import BuildError
from pybuild.builder.gate.rules import RULES, ImageRules, Waste
from pybuild.builder.gate.rules_file import parse_rules, read_rules


def test_everything() -> None:
    text = """
max-size = "500m"
max-layer-size = 1000
max-waste = "5 %"
max-layers = 20
deny = ["setuid", "secrets"]
allowed-users = ["app"]

[allow]
setuid = ["/usr/bin/su", "**/ssh-keysign"]
secrets = ["/usr/share/doc/**", "env:GPG_KEY"]
max-waste = ["/opt/x"]
"""
    rules = parse_rules(text, "rules.toml")
    assert rules == ImageRules(
        500 << 20,
        1000,
        Waste(5, is_percentage=True),
        20,
        ("setuid", "secrets"),
        ("app",),
        {
            "setuid": ("/usr/bin/su", "**/ssh-keysign"),
            "secrets": ("/usr/share/doc/**", "env:GPG_KEY"),
            "max-waste": ("/opt/x",),
        },
    )
    assert rules.asked == ("max-size", "max-layer-size", "max-waste", "max-layers", "setuid", "secrets", "allowed-users")
    assert parse_rules("", "x").asked == ()


def test_options_win() -> None:
    rules = parse_rules('max-size = "1g"\nmax-layers = 3\ndeny = ["setuid"]', "x")
    both = rules.with_options(ImageRules(max_size=7, deny=("setgid", "setuid")))
    assert (both.max_size, both.max_layers, both.deny) == (7, 3, ("setuid", "setgid"))


MISTAKES = {
    "max-size = ": (1, "invalid TOML: "),
    "\n\nmax-size = [": (3, "invalid TOML: "),
    "max-layers = " + "9" * 5000: (1, "invalid TOML: "),
    "a = " + "[" * 10_000: (1, "invalid TOML: "),
    "\n\nmaxsize = 1": (3, "maxsize: there is no such key"),
    '\nmax-size = "much"': (2, "max-size: "),
    "\nmax-size = true": (2, 'max-size: expected a size such as "500m"'),
    "max-layers = 0": (1, "max-layers: expected a number that is at least 1"),
    "max-layers = true": (1, "max-layers: expected a number that is at least 1"),
    "max-waste = []": (1, "max-waste: expected a size"),
    "deny = 'setuid'": (1, "deny: expected a list of strings"),
    "#\ndeny = ['setiud']": (2, "deny: there is no rule 'setiud'; did you mean setuid?"),
    "allow = 1": (1, "allow: expected a table"),
    "[allow]\nsetuid = ['usr/bin/su']": (2, "allow.setuid: 'usr/bin/su': expected a pattern that begins with / or **/"),
    "[allow]\n\nsetuid = ['/[']": (3, "allow.setuid: '/['"),
    "[allow]\nsetuid = [1]": (2, "allow.setuid: expected a list of strings"),
    "[allow]\nsuid = []": (2, "allow.suid: there is no such rule"),
    "[allow]\nsetuid = ['env:X']": (2, "allow.setuid: 'env:X': only secrets"),
    "\nallow.setuid = ['x']": (2, "allow.setuid: 'x'"),
    "\nallow = { setuid = ['x'] }": (2, "allow.setuid: 'x'"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_have_a_line(text: str) -> None:
    line, message = MISTAKES[text]
    with pytest.raises(BuildError) as caught:
        parse_rules(text, "rules.toml")
    error = caught.value
    assert error.span is not None and error.source is not None
    assert (error.source.filename, error.span.line) == ("rules.toml", line)
    assert str(error).startswith(message)


@given(st.text(max_size=60) | st.sampled_from([*MISTAKES]))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert set(parse_rules(text, "f").asked) <= set(RULES)
    except BuildError as error:
        assert error.source is not None and error.span is not None
        assert error.source.excerpt(error.span)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xef\xbb\xbfmax-layers = 3\r\n")
    assert read_rules(str(path)).max_layers == 3
    path.write_bytes(b"# ok\n# \xff\n")
    with pytest.raises(BuildError) as caught:
        read_rules(str(path))
    assert caught.value.span is not None and caught.value.span.line == 2
    os.mkfifo(tmp_path / "fifo")
    for bad, text in (("none", "No such file"), ("", "not a regular file"), ("fifo", "not a regular file")):
        with pytest.raises(BuildError, match=text):
            read_rules(str(tmp_path / bad))
