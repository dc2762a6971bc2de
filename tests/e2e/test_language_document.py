"""Builds every example of docs/user/language.md on the base image of the tests; examples marked `fails` must fail.

`http://example.test/` is a server of the test, configured as a proxy.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.plan.unsupported import REFUSED
from pybuild.parser import Onbuild, Run, parse
from pybuild.parser.flags import FLAGS
from pybuild.parser.mounts import OPTIONS
from pybuild.parser.reading import KEYWORDS
from tests.support.cli import BASE, CHECKOUT, Pybuild, copy_store
from tests.support.fake_registry import fake_registry, reply
from tests.support.gits import make_repository
from tests.support.people import forget, make_person
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pybuild.parser import From, Instruction

DOCUMENT = "docs/user/language.md"
TEXT = (CHECKOUT / DOCUMENT).read_text()
SITE = tar(entry(b"index.html", data=b"hi"))
_SAYS = re.compile(r"# (fails|options): (.*)\n")
_WHOLE = re.compile(r"(?:# (?:escape|check)=.*\n)*(?:ARG .*\n)*FROM ")


@pytest.fixture(scope="module")
def agent() -> Iterator[str]:
    """The socket of a running agent."""
    person = make_person("root")
    path = str(person.home / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the agent prints the path when it listens
        yield path
        process.terminate()
    forget(person)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path, agent: str) -> Iterator[Pybuild]:
    """The command with a store that all examples share, next to the context that the document describes."""
    root = tmp_path_factory.mktemp("language")
    copy_store(store_with_base, root / "store")
    Pybuild(root / "store")("export", BASE, "-o", f"type=oci,dest={root / 'layout'},tar=false")
    context = root / "context"
    (context / "app/data").mkdir(parents=True)
    for name in ("app/main.c", "app/data/one.txt", "app/data/two.log", "notes.md"):
        (context / name).write_text(name)
    (context / "site.tar").write_bytes(SITE)
    (root / "token.txt").write_text("s3cret\n")
    with fake_registry() as web:
        web.on("http://example.test/notes.md", reply(b"notes.md"))
        web.on("http://example.test/site.tar", reply(SITE))
        for path, content in served_files(root / "tool.git").items():
            web.on(f"http://example.test/tool.git/{path}", reply(content))
        yield Pybuild(root / "store", {"http_proxy": web.url, "SSH_AUTH_SOCK": agent, "PASSWORD": "s3same"})


def served_files(path: Path) -> dict[str, bytes]:
    """A repository with a tag, as files for a server without git."""
    repository = make_repository(path)
    repository.git("tag", "v1", repository.commit({"src/main.c": ""}))
    repository.git("update-server-info")
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Example:
    """One example: the line of the document that it begins on, the section, what its first line says, and the recipe."""

    line: int
    section: str
    fails: str | None
    options: tuple[str, ...]
    text: str

    def failure(self, error: str) -> str:
        """The place of the example, with an error of its build, which shows the line that failed."""
        return f"{DOCUMENT}:{self.line}, an example of {self.section!r}:\n{error}"


def examples() -> Iterator[Example]:
    for block in re.finditer(r"^```Dockerfile\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        before = TEXT[: block.start(1)]
        section = re.findall(r"^## (.*)$", before, re.MULTILINE)[-1]
        message = _SAYS.match(block[1])
        text = block[1][message.end() :] if message else block[1]
        fails = message[2] if message and message[1] == "fails" else None
        options = tuple(shlex.split(message[2])) if message and message[1] == "options" else ()
        whole = text if _WHOLE.match(text) else f"FROM {BASE}\n{text}"
        yield Example(before.count("\n") + 1, section, fails, options, whole)


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda found: f"{found.section}, line {found.line}")
def test_an_example_does_what_the_document_says(example: Example, documented: Pybuild) -> None:
    recipe = documented.root.parent / "Buildfile"
    recipe.write_text(example.text)
    done = documented.run("--network=none", *example.options, "-f", recipe, ".", cwd=documented.root.parent / "context")
    if example.fails is not None:
        wrong = f"expected an error with {example.fails!r}, not status {done.status}: {done.err}"
        assert done.status == 1 and example.fails in done.err, example.failure(wrong)
    else:
        assert done.status == 0, example.failure(done.err)


def used(instruction: From | Instruction) -> Iterator[str]:
    """The instruction, its flags, and each option of its mounts with the type of the mount."""
    yield instruction.keyword
    match instruction:
        case Onbuild():
            yield from used(instruction.instruction)
        case Run():
            for mount in instruction.mounts:
                yield from (f"{mount.type} {name}" for name, _ in mount.options)
    yield from (f"{instruction.keyword} --{flag.name}" for flag in getattr(instruction, "flags", ()))


def test_every_instruction_flag_and_option_is_in_an_example() -> None:
    """In an example that is built or, for refused ones, in an example that says so."""
    seen: set[str] = set()
    for example in EXAMPLES:
        if example.fails is None:
            recipe = parse(example.text)
            every = [one for stage in recipe.stages for one in (stage.base, *stage.instructions)]
            seen.update(word for one in (*every, *recipe.args) for word in used(one))
        else:
            seen.update(word for word in map(" --".join, REFUSED) if word in example.fails)
    known = {*KEYWORDS}
    known |= {f"{keyword} --{name}" for keyword, flags in FLAGS.items() for name in flags}
    known |= {f"{kind} {name}" for kind, options in OPTIONS.items() for name in options}
    missing = known - seen
    assert not missing, f"{', '.join(sorted(missing))}: give {DOCUMENT} an example of it"
