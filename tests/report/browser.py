"""A headless Chromium that tests drive: the DevTools protocol over two pipes, with the standard library alone.

    test ──► Browser.evaluate("1 + 1") ──► JSON, ended by a zero byte ──► Chromium (descriptor 3 in, 4 out)

Nothing is loaded from a network: no name resolves, and every request that a page makes is kept in `requests`.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
MISSING = "Chromium is not installed (Debian: apt-get install chromium)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--force-color-profile=srgb", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
# The protocol uses descriptors 3 and 4, whatever numbers the pipes have here.
_START = (
    "import os, sys\n"
    "ends = [os.dup(int(n)) for n in sys.argv[1:3]]\n"
    "while min(ends) < 5: ends = [os.dup(n) for n in ends]\n"
    "os.dup2(ends[0], 3); os.dup2(ends[1], 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)


class Browser:
    """One page of a running Chromium.

    Attributes:
        requests: URLs that were asked for, without `data:`. errors: Complaints of pages: exceptions, policy breaches.
    """

    def __init__(self, profile: Path):
        assert CHROMIUM is not None, MISSING
        mine, theirs = os.pipe(), os.pipe()
        command = [sys.executable, "-c", _START, str(mine[0]), str(theirs[1]), CHROMIUM, *FLAGS[:-1]]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", FLAGS[-1]],
            pass_fds=(mine[0], theirs[1]),
            **quiet,  # type: ignore[call-overload]
        )
        os.close(mine[0])
        os.close(theirs[1])
        self._to, self._from, self._rest, self._number = mine[1], theirs[0], b"", 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for room in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{room}.enable")

    def call(self, method: str, seconds: float = 30.0, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._take(answer)

    def wait(self, event: str, seconds: float = 30.0) -> dict[str, Any]:
        """The next event of this name, also one that came while a command was waited for."""
        until = time.monotonic() + seconds
        while True:
            for place, found in enumerate(self._events):
                if found["method"] == event:
                    del self._events[: place + 1]
                    return dict(found["params"])
            self._take(self._next(until))

    def open(self, url: str) -> None:
        """Shows a page and waits until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def key(self, text: str) -> None:
        """Presses a key as a person does."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(text)
        named = {"key": text} if code else {"key": text, "text": text}
        number = {"windowsVirtualKeyCode": code} if code else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **number)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=text, **number)

    def click(self, selector: str) -> None:
        """Clicks the middle of an element with the mouse."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def download(self, selector: str, folder: Path) -> Path:
        """Clicks what starts a download; returns the file once it is whole."""
        page, self._session = self._session, None
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        self._session = page
        self._events.clear()
        self.click(selector)
        name = str(self.wait("Browser.downloadWillBegin")["suggestedFilename"])
        while self.wait("Browser.downloadProgress")["state"] != "completed":
            pass
        return folder / name

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the window's size and whether it is dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what is shown, or the whole page, as PNG."""
        found = self.call("Page.captureScreenshot", seconds=120, format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Ends the browser that this object started."""
        os.close(self._to)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._from)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(until - time.monotonic(), 0))
            assert ready, "Chromium does not answer in time"
            more = os.read(self._from, 1 << 20)
            assert more, "Chromium has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _take(self, event: dict[str, Any]) -> None:
        self._events.append({"method": event.get("method"), "params": event.get("params", {})})
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in `folder`; ended on leaving."""
    running = Browser(folder / "profile")
    try:
        yield running
    finally:
        running.close()
