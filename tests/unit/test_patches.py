"""Laws and known answers of the patch perturbations."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from visionvitals import randomness
from visionvitals.errors import VitalsError
from visionvitals.perturb import patches

IDS = [f"image-{i}" for i in range(6)]
KEYS = randomness.stream(0, IDS, "test")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def test_drop_counts_are_the_published_ones() -> None:
    counts = [patches.drop_count(d / 10, 196) for d in range(10)]
    assert counts == [0, 19, 39, 58, 78, 98, 117, 137, 156, 176]


@pytest.mark.parametrize(("fraction", "n", "count"), [(0.29, 100, 29), (0.57, 100, 57), (1.0, 7, 7), (0.999, 7, 6)])
def test_a_drop_count_is_the_floor_of_the_exact_product(fraction: float, n: int, count: int) -> None:
    assert patches.drop_count(fraction, n) == count


@pytest.mark.parametrize("fraction", [-0.1, 1.4])
def test_a_fraction_outside_the_unit_interval_is_refused(fraction: float) -> None:
    with pytest.raises(VitalsError, match=r"`fraction` must be in \[0, 1\]. Got"):
        patches.drop_count(fraction, 196)


@pytest.mark.parametrize("n", [196, 50176])
def test_random_drops_have_the_exact_count_and_are_nested(n: int) -> None:
    smaller = patches.random_drop(KEYS, n, n // 5)
    larger = patches.random_drop(KEYS, n, n // 2)
    assert smaller.sum(dim=1).tolist() == [n // 5] * 6
    assert larger.sum(dim=1).tolist() == [n // 2] * 6
    assert (larger | ~smaller).all()
    assert not torch.equal(smaller[0], smaller[1])
    assert not patches.random_drop(KEYS, n, 0).any()
    assert patches.random_drop(KEYS, n, n).all()


def test_every_cell_is_dropped_equally_often() -> None:
    keys = randomness.stream(0, [str(i) for i in range(4000)], "frequency")
    share = patches.random_drop(keys, 16, 4).float().mean(dim=0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("count", "nominal", "true"), [(58, 0.296, 0.275), (98, 0.50, 0.465), (137, 0.699, 0.650), (176, 0.898, 0.835)]
)
def test_the_offset_grid_loses_less_than_its_name_says(count: int, nominal: float, true: float) -> None:
    keys = randomness.stream(0, [str(i) for i in range(300)], "offset")
    dropped = patches.random_drop(keys, 196, count)
    plain = patches.to_pixels(dropped, (14, 14), (224, 224)).float().mean()
    shifted = patches.to_pixels(dropped, (14, 14), (224, 224), offset=8)
    assert float(plain) == pytest.approx(nominal, abs=5e-4)
    assert float(shifted.float().mean()) == pytest.approx(true, abs=2e-3)
    assert not shifted[..., :8, :].any()
    assert not shifted[..., :8].any()


def test_a_mask_covers_exactly_its_cells() -> None:
    dropped = torch.zeros(1, 8, dtype=torch.bool)
    dropped[0, 5] = True  # second row, second column of a 2 x 4 grid
    pixels = patches.to_pixels(dropped, (2, 4), (8, 8))[0, 0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:8, 2:4] = True
    assert torch.equal(pixels, expected)


def test_occlusion_touches_nothing_else(images: torch.Tensor) -> None:
    pixels = patches.to_pixels(patches.random_drop(KEYS, 196, 98), (14, 14), (224, 224))
    black = patches.fill_pixels("black", images, KEYS, mean=(0.5, 0.5, 0.5))
    out = patches.occlude(images, pixels, black)
    kept = ~pixels.expand_as(out)
    assert torch.equal(out[kept], images[kept])
    assert not out[~kept].any()


@pytest.mark.parametrize("fill", ["black", "mean", "gray", "noise", "blur"])
def test_a_fill_stays_in_range_and_belongs_to_the_image(fill: patches.Fill, images: torch.Tensor) -> None:
    mean = (0.485, 0.456, 0.406)
    whole = patches.fill_pixels(fill, images, KEYS, mean=mean)
    assert whole.min() >= 0
    assert whole.max() <= 1 + 1e-5
    alone = patches.fill_pixels(fill, images[3:4], KEYS[3:4], mean=mean)
    assert torch.allclose(whole.expand_as(images)[3:4], alone.expand(1, 3, 224, 224), atol=1e-6)


def test_the_mean_fill_is_zero_after_normalisation(images: torch.Tensor) -> None:
    mean = (0.485, 0.456, 0.406)
    fill = patches.fill_pixels("mean", images, KEYS, mean=mean)
    assert torch.equal(fill - torch.tensor(mean).view(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("grid", [(2, 2), (2, 4), (14, 14), (16, 16), (224, 224)])
def test_a_shuffle_keeps_the_pixels_and_can_be_undone(grid: patches.Grid, images: torch.Tensor) -> None:
    order = randomness.permutation(KEYS, grid[0] * grid[1])
    out = patches.shuffle(images, order, grid)
    assert not torch.equal(out, images)
    assert torch.equal(out.flatten(2).sort(dim=2).values, images.flatten(2).sort(dim=2).values)
    assert torch.equal(patches.shuffle(out, order.argsort(dim=1), grid), images)


def test_a_shuffle_puts_cell_order_k_at_place_k() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    out = patches.shuffle(image, torch.tensor([[2, 0, 3, 1]]), (2, 2))
    assert out[0, 0].flatten().tolist() == [2, 0, 3, 1]


def test_a_grid_that_does_not_divide_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(VitalsError, match=r"must divide the 224x224 image. Got \(5, 5\)"):
        patches.shuffle(images, randomness.permutation(KEYS, 25), (5, 5))


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(embed_dim=32, depth=2, num_heads=2, num_classes=7, pos_embed="none")
    return model.eval()


@pytest.mark.parametrize(
    ("grid", "invariant"),
    [((14, 14), True), ((7, 7), True), ((2, 2), True), ((4, 4), False), ((8, 8), False), ((16, 16), False)],
)
def test_without_position_encoding_only_misaligned_shuffles_are_seen(
    grid: patches.Grid, invariant: bool, vit: VisionTransformer, images: torch.Tensor
) -> None:
    """224/16 = 14 patches a side: cells of whole patches are unions of tokens, and attention without positions is a set function.

    The 2 x 2 and 7 x 7 cells are unions of whole patches, so the tokens are the same set in another order."""
    order = randomness.permutation(KEYS, grid[0] * grid[1])
    with torch.no_grad():
        change = (vit(patches.shuffle(images, order, grid)) - vit(images)).abs().max() / vit(images).abs().max()
    assert (float(change) < 1e-5) == invariant


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_the_corner_paste_is_aligned_to_the_patch_grid(corner: patches.Corner, images: torch.Tensor) -> None:
    out = patches.paste_in_corner(images.clamp(min=0.01), (128, 128), corner)
    by_patch = (out > 0).view(6, 3, 14, 16, 14, 16).permute(0, 1, 2, 4, 3, 5).flatten(4)
    assert torch.equal(by_patch.any(dim=-1), by_patch.all(dim=-1))  # every 16-px patch is all image or all canvas
    rows = by_patch.any(dim=-1)[0, 0].any(dim=1).nonzero().flatten().tolist()
    columns = by_patch.any(dim=-1)[0, 0].any(dim=0).nonzero().flatten().tolist()
    assert rows == (list(range(8)) if corner.startswith("top") else list(range(6, 14)))
    assert columns == (list(range(8)) if corner.endswith("left") else list(range(6, 14)))


def test_a_paste_larger_than_the_canvas_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(VitalsError, match="must fit into the 224x224 canvas"):
        patches.paste_in_corner(images, (256, 256), "top-left")


@pytest.mark.parametrize("fill", ["black", "mean", "gray", "noise", "blur"])
@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (16, 16), (1, 1)])
def test_occluding_by_cells_is_occluding_by_pixels(fill: patches.Fill, grid: tuple[int, int]) -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    keys = randomness.stream(0, ["a", "b", "c"], "x")
    n = grid[0] * grid[1]
    dropped = patches.random_drop(keys, n, n // 2)
    shown = patches.fill_pixels(fill, images, keys, mean=(0.4, 0.5, 0.6))
    by_pixels = patches.occlude(images, patches.to_pixels(dropped, grid, (16, 16)), shown)
    assert torch.equal(patches.occlude_cells(images, dropped, grid, shown), by_pixels)
