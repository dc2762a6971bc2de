"""Options about how RUN steps run; they are not part of the cache key."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.people import Person
from tests.support.runs import outputs

LOOK = "grep db /etc/hosts; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; ulimit -Sn; ulimit -Hn; ulimit -c; hostname"
CONTROL = "--build-arg=BUILDKIT"


def test_a_step_runs_as_the_options_say(person: Person) -> None:
    context = person.context("c", f"FROM {BASE}\nRUN {LOOK}\n")
    asked = (
        "--add-host",
        "db:10.0.0.1",
        "--add-host=db6=[::2]",
        "--shm-size=1m",
        f"{CONTROL}_SANDBOX_HOSTNAME=builder.x",
    )
    limits = ("--ulimit", "nofile=100:200", "--ulimit=core=0")
    (message,) = outputs(person.pybuild()("--progress=json", *asked, *limits, context)).values()
    assert message.splitlines() == ["10.0.0.1\tdb", "::2\tdb6", "1024", "100", "200", "0", "builder.x"]


def test_only_the_names_of_hosts_are_in_the_cache_key(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n")

    def cached(*options: str) -> bool:
        (found,) = pybuild("--progress=json", *options, context).finished().values()
        return found

    assert not cached("--add-host=db:10.0.0.1")
    assert cached("--add-host=db:10.0.0.2", "--shm-size=1m", "--ulimit=nofile=9")
    assert not cached()
    assert cached(f"{CONTROL}_SANDBOX_HOSTNAME=")
    assert not cached(f"{CONTROL}_SANDBOX_HOSTNAME=other")


def test_a_limit_above_that_of_this_process_is_refused_first(tmp_path: Path, pybuild: Pybuild) -> None:
    above = resource.getrlimit(resource.RLIMIT_NOFILE)[1] + 1
    message = pybuild.refused(f"--ulimit=nofile={above}", write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n"))
    assert message.startswith(f"error: --ulimit nofile: {above} is above {above - 1}, the hard limit of this process")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--add-host=db", "expected NAME:ADDRESS"),
        ("--add-host=db:x", "'x' is not an IP address"),
        ("--add-host=d b:1.2.3.4", "expected NAME:ADDRESS"),
        ("--shm-size=0", "at least 1 byte"),
        ("--shm-size=x", "--shm-size: "),
        ("--ulimit=locks=1", "NAME one of core, cpu,"),
        ("--ulimit=nofile", "expected a number"),
        ("--ulimit=nofile=2:1", "the soft limit is above the hard one"),
        ("--ulimit=nofile=-1:1", "the soft limit is above the hard one"),
        ("--memory=x", "--memory: invalid size 'x'"),
        ("--memory=15m", "at least 16m"),
        ("--cpus=0", "expected a number from 0.01 to 4096"),
        ("--cpus=1e3", "expected a number from 0.01"),
        ("--cpus=nan", "expected a number from 0.01"),
        ("--pids-limit=0", "--pids-limit"),
        ("--annotation=a", "expected KEY=VALUE"),
        ("--annotation=index:a=b", "only the manifest can be annotated"),
        ("--provenance=mode=max", "only --provenance=false is accepted"),
        ("--sbom=true", "only --sbom=false is accepted"),
        ("--cache-from=type=gha", "--cache-from type=gha: GitHub's cache service is not supported"),
        ("--cache-to=type=inline,mode=max", "--cache-to type=inline,mode=max: an image has only its own layers"),
        ("--cache-ttl=1h", "a key says whether a record is right, however old it is"),
        (f"{CONTROL}_SYNTAX=docker/dockerfile:1", "does not fetch and run other frontends"),
        (f"{CONTROL}_INLINE_CACHE=yes", "it can be 1 or 0"),
        (f"{CONTROL}_MULTI_PLATFORM=true", "a build makes one image for one platform"),
        (f"{CONTROL}_SANDBOX_HOSTNAME=a b", "expected up to 64 letters"),
        (f"{CONTROL}_SANDBOX_HOSTNAME={'x' * 65}", "expected up to 64 letters"),
        ("--output=type=registry,dest=x", "unknown key 'dest'; type=registry takes type, name,"),
    ],
)
def test_invalid_values_of_options_are_refused(tmp_path: Path, pybuild: Pybuild, option: str, message: str) -> None:
    assert message in pybuild.refused(option, write_context(tmp_path / "c", f"FROM {BASE}\n"), status=2)


def test_annotations_go_into_the_manifest(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n")
    pybuild("-t", "i", "--annotation=a=b=c", "--annotation=manifest:d=", "--provenance=false", "--sbom=false", context)
    assert json.loads(pybuild("inspect", "i").out)["manifest"]["annotations"] == {"a": "b=c", "d": ""}


def test_harmless_control_arguments_are_accepted(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(
        tmp_path / "c", f"FROM {BASE}\nARG BUILDKIT_SBOM_SCAN_STAGE\nRUN env | grep -c SBOM || true\n"
    )
    asked = ("SYNTAX=", "INLINE_CACHE=0", "MULTI_PLATFORM=False", "SBOM_SCAN_STAGE=true", "BUILD_NAME=nightly one")
    done = pybuild("-t", "i", "--progress=json", *(f"{CONTROL}_{arg}" for arg in asked), context)
    assert list(outputs(done).values()) == ["0\n"]
    assert done.events[0]["name"] == "nightly one"
    assert pybuild("logs", "--list").out.split("  ")[-1] == "nightly one\n"
    history = json.loads(pybuild("inspect", "i").out)["config"]["history"]
    assert history[-1]["created_by"].startswith("RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh")
