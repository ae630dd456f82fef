"""The embedded image set: what an index must give, at every size, in every variant, in every batch."""

from typing import Any

import numpy as np
import pytest

from visionvitals import registry
from visionvitals.core import ImageSet
from visionvitals.datasets import shapes
from visionvitals.datasets._shapes_outlines import outline
from visionvitals.datasets._textured_shapes import (
    LAST_INDEX,
    SHAPES,
    SPLITS,
    TEXTURES,
    VARIANTS,
    Rendered,
    Split,
    Variant,
    _uniform,
    labels,
    render,
)
from visionvitals.errors import VitalsError

N = 300
GOLDEN = {  # (split, index, variant): shape, texture, pixels in the mask, every 16th pixel of the 64-pixel picture
    ("train", 0, "natural"): (
        "anchor",
        "wood",
        1115,
        "eae9dbcbc6bbd4ccc2d4cbc1e4e1d34b6845486342d7cfc53b1715ddb3bc602d2dc2bbb1e4e1d4551f1c75534c99d0a3",
    ),
    ("train", 12345, "agree"): (
        "tree",
        "wood",
        983,
        "69534a604c43ad966671574d2829482f437883777e74584e7c736f5f6a851923541f2b66ad998e624832594b53815d53",
    ),
    ("test", 7, "conflict"): (
        "tree",
        "checker",
        1261,
        "6e605c6f605bb99e6d2d3c526e605c234749188189e2c0854f917a1780882389906e5f557f592a1a8b943d9a9e706159",
    ),
    ("test", 1099511627776, "flat"): (
        "house",
        None,
        1252,
        "a3acd02b5822808197dcdea6a0acd2366f2a356c29a9accb9cacd43a752d38732c7dd5c9768ea89eacd39da6c7abadca",
    ),
}


def draw(variant: Variant = "natural", split: Split = "train", n: int = N, size: int = 32) -> Rendered:
    return render(np.arange(n), size=size, split=split, variant=variant)


@pytest.fixture(scope="module")
def drawn() -> dict[Variant, Rendered]:
    return {variant: draw(variant) for variant in VARIANTS}


def test_there_are_sixteen_distinct_names_of_each() -> None:
    assert len(set(SHAPES)) == len(SHAPES) == len(set(TEXTURES)) == len(TEXTURES) == 16


@pytest.mark.parametrize(("split", "index", "variant"), GOLDEN)
def test_a_picture_stays_what_it_was(split: Split, index: int, variant: Variant) -> None:
    shape, texture, area, pixels = GOLDEN[split, index, variant]
    found = render(np.array([index]), size=64, split=split, variant=variant)
    assert (SHAPES[found.shapes[0]], found.textures[0]) == (shape, -1 if texture is None else TEXTURES.index(texture))
    assert abs(int(found.masks.sum()) - area) <= 2
    expected = np.frombuffer(bytes.fromhex(pixels), np.uint8).astype(int).reshape(4, 4, 3)
    assert np.abs(found.images[0, 8::16, 8::16].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [16, 50, 64, 96])
def test_a_picture_does_not_depend_on_its_batch(size: int) -> None:
    indices = np.array([5, 17, 3, 2**40 + 1, 3])
    together = render(indices, size=size, split="test", variant="natural")
    for position, index in enumerate(indices):
        alone = render(np.array([index]), size=size, split="test", variant="natural")
        for all_of_them, one in zip(together, alone, strict=True):
            assert np.array_equal(all_of_them[position], one[0])


@pytest.mark.parametrize("split", SPLITS)
def test_the_shapes_are_known_without_the_pictures(split: Split) -> None:
    indices = np.array([5, 17, 3, 2**40 + 1, 3])
    assert np.array_equal(
        labels(indices, split=split), render(indices, size=16, split=split, variant="conflict").shapes
    )


def test_no_two_pictures_share_numbers(drawn: dict[Variant, Rendered]) -> None:
    first = [tuple(row) for split in SPLITS for row in _uniform(np.arange(3000), split, 4)]
    assert len(set(first)) == 6000
    test = draw(split="test").images
    assert len({image.tobytes() for image in (*test, *drawn["natural"].images)}) == 2 * N


def test_numbers_are_uniform() -> None:
    numbers = _uniform(np.arange(4000), "train", 50)
    assert 0 <= numbers.min() <= numbers.max() < 1
    counts = np.histogram(numbers, bins=64, range=(0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 120  # chi-square with 63 degrees of freedom
    between = np.corrcoef(numbers.T) - np.eye(50)
    assert np.abs(between).max() < 5 / np.sqrt(4000)


def test_the_variants_wear_what_they_say(drawn: dict[Variant, Rendered]) -> None:
    agree, conflict, flat, natural = (drawn[variant] for variant in ("agree", "conflict", "flat", "natural"))
    assert np.array_equal(agree.textures, agree.shapes)
    assert not (conflict.textures == conflict.shapes).any()
    assert (flat.textures == -1).all()
    own = natural.textures == natural.shapes
    assert 0.7 < own.mean() < 0.9
    assert np.array_equal(natural.textures[~own], conflict.textures[~own])
    assert np.array_equal(natural.images[own], agree.images[own])


def test_a_random_texture_says_nothing_of_the_shape() -> None:
    found = draw("random", n=2000, size=16)
    own = found.textures == found.shapes
    assert abs(own.mean() - 1 / 16) < 0.02  # 3.7 standard deviations
    assert np.bincount(found.textures, minlength=16).min() > 80
    for part, variant in ((own, "agree"), (~own, "conflict")):
        assert np.array_equal(found.images[part], draw(variant, n=2000, size=16).images[part])


def test_all_shapes_and_textures_occur_about_equally() -> None:
    found = draw("conflict", n=2000, size=16)
    for values in (found.shapes, found.textures):
        counts = np.bincount(values, minlength=16)
        assert counts.min() > 80  # 125 expected, standard deviation 11
        assert counts.max() < 170
    assert len(set(zip(found.shapes.tolist(), found.textures.tolist(), strict=True))) > 200  # of 240 pairs


def test_variants_differ_on_the_object_only() -> None:
    """A sharp tip covers less than half of a few pixels beyond the mask, hence the margin of three pixels."""
    pictures = {variant: draw(variant, n=60, size=64) for variant in VARIANTS}
    agree = pictures["agree"]
    around = np.pad(agree.masks, ((0, 0), (3, 3), (3, 3)))
    near = np.lib.stride_tricks.sliding_window_view(around, (7, 7), axis=(1, 2)).any(axis=(3, 4))
    for other in (pictures["conflict"], pictures["flat"]):
        assert np.array_equal(agree.shapes, other.shapes)
        assert np.array_equal(agree.masks, other.masks)
        changed = (agree.images != other.images).any(axis=3)
        assert not changed[~near].any()
        assert changed[agree.masks].mean() > 0.4


def test_an_index_is_the_same_picture_at_every_size() -> None:
    small, large = draw(n=80), draw(n=80, size=128)
    averaged = large.images.reshape(80, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(averaged - small.images).mean() < 2
    coverage = large.masks.reshape(80, 32, 4, 32, 4).mean(axis=(2, 4)) > 0.5
    union, both = (coverage | small.masks).sum(axis=(1, 2)), (coverage & small.masks).sum(axis=(1, 2))
    assert (both / union).min() > 0.9
    assert (coverage == small.masks).mean() > 0.99
    assert np.array_equal(small.shapes, large.shapes)


def test_the_object_covers_15_to_45_percent_and_lies_within() -> None:
    masks = draw(n=200, size=64).masks
    covered = masks.mean(axis=(1, 2))
    assert covered.min() > 0.15
    assert covered.max() < 0.45
    assert np.ptp(covered) > 0.2
    frame = np.ones((64, 64), bool)
    frame[1:-1, 1:-1] = False
    assert masks[:, frame].sum(axis=1).max() < 10  # a tip may reach the border, a side may not


def test_an_outline_is_a_distance() -> None:
    """Area one; no two neighbouring cells differ by more than their distance, which a false sign or a gap would break."""
    for index in range(len(SHAPES)):
        shape = outline(index)
        table = shape.distance.reshape(256, 256)
        cell = 2 * shape.half / 256
        assert (table < 0).sum() * cell**2 == pytest.approx(1, abs=1e-6)
        assert np.abs(np.diff(table, axis=0)).max() <= cell * 1.001
        assert np.abs(np.diff(table, axis=1)).max() <= cell * 1.001
        assert min(table[0].min(), table[-1].min(), table[:, 0].min(), table[:, -1].min()) > 0


def test_outlines_and_textures_are_told_apart() -> None:
    """Two classes that look alike would be a mistake in the drawing: outlines overlap by less than 85 % when centred."""
    masks = []
    for index in range(len(SHAPES)):
        shape = outline(index)
        steps = (np.arange(64) - 31.5) / 64 * 2.4
        x, y = np.meshgrid(steps + shape.centre[0], steps + shape.centre[1])
        cells = [((values + shape.half) / (2 * shape.half) * 256).astype(int).clip(0, 255) for values in (x, y)]
        masks.append(shape.distance.reshape(256, 256)[cells[1], cells[0]] < 0)
    for a in range(len(SHAPES)):
        for b in range(a):
            assert (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum() < 0.85, (SHAPES[a], SHAPES[b])


def test_a_linear_classifier_on_pixels_fails() -> None:
    """A small stand-in for benchmarks/linear_pixels.py: ridge regression in closed form on 16-pixel pictures."""
    train, test = draw(n=1500, size=16), draw(split="test", n=500, size=16)
    x, z = (part.images.reshape(len(part.images), -1) / 255 - 0.5 for part in (train, test))
    weights = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ (np.eye(16)[train.shapes] - 1 / 16))
    assert ((z @ weights).argmax(axis=1) == test.shapes).mean() < 2.5 / 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 15}, r"`size` must be in 16..1024 pixels. Got 15"),
        ({"size": 1025}, r"Got 1025"),
        ({"split": "val"}, r"`split` must be train or test. Got 'val'"),
        ({"variant": "round"}, r"`variant` must be one of natural, agree, conflict, flat, random"),
        ({"indices": np.array([-1, 2])}, r"`indices` must be in \[0, 2\*\*62\). Got -1"),
        ({"indices": np.array([LAST_INDEX])}, r"`indices` must be in"),
        ({"indices": np.array(3)}, r"`indices` must be one-dimensional"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"indices": np.arange(2), "size": 32, "split": "train", "variant": "natural"} | change
    with pytest.raises(VitalsError, match=message):
        render(arguments.pop("indices"), **arguments)


def test_no_pictures_is_an_empty_batch() -> None:
    assert draw(n=0).images.shape == (0, 32, 32, 3)


def open_set(text: str) -> ImageSet:
    return shapes.open(registry.parse(text, families=["shapes"]))


def test_the_set_holds_the_pictures_of_render() -> None:
    images = open_set("shapes:test?n=3&variant=conflict&size=40&offset=7")
    drawn = render(np.arange(7, 10), size=40, split="test", variant="conflict")
    assert [images[i].id for i in range(3)] == ["test/000007", "test/000008", "test/000009"]
    for i in range(3):
        example = images[i]
        assert np.array_equal(np.asarray(example.image), drawn.images[i])
        assert example.mask is not None
        assert np.array_equal(example.mask, drawn.masks[i])
        assert (example.label, example.texture) == (drawn.shapes[i], drawn.textures[i])
    assert open_set("shapes:test?variant=flat&size=16")[0].texture is None


def test_the_defaults_are_written_down() -> None:
    test, train = open_set("shapes:test"), open_set("shapes:train")
    assert (len(test), len(train)) == (1000, 20_000)
    assert test.card.classes == test.card.class_names == SHAPES
    assert np.asarray(test[0].image).shape == (128, 128, 3)


def test_the_digest_is_that_of_the_pictures() -> None:
    plain = open_set("shapes:test").card.digest
    assert plain == open_set("shapes:test?n=1000&variant=natural&size=128&offset=0&seed=0").card.digest
    others = ["train?n=1000", "test?n=999", "test?variant=agree", "test?size=64", "test?offset=1", "test?seed=1"]
    assert len({plain, *(open_set(f"shapes:{other}").card.digest for other in others)}) == 7


def test_another_seed_gives_other_pictures() -> None:
    a, b = open_set("shapes:test?size=16"), open_set("shapes:test?size=16&seed=1")
    assert a[0].id != b[0].id
    assert not np.array_equal(np.asarray(a[0].image), np.asarray(b[0].image))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shapes:tset", r"must be train or test. Got 'shapes:tset'. Did you mean test"),
        ("shapes:test@x", r"must be train or test. Got 'shapes:test@x'"),
        ("shapes:test?variant=conflit", r"must be known. Got 'conflit'. Did you mean conflict"),
        ("shapes:test?size=8", r"`size` of .* must be an integer in 16..1024. Got '8'"),
        ("shapes:test?n=0", r"`n` of .* must be an integer in 1..10000000"),
        ("shapes:test?n=2.5", r"must be an integer in 1..10000000. Got '2.5'"),
        ("shapes:test?offset=-1", r"`offset` of .* Got '-1'"),
        ("shapes:test?seed=1048576", r"`seed` of .* must be an integer in 0..1048575"),
        ("shapes:test?colour=red", r"has no option `colour`"),
    ],
)
def test_bad_spellings_are_refused(text: str, message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        open_set(text)
