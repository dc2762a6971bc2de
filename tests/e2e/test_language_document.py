"""Every example of docs/language.md is built, offline, on the base image of the tests; those that say they fail, fail so."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from parser.flags import FLAGS
from parser.reading import KEYWORDS
from tests.support.cli import CHECKOUT, Pybuild

TEXT = (CHECKOUT / "docs" / "language.md").read_text()
EXAMPLES = re.findall(r"^```Dockerfile\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
UNDOCUMENTED = {"ADD --keep-git-dir", "RUN --device"}  # the README says what is refused
_FAILS = re.compile(r"# fails: (.*)\n")
_WHOLE = re.compile(r"(?:# (?:escape|check)=.*\n)*(?:ARG .*\n)*FROM ")


def site() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("index.html")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    return raw.getvalue()


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Pybuild:
    """The command with a store that all examples share, beside the context that the document describes."""
    root = tmp_path_factory.mktemp("language")
    shutil.copytree(store_with_base, root / "store", symlinks=True)
    context = root / "context"
    (context / "app/data").mkdir(parents=True)
    for name in ("app/main.c", "app/data/one.txt", "app/data/two.log", "notes.md"):
        (context / name).write_text(name)
    (context / "site.tar").write_bytes(site())
    return Pybuild(root / "store")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[0][:40])
def test_an_example_does_what_the_document_says(example: str, documented: Pybuild) -> None:
    fails = _FAILS.match(example)
    text = example[fails.end() :] if fails else example
    recipe = documented.root.parent / "Buildfile"
    recipe.write_text(text if _WHOLE.match(text) else f"FROM pybuild.test/base\n{text}")
    done = documented.run("--network=none", "-f", recipe, documented.root.parent / "context")
    if fails:
        assert done.status == 1 and fails[1] in done.err, done.err
    else:
        assert done.status == 0, done.err


def test_every_instruction_has_an_example() -> None:
    examples = "\n".join(EXAMPLES)
    assert [word for word in KEYWORDS if not re.search(rf"^{word}\b", examples, re.MULTILINE)] == []


def test_every_flag_is_named() -> None:
    named = {f"{keyword} --{name}" for keyword, flags in FLAGS.items() for name in flags if f"--{name}" in TEXT}
    every = {f"{keyword} --{name}" for keyword, flags in FLAGS.items() for name in flags}
    assert every - named <= UNDOCUMENTED
