"""People and published networks beside the backbones of a run: their answers to the same pictures, as cells of the record `shape_bias`.

An observer is stored as a backbone called `responses:NAME` without weights, so that tables, charts and comparisons need to know nothing
of it. Only the pictures that the run measured are counted: both sides of a comparison have seen the same ones. Several people are one
backbone whose items are their answers: n counts these, they are paired with no network's, and the run warns of their intervals.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visionvitals import short_names, study
from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess
from visionvitals.errors import require
from visionvitals.plan import planner
from visionvitals.probes import shape_bias
from visionvitals.remote import AnyPath
from visionvitals.responses import csv_files
from visionvitals.responses.csv_files import Trial
from visionvitals.run import wide
from visionvitals.run.cell import Stored
from visionvitals.run.folder import warn
from visionvitals.run.store import Store
from visionvitals.studies import shape_bias as asked

STUDY = "shape_bias"
FAMILY = "responses"
PEOPLE = "people"
"""All observers called `subject-...`, together."""


class Added(NamedTuple):
    """An observer that was added to a run.

    Attributes:
        observer: its name.
        images: spelling of the image set.
        persons: how many answered.
        summary: its numbers on the run's pictures.
    """

    observer: str
    images: str
    persons: int
    summary: shape_bias.Summary


def add(run_folder: AnyPath, answers: Path) -> list[Added]:
    """Store the answers of every observer in `answers` to the pictures that the run measured.

    Args:
        run_folder: with finished cells of `shape_bias`.
        answers: a csv or a folder of them, see `responses.csv_files`.

    Raises:
        VitalsError: no such cells, no picture in common, answers that cannot be read, or an observer who answered a picture twice.
    """
    trials = csv_files.read(answers)
    store = Store(run_folder / "store")
    sets = {(c.cell["images"]["spec"], c.cell["images"]["digest"], _stimuli(c)): c for c in _cells(run_folder)}
    added = []
    for stored in sets.values():
        items = {shown.name: item for item in _conflicts(stored) if (shown := csv_files.stimulus(item)) is not None}
        common = [trial for trial in trials if trial.stimulus.name in items]
        must = f"The answers in {answers} must be to pictures of {stored.cell['images']['spec']}"
        require(bool(common), must, f"none of {len(items)} pictures in common")
        for observer, theirs in by_observer(common).items():
            cell = _cell(observer, theirs, stored)
            said = _answers(theirs, items)
            record = study.load(STUDY)
            numbers = wide.gather(
                asked.scores(said), study=STUDY, axes=record.axes, metrics=record.metrics, ids=said.items
            )
            store.write(cell, numbers, axes=record.axes, facts=_facts(theirs))
            persons = len({trial.observer for trial in theirs})
            if persons > 1:
                pictures = len({trial.stimulus.name for trial in theirs})
                narrow = (
                    f"{cell.backbone.spec} on {cell.images.spec}: {len(theirs)} answers of {persons} people to {pictures} pictures; "
                    "the intervals take these for independent and are too narrow for a statement about other people or pictures"
                )
                warn(run_folder, [narrow])
            added.append(Added(observer, cell.images.spec, persons, summary(theirs)))
    return added


def by_observer(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """name -> its answers; people together and first.

    Raises:
        VitalsError: one observer answered the same picture twice.
    """
    seen = [(trial.observer, trial.stimulus.name) for trial in trials]
    if len(set(seen)) < len(seen):
        twice = next(key for key in seen if seen.count(key) > 1)
        require(False, "Every observer must have one answer to a picture", twice, "Name one session's files only.")
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(PEOPLE if trial.observer.startswith("subject-") else trial.observer, []).append(trial)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != PEOPLE, pair[0])))


def summary(trials: Sequence[Trial]) -> shape_bias.Summary:
    """The numbers of one observer's answers, all persons pooled."""
    told = _answers(trials, {t.stimulus.name: t.stimulus.name for t in trials})
    return shape_bias.summary(told.said, told.shape, told.texture)


def export(run_folder: AnyPath, folder: Path) -> list[Path]:
    """Write the answers of every backbone of a run to the cue-conflict pictures, one csv each, as model-vs-human names them.

    Raises:
        VitalsError: no cells of `shape_bias`, an image set that has changed or whose pictures have other names, or a folder that
            cannot be written.
    """
    cells = _cells(run_folder)
    labels = short_names.labels(c.cell["backbone"]["spec"] for c in cells)
    written: list[Path] = []
    for stored in cells:
        spec, digest = stored.cell["images"]["spec"], stored.cell["images"]["digest"]
        card = planner.open_images(spec).card
        require(card.digest == digest, f"The pictures of `{spec}` must be those of the run", "others", "Restore them.")
        at = (asked.ALL,)
        said = dict(zip(stored.items(at), stored.values(["prediction"], at)["prediction"].tolist(), strict=True))
        answers = []
        for item, prediction in sorted((i, v) for i, v in said.items() if v == v):
            shown = csv_files.stimulus(item)
            must = f"The pictures of `{spec}` must be called <shape><i>-<texture><j>"
            require(shown is not None, must, item, "The csv format knows cue-conflict pictures only.")
            assert shown is not None
            answers.append((shown, card.classes[int(prediction)]))
        token, stimuli = stored.cell["condition"]["token"], _stimuli(stored)
        name = labels[stored.cell["backbone"]["spec"]].partition(":")[2] or labels[stored.cell["backbone"]["spec"]]
        name = "".join(ch if ch.isalnum() else "-" for ch in name) + ("" if token == "output" else f"-{token}")
        name += "" if stimuli == asked.Condition().stimuli else f"-{stimuli}"
        path = folder / f"cue-conflict_{name}_session-1.csv"
        require(path not in written, "Every backbone must be measured on one image set to be written", path.name)
        csv_files.write(path, name, answers)
        written.append(path)
    return written


def _cells(run_folder: AnyPath) -> list[Stored]:
    """The cells of the run's own backbones, not those of observers that were added before."""
    mine = [c for c in Store(run_folder / "store").cells() if c.cell["study"] == STUDY]
    found = [c for c in mine if not c.cell["backbone"]["spec"].startswith(f"{FAMILY}:")]
    do = f"Measure some: `vitals audit BACKBONE --data cue_conflict:FOLDER --studies {STUDY} --out {run_folder}`."
    require(bool(found), f"The run folder must hold finished cells of `{STUDY}`", str(run_folder), do)
    return found


def _stimuli(stored: Stored) -> asked.Stimuli:
    found: asked.Stimuli = stored.cell["condition"].get("stimuli", asked.Condition().stimuli)
    return found


def _conflicts(stored: Stored) -> list[str]:
    """The pictures of a cell of a backbone that were counted."""
    at = (asked.ALL,)
    values = stored.values(["shape_accuracy"], at)["shape_accuracy"]
    return [item for item, value in zip(stored.items(at), values.tolist(), strict=True) if value == value]


def _answers(trials: Sequence[Trial], items: Mapping[str, str]) -> asked.Answers:
    """One observer's answers under the run's own ids, several persons' under their names: their answers to one picture are apart."""
    several = len({trial.observer for trial in trials}) > 1
    classes = sorted({name for t in trials for name in (t.stimulus.shape, t.stimulus.texture)})
    index = {name: k for k, name in enumerate(classes)}

    def column(names: Sequence[str | None]) -> np.ndarray:
        return np.array([-1 if name is None else index.get(name, -1) for name in names], dtype=np.int64)

    return asked.Answers(
        items=[f"{t.observer}/{t.stimulus.name}" if several else items[t.stimulus.name] for t in trials],
        classes=classes,
        shape=column([t.stimulus.shape for t in trials]),
        texture=column([t.stimulus.texture for t in trials]),
        said=column([t.said for t in trials]),
    )


def _cell(observer: str, trials: Sequence[Trial], beside: Stored) -> Cell:
    content = json.dumps([[t.observer, t.stimulus.name, t.said] for t in trials])
    persons = len({trial.observer for trial in trials})
    stored = dict(beside.cell["images"])
    card = BackboneCard(
        spec=f"{FAMILY}:{observer}",
        architecture="published answers" if persons == 1 else f"published answers of {persons}",
        digest=hashlib.sha256(content.encode()).hexdigest(),
        preprocess=Preprocess(size=(224, 224), resize=None, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3),
        outputs=len(shape_bias.ENTRY_CLASSES),
        parameters=0,
        notes=("answers read from a file: the preprocessing and the number of weights named here mean nothing",),
    )
    images = ImageSetCard(
        spec=stored["spec"],
        digest=stored["digest"],
        n=stored["n"],
        classes=(),
        class_names=(),
        kind=stored["kind"],
        provides=tuple(stored["provides"]),
        notes=tuple(stored["notes"]),
    )
    return Cell(
        study=STUDY,
        version=study.load(STUDY).version,
        condition=asked.Condition(stimuli=_stimuli(beside)),
        backbone=card,
        images=images,
    )


def _facts(trials: Sequence[Trial]) -> dict[str, Any]:
    return {"skipped": [], "n": len(trials), "seconds": 0.0, "warnings": []}
