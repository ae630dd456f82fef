"""Laws and known answers of the high-norm patch tokens, planted in what leaves a block."""

import dataclasses
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measured import Values, measured
from PIL import Image
from test_inside_studies import CNN, VIT, images, load
from torch import Tensor

from visionvitals import study
from visionvitals.core import NO_IMAGES, Backbone
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.probes import norms, tokens
from visionvitals.run import parts
from visionvitals.studies import artefacts

REGISTERS = (
    "timm:vit_small_patch14_reg4_dinov2?pretrained=false&size=32&model.patch_size=8&model.depth=3"
    "&model.embed_dim=24&model.num_heads=2&model.num_classes=7"
)
N, PLACES, PREFIX, WIDTH = 40, 16, 2, 24
MIXTURE = artefacts.Condition()
DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
DEIT = DATA / "weights" / "deit_tiny_patch16_224.safetensors"


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load(VIT)


def job(backbone: Backbone, condition: Any = MIXTURE, **more: Any) -> Job:
    given: dict[str, Any] = {
        "ids": [f"i{k}" for k in range(N)],
        "pixels": np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8),
        "labels": np.zeros(N, dtype=np.int64),
        "batch_size": 16,
    }
    return Job(backbone=backbone, condition=condition, **(given | more))


def unit(seed: int = 0) -> Tensor:
    """Random tokens of length 1, (N, prefix + places, width)."""
    x = torch.randn(N, PREFIX + PLACES, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x / x.norm(dim=2, keepdim=True)).float()


@contextmanager
def leaving_last(backbone: Backbone, planted: Tensor) -> Any:
    """The last block gives the planted tokens, in the order of the images."""
    done = 0

    def give(x: Tensor) -> Tensor:
        nonlocal done
        done += len(x)
        return planted[done - len(x) : done]

    with tokens.entering(tokens.layout(backbone), 3, give):
        yield


def found(backbone: Backbone, planted: Tensor, condition: Any = MIXTURE, **more: Any) -> Values:
    with leaving_last(backbone, planted):
        return measured(artefacts, job(backbone, condition, **more))


def last(values: Values, metric: str) -> dict[str, float]:
    return {item: value for (item, name, at), value in values.items() if name == metric and at == (3,)}


def planted(rows: int = N, factor: float = 10.0) -> tuple[Tensor, np.ndarray]:
    """One of the 16 patches of `rows` of the images is longer; which, (rows,)."""
    x = unit()
    where = np.random.default_rng(1).integers(0, PLACES, rows)
    for row, place in enumerate(where.tolist()):
        x[row, PREFIX + place] *= factor
    return x, where


@pytest.mark.parametrize("rows", [1, 10, N])
def test_planted_outliers_are_counted_exactly(vit: Backbone, rows: int) -> None:
    x, where = planted(rows)
    values = found(vit, x)
    share = last(values, "outlier_share")
    assert share == {f"i{k}": 1 / 16 if k < rows else 0 for k in range(N)}
    border = last(values, "border_share")
    ring = np.ones((4, 4), dtype=bool)
    ring[1:3, 1:3] = False
    assert border == {f"i{k}": float(ring.ravel()[place]) for k, place in enumerate(where)}
    (threshold,) = set(last(values, "norm_threshold").values())
    assert 1 < threshold < 10
    ratio = last(values, "norm_ratio")
    assert list(ratio.values()) == pytest.approx([10.0] * rows + [1.0] * (N - rows), rel=1e-5)
    cosine = last(values, "class_cosine")
    for k, place in enumerate(where):
        expected = torch.nn.functional.cosine_similarity(x[k, 0], x[k, PREFIX + int(place)], dim=0)
        assert cosine[f"i{k}"] == pytest.approx(float(expected), abs=1e-6)


def test_prefix_tokens_are_never_counted(vit: Backbone) -> None:
    """The class token and the next one are a thousand times as long."""
    x = unit()
    x[:, :PREFIX] *= 1000
    values = found(vit, x)
    assert set(last(values, "outlier_share").values()) == {0.0}
    assert max(last(values, "norm_ratio").values()) == pytest.approx(1, abs=1e-5)
    assert not last(values, "border_share")


def test_a_long_register_is_no_outlier() -> None:
    backbone = load(REGISTERS)
    assert (backbone.card.prefix_tokens, backbone.card.registers) == (5, 4)
    x = torch.cat([unit()[:, :3], unit(1)], dim=1)
    x[:, 1:5] *= 1000
    values = found(backbone, x)
    assert set(last(values, "outlier_share").values()) == {0.0}
    assert max(last(values, "norm_ratio").values()) == pytest.approx(1, abs=1e-5)


def test_a_factor_scales_the_threshold_and_leaves_the_shares(vit: Backbone) -> None:
    x, _ = planted(12)
    x = x * (1 + 0.1 * torch.rand(N, PREFIX + PLACES, 1, generator=torch.Generator().manual_seed(5)))
    one, four = found(vit, x), found(vit, 4 * x)
    for metric in ("outlier_share", "norm_ratio", "border_share"):
        assert last(one, metric) == pytest.approx(last(four, metric))
    (a,), (b,) = (set(last(v, "norm_threshold").values()) for v in (one, four))
    assert b == pytest.approx(4 * a, rel=1e-5)


def test_turning_the_places_turns_the_map_and_nothing_else(vit: Backbone) -> None:
    x, where = planted(N)
    order = torch.from_numpy(np.random.default_rng(2).permutation(PLACES))
    turned = torch.cat([x[:, :PREFIX], x[:, PREFIX:][:, order]], dim=1)
    pictures: list[Tensor] = []

    def keep(item: str, image: Tensor, at: Any = (), says: str = "") -> None:
        if at == (3,) and item == "i4":
            pictures.append(image[0, ::8, ::8].flatten())
            assert says == "1 of 16 high"

    shown: dict[str, Any] = {"exhibits": frozenset({"i4"}), "keep": keep}
    one, other = found(vit, x, **shown), found(vit, turned, **shown)
    assert last(one, "outlier_share") == last(other, "outlier_share")
    assert torch.equal(pictures[0][order], pictures[1])
    assert int(pictures[0].argmax()) == where[4]


def test_how_often_each_place_is_an_outlier_is_a_picture(vit: Backbone) -> None:
    x = unit()
    x[:10, PREFIX + 5] *= 10
    x[:5, PREFIX + 3] *= 10
    kept: dict[Any, tuple[Tensor, str]] = {}
    found(
        vit,
        x,
        exhibits=frozenset({"i0"}),
        keep=lambda item, image, at=(), says="": kept.update({(item, at): (image[0, ::8, ::8].flatten(), says)}),
    )
    map_, says = kept["share of images with an outlier", (3,)]
    assert (map_ * 255).round().tolist() == [255 if k == 5 else 128 if k == 3 else 0 for k in range(PLACES)]
    assert says == "at most 25% of images"
    assert ("share of images with an outlier", (1,)) not in kept


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (artefacts.Condition(rule="fixed", threshold=5.0), 1 / 16),
        (artefacts.Condition(rule="fixed", threshold=20.0), 0),
        (artefacts.Condition(rule="fixed", threshold=0.5), 1),
        (artefacts.Condition(rule="median"), 1 / 16),
    ],
)
def test_rules_without_a_mixture(vit: Backbone, condition: Any, expected: float) -> None:
    x, _ = planted()
    values = found(vit, x, condition)
    assert set(last(values, "outlier_share").values()) == {expected}
    assert not last(values, "norm_threshold")
    assert not set(
        last(found(vit, planted(factor=2.9)[0], artefacts.Condition(rule="median")), "outlier_share").values()
    ) - {0}


def test_an_image_that_is_not_finite_has_no_value_and_harms_no_other(vit: Backbone) -> None:
    x, _ = planted(10)
    x[3, PREFIX + 1, 0] = float("inf")
    share = last(found(vit, x), "outlier_share")
    assert np.isnan(share["i3"])
    assert {k: v for k, v in share.items() if k != "i3"} == {
        f"i{k}": 1 / 16 if k < 10 else 0 for k in range(N) if k != 3
    }


@pytest.mark.parametrize("condition", [artefacts.Condition(), artefacts.Condition(rule="median")], ids=str)
def test_neither_batch_nor_order_matters(vit: Backbone, condition: Any) -> None:
    first = job(vit, condition)
    whole = measured(artefacts, first)
    order = np.random.default_rng(1).permutation(N)
    turned: dict[str, Any] = {"ids": [first.ids[k] for k in order], "pixels": first.pixels[order]}
    for more in ({"batch_size": 1}, {"batch_size": 7}, turned):
        again = measured(artefacts, job(vit, condition, **more))
        assert again.keys() == whole.keys()
        assert all(again[key] == pytest.approx(whole[key], abs=1e-5) for key in whole)


def test_norms_are_those_before_the_final_norm(vit: Backbone) -> None:
    made = job(vit, artefacts.Condition(rule="median"))
    where = tokens.layout(vit)
    with torch.inference_mode():
        seen, _ = tokens.record(vit, images(made), where)
    expected = seen[-1][:, where.prefix :].norm(dim=2).median(dim=1).values
    median = last(measured(artefacts, made), "median_norm")
    lower = torch.tensor(list(median.values()))
    assert (lower >= expected - 1e-5).all(), "of an even number, between the two in the middle"
    assert (lower <= expected * 1.2).all()


def test_only_the_mixture_needs_all_images() -> None:
    made = study.load("artefacts")
    assert parts.of(made, artefacts.Condition(), 10_000) == [range(10_000)]
    assert len(parts.of(made, artefacts.Condition(rule="median"), 10_000)) == 3


def test_what_cannot_be_measured_is_refused_with_the_reason(vit: Backbone) -> None:
    plain = artefacts.Condition()
    assert artefacts.refusal(plain, vit.card, NO_IMAGES) is None
    assert "test_resnet has stages of feature maps" in (artefacts.refusal(plain, load(CNN).card, NO_IMAGES) or "")
    bare = dataclasses.replace(vit.card, provides=())
    assert "has no patch tokens" in (artefacts.refusal(plain, bare, NO_IMAGES) or "")
    no = artefacts.refusal(artefacts.Condition(rule="fixed"), vit.card, NO_IMAGES)
    assert no == "`rule = fixed` needs a `threshold` above 0"
    no = artefacts.refusal(artefacts.Condition(rule="median", threshold=2.0), vit.card, NO_IMAGES)
    assert no == "`rule = median` finds its threshold itself; `threshold` must be 0"
    with pytest.raises(VitalsError, match="`rule` must be one of mixture, fixed, median"):
        artefacts.Condition(rule="percentile")  # type: ignore[arg-type]
    with pytest.raises(VitalsError, match="`threshold` must be a norm, not negative"):
        artefacts.Condition(rule="fixed", threshold=-1.0)


# --- the mixture


def drawn(seed: int, *parts: tuple[int, float, float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(mean, std, n) for n, mean, std in parts])


@pytest.mark.parametrize("n", [64, 196, 3000])
def test_one_gaussian_has_no_outliers(n: int) -> None:
    for seed in range(20):
        mixture = norms.fit(drawn(seed, (n, 10, 1)))
        assert mixture is None or mixture.threshold() == np.inf


def test_a_long_tail_without_a_gap_has_none() -> None:
    for spread in (0.2, 0.5):
        mixture = norms.fit(np.exp(np.random.default_rng(0).normal(3, spread, 4000)))
        assert mixture is not None
        assert mixture.overlap() > norms.MOST_OVERLAP
        assert mixture.threshold() == np.inf


@pytest.mark.parametrize(("upper", "apart"), [(50, True), (190, True), (210, False), (1000, False)])
def test_an_upper_part_of_more_than_a_tenth_is_no_outlier(upper: int, apart: bool) -> None:
    mixture = norms.fit(drawn(0, (2000 - upper, 10, 1), (upper, 40, 2)))
    assert mixture is not None
    assert mixture.overlap() < 1e-6
    assert mixture.weights[1] == pytest.approx(upper / 2000, abs=1e-3)
    assert mixture.means == pytest.approx((10, 40), abs=0.5)
    assert (mixture.threshold() < np.inf) == apart


def test_a_small_upper_part_within_the_lower_one_is_none() -> None:
    """It shares less than 2 % of area wherever it lies."""
    hidden = norms.Mixture((0.99, 0.01), (10.0, 12.0), (1.0, 0.2))
    assert hidden.overlap() < norms.MOST_OVERLAP
    assert hidden.threshold() == np.inf
    assert norms.Mixture((0.99, 0.01), (10.0, 20.0), (1.0, 0.2)).threshold() < 20


@pytest.mark.parametrize(
    "mixture",
    [
        norms.Mixture((0.9, 0.1), (10.0, 14.0), (1.0, 2.0)),
        norms.Mixture((0.5, 0.5), (0.0, 1.0), (1.0, 1.0)),
        norms.Mixture((0.3, 0.7), (0.0, 0.5), (2.0, 0.1)),
        norms.Mixture((0.999, 0.001), (0.0, 0.1), (1.0, 1.0)),
    ],
)
def test_overlap_and_crossing_are_those_of_the_densities(mixture: norms.Mixture) -> None:
    from scipy.stats import norm

    x = np.linspace(-30, 40, 700_001)
    low, high = (w * norm.pdf(x, m, s) for w, m, s in zip(*mixture, strict=True))
    assert mixture.overlap() == pytest.approx(float(np.minimum(low, high).sum() * (x[1] - x[0])), abs=1e-5)
    for place in mixture.crossings():
        a, b = (w * norm.pdf(place, m, s) for w, m, s in zip(*mixture, strict=True))
        assert a == pytest.approx(b, rel=1e-6)


def test_the_fit_does_not_know_the_order_and_follows_a_factor() -> None:
    x = drawn(1, (3000, 10, 1), (60, 30, 3))
    one = norms.fit(x)
    assert one is not None
    assert norms.fit(np.random.default_rng(3).permutation(x)) == one
    eight = norms.fit(8 * x)
    assert eight is not None
    assert eight.means == pytest.approx(tuple(8 * m for m in one.means))
    assert eight.threshold() == pytest.approx(8 * one.threshold())


def test_the_fit_is_that_of_scikit_learn() -> None:
    from sklearn.mixture import GaussianMixture

    x = drawn(2, (6000, 10, 1), (300, 20, 2))
    known = GaussianMixture(2, n_init=3, random_state=0, tol=1e-8, max_iter=1000).fit(x[:, None])
    low, high = np.argsort(known.means_.ravel())
    mixture = norms.fit(x)
    assert mixture is not None
    np.testing.assert_allclose(mixture.weights, known.weights_[[low, high]], atol=2e-3)
    np.testing.assert_allclose(mixture.means, known.means_.ravel()[[low, high]], rtol=1e-2)
    np.testing.assert_allclose(mixture.stds, known.covariances_.ravel()[[low, high]] ** 0.5, rtol=2e-2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 50, [0.0] * 50])
def test_what_has_no_two_kinds_has_no_mixture(values: list[float]) -> None:
    assert norms.fit(np.array(values)) is None


# --- a real network


@pytest.mark.real
@pytest.mark.skipif(not DEIT.is_file(), reason="VISIONVITALS_REAL_DATA names no folder")
def test_deit_tiny_has_a_tail_of_long_tokens_in_its_late_blocks() -> None:
    backbone = load(f"timm:deit_tiny_patch16_224@{DEIT}")
    folders = sorted(folder for folder in (DATA / "imagenet_sample").iterdir() if folder.is_dir())[::15][:20]
    pictures = [Image.open(min(folder.iterdir())).convert("RGB").resize((224, 224)) for folder in folders]
    made = job(
        backbone,
        ids=[folder.name for folder in folders],
        pixels=np.stack([np.asarray(picture) for picture in pictures]),
        labels=np.zeros(20, dtype=np.int64),
    )
    ratio: dict[int, list[float]] = {}
    for (_, metric, (block,)), value in measured(artefacts, made).items():  # type: ignore[misc]
        if metric == "norm_ratio":
            ratio.setdefault(block, []).append(value)  # type: ignore[arg-type]
    means = {block: float(np.mean(each)) for block, each in ratio.items()}
    assert set(means) == set(range(1, 13))
    assert max(means[block] for block in range(1, 6)) < 1.6
    assert 1.8 < means[11] < 2.6
