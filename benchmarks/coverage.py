"""How often the intervals of `visionvitals.stats` hold the truth: simulated, seeded, as a table in Markdown.

    python benchmarks/coverage.py                              # 2,000-fold, all sizes: some minutes on one core
    python benchmarks/coverage.py --quick                      # 300-fold up to n = 100; exits with 1 where coverage is off
    python benchmarks/coverage.py --write docs/statistics.md   # puts the table between the marks in that page

A cell is the share of simulations, in percent, whose 95 % interval holds the true value, among those that have a value (nothing is kept
of no correct answer). `-` behind a number: below 93; `+`: above 97.5
although at least ten images are expected on the rarer side. With 2,000 simulations the standard error of a cell is half a point.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from visionvitals import stats

SIZES = (10, 30, 100, 300, 1000, 5000)
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
RUNS, ALIKE = 5, 0.5  # runs of one image, and the correlation of two of them
MARKS = ("<!-- coverage: begin -->", "<!-- coverage: end -->")
Rng = np.random.Generator
Hits = Callable[[Rng, int, int], float]  # (rng, n, repetitions) -> share of intervals that hold the truth


def holds(e: stats.Estimate, truth: float) -> float:
    """Whether the interval holds the truth, up to rounding: 0 or 1, NaN where there is no value."""
    return math.nan if math.isnan(e.value) else float(e.low - 1e-9 <= truth <= e.high + 1e-9)


def counted(chances: Sequence[float], truth: float, interval: Callable[..., stats.Estimate]) -> Hits:
    """Images of a few kinds: `interval` gets the number of images of each kind, once for equal numbers."""
    known = cache(interval)

    def hits(rng: Rng, n: int, repetitions: int) -> float:
        draws = rng.multinomial(n, chances, size=repetitions)
        return float(np.nanmean([holds(known(*map(int, draw)), truth) for draw in draws]))

    return hits


def drawn(truth: float, sample: Callable[[Rng, int], tuple[np.ndarray, ...]], interval: Callable[..., stats.Estimate]) -> Hits:
    """Images of any kind: `sample` draws arrays for n images, `interval` gets them."""

    def hits(rng: Rng, n: int, repetitions: int) -> float:
        return float(np.nanmean([holds(interval(*sample(rng, n)), truth) for _ in range(repetitions)]))

    return hits


def difficulty(rng: Rng, n: int, p: float, alike: float = ALIKE) -> np.ndarray:
    """The chance of each image to be answered correctly, float (n,), of mean p; `alike` is the correlation of two runs of one image."""
    spread = 1 / alike - 1
    return rng.beta(p * spread, (1 - p) * spread, size=n)


def runs(rng: Rng, chances: np.ndarray, count: int = RUNS) -> np.ndarray:
    """The mean over `count` runs of each image."""
    return np.asarray(rng.binomial(count, chances) / count)


def single(p: float) -> Hits:
    return counted((p, 1 - p), p, lambda k, rest: stats.wilson(k, k + rest))


def averaged(p: float) -> Hits:
    return drawn(p, lambda rng, n: (runs(rng, difficulty(rng, n, p)),), stats.estimate)


def flips(gained: float, lost: float) -> Hits:
    """A difference of single runs: shares of the images that only the first or only the second answers."""

    def interval(up: int, down: int, same: int) -> stats.Estimate:
        a, b = (np.repeat(values, (up, down, same)) for values in ((1.0, 0, 1), (0.0, 1, 1)))
        return stats.paired_difference(a, b)

    return counted((gained, lost, 1 - gained - lost), gained - lost, interval)


def averaged_flips(gained: float, lost: float) -> Hits:
    """A difference of means of runs: some images become easier for the first, some for the second, the rest do not differ."""

    def sample(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
        kind = rng.choice(3, size=n, p=(gained, lost, 1 - gained - lost))
        base = difficulty(rng, n, 0.5)
        a, b = base.copy(), base.copy()
        a[kind == 0], b[kind == 0] = 1.0, 0.0
        a[kind == 1], b[kind == 1] = 0.0, 1.0
        first, second = runs(rng, a), runs(rng, b)
        return first, np.where(kind == 2, first, second)

    return drawn(gained - lost, sample, stats.paired_difference)


def shifted(p: float, q: float) -> Hits:
    """A difference of means of runs whose difficulty is shared in part."""

    def sample(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
        same = rng.random(n) < 0.7
        a = difficulty(rng, n, p)
        b = np.where(same, a * (q / p), difficulty(rng, n, q))
        return runs(rng, a), runs(rng, b)

    return drawn(p - q, sample, stats.paired_difference)


def ratio(clean: float, share: float) -> Hits:
    """kept: `share` of the correct images stay correct; of the wrong ones a tenth of that share become correct."""
    gained = (1 - clean) * share / 10
    both = clean * share - gained

    def interval(stay: int, lose: int, gain: int, never: int) -> stats.Estimate:
        c, p = (np.repeat(values, (stay, lose, gain, never)) for values in ((1.0, 1, 0, 0), (1.0, 0, 1, 0)))
        return stats.kept(c, p)

    return counted((both, clean - both, gained, 1 - clean - gained), share, interval)


def averaged_ratio(clean: float, share: float) -> Hits:
    """kept of a single clean run and the mean of perturbed runs."""

    def sample(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
        right = rng.random(n) < clean
        return right.astype(float), np.where(right, runs(rng, difficulty(rng, n, share)), 0.0)

    return drawn(share, sample, stats.kept)


def ratios(first: float, second: float) -> Hits:
    """A difference of two ratios; both networks share the clean answer in nine of ten images, and the difficulty of the change."""

    def sample(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
        a = rng.random(n) < 0.8
        b = np.where(rng.random(n) < 0.9, a, rng.random(n) < 0.8)
        hard = rng.random(n)
        return tuple(x.astype(float) for x in (a, a & (hard < first), b, b & (hard < second)))

    return drawn(first - second, sample, stats.kept_difference)


X = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def curves(rng: Rng, n: int, p: float) -> np.ndarray:
    """One curve per image over `X`, of mean area p: right up to a fraction of its own, single runs."""
    falls = np.clip(2 * p * (1 - X), 0, 1)
    falls *= p / float(stats.area(X, falls[None]).value)
    return (rng.random((n, 1)) < np.minimum(falls, 1)).astype(float)


def reached(p: float) -> float:
    """The mean area of `curves` (falls are cut at 1)."""
    falls = np.clip(2 * p * (1 - X), 0, 1)
    falls *= p / float(stats.area(X, falls[None]).value)
    return float(stats.area(X, np.minimum(falls, 1)[None]).value)


def areas(p: float) -> Hits:
    return drawn(reached(p), lambda rng, n: (X, curves(rng, n, p)), stats.area)


def normal(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
    return (rng.normal(3.0, 2.0, n),)


def losses(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
    return (rng.exponential(1.0, n),)


def index(p: float, q: float) -> Hits:
    """A formula: the share of the first of two kinds of answers, as in shape bias."""

    def interval(first: int, second: int, rest: int) -> stats.Estimate:
        a, b = (np.repeat(values, (first, second, rest)) for values in ((1.0, 0, 0), (0.0, 1, 0)))
        return stats.formula(np.stack([a, b], axis=1), share_of_first, result=(0, 1))

    return counted((p, q, 1 - p - q), p / (p + q), interval)


def share_of_first(means: np.ndarray) -> np.ndarray:
    total = means.sum(axis=-1)
    return np.asarray(means[..., 0] / np.where(total == 0, math.nan, total))


def worst(truths: Sequence[float]) -> Hits:
    """The smallest of several columns: an image has one threshold for nine of ten columns, which makes them correlated."""
    levels = np.array(truths)

    def sample(rng: Rng, n: int) -> tuple[np.ndarray, ...]:
        own = rng.random((n, len(levels)))
        return (np.where(rng.random((n, len(levels))) < 0.7, rng.random((n, 1)), own) < levels).astype(float)[None]

    return drawn(float(levels.min()), lambda rng, n: (sample(rng, n)[0],), stats.extreme)


Row = tuple[str, float, Hits]  # label, the rarer share (NaN where none), cell
Family = tuple[str, tuple[int, ...], list[Row]]


def families() -> list[Family]:
    """Every table: title, sizes, rows."""
    rare = [(0.001, 0.0), (0.002, 0.0), (0.005, 0.0), (0.01, 0.0), (0.02, 0.0), (0.1, 0.0)]
    pairs = [*rare, (0.002, 0.001), (0.005, 0.005), (0.02, 0.01), (0.05, 0.05), (0.2, 0.1), (0.45, 0.45)]
    kept = (0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98, 0.995)
    step = [0.80 + 0.02 * i for i in range(12)]
    return [
        ("`estimate`, single run", SIZES, [(f"{p:g}", min(p, 1 - p), single(p)) for p in SHARES]),
        ("`estimate`, mean of five runs", SIZES, [(f"{p:g}", min(p, 1 - p), averaged(p)) for p in SHARES]),
        (
            "`paired_difference`, single runs: only the first right / only the second",
            SIZES,
            [(f"{u:g} / {d:g}", min(u + d, 1 - u - d), flips(u, d)) for u, d in pairs],
        ),
        (
            "`paired_difference`, means of five runs: images that flip / flip back",
            SIZES,
            [(f"{u:g} / {d:g}", u + d, averaged_flips(u, d)) for u, d in pairs[:-1]],
        ),
        (
            "`paired_difference`, means of five runs that share their difficulty",
            SIZES,
            [(f"{p:g} / {q:g}", q, shifted(p, q)) for p, q in ((0.01, 0.002), (0.05, 0.02), (0.5, 0.45), (0.9, 0.8))],
        ),
        ("`kept`, single runs, clean .8", SIZES, [(f"{s:g}", 0.8 * min(s, 1 - s), ratio(0.8, s)) for s in kept]),
        ("`kept`, single runs, clean .3", SIZES, [(f"{s:g}", 0.3 * min(s, 1 - s), ratio(0.3, s)) for s in kept]),
        (
            "`kept`, mean of five perturbed runs, clean .8",
            SIZES,
            [(f"{s:g}", 0.8 * min(s, 1 - s), averaged_ratio(0.8, s)) for s in kept],
        ),
        (
            "`kept_difference`, clean .8, kept by the first / by the second",
            SIZES,
            [
                (f"{a:g} / {b:g}", 0.8 * min(abs(a - b), b), ratios(a, b))
                for a, b in ((0.01, 0.005), (0.05, 0.04), (0.5, 0.4), (0.9, 0.89), (0.995, 0.98), (0.8, 0.8))
            ],
        ),
        ("`area` over five points", SIZES, [(f"{p:g}", p, areas(p)) for p in (0.002, 0.005, 0.02, 0.1, 0.3, 0.45)]),
        (
            "`estimate`, few continuous values",
            (2, 4, 7, 16, 100),
            [
                ("normal", math.nan, drawn(3.0, normal, stats.estimate)),
                ("exponential", math.nan, drawn(1.0, losses, lambda v: stats.estimate(v, bounds=(0, math.inf)))),
            ],
        ),
        (
            "`formula`: first / (first + second)",
            SIZES,
            [(f"{p:g}, {q:g}", min(p, q), index(p, q)) for p, q in ((0.02, 0.02), (0.1, 0.3), (0.2, 0.5), (0.01, 0.5))],
        ),
        (
            "`extreme`: the smallest of twelve columns",
            SIZES,
            [
                ("all .8", 0.2, worst([0.8] * 12)),
                ("one .7, others .8", 0.2, worst([0.7] + [0.8] * 11)),
                (".8 to 1 in steps", 0.2, worst(step[:11] + [0.999])),
                ("one .02, others .05", 0.02, worst([0.02] + [0.05] * 11)),
            ],
        ),
    ]


def measure(family: Family, repetitions: int, largest: int) -> tuple[str, list[str]]:
    """The table of one family, and its cells that are off."""
    title, sizes, rows = family
    sizes = tuple(n for n in sizes if n <= largest)
    lines = [f"**{title}**", "", "| true value | " + " | ".join(f"n = {n:,}" for n in sizes) + " |"]
    lines.append("|---|" + "---:|" * len(sizes))
    off = []
    slack = 0.0 if repetitions >= 2000 else 3 * math.sqrt(0.95 * 0.05 / repetitions)
    for label, share, hits in rows:
        cells = []
        for n in sizes:
            rng = np.random.default_rng([n, *title.encode(), *label.encode()])
            found = hits(rng, n, repetitions)
            low, high = found < 0.93 - slack, found > 0.975 + slack and n * share >= 10
            cells.append(f"{100 * found:.1f}{'-' * low}{'+' * high}")
            if low or high:
                off.append(f"{title}: {label}, n = {n:,}: {100 * found:.1f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines), off


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300-fold, n up to 100")
    parser.add_argument("--only", default="", help="the families whose title holds this text")
    parser.add_argument("--write", type=Path, help="the page that gets the table between its marks")
    given = parser.parse_args()
    tables, off = [], []
    for family in families():
        if given.only in family[0]:
            table, bad = measure(family, 300 if given.quick else 2000, 100 if given.quick else max(SIZES))
            print(table, end="\n\n", flush=True)
            tables.append(table)
            off += bad
    print(f"{len(off)} cells are off:", *off, sep="\n- ", file=sys.stderr)
    if given.write:
        before, rest = given.write.read_text("utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        given.write.write_text("\n".join([before + MARKS[0], "", "\n\n".join(tables), "", MARKS[1] + after]), "utf-8")
    return 1 if given.quick and off else 0


if __name__ == "__main__":
    sys.exit(main())
