"""One process that tries cases, one after the other, and judges how each ended. Started by `run.py`, which ends it where it hangs.

python worker.py ROOT    reads `NUMBER` lines, writes a line of JSON for each: how, words, why, seconds
"""

import faulthandler
import json
import os
import re
import resource
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from box import Box, trusting
from cases import Case, generate

import visionvitals.cli

sys.dont_write_bytecode = True
MEMORY = 4 << 30  # bytes above what is used before; a file without end must not take the machine with it
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
_BARE = re.compile(r"^vitals: \W*\w*(Error|Exception|Interrupt)\b[^.]*$")
_LONGEST = 4_000  # characters of a message; 5,000 given ones are not to be repeated


class Printed:
    """Takes what is written to standard output and error, by Python or below it, until it is left."""

    def __enter__(self) -> "Printed":
        sys.stdout.flush()
        sys.stderr.flush()
        self.kept = os.dup(1), os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self.data = b""
        self.thread = threading.Thread(target=self._read, args=(read,), daemon=True)
        self.thread.start()
        return self

    def _read(self, handle: int) -> None:
        with open(handle, "rb", buffering=0) as file:
            while more := file.read(1 << 16):
                self.data += more

    def __exit__(self, *_error: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), self.kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        self.thread.join(timeout=5)  # a process that was left behind may hold the pipe

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace")


def attempt(words: tuple[str, ...], disk: int | None) -> tuple[int | None, str, str]:
    """(exit code, what was printed, what was raised and where) of one command."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    code, raised = None, ""
    with Printed() as printed:
        try:
            if disk is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (disk, limits[1]))
            code = visionvitals.cli.main(words)
        except BaseException as error:
            raised = where(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return code, printed.text, raised


def where(error: BaseException) -> str:
    """The error with the last place in the package that it went through."""
    places = [f for f in traceback.extract_tb(error.__traceback__) if "/visionvitals/" in f.filename]
    at = (
        f"{places[-1].filename.partition('/visionvitals/')[2]}:{places[-1].lineno} {places[-1].name}" if places else "?"
    )
    return f"{at}: {type(error).__name__}: {str(error)[:160]}"


def judge(case: Case, code: int | None, printed: str, raised: str) -> tuple[str, str] | None:
    """(kind of offence, what it is) of one command, or None where it ended well."""
    if raised or "Traceback (most recent call last)" in printed:
        return "traceback", raised or printed.strip().splitlines()[-1][:200]
    if code not in (0, 1, 2):
        return "exit code", str(code)
    if _CONTROL.search(printed):
        return "control", repr(printed[max(0, _CONTROL.search(printed).start() - 40) :][:100])  # type: ignore[union-attr]
    if code == 2:
        said = [line for line in printed.splitlines() if line.strip()]
        start = next((n for n, line in enumerate(said) if line.startswith(("vitals: ", "╭─ Error"))), None)
        if start is None:
            return "no message", printed[-200:]
        message = "\n".join(said[start:])
        if len(message) > _LONGEST:
            return "long", f"{len(message)} characters: {message[:120]!r}"
        if _BARE.match(message):
            return "bare", message[:200]
    if case.must == "refuse" and code != 2:
        return "accepted", f"exit code {code}"
    if case.must == "work" and code != 0:
        return "refused", f"exit code {code}: {printed[-300:]}"
    return None


def attend(case: Case, box: Box, trust: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Try a case in a fresh box and say how it ended."""
    box.remove()
    box.prepare(" ".join(word for words in case.steps for word in words))
    if case.make is not None:
        case.make(box)
    os.chdir(box.out)
    before = box.watched()
    texts: list[str] = []
    codes: list[int | None] = []
    began = time.monotonic()
    found: tuple[str, str] | None = None
    for words in case.steps:
        code, printed, raised = attempt(box.fill(words, trust), case.disk)
        texts.append(printed)
        codes.append(code)
        found = found or judge(case, code, printed, raised)
    after = box.watched()
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if any(str(box.root / "MARKER") == path for path in changed):
        found = "executed", "hostile code ran"
    elif changed:
        found = "outside", f"changed: {', '.join(os.path.relpath(path, box.root) for path in changed[:3])}"
    elif found is None and case.check is not None and (wrong := case.check(box, texts)):
        found = "wrong", wrong
    how, why = found or ("well", "")
    os.chdir(box.shared)
    box.remove()
    return {
        "how": how,
        "why": why,
        "codes": codes,
        "seconds": round(time.monotonic() - began, 2),
        "said": texts[-1][-400:],
    }


def prepare(root: Path) -> None:
    """Everything heavy is imported by a good report, the demo is short, and memory is limited."""
    import timm  # noqa: F401
    import torchvision.transforms.v2  # noqa: F401

    warm = root / f"warm-{os.getpid()}"
    attempt(("report", str(root / "shared" / "run"), "--out", f"{warm}.html", "--figures", str(warm)), None)
    visionvitals.cli.DEMO_IMAGES, visionvitals.cli.DEMO = 4, "clean"
    used = int(re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def main(root: Path, limit: float) -> None:
    channel = os.fdopen(os.dup(1), "w")
    trace = (root / "hang.txt").open("w")
    cases, trust = generate(), trusting()
    prepare(root)
    print("ready", len(cases), file=channel, flush=True)
    for line in sys.stdin:
        number = int(line)
        trace.seek(0)
        trace.truncate()
        faulthandler.dump_traceback_later(limit * 0.9, file=trace)
        try:
            answer = attend(cases[number], Box(root / "cases" / str(number), root / "shared"), trust)
        except BaseException as error:  # of the harness itself
            answer = {
                "how": "harness",
                "why": where(error) + traceback.format_exc()[-600:],
                "codes": [],
                "seconds": 0,
                "said": "",
            }
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=channel, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
