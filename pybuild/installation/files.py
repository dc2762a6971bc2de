"""All files besides the Python packages that an installation has: manual pages and shell completions.

setup.py calls this when a wheel is made, the Debian package when it is built.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pybuild.cli import cli
from pybuild.completion_scripts import SHELLS, completion_script
from pybuild.installation.manual import manual_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPLETIONS = {  # shell -> where it looks, below the prefix of an installation
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


def installed_files(program: str = "pybuild") -> Iterator[tuple[str, str]]:
    """Path below the prefix, and text, of each file, for a command that is installed as `program`."""
    for name, text in manual_pages(cli, program):
        yield f"share/man/man1/{name}", text
    for shell in SHELLS:
        yield _COMPLETIONS[shell].format(program), completion_script(cli, shell, program)


def write_files(directory: str, program: str = "pybuild") -> list[str]:
    """Write the files below a directory; return their paths relative to it."""
    paths = []
    for path, text in installed_files(program):
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        paths.append(path)
    return paths


if __name__ == "__main__":  # python -m pybuild.installation.files DIRECTORY [PROGRAM]
    write_files(*sys.argv[1:3])
