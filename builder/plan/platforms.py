"""The platforms of a build: their ARGs, the platform of each stage, and the systems that a RUN can be for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError, PrivilegeError
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Span
    from pybuild.store.objects.images import StoredImage


def platform_args(options: BuildOptions) -> dict[str, str]:
    """The predefined ARGs: BUILD… describes this machine, TARGET… the platform of the image."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", options.build_platform), ("TARGET", options.platform)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    values["TARGETSTAGE"] = options.target or "default"
    return values


def parse_platform(text: str, span: Span) -> Platform:
    """The value of --platform of a FROM. Raises PlanError."""
    try:
        return Platform.parse(text)
    except InvalidImage as error:
        raise PlanError(f"--platform={text}: {error}", span=span, hint=error.hint) from None


def platform_of(image: StoredImage | None, wanted: Platform) -> Platform:
    """The platform of a stage on this image: that of the image, even if the user asked for another one."""
    if image is None or not image.config.architecture:
        return wanted
    config = image.config
    return replace(config.platform, os=config.os or wanted.os, architecture=config.architecture, variant=config.variant)


def check_system(platform: Platform) -> None:
    """Raise PrivilegeError for a RUN that is not for linux: files can be copied from and to images for any system."""
    if platform.os != "linux":
        raise PrivilegeError(
            f"RUN for {platform}: pybuild runs programs for linux only",
            hint="run it in a stage for linux, FROM --platform=$BUILDPLATFORM, and copy what it makes",
        )
