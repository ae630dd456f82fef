"""What `--half-width` saves, and whether its intervals cover the truth under all of its looks: simulated, seeded, as tables in Markdown.

    python benchmarks/budget.py                              # 50,000 images, 20,000-fold: minutes on one core
    python benchmarks/budget.py --quick                      # 5,000 images, 500-fold; exits with 1 where too many intervals miss
    python benchmarks/budget.py --write docs/statistics.md   # puts the tables between the marks in that page

A cell is a true accuracy; its images are drawn one after the other, and it is looked at, and stopped, as a run does. `passes`: images that were
measured, of all, over the conditions of the study `occlusion` with its `paper` preset. `misses`: of runs in which the interval of some look up to the
last one (whether stopped or not), or that of the look at which the cell stopped, does not hold the true value, in percent.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import marked
import numpy as np

from visionvitals import stats
from visionvitals.studies import occlusion

ALPHA = 0.05
MARKS = ("<!-- budget: begin -->", "<!-- budget: end -->")
CURVES: dict[str, Sequence[float]] = {
    "DeiT-Tiny": (0.797, 0.790, 0.760, 0.750, 0.733, 0.693, 0.643, 0.563, 0.433, 0.257),
    "one half throughout": (0.5,) * 10,
}
"""Accuracy where 0, 10, ... 90 % of the image are removed. Of DeiT-Tiny as measured by `occlusion` (14 x 14, black) on 300 photographs, taken for all
grids; one half is the worst case."""
TRUTHS = (0.001, 0.005, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.995, 0.999)
Spend = Callable[[float], float]
"""Share of all images -> share of the errors that all looks up to there may make."""
SPENDS: dict[str, Spend | None] = {
    "t, less what looks before made (ours)": None,
    "t, each look by itself": lambda t: t,
    "t^3, each look by itself (the gate's)": lambda t: t**3,
    "root of t, each look by itself": math.sqrt,
    "one look, at the right number of images": lambda t: 1.0,
}


class Runs(NamedTuple):
    """Of each simulated run: the images at which it stopped; whether the interval missed at that look, and at any look."""

    images: np.ndarray
    missed: np.ndarray
    ever: np.ndarray


def steps(most: int, spend: Spend | None) -> list[tuple[int, float]]:
    """(images, errors) of each look."""
    looks = stats.prefixes(most, alpha=ALPHA)
    if spend is None:
        return [(look.images, look.alpha) for look in looks]
    spent = [0.0, *(spend(look.images / most) for look in looks)]
    if spent[1] == 1:  # whoever knows at which look the interval will be narrow looks only there
        return [(look.images, ALPHA) for look in looks]
    return [(look.images, ALPHA * (b - a)) for look, a, b in zip(looks, spent[:-1], spent[1:], strict=True)]


def runs(
    rng: np.random.Generator, p: float, most: int, half_width: float, repetitions: int, spend: Spend | None = None
) -> Runs:
    """Cells of one true accuracy."""
    right, before = np.zeros(repetitions, dtype=int), 0
    stopped, missed, ever = np.zeros(repetitions, int), np.zeros(repetitions, bool), np.zeros(repetitions, bool)
    for images, alpha in steps(most, spend):
        right += rng.binomial(images - before, p, size=repetitions)
        before = images
        low, high = ends(right, images, alpha)
        outside = (low > p) | (high < p)
        now = (stopped == 0) & (((high - low) / 2 <= half_width) | (images == most))
        stopped[now], missed[now] = images, outside[now]
        ever |= outside
    return Runs(stopped, missed, ever)


def ends(right: np.ndarray, n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The intervals of so many right answers; each number is computed once."""
    numbers, back = np.unique(right, return_inverse=True)
    found = np.array([stats.clopper_pearson(int(k), n, level=1 - alpha)[1:3] for k in numbers])[back]
    return found[:, 0], found[:, 1]


def differences(
    rng: np.random.Generator, both: float, only: tuple[float, float], most: int, half_width: float, repetitions: int
) -> np.ndarray:
    """Whether the paired difference of two networks misses, on the images that both have, where each stopped by itself: bool (repetitions,)."""
    chances = [both, *only, 1 - both - sum(only)]
    counts = np.zeros((repetitions, 4), dtype=int)
    done, missed, before = np.zeros(repetitions, bool), np.zeros(repetitions, bool), 0
    for look in stats.prefixes(most, alpha=ALPHA):
        counts += rng.multinomial(look.images - before, chances, size=repetitions)
        before = look.images
        narrow = np.zeros(repetitions, bool)
        for column in (1, 2):  # the first of the two to stop ends what both have
            low, high = ends(counts[:, 0] + counts[:, column], look.images, look.alpha)
            narrow |= (high - low) / 2 <= half_width
        for row in np.flatnonzero(~done & (narrow | (look.images == most))):
            a, b = (np.repeat(np.array(kind, float), counts[row]) for kind in ([1, 1, 0, 0], [1, 0, 1, 0]))
            e = stats.paired_difference(a, b, bounds=(0, 1), level=1 - look.alpha)
            done[row], missed[row] = True, not e.low <= only[0] - only[1] <= e.high
    return missed


def share(hits: np.ndarray) -> str:
    """Percent, with its interval."""
    e = stats.wilson(int(hits.sum()), len(hits))
    return f"{100 * e.value:.2f} ({100 * e.low:.2f}–{100 * e.high:.2f})"


def passes(most: int, repetitions: int) -> list[str]:
    """The share of the images that a paper run of occlusion measures, for each way to spend the errors."""
    conditions = occlusion.conditions("paper", (224, 224))
    lines = [f"**Passes of a `paper` occlusion run ({len(conditions)} conditions) of {most:,} images, in percent**", ""]
    lines += ["| errors spent | " + " | ".join(f"{c}, half-width {w:g}" for c in CURVES for w in (1, 2)) + " |"]
    lines += ["|---|" + "---:|" * 2 * len(CURVES)]
    for name, spend in SPENDS.items():
        told = []
        for curve in CURVES.values():
            for points in (1, 2):
                means = [
                    runs(
                        np.random.default_rng([most, points, k]), p, most, points / 100, repetitions, spend
                    ).images.mean()
                    for k, p in enumerate(curve)
                ]
                told.append(100 * np.mean([means[round(10 * c.fraction)] for c in conditions]) / most)
        lines.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in told) + " |")
    return lines


def coverage(most: int, repetitions: int) -> tuple[list[str], list[str]]:
    """(the table of misses, what missed too often)."""
    lines = [f"**Misses in percent, half-width 1, {most:,} images, {repetitions:,}-fold**", ""]
    lines += ["| true accuracy | images, median | at the stop | at any look |", "|---|---:|---:|---:|"]
    bad, slack = [], 3 * math.sqrt(ALPHA * (1 - ALPHA) / repetitions)
    for p in TRUTHS:
        found = runs(np.random.default_rng([most, round(1000 * p)]), p, most, 0.01, repetitions)
        lines.append(f"| {p:g} | {np.median(found.images):,.0f} | {share(found.missed)} | {share(found.ever)} |")
        bad += [f"{p:g}: {share(found.ever)} % miss"] if found.ever.mean() > ALPHA + slack else []
    lines += ["", "**Paired differences of two networks that each stopped by itself, half-width 2**", ""]
    lines += ["| right: both, only the first, only the second | at the stop of the first |", "|---|---:|"]
    fold = max(200, repetitions // 10)
    for both, *only in ((0.5, 0.1, 0.1), (0.7, 0.1, 0.05), (0.85, 0.1, 0.02), (0.02, 0.3, 0.01)):
        hits = differences(np.random.default_rng(round(1000 * both)), both, (only[0], only[1]), most, 0.02, fold)
        lines.append(f"| {both:g}, {only[0]:g}, {only[1]:g} | {share(hits)} |")
        bad += [f"{both:g}: {share(hits)} % miss"] if hits.mean() > ALPHA + 3 * math.sqrt(ALPHA / fold) else []
    return lines, bad


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 images, 500-fold")
    parser.add_argument("--write", type=Path, help="the page that gets the tables between its marks")
    given = parser.parse_args(words)
    most, repetitions = (5000, 500) if given.quick else (50_000, 20_000)
    saved = "\n".join(passes(most, max(100, repetitions // 20)))
    print(saved, end="\n\n", flush=True)
    lines, wrong = coverage(most, repetitions)
    covered = "\n".join(lines)
    print(covered)
    print(f"{len(wrong)} rows miss too often.", *wrong, sep="\n- ", file=sys.stderr)
    if given.write:
        marked.write(given.write, MARKS, [saved, covered])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
