"""make_zipapp.py DIST: make one file that holds pybuild and its libraries, from the wheel in DIST.

shiv unpacks the libraries, two of which are compiled, below ~/.shiv at the first start. So a file is for one version of Python
and one processor, which its name says.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path


def main(dist: Path) -> None:
    (wheel,) = dist.glob("pybuild_oci-*.whl")
    version = wheel.name.split("-")[1]
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = dist / f"pybuild-{version}-{python}-{platform.machine()}.pyz"
    shiv = [sys.executable, "-m", "shiv", "--reproducible", "--console-script", "pybuild"]
    subprocess.run([*shiv, "--python", f"/usr/bin/env {python}", "--output-file", target, "--quiet", wheel], check=True)
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
