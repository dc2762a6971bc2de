"""Reads the recipes of docs/user/ci.md as each CI does, and runs their shell in an empty place.

A recipe is a code block whose first line is a comment with the name of its file. A job is the scripts of a recipe with the
environment of each: what the CI sets, and what the recipe says. Values that only the CI knows are in a table of the test. YAML
is read by Debian's python3-yaml, so that the tests need no further package in their own environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any

from tests.support.cli import CHECKOUT, MEASURING, SCRIPT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE = CHECKOUT / "docs/user/ci.md"
_BLOCK = re.compile(r"^```(yaml|groovy)\n(?:#|//) ([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_READ_YAML = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
# What a runner or python:3.13 has and the recipes use, besides what `Machine` replaces.
_PROGRAMS = ("sh", "bash", "git", "printenv", "rm", "tr")


@dataclass(frozen=True)
class Script:
    """One script of a job."""

    shell: tuple[str, ...]  # with its options
    text: str
    environment: dict[str, str]


def recipes() -> dict[str, str]:
    """File name -> text, of all recipes of the page."""
    found = {name: text for _, name, text in _BLOCK.findall(PAGE.read_text())}
    assert len(found) == len(re.findall(r"^```(?:yaml|groovy)$", PAGE.read_text(), re.MULTILINE)), "a block without a name"
    return found


def read_yaml(text: str) -> Any:
    done = subprocess.run(["/usr/bin/python3", "-c", _READ_YAML], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- the CIs


def github(text: str, environment: Mapping[str, str], expressions: Mapping[str, str]) -> Iterator[Script]:
    """The `run` of each step: `bash -e`. `expressions` are the values of `${{ … }}`. A list is the steps alone."""
    found = read_yaml(text)
    job: dict[str, Any] = {"steps": found} if isinstance(found, list) else found["jobs"]["image"]

    def evaluated(value: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: expressions[match[1]], value)

    for step in job["steps"]:
        own = {name: evaluated(value) for name, value in {**job.get("env", {}), **step.get("env", {})}.items()}
        if "run" in step:
            yield Script(("bash", "-e"), step["run"], {**own, **environment})


def gitlab(text: str, environment: Mapping[str, str]) -> Iterator[Script]:
    """The lines of `script`, as one."""
    (job,) = read_yaml(text).values()
    own = {name: Template(value).substitute(environment) for name, value in job["variables"].items()}
    yield Script(("bash", "-e", "-o", "pipefail"), "\n".join(job["script"]), {**environment, **own})


def jenkins(text: str, environment: Mapping[str, str]) -> Iterator[Script]:
    """The `sh` steps. `credentials('id')` sets two variables, which `environment` has to have."""
    (block,) = re.findall(r"environment \{\n(.*?)\n +\}", text, re.DOTALL)
    own: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.strip().partition(" = ")
        if value.startswith("credentials("):
            assert {f"{name}_USR", f"{name}_PSW"} <= set(environment)
        else:
            own[name] = value.strip("'")
    for long, short in re.findall(r"\bsh (?:'''(.*?)'''|'(.*?)')", text, re.DOTALL):
        script = (long or short).replace("\\\n", "")  # as Groovy reads it
        assert "\\" not in script and "$" in script
        yield Script(("sh", "-xe"), script, {**own, **environment})


def kubernetes(text: str, environment: Mapping[str, str]) -> Iterator[Script]:
    """The command of the container."""
    (container,) = read_yaml(text)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-ec"]
    (script,) = container["args"]
    yield Script(("sh", "-e"), script, _of_pod(container, environment))


def tekton(text: str, environment: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[Script]:
    """The script of each step. `variables` are the values of `$(…)`; the shell's own stay."""
    spec = read_yaml(text)["spec"]
    declared = {f"params.{param['name']}" for param in spec["params"]}
    declared |= {f"workspaces.{workspace['name']}.path" for workspace in spec["workspaces"]}
    declared |= {f"results.{result['name']}.path" for result in spec["results"]}
    assert declared == set(variables)

    def replaced(value: str) -> str:
        return re.sub(r"\$\(([\w.]+)\)", lambda match: variables[match[1]], value)

    for step in spec["steps"]:
        assert step["script"].startswith("#!/bin/sh\n")
        for variable in step["env"]:
            variable["value"] = replaced(variable["value"])
        yield Script(("sh",), replaced(step["script"]), _of_pod(step, environment))


def _of_pod(container: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a container: the test says what it mounts, and what whoever fills in the recipe chooses."""
    return {**{variable["name"]: variable["value"] for variable in container["env"]}, **environment}


# -- the machine


class Machine:
    """A machine that a job finds empty: a home, a store, and a PATH of its own.

    PATH has the few programs of `_PROGRAMS`, and installers that write down how they were called. They install this checkout:
    `pipx` puts the command into the PATH, `pip` beside itself, `python3 -m venv DIRECTORY` a `pip` into that. sudo does nothing.
    So a recipe that does not install pybuild finds none.
    """

    def __init__(self, directory: Path, checkout: Path, *, prefix: tuple[str, ...] = ()) -> None:
        """`prefix` is a command that runs the scripts."""
        self._prefix = prefix
        self.home, self.checkout = directory / "home", directory / "checkout"
        self.store = directory / "checkout.pybuild"  # where the recipe for GitLab puts it
        self.programs, self._calls = directory / "bin", directory / "calls"
        for made in (self.home, self.programs):
            made.mkdir(parents=True)
        shutil.copytree(checkout, self.checkout, copy_function=shutil.copy)  # with new times, as git's
        for name in _PROGRAMS:
            (self.programs / name).symlink_to(_which(name))
        install = f'/bin/ln -sf {SCRIPT} "${{0%/*}}/pybuild"'
        self._program("pipx", install)
        self._program("pip", install)
        self._program("sudo", ":")
        self._program("python3", f'/bin/mkdir -p "$3/bin" && /bin/cp -P {self.programs}/pip "$3/bin/pip"')

    def install_pybuild(self) -> None:
        (self.programs / "pybuild").symlink_to(SCRIPT)

    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.programs), "HOME": str(self.home), "PYBUILD_ROOT": str(self.store), **MEASURING}

    def run(self, job: Iterator[Script]) -> str:
        """Run the scripts, which must succeed; return all of their output."""
        output = ""
        for script in job:
            done = subprocess.run(
                [*self._prefix, self.programs / script.shell[0], *script.shell[1:], "-c", script.text],
                cwd=self.checkout,
                env={**self.environment(), **script.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            output += done.stdout
            assert done.returncode == 0, f"{script.text}\nstatus {done.returncode}\n{output}"
        return output

    def installed(self) -> list[str]:
        """How the installers and sudo were called."""
        return self._calls.read_text().splitlines()

    def not_cached(self) -> str:
        """What `pybuild why` says about the last build: for instance `0 of 5 steps not cached`."""
        done = subprocess.run([SCRIPT, "why"], env=self.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0].rpartition(": ")[2]

    def _program(self, name: str, what: str) -> None:
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {self._calls}\n{what}\n')
        path.chmod(0o755)


def _which(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"])
    assert found, f"{name} is missing"
    return found
