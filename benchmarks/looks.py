"""How often a rule is decided wrongly under repeated looking, and how many images that saves: simulated, seeded, as tables in Markdown.

    python benchmarks/looks.py                              # 2,000-fold, accuracies 100,000-fold: two minutes on one core
    python benchmarks/looks.py --quick                      # 300-fold up to 1,000 images; exits with 1 where too many are wrong
    python benchmarks/looks.py --write docs/statistics.md   # puts the tables between the marks in that page

A row is a true value, so far from its margin. `decided at the margin`: a true value that lies at the margin has no right answer, and each
decision counts as a miss. Elsewhere: `wrong` decisions, those that are `open` when all images are measured, and the share of the images that
were not measured: the median, and what nine of ten runs save at least.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import marked
import numpy as np

from visionvitals import stats

ALPHA = 0.05
MARKS = ("<!-- looks: begin -->", "<!-- looks: end -->")
Rng = np.random.Generator
Spend = Callable[[float], float]
"""Share of all images -> errors that all looks up to there may make."""
Ends = tuple[np.ndarray, np.ndarray]
"""Of each run: +1 above the margin, -1 below, 0 open; and the images that were measured, as a share."""

OTHERS: dict[str, Spend] = {
    "one look, at the end": lambda t: ALPHA * (t == 1),
    "t": lambda t: ALPHA * t,
    "t^2": lambda t: ALPHA * t**2,
    "t^3 (ours)": lambda t: ALPHA * t**3,
    "O'Brien-Fleming": lambda t: 2 - 2 * below(1.959964 / math.sqrt(t)),
}


def below(z: float) -> float:
    return 1 - math.erfc(z / math.sqrt(2)) / 2


def steps(most: int, spend: Spend | None = None) -> list[tuple[int, float]]:
    """(images, errors) of each look."""
    if spend is None:
        return [(look.images, look.alpha) for look in stats.looks(most)]
    sizes = [look.images for look in stats.looks(most)]
    spent = [0.0, *(spend(size / most) for size in sizes)]
    return [(size, now - before) for size, now, before in zip(sizes, spent[1:], spent[:-1], strict=True)]


def counted(
    kinds: np.ndarray, chances: np.ndarray, margin: float, interval: Callable[..., stats.Estimate], *, scale: float = 1
) -> Callable[..., Ends]:
    """Images of a few kinds, float (kinds, columns), with their chances, judged by `interval` of the columns against `margin`."""

    def ends(rng: Rng, most: int, repetitions: int, spend: Spend | None = None) -> Ends:
        said, seen = np.zeros(repetitions), np.ones(repetitions)
        counts, before = np.zeros((repetitions, len(chances)), dtype=int), 0
        for images, alpha in steps(most, spend):
            counts += rng.multinomial(images - before, chances, size=repetitions)
            before = images
            left = np.flatnonzero(said == 0)
            if 1 - alpha < 1:
                same, back = np.unique(counts[left], axis=0, return_inverse=True)
                said[left] = np.array([judged(c, alpha) for c in same])[back.reshape(-1)]
                seen[left[said[left] != 0]] = images / most
        return said, seen

    def judged(count: np.ndarray, alpha: float) -> int:
        e = interval(*np.repeat(kinds, count, axis=0).T, level=1 - alpha)
        return int(e.low >= margin) - int(e.high < margin)

    return ends


def mean(p: float, margin: float) -> Callable[..., Ends]:
    """An accuracy. The interval is a function of how many are right, so that each look has two limits of it."""

    @cache
    def limits(n: int, alpha: float) -> tuple[int, int]:
        """(the fewest right answers that lie above the margin, the most that lie below it)."""
        rights = range(n + 1)
        first = next_where(rights, lambda k: stats.wilson(k, n, level=1 - alpha).low >= margin)
        return first, next_where(rights, lambda k: stats.wilson(k, n, level=1 - alpha).high >= margin) - 1

    def ends(rng: Rng, most: int, repetitions: int, spend: Spend | None = None) -> Ends:
        said, seen, right, before = np.zeros(repetitions), np.ones(repetitions), np.zeros(repetitions, dtype=int), 0
        for images, alpha in steps(most, spend):
            right += rng.binomial(images - before, p, size=repetitions)
            before = images
            if 1 - alpha < 1:
                first, last = limits(images, alpha)
                now = (right >= first).astype(int) - (right <= last)
                seen[(said == 0) & (now != 0)] = images / most
                said = np.where(said == 0, now, said)
        return said, seen

    return ends


def next_where(numbers: range, true: Callable[[int], bool]) -> int:
    """The first number from which on it is true, by bisection."""
    low, high = numbers.start, numbers.stop
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low


def betting(p: float, margin: float) -> Callable[..., Ends]:
    """An accuracy under the hedged betting confidence sequence of Waudby-Smith & Ramdas 2023 (*JRSS B* 86:1, section 4.2): its margin is
    excluded as soon as half the capital that was bet on either side reaches 1 / alpha. Looked at where the others are."""

    def ends(rng: Rng, most: int, repetitions: int, spend: Spend | None = None) -> Ends:
        x = (rng.random((most, repetitions)) < p).astype(np.float64)
        sizes = {look.images for look in stats.looks(most)}
        said, seen = np.zeros(repetitions), np.ones(repetitions)
        capital = np.zeros((2, repetitions))  # logarithms, on above and on below
        best = np.zeros((2, repetitions))
        total, squares, guess, variance = 0.5, 0.25, 0.5, 0.25
        for t in range(1, most + 1):
            bet = np.sqrt(2 * math.log(2 / ALPHA) / (variance * t * math.log(1 + t)))
            away = x[t - 1] - margin
            capital[0] += np.log1p(np.minimum(bet, 0.5 / margin) * away)
            capital[1] += np.log1p(-np.minimum(bet, 0.5 / (1 - margin)) * away)
            best = np.maximum(best, capital)
            total = total + x[t - 1]
            guess = total / (t + 1)
            squares = squares + (x[t - 1] - guess) ** 2
            variance = squares / (t + 1)
            if t in sizes:
                above, below = best + math.log(0.5) >= math.log(1 / ALPHA)
                now = np.where(above, 1, np.where(below, -1, 0))
                seen[(said == 0) & (now != 0)] = t / most
                said = np.where(said == 0, now, said)
        return said, seen

    return ends


def difference(share: float, gap: float, margin: float) -> Callable[..., Ends]:
    """A paired difference: on `share` of the images the two answers differ, the second network is better by `gap`."""
    chances = np.array([(share + gap) / 2, (share - gap) / 2, 1 - share])
    kinds = np.array([[1.0, 0], [0, 1], [1, 1]])
    return counted(kinds, chances, margin, stats.paired_difference)


def kept(share: float, margin: float) -> Callable[..., Ends]:
    """Of a clean accuracy of .8 a share is kept; nine of ten kept answers were right before."""
    gained = min(0.1 * share * 0.8, 0.1)
    both = 0.8 * share - gained
    chances = np.array([both, 0.8 - both, gained, 0.2 - gained])
    return counted(np.array([[1.0, 1], [1, 0], [0, 1], [0, 0]]), chances, margin, stats.kept)


def bias(p: float, q: float, margin: float) -> Callable[..., Ends]:
    """A formula: the share of the first of two kinds of answers."""

    def share(means: np.ndarray) -> np.ndarray:
        total = means.sum(axis=-1)
        return np.asarray(means[..., 0] / np.where(total == 0, math.nan, total))

    def interval(*columns: np.ndarray, level: float) -> stats.Estimate:
        return stats.formula(np.stack(columns, axis=1), share, bounds=(0, 1), result=(0, 1), level=level)

    return counted(np.array([[1.0, 0], [0, 1], [0, 0]]), np.array([p, q, 1 - p - q]), margin, interval)


Row = tuple[str, float, Callable[..., Ends]]  # label, true value less the margin, runs
Table = tuple[str, tuple[int, ...], list[Row]]


def tables() -> list[Table]:
    """Every table: title, numbers of images, rows."""
    means = [(m, 0.0) for m in (0.02, 0.3, 0.6, 0.9, 0.98)]
    away = [(0.6, d) for d in (-0.2, -0.1, -0.05, -0.02, 0.05)]
    pairs = [(s, 0.0) for s in (0.02, 0.1, 0.3)]
    apart = [(0.1, d) for d in (-0.07, -0.05, -0.03, 0.02, 0.05)]
    return [
        (
            "an accuracy at least the margin",
            (1000, 5000, 50_000),
            [(f"margin {m:g}, true {m + d:g}", d, mean(m + d, m)) for m, d in (*means, *away)],
        ),
        (
            "not worse than the baseline by more than 2 points, paired",
            (1000, 5000),
            [
                (f"answers differ on {s:g}, true {d - 0.02:+g}", d, difference(s, d - 0.02, -0.02))
                for s, d in (*pairs, *apart)
            ],
        ),
        (
            "kept, of a clean accuracy of .8, at least the margin",
            (1000, 5000),
            [
                (f"margin {m:g}, true {m + d:g}", d, kept(m + d, m))
                for m, d in [(0.1, 0.0), (0.5, 0.0), (0.9, 0.0), *((0.5, d) for d in (-0.1, -0.05, 0.05, 0.1))]
            ],
        ),
        (
            "a formula (the share of the first of two kinds of answers) at least the margin",
            (1000,),
            [
                (f"margin {m:g}, true {p / (p + q):g}", p / (p + q) - m, bias(p, q, m))
                for p, q, m in [(0.05, 0.05, 0.5), (0.2, 0.3, 0.4), (0.02, 0.18, 0.1), (0.3, 0.2, 0.4)]
            ],
        ),
    ]


def row(away: float, said: np.ndarray, seen: np.ndarray) -> tuple[str, float]:
    """What a row says, and its misses."""
    right = 0 if abs(away) < 1e-9 else math.copysign(1, away)
    wrong = float(np.mean((said != 0) & (said != right)))
    saved = 1 - np.quantile(seen, [0.5, 0.9])
    return f"{100 * wrong:.1f} | {100 * np.mean(said == 0):.1f} | {100 * saved[0]:.0f} | {100 * saved[1]:.0f}", wrong


HEAD = "wrong, % | open at the end, % | not measured, % (median) | in nine of ten runs at least"


def measure(table: Table, repetitions: int, largest: int) -> tuple[str, list[str]]:
    """A table, and its rows with too many misses."""
    title, sizes, rows = table
    lines = [f"**{title[0].upper()}{title[1:]}**", "", f"| | images | {HEAD} |", "|---|" + "---:|" * 5]
    bad, slack = [], 3 * math.sqrt(ALPHA * (1 - ALPHA) / repetitions)
    for label, away, ends in rows:
        for most in (n for n in sizes if n <= largest):
            rng = np.random.default_rng([most, *title.encode(), *label.encode()])
            said, wrong = row(away, *ends(rng, most, repetitions * (50 if "accuracy at" in title else 1)))
            lines.append(f"| {label} | {most:,} | {said} |")
            if wrong > ALPHA + slack:
                bad.append(f"{title}: {label}, {most:,} images: {100 * wrong:.1f} % wrong")
    return "\n".join(lines), bad


def compared(repetitions: int, most: int) -> str:
    """Ways to spend the errors, and a confidence sequence, for an accuracy with the margin .6."""
    lines = [
        f"**Ways to stop, an accuracy with the margin .6 of {most:,} images**",
        "",
        f"| | true | {HEAD} |",
        "|---|" + "---:|" * 5,
    ]
    for name, spend in [*OTHERS.items(), ("betting", None)]:
        for d in (0.0, -0.02, -0.05, -0.1, -0.3):
            make = partial(betting if spend is None else mean, 0.6 + d, 0.6)
            said, _ = row(d, *make()(np.random.default_rng([most, round(-1000 * d)]), most, repetitions, spend))
            lines.append(f"| {name} | {0.6 + d:g} | {said} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300-fold, up to 1,000 images")
    parser.add_argument("--only", default="", help="the tables whose title holds this text")
    parser.add_argument("--write", type=Path, help="the page that gets the tables between its marks")
    given = parser.parse_args(words)
    repetitions, largest = (300, 1000) if given.quick else (2000, 10**9)
    found, wrong = [], []
    if given.only in "compared":
        found.append(compared(repetitions, min(largest, 5000)))
        print(found[0], end="\n\n", flush=True)
    for table in tables():
        if given.only in table[0]:
            text, bad = measure(table, repetitions, largest)
            print(text, end="\n\n", flush=True)
            found.append(text)
            wrong += bad
    print(f"{len(wrong)} rows are wrong too often.", *wrong, sep="\n- ", file=sys.stderr)
    if given.write:
        marked.write(given.write, MARKS, found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
