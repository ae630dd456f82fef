"""Headless Chromium over its debugging pipe: enough of it to open a page, press keys, ask scripts and take pictures."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Tab:
    """One page. `console` collects what it says and what goes wrong in it."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer, self._number, self._session = write, read, b"", 0, ""
        self.console: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the debugging protocol.

        Raises:
            RuntimeError: the browser refused it.
        """
        self._number += 1
        content = {"id": self._number, "method": method, "params": parameters}
        os.write(
            self._write, json.dumps(content | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            said = self._next()
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]
            self._heard(said)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._read, 1 << 20)
            if not got:
                raise RuntimeError("the browser has ended")
            self._buffer += got
        first, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(first))

    def _heard(self, said: dict[str, Any]) -> None:
        content = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(content["exceptionDetails"]))
        if said.get("method") == "Runtime.consoleAPICalled":
            self.console.append(str(content["args"]))
        if said.get("method") == "Log.entryAdded":
            self.console.append(content["entry"]["text"])

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window, in pixels, and the colour scheme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        self.ask("Page.navigate", url=page.as_uri())

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Until an expression is true.

        Raises:
            TimeoutError: it never was.
        """
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} was not true within {seconds:.0f} s; {self.console}")
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, target: Path, *, whole: bool = False) -> None:
        """What is seen, or the whole page, as a PNG file."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser with an empty profile and one page, ended afterwards."""
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()

    def pipes() -> None:  # the browser reads commands from 3 and answers on 4
        os.dup2(to_read, 100)
        os.dup2(from_write, 101)
        os.dup2(100, 3)
        os.dup2(101, 4)

    command = [str(PROGRAM), *FLAGS, f"--user-data-dir={profile}"]
    with subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stderr=subprocess.DEVNULL) as process:
        try:
            yield Tab(to_write, from_read)
        finally:
            process.kill()
            for end in (to_read, to_write, from_read, from_write):
                os.close(end)
