"""`make platforms`: Debian with packages for three processors, as root and as an ordinary user; some minutes, and the network.

    python -m tests.platforms

One recipe for amd64, arm64 and riscv64, whose steps install a package and run it; no handler on the machine before or after.
Also a C program made by cross compilers, and pybuild's own image for amd64 and arm64. skopeo, podman and a registry then read the index. Fails with an AssertionError.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.cli import CHECKOUT
from tests.support.foreign import foreign_emulator, machines_handlers
from tests.support.people import forget, make_person
from tests.support.registry import docker_registry

ROOTS = {"amd64": ("", "bookworm"), "arm64": ("aarch64", "bookworm"), "riscv64": ("riscv64", "trixie")}
PLATFORMS = [f"linux/{name}" for name in ROOTS]
KERNEL_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}
RECIPE = """FROM debian
RUN apt-get update && apt-get install -y --no-install-recommends hello && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
RUN hello && uname -m | tee /processor
"""
CROSS = """FROM --platform=$BUILDPLATFORM debian AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross \\
    gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
COPY hello.c /
ARG TARGETARCH
RUN --network=none case $TARGETARCH in arm64) cc=aarch64-linux-gnu-gcc;; riscv64) cc=riscv64-linux-gnu-gcc;; *) cc=gcc;; esac; \\
    $cc -static -O1 -s -o /hello /hello.c
FROM scratch
COPY --from=build /hello /hello
"""
HELLO = "#include <stdio.h>\nint main(void) { puts(\"hello from C\"); return 0; }\n"
EPOCH = "--source-date-epoch=1700000000"


def main() -> None:
    before = machines_handlers()
    with tempfile.TemporaryDirectory(prefix="pybuild-platforms-") as name:
        place = Path(name)
        for architecture, (qemu, suite) in ROOTS.items():
            begun = time.monotonic()
            emulator = foreign_emulator(qemu) if qemu else ""
            bootstrap = [sys.executable, Path(__file__).with_name("bootstrap.py"), architecture, emulator, suite]
            subprocess.run([*map(str, bootstrap), str(place / f"{architecture}.tar")], check=True)
            print(f"a root for {architecture}: {time.monotonic() - begun:.0f} s", flush=True)
        own_image(place)
        cross_built(place)
        digests = {kind: built_by(kind, place) for kind in ("root", "range")}
        print(digests)
    assert len(set(digests.values())) == 1, "root and an ordinary user made different images"
    assert machines_handlers() == before, "a handler was left on the machine"


def own_image(place: Path) -> None:
    """pybuild's own image for two processors; what is emulated says its version and builds."""
    person = make_person("root")
    try:
        pybuild = person.pybuild()
        for architecture in ("amd64", "arm64"):
            pybuild("import", f"--platform=linux/{architecture}", person.take(place / f"{architecture}.tar"), "debian")
        begun = time.monotonic()
        subprocess.run(
            ["sh", CHECKOUT / "images/pybuild/make.sh", sys.executable, person.home / "made"],
            check=True,
            env={
                **os.environ, "PYBUILD_IMAGE_ROOT": str(pybuild.root), "PYBUILD_IMAGE_BASE": "debian",
                "PYBUILD_IMAGE_PLATFORMS": "linux/amd64,linux/arm64",
            },
        )  # fmt: skip
        print(f"pybuild's own image for two platforms: {time.monotonic() - begun:.0f} s", flush=True)
        assert set(platforms_of(f"oci-archive:{person.home}/made/pybuild.tar")) == {"amd64", "arm64"}
        recipe = 'FROM pybuild\nWORKDIR /c\nRUN ["/pybuild/bin/pybuild", "--version"]\n'
        done = pybuild("--progress=plain", "--platform=linux/arm64", person.context("own", recipe))
        assert "| pybuild, version" in done.err, done.err
    finally:
        forget(person)


def cross_built(place: Path) -> None:
    """A C program that this machine's compilers make for each processor: one builder, and no emulator until it runs."""
    person = make_person("root")
    try:
        pybuild = person.pybuild()
        pybuild("import", "--platform=linux/amd64", person.take(place / "amd64.tar"), "debian")
        context = person.context("cross", CROSS, **{"hello.c": HELLO})
        begun = time.monotonic()
        built = pybuild("--progress=json", f"--platform={','.join(PLATFORMS)}", "-t", "cross", context)
        ran = [(e["stage"], e.get("platform")) for e in built.events if e["event"] == "step_finished"]
        assert len([stage for stage, _ in ran if stage == "build"]) == 2 + len(PLATFORMS), ran  # apt-get and COPY once
        print(f"a C program for three platforms: {time.monotonic() - begun:.0f} s", flush=True)
        for platform in PLATFORMS:
            recipe = person.context(platform.replace("/", "-"), 'FROM cross\nWORKDIR /w\nRUN ["/hello"]\n')
            assert "| hello from C" in pybuild("--progress=plain", f"--platform={platform}", recipe).err
    finally:
        forget(person)


def platforms_of(place: str) -> dict[str, str]:
    """Architecture -> digest of the manifest, as skopeo reads them."""
    index = json.loads(run("skopeo", "inspect", "--raw", place))
    return {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}


def built_by(kind: str, place: Path) -> str:
    """Build as one person, and read what came out; the digest of the index."""
    person = make_person(kind)
    try:
        pybuild = person.pybuild()
        for architecture in ROOTS:
            tar = person.take(place / f"{architecture}.tar")
            pybuild("import", f"--platform=linux/{architecture}", tar, "debian")
        begun = time.monotonic()
        output = person.home / "layout"
        built = pybuild(
            f"--platform={','.join(PLATFORMS)}", EPOCH, "-t", "app", "-o", f"type=oci,dest={output},tar=false",
            person.context("c", RECIPE),
        )  # fmt: skip
        print(f"{kind}: three platforms in {time.monotonic() - begun:.0f} s", flush=True)
        for architecture, processor in KERNEL_NAMES.items():
            context = person.context(architecture, "FROM app\nRUN hello -g ok; cat /processor\n")
            done = pybuild("--progress=plain", f"--platform=linux/{architecture}", context)
            assert "| ok" in done.err and f"| {processor}" in done.err, done.err
        pybuild.assert_whole()
        read_by_others(output)
        return built.out.strip()
    finally:
        forget(person)


def read_by_others(layout: Path) -> None:
    """skopeo, podman and a registry give back the digest of each platform."""
    digests = platforms_of(f"oci:{layout}")
    assert list(digests) == list(ROOTS)
    with tempfile.TemporaryDirectory() as directory, docker_registry(Path(directory)) as registry:
        name = f"docker://{registry.host}/app:1"
        run("skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", f"oci:{layout}", name)
        for architecture, digest in digests.items():
            found = run("skopeo", "inspect", "--tls-verify=false", f"--override-arch={architecture}", "--format={{.Digest}}", name)
            raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/app@{digest}")
            assert json.loads(raw)["layers"], found
    with tempfile.TemporaryDirectory() as storage:
        podman = ["podman", "--root", f"{storage}/root", "--runroot", f"{storage}/run", "--storage-driver=vfs"]
        run(*podman, "pull", "--quiet", "--arch=arm64", f"oci:{layout}")
        shown = json.loads(run(*podman, "images", "--format=json"))
        config = json.loads(run(*podman, "image", "inspect", shown[0]["Id"]))
        assert config[0]["Architecture"] == "arm64"
        subprocess.run([*podman, "rmi", "--all", "--force"], capture_output=True, check=True)


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout


if __name__ == "__main__":
    main()
