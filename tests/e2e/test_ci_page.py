"""The shell of each recipe of docs/user/ci.md runs twice, on two empty machines: the second takes every step from the cache.

The registry is a real one, with a password. In place of an installation from HOST/PATH, the installers of the machine put this
checkout's own command where they would put pybuild (tests/support/ci_recipes.py). What each CI sets is in `job`.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.ci_recipes import Machine, github, gitlab, jenkins, kubernetes, recipes, tekton
from tests.support.cli import CHECKOUT, write_context
from tests.support.gits import git_server, make_repository
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.ci_recipes import Script

USER, PASSWORD = "ci", "s3cret-token"
BRANCH = "feature/a+b"
RECIPE = """\
FROM {base} AS build
WORKDIR /src
COPY src .
RUN cat *.txt /proc/sys/kernel/random/uuid > /out
FROM {base}
COPY --from=build /out /srv/out
RUN wc -c /srv/out > /srv/size
"""
STEPS = 5
PULL_REQUEST = ".github/workflows/pull-request.yml"
WITH_DIRECTORY = ".github/workflows/image.yml, with GitHub's cache"
IMAGE = ".github/workflows/image.yml"
PUSHING = [name for name in recipes() if name not in (PULL_REQUEST, WITH_DIRECTORY)]


@dataclass(frozen=True)
class Project:
    """What is built, and where it goes: each test has a repository of its own."""

    host: str
    name: str  # the path of the repository in the registry
    branch: str
    commit: str
    checkout: Path
    git: str  # the URL of its repository

    @property
    def image(self) -> str:
        return f"{self.host}/{self.name}"

    def tags(self) -> set[str]:
        found = run("skopeo", "list-tags", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", f"docker://{self.image}")
        return set(json.loads(found)["Tags"])

    def digest(self, tag: str) -> str:
        image = f"docker://{self.image}:{tag}"
        return run("skopeo", "inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", "--format={{.Digest}}", image).strip()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), login=(USER, PASSWORD)) as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture
def project(tmp_path: Path, registry: DockerRegistry, request: pytest.FixtureRequest) -> Iterator[Project]:
    recipe = RECIPE.format(base=f"{registry.host}/team/base:1")
    files = {"src/one.txt": "one", "src/two.txt": "two"}
    checkout = write_context(tmp_path / "project", recipe, **{path.replace("/", "__"): text for path, text in files.items()})
    commit = make_repository(tmp_path / "git/app.git").commit({"Buildfile": recipe, **files})
    name = f"team/{request.node.name.translate(str.maketrans({**dict.fromkeys('[] ./', '-'), ',': None, chr(39): None}))}"
    with git_server(tmp_path / "git") as server:
        yield Project(registry.host, name.lower().strip("-"), BRANCH, commit, checkout, f"{server.url}/app.git")


def job(name: str, machine: Machine, project: Project) -> Iterator[Script]:
    """The scripts of a recipe, as its CI runs them for a commit of a branch."""
    text = recipes()[name]
    slug = project.branch.replace("/", "-").replace("+", "-")
    shared = machine.environment()
    match name:
        case ".github/workflows/image.yml" | ".github/workflows/pull-request.yml":
            repository = "/".join(part.capitalize() for part in project.name.split("/"))
            own = {"GITHUB_REPOSITORY": repository, "GITHUB_REF_NAME": project.branch, "GITHUB_SHA": project.commit}
            own |= {"REGISTRY": project.host, "GITHUB_ACTOR": USER, "GITHUB_ACTIONS": "true"}
            return github(text, {**shared, **own}, {"github.token": PASSWORD})
        case ".github/workflows/image.yml, with GitHub's cache":
            login = machine.home / "auth.json"
            login.write_text(login_file(project))
            return github(text, {**shared, "REGISTRY_AUTH_FILE": str(login), "GITHUB_ACTIONS": "true"}, {})
        case ".gitlab-ci.yml":
            own = {"CI_REGISTRY": project.host, "CI_REGISTRY_IMAGE": project.image, "CI_PROJECT_DIR": str(machine.checkout)}
            own |= {"CI_REGISTRY_USER": USER, "CI_REGISTRY_PASSWORD": PASSWORD, "CI_DEFAULT_BRANCH": "main"}
            own |= {"CI_COMMIT_REF_SLUG": slug, "CI_COMMIT_SHA": project.commit}
            return gitlab(text, {**shared, **own})
        case "Jenkinsfile":
            own = {"BRANCH_NAME": project.branch, "GIT_COMMIT": project.commit, "IMAGE": project.image}
            own |= {"LOGIN_USR": USER, "LOGIN_PSW": PASSWORD, "WORKSPACE_TMP": f"{machine.checkout}@tmp"}
            return jenkins(text, {**shared, **own})
        case "job.yaml, for kubectl create -f":
            own = {"SOURCE": project.git, "COMMIT": project.commit, "BRANCH": slug, "IMAGE": project.image}
            return kubernetes(text, {**shared, **own, "REGISTRY_AUTH_FILE": str(secret(machine, project))})
        case "task.yaml":
            values = {"params.image": project.image, "params.commit": project.commit, "params.branch": project.branch}
            values |= {"workspaces.source.path": str(machine.checkout), "results.digest.path": f"{machine.home}/digest"}
            values["workspaces.login.path"] = str(secret(machine, project).parent)
            return tekton(text, shared, values)
        case _:
            raise AssertionError(f"docs/user/ci.md: how does a CI run {name}?")


def secret(machine: Machine, project: Project) -> Path:
    """What kubectl create secret docker-registry makes, mounted."""
    path = machine.home / "login/.dockerconfigjson"
    path.parent.mkdir()
    path.write_text(login_file(project))
    return path


def login_file(project: Project) -> str:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return json.dumps({"auths": {project.host: {"username": USER, "password": PASSWORD, "auth": auth}}})


def run_job(name: str, machine: Machine, project: Project) -> str:
    """The output of a job, which has to succeed."""
    output = machine.run(job(name, machine, project))
    assert PASSWORD not in output
    return output


@pytest.mark.parametrize("name", PUSHING)
def test_a_recipe_fills_the_cache_and_an_empty_machine_runs_nothing(name: str, project: Project, tmp_path: Path) -> None:
    first, second = Machine(tmp_path / "first", project.checkout), Machine(tmp_path / "second", project.checkout)
    run_job(name, first, project)
    assert first.not_cached() == f"{STEPS} of {STEPS} steps not cached"
    assert [call for call in first.installed() if call.startswith("pip")] in (
        ["pip install git+https://HOST/PATH"],
        ["pipx install git+https://HOST/PATH"],
    )
    assert project.tags() == {"feature-a-b", project.commit, "cache-feature-a-b"}
    built = project.digest("feature-a-b")
    output = run_job(name, second, project)
    assert second.not_cached() == f"0 of {STEPS} steps not cached"
    assert "built in" in output and "fetched" not in output  # no layer came in, and the image is in the registry
    assert project.digest("feature-a-b") == project.digest(project.commit) == built  # the image has a random number
    for machine in (first, second) if name == "task.yaml" else ():
        assert (machine.home / "digest").read_text() == built
    for machine in (first, second) if name == "Jenkinsfile" else ():
        assert not list(machine.checkout.parent.glob("*/login.json"))


def test_a_new_branch_begins_with_the_cache_of_main(project: Project, tmp_path: Path) -> None:
    main = Project(project.host, project.name, "main", project.commit, project.checkout, project.git)
    run_job(IMAGE, Machine(tmp_path / "main", project.checkout), main)
    assert project.tags() == {"main", project.commit, "cache-main"}
    branch = Machine(tmp_path / "branch", project.checkout)
    run_job(IMAGE, branch, project)
    assert branch.not_cached() == f"0 of {STEPS} steps not cached"
    assert project.tags() == {"main", project.commit, "cache-main", "feature-a-b", "cache-feature-a-b"}


def test_a_pull_request_reads_the_cache_of_main_and_writes_nothing(project: Project, tmp_path: Path) -> None:
    main = Project(project.host, project.name, "main", project.commit, project.checkout, project.git)
    run_job(IMAGE, Machine(tmp_path / "main", project.checkout), main)
    before = {tag: project.digest(tag) for tag in project.tags()}
    request = Machine(tmp_path / "request", project.checkout)
    run_job(PULL_REQUEST, request, project)
    assert request.not_cached() == f"0 of {STEPS} steps not cached"
    assert {tag: project.digest(tag) for tag in project.tags()} == before


def test_a_container_without_namespaces_builds_what_the_cache_has(project: Project, tmp_path: Path) -> None:
    name = "job.yaml, for kubectl create -f"
    filtered = (sys.executable, str(CHECKOUT / "tests/support/no_namespaces.py"), "filter")
    empty = Machine(tmp_path / "empty", project.checkout, prefix=filtered)
    with pytest.raises(AssertionError, match="seccomp filter of this process denies namespaces"):
        run_job(name, empty, project)
    run_job(name, Machine(tmp_path / "first", project.checkout), project)
    built = project.digest(project.commit)
    pod = Machine(tmp_path / "pod", project.checkout, prefix=filtered)
    run_job(name, pod, project)
    assert pod.not_cached() == f"0 of {STEPS} steps not cached"
    assert project.digest(project.commit) == built


def test_a_cache_in_a_directory_is_carried_to_an_empty_machine(project: Project, tmp_path: Path) -> None:
    first, second = Machine(tmp_path / "first", project.checkout), Machine(tmp_path / "second", project.checkout)
    for machine in (first, second):
        machine.install_pybuild()
    run_job(WITH_DIRECTORY, first, project)
    assert first.not_cached() == f"{STEPS} of {STEPS} steps not cached"
    shutil.copytree(first.home / "pybuild-cache", second.home / "pybuild-cache")  # as actions/cache does
    run_job(WITH_DIRECTORY, second, project)
    assert second.not_cached() == f"0 of {STEPS} steps not cached"
    assert (second.checkout / "app.tar").read_bytes() == (first.checkout / "app.tar").read_bytes()


def test_every_recipe_is_run() -> None:
    assert {PULL_REQUEST, WITH_DIRECTORY, IMAGE} < set(recipes()) and len(PUSHING) == 5
