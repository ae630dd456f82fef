"""Error consistency with people: do networks fail on the pictures that people fail on, beyond what their accuracies force?

Kappa is computed for each condition and each pair of observers, then averaged over pairs, then over conditions. Trials of several
conditions, or of several people, are never pooled: pooling makes agreement out of the difference in difficulty. A pair where one has fewer
than `stats.FEWEST` mistakes or right answers is left out. The numbers are about these people; the spread over pairs says how much they differ.

Source: Geirhos, Meding & Wichmann 2020, "Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by measuring error consistency".
"""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from visionvitals import stats
from visionvitals.errors import require
from visionvitals.responses.csv_files import Answer

PEOPLE = "people"
MEAN = "(mean)"
"""The condition of what is averaged over conditions."""


class Consistency(NamedTuple):
    """How one observer agrees with people in one condition; that of `PEOPLE` is of people with one another.

    Attributes:
        condition: as in the files, or `MEAN`.
        observer: a network, or `PEOPLE`.
        pictures: how many the pairs have in common at least; the sum over conditions in a mean.
        accuracy: share of right answers, of people their mean.
        kappa: mean over pairs; NaN where it is not estimable.
        lowest, highest: of the pairs; in a mean over conditions, of the conditions.
        most: mean over pairs of the largest kappa that the accuracies allow.
        pairs: how many pairs have a picture in common; in a mean over conditions, how many conditions.
        told: how many of them have a kappa.
    """

    condition: str
    observer: str
    pictures: int
    accuracy: float
    kappa: float
    lowest: float
    highest: float
    most: float
    pairs: int
    told: int


def consistency(answers: Sequence[Answer]) -> list[Consistency]:
    """For each condition people with one another, then every other observer with them; where there are several conditions, then their means.

    Args:
        answers: of one experiment; people are observers called `subject-...`.

    Raises:
        VitalsError: no people, answers of an observer to several experiments, or two of one to the same picture.
    """
    told: dict[str, dict[str, dict[str, float]]] = {}
    experiments: dict[str, set[str]] = {}
    for answer in answers:
        experiments.setdefault(answer.observer, set()).add(answer.experiment)
        theirs = told.setdefault(answer.condition, {}).setdefault(answer.observer, {})
        must = "Every observer must have one answer to a picture"
        where = (answer.observer, answer.condition, answer.picture)
        require(answer.picture not in theirs, must, where, "Name each file once.")
        theirs[answer.picture] = float(answer.right)
    for observer, names in experiments.items():
        must = f"The answers of {observer} must be to one experiment"
        require(
            len(names) == 1, must, sorted(names), "People of two experiments share their names: give one at a time."
        )
    people = [name for name in experiments if name.startswith("subject-")]
    require(bool(people), "There must be people among the observers, called `subject-...`", sorted(experiments)[:5])
    observers = [PEOPLE, *sorted(name for name in experiments if name not in people)]
    every = [_of(condition, o, told[condition]) for condition in sorted(told, key=_natural) for o in observers]
    found = [one for one in every if one.pairs]
    for name in observers[1:]:
        example = next(answer.picture for answer in answers if answer.observer == name)
        do = "The names of the pictures must agree in the files, and the experiment must be the same."
        must = f"`{name}` must have answered a picture that a person answered too, in the same condition"
        require(any(one.observer == name for one in found), must, example, do)
    do = "Give the files of a second person, or of a network."
    require(bool(found), "Two observers must have answered the same pictures", ", ".join(observers[1:] + people), do)
    if len(told) > 1:
        found += [
            _mean([one for one in found if one.observer == o], conditions=len(told))
            for o in observers
            if any(f.observer == o for f in found)
        ]
    return found


def _of(condition: str, observer: str, told: Mapping[str, Mapping[str, float]]) -> Consistency:
    people = sorted(name for name in told if name.startswith("subject-"))
    pairs = list(combinations(people, 2)) if observer == PEOPLE else [(observer, p) for p in people if observer in told]
    common = {(a, b): seen for a, b in pairs if (seen := sorted(told[a].keys() & told[b].keys()))}
    found = [
        stats.error_consistency(*(np.array([told[who][picture] for picture in seen]) for who in pair))
        for pair, seen in common.items()
    ]
    known = [agreement for agreement in found if not np.isnan(agreement.kappa.value)]
    kappas = [agreement.kappa.value for agreement in known]
    who = people if observer == PEOPLE else [observer] if observer in told else []
    return Consistency(
        condition=condition,
        observer=observer,
        pictures=min(map(len, common.values()), default=0),
        accuracy=_average([_average([*told[name].values()]) for name in who]),
        kappa=_average(kappas),
        lowest=min(kappas, default=np.nan),
        highest=max(kappas, default=np.nan),
        most=_average([agreement.most for agreement in known]),
        pairs=len(common),
        told=len(known),
    )


def _mean(of: Sequence[Consistency], *, conditions: int) -> Consistency:
    """Over conditions, those without a kappa left out; `conditions` counts also those that the observer did not see."""
    known = [one for one in of if one.told]
    return Consistency(
        condition=MEAN,
        observer=of[0].observer,
        pictures=sum(one.pictures for one in of),
        accuracy=_average([one.accuracy for one in of]),
        kappa=_average([one.kappa for one in known]),
        lowest=min((one.kappa for one in known), default=np.nan),
        highest=max((one.kappa for one in known), default=np.nan),
        most=_average([one.most for one in known]),
        pairs=conditions,
        told=len(known),
    )


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _natural(text: str) -> list[tuple[int, float, str]]:
    """An order in which 2 comes before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part) for part in parts if part]
