"""A headless Chromium that tests drive: over a pipe, so there is no port, and no library is needed.

Chromium's option --remote-debugging-pipe takes the messages of the DevTools protocol on descriptor 3 and answers on
descriptor 4, each message a JSON object that ends with a NUL (chromium, content/public/common/content_switches.cc).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND",  # no packet leaves the machine, whatever a page asks for
    "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
_KEYS = {"Enter": (13, "\r"), " ": (32, " ")}


class Browser:
    """One browser process; `open` loads a page in a tab of its own."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._number = 0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """The result of a method of the protocol. Events that come before it are kept."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._requests, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Read until this event has come."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self._events):
            self._events.append(self._next())

    def events(self, session: str, *methods: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._events
            if event.get("sessionId") == session and event.get("method") in methods
        ]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    @contextmanager
    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, before: str = ""
    ) -> Iterator[Tab]:
        """A tab with the page, when its script has set data-ready. `before` is a script that runs before those of the page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        if before:
            tab.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        tab.call("Page.navigate", url=path.as_uri())
        self.wait("Page.loadEventFired", session)
        tab.run(
            "new Promise((done) => { const look = () => document.documentElement.dataset.ready ||"
            " document.querySelector('h1') ? done() : setTimeout(look, 5); look(); })"
        )
        try:
            yield tab
        finally:
            self.call("Target.closeTarget", targetId=target)


class Tab:
    """A loaded page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def text(self, selector: str) -> str:
        """The visible text of the first element; "" if there is none."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
        return found

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, value: str) -> None:
        """Give a form control a value, and wait until the page has answered."""
        self.run(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', {bubbles: true}));"
            " field.dispatchEvent(new Event('change', {bubbles: true}));"
            " return new Promise((done) => setTimeout(done, 80)); })()"  # the page waits 60 ms for the next letter
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            code, text = _KEYS.get(key, (0, key if len(key) == 1 else ""))
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[str]:
        """What the console has: errors, warnings, and violations of the Content-Security-Policy."""
        self.run("1")  # what came before is there now
        found = self._browser.events(self._session, "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event) for event in found]

    def requests(self) -> list[str]:
        """The addresses of all that the page has loaded, itself included; without data: ones."""
        sent = self._browser.events(self._session, "Network.requestWillBeSent")
        return [event["request"]["url"] for event in sent if not event["request"]["url"].startswith("data:")]

    def overflow(self) -> int:
        """How many pixels the page is wider than the window."""
        return int(self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: make tools"
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    # The shell gives the pipes the numbers 3 and 4, whatever numbers they have here.
    command = f'exec "$@" 3</proc/self/fd/{in_read} 4>/proc/self/fd/{out_write}'
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        environment = {"PATH": os.environ["PATH"], "HOME": profile, "TMPDIR": profile, "LC_ALL": "C.UTF-8"}
        process = subprocess.Popen(
            ["sh", "-c", command, "sh", program, *_OPTIONS, f"--user-data-dir={profile}"],
            env=environment, pass_fds=(in_read, out_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(in_read)
        os.close(out_write)
        try:
            browser = Browser(in_write, out_read)
            yield browser
            browser.call("Browser.close")
        finally:
            os.close(in_write)
            os.close(out_read)
            os.killpg(process.pid, signal.SIGKILL)  # its children too: they would go on writing into the profile
            process.wait()
