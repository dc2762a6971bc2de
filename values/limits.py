"""The limits on what pybuild accepts, each with a name, a default, and a way to change it.

Limits protect time, memory and disk from hostile input. A real image does not reach the defaults. A user changes a limit
with the environment variable PYBUILD_LIMIT_<NAME>, or with a line below `[limits]` of the configuration file.

    LAYER_ENTRIES.value                                                     # the limit that applies now
    raise LAYER_ENTRIES.exceeded(InvalidImage, "more than {} entries")      # names the limit and both ways to change it

The changed limits are a context variable, not an argument of every reader and parser: a limit is read in the innermost
loops of all packages. `applied` sets them for the length of a `with`; a worker gets them in its environment. Limits that
the kernel or a format sets, such as the length of a path, are not here: they cannot be changed.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.values.errors import PybuildError
    from pybuild.values.source import Span

    E = TypeVar("E", bound=PybuildError)

PREFIX = "PYBUILD_LIMIT_"
_LARGEST = 1 << 62
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_changed: ContextVar[Mapping[str, int]] = ContextVar("changed limits", default=MappingProxyType({}))


class Unit(Enum):
    """What a limit counts. The value is the word after a number."""

    BYTES = "bytes"
    CHARACTERS = "characters"
    SECONDS = "seconds"
    RATE = "bytes a second"
    COUNT = ""


class Limit(NamedTuple):
    """One limit. `what` says what it bounds, in a few words."""

    name: str
    default: int
    unit: Unit
    what: str

    @property
    def value(self) -> int:
        """The limit that applies now: the default, or what the user set."""
        return _changed.get().get(self.name, self.default)

    @property
    def variable(self) -> str:
        """The environment variable that changes it."""
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def advice(self) -> str:
        """How to change it, for a hint."""
        return f"raise the limit {self.name} with {self.variable} or in the configuration file"

    def shown(self, number: int | None = None) -> str:
        """A number with its unit; without `number` the limit that applies now."""
        number = self.value if number is None else number
        match self.unit:
            case Unit.COUNT:
                return str(number)
            case Unit.BYTES:
                return readable_bytes(number)
            case unit:
                return f"{number} {unit.value}"

    def exceeded(self, error: type[E], message: str, *, hint: str = "", span: Span | None = None) -> E:
        """The error for input that exceeds the limit. `{}` in `message` is the limit, `hint` what else may help."""
        return error(message.replace("{}", self.shown()), hint=self.hint(hint), span=span)

    def hint(self, other: str = "") -> str:
        """`other`, a way to stay below the limit, and the way to raise it."""
        return f"{other}, or {self.advice}" if other else self.advice


def hint_beside(advice: str, error: PybuildError) -> str:
    """`advice`, and if the error is about a limit also the way to raise that."""
    return f"{advice}, or {error.hint}" if error.hint and PREFIX in error.hint else advice


def readable_bytes(number: int) -> str:
    """Bytes in the largest unit that divides them, as limits are written."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift} {unit}"
    return f"{number} bytes"


def _limit(name: str, default: int, unit: Unit, what: str) -> Limit:
    limit = Limit(name, default, unit, what)
    _LIMITS[name] = limit
    return limit


_LIMITS: dict[str, Limit] = {}
LIMITS: Mapping[str, Limit] = MappingProxyType(_LIMITS)  # by name, in the order of this file

# The recipe
RECIPE_BYTES = _limit("recipe-bytes", 4 << 20, Unit.BYTES, "a recipe")
LINE_CHARACTERS = _limit("line-characters", 1 << 20, Unit.CHARACTERS, "one line of a recipe, continuations included")
INSTRUCTIONS = _limit("instructions", 100_000, Unit.COUNT, "instructions of a recipe")
STAGES = _limit("stages", 1_000, Unit.COUNT, "stages of a recipe")
WORDS = _limit("words", 500_000, Unit.COUNT, "words of the instructions of a recipe")
WORD_CHARACTERS = _limit("word-characters", 1 << 20, Unit.CHARACTERS, "one word after expansion")
HEREDOC_CHARACTERS = _limit("heredoc-characters", 16 << 20, Unit.CHARACTERS, "one heredoc after expansion")
EXPANDED_CHARACTERS = _limit(
    "expanded-characters", 16 << 20, Unit.CHARACTERS, "all words and heredocs of a recipe after expansion"
)
ENVIRONMENT_CHARACTERS = _limit(
    "environment-characters", 256 << 20, Unit.CHARACTERS, "the environments of all RUNs of a recipe together"
)
PATTERN_STEPS = _limit("pattern-steps", 1 << 26, Unit.COUNT, "characters of a value times those of its ${name#pattern}")
TRIGGERS = _limit("onbuild-triggers", 1_000, Unit.COUNT, "ONBUILD triggers of an image")
IGNORE_FILE_BYTES = _limit("ignore-file-bytes", 4 << 20, Unit.BYTES, "an ignore file")
SECRET_BYTES = _limit("secret-bytes", 500 << 10, Unit.BYTES, "one secret")
LOG_BYTES = _limit("log-bytes", 100 << 20, Unit.BYTES, "the output of one step that `pybuild logs` keeps")

# Contexts and repositories
CONTEXT_BYTES = _limit(
    "context-bytes", 256 << 30, Unit.BYTES, "a context that is an archive or a repository, decompressed"
)
CONTEXT_ENTRIES = _limit(
    "context-entries", 5_000_000, Unit.COUNT, "files and directories of a context that a COPY reads"
)
SUBMODULES = _limit("submodules", 1_000, Unit.COUNT, "submodules of a repository")
SUBMODULE_DEPTH = _limit("submodule-depth", 10, Unit.COUNT, "submodules in submodules")
GIT_MEMORY = _limit("git-memory-bytes", 4 << 30, Unit.BYTES, "memory of one git process")
GIT_REFERENCES = _limit("git-references-bytes", 1 << 20, Unit.BYTES, "the references that a git server lists")

# Layers, images and archives
LAYER_BYTES = _limit("layer-bytes", 256 << 30, Unit.BYTES, "a layer, or an archive of ADD, decompressed")
LAYER_ENTRIES = _limit(
    "layer-entries", 5_000_000, Unit.COUNT, "entries of a layer, or of an archive of ADD or a context"
)
IMPLIED_BYTES = _limit(
    "implied-directory-bytes", 64 << 20, Unit.BYTES, "paths of directories for which an archive has no entry"
)
EXTENDED_HEADER_BYTES = _limit("extended-header-bytes", 1 << 20, Unit.BYTES, "one extended header of a tar")
ARCHIVE_MEMBERS = _limit("archive-members", 100_000, Unit.COUNT, "members of an archive of images")
IMAGE_LAYERS = _limit("image-layers", 10_000, Unit.COUNT, "layers of a manifest")
JSON_ITEMS = _limit("json-items", 100_000, Unit.COUNT, "values of a JSON document")
XZ_MEMORY = _limit("xz-memory-bytes", 256 << 20, Unit.BYTES, "memory to expand xz")
PASSWD_BYTES = _limit("passwd-bytes", 10 << 20, Unit.BYTES, "/etc/passwd or /etc/group of an image")
SECRET_FILE_BYTES = _limit(
    "secret-file-bytes", 1 << 20, Unit.BYTES, "a larger file of an image is not searched for secrets"
)
MANIFEST_BYTES = _limit("manifest-bytes", 4 << 20, Unit.BYTES, "a manifest or an index")
COPIED_MANIFEST_BYTES = _limit(
    "copied-manifest-bytes", 64 << 20, Unit.BYTES, "all manifests and indexes of an image that is copied"
)
COPIED_OBJECTS = _limit("copied-objects", 20_000, Unit.COUNT, "manifests and blobs of an image that is copied")
CONFIG_BYTES = _limit("config-bytes", 8 << 20, Unit.BYTES, "the config of an image")
CACHE_INDEX_BYTES = _limit("cache-index-bytes", 32 << 20, Unit.BYTES, "the index of a cache of another machine")
TABLE_BYTES = _limit("table-bytes", 1 << 30, Unit.BYTES, "a table of contents in a cache of another machine")

# Other machines
CONNECT_SECONDS = _limit("connect-seconds", 10, Unit.SECONDS, "time to connect")
HEADER_SECONDS = _limit(
    "header-seconds", 30, Unit.SECONDS, "time from the request to the end of the response's headers"
)
RATE_SECONDS = _limit("rate-seconds", 60, Unit.SECONDS, "the time over which `lowest-rate` is measured")
CACHE_SECONDS = _limit("cache-seconds", 30, Unit.SECONDS, "time to read the index of a cache in a registry")
LOWEST_RATE = _limit("lowest-rate", 1024, Unit.RATE, "a slower download is given up")
BLOB_SECONDS = _limit(
    "blob-seconds", 600, Unit.SECONDS, "time for one blob or repository, plus its bytes by `blob-rate`"
)
BLOB_RATE = _limit("blob-rate", 16 << 10, Unit.RATE, "each of so many bytes gives a blob one second more")
RETRIES = _limit("retries", 5, Unit.COUNT, "requests for one thing, including the first")
WAIT_SECONDS = _limit("wait-seconds", 60, Unit.SECONDS, "the longest wait that a registry can ask for")
REDIRECTS = _limit("redirects", 10, Unit.COUNT, "redirects for one thing")
DOWNLOAD_BYTES = _limit(
    "download-bytes", 256 << 30, Unit.BYTES, "a file or a repository that a recipe names by its URL"
)
TOKEN_BYTES = _limit("token-bytes", 64 << 10, Unit.BYTES, "a response about credentials")
ERROR_BYTES = _limit("error-bytes", 64 << 10, Unit.BYTES, "the message of a server about an error")
HELPER_BYTES = _limit("helper-bytes", 64 << 10, Unit.BYTES, "what a credential helper prints")
CONFIGURATION_BYTES = _limit("configuration-bytes", 1 << 20, Unit.BYTES, "a configuration file")
CREDENTIALS_BYTES = _limit("credentials-bytes", 4 << 20, Unit.BYTES, "a file with credentials")


def parse(limit: Limit, text: str) -> int:
    """The value of a limit from its text: a whole number, for bytes also with k, m, g or t (`20g`). Raises ValueError.

    The message of the error says what is expected.
    """
    lowered = text.strip().lower()
    number = lowered.rstrip("bkmgti")
    unit = lowered[len(number) :].removesuffix("ib").removesuffix("b")
    in_bytes = limit.unit in (Unit.BYTES, Unit.RATE)
    if not (number.isascii() and number.isdigit()) or len(number) > len(str(_LARGEST)) or unit not in _UNITS:
        raise ValueError("expected a whole number" + (", or a size such as 20g" if in_bytes else ""))
    if lowered != number and not in_bytes:
        raise ValueError("expected a whole number without a unit")
    value = int(number) * _UNITS[unit]
    if not 1 <= value <= _LARGEST:
        raise ValueError("expected a number that is at least 1" if not value else "the number is too large")
    return value


def from_environment(environ: Mapping[str, str]) -> dict[str, int]:
    """The limits that the environment changes. Raises ValueError, whose message names the variable."""
    known = {limit.variable: limit for limit in LIMITS.values()}
    changed = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or not text:
            continue
        if variable not in known:
            raise ValueError(f"{variable}: there is no such limit; pybuild doctor --limits lists them")
        try:
            changed[known[variable].name] = parse(known[variable], text)
        except ValueError as error:
            raise ValueError(f"{variable}={text}: {error}") from None
    return changed


def to_environment() -> dict[str, str]:
    """The changed limits as variables, for a worker."""
    return {LIMITS[name].variable: str(value) for name, value in _changed.get().items()}


@contextmanager
def applied_below(changed: Mapping[str, int]) -> Iterator[None]:
    """Like `applied`, but limits that are changed already stay: the environment wins over a file."""
    with applied({**changed, **_changed.get()}):
        yield


@contextmanager
def applied(changed: Mapping[str, int]) -> Iterator[None]:
    """Inside the `with`, these limits (by name) apply in addition to those that are changed already."""
    token = _changed.set(MappingProxyType({**_changed.get(), **changed}))
    try:
        yield
    finally:
        _changed.reset(token)
