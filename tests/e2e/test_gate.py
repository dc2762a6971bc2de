"""Builds whose image breaks a rule, and pybuild check-image: as root and as an ordinary user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.people import Person
from tests.support.registry import docker_registry

RECIPE = f"FROM {BASE}\nCOPY --chmod=777 secret /secret\nRUN mkdir /w && chmod 777 /w\n"
TOKEN = "glpat-" + "aB3dE5gH7j" * 2
DENY = "--deny=world-writable,secrets"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE, secret=f"{TOKEN}\n")


def test_an_image_that_breaks_a_rule_goes_nowhere(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    archive, cache, ids = tmp_path / "a.tar", tmp_path / "cache", tmp_path / "id"
    flags = ("-t", "bad:1", f"-otype=oci,dest={archive}", f"--cache-to=type=local,dest={cache}", "--iidfile", ids)
    said = pybuild.refused(DENY, *flags, context)
    assert "world-writable: /w: everybody can replace files in it (mode 0777, no sticky bit) (by `RUN " in said
    assert "secrets: /secret: line 1 looks like a GitLab token" in said
    assert "error: the image breaks 2 rules: world-writable, secrets" in said
    assert TOKEN not in said
    assert not archive.exists() and not cache.exists() and not ids.exists()
    assert "bad" not in pybuild("images").out
    digest = said.rpartition("--files ")[2].split()[0]
    assert "mkdir /w" in pybuild("history", digest).out, "the hint names the image"
    twice = pybuild.refused("--reproduce", DENY, context)
    assert "hint: a build without --reproduce keeps the image" in twice and "--files" not in twice
    assert pybuild.run(DENY, *flags, context).status == 1, "also where all steps are cached"
    pybuild("-q", "--deny=setuid", "--max-size=1g", *flags, context)
    assert archive.exists() and cache.exists() and "bad" in pybuild("images").out


def test_nothing_is_pushed(pybuild: Pybuild, context: Path) -> None:
    said = pybuild.refused(DENY, "--push", "-t", "127.0.0.1:1/bad:1", context)  # where nothing listens
    assert "breaks 2 rules" in said and "127.0.0.1" not in said


def test_what_breaks_a_rule_is_an_event(pybuild: Pybuild, context: Path) -> None:
    done = pybuild.run("--progress=json", "--max-layers=1", DENY, context)
    broken = [event for event in done.events if event["event"] == "rule_broken"]
    assert [event["rule"] for event in broken] == ["max-layers", "world-writable", "world-writable", "secrets"]
    assert {key: broken[1][key] for key in ("path", "size")} == {"path": "/secret", "size": None}
    assert "built" not in {event["event"] for event in done.events}
    github = pybuild.run(DENY, context, GITHUB_ACTIONS="true").err
    assert "::error title=secrets::/secret: line 1 looks like a GitLab token" in github
    assert pybuild.run("-q", DENY, context).err.startswith("error: the image breaks 2 rules")


def test_check_image(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    pybuild("-q", "-t", "bad:1", f"-otype=docker,dest={archive}", context)
    for name in ("bad:1", f"docker-archive:{archive}"):
        done = pybuild.run("check-image", name, DENY, "--max-size=1k")
        assert done.status == 1
        assert [line.split(":")[0] for line in done.out.splitlines()[:-1]] == [
            "max-size", "world-writable", "world-writable", "secrets",
        ]  # fmt: skip
        assert done.out.splitlines()[-1].endswith("breaks 3 of 3 rules: max-size, world-writable, secrets")
    rules = tmp_path / "rules.toml"
    rules.write_text('deny = ["secrets", "world-writable"]\n[allow]\nsecrets = ["/secret"]\nworld-writable = ["/w", "/secret"]\n')
    assert pybuild("check-image", "bad:1", "--rules", rules).out == "bad:1 keeps all 2 rules: world-writable, secrets\n"
    pybuild("-q", "--rules", rules, context)
    data = json.loads(pybuild.run("check-image", "bad:1", "--rules", rules, "--max-layers=1", "--format=json").out)
    assert [found["rule"] for found in data["findings"]] == ["max-layers"]
    for format, start in (("sarif", "{"), ("junit", "<?xml"), ("github", "::error title=")):
        done = pybuild.run("check-image", "bad:1", DENY, "--format", format)
        assert (done.status, done.err) == (1, "") and done.out.startswith(start)
        assert TOKEN not in done.out


def test_mistakes(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('# ours\ndeny = ["setiud"]\n')
    said = f"{rules}:2:1: error: deny: there is no rule 'setiud'; did you mean setuid?"
    assert said in pybuild.refused("--rules", rules, context)
    assert said in pybuild.refused("check-image", BASE, "--rules", rules)
    empty = tmp_path / "empty.toml"
    empty.write_text('[allow]\nsetuid = ["/a"]\n')
    for flags, text in (
        (("--deny=setiud",), "did you mean setuid?"),
        (("--max-size=much",), "--max-size: "),
        (("--max-waste=200x%",), "--max-waste: "),
        (("--max-waste=500%",), "--max-waste: "),
        (("--max-layers=0",), "--max-layers"),
        ((f"--rules={empty}",), "the file has no rule"),
    ):
        assert text in pybuild.refused(*flags, context, status=2)
        assert text in pybuild.refused("check-image", BASE, *flags, status=2)
    assert "name at least one rule" in pybuild.refused("check-image", BASE, status=2)
    for call in ("--check", "--call=outline"):
        assert "--check and --call build none" in pybuild.refused(call, "--max-size=1k", context, status=2)
    assert "no image" in pybuild.refused("check-image", "none", "--deny=setuid")


def test_everybody(person: Person) -> None:
    """Files of other users can be read: not their trees are, but blobs."""
    recipe = f"FROM {BASE}\nCOPY --chmod=600 --chown=7:7 secret /s\nRUN true\n"
    said = person.pybuild().refused("--deny=secrets", person.context("gate", recipe, secret=f"{TOKEN}\n"))
    assert "secrets: /s: line 1 looks like a GitLab token" in said


def test_an_index_is_checked_with_all_its_images(pybuild: Pybuild, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY only.$TARGETARCH /only\n"
    context = write_context(tmp_path / "several", text, **{"only.amd64": "plain", "only.arm64": f"{TOKEN}\n"})
    platforms = "--platform=linux/amd64,linux/arm64"
    assert "secrets: /only: linux/arm64: line 1 looks like" in pybuild.refused("--deny=secrets", platforms, context)
    archive, layout = tmp_path / "a.tar", tmp_path / "layout"
    outputs = (f"-otype=oci,dest={archive}", f"-otype=oci,tar=false,dest={layout}")
    pybuild("-q", platforms, "-t", "several:1", *outputs, context)
    with docker_registry(tmp_path / "registry") as registry:
        remote = f"docker://{registry.host}/several:1"
        pybuild("copy", "-q", f"oci-archive:{archive}", remote)
        for name in ("several:1", f"oci-archive:{archive}", f"oci:{layout}", remote):
            done = pybuild.run("check-image", name, "--deny=secrets")
            assert done.status == 1 and "secrets: /only: linux/arm64: line 1 looks like a GitLab token" in done.out
            for platform, status in (("linux/amd64", 0), ("linux/arm64", 1)):
                assert pybuild.run("check-image", name, "--deny=secrets", "--platform", platform).status == status
