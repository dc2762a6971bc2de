"""What pyproject.toml cannot say: manual pages and shell completions are made while a wheel is built.

They come from the commands themselves, so they cannot differ from them. An editable install has them too, as they were when it
was made.
"""

import os
import sys
from collections import defaultdict

from setuptools import Distribution, setup

HERE = os.path.dirname(os.path.abspath(__file__))


class InstallData(Distribution().get_command_class("install_data")):  # setuptools has it from distutils
    """Adds the generated files to those that pyproject.toml names."""

    def run(self) -> None:
        sys.path.insert(0, HERE)
        try:
            from pybuild.installation.files import write_files
        finally:
            sys.path.remove(HERE)
        made = os.path.join(self.get_finalized_command("build").build_temp, "installed")
        by_directory = defaultdict(list)
        for path in write_files(made):
            by_directory[os.path.dirname(path)].append(os.path.join(made, path))
        self.data_files = [*(self.data_files or []), *by_directory.items()]
        super().run()


class WithData(Distribution):
    """An editable install asks whether there is data by this name, and installs none without it."""

    def has_data(self) -> bool:
        return bool(self.data_files)


setup(distclass=WithData, cmdclass={"install_data": InstallData})
