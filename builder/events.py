"""The events that a build reports while it runs. It passes all of them to one function; `ignore` discards them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import StepFailed
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.parser import Source, Span


@frozen
class StepRef:
    """The step that an event is about."""

    node: int
    stage: str  # its name, or its number if it has none
    number: int  # position among the stage's steps that make a layer, from 1
    total: int  # the number of those steps
    instruction: str  # as in the recipe, on one line
    of: int = 0  # the number of steps that the whole build reports
    platform: str = ""  # of a build for several platforms: linux/arm64, or linux/amd64->arm64

    @property
    def shown_stage(self) -> str:
        """The stage as messages name it."""
        return f"{self.platform} {self.stage}" if self.platform else self.stage


@frozen
class StepStarted:
    """A step was not in the cache and starts."""

    step: StepRef


@frozen
class StepOutput:
    """A running step wrote something. `stream` is 1 or 2."""

    step: StepRef
    stream: int
    data: bytes


@frozen
class LayerProgress:
    """The files of a step are there, and its layer is being written. Small layers come without this event."""

    step: StepRef
    done: int  # bytes of files
    total: int


@frozen
class StepFinished:
    """A step has ended without an error; `seconds` is 0 if it was cached."""

    step: StepRef
    cached: bool
    seconds: float


@frozen
class StepBroke:
    """A step failed. All other running steps are stopped, without an event of their own."""

    step: StepRef
    seconds: float
    message: str
    status: int | None  # of a RUN, as a shell reports it


@frozen
class ShellOpened:
    """A shell in the files of a failed step takes the user's terminal. No event comes before the shell has ended."""

    step: StepRef


@frozen
class Transfer:
    """The progress of fetching, pushing or copying an image, and of downloads that take long."""

    name: str  # of the image, or the URL
    done: int  # bytes
    total: int | None  # bytes; None: not known
    verb: str = "fetched"  # or "pushed", "copied"

    @property
    def ended(self) -> bool:
        """Whether all bytes are there."""
        return self.total is not None and self.done >= self.total


@frozen
class Note:
    """A remark about the build. A build reports the same text at most once."""

    text: str


@frozen
class CheckWarning:
    """A rule found something valid but risky in the recipe. `rule` is its name, by which a recipe can skip it."""

    rule: str
    text: str
    source: Source
    span: Span


@frozen
class BuiltLayer:
    """A layer of an image that was built."""

    digest: str
    size: int  # bytes of the blob
    instruction: str  # "" for layers of the base
    platforms: tuple[str, ...] = ()  # of the images that have it, in a build for several


@frozen
class AddedContent:
    """A file, or a directory with everything in it, that a step of this build added. A directory ends in a slash."""

    path: str  # from the root; bytes that are not UTF-8 are surrogates
    size: int  # bytes, before compression
    instruction: str


@frozen
class Built:
    """The image, or the index of all its platforms, is complete and in the store.

    `layers` are all its layers, lowest first, those of an index image by image and each once; `names` those that it gets; `largest` the three largest things that this
    build added, none of them if all steps were cached.
    """

    manifest: str
    layers: tuple[BuiltLayer, ...]
    names: tuple[str, ...] = ()
    largest: tuple[AddedContent, ...] = ()


@frozen
class RuleBroken:
    """The image breaks a rule that it is held to; `rule` is a name of builder.gate.rules.RULES.

    What does not apply is None. The size is in bytes.
    """

    rule: str
    text: str
    path: str | None = None  # from the root; bytes that are not UTF-8 are surrogates
    layer: str | None = None  # the diff_id
    instruction: str | None = None  # that made the layer
    size: int | None = None


@frozen
class Exported:
    """An output was written."""

    destination: str
    manifest: str
    size: int  # bytes


@frozen
class Pushed:
    """A registry has the image under this name. `sent` and `spared` are the bytes of blobs that it lacked and that it had."""

    name: str
    manifest: str
    sent: int
    spared: int


@frozen
class Copied:
    """An image was copied; `sent` and `spared` are the bytes of blobs that the destination lacked and that it had."""

    source: str
    destination: str
    manifest: str  # the digest of the manifest or index
    sent: int
    spared: int


@frozen
class CacheExported:
    """A cache for other machines was written. `records`, `layers` and `mounts` are their numbers in the whole cache.

    `sent` and `spared` are the bytes of layers that the place lacked and that it had.
    """

    place: str  # a name in a registry, or the path of a directory
    manifest: str
    records: int
    layers: int
    sent: int
    spared: int
    mounts: int = 0  # cache mounts


@frozen
class Tick:
    """Sent at least every 0.1 s while steps run, so that displays can update elapsed times."""


Event = (
    StepStarted | StepOutput | LayerProgress | StepFinished | StepBroke | ShellOpened | Transfer | Note | CheckWarning | Built | RuleBroken | Exported
    | Pushed | Copied | CacheExported | Tick
)  # fmt: skip


def step_broke(step: StepRef, seconds: float, error: Exception) -> StepBroke:
    """The event of a step that raised an error."""
    return StepBroke(step, seconds, str(error), error.status if isinstance(error, StepFailed) else None)


def layer_progress(observe: Callable[[Event], None], step: StepRef) -> Callable[[int, int | None], None]:
    """A function that reports how far the layer of a step is."""
    return lambda done, total: observe(LayerProgress(step, done, total or done))


class DownloadProgress:
    """Reports how far a download is, if it takes long; `name` must not have a password in it."""

    def __init__(self, observe: Callable[[Event], None], name: str) -> None:
        self._observe = observe
        self._name = name
        self._done: int | None = None  # bytes at the last report

    def __call__(self, done: int, total: int | None) -> None:
        self._done = done
        if total is None or done < total:
            self._observe(Transfer(self._name, done, total))

    def end(self, size: int = 0) -> None:
        """The download is complete; `size` is the number of its bytes, if that is known."""
        if self._done is not None:
            total = max(size, self._done)
            self._observe(Transfer(self._name, total, total))


def ignore(event: Event) -> None:
    """Ignore an event."""
