"""Laws of the corruptions: range, severity, the same bits for any batch, keys, grey and oblong images, refusals."""

from pathlib import Path

import pytest
import torch
from corruption_inputs import keys, photographs
from PIL import Image

from visionvitals.errors import VitalsError
from visionvitals.perturb.corruptions import COMMON, CORRUPTIONS, EXTRA, SEVERITIES, corrupt, smallest_side
from visionvitals.probes import mce

NAMES = list(CORRUPTIONS)
FIXED = {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
}
"""What draws no random numbers."""
UNEVEN = {"elastic_transform", "frost", "glass_blur", "snow", "spatter", "saturate"}
"""Whose published constants do not grow with severity, or change in kind; AlexNet's errors are uneven there too."""


def test_the_names_are_the_benchmarks() -> None:
    assert tuple(COMMON) == mce.COMMON
    assert tuple(EXTRA) == mce.EXTRA
    assert [*COMMON, *EXTRA, "rain"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_8_bit_and_the_input_untouched(name: str) -> None:
    images = photographs(2)
    before = images.clone()
    for severity in SEVERITIES:
        out = corrupt(name, images, severity, keys(2))
        levels = out * 255
        assert out.shape == images.shape
        assert out.dtype == torch.float32
        assert (levels - levels.round()).abs().max() < 1e-4
        assert 0 <= out.min() <= out.max() <= 1
        assert torch.equal(images, before)
        assert not torch.equal(out, images)


@pytest.mark.parametrize("name", NAMES)
def test_more_severity_is_further_away(name: str) -> None:
    images = photographs(6)
    away = [float((corrupt(name, images, s, keys(6)) - images).abs().mean()) for s in SEVERITIES]
    if name not in UNEVEN:
        assert away == sorted(away)
        assert away[0] < 0.9 * away[4]
    assert min(away) > 0.001
    assert max(away) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_in_the_batch_do_not_count(name: str) -> None:
    images, k = photographs(5), keys(5)
    for severity in (1, 4):
        whole = corrupt(name, images, severity, k)
        parts = [corrupt(name, images[p], severity, k[p]) for p in (slice(0, 1), slice(1, 4), slice(4, 5))]
        assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_computed_at_once_is_the_same_up_to_rounding(name: str) -> None:
    """As on a GPU, where images are not taken one by one."""
    images, k = photographs(3), keys(3)
    for severity in (2, 5):
        raw = CORRUPTIONS[name](images.clone(), severity, k)
        one = torch.cat([CORRUPTIONS[name](images[i : i + 1].clone(), severity, k[i : i + 1]) for i in range(3)])
        assert (raw - one).abs().max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_the_only_source_of_chance(name: str) -> None:
    images = photographs(1).expand(3, -1, -1, -1).contiguous()
    first = corrupt(name, images, 3, keys(3))
    torch.manual_seed(1)
    assert torch.equal(first, corrupt(name, images, 3, keys(3)))
    other = corrupt(name, images, 3, keys(3, "y"))
    if name in FIXED:
        assert torch.equal(first, other)
        assert torch.equal(first[0], first[1])
    else:
        assert not torch.equal(first, other)
        assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(49, 80), (90, 51)])
def test_any_resolution(name: str, size: tuple[int, int]) -> None:
    out = corrupt(name, photographs(1, size), 5, keys(1))
    assert out.shape == (1, 3, *size)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_images(name: str, level: float) -> None:
    out = corrupt(name, torch.full((1, 3, 56, 56), level), 5, keys(1))
    assert out.isfinite().all()
    if name in {"defocus_blur", "motion_blur", "glass_blur", "zoom_blur", "gaussian_blur", "contrast", "pixelate"}:
        assert (out == level).all(), "an even image stays as it is"


@pytest.mark.parametrize("name", sorted({*NAMES} - {"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"}))
def test_grey_stays_grey_where_the_benchmark_keeps_it(name: str) -> None:
    images = photographs(1)[:, :1].expand(-1, 3, -1, -1).contiguous()
    for severity in (1, 5):
        out = corrupt(name, images, severity, keys(1))
        spread = float((out.amax(1) - out.amin(1)).max())
        coloured = {"frost", "spatter"} | ({"saturate"} if severity == 5 else set())  # ice, water and mud; hue 0 is red
        assert (spread > 0.05) if name in coloured else (spread < 0.02)


def test_too_small_an_image_is_refused() -> None:
    for name in NAMES:
        side = smallest_side(name, 5)
        assert corrupt(name, photographs(1, (side, side + 3)), 5, keys(1)).isfinite().all()
    with pytest.raises(VitalsError, match=r"motion_blur at severity 5 looks at 41 px, the shorter side\. Got 40"):
        corrupt("motion_blur", photographs(1, (40, 60)), 5, keys(1))


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [("gausian_noise", 1, "Did you mean gaussian_noise"), ("fog", 0, "`severity` must be"), ("fog", 6, "Got 6")],
)
def test_what_has_no_meaning_is_refused(name: str, severity: int, said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        corrupt(name, photographs(1), severity, keys(1))


def test_frost_lays_a_part_of_a_picture_over_the_image(tmp_path: Path) -> None:
    levels = (10, 60, 110, 160, 210, 255)
    for k, level in enumerate(levels):
        side = 40 if k == 0 else 90  # the first one is too small and is enlarged
        Image.new("RGB", (side, side + 20), (level, level, level)).save(tmp_path / f"frost{k}.png")
    images = torch.full((80, 3, 64, 64), 0.2)
    out = corrupt("frost", images, 4, keys(80), frost_folder=str(tmp_path))
    found = {round(float(v) * 255) for v in out[:, 0, 0, 0]}
    assert all(len(one.unique()) == 1 for one in out)
    assert found == {int(min(255.0, 0.65 * 51 + 0.7 * level + 1e-3)) for level in levels[:5]}, "the sixth is never used"


def test_frost_says_what_its_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match="must exist"):
        corrupt("frost", photographs(1), 1, keys(1), frost_folder=str(tmp_path / "no"))
    (tmp_path / "text.txt").touch()
    with pytest.raises(VitalsError, match="must hold pictures of frost"):
        corrupt("frost", photographs(1), 1, keys(1), frost_folder=str(tmp_path))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_agrees_within_rounding(name: str) -> None:
    images, k = photographs(4, (224, 224)), keys(4)
    for severity in (1, 5):
        ours = corrupt(name, images, severity, k)
        theirs = corrupt(name, images.cuda(), severity, k.cuda()).cpu()
        away = (ours - theirs).abs()
        assert (away > 1.5 / 255).float().mean() < 1e-3
        assert (away > 0).float().mean() < 0.02
