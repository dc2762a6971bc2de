"""Retries after a broken connection, a slow response or a busy server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized, Unreachable
from pybuild.remote.http.dates import http_date
from pybuild.remote.http.transport import Interrupted
from pybuild.remote.listener import listener
from pybuild.store.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.transport import Response
    from pybuild.remote.http.urls import Url

RETRY_STATUSES = frozenset((408, 429, 500, 502, 503, 504))
_FIRST_WAIT = 1.0  # seconds; doubled each time
_SLOW_TRIES = 2  # tries after which TooSlow is final, because each one waits for a whole deadline


class Retries:
    """Counts the tries of one request and waits between them. `sleep` takes seconds."""

    def __init__(self, limits: RemoteLimits, sleep: Callable[[float], None]) -> None:
        self._limits = limits
        self._sleep = sleep
        self._tries = 1

    def wait(self, error: Interrupted | TooSlow, name: str) -> None:
        """Wait for the next try. Raises TooSlow or Unreachable if the limits allow none; `name` is the server."""
        requested = error.wait if isinstance(error, Interrupted) else None
        if requested is not None and requested > self._limits.wait_seconds:
            raise Unreachable(
                f"{error}: it asks to retry after {requested:g} s, more than the limit of {self._limits.wait_seconds} s",
                hint="try later, or log in: many registries allow more requests then",
            ) from None
        if isinstance(error, TooSlow) and self._tries >= min(_SLOW_TRIES, self._limits.retries):
            raise error
        if self._tries >= self._limits.retries:
            raise Unreachable(
                f"{error}, {self._tries} times in a row", hint=error.hint or f"{name} might be down"
            ) from None
        longest = self._limits.wait_seconds
        seconds = requested if requested is not None else min(_FIRST_WAIT * 2 ** (self._tries - 1), longest)
        self._tries += 1
        listener().waits(f"{error}; try {self._tries} of {self._limits.retries} in {seconds:g} s")
        self._sleep(seconds)


def status_error(url: Url, response: Response, missing: str) -> RemoteError | NotFound:
    """The error of a response that does not have what was asked of `url`. `missing` says what a 404 means.

    It is Interrupted if another try can succeed.
    """
    status = response.status
    if status in (401, 403):
        return Unauthorized(f"{url}: access is forbidden (status {status})")
    if status in (404, 410):
        return NotFound(f"{url}: {missing} (status {status})")
    if status in RETRY_STATUSES:
        return Interrupted(f"{url}: status {status}", wait=retry_after(response))
    return RemoteError(f"{url}: status {status}")


def retry_after(response: Response) -> float | None:
    """Seconds to wait by Retry-After, a number or a date (RFC 9110, 10.2.3); None if it is missing or malformed."""
    text = response.header("Retry-After").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - time.time())
