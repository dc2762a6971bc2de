"""Where package managers keep what saves a download: of no use in an image that is complete."""

from __future__ import annotations

import posixpath
import re

from pybuild.values.pattern import pattern

_HOME = rb"(?:root|home/[^/]+|var/www|var/lib/[^/]+)"
# Each directory, or file, with what it is. A directory that only packages need which are installed later, such as
# /var/lib/dpkg, is not a cache; neither is ~/.m2/repository, which programs can read at run time.
_CACHES: tuple[tuple[bytes, str], ...] = (
    (rb"var/lib/apt/lists(?=/)", "apt's lists of packages"),
    (rb"var/cache/apt/archives(?=/)", "packages that apt has downloaded"),
    (rb"var/cache/apt/(?:src)?pkgcache\.bin$", "apt's cache of its lists"),
    (rb"var/cache/(?:dnf|libdnf5|yum|PackageKit)(?=/)", "dnf's cache"),
    (rb"var/cache/apk(?=/)", "apk's cache"),
    (rb"etc/apk/cache(?=/)", "apk's cache"),
    (rb"lib/apk/.*\.apk$", "packages that apk has downloaded"),
    (rb"var/cache/zypp(?=/)", "zypper's cache"),
    (rb"var/cache/pacman/pkg(?=/)", "packages that pacman has downloaded"),
    (rb"var/cache/xbps(?=/)", "packages that xbps has downloaded"),
    (_HOME + rb"/\.cache/pip(?=/)", "pip's cache"),
    (_HOME + rb"/\.cache/uv(?=/)", "uv's cache"),
    (_HOME + rb"/\.cache/pypoetry(?=/)", "Poetry's cache"),
    (_HOME + rb"/\.cache/pipenv(?=/)", "Pipenv's cache"),
    (_HOME + rb"/\.conda/pkgs(?=/)|opt/(?:conda|miniconda3)/pkgs(?=/)", "conda's packages"),
    (_HOME + rb"/\.npm/_cacache(?=/)", "npm's cache"),
    (_HOME + rb"/\.(?:cache/yarn|yarn/berry/cache)(?=/)|usr/local/share/\.cache/yarn(?=/)", "Yarn's cache"),
    (_HOME + rb"/\.local/share/pnpm/store(?=/)|" + _HOME + rb"/\.cache/pnpm(?=/)", "pnpm's store"),
    (_HOME + rb"/\.bun/install/cache(?=/)", "Bun's cache"),
    (_HOME + rb"/\.cargo/registry(?=/)|usr/local/cargo/registry(?=/)", "cargo's registry"),
    (_HOME + rb"/go/pkg/mod/cache(?=/)|go/pkg/mod/cache(?=/)", "Go's module cache"),
    (_HOME + rb"/\.cache/go-build(?=/)", "Go's build cache"),
    (_HOME + rb"/\.(?:composer/cache|cache/composer)(?=/)", "Composer's cache"),
    (_HOME + rb"/\.gradle/caches(?=/)", "Gradle's cache"),
    (_HOME + rb"/\.(?:gem|bundle)/cache(?=/)|usr/local/bundle/cache(?=/)", "RubyGems' cache"),
    (_HOME + rb"/\.nuget/packages(?=/)|" + _HOME + rb"/\.local/share/NuGet/(?:v3-cache|http-cache)(?=/)", "NuGet's cache"),
    (_HOME + rb"/\.cache/(?:ccache|sccache|bazel)(?=/)|" + _HOME + rb"/\.ccache(?=/)", "a compiler's cache"),
)  # fmt: skip
_ANY = pattern(b"|".join(b"(" + re.sub(rb"\((?!\?)", b"(?:", text) + b")" for text, _ in _CACHES))
# These stay empty or nearly so after `apt-get clean`, and dpkg or apt make them again.
_HARMLESS = frozenset((b"lock", b"CACHEDIR.TAG", b".gitkeep"))


def cache_of(path: bytes) -> tuple[bytes, str] | None:
    """The cache that a file is in: its directory, or the file itself, and what it is; None if it is in none."""
    found = _ANY.match(path)
    if found is None or posixpath.basename(path) in _HARMLESS:
        return None
    return found.group(), _CACHES[(found.lastindex or 1) - 1][1]
