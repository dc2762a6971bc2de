"""The contexts of one build: the main one, with the recipe, and those that --build-context names.

A context is opened when it is first needed. A named context replaces the image or stage of that name in the recipe.

    CONTEXT                  DIR | - (standard input) | http(s)://… (the last two: an archive, or else the recipe alone)
    --build-context NAME=    DIR | docker-image://REFERENCE | oci-layout://DIR[:TAG][@DIGEST] | http(s)://… (a file `context`)
    both                     a git repository, as remote/git/url.py reads it, or github.com/…
"""

from __future__ import annotations

import os
import sys
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Note
from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.files.ignore_file import IGNORE_FILE
from pybuild.builder.plan.resolve import ContextFiles
from pybuild.builder.remote_source import UrlSource, is_remote, read_remote
from pybuild.builder.sources.recipe import (
    STDIN,
    STDIN_NAME,
    Recipe,
    ignore_text,
    recipe_in_file,
    recipe_of_directory,
    recipe_of_files,
)
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.view import ROOT
from pybuild.store.objects.context_memo import memo_path
from pybuild.store.system.holes import create_sparse
from pybuild.values.limits import CONTEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.plan.resolve import ImageSource
    from pybuild.builder.remote_source import RemoteSource
    from pybuild.builder.session import Session
    from pybuild.builder.sources.downloads import RemoteSources
    from pybuild.remote.git.url import RepositorySource
    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.images import StoredImage

_IMAGE, _LAYOUT = "docker-image://", "oci-layout://"
_TARGET = "target:"  # docker buildx bake passes these to a frontend
_CHUNK = 1 << 20


def is_archive(main: str) -> bool:
    """Whether a main context is standard input or a URL, and not a directory of this machine."""
    return main == STDIN or (is_remote(_expand_github(main)) and not os.path.isdir(main))


def keeps_git_dir(args: Mapping[str, str]) -> bool:
    """Whether BuildKit's build argument asks for the `.git` of the main context. Go's ParseBool reads these as true."""
    return args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "t", "T", "true", "TRUE", "True")


def context_name(text: str) -> str:
    """The normal form of a context's name: that of an image's short name, without `:latest`.

    Raises InvalidImage for a text that can name neither a stage nor an image.
    """
    return Reference.parse(text.lower()).familiar.removesuffix(":latest")


class Contexts:
    """All contexts of a build. Their temporary files lie in the ingest directory and are removed with it."""

    def __init__(self, session: Session, images: ImageSource, main: str, named: Mapping[str, str]) -> None:
        """`named` maps normal names (`context_name`) to places. Raises BuildError if a directory does not exist."""
        self._main = _expand_github(main)
        self._named = named = {name: _expand_github(place) for name, place in named.items()}
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._images = images
        self._identities: dict[str, str] = {}  # of contexts whose files cannot change, by name
        self._sources: dict[str, ContextSource] = {}  # by name; the main one is ""
        self._platform = session.options.platform
        self._found: dict[str, ContextFiles] = {}
        self._found_images: dict[str, StoredImage] = {}
        for name, place in named.items():
            if place.startswith((_IMAGE, _LAYOUT)) or is_remote(place) or os.path.isdir(place):
                continue
            if place.startswith(_TARGET):
                raise BuildError(
                    f"--build-context {name}={place}: targets of other builds are for docker buildx bake",
                    hint=f"build it first with -t NAME, and give {_IMAGE}NAME",
                )
            raise BuildError(
                f"--build-context {name}={place}: no such directory",
                hint=f"give a directory, {_IMAGE}REFERENCE, {_LAYOUT}DIR[:TAG] or a URL",
            )

    @cached_property
    def remotes(self) -> RemoteSources:
        """The contexts on other machines, and the remote sources of the recipe's ADD."""
        from pybuild.builder.sources.downloads import RemoteSources

        return RemoteSources(self._session, os.environ)

    def with_images(self, images: ImageSource, platform: Platform | None = None) -> Contexts:
        """The same contexts, whose names of images are looked up elsewhere, for a platform (None: that of the build).

        The main context must have been opened.
        """
        other = copy(self)
        other._images = images
        other._platform = platform or self._platform
        other._found_images = {}
        return other

    def open_main(self, recipe: str | None) -> Recipe:
        """Open the main context and read the recipe; `recipe` is the value of -f.

        Raises BuildError, StoreError, RemoteError, OSError.
        """
        if self._main == STDIN:
            return self._open_file(*self._spooled_stdin(), recipe)
        if is_archive(self._main):
            remote = self._main_remote()
            if not isinstance(remote, UrlSource):
                return self._recipe_in(self._check_out("", remote), f"the repository {remote.redacted}", recipe)
            return self._open_file(*self._spooled_url(remote), recipe)
        found = recipe_of_directory(self._main, recipe)
        if found.passed_over:
            others = " and ".join(found.passed_over)
            self._session.observe(Note(f"the recipe is {found.path}, not {others}; -f chooses another one"))
        beside = None if found.path == STDIN_NAME else found.path
        self._sources[""] = self._directory(self._main, beside)
        return found

    def open_archive(self) -> ContextSource:
        """The files of a main context that is not a directory, without its recipe.

        Anything that is not an archive is read as the recipe; the context is then empty.
        Raises BuildError, StoreError, RemoteError, OSError.
        """
        if self._main == STDIN:
            return self._as_archive(*self._spooled_stdin()[:2]) or self._empty_context()
        remote = self._main_remote()
        if not isinstance(remote, UrlSource):
            return self._check_out("", remote)
        return self._as_archive(*self._spooled_url(remote)[:2]) or self._empty_context()

    def main(self) -> ContextFiles:
        """The main context. It must have been opened."""
        return ContextFiles("", self._identities.get("", ""))

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        """The named context that replaces an image or stage; None if no context has this name.

        Raises BuildError, StoreError, RemoteError, OSError.
        """
        if not self._named:
            return None
        try:
            name = context_name(name)
        except InvalidImage:
            return None
        place = self._named.get(name)
        if place is None:
            return None
        if (known := self._found.get(name) or self._found_images.get(name)) is not None:
            return known
        found = self._open_named(name, place)
        if isinstance(found, ContextFiles):
            self._found[name] = found
        else:
            self._found_images[name] = found
        return found

    def source(self, name: str) -> ContextSource:
        """The files of a context that `main` or `find` returned."""
        return self._sources[name]

    def _open_named(self, name: str, place: str) -> StoredImage | ContextFiles:
        if place.startswith(_IMAGE):
            return self._images.image(Reference.parse(place.removeprefix(_IMAGE)))
        if place.startswith(_LAYOUT):
            from pybuild.store.importing.archive import import_from_layout

            directory, tag, digest = _split_layout(place.removeprefix(_LAYOUT))
            return import_from_layout(self._store, directory, tag, digest, self._platform)
        if is_remote(place) and not os.path.isdir(place):
            remote = read_remote(place, None)
            if not isinstance(remote, UrlSource):
                self._check_out(name, remote)
                return ContextFiles(name, self._identities[name])
            found = self.remotes.file(remote)
            size = os.stat(found.path).st_size
            row = Entry(b"context", Kind.FILE, 0o600, mtime=found.mtime, size=size, offset=0)
            rows = [ROOT._replace(mtime=found.mtime), row]
            self._sources[name] = ContextSource(found.path, toc=Toc.write(self._store.ingest.new_path(), rows))
            return ContextFiles(name, found.identity)
        self._sources[name] = self._directory(place, None)
        return ContextFiles(name)

    def _directory(self, root: str, recipe: str | None) -> ContextSource:
        root = os.path.abspath(root)
        return ContextSource(root, ignore_text(root, recipe), memo=memo_path(self._store.memos, root))

    def _spooled_stdin(self) -> tuple[str, str, str]:
        """Standard input as a file: its path, what messages call it, and what they call it if it is the recipe."""
        raw = self._store.ingest.new_path()
        _spool_stdin(raw)
        if not os.stat(raw).st_size:
            raise BuildError("standard input is empty, but the context is read from it")
        return raw, "standard input", STDIN_NAME

    def _main_remote(self) -> RemoteSource:
        return read_remote(self._main, None, keep_git_dir=keeps_git_dir(self._session.options.build_args))

    def _check_out(self, name: str, source: RepositorySource) -> ContextSource:
        """The files of a repository as a context. An ignore file has no effect."""
        found, self._identities[name] = self.remotes.checkout(source)
        self._sources[name] = ContextSource(found.tar, toc=found.toc)
        return self._sources[name]

    def _spooled_url(self, url: UrlSource) -> tuple[str, str, str]:
        """The content of a URL as a file, in the form of `_spooled_stdin`."""
        found = self.remotes.file(url)
        self._identities[""] = found.identity
        return found.path, url.redacted, url.redacted

    def _open_file(self, raw: str, label: str, recipe_name: str, recipe: str | None) -> Recipe:
        """Open a main context that is one file: an archive, or else the recipe."""
        source = self._as_archive(raw, label)
        if source is not None:
            self._sources[""] = source
            return self._recipe_in(source, f"the archive {'on' if recipe_name == STDIN_NAME else 'at'} {label}", recipe)
        if recipe is not None:
            raise BuildError(
                f"{label} is not an archive and is read as the recipe, but -f names another one", hint="leave -f out"
            )
        self._sources[""] = self._empty_context()
        return Recipe(recipe_name, recipe_in_file(raw, label))

    def _recipe_in(self, source: ContextSource, label: str, recipe: str | None) -> Recipe:
        """The recipe in the files of an archive or repository, whose ignore file has no effect, as in BuildKit."""
        if source.has(IGNORE_FILE):
            self._session.observe(
                Note(f"{label} has a {IGNORE_FILE}, which excludes nothing there, only in directories")
            )
        return recipe_of_files(source, label, recipe)

    def _empty_context(self) -> ContextSource:
        return ContextSource(os.devnull, toc=Toc.write(self._store.ingest.new_path(), [ROOT]))

    def _as_archive(self, raw: str, label: str) -> ContextSource | None:
        """A file as an archive; None if it is not one."""
        from pybuild.builder.jobs.context import ListContext

        ingest = self._store.ingest
        job = ListContext(raw, label, ingest.new_path(), ingest.new_path())
        tar = self._pool.run(job).tar
        return ContextSource(tar, toc=job.toc) if tar else None


def _expand_github(place: str) -> str:
    """The URL for the short form of a GitHub repository. Any other place, and an existing path, stays as it is."""
    if not place.startswith("github.com/") or os.path.exists(place):
        return place
    end = min((place.index(mark) for mark in "?#" if mark in place), default=len(place))
    return f"https://{place[:end].removesuffix('.git')}.git{place[end:]}"


def _spool_stdin(path: str) -> None:
    size = 0
    with create_sparse(path) as file:
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            size += len(data)
            if size > CONTEXT_BYTES.value:
                raise CONTEXT_BYTES.exceeded(BuildError, "the context on standard input exceeds the limit of {}")
            file.write(data)


def _split_layout(text: str) -> tuple[str, str | None, Digest | None]:
    """Directory, tag and digest of `DIR[:TAG][@DIGEST]`. Raises InvalidImage."""
    rest, at, digest = text.rpartition("@")
    if not at or not digest.startswith(("sha256:", "sha512:")):
        rest, digest = text, ""
    directory, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        directory, tag = rest, ""
    return directory, tag or None, Digest.parse(digest) if digest else None
