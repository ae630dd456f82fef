"""Stability: the fit against scikit-learn's, known answers, and what a network that sees no colour says."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from visionvitals import study
from visionvitals.core import Backbone
from visionvitals.job import Job
from visionvitals.plan import request
from visionvitals.plan.planner import load_backbone
from visionvitals.probes import lime
from visionvitals.studies import stability

GRID = (4, 4)
N = 16


def measured(
    condition: stability.Condition, network: Backbone, images: int = 5, **more: object
) -> dict[str, dict[float, np.ndarray]]:
    """metric -> top -> values of images of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (images, 64, 64, 3), dtype=np.uint8)
    ids = [str(k) for k in range(images)]
    job = Job(
        backbone=network,
        condition=condition,
        ids=ids,
        pixels=pixels,
        labels=np.zeros(images, dtype=np.int64),
        batch_size=3,
        **more,
    )  # type: ignore[arg-type]
    found: dict[str, dict[float, list[float]]] = {}
    for block in stability.measure(job):
        for name, values in block.values.items():
            found.setdefault(name, {}).setdefault(float(block.at[0]), []).extend(map(float, values))
    return {name: {top: np.array(values) for top, values in tops.items()} for name, tops in found.items()}


def network(logits: object) -> Backbone:
    return dataclasses.replace(load_backbone("tiny:cnn", device=torch.device("cpu")), logits=logits)  # type: ignore[arg-type]


def test_the_fit_is_the_weighted_ridge_of_a_library() -> None:
    draw = np.random.default_rng(0)
    kept, response = draw.random((300, 49)) < 0.5, draw.random((300, 3))
    distance = 1 - kept.sum(axis=1) / (np.sqrt(kept.sum(axis=1)) * math.sqrt(49))  # the cosine, as it is defined
    weight = np.sqrt(np.exp(-(distance**2) / 0.25**2))
    theirs = Ridge(alpha=1.0).fit(kept.astype(float), response, sample_weight=weight)
    np.testing.assert_allclose(lime.importance(kept, response), theirs.coef_.T, atol=1e-12)


def test_an_additive_response_gives_back_its_order() -> None:
    kept = np.random.default_rng(0).random((1000, N)) < 0.5
    worth = np.random.default_rng(1).permutation(N) * 1.0
    assert lime.ranking(lime.importance(kept, kept @ worth)).tolist() == np.argsort(-worth).tolist()


def test_chance_is_that_of_all_pairs_of_sets() -> None:
    sets = [set(each) for each in itertools.combinations(range(7), 3)]
    expected = np.mean([len(a & b) / len(a | b) for a in sets for b in sets])
    assert lime.chance(7, 3) == pytest.approx(expected, abs=1e-14)
    assert lime.chance(7, 7) == 1


def test_equal_rankings_agree_and_disjoint_tops_do_not() -> None:
    up, down = np.arange(N)[:, None], np.arange(N)[::-1, None].copy()
    assert lime.overlap([up, up, up], 5) == [1.0]
    assert lime.overlap([up, down], 5) == [0.0]
    assert lime.overlap([up, up, down], 5) == [pytest.approx(1 / 3)]
    assert lime.overlap([up, down], N) == [1.0]


def test_where_colours_do_not_matter_explanations_agree() -> None:
    """Its answer is how many cells are plain: whatever the colour, each hidden cell counts alike but for what the cell weighs."""
    worth = torch.arange(1.0, N + 1)

    def logits(images: Tensor) -> Tensor:
        cells = images.unflatten(2, (4, 16)).unflatten(4, (4, 16))  # (b, 3, 4, 16, 4, 16)
        textured = (cells.std(dim=(3, 5)).sum(dim=1) > 1e-3).flatten(1).float()
        plain = torch.zeros(len(images), 256)
        plain[:, 0] = (textured @ worth) / 30
        return plain

    found = measured(stability.Condition(masks=200, grid=GRID), network(logits))
    assert set(found) == {"agreement", "agreement_of_masks", "agreement_by_chance", "changed", "changed_at_random"}
    for top, agree in found["agreement"].items():
        assert agree.tolist() == [1.0] * 5
        assert (found["agreement_of_masks"][top] > lime.chance(N, math.floor(top * N)) + 0.2).all(), (
            "the noise of 200 masks"
        )
        assert found["agreement_by_chance"][top] == pytest.approx(lime.chance(N, math.floor(top * N)))
    assert list(found["agreement"]) == [top for top in stability.TOPS if top * N >= 1]


def test_where_only_the_colour_decides_they_do_not() -> None:
    """Its answer follows the left half's brightness: black there lowers it, white raises it, and the right half counts for nothing."""

    def logits(images: Tensor) -> Tensor:
        level = images.mean(dim=1).unflatten(1, (4, 16)).unflatten(3, (4, 16)).mean(dim=(2, 4)).flatten(1)
        weights = torch.linspace(1, 2, N).view(4, 4) * torch.tensor([1.0, 1, 0, 0])
        out = torch.zeros(len(images), 256)
        out[:, 0] = level @ weights.flatten()
        return out

    found = measured(stability.Condition(masks=400, grid=GRID, colours=8), network(logits))
    for agree in found["agreement"].values():
        assert (agree < 0.6).all()


def test_what_is_noise_agrees_no_better_with_other_masks() -> None:
    """Its answer is a hash of the picture: no cell adds anything, so that two sets of masks agree by chance, in one colour as in two."""

    def logits(images: Tensor) -> Tensor:
        out = torch.zeros(len(images), 256)
        out[:, 0] = (images.double().flatten(1) @ torch.arange(12288.0).double().sin() * 1e4).sin().float()
        return out

    found = measured(stability.Condition(masks=300, colours=2, grid=GRID), network(logits), images=40)
    for name in ("agreement", "agreement_of_masks"):
        mean, chance = found[name][0.25].mean(), lime.chance(N, 4)
        assert abs(mean - chance) < 4 * found[name][0.25].std() / math.sqrt(40)


def test_a_response_that_never_varies_has_no_ranking() -> None:
    def logits(images: Tensor) -> Tensor:
        return torch.eye(256)[:1].expand(len(images), -1)

    found = measured(stability.Condition(masks=20, colours=2, grid=GRID), network(logits))
    assert np.isnan(found["agreement"][0.25]).all()
    assert np.isnan(found["changed"][0.25]).all()


def test_the_top_carries_the_answer_where_one_cell_decides() -> None:
    def logits(images: Tensor) -> Tensor:
        out = torch.zeros(len(images), 256)
        out[:, 3] = images[:, :, 16:32, 32:48].mean(dim=(1, 2, 3)) * 8  # cell 6
        out[:, 9] = 1.0
        return out

    found = measured(stability.Condition(masks=200, colours=2, grid=GRID), network(logits), images=40)
    assert (found["changed"][0.075] == 1).all()  # one cell of 16
    assert 0 < found["changed_at_random"][0.075].mean() < 0.25  # 1 in 16 by chance
    kept: dict[tuple[str, tuple[float, ...]], Tensor] = {}
    measured(
        stability.Condition(masks=200, colours=2, grid=GRID),
        network(logits),
        exhibits=frozenset({"0"}),
        keep=lambda item, image, at=(), says="": kept.update({(item, at): image}),
    )
    assert (kept["0", (0.075,)][:, 16:32, 32:48] == 0).all()
    assert (kept["0", (0.075,)] == 0).all(dim=0).sum() == 256


def test_removed_tokens_have_no_colours_to_compare() -> None:
    vit = load_backbone("tiny:vit", device=torch.device("cpu"))
    found = measured(stability.Condition(masks=30, fill="token", grid=(8, 8)), vit)
    assert set(found) == {"agreement_of_masks", "agreement_by_chance", "changed", "changed_at_random"}
    assert len(found["changed"]) == len(stability.TOPS)


def test_everything_does_not_mean_thousands_of_passes() -> None:
    asked = {section.name for section in request.sections("all")}
    assert asked == set(study.names()) - {"stability"}
    assert [section.name for section in request.sections("stability")] == ["stability"]
