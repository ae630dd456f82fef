"""Sets with masks: what is paired and read, and how each bad mask is named and left out."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import dataset_inputs
from visionvitals.core import ImageSet, Preprocess
from visionvitals.datasets import cue_conflict
from visionvitals.datasets.base import cache as _cache
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.errors import VitalsError
from visionvitals.plan import planner

WHOLE = Preprocess(size=(20, 25), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "the cache"))


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def grey(*values: int) -> np.ndarray:
    """A mask of the pictures' size with these values and no others."""
    return np.sort(np.resize(np.array(values, dtype=np.uint8), 2000)).reshape(40, 50)


def skipped(images: ImageSet) -> dict[str, str]:
    return dict(_cache.decoded(images, WHOLE).skipped)


def test_each_bad_mask_is_a_skip_that_says_why(tmp_path: Path) -> None:
    bad = {
        "grey": grey(0, 255, 37, 128),
        "size": grey(0, 255)[:30],
        "colours": PIXELS,
        "deep": grey(0, 1).astype(np.uint16) * 1000,
        "good": grey(0, 255),
        "ones": grey(0, 1),
    }
    for name, values in bad.items():
        write(tmp_path / "images" / f"{name}.jpg", PIXELS)
        write(tmp_path / "masks" / f"{name}.png", values)
    write(tmp_path / "images" / "lonely.jpg", PIXELS)
    write(tmp_path / "images" / "broken.jpg", PIXELS)
    (tmp_path / "masks" / "broken.png").write_bytes(b"no picture")
    images = planner.open_images(f"masks:{tmp_path}")
    reasons = skipped(images)
    assert set(reasons) == {f"{name}.jpg" for name in ("grey", "size", "colours", "deep", "lonely", "broken")}
    assert "must hold 0 and 255 (or 0 and 1) only; it holds 37, 128 too" in reasons["grey.jpg"]
    assert "the mask must be of the picture's size, 40 x 50; it is (30, 50)" in reasons["size.jpg"]
    assert "has colours; write indices" in reasons["colours.jpg"]
    assert "mode I;16" in reasons["deep.jpg"]
    assert "there is no mask of that name" in reasons["lonely.jpg"]
    assert "its mask broken.png: not a picture" in reasons["broken.jpg"]
    found = _cache.decoded(images, WHOLE)
    assert found.ids == ("good.jpg", "ones.jpg")
    assert found.masks is not None
    assert set(np.unique(found.masks)) == {0, 1}


def palette(colours: list[int], values: np.ndarray) -> Image.Image:
    found = Image.fromarray(values)
    found.putpalette(colours)
    assert found.mode == "P"
    return found


BLACK, WHITE, RED = [0] * 3, [255] * 3, [128, 0, 0]


@pytest.mark.parametrize(
    ("colours", "values", "first"),
    [
        (WHITE + BLACK, (0, 1), 1),  # the object is white, whatever its index
        (BLACK + WHITE, (0, 1), 0),
        (BLACK + RED, (0, 1), 0),
        (BLACK + BLACK, (0, 1), 0),
        (BLACK * 255 + RED, (0, 255), 0),
        (RED + BLACK + WHITE, (1, 2), 0),
    ],
)
def test_an_object_of_a_palette_is_white_or_what_is_not_the_first_colour(
    colours: list[int], values: tuple[int, int], first: int, tmp_path: Path
) -> None:
    write(tmp_path / "images" / "a.png", PIXELS)
    (tmp_path / "masks").mkdir()
    palette(colours, grey(*values)).save(tmp_path / "masks" / "a.png")
    mask = planner.open_images(f"masks:{tmp_path}")[0].mask
    assert np.array_equal(mask, (grey(0, 1) if first == 0 else 1 - grey(0, 1)))
    kinds = planner.open_images(f"masks:{tmp_path}?kinds=254")[0].mask
    assert np.array_equal(kinds, grey(*values)), "a label map keeps its indices"


def test_masks_of_which_the_background_is_not_known_or_that_lie_in_alpha_are_named(tmp_path: Path) -> None:
    alpha = Image.fromarray(grey(0, 255))
    made = {
        "red": palette(RED + BLACK, grey(0, 1)),
        "rgba": Image.new("RGB", (50, 40), "white"),
        "la": Image.new("L", (50, 40)),
    }
    made |= {"cut": Image.fromarray(PIXELS), "both": Image.fromarray(grey(0, 255))}
    for name in ("rgba", "la", "cut", "both"):
        made[name].putalpha(alpha)
    made["clear"] = palette(WHITE + WHITE, grey(0, 1))
    (tmp_path / "masks").mkdir()
    for name, mask in made.items():
        write(tmp_path / "images" / f"{name}.png", PIXELS)
        mask.save(tmp_path / "masks" / f"{name}.png", **({"transparency": 0} if name == "clear" else {}))
    reasons = skipped(planner.open_images(f"masks:{tmp_path}"))
    assert reasons.keys() == {f"{name}.png" for name in made} - {"both.png"}
    assert "the first of them is not black, so what is background is not known" in reasons["red.png"]
    for name in ("rgba", "la", "clear"):
        assert "only in its alpha channel; save that channel as a grey picture" in reasons[f"{name}.png"]
    assert "or its alpha as grey" in reasons["cut.png"]


def test_label_maps_keep_their_kinds_and_void(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", PIXELS)
    write(tmp_path / "images" / "b.png", PIXELS)
    write(tmp_path / "masks" / "a.png", grey(0, 3, 255))
    write(tmp_path / "masks" / "b.png", grey(0, 4))
    images = planner.open_images(f"masks:{tmp_path}?kinds=3")
    mask = images[0].mask
    assert mask is not None
    assert set(np.unique(mask)) == {0, 3, 255}
    assert "must hold 0 to 3, or 255 for unlabelled; it holds 4 too" in skipped(images)["b.png"]
    for text in ("0", "255", "x"):
        with pytest.raises(VitalsError, match=r"`kinds` of .* must be the number of kinds of objects, 1 to 254"):
            planner.open_images(f"masks:{tmp_path}?kinds={text}")


def test_folders_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"The folder of .* must exist"):
        planner.open_images(f"masks:{tmp_path / 'nowhere'}")
    write(tmp_path / "photos" / "a.png", PIXELS)
    with pytest.raises(VitalsError, match="The folder of pictures"):
        planner.open_images(f"masks:{tmp_path}")
    (tmp_path / "masks").mkdir()
    with pytest.raises(VitalsError, match=r"must have the names of the pictures .*0 masks, a.png without one"):
        planner.open_images(f"masks:{tmp_path}?images=photos")


def test_a_changed_mask_is_another_set(tmp_path: Path) -> None:
    (spelling, _) = dataset_inputs.masks(tmp_path)
    before = planner.open_images(spelling).card
    write(tmp_path / "masks" / "0.png", grey(0, 255))
    after = planner.open_images(spelling).card
    assert before.digest != after.digest
    assert before.classes == after.classes == ("object",)


def test_classes_are_the_sub_folders(tmp_path: Path) -> None:
    (_, by_class) = dataset_inputs.masks(tmp_path)
    images = planner.open_images(by_class)
    assert images.card.classes == ("cat", "dog")
    assert [images[k].label for k in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("lost", ["ImageSets/Segmentation/val.txt", "SegmentationClass", "JPEGImages"])
def test_a_devkit_that_is_not_whole_names_what_is_missing(tmp_path: Path, lost: str) -> None:
    (spelling, _) = dataset_inputs.voc(tmp_path)
    gone = tmp_path / "VOCdevkit" / "VOC2012" / lost
    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    with pytest.raises(VitalsError, match=rf"needs .*{lost}, which does not exist"):
        planner.open_images(spelling)


def test_voc_reads_indices_and_not_the_colours_of_the_palette(tmp_path: Path) -> None:
    (spelling, inner) = dataset_inputs.voc(tmp_path)
    images = planner.open_images(spelling)
    assert images.card.digest == planner.open_images(inner).card.digest
    mask = images[1].mask
    assert mask is not None
    assert set(np.unique(mask)) == {0, 2, 15, 255}
    write(tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000001.png", grey(0, 21))
    assert "must hold 0 to 20" in skipped(planner.open_images(spelling))["2007_000001"]
    with pytest.raises(VitalsError, match="Name the folder that holds VOC2012"):
        planner.open_images(f"voc:{tmp_path / 'VOCdevkit' / 'VOC2012' / 'JPEGImages'}")
    with pytest.raises(VitalsError, match=r"`split` of .* must be one of train, trainval, val"):
        planner.open_images(f"{spelling}?split=test")


def test_cue_conflict_knows_shape_texture_and_silhouette(tmp_path: Path) -> None:
    (both, bare) = dataset_inputs.cue_conflict(tmp_path)
    images = planner.open_images(both)
    examples = [images[k] for k in range(len(images))]
    named = [(e.id, cue_conflict.CLASSES[e.label], cue_conflict.CLASSES[e.texture or 0]) for e in examples]
    assert named == [
        (f"{shape}/{shape}1-{texture}.png", shape, texture[:-1])
        for shape in ("cat", "dog")
        for texture in ("cat2", "knife1")
    ]
    assert examples[0].label == examples[0].texture, "the mark of a picture without a conflict"
    assert images.card.notes == ("1 of 4 pictures have the texture of their own shape: no conflict",)
    mask = examples[0].mask
    assert mask is not None
    assert mask.sum() == 400
    assert mask[10:30, 10:30].all()
    assert planner.open_images(bare).card.provides == ("texture",)


def test_cue_conflict_refuses_unknown_words_and_tells_a_lost_silhouette(tmp_path: Path) -> None:
    (both, bare) = dataset_inputs.cue_conflict(tmp_path)
    (tmp_path / "both" / "silhouettes" / "dog" / "dog1.png").unlink()
    assert set(skipped(planner.open_images(both))) == {"dog/dog1-cat2.png", "dog/dog1-knife1.png"}
    write(tmp_path / "bare" / "cat" / "cat1-aeroplane1.png", PIXELS)
    with pytest.raises(VitalsError, match=r"`aeroplane` must be one of the 16 classes.*airplane"):
        planner.open_images(bare)
    with pytest.raises(VitalsError, match="must hold pictures called"):
        planner.open_images(f"cue_conflict:{tmp_path / 'both' / 'silhouettes'}")


def test_textures_and_masks_survive_the_fast_decoder(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    for spelling in (*dataset_inputs.masks(tmp_path / "masks"), *dataset_inputs.cue_conflict(tmp_path / "cues")):
        images = planner.open_images(spelling)
        assert isinstance(images, EncodedImages)
        slow, fast = (_cache.decoded(images, WHOLE, decoder=decoder) for decoder in ("pillow", "fast"))
        for a, b in ((slow.masks, fast.masks), (slow.textures, fast.textures), (slow.labels, fast.labels)):
            assert np.array_equal(a, b) if a is not None and b is not None else a is b
        assert np.abs(slow.pixels.astype(int) - fast.pixels).max() <= 4


# --------------------------------------------------------------------------------------------------------- orientation

BRIGHT = (slice(3, 11), slice(5, 30))  # of the upright picture, which is 40 x 50


def stored(upright: np.ndarray, orientation: int) -> Image.Image:
    """The picture as a camera stores it so that its EXIF orientation turns it upright."""
    found = Image.new("L", (1, 1))
    for candidate in (np.rot90(upright, k) for k in range(4)):
        for pixels in (candidate, candidate[:, ::-1]):
            image = Image.fromarray(np.ascontiguousarray(pixels))
            image.getexif()[0x0112] = orientation
            if np.array_equal(np.asarray(ImageOps.exif_transpose(image)), upright):
                found = image
    return found


def turned_set(root: Path, orientation: int, mask: str, shape: tuple[int, int] = (40, 50)) -> None:
    """A picture that is bright where its mask is, turned; the mask as stored or upright, with or without an orientation of its own."""
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[BRIGHT] = 255
    for folder, form in (("images", "stored, exif"), ("masks", mask)):
        (root / folder).mkdir(parents=True)
        picture = stored(pixels, orientation) if form.startswith("stored") else Image.fromarray(pixels)
        exif = Image.Exif()
        if form.endswith("exif"):
            exif[0x0112] = orientation if form.startswith("stored") else 1
        picture.save(root / folder / "a.png", exif=exif)


def brightness(spelling: str, size: tuple[int, int]) -> float:
    """Mean brightness under the mask of the decoded picture."""
    found = _cache.decoded(planner.open_images(spelling), replace(WHOLE, size=size))
    assert found.skipped == ()
    assert found.masks is not None
    return float(found.pixels[found.masks == 1].mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mask", ["stored, exif", "upright, exif", "stored", "upright"])
def test_a_mask_lies_on_its_picture_however_both_are_turned(tmp_path: Path, orientation: int, mask: str) -> None:
    if "exif" not in mask and orientation in (2, 3, 4):
        pytest.skip("the size does not tell")
    turned_set(tmp_path, orientation, mask)
    for options in ("", "?exif=apply"):
        size = (50, 40) if orientation >= 5 and not options else (40, 50)
        assert brightness(f"masks:{tmp_path}{options}", size) == 255, options


def test_masks_of_which_nothing_tells_the_orientation_are_laid_on_as_stored_and_noted(tmp_path: Path) -> None:
    for orientation, mask, shape, told in (
        (3, "stored", (40, 50), False),
        (6, "stored", (40, 40), False),
        (6, "stored, exif", (40, 40), True),
        (6, "stored", (40, 50), True),
    ):
        root = tmp_path / f"{orientation} {mask} {shape}"
        turned_set(root, orientation, mask, shape)
        notes = planner.open_images(f"masks:{root}").card.notes
        assert notes[1].startswith("1 pictures have an EXIF orientation and are read as stored; `?exif=apply`")
        assert (len(notes) == 2) == told
        assert told or "the masks of 1 turned pictures do not say how they are turned" in notes[2]
        assert brightness(f"masks:{root}", (40, 40)) > 250


def test_every_decoder_turns_a_picture_and_the_digest_says_so(tmp_path: Path) -> None:
    upright = np.asarray(Image.fromarray(PIXELS).resize((48, 40)))
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        picture = Image.merge("RGB", [stored(upright[:, :, k], orientation) for k in range(3)])
        (tmp_path / "a").mkdir(exist_ok=True)
        picture.save(tmp_path / "a" / f"{orientation}.jpg", quality=100, subsampling=0, exif=exif)
    how = replace(WHOLE, size=(40, 48))
    plain, applied = (planner.open_images(f"folder:{tmp_path}{options}") for options in ("", "?exif=apply"))
    assert plain.card.digest != applied.card.digest
    assert applied.card.notes == ("7 pictures have an EXIF orientation and were turned upright by it",)
    found = _cache.decoded(applied, how)
    assert np.abs(found.pixels.astype(int) - upright).max() < 16
    assert np.abs(_cache.decoded(plain, how).pixels[2].astype(int) - upright).max() > 100
    pytest.importorskip("simplejpeg")
    assert np.abs(_cache.decoded(applied, how, decoder="fast").pixels.astype(int) - found.pixels).max() <= 2
    with pytest.raises(VitalsError, match=r"`exif` must be `apply`, or left out .*Got 'yes'"):
        planner.open_images(f"folder:{tmp_path}?exif=yes")
