"""All verbs."""

from __future__ import annotations

from pybuild.build_command import build
from pybuild.doctor_command import doctor
from pybuild.history_command import history
from pybuild.image_commands import export, images, import_, inspect, rmi, tag
from pybuild.pull_command import pull
from pybuild.store_commands import fsck, reset

ALL = (build, images, tag, rmi, inspect, history, export, import_, pull, fsck, reset, doctor)
