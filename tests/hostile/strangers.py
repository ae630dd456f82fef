"""Run folders that mean harm: they name code, lead out of their folder, or call things by scripts and control characters."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from box import SECRET, STUDY, TOY, Box
from damages import failure, first_cell

from visionvitals.run.documents import sealed

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
            if path.name == "cell.json":
                _seal(path, json.loads(path.read_text()))
        (box.run / "report.html").unlink(missing_ok=True)

    return put


def _lost(put: Callable[[Box], object]) -> Callable[[Box], object]:
    """The same, with a cell to be measured."""

    def both(box: Box) -> None:
        put(box)
        shutil.rmtree(first_cell(box))

    return both


def _change(edit: Callable[[Box, dict[str, Any]], object]) -> Callable[[Box], object]:
    """Every `cell.json` is edited, and gets the checksum of its new content; those of its files stay as they were."""

    def put(box: Box) -> None:
        for path in box.run.glob("store/*/*/cell.json"):
            content = json.loads(path.read_text())
            edit(box, content)
            _seal(path, content)
        (box.run / "report.html").unlink(missing_ok=True)

    return put


def _seal(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(sealed({key: value for key, value in content.items() if key != "digest"}))


def _exhibits(file: Callable[[Box], str]) -> Callable[[Box], object]:
    def edit(box: Box, content: dict[str, Any]) -> None:
        for exhibit in content["exhibits"]:
            exhibit["file"] = file(box)
        content.get("sha256", {})[file(box)] = _digest(box.root / "secret.png")
        content.get("bytes", {})[file(box)] = (box.root / "secret.png").stat().st_size

    return _change(edit)


def _parts(box: Box, content: dict[str, Any]) -> None:
    for part in content.get("parts", ()):
        part["file"] = "../../../../../secret.txt"
    content.get("sha256", {})["../../../../../secret.txt"] = _digest(box.root / "secret.txt")
    content.get("bytes", {})["../../../../../secret.txt"] = (box.root / "secret.txt").stat().st_size


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _linked(name: str, target: str) -> Callable[[Box], object]:
    def put(box: Box) -> None:
        for path in box.run.glob(name) if "*" in name else [box.run / name]:
            path.unlink(missing_ok=True)
            path.symlink_to(box.root / target)

    return put


def _elsewhere(box: Box) -> None:
    """The folder of a cell is a link to a folder outside, so that measuring it again would write there."""
    cell = first_cell(box)
    shutil.rmtree(cell)
    (box.root / "near").mkdir()
    cell.symlink_to(box.root / "near")


def _study_elsewhere(box: Box) -> None:
    folder = first_cell(box).parent
    shutil.rmtree(folder)
    (box.root / "near").mkdir()
    folder.symlink_to(box.root / "near")


def _study_in_cells(box: Box) -> None:
    """The path of hostile code stands in the cells where the name of their study was."""
    hostile = box.into / "hostile.py"
    hostile.write_text(_HOSTILE.format(marker=str(box.root / "MARKER")))
    _change(lambda box, content: content["cell"].update(study=str(hostile)))(box)


def _ids(box: Box) -> None:
    path = box.run / "plan.json"
    content = json.loads(path.read_text())
    for number, cell in enumerate(content["cells"]):
        cell["id"] = f"../../../../near-{number}"
    path.write_text(json.dumps(content))


_SCRIPT = "</script><script>alert(1)</script>\x1b]0;title\x07\x9b31m\u202e"
_FAILURE = {
    "id": "x",
    "error": _SCRIPT,
    "traceback": _SCRIPT,
    "cell": {"study": _SCRIPT, "condition": _SCRIPT, "backbone": {"spec": _SCRIPT}},
}
_BACKBONE, _IMAGES = TOY.rpartition(":")[0], str(Path(STUDY).with_name("toy_images.py"))
STRANGERS: tuple[Stranger, ...] = (
    *(
        Stranger(f"a {kind} by path{', a cell to do' if lost else ''}", _lost(put) if lost else put)
        for kind, put in {
            "study": _text(STUDY, lambda box: str(box.into / "hostile.py")),
            "study of its cells alone": _study_in_cells,
            "backbone": _text(_BACKBONE, lambda box: str(box.into / "hostile.py")),
            "image set": _text(_IMAGES, lambda box: str(box.into / "hostile.py")),
            "factory": _text(TOY, lambda box: f"python:{box.into / 'hostile.py'}:make"),
        }.items()
        for lost in (False, True)
    ),
    Stranger("exhibits upwards", _exhibits(lambda box: "../../../../../secret.png")),
    Stranger("exhibits by full path", _exhibits(lambda box: str(box.root / "secret.png"))),
    Stranger("parts upwards", _change(_parts)),
    Stranger("ids upwards", _ids),
    Stranger("a report that is a link", _linked("report.html", "secret.txt")),
    Stranger("warnings that are a link", _linked("warnings.json", "secret.txt")),
    Stranger("notes that are a link", _linked("notes.json", "secret.txt")),
    Stranger("a plan that is a link", _linked("plan.json", "secret.txt")),
    Stranger("exhibits that are links", _linked("store/*/*/exhibits/*/*", "secret.png")),
    Stranger("rows that are links", _linked("store/*/*/*.parquet", "secret.txt")),
    Stranger("a cell that is a link", _elsewhere),
    Stranger("a study's folder that is a link", _study_elsewhere),
    Stranger("backbones called as scripts", _text(TOY, lambda box: TOY + _SCRIPT)),
    Stranger(
        "backbones and cells called as scripts",
        _change(lambda box, c: c["cell"]["backbone"].update(spec=_SCRIPT, architecture=_SCRIPT)),
    ),
    Stranger("images called as scripts", _change(lambda box, c: c["cell"]["images"].update(spec=_SCRIPT))),
    Stranger(
        "conditions called as scripts",
        _change(lambda box, c: c["cell"].update(study=_SCRIPT, condition={_SCRIPT: _SCRIPT})),
    ),
    Stranger(
        "exhibits called as scripts",
        _change(lambda box, c: [e.update(caption=_SCRIPT, item=_SCRIPT, label=_SCRIPT) for e in c["exhibits"]]),
    ),
    Stranger("warnings of scripts", lambda box: (box.run / "warnings.json").write_text(json.dumps([_SCRIPT]))),
    Stranger("failures of scripts", failure(json.dumps(_FAILURE).encode())),
)


def untouched(box: Box, printed: list[str]) -> str | None:
    """Check of a stranger's run: nothing from outside is in what was written, and no name became a script.

    That nothing was written or executed outside is checked of every case, see `worker.attend`.
    """
    picture = base64.b64encode((box.root / "secret.png").read_bytes()).decode()
    for page in [*box.run.glob("*.html"), *box.out.rglob("*.html"), *box.out.rglob("*.svg")]:
        text = page.read_text(errors="replace") if page.is_file() and not page.is_symlink() else ""
        if SECRET in text or picture in text:
            return "a file from outside was read into the report"
        if "<script>alert(1)" in text:
            return "a name became a script"
    return "a file from outside was printed" if any(SECRET in text for text in printed) else None
