"""`vitals show`: a picture for each kind, the reasons where there is none, and the layout of the sheet."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visionvitals import cli
from visionvitals.show import _paint, _sheet
from visionvitals.show._draw import KINDS

VIT = "tiny:vit"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A picture of the embedded set, and its mask."""
    from visionvitals.plan import planner

    folder = tmp_path_factory.mktemp("show")
    example = planner.open_images("shapes:test?n=1&size=128")[0]
    assert example.mask is not None
    example.image.save(folder / "one.png")
    Image.fromarray(example.mask.astype(np.uint8) * 255).save(folder / "mask.png")
    return folder / "one.png", folder / "mask.png"


def show(*words: object) -> int:
    return cli.main(["show", *map(str, words)])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as drawn:
        return np.asarray(drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_and_its_file_named(
    kind: str, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"{kind}.png"
    assert show(kind, "--image", files[0], "--mask", files[1], "--model", VIT, "--out", out) == 0
    assert capsys.readouterr().out.strip() == str(out)
    drawn = pixels(out)
    assert drawn.shape[1] >= 900
    assert (drawn[:20] == 255).all()
    assert drawn.std() > 20
    again = tmp_path / "again.png"
    assert show(kind, "--image", files[0], "--mask", files[1], "--model", VIT, "--out", again) == 0
    assert np.array_equal(drawn, pixels(again))


def test_several_networks_are_below_each_other(files: tuple[Path, Path], tmp_path: Path, toy_backbone: str) -> None:
    heights = []
    for models in ([VIT], [VIT, toy_backbone]):
        out = tmp_path / f"{len(models)}.png"
        assert show("occlusion", "--image", files[0], *(w for m in models for w in ("--model", m)), "--out", out) == 0
        with Image.open(out) as drawn:
            heights.append(drawn.height)
    assert heights[1] > 1.5 * heights[0]


def test_a_class_token_that_joins_late_is_not_cut_from_the_patches(files: tuple[Path, Path], tmp_path: Path) -> None:
    late = "timm:cait_xxs24_224?pretrained=false&model.depth=2&model.img_size=64"
    assert show("tokens", "--image", files[0], "--model", late, "--out", tmp_path / "late.png") == 0


def test_a_network_without_attention_gets_a_reason_and_all_the_rest(
    files: tuple[Path, Path], tmp_path: Path, toy_backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.png"
    assert show("attention", "--image", files[0], "--model", toy_backbone, "--out", out) == 2
    assert "must have attention" in capsys.readouterr().err
    assert not out.exists()
    assert show("all", "--image", files[0], "--model", toy_backbone, "--out", out) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "oclusion"}, "Did you mean occlusion?"),
        ({"--image": "nowhere.png"}, "The image must be readable"),
        ({"--image": __file__}, "not a picture in a format"),
        ({"--mask": "{image}"}, "has colours"),
        ({"--mask": "{small}"}, "The mask must be of the image's size"),
        ({"--out": "x.txt"}, "must end in .png, .jpg or .webp"),
        ({"--out": "/dev/null/x.png"}, "The picture must be written"),
        ({"--model": "tiny:vitt"}, "There is no network `tiny:vitt`"),
    ],
)
def test_bad_input_says_what_to_do(
    change: dict[str, str], said: str, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (5, 4)).save(tmp_path / "small.png")
    words = {"kind": "shuffle", "--image": str(files[0]), "--model": VIT, "--out": str(tmp_path / "x.png")} | change
    filled = {k: v.format(image=files[0], small=tmp_path / "small.png") for k, v in words.items()}
    kind = filled.pop("kind")
    assert show(kind, *(word for pair in filled.items() for word in pair)) == 2
    assert said in capsys.readouterr().err


def test_heat_is_brightest_where_the_weight_is() -> None:
    weights = torch.zeros(16)
    weights[5] = 1
    shown = np.asarray(_paint.heat(torch.full((3, 8, 8), 0.5), weights, (4, 4))).astype(int).sum(axis=2)
    assert shown[2:4, 2:4].min() > 2 * shown[0, 0]
    assert shown.max() == shown[2, 2]


def test_small_inputs_keep_their_pixels_and_long_texts_are_cut() -> None:
    checker = Image.fromarray((np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8))
    large = np.asarray(_sheet._square(checker))
    assert large.shape == (256, 256)
    assert set(np.unique(large)) == {0, 255}
    assert _sheet._fit("word " * 40, 19, 100).endswith("...")
    assert _sheet._fit("word", 19, 100) == "word"
    tile = _sheet.Tile(Image.new("RGB", (100, 50)), "a title", "says", 0.5, True)
    one = _sheet.sheet("x", [_sheet.Section("head", "text", [tile] * 3)], columns=3)
    two = _sheet.sheet("x", [_sheet.Section("head", "text", [tile] * 4)], columns=3)
    assert one.width == two.width
    assert two.height > one.height + 256
