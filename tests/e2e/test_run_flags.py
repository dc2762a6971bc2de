"""RUN with heredocs, mounts and flags, as users see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.people import Person
from tests.support.runs import outputs, run_all

RECIPE = f"""\
FROM {BASE}
WORKDIR /w
RUN <<EOF
echo "$PATH" | wc -l > /lines
EOF
RUN <<EOF
#!/bin/sh -e
ls -l /dev/pipes/EOF | cut -c 1-10
(echo x >> /dev/pipes/EOF) 2> /dev/null || echo read-only
EOF
RUN --mount=type=tmpfs,target=t,size=64k --mount=type=tmpfs,target=/run/a/b --mount=type=tmpfs,target=t/in/x,ro \\
    touch t/f /run/a/b/f && ls t t/in && ((echo x > t/in/x/f) 2> /dev/null || echo read-only) && stat -f -c %b /w/t
RUN --network=none ls /sys/class/net
"""


def test_heredocs_and_mounts_leave_only_what_the_commands_wrote(person: Person) -> None:
    """E18, E28: neither the program nor a mount point ends up in a layer."""
    context = person.context("c", RECIPE)
    image = person.home / "i.tar"
    done = person.pybuild()("--progress=json", "-o", f"type=oci,dest={image}", context)
    program, mounts, network = list(outputs(done).values())
    assert program.splitlines() == ["-rwxr-xr-x", "read-only"]
    assert mounts.splitlines() == ["t:", "f", "in", "", "t/in:", "x", "read-only", "16"]
    assert network == "lo\n"
    found = read_archive(image)
    assert [found.names(layer) for layer in range(1, 6)] == [["w"], ["lines"], [], [], []]


def test_files_next_to_a_mount_stay_but_its_mount_point_does_not(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f"FROM {BASE}\nRUN --mount=type=tmpfs,target=/new/dir/m touch /new/kept /new/dir/m/gone\n"
    recipe += "RUN ls -R /new; stat -c '%a %u:%g' /new\n"
    image = tmp_path / "i.tar"
    done = pybuild("--progress=json", "-o", f"type=oci,dest={image}", write_context(tmp_path / "c", recipe))
    assert list(outputs(done).values()) == ["/new:\nkept\n755 0:0\n"]
    assert read_archive(image).names(1) == ["new", "new/kept"]


def test_a_mount_follows_the_links_of_the_image(tmp_path: Path, pybuild: Pybuild) -> None:
    commands = {"link": "--mount=type=tmpfs,target=/l/deep touch /l/deep/f && ls /r/deep && readlink /l"}
    printed = run_all(pybuild, tmp_path / "c", commands, before=["RUN mkdir -p /r && ln -s ../../r /l"])
    assert printed["link"] == "f\n../../r\n"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("/bin/sh", "the image has a non-directory at /bin/sh", id="a file of the image"),
        pytest.param("/etc/passwd/x", "the image has a non-directory at /etc/passwd", id="below a file"),
        pytest.param("/proc/x", "cannot make the mount point /proc/x", id="in a filesystem of the kernel"),
        pytest.param("/dev/null", "cannot mount on /dev/null: it is not a directory", id="a device"),
        pytest.param("/bin/../loop", "too many levels of symbolic links", id="a loop of links"),
        pytest.param("/up", "leads to the root", id="a link to the root"),
    ],
)
def test_an_invalid_mount_point_is_an_error(
    tmp_path: Path, pybuild: Pybuild, target: str, message: str
) -> None:
    lines = f"FROM {BASE}\nRUN ln -s loop /loop; ln -s .. /up\nRUN --mount=type=tmpfs,target={target} true\n"
    printed = pybuild.refused(write_context(tmp_path / "c", lines))
    assert "Buildfile:3:1: error: " in printed and message in printed


def test_a_mount_is_part_of_the_cache_key(tmp_path: Path, pybuild: Pybuild) -> None:
    def cached(flags: str) -> bool:
        context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN {flags} true\n")
        (found,) = pybuild("--progress=json", context).finished().values()
        return found

    variants = ["", "--mount=type=tmpfs,target=/a", "--mount=type=tmpfs,target=/b", "--network=none"]
    assert [cached(flags) for flags in variants] == [False] * len(variants)
    assert [cached(flags) for flags in variants] == [True] * len(variants)


def test_insecure_steps_have_all_capabilities_if_allowed(person: Person) -> None:
    """All capabilities of the namespace, no seccomp filter, and nothing in /proc is masked."""
    command = (
        "RUN --security=insecure grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs x /tmp && touch /tmp/f; "
        "grep -c ' /proc/' /proc/mounts; true"
    )
    context = person.context("c", f"FROM {BASE}\n{command}\n")
    pybuild = person.pybuild()
    assert ":2:5: error: RUN --security asks for security.insecure" in pybuild.refused(context)
    image = person.home / "i.tar"
    done = pybuild("--allow=security.insecure", "--progress=json", "-o", f"type=oci,dest={image}", context)
    (printed,) = outputs(done).values()
    effective, seccomp, covers = printed.splitlines()
    assert int(effective.split()[1], 16) > 1 << 40 and seccomp.split()[1] == "0" and covers == "0"
    assert read_archive(image).names(1) == []
