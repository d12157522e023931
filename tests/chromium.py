"""A real browser for tests: Chromium without a window, by its own DevTools protocol over a pipe, so that no library is
needed. https://chromedevtools.github.io/devtools-protocol"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from tools import which

_LIMIT_S = 60


class Browser:
    """One browser; `open` makes a new page the current one. `events`: what the browser has told of all pages."""

    def __init__(self, profile: Path) -> None:
        # It reads commands from descriptor 3 and answers on 4, each ended by NUL.
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        arguments = ["--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        shell = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            # Tests run as root in containers, where Chromium's sandbox does not start.
            [
                "bash",
                "-c",
                shell,
                "-",
                which("chromium"),
                *arguments,
                "--no-sandbox",
                "--remote-debugging-pipe",
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        self._last, self._unread = 0, b""

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(timeout=_LIMIT_S)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], _LIMIT_S)
            assert ready, f"chromium: expected an answer within {_LIMIT_S} s, got none"
            part = os.read(self._read, 1 << 20)
            assert part, "chromium: expected an answer, got its end"
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(line))

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 1000) -> None:
        """Open a file as a new page, and wait until its scripts have run."""
        self._session, self.events = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = str(self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[colours])
        self.call("Page.navigate", url=page.as_uri())
        end = time.monotonic() + _LIMIT_S
        while self.js("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < end, f"{page}: not loaded after {_LIMIT_S} s"
            time.sleep(0.02)
        self.js("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key, as a person presses it: "Enter", "ArrowRight"."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self) -> bytes:
        """What is seen, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the page: exceptions, the console, the security policy."""
        self.js("0")  # what has been said so far has come before its answer
        found = []
        for event in self.events:
            method, of = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(str(of["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" or method == "Log.entryAdded":
                found.append(json.dumps(of))
        return found

    @property
    def requests(self) -> list[str]:
        """What the page has asked for, itself included."""
        self.js("0")
        sent = (event for event in self.events if event["method"] == "Network.requestWillBeSent")
        return [str(event["params"]["request"]["url"]) for event in sent]
