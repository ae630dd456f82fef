"""Damages of a finished run folder, and run folders that mean harm. Both forms of the store are served: what is there is damaged."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from box import SECRET, STUDY, TOY, Box, endless


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


def _cell(box: Box) -> Path:
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
    return [_cell(box) / "cell.json"]


def _rows(box: Box) -> list[Path]:
    return sorted(_cell(box).glob("*.parquet"))[:1]


def _pictures(box: Box) -> list[Path]:
    return sorted(_cell(box).glob("exhibits/*"))


def _named(name: str) -> Callable[[Box], list[Path]]:
    return lambda box: [box.run / name]


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
    (_cell(box) / "mine.txt").write_text("mine")
    (box.run / "store" / "mine" / "x").mkdir(parents=True)
    (box.run / "store" / "mine" / "x" / "cell.json").write_text("{}")


def _temporary(name: str) -> Callable[[Box], object]:
    def put(box: Box) -> None:
        (_cell(box).parent / name).mkdir()
        (box.run / "store" / name).write_text("x")
        (box.run / name).write_text("x")

    return put


def _failure(content: bytes) -> Callable[[Box], object]:
    return lambda box: (_cell(box).parent / (_cell(box).name + ".failed.json")).write_bytes(content)


DAMAGES: tuple[Damage, ...] = (
    *(Damage(f"cell.json {name}", _to(_facts, do), True) for name, do in (_JSON | _CELL_ONLY).items()),
    *(Damage(f"rows {name}", _to(_rows, do), True) for name, do in _BYTES.items()),
    Damage("rows of two cells exchanged", _swapped, True),
    *(Damage(f"exhibit {name}", _to(_pictures, _BYTES[name])) for name in ("empty", "cut", "gone", "a FIFO", "endless")),
    *(Damage(f"plan.json {name}", _to(_named("plan.json"), do), can_heal=False) for name, do in _JSON.items()),
    *(Damage(f"warnings.json {name}", _to(_named("warnings.json"), do)) for name, do in _JSON.items() if name in ("empty", "a number", "deep")),
    *(Damage(f"studies.json {name}", _to(_named("studies.json"), do)) for name, do in _JSON.items() if name in ("empty", "cut", "a list", "gone")),
    Damage("no warnings but a list of numbers", lambda box: (box.run / "warnings.json").write_text("[1, null, {}]")),
    Damage("foreign files", _foreign),
    Damage("a foreign .tmp-x", _temporary(".tmp-x")),
    Damage("a foreign .tmp-1-x", _temporary(".tmp-1-x")),
    *(Damage(f"a failure {name}", _failure(content)) for name, content in (("empty", b""), ("of a list", b"[]"), ("of nothing", b"{}"))),
    Damage("the folder of a cell gone", lambda box: shutil.rmtree(_cell(box)), True),
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


# Run folders that mean harm. -------------------------------------------------------------------------------------------------

_HOSTILE = """
import os
if not os.path.isdir({marker!r}):
    os.mkdir({marker!r})
"""


@dataclass(frozen=True)
class Stranger:
    """A run folder from a stranger."""

    name: str
    do: Callable[[Box], object]


def _documents(box: Box) -> list[Path]:
    return sorted(box.run.rglob("*.json"))


def _text(old: str, new: Callable[[Box], str]) -> Callable[[Box], object]:
    """A text in every JSON file of the run is replaced; a report is not there yet."""

    def put(box: Box) -> None:
        hostile = box.into / "hostile.py"
        hostile.write_text(_HOSTILE.format(marker=str(box.root / "MARKER")))
        for path in _documents(box):
            path.write_text(path.read_text().replace(json.dumps(old)[1:-1], json.dumps(new(box))[1:-1]))
        (box.run / "report.html").unlink(missing_ok=True)

    return put


def _lost(put: Callable[[Box], object]) -> Callable[[Box], object]:
    """The same, with a cell to be measured."""

    def both(box: Box) -> None:
        put(box)
        shutil.rmtree(_cell(box))

    return both


def _change(edit: Callable[[Box, dict[str, Any]], object]) -> Callable[[Box], object]:
    """Every `cell.json` is edited; its own checksums stay as they were."""

    def put(box: Box) -> None:
        for path in box.run.glob("store/*/*/cell.json"):
            content = json.loads(path.read_text())
            edit(box, content)
            path.write_text(json.dumps(content))
        (box.run / "report.html").unlink(missing_ok=True)

    return put


def _exhibits(file: Callable[[Box], str]) -> Callable[[Box], object]:
    def edit(box: Box, content: dict[str, Any]) -> None:
        for exhibit in content["exhibits"]:
            exhibit["file"] = file(box)
        content.get("sha256", {})[file(box)] = _digest(box.root / "secret.png")

    return _change(edit)


def _parts(box: Box, content: dict[str, Any]) -> None:
    for part in content.get("parts", ()):
        part["file"] = "../../../../../secret.txt"
    content.get("sha256", {})["../../../../../secret.txt"] = _digest(box.root / "secret.txt")


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _linked(name: str, target: str) -> Callable[[Box], object]:
    def put(box: Box) -> None:
        for path in box.run.glob(name) if "*" in name else [box.run / name]:
            path.unlink(missing_ok=True)
            path.symlink_to(box.root / target)

    return put


def _elsewhere(box: Box) -> None:
    """The folder of a cell is a link to a folder outside, so that measuring it again would write there."""
    cell = _cell(box)
    shutil.rmtree(cell)
    (box.root / "near").mkdir()
    cell.symlink_to(box.root / "near")


def _study_elsewhere(box: Box) -> None:
    folder = _cell(box).parent
    shutil.rmtree(folder)
    (box.root / "near").mkdir()
    folder.symlink_to(box.root / "near")


def _ids(box: Box) -> None:
    path = box.run / "plan.json"
    content = json.loads(path.read_text())
    for number, cell in enumerate(content["cells"]):
        cell["id"] = f"../../../../near-{number}"
    path.write_text(json.dumps(content))


_SCRIPT = "</script><script>alert(1)</script>\x1b]0;title\x07\x9b31m\u202e"
_BACKBONE, _IMAGES = TOY.rpartition(":")[0], str(Path(STUDY).with_name("toy_images.py"))
STRANGERS: tuple[Stranger, ...] = (
    *(
        Stranger(f"a {kind} by path{', a cell to do' if lost else ''}", _lost(put) if lost else put)
        for kind, put in {
            "study": _text(STUDY, lambda box: str(box.into / "hostile.py")),
            "study named in its cells": _text('"toy_study"', lambda box: f'"{box.into / "hostile.py"}"'),
            "backbone": _text(_BACKBONE, lambda box: str(box.into / "hostile.py")),
            "image set": _text(_IMAGES, lambda box: str(box.into / "hostile.py")),
            "factory": _text(TOY, lambda box: f"python:{box.into / 'hostile.py'}:make"),
        }.items()
        for lost in (False, True)
    ),
    Stranger("a study by name of a file in its cells", _change(lambda box, c: (_text("", lambda b: "")(box), c["cell"].update(study=str(box.into / "hostile.py"))))),
    Stranger("exhibits upwards", _exhibits(lambda box: "../../../../../secret.png")),
    Stranger("exhibits by full path", _exhibits(lambda box: str(box.root / "secret.png"))),
    Stranger("parts upwards", _change(_parts)),
    Stranger("ids upwards", _ids),
    Stranger("a report that is a link", _linked("report.html", "secret.txt")),
    Stranger("warnings that are a link", _linked("warnings.json", "secret.txt")),
    Stranger("a plan that is a link", _linked("plan.json", "secret.txt")),
    Stranger("exhibits that are links", _linked("store/*/*/exhibits/*", "secret.png")),
    Stranger("rows that are links", _linked("store/*/*/*.parquet", "secret.txt")),
    Stranger("a cell that is a link", _elsewhere),
    Stranger("a study's folder that is a link", _study_elsewhere),
    Stranger("backbones called as scripts", _text(TOY, lambda box: TOY + _SCRIPT)),
    Stranger("backbones and cells called as scripts", _change(lambda box, c: c["cell"]["backbone"].update(spec=_SCRIPT, architecture=_SCRIPT))),
    Stranger("images called as scripts", _change(lambda box, c: c["cell"]["images"].update(spec=_SCRIPT))),
    Stranger("conditions called as scripts", _change(lambda box, c: c["cell"].update(study=_SCRIPT, condition={_SCRIPT: _SCRIPT}))),
    Stranger("exhibits called as scripts", _change(lambda box, c: [e.update(caption=_SCRIPT, item=_SCRIPT, label=_SCRIPT) for e in c["exhibits"]])),
    Stranger("warnings of scripts", lambda box: (box.run / "warnings.json").write_text(json.dumps([_SCRIPT]))),
    Stranger("failures of scripts", _failure(json.dumps({"id": "x", "error": _SCRIPT, "traceback": _SCRIPT, "cell": {"study": _SCRIPT, "condition": _SCRIPT, "backbone": {"spec": _SCRIPT}}}).encode())),
)  # fmt: skip


def untouched(box: Box, printed: list[str]) -> str | None:
    """Check of a stranger's run: nothing from outside is in what was written, and no name became a script.

    That nothing was written or executed outside is checked of every case, see `worker.judge`.
    """
    picture = base64.b64encode((box.root / "secret.png").read_bytes()).decode()
    for page in [*box.run.glob("*.html"), *box.out.rglob("*.html"), *box.out.rglob("*.svg")]:
        text = page.read_text(errors="replace") if page.is_file() and not page.is_symlink() else ""
        if SECRET in text or picture in text:
            return "a file from outside was read into the report"
        if "<script>alert(1)" in text:
            return "a name became a script"
    return "a file from outside was printed" if any(SECRET in text for text in printed) else None
