"""The page of a build, from its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.pages.build_data import build_data, earlier_build
from pybuild.pages.page import report_page
from pybuild.store.objects.build_logs import build_logs

if TYPE_CHECKING:
    from pybuild.store.objects.build_logs import StoredLog
    from pybuild.store.store import Store


def page_of_build(store: Store, log: StoredLog) -> bytes:
    """The page of the build with this log. Raises OSError, StoreError."""
    builds = store.builds.all()
    earlier = earlier_build(builds, log.build)
    earlier_log = next((one for one in build_logs(store.logs) if one.build == earlier), None)
    return report_page(f"Build {log.build}", build_data(store, log, earlier_log, builds))
