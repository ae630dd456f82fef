"""How often the intervals of `visionvitals.stats` hold the truth: simulated, seeded, as a table in Markdown.

    python benchmarks/coverage.py                              # 2,000-fold, all sizes: some minutes on one core
    python benchmarks/coverage.py --quick                      # 300-fold up to n = 100; exits with 1 where coverage is too low
    python benchmarks/coverage.py --write docs/statistics.md   # puts the table between the marks in that page

A cell is the share of simulations, in percent, whose 95 % interval holds the true value, among those that have a value (nothing is kept
of no correct answer). `-` behind a number: below 93; `+`: above 97.5
although at least ten images are expected on the rarer side. With 2,000 simulations the standard error of a cell is half a point.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import marked
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


def counted(kinds: np.ndarray, chances: np.ndarray, truth: float, interval: Callable[..., stats.Estimate]) -> Hits:
    """Images of a few kinds, float (kinds, columns), with their chances: `interval` gets the columns, once for equal numbers of each."""

    def hits(rng: Rng, n: int, repetitions: int) -> float:
        draws, repeats = np.unique(rng.multinomial(n, chances, size=repetitions), axis=0, return_counts=True)
        found = np.array([holds(interval(*np.repeat(kinds, draw, axis=0).T), truth) for draw in draws])
        known = ~np.isnan(found)
        return float(found[known] @ repeats[known] / repeats[known].sum())

    return hits


def drawn(truth: float, sample: Callable[[Rng, int], np.ndarray], interval: Callable[..., stats.Estimate]) -> Hits:
    """Images of any kind: `sample` draws the values of n images."""

    def hits(rng: Rng, n: int, repetitions: int) -> float:
        return float(np.mean([holds(interval(sample(rng, n)), truth) for _ in range(repetitions)]))

    return hits


def runs(p: float) -> np.ndarray:
    """The chances of 0 to `RUNS` correct runs of an image: beta-binomial of mean p, two runs correlated by `ALIKE`."""
    spread = 1 / ALIKE - 1
    a, b = p * spread, (1 - p) * spread
    logs = [
        math.log(math.comb(RUNS, k))
        + sum(math.lgamma(x) for x in (k + a, RUNS - k + b, a + b))
        - sum(math.lgamma(x) for x in (RUNS + a + b, a, b))
        for k in range(RUNS + 1)
    ]
    return np.exp(logs) / np.exp(logs).sum()


LEVELS = np.arange(RUNS + 1) / RUNS


def single(p: float) -> Hits:
    return counted(np.array([[1.0], [0.0]]), np.array([p, 1 - p]), p, stats.estimate)


def averaged(p: float) -> Hits:
    return counted(LEVELS[:, None], runs(p), p, stats.estimate)


def flips(gained: float, lost: float) -> Hits:
    """A difference of single runs: shares of the images that only the first or only the second answers."""
    kinds = np.array([[1.0, 0], [0, 1], [1, 1]])
    return counted(kinds, np.array([gained, lost, 1 - gained - lost]), gained - lost, stats.paired_difference)


def averaged_flips(gained: float, lost: float) -> Hits:
    """A difference of means of runs: shares of the images that only the first or only the second ever answers, half of the time."""
    zero = np.zeros(RUNS + 1)
    kinds = np.concatenate([np.stack([LEVELS, zero], axis=1), np.stack([zero, LEVELS], axis=1), [[1.0, 1.0]]])
    chances = np.concatenate([gained * runs(0.5), lost * runs(0.5), [1 - gained - lost]])
    return counted(kinds, chances, (gained - lost) / 2, stats.paired_difference)


def apart(p: float, q: float) -> Hits:
    """A difference of means of runs: on seven of ten images the runs of both agree as often as they can, on the others never."""
    first, second = runs(p), runs(q)
    edges = np.union1d(np.cumsum(first)[:-1], np.cumsum(second)[:-1])
    middles = (np.append(0, edges) + np.append(edges, 1)) / 2
    agree = np.zeros((RUNS + 1, RUNS + 1))
    at = [np.searchsorted(np.cumsum(x)[:-1], middles) for x in (first, second)]
    np.add.at(agree, tuple(at), np.diff(np.concatenate([[0], edges, [1]])))
    chances = 0.7 * agree + 0.3 * first[:, None] * second
    kinds = np.stack(np.meshgrid(LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 2)
    return counted(kinds, chances.ravel() / chances.sum(), p - q, stats.paired_difference)


def ratio(clean: float, share: float) -> Hits:
    """kept: nine of ten kept answers were correct before (or as many as can be), the others were wrong."""
    gained = min(0.1 * share * clean, 0.5 * (1 - clean))
    both = clean * share - gained
    chances = np.array([both, clean - both, gained, 1 - clean - gained])
    return counted(np.array([[1.0, 1], [1, 0], [0, 1], [0, 0]]), chances, share, stats.kept)


def averaged_ratio(clean: float, share: float) -> Hits:
    """kept of a single clean run and the mean of perturbed runs of the images that were correct."""
    kinds = np.concatenate([np.stack([np.ones(RUNS + 1), LEVELS], axis=1), [[0.0, 0.0]]])
    return counted(kinds, np.append(clean * runs(share), 1 - clean), share, stats.kept)


def ratios(first: float, second: float) -> Hits:
    """A difference of two ratios: clean accuracies of .8 that differ on one of thirty images, and one order of difficulty for both."""
    ends = sorted({0.0, first, second, 1.0})
    kinds, chances = [], []
    for (a, b), own in {(1, 1): 0.784, (1, 0): 0.016, (0, 1): 0.016, (0, 0): 0.184}.items():
        for start, end in itertools.pairwise(ends):
            kinds.append([a, a * (end <= first), b, b * (end <= second)])
            chances.append(own * (end - start))
    return counted(np.array(kinds, dtype=float), np.array(chances), first - second, stats.kept_difference)


X = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def areas(p: float) -> Hits:
    """The area under a falling curve of single runs, of about p; points of one image are independent."""
    falls = np.minimum(1, 2 * p * (1 - X))
    kinds = np.array(list(itertools.product((0.0, 1.0), repeat=len(X))))
    chances = np.where(kinds == 1, falls, 1 - falls).prod(axis=1)
    truth = stats.area(X, falls[None]).value
    return counted(kinds, chances, truth, lambda *columns: stats.area(X, np.stack(columns, axis=1)))


def index(p: float, q: float) -> Hits:
    """A formula: the share of the first of two kinds of answers, as in shape bias."""

    def share(means: np.ndarray) -> np.ndarray:
        total = means.sum(axis=-1)
        return np.asarray(means[..., 0] / np.where(total == 0, math.nan, total))

    def interval(*columns: np.ndarray) -> stats.Estimate:
        return stats.formula(np.stack(columns, axis=1), share, result=(0, 1))

    return counted(np.array([[1.0, 0], [0, 1], [0, 0]]), np.array([p, q, 1 - p - q]), p / (p + q), interval)


def worst(truths: Sequence[float]) -> Hits:
    """The smallest of several columns: each image has one threshold for seven of ten columns, which makes them correlated."""
    levels = np.array(truths)

    def sample(rng: Rng, n: int) -> np.ndarray:
        own, shared = rng.random((n, len(levels))), rng.random((n, 1))
        return (np.where(rng.random(own.shape) < 0.7, shared, own) < levels).astype(float)

    return drawn(float(levels.min()), sample, stats.extreme)


def patches(p: float, alike: float, draws: int) -> Hits:
    """The mean over draws, such as patches, each with a success of its own (beta of mean p, two images of a draw correlated by `alike`) and
    scored on another half of the images; half of all images go by one threshold of their own."""
    spread = 1 / alike - 1

    def sample(rng: Rng, n: int) -> np.ndarray:
        own = rng.random((n, 1))
        seen = np.where(rng.random((n, draws)) < 0.5, own, rng.random((n, draws))) < rng.beta(
            p * spread, (1 - p) * spread, draws
        )
        order = rng.random((n, draws)).argsort(axis=0)
        return np.where(order < (n + 1) // 2, seen.astype(float), math.nan)

    def interval(scores: np.ndarray) -> stats.Estimate:
        scores = scores[~np.isnan(scores).all(axis=1)]
        e = stats.estimate(np.nanmean(scores, axis=1), bounds=(0, 1))
        return stats.over_draws(e, np.nanmean(scores, axis=0), bounds=(0, 1))

    return drawn(p, sample, interval)


def worsts(first: Sequence[float], second: Sequence[float]) -> Hits:
    """A difference of the smallest of two sets of columns: as in `worst`, one threshold for both sets."""
    levels, m = np.array([*first, *second]), len(first)

    def sample(rng: Rng, n: int) -> np.ndarray:
        own, shared = rng.random((n, len(levels))), rng.random((n, 1))
        return (np.where(rng.random(own.shape) < 0.7, shared, own) < levels).astype(float)

    return drawn(min(first) - min(second), sample, lambda x: stats.extreme_difference(x[:, :m], x[:, m:]))


Row = tuple[
    str, float, Hits
]  # label, share of the images on the rarer side (NaN: none is rare, 0: none is known), cell
Family = tuple[str, tuple[int, ...], list[Row]]


def families() -> list[Family]:
    """Every table: title, sizes, rows."""
    rare = [(0.002, 0.0), (0.005, 0.0), (0.01, 0.0), (0.02, 0.0), (0.1, 0.0)]
    pairs = [*rare, (0.002, 0.001), (0.005, 0.005), (0.02, 0.01), (0.05, 0.05), (0.2, 0.1)]
    close = [(0.01, 0.002), (0.05, 0.02), (0.5, 0.45), (0.9, 0.8)]
    kept = (0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.998)
    both = [(0.02, 0.01), (0.5, 0.4), (0.9, 0.89), (0.998, 0.99), (0.8, 0.8)]

    def named(
        make: Callable[[float, float], Hits], given: Sequence[tuple[float, float]], scale: float = 1
    ) -> list[Row]:
        return [
            (f"{p:g} / {q:g}", scale * (p + q if make in (flips, averaged_flips) else q), make(p, q)) for p, q in given
        ]

    def shares(make: Callable[[float], Hits], given: Sequence[float], scale: float = 1) -> list[Row]:
        return [(f"{p:g}", scale * min(p, 1 - p), make(p)) for p in given]

    return [
        ("`estimate`, single run", SIZES, shares(single, SHARES)),
        ("`estimate`, mean of five runs", SIZES, shares(averaged, SHARES)),
        ("`paired_difference`, single runs: only the first / only the second is right", SIZES, named(flips, pairs)),
        (
            "`paired_difference`, means of five runs: only the first / only the second can answer",
            SIZES,
            named(averaged_flips, pairs, 0.5),
        ),
        ("`paired_difference`, means of five runs: accuracies", SIZES, named(apart, close)),
        ("`kept`, single runs, clean .8", SIZES, shares(partial(ratio, 0.8), kept, 0.8)),
        ("`kept`, single runs, clean .3", SIZES, shares(partial(ratio, 0.3), kept, 0.3)),
        ("`kept`, mean of five perturbed runs, clean .8", SIZES, shares(partial(averaged_ratio, 0.8), kept[1::2], 0.8)),
        ("`kept_difference`, clean .8: kept by the first / by the second", SIZES, named(ratios, both, math.nan)),
        ("`area` over five points", SIZES, shares(areas, (0.002, 0.005, 0.02, 0.1, 0.3, 0.45))),
        (
            "`estimate`, few continuous values",
            (2, 4, 7, 16, 100),
            [
                ("normal", math.nan, drawn(3.0, lambda rng, n: rng.normal(3, 2, n), stats.estimate)),
                ("exponential", 0.0, drawn(1.0, lambda rng, n: rng.exponential(1, n), unbounded)),
            ],
        ),
        ("`formula`: first / (first + second)", SIZES, named(index, [(0.02, 0.02), (0.1, 0.3), (0.01, 0.5)])),
        (
            "`extreme`: the smallest of twelve columns",
            SIZES,
            [
                ("all .8", 0.2, worst([0.8] * 12)),
                ("one .7, others .8", 0.2, worst([0.7] + [0.8] * 11)),
                (".8 to .998 in steps", 0.2, worst([0.8 + 0.018 * i for i in range(12)])),
            ],
        ),
        (
            "`over_draws`: draws, true value, correlation within a draw",
            SIZES[1:-1],
            [
                (f"{draws}: {p:g}, {alike:g}", 0.0, patches(p, alike, draws))
                for draws in (3, 5)
                for p, alike in ((0.05, 0.1), (0.2, 0.1), (0.2, 0.4), (0.5, 0.4), (0.8, 0.4))
            ],
        ),
        (
            "`extreme_difference`: the smallest of twelve columns, less that of twelve others",
            (10, 100, 1000),
            [
                ("all .8 / all .8", 0.2, worsts([0.8] * 12, [0.8] * 12)),
                ("all .8 / one .7, others .8", 0.2, worsts([0.8] * 12, [0.7] + [0.8] * 11)),
                ("one .7, others .9 / the same", 0.1, worsts([0.7] + [0.9] * 11, [0.7] + [0.9] * 11)),
                (
                    ".5 to .94 / .8 to .998 in steps",
                    0.2,
                    worsts([0.5 + 0.04 * i for i in range(12)], [0.8 + 0.018 * i for i in range(12)]),
                ),
            ],
        ),
    ]


def unbounded(values: np.ndarray) -> stats.Estimate:
    return stats.estimate(values, bounds=stats.UNBOUNDED)


def measure(family: Family, repetitions: int, largest: int) -> tuple[str, list[str]]:
    """The table of one family, and its cells that are too low.

    Where at most two images are expected on the rarer side one image more or less decides (the lattice of a score method): 84 is asked
    there, else 93, less three standard errors.
    """
    title, sizes, rows = family
    sizes = tuple(n for n in sizes if n <= largest)
    lines = [f"**{title}**", "", "| true value | " + " | ".join(f"n = {n:,}" for n in sizes) + " |"]
    lines.append("|---|" + "---:|" * len(sizes))
    wrong = []
    slack = 3 * math.sqrt(0.95 * 0.05 / repetitions)
    for label, share, hits in rows:
        cells = []
        for n in sizes:
            rng = np.random.default_rng([n, *title.encode(), *label.encode()])
            found = hits(rng, n, repetitions)
            low, high = found < 0.93, found > 0.975 and n * share >= 10
            cells.append(f"{100 * found:.1f}{'-' * low}{'+' * high}")
            if found < (0.84 if n * share <= 2 else 0.93) - slack:
                wrong.append(f"{title}: {label}, n = {n:,}: {100 * found:.1f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300-fold, n up to 100")
    parser.add_argument("--only", default="", help="the families whose title holds this text")
    parser.add_argument("--write", type=Path, help="the page that gets the table between its marks")
    given = parser.parse_args()
    tables, wrong = [], []
    for family in families():
        if given.only in family[0]:
            table, low = measure(family, 300 if given.quick else 2000, 100 if given.quick else max(SIZES))
            print(table, end="\n\n", flush=True)
            tables.append(table)
            wrong += low
    print(f"{len(wrong)} cells are too low.", *wrong, sep="\n- ", file=sys.stderr)
    if given.write:
        marked.write(given.write, MARKS, tables)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
