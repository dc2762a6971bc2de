"""What a listener hears of requests that take long, and what a worker passes on of it."""

from __future__ import annotations

import io
import json

from pybuild.builder.events import DownloadProgress, Event, Transfer
from pybuild.builder.workers.job_worker import Teller
from pybuild.remote.http.fetch import fetch
from pybuild.remote.http.site import RemoteLimits, Site
from pybuild.remote.http.urls import UrlWithLogin
from pybuild.remote.listener import listener, listening
from tests.support.fake_registry import FakeRegistry, fake_registry, reply


class Heard:
    def __init__(self) -> None:
        self.waits_for: list[str] = []
        self.bytes: list[tuple[int, int | None]] = []

    def waits(self, text: str) -> None:
        self.waits_for.append(text)

    def received(self, done: int, total: int | None) -> None:
        self.bytes.append((done, total))


def fetched(web: FakeRegistry, slept: list[float]) -> bytes:
    location, file = UrlWithLogin.parse(f"{web.url}/f"), io.BytesIO()
    site = Site(location.url.origin.authority, (location.url.origin,), True, ())
    fetch(location, file, site, RemoteLimits(), {}, sleep=slept.append)
    return file.getvalue()


def test_a_listener_hears_of_waits_and_of_bytes() -> None:
    heard, slept = Heard(), list[float]()
    with fake_registry() as web:
        busy = reply(status=500), reply(status=503, headers={"Retry-After": "7"})
        web.on("/f", *busy, reply(bytes(3_000_000)))
        with listening(heard):
            assert len(fetched(web, slept)) == 3_000_000
        assert slept == [1.0, 7.0]
        assert heard.waits_for == [
            f"{web.url}/f: status 500; try 2 of 5 in 1 s", f"{web.url}/f: status 503; try 3 of 5 in 7 s",
        ]  # fmt: skip
    assert heard.bytes[-1] == (3_000_000, 3_000_000) and len(heard.bytes) > 1
    assert listener() is not heard


def test_without_a_listener_nobody_hears() -> None:
    with fake_registry() as web:
        web.on("/f", reply(status=500), reply(b"x"))
        assert fetched(web, []) == b"x"


def test_a_worker_passes_on_every_wait_and_the_bytes_of_each_second() -> None:
    sent: list[object] = []
    times = iter((0.0, 0.5, 1.0, 1.5, 2.5))
    teller = Teller(sent.append, lambda: next(times))
    for done in (1, 2, 3, 4):
        teller.received(done, None)
    teller.waits("slow")
    assert json.loads(json.dumps(sent)) == [{"done": 2, "total": None}, {"done": 4, "total": None}, {"note": "slow"}]


def test_a_download_that_was_reported_has_an_end() -> None:
    events: list[Event] = []
    quick, slow, unknown = (DownloadProgress(events.append, name) for name in ("quick", "slow", "unknown"))
    quick.end(7)
    slow(3, 7)
    slow(7, 7)
    slow.end(7)
    unknown(3, None)
    unknown.end()
    assert events == [
        Transfer("slow", 3, 7), Transfer("slow", 7, 7), Transfer("unknown", 3, None), Transfer("unknown", 3, 3),
    ]  # fmt: skip
