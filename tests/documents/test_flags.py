"""docs/user/docker-build.md and docs/user/buildah.md have a row for each flag of these programs, and each row is true.

The lists are those of docker buildx build (Buildx 0.31), of docker's builder before BuildKit, and of buildah-build(1) and
podman-build(1) of buildah 1.42 and podman 6.1. What the podman of this machine has is asked as well.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from pybuild.options.arguments import normalise
from pybuild.verbs import verb
from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILDX = """
    --add-host --allow --annotation --attest --build-arg --build-context --builder --cache-from --cache-to --call --cgroup-parent
    --check -D --debug --detach -f --file --iidfile --invoke --label --load --metadata-file --network --no-cache --no-cache-filter
    -o --output --platform --policy --print --progress --provenance --pull --push -q --quiet --root --sbom --secret --server-config
    --shm-size --ssh -t --tag --target --ulimit
"""
CLASSIC = """
    --compress -c --cpu-shares --cpu-period --cpu-quota --cpuset-cpus --cpuset-mems --disable-content-trust --force-rm --isolation
    -m --memory --memory-swap --rm --security-opt --squash
"""
BUILDAH = """
    --add-host --all-platforms --annotation --arch --authfile --build-arg --build-arg-file --build-context --cache-from --cache-to
    --cache-ttl --cap-add --cap-drop --cert-dir --cgroup-parent --cgroupns --compat-volumes --compress --cpp-flag --cpu-period
    --cpu-quota -c --cpu-shares --cpuset-cpus --cpuset-mems --created-annotation --creds --cw --decryption-key --device -D
    --disable-compression --disable-content-trust --dns --dns-option --dns-search --env -f --file --force-rm --format --from
    --group-add --hooks-dir --http-proxy --identity-label --ignorefile --iidfile --iidfile-raw --inherit-annotations
    --inherit-labels --ipc --isolation --jobs --label --layer-label --layers --logfile --logsplit --manifest -m --memory
    --memory-swap --metadata-file --mount --network --net --no-cache --no-hostname --no-hosts --omit-history --os --os-feature
    --os-version -o --output --pid --platform --pull --pull-always --pull-never -q --quiet --retry --retry-delay
    --rewrite-timestamp --rm --runtime --runtime-flag --save-stages --sbom --sbom-image-output --sbom-image-purl-output
    --sbom-merge-strategy --sbom-output --sbom-purl-output --sbom-scanner-command --sbom-scanner-image --secret --security-opt
    --shm-size --sign-by --signature-policy --skip-unused-stages --source-date-epoch --source-policy-file --squash --squash-all
    --ssh --stage-labels --stdin -t --tag --target --timestamp --tls-verify --transient-run-mounts --ulimit --unsetannotation
    --unsetenv --unsetlabel --userns --userns-gid-map --userns-gid-map-group --userns-uid-map --userns-uid-map-user --uts --variant
    -v --volume
"""
KNOWN = {"docker-build": {*BUILDX.split(), *CLASSIC.split()}, "buildah": set(BUILDAH.split())}


def rows(page: str) -> Iterator[tuple[str, str]]:
    """Each flag of the tables of a page, as it is written there, and what the row says of it."""
    text = (CHECKOUT / f"docs/user/{page}.md").read_text().partition("## Flag by flag")[2]
    for line in text.splitlines():
        if line.startswith("| `-"):
            flags, what = re.fullmatch(r"\| (.*?) \| (.*) \|", line).groups()  # type: ignore[union-attr]
            for flag in re.findall("`(.*?)`", flags):
                yield flag, what


ROWS = [(page, flag, what) for page in KNOWN for flag, what in rows(page)]


@pytest.mark.parametrize("page", KNOWN)
def test_a_page_has_every_flag(page: str) -> None:
    described = [flag.partition(" ")[0] for flag, _ in rows(page)]
    assert len(described) == len(set(described)), "a flag has two rows"
    assert set(described) == KNOWN[page]


def test_the_podman_of_this_machine_has_no_other_flag() -> None:
    shown = subprocess.run(["podman", "build", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", shown, re.MULTILINE))
    assert len(flags) > 60 and flags <= KNOWN["buildah"]


def parsed(flag: str) -> str:
    """What pybuild says to a command line with this flag; "" if it takes it. Values are checked too, so a value is a real one."""
    build = verb("build")
    assert build is not None
    try:
        words = [flag.replace(" ", "=", 1)] if flag.startswith("--") else flag.split(" ", 1)
        build.make_context("build", normalise([*words, "."]))
    except click.UsageError as error:
        return error.format_message()
    return ""


REAL = {
    "--add-host NAME:ADDRESS": "db:10.0.0.1", "--allow ENTITLEMENT": "network.host", "--annotation KEY=VALUE": "a=b",
    "--build-arg NAME=VALUE": "a=b", "--build-context NAME=PLACE": "data=.", "--call METHOD": "targets", "--format FORMAT": "oci",
    "--cache-from SPEC": "type=local,src=c", "--cache-to SPEC": "type=local,dest=c", "--cache-from NAME": "registry.example/a",
    "--cache-to NAME": "registry.example/a", "-f FILE": "Containerfile", "--file FILE": "Containerfile", "--iidfile FILE": "id",
    "--label NAME[=VALUE]": "a=b", "--metadata-file FILE": "m", "--network MODE": "none", "--no-cache-filter STAGE": "a",
    "-o SPEC": "type=tar,dest=a", "--output SPEC": "type=local,dest=a", "--platform P": "linux/amd64,linux/arm64",
    "--progress MODE": "plain", "--provenance VALUE": "false", "--sbom VALUE": "false", "--sbom PRESET": "false",
    "--secret SPEC": "id=home,env=HOME", "--shm-size SIZE": "1g", "--ssh SPEC": "default=/a", "-t NAME": "a", "--tag NAME": "a:1",
    "--target STAGE": "a", "--ulimit SPEC": "nofile=64", "--isolation MODE": "auto", "-m SIZE": "1g", "--memory SIZE": "1g",
    "--jobs N": "4", "--pull POLICY": "never", "--source-date-epoch SECONDS": "1", "--timestamp SECONDS": "1",
}  # fmt: skip


@pytest.mark.parametrize(("page", "flag", "what"), ROWS, ids=lambda text: text.partition(" ")[0] if text.startswith("-") else "")
def test_a_row_is_true(page: str, flag: str, what: str) -> None:
    said = parsed(flag if flag not in REAL else f"{flag.partition(' ')[0]} {REAL[flag]}")
    if what.startswith("refused: "):
        assert said.endswith(what.removeprefix("refused")), f"pybuild says {said!r}"
    elif what.startswith("`pybuild --debug"):
        assert "it stands before the command" in said or "pybuild --debug build" in said
    else:
        assert what.startswith(("the same", "accepted", "another option")) and not said, f"pybuild says {said!r}"


def test_what_is_accepted_if_it_is_switched_off() -> None:
    switches = [f"{flag}=false" for flag in ("--http-proxy", "--identity-label", "--omit-history", "--stdin", "--squash")]
    assert [flag for flag in switches if parsed(flag)] == []
    for flag in ("--rm=false", "--layers=false", "--skip-unused-stages=false", "--inherit-labels=false"):
        assert parsed(flag), flag
