"""Episodes: the published rules over 10,000 draws, nesting, parts, JSON; the solvers against scikit-learn, one episode at a time."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid

from visionvitals.errors import VitalsError
from visionvitals.probes import episode_solvers as solvers
from visionvitals.probes import episodes as sampler
from visionvitals.probes.episodes import Episode

SIZES = [1, 2, 3, 5, 8, 13, 20, 20, 20, 30, 60, 130] * 5
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
POOL = sampler.pools(LABELS)


def well_formed(e: Episode, labels: np.ndarray) -> None:
    shown = [i for rows in e.support for i in rows]
    asked = [i for rows in e.query for i in rows]
    assert len(set(shown + asked)) == len(shown) + len(asked), "an image stands twice or on both sides"
    assert len(set(e.classes)) == len(e.classes) == len(e.support) == len(e.query)
    assert all(set(labels[list(rows)]) == {c} for c, rows in zip(e.classes, e.support, strict=True))
    assert all(set(labels[list(rows)]) == {c} for c, rows in zip(e.classes, e.query, strict=True))
    assert len({len(rows) for rows in e.query}) == 1


def test_variable_episodes_keep_the_published_rules_over_10_000_draws() -> None:
    ways, taken = Counter[int](), Counter[int]()
    for number in range(10_000):
        e = sampler.variable(POOL, number)
        if number % 10 == 0:
            well_formed(e, LABELS)
        way, sizes = len(e.classes), np.array([SIZES[c] for c in e.classes])
        shots, q = np.array([len(rows) for rows in e.support]), len(e.query[0])
        assert 5 <= way <= 50
        assert q == min(10, sizes.min() // 2)
        assert shots.min() >= 1
        assert (shots <= sizes - q).all()
        assert shots.sum() <= 500
        assert shots.sum() <= (np.minimum(100, sizes - q)).sum()
        ways[way] += 1
        taken.update(e.classes)
    assert set(ways) == set(range(5, 51))
    assert max(abs(n - 10_000 / 46) for n in ways.values()) < 5 * (10_000 / 46) ** 0.5
    able = [c for c, size in enumerate(SIZES) if size >= 2]
    assert set(taken) == set(able)
    expected = sum(way * n for way, n in ways.items()) / len(able)
    assert max(abs(n - expected) for n in taken.values()) < 5 * expected**0.5


def test_shots_follow_the_sizes_of_the_classes_within_a_factor_of_four() -> None:
    labels = np.repeat(np.arange(5), [40, 40, 400, 400, 400])
    pool = sampler.pools(labels)
    small, large = [], []
    for number in range(300):
        e = sampler.variable(pool, number)
        n = {c: len(rows) for c, rows in zip(e.classes, e.support, strict=True)}
        small.append(n[0] + n[1])
        large.append(n[2] + n[3])
        assert n[0] - 1 <= 4 * (n[1] + 1)
    assert 5 < sum(large) / sum(small) < 12


def test_a_small_set_shows_the_formula_number_by_number() -> None:
    """Five classes of 4: q = 2, two images a class are left, S = sum ceil(beta * 2): 5 (beta <= 1/2) or 10."""
    pool = sampler.pools(np.repeat(np.arange(5), 4))
    totals = Counter(sum(map(len, sampler.variable(pool, k).support)) for k in range(400))
    # 5 of beta <= 1/2; of S = 10, 5 images are shared out by floor(5 p) + 1, at most 2 a class
    assert 150 < totals[5] < 270
    assert all(5 <= total <= 10 for total in totals)


def test_fixed_episodes_over_3_000_draws() -> None:
    taken = Counter[int]()
    for number in range(3_000):
        e = sampler.fixed(POOL, number, way=5, shot=5, queries=15)
        if number % 10 == 0:
            well_formed(e, LABELS)
        assert {len(rows) for rows in e.support} == {5}
        assert len(e.query[0]) == min(15, min(SIZES[c] for c in e.classes) - 5)
        taken.update(e.classes)
    able = [c for c, size in enumerate(SIZES) if size >= 6]
    assert set(taken) == set(able)
    assert max(abs(n - 15_000 / len(able)) for n in taken.values()) < 5 * (15_000 / len(able)) ** 0.5


def test_an_episode_is_that_of_its_seed_and_number_and_shots_are_nested() -> None:
    pool = sampler.pools(np.repeat(np.arange(8), 20))
    draws = [sampler.fixed(pool, 3, way=5, shot=shot, queries=10) for shot in (1, 5, 10)]
    one, five, ten = draws
    assert one == sampler.fixed(pool, 3, way=5, shot=1, queries=10)
    assert one != sampler.fixed(pool, 4, way=5, shot=1, queries=10)
    assert one != sampler.fixed(pool, 3, way=5, shot=1, queries=10, seed=1)
    assert one.classes == five.classes == ten.classes
    assert one.query == five.query == ten.query
    for few, more in ((one, five), (five, ten)):
        assert all(a == b[: len(a)] for a, b in zip(few.support, more.support, strict=True))
    assert sampler.fixed(pool, 3, way=3, shot=5).classes == five.classes[:3]


def test_groups_give_episodes_of_one_alphabet() -> None:
    groups = ["Greek"] * 24 + ["Latin"] * 26 + ["tiny"] * 4
    pool = sampler.pools(np.repeat(np.arange(54), 20))
    seen = Counter[str]()
    for number in range(300):
        e = sampler.variable(pool, number, groups=groups)
        (group,) = {groups[c] for c in e.classes}
        seen[group] += 1
    assert set(seen) == {"Greek", "Latin"}
    assert 110 < seen["Greek"] < 190
    with pytest.raises(VitalsError, match=r"at least 5 classes of one group .*Got 4\."):
        sampler.variable(pool, 0, groups=[str(c // 4) for c in range(54)])


def test_parts_stand_on_their_own_side() -> None:
    labels = np.repeat(np.arange(7), 12)
    parts = ["train" if k % 3 else "test" for k in range(84)]
    pool = sampler.pools(labels, parts)
    for number in range(50):
        for e in (sampler.fixed(pool, number, way=5, shot=5), sampler.variable(pool, number)):
            well_formed(e, labels)
            assert {parts[i] for rows in e.support for i in rows} == {"train"}
            assert {parts[i] for rows in e.query for i in rows} == {"test"}
            assert len(e.query[0]) == 4
    with pytest.raises(VitalsError, match=r"in train and in test \(or val\).*Got 'test, val'"):
        sampler.pools(labels[:2], ["val", "test"])


def test_classes_that_one_side_lacks_and_single_images_take_no_part() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 3, -1, -1])
    assert sampler.pools(labels).able(1) == [0, 1, 2]
    pool = sampler.pools(labels, ["train", "test", "train", "train", "test", "test", "train", "train", "test"])
    assert pool.able(1) == [0]
    with pytest.raises(
        VitalsError, match=r"must have 2 classes with 1 images to show .*Got 1 of 4\. Ask for fewer ways"
    ):
        sampler.fixed(pool, 0, way=2, shot=1)
    with pytest.raises(VitalsError, match=r"variable way must have at least 5 classes with two images each\. Got 1"):
        sampler.variable(pool, 0)
    with pytest.raises(VitalsError, match="Got 0 of 0"):
        sampler.fixed(sampler.pools(np.array([], np.int64)), 0, way=2, shot=1)


def test_episodes_outlive_a_reordered_set_as_json() -> None:
    ids, classes = [f"im/{k}" for k in range(len(LABELS))], [f"c{k}" for k in range(len(SIZES))]
    drawn = sampler.draw(lambda number: sampler.variable(POOL, number), 5)
    text = sampler.dumps(drawn, ids, classes)
    assert sampler.loads(text, ids, classes) == drawn
    backwards = sampler.loads(text, ids[::-1], classes[::-1])
    assert [[ids[::-1][i] for i in rows] for rows in backwards[0].query] == [
        [ids[i] for i in r] for r in drawn[0].query
    ]
    with pytest.raises(VitalsError, match=r"must name images and classes of this set\. Got 'im/"):
        sampler.loads(text, ids[:20], classes)
    with pytest.raises(VitalsError, match="must be JSON"):
        sampler.loads("no", ids, classes)
    with pytest.raises(VitalsError, match="`format` must be"):
        sampler.loads(json.dumps({"format": "x"}), ids, classes)


# --- solvers ---


def features(labels: np.ndarray, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(labels.max() + 1, d))
    return (means[labels] * 0.6 + rng.normal(size=(len(labels), d)) + 0.5).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def sides(e: Episode, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    def side(parts: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
        rows = [(i, k) for k, members in enumerate(parts) for i in members]
        return x[[i for i, _ in rows]], np.array([k for _, k in rows])

    return *side(e.support), *side(e.query)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::RuntimeWarning:sklearn")  # they mind one shot
@pytest.mark.parametrize("d", [6, 300], ids=["more images than dimensions", "fewer images than dimensions"])
def test_the_solvers_agree_with_scikit_learn_episode_by_episode(d: int) -> None:
    x = features(LABELS, d)
    drawn = [sampler.variable(POOL, k) for k in range(6)] + [sampler.fixed(POOL, k, way=5, shot=1) for k in range(6)]
    found = {s: solvers.solve(torch.from_numpy(x), drawn, s) for s in solvers.SOLVERS}
    assert found["logistic"].gradient <= solvers.GRADIENT
    z = unit(x)
    for number, e in enumerate(drawn):
        support, y, query, answer = sides(e, z)
        oracles = {
            "logistic": LogisticRegression(C=1.0, tol=1e-8, max_iter=5000),
            "ridge": RidgeClassifier(alpha=1.0),
            "centroid": NearestCentroid(),
        }
        for name, oracle in oracles.items():
            agreed = (oracle.fit(support, y).predict(query) == answer).mean()
            assert found[name].accuracy[number] == pytest.approx(agreed, abs=1e-12), (name, number)  # type: ignore[index]


def test_the_logistic_objective_is_at_its_minimum() -> None:
    x = features(LABELS, 40)
    drawn = [sampler.variable(POOL, 0), sampler.variable(POOL, 1), sampler.fixed(POOL, 2, way=4, shot=2)]
    scale = 1 / torch.linalg.vector_norm(torch.from_numpy(x), dim=1, dtype=torch.float64)
    batches = [solvers.gather(torch.from_numpy(x), scale, part) for part in (drawn[:2], drawn[2:])]
    assert [b.z.shape[2] for b in batches] == [40, 8]
    for c, (batch, part) in itertools.product((0.1, 1.0, 30.0), zip(batches, (drawn[:2], drawn[2:]), strict=True)):
        fit = solvers.logistic(batch, c=c)
        for k, e in enumerate(part):
            support, y, _, _ = sides(e, unit(x))
            oracle = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(support, y)

            def objective(scores: np.ndarray, weight: np.ndarray, y: np.ndarray = y, c: float = c) -> float:
                logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
                return float(c * -logs[np.arange(len(y)), y].sum() + 0.5 * (weight**2).sum())

            best = objective(oracle.decision_function(support), oracle.coef_)
            way = len(e.classes)
            scores = (batch.z[k] @ fit.weight[k].T + fit.bias[k])[batch.real[k], :way].numpy()
            ours = objective(scores, fit.weight[k, :way].numpy())
            assert ours <= best + solvers.GRADIENT**2


def test_the_result_does_not_depend_on_the_company_or_the_budget() -> None:
    x = torch.from_numpy(features(LABELS, 300))
    drawn = [sampler.variable(POOL, k) for k in range(5)]
    for solver in solvers.SOLVERS:
        whole = solvers.solve(x, drawn, solver).accuracy
        np.testing.assert_array_equal(whole, solvers.solve(x, drawn, solver, budget=1).accuracy)
        np.testing.assert_array_equal(whole[::-1], solvers.solve(x, drawn[::-1], solver).accuracy)


def test_an_image_that_is_there_twice_and_scaled_features_change_nothing() -> None:
    labels = np.repeat(np.arange(5), 8)
    x = features(labels, 100)
    x[1] = x[0]
    x[9] = x[8]
    drawn = [sampler.fixed(sampler.pools(labels), k, way=5, shot=6, queries=2) for k in range(10)]
    stretched = x * np.random.default_rng(1).uniform(0.1, 10, (len(x), 1)).astype(np.float32)
    for solver in solvers.SOLVERS:
        plain = solvers.solve(torch.from_numpy(x), drawn, solver).accuracy
        np.testing.assert_array_equal(plain, solvers.solve(torch.from_numpy(stretched), drawn, solver).accuracy)
        assert plain.mean() > 0.5


def test_bad_features_are_refused_only_where_they_are_used() -> None:
    labels = np.repeat(np.arange(3), 4)
    x = features(labels, 10)
    x[0] = np.nan
    drawn = [sampler.fixed(sampler.pools(labels[4:] - 1), 0, way=2, shot=1)]
    assert solvers.solve(torch.from_numpy(x[4:]), drawn, "ridge").accuracy.shape == (1,)
    for value in (np.nan, np.inf, 0.0):
        x[:] = 1.0
        x[drawn[0].query[0][0]] = value
        with pytest.raises(VitalsError, match="must be finite and not zero"):
            solvers.solve(torch.from_numpy(x), drawn, "ridge")
    with pytest.raises(VitalsError, match="at least one episode"):
        solvers.solve(torch.from_numpy(x), [], "ridge")


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
def test_a_constant_offset_hides_no_class(offset: float) -> None:
    """Classes far apart for their spread stay so when every feature is moved by one number; the first gradient is then a thousandth."""
    rng = np.random.default_rng(3)
    means = rng.normal(size=(int(LABELS.max()) + 1, 64))
    x = torch.from_numpy((means[LABELS] + 0.1 * rng.normal(size=(len(LABELS), 64)) + offset).astype(np.float32))
    drawn = [sampler.fixed(POOL, k, way=5, shot=1) for k in range(10)]
    for solver in solvers.SOLVERS:
        assert solvers.solve(x, drawn, solver).accuracy.mean() > 0.99, solver
