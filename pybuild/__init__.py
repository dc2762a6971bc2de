"""pybuild builds layered images from Dockerfile-style recipes. docs/user/api.md describes this interface.

Names are imported when they are first used. So the command does not wait for them, and `python -m pybuild` imports
nothing from the working directory before pybuild/__main__.py removes it from sys.path.
"""

from pybuild.version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.api import build, check, open_image
    from pybuild.builder.cache_places import (
        CacheExport,
        CacheImport,
        CacheMode,
        InlineCache,
        LocalCache,
        RegistryCache,
    )
    from pybuild.builder.errors import BuildError, CopyError, PlanError, PrivilegeError, SandboxError, StepFailed
    from pybuild.builder.events import (
        CacheExported,
        CheckWarning,
        Event,
        Exported,
        Note,
        Pushed,
        StepBroke,
        StepFinished,
        StepOutput,
        StepRef,
        StepStarted,
        Tick,
        Transfer,
    )
    from pybuild.builder.limits import StepLimits, Ulimit
    from pybuild.builder.on_failure import FailedExport, OnFail
    from pybuild.builder.options import (
        AgentSource,
        BuildOptions,
        Entitlement,
        Isolation,
        Network,
        Pull,
        SecretSource,
        Snapshotter,
    )
    from pybuild.builder.output.export import Format, ImageOutput, LocalOutput, RegistryOutput, TarOutput
    from pybuild.image import HistoryLine, Image, Layer
    from pybuild.parser import ParseError
    from pybuild.remote.errors import RemoteError
    from pybuild.store.errors import NotFound, StoreError
    from pybuild.store.formats.platform import Platform
    from pybuild.store.layers.difference import Change, Difference
    from pybuild.values.errors import PybuildError

__all__ = [
    "AgentSource",
    "BuildError",
    "BuildOptions",
    "CacheExport",
    "CacheExported",
    "CacheImport",
    "CacheMode",
    "Change",
    "CheckWarning",
    "CopyError",
    "Difference",
    "Entitlement",
    "Event",
    "Exported",
    "FailedExport",
    "Format",
    "HistoryLine",
    "Image",
    "ImageOutput",
    "InlineCache",
    "Isolation",
    "Layer",
    "LocalCache",
    "LocalOutput",
    "Network",
    "NotFound",
    "Note",
    "OnFail",
    "ParseError",
    "PlanError",
    "Platform",
    "PrivilegeError",
    "Pull",
    "Pushed",
    "PybuildError",
    "RegistryCache",
    "RegistryOutput",
    "RemoteError",
    "SandboxError",
    "SecretSource",
    "Snapshotter",
    "StepBroke",
    "StepFailed",
    "StepFinished",
    "StepLimits",
    "StepOutput",
    "StepRef",
    "StepStarted",
    "StoreError",
    "TarOutput",
    "Tick",
    "Transfer",
    "Ulimit",
    "build",
    "check",
    "open_image",
]

_MODULES = {
    "pybuild.builder.cache_places": (
        "CacheExport", "CacheImport", "CacheMode", "InlineCache", "LocalCache", "RegistryCache",
    ),
    "pybuild.builder.errors": ("BuildError", "CopyError", "PlanError", "PrivilegeError", "SandboxError", "StepFailed"),
    "pybuild.builder.events": (
        "CacheExported", "CheckWarning", "Event", "Exported", "Note", "Pushed", "StepBroke", "StepFinished", "StepOutput",
        "StepRef", "StepStarted", "Tick", "Transfer",
    ),
    "pybuild.builder.limits": ("StepLimits", "Ulimit"),
    "pybuild.builder.on_failure": ("FailedExport", "OnFail"),
    "pybuild.builder.options": (
        "AgentSource", "BuildOptions", "Entitlement", "Isolation", "Network", "Pull", "SecretSource", "Snapshotter",
    ),
    "pybuild.builder.output.export": ("Format", "ImageOutput", "LocalOutput", "RegistryOutput", "TarOutput"),
    "pybuild.parser": ("ParseError",),
    "pybuild.remote.errors": ("RemoteError",),
    "pybuild.api": ("build", "check", "open_image"),
    "pybuild.image": ("HistoryLine", "Image", "Layer"),
    "pybuild.store.layers.difference": ("Change", "Difference"),
    "pybuild.store.errors": ("NotFound", "StoreError"),
    "pybuild.store.formats.platform": ("Platform",),
    "pybuild.values.errors": ("PybuildError",),
}  # fmt: skip
_NAMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'pybuild' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
