"""Few-shot episodes, drawn from labels alone: fixed n-way k-shot, and Meta-Dataset's variable way and shot.

An episode is a small classification task: `way` classes of the set, some labelled images of each (the support), and other images of the
same classes to be told (the queries). Queries are balanced over classes.

`fixed`: `way` classes uniformly without replacement among those that are large enough, `shot` images of each, and as many queries per class,
at most `queries`, as the smallest of the chosen classes leaves.

`variable`, with |c| the images of class c: way ~ U{5 .. min(50, classes)}; queries per class q = min(10, floor(min_c |c| / 2)); support size
S = min(500, sum_c ceil(beta * min(100, |c| - q))) with beta ~ U(0, 1]; shots of c = min(floor(p_c (S - way)) + 1, |c| - q) with
p_c proportional to |c| exp(U(log 1/2, log 2)). Where classes come in groups (alphabets), a group is drawn first, uniformly among those
with at least 5 classes.

Where the images have parts, the support is drawn from `train` and the queries from `test` (`val` where there is no test), so that frames
of one object do not stand on both sides; |c| - q is then the training images of c, and q at most the test images.

Convention: all randomness of an episode is that of (seed, its number). Draws are nested: episode 7 with 1 shot has the classes, and a part of
the support, of episode 7 with 5 shots, as long as the same classes are large enough; so curves over shots are paired.

Source: Triantafillou et al. 2020, "Meta-Dataset", section 3.2 and appendix; the constants are those of its published configuration.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visionvitals import randomness
from visionvitals.errors import VitalsError, require

Part = Literal["train", "val", "test"]
WAYS = (5, 50)
QUERIES = 10
SUPPORT = 500
SUPPORT_PER_CLASS = 100
_FORMAT = "visionvitals.episodes/1"


@dataclass(frozen=True)
class Episode:
    """One task.

    Attributes:
        number: its name within the seed.
        classes: labels of the set, length way.
        support: for each class the rows of its labelled images.
        query: for each class the rows of the images to tell.
    """

    number: int
    classes: tuple[int, ...]
    support: tuple[tuple[int, ...], ...]
    query: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Pools:
    """Which images episodes may draw.

    Attributes:
        support: for each class the rows that may be shown.
        query: for each class the rows that may be asked.
        shown, asked: how many these are, int (classes,).
        shared: whether both are the same rows.
        rank: int (rows,), the place of each row among the sorted ids: chance belongs to an image, not to its row.
    """

    support: tuple[np.ndarray, ...]
    query: tuple[np.ndarray, ...]
    shown: np.ndarray
    asked: np.ndarray
    shared: bool
    rank: np.ndarray

    def room(self, shot: int) -> np.ndarray:
        """How many queries each class has beside `shot` images of support; below 1: it cannot take part."""
        return self.asked - shot if self.shared else np.where(self.shown >= shot, self.asked, 0)

    def able(self, shot: int) -> list[int]:
        """The classes that have `shot` images to show and another one to ask."""
        found: list[int] = np.flatnonzero(self.room(shot) >= 1).tolist()
        return found


def pools(labels: np.ndarray, parts: Sequence[Part] | None = None, *, ids: Sequence[str] | None = None) -> Pools:
    """The images of every class.

    Args:
        labels: int (n,); negative ones take no part. Of copies of a picture one at most may take part, or a query is learnt by heart.
        parts: of each image, or None.
        ids: of the images; None where they stand in the order of their ids.

    Raises:
        VitalsError: parts without train, or without val and test.
    """
    count = int(labels.max(initial=-1)) + 1
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(count + 1))
    rows = tuple(order[ends[c] : ends[c + 1]] for c in range(count))
    sizes = np.diff(ends)
    rank = np.arange(len(labels)) if ids is None else np.argsort(np.argsort(np.array(ids), kind="stable"))
    if parts is None:
        return Pools(rows, rows, sizes, sizes, True, rank)
    part, asked = np.asarray(parts), asked_part(parts)
    support, query = (tuple(r[part[r] == name] for r in rows) for name in ("train", asked))
    shown, told = (np.array([len(each) for each in side], dtype=np.int64) for side in (support, query))
    return Pools(support, query, shown, told, False, rank)


def asked_part(parts: Sequence[Part]) -> Part:
    """The part that queries are drawn from.

    Raises:
        VitalsError: parts without train, or without val and test.
    """
    asked: Part = "test" if "test" in parts else "val"
    must = "A set with parts must have images in train and in test (or val) to draw episodes from"
    require("train" in parts and asked in parts, must, ", ".join(sorted(set(parts))))
    return asked


def fixed(pool: Pools, number: int, *, way: int, shot: int, queries: int = QUERIES, seed: int = 0) -> Episode:
    """Episode `number` with `way` classes and `shot` labelled images of each.

    Raises:
        VitalsError: fewer than `way` classes have more than `shot` images.
    """
    require(
        way >= 2 and shot >= 1 and queries >= 1, "`way`, `shot`, `queries` must be >= 2, 1, 1", (way, shot, queries)
    )
    room = pool.room(shot)
    able = np.flatnonzero(room >= 1)
    if len(able) < way:
        raise VitalsError(
            f"{way}-way {shot}-shot episodes must have {way} classes with {shot} images to show and another one to ask. "
            f"Got {len(able)} of {len(pool.support)}. Ask for fewer ways or shots, or take more images."
        )
    keys = _keys(seed, number, pool)
    chosen = _first(able, keys, way)
    return _draw(pool, number, chosen, [shot] * way, min(queries, int(room[chosen].min())), keys)


def variable(pool: Pools, number: int, *, groups: Sequence[str] | None = None, seed: int = 0) -> Episode:
    """Episode `number` of Meta-Dataset's sampler; the formulas stand at the top of this file.

    Args:
        pool: of `pools`.
        number: of the episode.
        groups: for each class the group it belongs to, or None where there are none.
        seed: root seed.

    Raises:
        VitalsError: fewer than five classes (in any group) have an image to show and another one to ask.
    """
    candidates = [pool.able(1)]
    if groups is not None:
        candidates = [[c for c in candidates[0] if groups[c] == g] for g in dict.fromkeys(groups)]
    large = [members for members in candidates if len(members) >= WAYS[0]]
    if not large:
        most = max((len(members) for members in candidates), default=0)
        where = "" if groups is None else " of one group"
        raise VitalsError(
            f"Episodes of variable way must have at least {WAYS[0]} classes{where} with two images each. Got {most}."
        )
    which, ways, beta, *shares = _uniform(seed, number, 3 + WAYS[1])
    members = large[int(which * len(large))]
    way = WAYS[0] + int(ways * (min(WAYS[1], len(members)) - WAYS[0] + 1))
    keys = _keys(seed, number, pool)
    chosen = _first(np.array(members), keys, way)
    sizes, fewest = pool.shown[chosen], int(pool.asked[chosen].min())
    q = min(QUERIES, fewest // 2 if pool.shared else fewest)
    left = sizes - q if pool.shared else sizes
    size = min(SUPPORT, int(np.floor(beta * np.minimum(SUPPORT_PER_CLASS, left) + 1).sum()))
    weights = sizes * np.exp2(2 * np.array(shares[:way]) - 1)
    shots = np.minimum(np.floor(weights / weights.sum() * (size - way)).astype(int) + 1, left)
    return _draw(pool, number, chosen, shots.tolist(), q, keys)


def draw(sample: Callable[[int], Episode], episodes: int) -> list[Episode]:
    """Episodes 0 .. episodes - 1 of a sampler."""
    return [sample(number) for number in range(episodes)]


def dumps(episodes: Sequence[Episode], ids: Sequence[str], classes: Sequence[str]) -> str:
    """Episodes as JSON, with image ids and class keys, so that they outlive a reordered set.

    `images` and `classes` list what the episodes use; an episode has the positions in them of its classes, and for each of its
    classes those of its support and of its queries.
    """
    images = sorted({i for e in episodes for part in (e.support, e.query) for rows in part for i in rows})
    labels = sorted({c for e in episodes for c in e.classes})
    place, order = ({value: k for k, value in enumerate(each)} for each in (images, labels))
    listed = [
        {
            "number": e.number,
            "classes": [order[c] for c in e.classes],
            "support": [[place[i] for i in rows] for rows in e.support],
            "query": [[place[i] for i in rows] for rows in e.query],
        }
        for e in episodes
    ]
    content = {
        "format": _FORMAT,
        "images": [ids[i] for i in images],
        "classes": [classes[c] for c in labels],
        "episodes": listed,
    }
    return json.dumps(content, separators=(",", ":"))


def loads(text: str, ids: Sequence[str], classes: Sequence[str]) -> list[Episode]:
    """Episodes that `dumps` wrote, for a set of these ids and classes.

    Raises:
        VitalsError: not such a file, or one that names images or classes that the set does not have.
    """
    try:
        found = json.loads(text)
        require(found["format"] == _FORMAT, f"`format` must be {_FORMAT}", found["format"])
        row, label = ({key: k for k, key in enumerate(each)} for each in (ids, classes))
        rows, labels = [row[id] for id in found["images"]], [label[key] for key in found["classes"]]
        return [
            Episode(
                number=int(e["number"]),
                classes=tuple(labels[k] for k in e["classes"]),
                support=tuple(tuple(rows[k] for k in each) for each in e["support"]),
                query=tuple(tuple(rows[k] for k in each) for each in e["query"]),
            )
            for e in found["episodes"]
        ]
    except json.JSONDecodeError as error:
        raise VitalsError(f"A file of episodes must be JSON. {error}.") from None
    except (TypeError, KeyError, IndexError) as error:
        raise VitalsError(f"A file of episodes must name images and classes of this set. Got {error}.") from None


def _draw(pool: Pools, number: int, chosen: list[int], shots: Sequence[int], queries: int, keys: np.ndarray) -> Episode:
    """Queries from the front of each class's random order, support from its end: both are nested, and they never meet."""
    by_image = keys[len(pool.support) :][pool.rank]
    asked = _shuffled([pool.query[c] for c in chosen], by_image)
    shown = asked if pool.shared else _shuffled([pool.support[c] for c in chosen], by_image)
    return Episode(
        number,
        tuple(chosen),
        tuple(tuple(rows[: -shot - 1 : -1]) for rows, shot in zip(shown, shots, strict=True)),
        tuple(tuple(rows[:queries]) for rows in asked),
    )


def _shuffled(members: Sequence[np.ndarray], keys: np.ndarray) -> list[list[int]]:
    """Each class's rows in the order of their keys."""
    rows = np.concatenate(members)
    sizes = [len(each) for each in members]
    listed = rows[np.lexsort((keys[rows], np.repeat(np.arange(len(sizes)), sizes)))].tolist()
    ends = list(itertools.accumulate(sizes, initial=0))
    return [listed[start:end] for start, end in itertools.pairwise(ends)]


def _first(members: np.ndarray, keys: np.ndarray, count: int) -> list[int]:
    """The `count` members with the smallest keys, in that order."""
    found: list[int] = members[np.argsort(keys[members])[:count]].tolist()
    return found


def _keys(seed: int, number: int, pool: Pools) -> np.ndarray:
    """A random integer for each class, then for each image."""
    stream = randomness.stream(seed, [str(number)], "episode/order")
    return randomness.bits(stream, len(pool.support) + len(pool.rank))[0].numpy()


def _uniform(seed: int, number: int, n: int) -> list[float]:
    found: list[float] = randomness.uniform(randomness.stream(seed, [str(number)], "episode/size"), n)[0].tolist()
    return found
