"""Few-shot episodes on stored features: how long 600 of them take, beside scikit-learn one by one.

    python benchmarks/episodes.py [--images 10000] [--width 1536] [--episodes 600] [--sklearn 60]

10,000 x 1,536 random features of 100 classes. Medians of three, in CPU seconds; sampling and solving are timed apart. scikit-learn is timed on the first few
episodes, in the same process, and scaled to all. Threads: set OMP_NUM_THREADS.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from visionvitals.probes import episode_solvers
from visionvitals.probes import episodes as sampler

CLASSES = 100


def median(call: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of a call: with one thread, what it takes on a core of its own."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def one_by_one(features: np.ndarray, episodes: list[sampler.Episode]) -> None:
    """scikit-learn's logistic regression as RFS calls it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    for e in episodes:
        rows = [i for each in e.support for i in each]
        y = [k for k, each in enumerate(e.support) for _ in each]
        asked = [i for each in e.query for i in each]
        model = LogisticRegression(C=1.0, max_iter=1000).fit(normalize(features[rows]), y)
        model.predict(normalize(features[asked]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--width", type=int, default=1_536)
    options.add_argument("--episodes", type=int, default=600)
    options.add_argument("--sklearn", type=int, default=60)
    options.add_argument("--variable", type=int, default=60, help="episodes of Meta-Dataset's sampler")
    args = options.parse_args()
    rng = np.random.default_rng(0)
    labels = np.arange(args.images) % CLASSES
    means = 0.3 * rng.normal(size=(CLASSES, args.width))
    features = (means[labels] + rng.normal(size=(args.images, args.width))).astype(np.float32)
    stored = torch.from_numpy(features)
    pool = sampler.pools(labels)
    kinds = (
        ("5-way 5-shot, 15 queries", args.episodes, partial(sampler.fixed, pool, way=5, shot=5, queries=15)),
        ("Meta-Dataset's way and shot", args.variable, partial(sampler.variable, pool)),
    )
    print(f"{args.images} x {args.width} features, {CLASSES} classes, {torch.get_num_threads()} thread(s)")
    for name, count, one in kinds:
        drawn = sampler.draw(one, count)
        print(f"{name}: {count} episodes, sampling {median(partial(sampler.draw, one, count)):.2f} s")
        for solver in episode_solvers.SOLVERS:
            seconds = median(partial(episode_solvers.solve, stored, drawn, solver))
            accuracy = episode_solvers.solve(stored, drawn, solver).accuracy.mean()
            print(f"  {solver:9} {seconds:7.2f} s   accuracy {accuracy:.3f}")
        few = drawn[: args.sklearn]
        seconds = median(partial(one_by_one, features, few), times=1) * count / len(few)
        print(f"  scikit-learn's logistic regression, {len(few)} of them, scaled: {seconds:.2f} s")


if __name__ == "__main__":
    main()
