"""RUN steps for other processors: before the first one the kernel learns to start their programs, once a build."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.plan.graph import RunStep
from pybuild.builder.plan.platforms import check_system
from pybuild.store.formats.platform import Platform

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import Plan
    from pybuild.builder.sandbox.emulators import Found
    from pybuild.builder.session import Session


class ForeignRuns:
    """The processors of one plan that are not this machine's."""

    def __init__(self, session: Session, plan: Plan) -> None:
        own = Platform.host().architecture
        self._session = session
        platforms = [node.platform for node in plan.nodes if isinstance(node.step, RunStep)]
        foreign = [one.architecture for one in platforms if one.os == "linux" and one.architecture != own]
        self._architectures = tuple(dict.fromkeys(foreign))
        self._found: dict[str, Found] = {}

    def prepare(self, platform: Platform) -> None:
        """Raise PrivilegeError if the kernel cannot start programs of this platform, not even with an emulator."""
        check_system(platform)
        if platform.architecture not in self._architectures:
            return
        from pybuild.builder.host.emulators import named_emulators, refusal, refusal_in_place, wanted

        in_place = self._session.pool.rung.in_place
        if not self._found:
            named = {} if in_place else named_emulators(os.environ, self._session.options.emulators)
            self._found = self._session.pool.emulate(wanted(self._architectures, named, only_machine=in_place))
        found = self._found[platform.architecture]
        if in_place and (not found.by or platform.architecture in self._session.options.emulators):
            raise refusal_in_place(platform)
        if not found.by:
            raise refusal(platform, found)
