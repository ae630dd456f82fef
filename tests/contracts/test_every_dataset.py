"""The contract of an image set, run over every file in datasets/."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dataset_inputs
from visionvitals import registry
from visionvitals.core import ImageSet, Preprocess
from visionvitals.datasets.base.cache import decoded
from visionvitals.errors import VitalsError

FAMILIES = [*registry.names("datasets"), str(Path(__file__).parents[1] / "plugins" / "npz.py")]
"""Those that are installed, and that of docs/write_an_image_set.md by its path."""
PREPROCESS = Preprocess(size=(16, 16), resize=20, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module", params=FAMILIES)
def spellings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    family = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONVITALS_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = getattr(registry.load("datasets", family), "EXAMPLES", ())
        name = Path(family).stem
        found = found or getattr(dataset_inputs, name)(tmp_path_factory.mktemp(name))
    if not found:
        pytest.skip(f"the extra of `{family}:` is not installed")
    return [f"{family}:{spelling.partition(':')[2]}" for spelling in found]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))


def open_set(spelling: str) -> ImageSet:
    spec = registry.parse(spelling, families=FAMILIES)
    images: ImageSet = registry.load("datasets", spec.family).open(spec)
    return images


def test_the_card_agrees_with_the_set(spellings: list[str]) -> None:
    for spelling in spellings:
        images = open_set(spelling)
        card = images.card
        assert card.spec == spelling
        assert card.n == len(images) > 0
        assert len(card.classes) == len(card.class_names) == len(set(card.classes))
        assert re.fullmatch(r"[0-9a-f]{64}", card.digest)
        if card.kind == "indices":
            assert card.classes == tuple(str(index) for index in range(len(card.classes)))


def test_opening_again_gives_the_same_card_and_pictures(spellings: list[str]) -> None:
    for spelling in spellings:
        first, second = open_set(spelling), open_set(spelling)
        assert first.card == second.card
        for index in range(len(first)):
            a, b = first[index], second[index]
            assert (a.id, a.label, a.texture) == (b.id, b.label, b.texture)
            assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
            assert np.array_equal(a.mask, b.mask) if a.mask is not None and b.mask is not None else a.mask is b.mask


def test_examples_are_well_formed(spellings: list[str]) -> None:
    for spelling in spellings:
        images = open_set(spelling)
        examples = [images[index] for index in range(len(images))]
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            assert isinstance(example.image, Image.Image)
            assert 0 <= example.label < len(images.card.classes)
            example.id.encode("utf-8")
            if example.mask is not None:
                assert example.mask.dtype in (np.bool_, np.uint8)
                assert "mask" in images.card.provides
                assert example.mask.shape == (example.image.height, example.image.width)


def test_it_ends_with_an_index_error(spellings: list[str]) -> None:
    for spelling in spellings:
        images = open_set(spelling)
        with pytest.raises(IndexError):
            images[len(images)]


def test_threads_read_the_same_pictures(spellings: list[str]) -> None:
    for spelling in spellings:
        images = open_set(spelling)
        order = [index for _ in range(4) for index in range(len(images))]
        with ThreadPoolExecutor(8) as pool:
            pictures = list(pool.map(lambda index, images=images: np.asarray(images[index].image), order))
        for index, picture in zip(order, pictures, strict=True):
            assert np.array_equal(picture, np.asarray(images[index].image))


def test_it_decodes(spellings: list[str]) -> None:
    for spelling in spellings:
        images = open_set(spelling)
        found = decoded(images, PREPROCESS)
        assert found.pixels.shape == (len(images), 16, 16, 3)
        assert found.ids == tuple(images[index].id for index in range(len(images)))
        assert found.labels.tolist() == [images[index].label for index in range(len(images))]
        assert found.skipped == ()


def test_an_unknown_option_is_refused(spellings: list[str]) -> None:
    for spelling in spellings:
        with pytest.raises(VitalsError, match="has no option `colour`"):
            open_set(spelling + ("&" if "?" in spelling else "?") + "colour=red")
