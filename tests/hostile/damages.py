"""Damages of a finished run folder. Both forms of the store are served: what is there is damaged."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from box import Box, endless


@dataclass(frozen=True)
class Damage:
    """A damage.

    Attributes:
        name: says what is damaged.
        do: damages `box.run`.
        loses_a_cell: a cell is no longer what was written, so the run is not complete.
        can_heal: `vitals run` must make the run whole again; not where the plan itself is lost.
    """

    name: str
    do: Callable[[Box], object]
    loses_a_cell: bool = False
    can_heal: bool = True


def first_cell(box: Box) -> Path:
    """The folder of the first cell."""
    return sorted(box.run.glob("store/*/*/cell.json"))[0].parent


def _to(find: Callable[[Box], list[Path]], do: Callable[[Path], object]) -> Callable[[Box], object]:
    """Does something to each of the files; where this form of the store has none, nothing is damaged."""

    def put(box: Box) -> None:
        for path in find(box):
            if path.exists() or path.is_symlink():
                do(path)

    return put


def _facts(box: Box) -> list[Path]:
    return [first_cell(box) / "cell.json"]


def _rows(box: Box) -> list[Path]:
    return sorted(first_cell(box).glob("*.parquet"))[:1]


def _pictures(box: Box) -> list[Path]:
    return sorted(first_cell(box).glob("exhibits/*/*"))


def _named(name: str) -> Callable[[Box], list[Path]]:
    return lambda box: [box.run / name]


def _noted(box: Box) -> list[Path]:
    (box.run / "notes.json").write_text('[{"time": "2026-01-01T00:00:00+00:00", "text": "ship it"}]')
    return [box.run / "notes.json"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def _instead(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _special(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


def _with(**changes: Any) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return put


def _without(path: Path) -> None:
    """Every second key is gone."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in list(content)[::2]}))


_DEEP = b"[" * 100_000 + b"]" * 100_000
_JSON: dict[str, Callable[[Path], object]] = {
    "empty": _instead(b""),
    "cut": _cut,
    "a list": _instead(b"[]"),
    "a number": _instead(b"5"),
    "no UTF-8": _instead(b"\xff\xfe{}"),
    "deep": _instead(_DEEP),
    "of half its keys": _without,
    "of another schema": _with(schema=999),
    "gone": Path.unlink,
}
_CELL_ONLY: dict[str, Callable[[Path], object]] = {
    "of another id": _with(id="x-1"),
    "of other types": _with(cell=5, axes=5, points=5, parts=5, sha256=5),
    "a FIFO": _special(os.mkfifo),
    "a folder": _special(Path.mkdir),
}
_BYTES: dict[str, Callable[[Path], object]] = {
    "empty": _instead(b""),
    "cut": _cut,
    "flipped": _flipped,
    "text": _instead(b"not parquet"),
    "gone": Path.unlink,
    "a FIFO": _special(os.mkfifo),
    "endless": _special(endless),
    "a folder": _special(Path.mkdir),
}


def _swapped(box: Box) -> None:
    """Two cells' rows are exchanged, as a careless copy does."""
    first, second = (
        sorted(path.parent.glob("*.parquet"))[0] for path in sorted(box.run.glob("store/*/*/cell.json"))[:2]
    )
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def _foreign(box: Box) -> None:
    (box.run / "mine.txt").write_text("mine")
    (box.run / "store" / "mine.txt").write_text("mine")
    (first_cell(box) / "mine.txt").write_text("mine")
    (box.run / "store" / "mine" / "x").mkdir(parents=True)
    (box.run / "store" / "mine" / "x" / "cell.json").write_text("{}")


def _temporary(name: str) -> Callable[[Box], object]:
    def put(box: Box) -> None:
        (first_cell(box).parent / name).mkdir()
        (box.run / "store" / name).write_text("x")
        (box.run / name).write_text("x")

    return put


def failure(content: bytes) -> Callable[[Box], object]:
    return lambda box: (first_cell(box).parent / (first_cell(box).name + ".failed.json")).write_bytes(content)


DAMAGES: tuple[Damage, ...] = (
    *(Damage(f"cell.json {name}", _to(_facts, do), True) for name, do in (_JSON | _CELL_ONLY).items()),
    *(Damage(f"rows {name}", _to(_rows, do), True) for name, do in _BYTES.items()),
    Damage("rows of two cells exchanged", _swapped, True),
    *(Damage(f"exhibit {name}", _to(_pictures, _BYTES[name])) for name in ("empty", "cut", "gone", "a FIFO", "endless")),
    *(Damage(f"plan.json {name}", _to(_named("plan.json"), do), can_heal=False) for name, do in _JSON.items()),
    *(Damage(f"warnings.json {name}", _to(_named("warnings.json"), do)) for name, do in _JSON.items() if name in ("empty", "a number", "deep")),
    *(Damage(f"notes.json {name}", _to(_noted, do)) for name, do in _JSON.items() if name in ("empty", "a number", "deep")),
    *(Damage(f"studies.json {name}", _to(_named("studies.json"), do)) for name, do in _JSON.items() if name in ("empty", "cut", "a list", "gone")),
    Damage("no warnings but a list of numbers", lambda box: (box.run / "warnings.json").write_text("[1, null, {}]")),
    Damage("foreign files", _foreign),
    Damage("a foreign .tmp-x", _temporary(".tmp-x")),
    Damage("a foreign .tmp-1-x", _temporary(".tmp-1-x")),
    *(Damage(f"a failure {name}", failure(content)) for name, content in (("empty", b""), ("of a list", b"[]"), ("of nothing", b"{}"))),
    Damage("the folder of a cell gone", lambda box: shutil.rmtree(first_cell(box)), True),
    Damage("no store", lambda box: shutil.rmtree(box.run / "store"), True),
    Damage("a report that is a folder", lambda box: ((box.run / "report.html").unlink(missing_ok=True), (box.run / "report.html").mkdir())),
)  # fmt: skip


def never_complete(box: Box, printed: list[str]) -> str | None:
    """Check of `status` after a cell was lost."""
    return "status says complete of what is not" if "Complete" in printed[-1] else None


def healed(box: Box, printed: list[str]) -> str | None:
    """Check of run, status, table after a damage: complete, and the numbers of before."""
    if "Complete" not in printed[1]:
        return "one `vitals run` does not heal it"
    same = (box.out / "table.csv").read_bytes() == (box.shared / "table.csv").read_bytes()
    return None if same else "other numbers after healing"


def nothing_half(box: Box, printed: list[str]) -> str | None:
    """Check of a full disk: what is there is whole, and no temporary file stays."""
    left = [path.name for path in box.out.rglob(".*")]
    if left:
        return f"left behind: {left[:3]}"
    table, page = box.out / "table.csv", box.out / "page.html"
    if table.exists() and table.read_bytes() != (box.shared / "table.csv").read_bytes():
        return "half a table"
    if page.exists() and not page.read_text(errors="replace").rstrip().endswith("</html>"):
        return "half a page"
    return None
