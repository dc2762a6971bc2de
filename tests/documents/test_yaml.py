"""The YAML of the documents can be read, and is what GitHub, GitLab, Tekton and Kubernetes take.

check-jsonschema brings the schemas of GitHub and GitLab along. For pods the fields are those of the Kubernetes API (core/v1) that a
page uses, each with its type: a misspelt or misplaced one fails. tests/e2e/test_ci_page.py runs the recipes of docs/user/ci.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents.test_commands import understood
from tests.support.ci_recipes import read_yaml
from tests.support.cli import CHECKOUT
from tests.support.tools import run

CHECK = Path(sys.executable).parent / "check-jsonschema"
PAGES = sorted((CHECKOUT / "docs").rglob("*.md"))
_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_POD_TEMPLATE = re.compile(r"podTemplate\(yaml: '''\n(.*?)'''\)", re.DOTALL)  # of a Jenkinsfile

# Field -> its type, or the fields below it; a list stands for a list of these.
_MOUNT = {"name": str, "mountPath": str, "readOnly": bool, "subPath": str}
_FROM = {"secretKeyRef": {"name": str, "key": str}, "fieldRef": {"fieldPath": str}}
_PROFILE = {"type": str, "localhostProfile": str}
_CONTAINER: dict[str, Any] = {
    "name": str, "image": str, "command": [str], "args": [str], "workingDir": str, "tty": bool,
    "env": [{"name": str, "value": str, "valueFrom": _FROM}], "volumeMounts": [_MOUNT],
    "resources": {"limits": dict, "requests": dict},
    "securityContext": {
        "seccompProfile": _PROFILE, "appArmorProfile": _PROFILE, "procMount": str, "runAsUser": int, "runAsGroup": int,
        "allowPrivilegeEscalation": bool, "privileged": bool, "capabilities": {"add": [str], "drop": [str]},
    },
}  # fmt: skip
_VOLUME = {
    "name": str, "emptyDir": dict, "persistentVolumeClaim": {"claimName": str}, "configMap": {"name": str},
    "secret": {"secretName": str, "items": [{"key": str, "path": str}]},
}  # fmt: skip
_POD: dict[str, Any] = {
    "hostUsers": bool, "restartPolicy": str, "automountServiceAccountToken": bool, "serviceAccountName": str,
    "initContainers": [_CONTAINER], "containers": [_CONTAINER], "volumes": [_VOLUME], "securityContext": {"fsGroup": int},
}  # fmt: skip
_META = {"name": str, "generateName": str, "labels": dict, "annotations": dict}
_HEAD = {"apiVersion": str, "kind": str, "metadata": _META}
_STEP = {**_CONTAINER, "script": str}
_TASK = {
    "params": [{"name": str, "type": str, "default": str, "description": str}],
    "workspaces": [{"name": str, "mountPath": str, "readOnly": bool, "optional": bool, "description": str}],
    "results": [{"name": str, "description": str}], "steps": [_STEP], "volumes": [_VOLUME], "stepTemplate": _CONTAINER,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Pod": ("v1", {**_HEAD, "spec": _POD}),
    "Job": ("batch/v1", {**_HEAD, "spec": {"backoffLimit": int, "template": {"metadata": _META, "spec": _POD}}}),
    "Task": ("tekton.dev/v1", {**_HEAD, "spec": _TASK}),
}
_ARGO = {
    "name": str, "container": _CONTAINER,
    "inputs": {"artifacts": [{"name": str, "path": str, "git": {"repo": str, "revision": str}}]},
}  # fmt: skip


def yaml_of(path: Path) -> list[tuple[str, str]]:
    """Place and text of each block of a page."""
    text = path.read_text()
    found = [*_YAML.finditer(text), *_POD_TEMPLATE.finditer(text)]
    return [(f"{path.name}:{text[: match.start()].count(chr(10)) + 1}", match[1]) for match in found]


BLOCKS = [block for path in PAGES for block in yaml_of(path)]


def misfits(found: Any, shape: Any, where: str = "") -> list[str]:
    """The fields that do not exist there, or have another type."""
    if isinstance(shape, type):
        return [] if type(found) is shape else [f"{where} is {found!r}, not {shape.__name__}"]
    if isinstance(shape, list):
        if not isinstance(found, list):
            return [f"{where} is no list"]
        return [wrong for number, one in enumerate(found) for wrong in misfits(one, shape[0], f"{where}[{number}]")]
    if not isinstance(found, dict):
        return [f"{where} has no fields"]
    wrong = [f"there is no field {where}.{name}" for name in found if name not in shape]
    return wrong + [
        one for name, value in found.items() if name in shape for one in misfits(value, shape[name], f"{where}.{name}")
    ]


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    return spec["template"]["spec"] if "template" in spec else spec


def contradictions(pod: dict[str, Any]) -> list[str]:
    """What Kubernetes refuses though each field is right."""
    wrong = []
    volumes = {volume["name"] for volume in pod.get("volumes", ())}
    containers = [*pod.get("initContainers", ()), *pod.get("containers", ()), *pod.get("steps", ())]
    if len({container["name"] for container in containers}) != len(containers):
        wrong.append("two containers have one name")
    for container in containers:
        wrong += [f"there is no volume {one['name']}" for one in container.get("volumeMounts", ()) if one["name"] not in volumes]
        context = container.get("securityContext", {})
        if context.get("procMount") == "Unmasked" and pod.get("hostUsers") is not False:
            wrong.append("procMount: Unmasked needs hostUsers: false")
        if container.get("command", [""])[0] == "pybuild" and (
            said := understood([*container["command"][1:], *container.get("args", ())])
        ):
            wrong.append(said)
    return wrong


@pytest.mark.parametrize(("place", "text"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_a_block_is_what_its_reader_takes(place: str, text: str, tmp_path: Path) -> None:
    content = read_yaml(text)
    if isinstance(content, dict) and content.get("kind") in KINDS:
        version, shape = KINDS[content["kind"]]
        assert content["apiVersion"] == version, place
        assert misfits(content, shape) + contradictions(pod_of(content)) == [], place
    elif isinstance(content, dict) and set(content) == {"spec"}:  # of a podTemplate
        assert misfits(content, {"spec": _POD}) + contradictions(content["spec"]) == [], place
    elif isinstance(content, list) and "container" in content[0]:
        assert [one for each in content for one in misfits(each, _ARGO)] == [], place
        assert not understood([str(word) for word in content[0]["container"]["command"][1:]]), place
    elif isinstance(content, dict) and "include" in content:
        (component,) = content["include"]
        spec = read_yaml((CHECKOUT / "templates/build.yml").read_text().split("\n---\n")[0])
        assert set(component["inputs"]) <= set(spec["spec"]["inputs"]), place
    else:
        schema, document = workflow(content)
        file = tmp_path / "file.json"
        file.write_text(json.dumps(document))
        transform = ["--data-transform", "gitlab-ci"] if schema.endswith("gitlab-ci") else []
        run(CHECK, "--builtin-schema", schema, *transform, file)


def workflow(content: Any) -> tuple[str, Any]:
    """The schema of a file of GitHub or GitLab, and the whole file: a page can show a part of one."""
    if isinstance(content, list):  # the steps of a job; an action is one of ours
        inputs = read_yaml((CHECKOUT / "action.yml").read_text())["inputs"]
        for step in content:
            if step.get("uses", "").startswith("OWNER/"):
                assert set(step["with"]) <= set(inputs)
        content = {"steps": content}
    if "steps" in content or "container" in content:
        job = {"runs-on": "ubuntu-24.04", "steps": [{"run": "true"}], **content}
        content = {"on": "push", "jobs": {"image": job}}
    elif "true" in content:  # YAML 1.1 reads the key `on` as true
        content = {"on": content.pop("true"), **content}
    return ("vendor.github-workflows" if "jobs" in content else "vendor.gitlab-ci"), content


def test_what_does_not_fit_is_found() -> None:
    pod = {"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "c", "mountPath": "/c"}]}]}
    assert misfits({"spec": pod}, {"spec": _POD}) == []
    assert contradictions(pod) == ["there is no volume c"]
    assert misfits({"containers": [{"title": "a"}]}, _POD) == ["there is no field .containers[0].title"]
    assert misfits({"hostUsers": "no"}, _POD) == [".hostUsers is 'no', not bool"]
    assert len(BLOCKS) > 12
