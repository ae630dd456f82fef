"""Flip a bit at every position of a finished cell's files; each must be noticed: `vitals status` does not say complete.

    python tests/hostile/flips.py              one bit of every byte of every file of a cell
    python tests/hostile/flips.py --every 50   of every 50th byte

The bit is drawn by a seeded draw. Exhibits count too: they are shown as what the network saw.
"""

import argparse
import contextlib
import io
import random
import sys
import tempfile
from pathlib import Path

from box import prepare_shared
from run import environment

import visionvitals.cli


def complete(run: Path) -> bool:
    """Whether `status` calls the run complete; a refusal or a traceback is none of both."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            visionvitals.cli.main(("status", str(run)))
        except Exception as error:
            print(f"Traceback: {error}")
    return "Complete" in printed.getvalue()


def flip(run: Path, path: Path, every: int, seed: int) -> tuple[int, list[int]]:
    """(how many positions were tried, those that went unnoticed) of one file, which is as before afterwards."""
    whole, draw, unnoticed = path.read_bytes(), random.Random(seed), []
    positions = range(draw.randrange(every), len(whole), every)
    for position in positions:
        data = bytearray(whole)
        data[position] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        if complete(run):
            unnoticed.append(position)
    path.write_bytes(whole)
    return len(positions), unnoticed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th byte")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="flips-") as folder:
        root = Path(folder).resolve()
        environment(root)
        run = prepare_shared(root) / "run"
        if not complete(run):
            print("the undamaged run is not complete", file=sys.stderr)
            return 1
        cell = sorted(run.glob("store/*/*/cell.json"))[0].parent
        for path in sorted(path for path in cell.rglob("*") if path.is_file()):
            tried, unnoticed = flip(run, path, asked.every, asked.seed)
            print(
                f"{path.relative_to(cell)}: {tried} positions, {len(unnoticed)} unnoticed {unnoticed[:10] or ''}",
                flush=True,
            )
            missed += len(unnoticed)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
