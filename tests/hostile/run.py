"""Try every hostile case and print how many ended well, and each one that did not.

    python tests/hostile/run.py              all cases
    python tests/hostile/run.py --tenth 7    a tenth, drawn by seed 7
    python tests/hostile/run.py --only 'csv|plan file' --verbose

A case ends well by success or by one clear line, within 60 seconds: no traceback, no bare name of a Python error, no control
characters, nothing written or read outside its folder, no code executed. All cases run in one process (`worker.py`), which is ended
and started anew where one hangs or takes it down. Exit code 1 where there is an offender.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from box import prepare_shared
from cases import generate, named, tenth

LIMIT = 60.0  # seconds that a case may take


class Worker:
    """A process that tries cases; see `worker.py`."""

    def __init__(self, root: Path, limit: float) -> None:
        self.root, self.limit = root, limit
        self.process: subprocess.Popen[str] | None = None

    def attend(self, number: int) -> dict[str, Any]:
        """How a case ended; where it hangs or ends the process, that is the answer."""
        process = self._started()
        assert process.stdin is not None
        print(number, file=process.stdin, flush=True)
        line = self._line(self.limit)
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        hangs = process.poll() is None
        self.stop()
        why = _place((self.root / "hang.txt").read_text()) if hangs else f"exit code {process.returncode}"
        return {
            "how": "hang" if hangs else "died",
            "why": why,
            "codes": [],
            "seconds": self.limit if hangs else 0,
            "said": "",
        }

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            words = [sys.executable, str(Path(__file__).with_name("worker.py")), str(self.root), str(self.limit)]
            errors = (self.root / "worker.txt").open("a")
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            if not self._line(300):
                raise RuntimeError(f"The worker did not start; see {self.root / 'worker.txt'}.")
        return self.process

    def _line(self, seconds: float) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if ready.select(seconds) else ""


def _place(trace: str) -> str:
    """The places of the package in a dump of all threads."""
    lines = [line.strip() for line in trace.splitlines() if "/visionvitals/" in line]
    return "; ".join(dict.fromkeys(line.partition("/visionvitals/")[2].replace('"', "") for line in lines[:4])) or "?"


def environment(root: Path) -> None:
    """No network, one thread, and a home, a cache and a state of their own."""
    os.environ |= {
        "HOME": str(root / "home"),
        "XDG_CACHE_HOME": str(root / "home" / "cache"),
        "XDG_STATE_HOME": str(root / "home" / "state"),
        "XDG_DATA_HOME": str(root / "home" / "data"),
        "VISIONVITALS_CACHE": str(root / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(numbers: Sequence[int], root: Path, *, limit: float = LIMIT, verbose: bool = False) -> list[dict[str, Any]]:
    """Try the cases of these numbers below an empty folder.

    Returns:
        for each: `name`, `how` (`well`, or the kind of offence), `why`, `words`, `codes`, `seconds`, `said`.
    """
    environment(root)
    prepare_shared(root)
    cases, worker, found = generate(), Worker(root, limit), []
    try:
        for number in numbers:
            answer = {"name": cases[number].name, "number": number} | worker.attend(number)
            found.append(answer)
            if verbose or answer["how"] != "well":
                print(
                    f"{answer['how']}: {number} {answer['name']!r}: {answer['why']} ({answer['seconds']} s)", flush=True
                )
    finally:
        worker.stop()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenth", type=int, metavar="SEED", help="only a tenth of the cases, drawn by this seed")
    parser.add_argument("--only", metavar="PATTERN", help="only the cases whose name matches")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="that a case may take, 60 by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write how every case ended")
    parser.add_argument("--verbose", action="store_true", help="print the cases that ended well, too")
    asked = parser.parse_args()
    cases = generate()
    numbers = list(range(len(cases))) if asked.tenth is None else tenth(cases, asked.tenth)
    if asked.only:
        numbers = sorted(set(numbers) & set(named(cases, asked.only)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        found = run(numbers, Path(folder).resolve(), limit=asked.seconds, verbose=asked.verbose)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    how = Counter(answer["how"] for answer in found)
    codes = Counter(code for answer in found for code in answer["codes"])
    print(f"\n{len(found)} cases in {time.monotonic() - began:.0f} s: {how.pop('well', 0)} ended well")
    print("exit codes:", ", ".join(f"{code}: {n}" for code, n in sorted(codes.items(), key=str)))
    for kind, n in how.most_common():
        print(f"{kind}: {n}")
    return 1 if how else 0


if __name__ == "__main__":
    raise SystemExit(main())
