"""Laws and known answers of the mass rule and of the sources of its weights."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from visionvitals.errors import VitalsError
from visionvitals.perturb import patches, saliency

WEIGHTS = torch.rand(8, 49, generator=torch.Generator().manual_seed(0)) ** 4
MASSES = [0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.95]


def slow_salient(weights: list[float], mass: float) -> list[bool]:
    """The rule in exact arithmetic: from the largest down, the lower index first, until the sum is reached."""
    exact = [Fraction(w) for w in weights]
    wanted = Fraction(str(mass)) * sum(exact)
    dropped, held = [False] * len(exact), Fraction(0)
    for k in sorted(range(len(exact)), key=lambda k: (-exact[k], k)):
        if held >= wanted:
            break
        dropped[k], held = True, held + exact[k]
    return dropped


@pytest.mark.parametrize("mass", [0.0, *MASSES, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_salient_is_the_rule_in_exact_arithmetic(mass: float, dtype: torch.dtype) -> None:
    weights = WEIGHTS.to(dtype)
    assert saliency.salient_drop(weights, mass).tolist() == [slow_salient(row, mass) for row in weights.tolist()]


@pytest.mark.parametrize("mass", MASSES)
def test_the_chosen_mass_reaches_the_target_and_not_without_the_last_patch(mass: float) -> None:
    chosen = saliency.salient_drop(WEIGHTS, mass)
    share = WEIGHTS.double() / WEIGHTS.double().sum(dim=1, keepdim=True)
    held = (share * chosen).sum(dim=1)
    last = share.masked_fill(~chosen, 2).amin(dim=1)
    assert (held >= mass).all()
    assert (held - last < mass).all()


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize(
    "weights", [WEIGHTS, torch.ones(2, 10), torch.ones(2, 196).half()], ids=["random", "10", "196"]
)
def test_salient_and_non_salient_split_the_cells(weights: torch.Tensor, mass: float) -> None:
    assert torch.equal(saliency.salient_drop(weights, mass), ~saliency.non_salient_drop(weights, 1 - mass))
    assert torch.equal(saliency.salient_drop(weights, 1 - mass), ~saliency.non_salient_drop(weights, mass))


@pytest.mark.parametrize("mass", MASSES)
def test_non_salient_holds_at_most_its_mass_and_would_not_with_one_more(mass: float) -> None:
    gone = saliency.non_salient_drop(WEIGHTS, mass)
    share = WEIGHTS.double() / WEIGHTS.double().sum(dim=1, keepdim=True)
    held = (share * gone).sum(dim=1)
    following = share.masked_fill(gone, 2).amin(dim=1)
    assert (held <= mass).all()
    assert (held + following > mass).all()


def test_equal_weights_go_by_index_and_sevenths_of_ten_are_seven() -> None:
    for count in range(11):
        dropped = saliency.salient_drop(torch.ones(1, 10), count / 10)
        assert dropped[0].tolist() == [k < count for k in range(10)]


def test_drops_are_nested_in_mass_and_blind_to_scale() -> None:
    grown = [saliency.salient_drop(WEIGHTS, mass) for mass in MASSES]
    assert all((larger | ~smaller).all() for smaller, larger in pairwise(grown))
    for scale in (2.0**-60, 2.0**60):
        assert torch.equal(saliency.salient_drop(WEIGHTS * scale, 0.5), saliency.salient_drop(WEIGHTS, 0.5))
    huge = torch.full((1, 4), torch.finfo(torch.float64).max, dtype=torch.float64)
    assert saliency.salient_drop(huge, 0.5).tolist() == [[True, True, False, False]]


def test_float16_sums_neither_round_nor_overflow() -> None:
    """4,096 equal weights of 60,000 add up to 2.5e8, and 2,049 ones to 2,048 in float16."""
    dropped = saliency.salient_drop(torch.full((1, 4096), 60000.0, dtype=torch.float16), 0.75)
    assert int(dropped.sum()) == 3072


def test_cells_without_weight_are_never_salient() -> None:
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0]])
    assert saliency.salient_drop(weights, 1.0).tolist() == [[False, True, False, True]]
    assert saliency.non_salient_drop(weights, 0.0).tolist() == [[True, False, True, False]]


def test_shares_tell_mass_and_pixels_apart() -> None:
    weights = torch.tensor([[6.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    share = saliency.shares(weights, saliency.salient_drop(weights, 0.5))
    assert share.mass.tolist() == [0.6, 0.5]
    assert share.pixels.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("bad", [[0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")], [1.0, -0.1]])
def test_weights_that_cannot_rank_are_refused_and_named(bad: list[float]) -> None:
    weights = torch.tensor([[1.0, 2.0], bad])
    assert saliency.usable(weights).tolist() == [True, False]
    with pytest.raises(VitalsError, match=r"finite, not negative and not all zero.*positions \[1\] of 2"):
        saliency.salient_drop(weights, 0.5)


@pytest.mark.parametrize("mass", [-0.1, 1.1, float("nan")])
def test_a_mass_outside_the_unit_interval_is_refused(mass: float) -> None:
    for rule in (saliency.salient_drop, saliency.non_salient_drop):
        with pytest.raises(VitalsError, match=r"`mass` must be in \[0, 1\]"):
            rule(WEIGHTS, mass)


def test_a_mask_becomes_the_share_of_each_cell_and_drops_the_object() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 4:8, 4:8] = True  # all of cell 5 of a 2 x 4 grid of 4 x 2 px, and of cell 6 ...
    mask[0, 4:8, 5] = False  # ... less half of the former
    mask[0, 0, 0] = True  # one pixel of eight in cell 0
    weights = saliency.from_mask(mask, (2, 4))
    assert weights.tolist() == [[0.125, 0, 0, 0, 0, 0, 0.5, 1.0]]
    covered = patches.to_pixels(saliency.salient_drop(weights, 1.0), (2, 4), (8, 8))[:, 0]
    assert (covered | ~mask).all()


def test_a_gradient_is_summed_over_channels_and_pixels_without_overflow() -> None:
    gradient = torch.zeros(1, 3, 4, 4, dtype=torch.float16)
    gradient[0, :, :2, :2] = -60000.0
    gradient[0, 1, 3, 3] = 0.5
    assert saliency.from_gradient(gradient, (2, 2)).tolist() == [[720000.0, 0, 0, 0.5]]


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(VitalsError, match="must divide the 8x8 image"):
        saliency.from_mask(torch.ones(1, 8, 8, dtype=torch.bool), (3, 4))


def test_the_best_head_is_the_one_on_the_object() -> None:
    foreground = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]])
    attention = torch.tensor([[1.0, 1.0, 2.0], [8.0, 0.0, 0.0], [0.0, 1.0, 3.0]]).expand(2, 3, 3).half()
    overlap = saliency.foreground_overlap(attention, foreground)
    assert overlap.tolist() == [[0.625, 0.0, 0.875], [0.25, 1.0, 0.0]]
    assert saliency.best_foreground_head(attention, foreground).tolist() == [2, 1]
    with pytest.raises(VitalsError, match="the true mask"):
        saliency.best_foreground_head(attention, torch.zeros(2, 3))
