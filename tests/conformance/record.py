#!/usr/bin/env python3
"""Record what BuildKit makes of conformance cases: write the expected.json of each.

    .venv/bin/python -m tests.conformance.record NAME...

A case is a directory below tests/conformance/cases/ (recorded.py describes it). To add one, make the directory with
`Dockerfile` and, if needed, `context.json` and `options.json`, and run this where `buildctl` reaches a buildkitd. The
cases in the repository were recorded from BuildKit at commit 73ed682; `--addr` names another buildkitd. For a recipe that
fails, add by hand to "contains" the words that pybuild's message must have: recording again keeps them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtures import make_base
from tests.conformance.flatten import flatten
from tests.conformance.recorded import CASES, Base, make_context, read_json, recorded_form
from tests.support.archive import read_archive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.conformance.flatten import Facts

BASE = "pybuild.test/base"
_LINE = re.compile(r"^Dockerfile:(\d+)$", re.MULTILINE)
_ERROR = re.compile(r"^error: .*$", re.MULTILINE)


def buildctl_arguments(case: Path, work: Path, layout: Path, base_digest: str, options: Mapping[str, Any]) -> list[str]:
    """The arguments of a `buildctl build` of the case in `work`, whose base is an OCI layout, to work/out.tar."""
    arguments = ["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]
    arguments += [f"--local=context={work / 'context'}", f"--local=dockerfile={work}"]
    arguments += [f"--oci-layout=base={layout}", f"--opt=context:{BASE}=oci-layout://base@{base_digest}"]
    arguments += [f"--opt=build-arg:{key}={value}" for key, value in options.get("args", {}).items()]
    arguments += [f"--opt=target={options['target']}"] if "target" in options else []
    return [*arguments, f"--output=type=oci,name=recorded/{case.name},dest={work / 'out.tar'}"]


def failed_form(stderr: str, contains: Sequence[str] = ()) -> dict[str, Any]:
    """A failed build as expected.json has it: the line that BuildKit shows, and its message. Raises ValueError."""
    messages = _ERROR.findall(stderr)
    if not messages:
        raise ValueError(f"no line of buildctl's output begins with 'error: ':\n{stderr}")
    error: dict[str, Any] = {"contains": list(contains)}
    lines = _LINE.findall(stderr)
    if lines:
        error["line"] = int(lines[-1])
    return {"builds": False, "error": error, "oracle_said": messages[-1]}


def render(expected: Mapping[str, Any]) -> str:
    """The text of expected.json: one line for each value two levels down, so that a diff shows what changed."""
    members = []
    for key, value in sorted(expected.items()):
        if isinstance(value, dict) and value:
            items = [f"  {json.dumps(name)}: {json.dumps(inner)}" for name, inner in sorted(value.items())]
            text = "{\n" + ",\n".join(items) + "\n }"
        elif isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {json.dumps(inner)}" for inner in value) + "\n ]"
        else:
            text = json.dumps(value)
        members.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


class Recorder:
    """Records cases with a buildctl, on the base image that the cases stand on."""

    def __init__(self, buildctl: Sequence[str], directory: Path, busybox: Path) -> None:
        self._buildctl = buildctl
        self._directory = directory
        base = Base(busybox)
        self._names_of_contents = base.names_of_contents
        archive = directory / "base.tar"
        base.write(archive, f"{BASE}:latest")
        image = read_archive(archive)
        self._base_digest = image.digest
        self._base: dict[str, Facts] = flatten(image, self._names_of_contents)
        self._layout = directory / "base"
        with tarfile.open(archive) as tar:
            tar.extractall(self._layout, filter="data")

    def record(self, case: Path) -> dict[str, Any]:
        """Build a case; return what expected.json has to say. Raises ValueError if buildctl did not say why it failed."""
        work = self._directory / case.name
        work.mkdir()
        make_context(read_json(case, "context.json"), work / "context", 0)
        shutil.copy(case / "Dockerfile", work)
        ignored = work / "context" / "Dockerfile.dockerignore"
        if ignored.exists():  # BuildKit looks for it beside the recipe
            shutil.copy(ignored, work)
        arguments = buildctl_arguments(case, work, self._layout, self._base_digest, read_json(case, "options.json"))
        done = subprocess.run([*self._buildctl, *arguments], capture_output=True, text=True)
        if done.returncode:
            earlier = read_json(case, "expected.json").get("error", {})
            return failed_form(done.stderr, earlier.get("contains", ()))
        return recorded_form(read_archive(work / "out.tar"), self._base, self._names_of_contents)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="record.py",
        description="Record what BuildKit makes of conformance cases, as the expected.json of each. It runs as root: the "
        "files of a context keep their owner and modes.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a directory below CASES")
    parser.add_argument("--cases", type=Path, default=CASES, help="[default: %(default)s]")
    parser.add_argument("--addr", help="the address of buildkitd, as buildctl's own option")
    parser.add_argument("--print", action="store_true", help="print the result, and leave expected.json as it is")
    options = parser.parse_args(arguments)
    buildctl = shutil.which("buildctl")
    if buildctl is None:
        parser.error("buildctl is not on PATH: record where BuildKit is installed and a buildkitd runs")
    busybox = make_base.static_busybox()
    if busybox is None:
        parser.error("this machine has no static busybox: apt-get install busybox-static")
    command = [buildctl, *([f"--addr={options.addr}"] if options.addr else [])]
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(command, Path(directory), Path(busybox))
        for name in options.names:
            case = options.cases / name
            if not (case / "Dockerfile").is_file():
                parser.error(f"{case} has no Dockerfile")
            text = render(recorder.record(case))
            if options.print:
                sys.stdout.write(text)
            else:
                (case / "expected.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
