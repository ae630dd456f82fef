"""Answers of people and networks, as texture-vs-shape and model-vs-human publish them and the latter reads and writes them: one csv per observer.

Columns: subj, session (or Session), trial, rt, object_response, category, condition, imagename. An imagename reads
`<trial>_<experiment>_<session>_<condition>_<category>_<number>_<picture>.png`, or is the picture alone; of a cue conflict the picture is
`<shape><i>-<texture><j>` and `category` the shape. An object_response that is none of the 16 classes (`na`) is no answer.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from visionvitals.datasets.base.reading import read_rows
from visionvitals.errors import VitalsError, as_text, near, require, shortened
from visionvitals.files import write_safely

COLUMNS = ("subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename")
NEEDED = ("subj", "object_response", "category", "imagename")
NO_ANSWER = ("na", "NA", "NaN", "nan", "")
_STIMULUS = re.compile(r"(?:.*[_/])?(([a-z]+)\d+-([a-z]+)\d+)(?:\.[A-Za-z]+)?")


class Stimulus(NamedTuple):
    """A picture by its name: `cat1-boat2` shows the shape of a cat in the texture of a boat."""

    name: str
    shape: str
    texture: str


class Answer(NamedTuple):
    """One answer of one observer to a picture of any experiment.

    Attributes:
        experiment: what the name of the file says before its first `_`.
        observer: its name.
        condition: of the picture, `0` where there is one condition.
        picture: the same for all observers, who saw the pictures in orders of their own.
        right: whether the answer was the category; no answer is wrong.
    """

    experiment: str
    observer: str
    condition: str
    picture: str
    right: bool


class Trial(NamedTuple):
    """One answer of one observer; `said` is None where there was none."""

    observer: str
    stimulus: Stimulus
    said: str | None


def stimulus(imagename: str) -> Stimulus | None:
    """The picture that a file name or an imagename of the published answers means, or None.

    Example:
        >>> stimulus("0001_s5n_s01_0_bird_00_bird3-bird2.png")
        Stimulus(name='bird3-bird2', shape='bird', texture='bird')
    """
    found = _STIMULUS.fullmatch(imagename)
    return None if found is None else Stimulus(*found.groups())


def read(path: Path) -> list[Trial]:
    """The answers to cue conflicts in a csv, or in all csv files of a folder, in the order of file and line.

    Raises:
        VitalsError: no such file, no csv in the folder, a column that is unknown or missing, or a line that cannot be read; the
            file and the line are named.
    """
    return [_trial(where, row) for file in _files(path) for where, row in _read_file(file)]


def read_any(path: Path) -> list[Answer]:
    """As `read`, of any of the 17 experiments of model-vs-human; what was right is the column `category`.

    Raises:
        VitalsError: as `read`.
    """
    return [_answer(file, where, row) for file in _files(path) for where, row in _read_file(file)]


def write(path: Path, observer: str, answers: Sequence[tuple[Stimulus, str]]) -> None:
    """Write the answers of one observer, whole or not at all.

    Args:
        path: the csv to write.
        observer: its name in the column `subj`.
        answers: each picture with the class answered.

    Raises:
        VitalsError: the file cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trial, (shown, said) in enumerate(answers, 1):
        name = f"{trial:04d}_s5n_dnn_0_{shown.shape}_00_{shown.name}.png"
        writer.writerow((as_text(observer), 1, trial, "NaN", as_text(said), shown.shape, 0, name))
    try:
        write_safely(path, table.getvalue())
    except OSError as error:
        raise VitalsError(f"The answers must be written to {path}. Got: {error}. Name another folder.") from error


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise VitalsError(f"The answers must be a csv or a folder of them. Got {path}, which is not there.")
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    require(bool(files), "A folder of answers must hold csv files", str(path))
    return files


def _read_file(path: Path) -> Iterable[tuple[str, Mapping[str, str]]]:
    """(where it stands, column -> text) of each line."""
    rows = read_rows(path)
    _, header = next(rows, (1, []))
    header = ["session" if name == "Session" else name for name in header]
    for name in header:
        require(
            name in COLUMNS, f"{path}: the columns must be {', '.join(COLUMNS)}", shortened(name), near(name, COLUMNS)
        )
    for name in NEEDED:
        require(name in header, f"{path} must have the column `{name}`", ", ".join(header) or "an empty file")
    for line, fields in rows:
        where = f"{path}, line {line}"
        require(len(fields) == len(header), f"{where} must have {len(header)} fields", "another number")
        yield where, dict(zip(header, fields, strict=True))


def _trial(where: str, row: Mapping[str, str]) -> Trial:
    shown = stimulus(row["imagename"])
    if shown is None:
        raise VitalsError(
            f"{where}: `imagename` must end in <shape><i>-<texture><j>.png. Got {shortened(row['imagename'])!r}. "
            "Only answers to cue-conflict pictures are read here."
        )
    must = f"{where}: `category` must be the shape in `imagename`, {shown.shape}"
    require(row["category"] == shown.shape, must, shortened(row["category"]))
    said = row["object_response"]
    return Trial(row["subj"], shown, None if said in NO_ANSWER else said)


def _answer(file: Path, where: str, row: Mapping[str, str]) -> Answer:
    category, condition = row["category"], row.get("condition", "")
    require(category not in NO_ANSWER, f"{where}: `category` must be the class of the picture", category)
    picture = re.sub(rf"^.*?_{re.escape(category)}_\d+_", "", row["imagename"].rpartition("/")[2])
    require(bool(picture), f"{where}: `imagename` must name the picture", shortened(row["imagename"]))
    return Answer(
        experiment=file.name.partition("_")[0],
        observer=row["subj"],
        condition="0" if condition in NO_ANSWER else condition,
        picture=picture.rpartition(".")[0] or picture,
        right=row["object_response"] == category,
    )
