"""The base image of the examples, debian:trixie-slim, made here: for machines that reach no registry, only Debian's packages.

mmdebstrap makes the root with the settings of the official image for apt and dpkg. Certificates of this machine's own, in
/usr/local/share/ca-certificates, come along: behind a proxy that opens TLS no step could download anything without them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.examples.containers import CheckFailed
from tests.platforms.bootstrap import MIRROR
from tests.support.cli import Pybuild
from tests.support.foreign import foreign_emulator

NAME = "debian:trixie-slim"
SUITE = "trixie"
QEMU = {"amd64": "x86_64", "arm64": "aarch64"}
CERTIFICATES = "/usr/local/share/ca-certificates"
# The files that make the official image slim, and keep apt's caches out of layers.
DPKG = (
    *(f"path-exclude=/usr/share/{place}/*" for place in ("doc", "groff", "info", "linda", "lintian", "locale", "man")),
    "path-include=/usr/share/doc/*/copyright",
)
APT = r"""DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Apt::AutoRemove::SuggestsImportant "false";
"""
RECIPE = 'FROM scratch\nADD root.tar /\nCMD ["bash"]\n'
BOOTSTRAP = Path(__file__).parent.parent / "platforms" / "bootstrap.py"


def machine() -> str:
    """This machine's processor, as images name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def make_base(architecture: str, target: Path) -> None:
    """Write an OCI archive of the base image for one processor."""
    with tempfile.TemporaryDirectory(prefix="pybuild-examples-") as name:
        place = Path(name)
        (place / "apt").write_text(APT)
        hooks = [
            f"copy-in {CERTIFICATES} {Path(CERTIFICATES).parent}",
            f"upload {place}/apt /etc/apt/apt.conf.d/docker-clean",
            'rm -rf "$1"/var/log/* "$1"/var/cache/apt/*.bin "$1"/var/cache/ldconfig/aux-cache',
        ]
        emulator = "" if architecture == machine() else foreign_emulator(QEMU[architecture])
        words = [sys.executable, BOOTSTRAP, architecture, emulator, SUITE, place / "root.tar"]
        words += ["--skip=output/dev", *(f"--dpkgopt={option}" for option in DPKG), *(f"--customize-hook={hook}" for hook in hooks)]
        words += [f"deb {MIRROR} {SUITE}-updates main", f"deb {MIRROR}-security {SUITE}-security main"]
        made = subprocess.run(list(map(str, words)), stderr=subprocess.PIPE, text=True)
        if made.returncode != 0:  # it warns of mounts that it then does in another way
            raise CheckFailed(f"mmdebstrap could not make {NAME} for {architecture}:\n{made.stderr}")
        (place / "Dockerfile").write_text(RECIPE)
        (place / ".dockerignore").write_text("*\n!root.tar\n")
        pybuild = Pybuild(place / "store")
        pybuild("build", f"--platform=linux/{architecture}", "-t", NAME, "-o", f"type=oci,dest={target}", place)
