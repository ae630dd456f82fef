"""Real photographs: counts, labels, and decoding equal to torchvision."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionvitals import registry
from visionvitals.core import ImageSet, Interpolation, Preprocess
from visionvitals.datasets.base.cache import decoded
from visionvitals.datasets.base.decode import decode, decode_fast, open_image

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason="VISIONVITALS_REAL_DATA names no folder")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))


def open_set(spelling: str) -> ImageSet:
    spec = registry.parse(spelling, families=["folder", "csv", "masks", "cue_conflict", "webdataset"])
    images: ImageSet = registry.load("datasets", spec.family).open(spec)
    return images


def how(size: int = 224, resize: int = 256, interpolation: Interpolation = "bicubic") -> Preprocess:
    return Preprocess(size=(size, size), resize=resize, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize(
    ("spelling", "n", "classes", "kind", "first"),
    [
        ("folder:{}/imagenet_sample", 300, 300, "names", "tiger shark, Galeocerdo cuvieri"),
        ("folder:{}/tiny_imagenet/test", 1000, 100, "names", "European fire salamander, Salamandra salamandra"),
        ("folder:{}/cue_conflict/stimuli", 320, 16, "names", "airplane"),
        ("folder:{}/textures", 100, 10, "names", "banded"),
        ("csv:{}/nips17/labels.csv", 163, None, "indices", "0"),
        ("masks:{}/masks/cows", 30, 1, "names", "object"),
        ("cue_conflict:{}/cue_conflict", 320, 16, "names", "airplane"),
    ],
)
def test_every_file_is_read(spelling: str, n: int, classes: int | None, kind: str, first: str) -> None:
    images = open_set(spelling.format(DATA))
    found = decoded(images, how(64, 72))
    assert len(images) == len(found.ids) == n
    assert found.skipped == ()
    assert (images.card.kind, images.card.class_names[0]) == (kind, first)
    if classes is not None:
        assert len(images.card.classes) == len(set(found.labels.tolist())) == classes


def test_photographs_in_shards_are_those_of_the_folder(tmp_path: Path) -> None:
    import tarfile

    paths = sorted((DATA / "imagenet_sample").glob("*/*"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as file:
            for path in paths[shard * 100 : (shard + 1) * 100]:
                key, label = path.stem, tmp_path / "label"
                label.write_text(path.parent.name)
                file.add(path, f"{key}{path.suffix}")
                file.add(label, f"{key}.cls")
    folder, shards = open_set(f"folder:{DATA}/imagenet_sample"), open_set(f"webdataset:{tmp_path}/{{0..2}}.tar")
    assert shards.card.class_names == folder.card.class_names
    for decoder in ("pillow", "fast"):
        expected, found = decoded(folder, how(), decoder=decoder), decoded(shards, how(), decoder=decoder)
        assert np.array_equal(np.asarray(found.pixels), expected.pixels)
        assert found.labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photographs_decode_as_torchvision_does(interpolation: Interpolation) -> None:
    from torchvision import transforms

    steps = [transforms.Resize(256, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(224)]
    expected = transforms.Compose(steps)
    for path in sorted((DATA / "imagenet_sample").rglob("*.*"))[::15]:
        reference = np.asarray(expected(Image.open(path).convert("RGB")))
        assert np.array_equal(
            decode(open_image(path.read_bytes(), path.name), how(interpolation=interpolation)), reference
        )


def test_fast_photographs_are_within_two_of_the_reference() -> None:
    pytest.importorskip("simplejpeg")
    for path in sorted((DATA / "imagenet_sample").rglob("*.*"))[::10]:
        data = path.read_bytes()
        for interpolation in ("bilinear", "bicubic"):
            reference = decode(open_image(data, path.name), how(interpolation=interpolation))
            fast = decode_fast(data, how(interpolation=interpolation), path.name)
            assert np.abs(reference.astype(int) - fast).max() <= 2


@pytest.mark.parametrize("spelling", ["masks:{}/masks/cows", "cue_conflict:{}/cue_conflict"])
def test_masks_lie_on_the_object(spelling: str) -> None:
    """Neither nearly nothing nor nearly everything of the usual picture, and differing from picture to picture."""
    found = decoded(open_set(spelling.format(DATA)), how(64, 72))
    assert found.masks is not None
    assert set(np.unique(found.masks)) == {0, 1}
    shares = found.masks.mean(axis=(1, 2))
    assert 0.05 < shares.min() < np.median(shares) < 0.6
    assert len(set(shares.tolist())) >= 30
    if found.textures is not None:
        assert (found.textures != found.labels).all(), "these 320 all have a conflict"
