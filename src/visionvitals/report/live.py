"""`vitals serve`: the report of a run that goes on, on a page that follows it.

The server is the standard library's: one person looks at one run on the own machine, the page asks for a few hundred bytes every two
seconds, and a web framework would be more code to trust than what it does here. Safe by its form: three addresses, none of which names a file;
loopback unless another host is given; names of other hosts are refused, so that no web page can ask through the browser; and a run folder
that holds a link out of it is not shown.

    /           the page around the report: progress, rate, failures
    /report     the report, made from the run as it is now
    /progress   JSON for the page
"""

import ipaddress
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from visionvitals.errors import VitalsError, require
from visionvitals.files import matching
from visionvitals.remote import AnyPath, RemotePath
from visionvitals.report.build import render
from visionvitals.results import load
from visionvitals.run import requests
from visionvitals.run.cell import DamagedCell
from visionvitals.run.store import Store

LOOPBACK = "127.0.0.1"
WINDOW = 600.0
"""Seconds over which the rate is counted."""
SHOWN = 20
"""Failures that the page lists."""
_AROUND = (Path(__file__).parent / "live.html").read_bytes()
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-src 'self'; img-src data:"


def server(out: AnyPath, *, host: str = LOOPBACK, port: int = 0) -> "_Server":
    """A server of one run, bound and not started.

    Args:
        out: the run folder.
        host: the address to listen on; anything but loopback shows the run to others.
        port: 0 for any that is free; `url` says which.

    Raises:
        VitalsError: not a run folder, or the address cannot be listened on.
    """
    requests.content_of(out)
    inside(out)
    handler = type("Handler", (_Handler,), {"live": Live(out), "own": host})
    try:
        made = _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise VitalsError(
            f"The server must have an address of its own. Got {host}:{port}: {error}. Give another --port."
        ) from error
    return made


def inside(out: AnyPath) -> None:
    """Refuse a run folder in which a link leads out of it, since what it shows would be read.

    Raises:
        VitalsError: there is one.
    """
    if isinstance(out, RemotePath):  # which has no links
        return
    root = out.resolve()
    for folder, names, files in os.walk(root):
        for path in (os.path.join(folder, name) for name in (*names, *files)):
            if os.path.islink(path):
                leads = Path(path).resolve()
                must, do = (
                    "A run that is served must hold no link that leads out of its folder",
                    "Copy what it names, or remove it.",
                )
                require(leads.is_relative_to(root), must, f"{path} -> {leads}", do)


class Live:
    """What the page is told of a run. Reports are made one at a time, and only when something is new."""

    def __init__(self, out: AnyPath) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._made: tuple[Any, bytes] = None, b""
        self._facts = lru_cache(maxsize=None)(self._fact)

    def progress(self) -> dict[str, Any]:
        """Counts of cells, rate, time left and failures; `state` changes when the report would.

        `rate`: images per second of the cells of the last `WINDOW` seconds, where these are more than five seconds; `left`: seconds of
        measuring, by the mean of the finished cells of a study. Both are None where nothing says it.
        """
        inside(self._out)
        content, store = requests.asked_of(requests.content_of(self._out)), Store(self._out / "store")
        asked = {cell["id"]: cell for cell in content["cells"]}
        finished = asked.keys() & set(store.ids())
        failed = [record for record in store.failures() if record["id"] in asked.keys() - finished]
        known = {identifier: fact for identifier in finished if (fact := self._facts(identifier)) is not None}
        missing = [cell for identifier, cell in asked.items() if identifier not in finished]
        recent = sorted((at, n) for at, n, _ in known.values() if time.time() - at < WINDOW)
        span = recent[-1][0] - recent[0][0] if recent else 0.0
        return {
            "state": _state(self._out, len(finished), len(failed)),
            "done": len(finished),
            "failed": len(failed),
            "missing": len(missing) - len(failed),
            "skipped": len(content["skips"]),
            "rate": sum(n for _, n in recent[1:]) / span if span > 5 else None,
            "left": _left(missing, [(asked[identifier]["study"], fact[2]) for identifier, fact in known.items()]),
            "since": time.time() - max(at for at, _, _ in known.values()) if known else None,
            "failures": [
                f"{r['cell']['study']} on {r['cell']['backbone']['spec']}: {r['error']}" for r in failed[:SHOWN]
            ],
        }

    def report(self) -> bytes:
        """The page as `vitals report` would write it now.

        Raises:
            VitalsError: the run cannot be read.
        """
        with self._lock:
            state = self.progress()["state"]
            if self._made[0] != state:
                self._made = state, render(load(self._out)).encode()
            return self._made[1]

    def _fact(self, identifier: str) -> tuple[float, int, float] | None:
        """(when a cell was finished, its images, seconds of measuring); None where it is damaged."""
        store = Store(self._out / "store")
        try:
            facts = store.cell(identifier).facts
            at = (self._out / "store" / facts["cell"]["study"] / identifier / "cell.json").stat().st_mtime
        except (DamagedCell, OSError):
            return None
        return at, int(facts.get("n") or 0), float(facts.get("seconds") or 0.0)


def _state(out: AnyPath, *counts: int) -> list[int]:
    """Numbers that change whenever the report would: counts, and the times of the documents."""
    return [*counts, *(round(path.stat().st_mtime * 1e6) for path in matching(out, "*.json") if path.is_file())]


def _left(missing: list[Mapping[str, Any]], known: list[tuple[str, float]]) -> float | None:
    if not known:
        return None
    overall = sum(seconds for _, seconds in known) / len(known)
    by_study: dict[str, list[float]] = {}
    for study, seconds in known:
        by_study.setdefault(study, []).append(seconds)
    means = {study: sum(several) / len(several) for study, several in by_study.items()}
    return sum(means.get(cell["study"], overall) for cell in missing)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """As `HTTPServer` does, without asking for the name of the address, which may wait for a network."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback


class _Handler(BaseHTTPRequestHandler):
    """Three addresses; `live` and `own` are set by `server`."""

    live: Live
    own: str
    server_version, sys_version = "visionvitals", ""
    timeout = 30

    def do_GET(self) -> None:
        if not _is_ours(self.headers.get("Host", ""), self.own):
            return self._answer(403, "text/plain", b"This server answers to its own address only.\n")
        try:
            if self.path == "/":
                return self._answer(200, "text/html", _AROUND)
            if self.path == "/report":
                return self._answer(200, "text/html", self.live.report())
            if self.path == "/progress":
                return self._answer(200, "application/json", json.dumps(self.live.progress()).encode())
        except (VitalsError, OSError) as error:
            page = self.path == "/report"
            said = (
                f"<!doctype html><title>No report</title><p>{escape(str(error))}"
                if page
                else json.dumps({"error": str(error)})
            )
            return self._answer(503, "text/html" if page else "application/json", said.encode())
        return self._answer(404, "text/plain", b"There are /, /report and /progress.\n")

    do_HEAD = do_GET

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }
        headers |= {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "SAMEORIGIN",
        }
        if self.path == "/":
            headers["Content-Security-Policy"] = _POLICY
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):  # the page was closed or loaded again
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request every two seconds would fill the terminal."""


def _is_ours(asked: str, own: str) -> bool:
    """Whether the `Host` of a request is an address, localhost or the name that was given: a foreign name would be a web page that lets its
    name point here to read the run through the browser."""
    name = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdigit() else asked
    name = name.strip("[]").lower()
    if name in ("localhost", own.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
