"""UnknownBuildArg: a --build-arg that no ARG declares has no effect, most often because it is misspelt.

BuildKit ignores it silently; docker's first builder warned about it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.builder.plan.platforms import platform_args
from pybuild.parser import Arg, ParseWarning, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.resolve import Resolved

_PROXIES = frozenset(("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"))  # in any case


def unknown_build_args(resolved: Resolved, options: BuildOptions) -> Iterator[ParseWarning]:
    """A warning for each build argument that has no effect: at the ARG that was probably meant, else at the first line."""
    given = [name for name in options.build_args if not _is_predefined(name)]
    if not given:
        return
    buildfile = resolved.buildfile
    triggers = [trigger for stage in resolved.stages.values() for trigger in stage.triggers]
    own = [instruction for stage in buildfile.stages for instruction in stage.instructions]
    args = [arg for arg in (*buildfile.args, *own, *triggers) if isinstance(arg, Arg)]
    declared = {item.name: arg for arg in reversed(args) for item in arg.items}
    predefined = platform_args(options)
    first = (buildfile.args[0] if buildfile.args else buildfile.stages[0].base).span
    for name in given:
        # A check leaves out lines that cannot be read; an ARG among them declares its names too.
        in_text = re.search(rf"(?m)^\s*(?i:arg)\b.*\b{re.escape(name)}\b", buildfile.source.text)
        if name in declared or name in predefined or in_text:
            continue
        known = [*declared, *predefined]
        similar = next((other for other in known if other.lower() == name.lower()), None) or suggest(name, known)
        meant = declared.get(similar) if similar else None
        hint = f" (did you mean {similar}?)" if similar else ""
        span = first if meant is None or meant in triggers else meant.span
        yield ParseWarning("UnknownBuildArg", f'Build argument "{name}" is not declared by any ARG{hint}', span)


def _is_predefined(name: str) -> bool:
    return name.startswith("BUILDKIT_") or name == "SOURCE_DATE_EPOCH" or name.lower() in _PROXIES
