"""action.yml and templates/build.yml: valid by the schemas of GitHub and GitLab, and what they run builds and pushes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.ci_recipes import Machine, Script, gitlab, read_yaml
from tests.support.cli import CHECKOUT, write_context
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "ci", "s3cret-token"
CHECK = Path(sys.executable).parent / "check-jsonschema"  # it brings the schemas along
ACTION = (CHECKOUT / "action.yml").read_text()
SPEC, COMPONENT = (CHECKOUT / "templates/build.yml").read_text().split("\n---\n")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), login=(USER, PASSWORD)) as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture
def machine(tmp_path: Path, registry: DockerRegistry) -> Machine:
    recipe = f"FROM {registry.host}/team/base:1 AS a\nARG WHO\nRUN echo $WHO > /a\nFROM a AS b\nCOPY f /f\n"
    return Machine(tmp_path / "machine", write_context(tmp_path / "project", recipe, f="text\n"))


def action_script(machine: Machine, **inputs: str) -> Script:
    """The step of the action with the environment that the runner makes of the inputs."""
    action = read_yaml(ACTION)
    (step,) = action["runs"]["steps"]
    assert {name.replace("-", "_") for name in inputs} <= {name.replace("-", "_") for name in action["inputs"]}
    values = {f"inputs.{name}": value.get("default", "") for name, value in action["inputs"].items()}
    values |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
    values["inputs.pybuild || github.action_path"] = inputs.get("pybuild") or str(CHECKOUT)
    environment = {
        name: re.sub(r"\$\{\{ (.*?) \}\}", lambda match: values[match[1]], value) for name, value in step["env"].items()
    }
    environment |= {"GITHUB_ACTION_PATH": str(CHECKOUT), "GITHUB_OUTPUT": str(machine.home / "output")}
    return Script(("bash", "-e", "-o", "pipefail"), step["run"], {**environment, "GITHUB_ACTIONS": "true"})


def test_the_action_is_valid() -> None:
    run(CHECK, "--builtin-schema", "vendor.github-actions", CHECKOUT / "action.yml")


def test_every_input_is_used() -> None:
    (step,) = read_yaml(ACTION)["runs"]["steps"]
    used = set(re.findall(r"inputs\.([a-z-]+)", json.dumps(step)))
    assert used == set(read_yaml(ACTION)["inputs"])
    assert set(re.findall(r"INPUT_[A-Z_]+", (CHECKOUT / "packaging/action.sh").read_text())) - {"INPUT_NAME"} == {
        name for name in step["env"] if name.startswith("INPUT_")
    }


def test_the_action_builds_and_pushes(machine: Machine, registry: DockerRegistry) -> None:
    script = action_script(
        machine,
        tags=f"{registry.host}/action/app:1\n  {registry.host}/action/app:latest\n",
        push="true",
        build_args="WHO=two words; $(touch pwned)\n",
        options="--max-size=1g\n--label=a=b c\n",
        outputs="type=oci,dest=app.tar",
        registry=registry.host,
        username=USER,
        password=PASSWORD,
    )
    said = machine.run(iter([script]))
    assert machine.installed() == [f"pipx install --quiet {CHECKOUT}"]
    assert PASSWORD not in said
    digest = (machine.home / "output").read_text().strip().removeprefix("digest=")
    assert registry.digest("action/app:1") == registry.digest("action/app:latest") == digest
    assert (machine.checkout / "app.tar").exists() and not (machine.checkout / "pwned").exists()


def test_a_wrong_input_fails(machine: Machine) -> None:
    with pytest.raises(AssertionError, match="push: expected true or false, not yes"):
        machine.run(iter([action_script(machine, push="yes")]))


def component(**inputs: str) -> str:
    """The component as GitLab fills it in."""
    spec = read_yaml(SPEC)["spec"]["inputs"]
    assert set(inputs) <= set(spec)
    values = {name: inputs.get(name, value.get("default")) for name, value in spec.items()}
    assert None not in values.values(), "an input without a default is missing"
    filled = re.sub(r"\$\[\[ inputs\.([a-z]+) \]\]", lambda match: values[match[1]], COMPONENT)
    assert "$[[" not in filled
    return filled


def test_the_component_is_valid(tmp_path: Path) -> None:
    job = tmp_path / "job.yml"
    job.write_text(component(pybuild="x"))
    run(CHECK, "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", job)


def test_the_component_builds_and_pushes(machine: Machine, registry: DockerRegistry) -> None:
    own = {"CI_REGISTRY": registry.host, "CI_REGISTRY_IMAGE": f"{registry.host}/gitlab/app", "CI_DEFAULT_BRANCH": "main"}
    own |= {"CI_REGISTRY_USER": USER, "CI_REGISTRY_PASSWORD": PASSWORD, "CI_COMMIT_REF_SLUG": "topic"}
    own |= {"CI_PROJECT_DIR": str(machine.checkout)}
    text = component(pybuild="pybuild-oci", options="--target a --max-layers 9")
    for _ in range(2):
        said = machine.run(gitlab(text, {**machine.environment(), **own}))
        assert PASSWORD not in said
    assert "1 cached" in said or "0 run" in said
    assert registry.digest("gitlab/app:topic").startswith("sha256:")
    assert machine.installed()[0] == "pip install --quiet pybuild-oci"
