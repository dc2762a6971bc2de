"""install_matrix.py DIST [SUITE...]: install the wheel in DIST in every way, in a root of each Debian suite, and use it.

In each root: the wheel in a virtual environment, an editable install, the single file, and the Debian package, each made with
the Python of that suite. Each has to pass `self-test`, RUN included, and to have its manual page and completions. Needs root,
mmdebstrap and the network; docs/dev/support.md has the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SUITES = ("bookworm", "trixie", "forky")
PACKAGES = "python3,python3-venv,ca-certificates,uidmap"
SOURCES = (
    "pybuild",
    "builder",
    "parser",
    "remote",
    "store",
    "values",
    "docs",
    "packaging",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
)
TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "NOTICE")
# A user namespace cannot be made in a chroot, so the root becomes the root of a mount namespace.
ENTER = """\
set -e
cd "$1"
mount --bind . . && cd "$1"
mount -t proc proc proc && mount --rbind /dev dev && mount --rbind /sys sys
mkdir -p old && pivot_root . old && umount -l /old && rmdir /old
exec /bin/sh -e /matrix.sh
"""
INSIDE = """\
exec 2>&1
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
has() { # PREFIX PROGRAM: manual page and completions
    for f in man/man1/$2.1 man/man1/$2-build.1 bash-completion/completions/$2 zsh/site-functions/_$2 fish/vendor_completions.d/$2.fish
    do [ -e "$1/share/$f" ] || [ -e "$1/share/$f.gz" ] || { echo "MISSING $1/share/$f"; exit 1; }
    done
}
python3 --version
echo "== wheel"
python3 -m venv /wheel && /wheel/bin/pip install -q /dist/*.whl shiv && has /wheel pybuild && /wheel/bin/pybuild self-test
/wheel/bin/pip check
echo "== editable"
python3 -m venv /editable && /editable/bin/pip install -q -e /src && has /editable pybuild && /editable/bin/pybuild self-test
echo "== single file"
/wheel/bin/python /src/packaging/make_zipapp.py /dist && /dist/*.pyz self-test
echo "== Debian package"
/src/packaging/make_deb.sh /dist/*.whl /dist
dpkg -i /dist/*.deb >/dev/null && has /usr pybuild-image && pybuild-image self-test
[ ! -e /usr/bin/pybuild ] && dpkg --verify pybuild-image
dpkg -P pybuild-image >/dev/null && [ ! -e /usr/lib/pybuild-image ] && echo "removed without a trace"
echo "== passed"
"""


def main(dist: Path, suites: list[str]) -> int:
    failed = []
    (wheel,) = dist.resolve().glob("pybuild_oci-*.whl")
    for suite in suites:
        print(f"=== {suite}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"pybuild-{suite}-") as directory:
            root = Path(directory) / "root"
            # A mirror that lags behind has lists that say they are out of date: here that is no danger.
            stale = "--aptopt=Acquire::Check-Valid-Until false"
            build = ["mmdebstrap", "--quiet", stale, "--variant=minbase", f"--include={PACKAGES}", suite, root]
            subprocess.run(build, check=True)
            prepare(root, wheel)
            command = ["unshare", "--mount", "--propagation=private", "sh", "-c", ENTER, "sh", root]
            status = subprocess.run(command, check=False).returncode
            if status:
                failed.append(suite)
                print(f"=== {suite} FAILED with {status}", flush=True)
    return int(bool(failed))


def prepare(root: Path, wheel: Path) -> None:
    """Put the wheel, the sources, and this machine's certificates and name servers into a root."""
    (root / "dist").mkdir()
    shutil.copy(wheel, root / "dist")
    (root / "src").mkdir()
    for name in (*SOURCES, *TEXTS):
        subprocess.run(["cp", "-a", CHECKOUT / name, root / "src"], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    certificates = "etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(f"/{certificates}"):
        shutil.copy(f"/{certificates}", root / certificates)
    (root / "matrix.sh").write_text(INSIDE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(SUITES)))
