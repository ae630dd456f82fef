"""The readers of published data sets, on tiny look-alikes of the layouts that their authors publish."""

import json
import shutil
from pathlib import Path

import pytest

import dataset_inputs
from visionvitals import registry
from visionvitals.core import ImageSet
from visionvitals.datasets.base import labels as _labels
from visionvitals.errors import VitalsError

PUBLISHED = ("aircraft", "cub", "dtd", "flowers", "fungi", "gtsrb", "inaturalist", "places365")
FAMILIES = [*PUBLISHED, "omniglot"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "the cache"))


def open_set(spelling: str) -> ImageSet:
    spec = registry.parse(spelling, families=FAMILIES)
    found: ImageSet = registry.load("datasets", spec.family).open(spec)
    return found


def made(family: str, root: Path) -> ImageSet:
    return open_set(getattr(dataset_inputs, family)(root)[0])


def told(images: ImageSet) -> list[tuple[str, str, str | None]]:
    examples = [images[k] for k in range(len(images))]
    return [(e.id, images.card.classes[e.label], e.split) for e in examples]


KNOWN = {
    "aircraft": [
        ("images/0000000.jpg", "707-320", "train"),
        ("images/0000010.jpg", "707-320", "val"),
        ("images/0000020.jpg", "707-320", "test"),
        ("images/0000001.jpg", "DC-9-30", "train"),
        ("images/0000011.jpg", "DC-9-30", "val"),
        ("images/0000021.jpg", "DC-9-30", "test"),
    ],
    "dtd": [
        ("images/banded/banded_test.jpg", "banded", "test"),
        ("images/banded/banded_train.jpg", "banded", "train"),
        ("images/banded/banded_val.jpg", "banded", "val"),
        ("images/zigzagged/zigzagged_test.jpg", "zigzagged", "test"),
        ("images/zigzagged/zigzagged_train.jpg", "zigzagged", "train"),
        ("images/zigzagged/zigzagged_val.jpg", "zigzagged", "val"),
    ],
    "flowers": [
        ("jpg/image_00001.jpg", "flower 001", "train"),
        ("jpg/image_00003.jpg", "flower 001", "val"),
        ("jpg/image_00005.jpg", "flower 001", "test"),
        ("jpg/image_00002.jpg", "flower 002", "train"),
        ("jpg/image_00004.jpg", "flower 002", "val"),
        ("jpg/image_00006.jpg", "flower 002", "test"),
    ],
    "gtsrb": [
        ("GTSRB/Final_Test/Images/00001.ppm", "speed limit 20", "test"),
        ("GTSRB/Training/00000/00000_00000.ppm", "speed limit 20", "train"),
        ("GTSRB/Training/00000/00001_00000.ppm", "speed limit 20", "train"),
        ("GTSRB/Final_Test/Images/00000.ppm", "end of no passing for lorries", "test"),
        ("GTSRB/Training/00042/00000_00000.ppm", "end of no passing for lorries", "train"),
        ("GTSRB/Training/00042/00001_00000.ppm", "end of no passing for lorries", "train"),
    ],
    "places365": [
        ("data_256/a/airfield/00000001.jpg", "airfield", "train"),
        ("val_256/Places365_val_00000002.jpg", "airfield", "val"),
        ("data_256/a/apartment_building/outdoor/00000001.jpg", "apartment_building/outdoor", "train"),
        ("val_256/Places365_val_00000001.jpg", "apartment_building/outdoor", "val"),
    ],
}


@pytest.mark.parametrize("family", KNOWN)
def test_every_picture_has_its_class_and_part(tmp_path: Path, family: str) -> None:
    pytest.importorskip("scipy") if family == "flowers" else None
    images = made(family, tmp_path)
    assert told(images) == KNOWN[family]
    assert images.card.provides == ("split",)


def test_cub_joins_its_lists_by_number(tmp_path: Path) -> None:
    images = made("cub", tmp_path)
    assert images.card.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert [(id[-8:-4], split) for id, _, split in told(images)] == [
        *(("0000", "train"), ("0002", "train"), ("0004", "test")),
        *(("0001", "train"), ("0003", "train"), ("0005", "test")),
    ]
    labels = tmp_path / "CUB_200_2011" / "image_class_labels.txt"
    labels.write_text("1 1\n2 9\n")
    with pytest.raises(VitalsError, match=r"must name the same pictures and classes\. Got '9' in one"):
        open_set(f"cub:{tmp_path}")
    labels.write_text("1 1\n2\n")
    with pytest.raises(VitalsError, match=r"image_class_labels\.txt, line 2 must have 2 fields"):
        open_set(f"cub:{tmp_path}")


@pytest.mark.parametrize(("family", "split"), [("fungi", "val"), ("inaturalist", "val")])
def test_competitions_read_images_annotations_and_categories(tmp_path: Path, family: str, split: str) -> None:
    images = made(family, tmp_path)
    wanted = {
        "fungi": ("Fungi/Amanita muscaria", "Fungi/Boletus edulis"),
        "inaturalist": ("category 0", "category 1"),
    }[family]
    assert images.card.classes == wanted
    assert [key for _, key, _ in told(images)] == [wanted[0]] * 4 + [wanted[1]] * 4
    assert sum(part == split for _, _, part in told(images)) == 4
    file = next(tmp_path.glob(f"{split}*.json"))
    file.write_text(json.dumps({"images": []}))
    with pytest.raises(VitalsError, match=r"must be the competition's JSON\. Got KeyError: 'categories'"):
        open_set(images.card.spec)


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_missing_file_is_named_and_so_is_where_to_get_it(tmp_path: Path, family: str) -> None:
    pytest.importorskip("scipy") if family == "flowers" else None
    spelling = made(family, tmp_path / "whole").card.spec
    copy = tmp_path / "copy"
    removed = set()
    for file in sorted((tmp_path / "whole").rglob("*")):
        if file.suffix not in (".txt", ".json", ".csv", ".mat") and file.name not in (
            "images",
            "jpg",
            "val_256",
            "Training",
        ):
            continue
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(tmp_path / "whole", copy)
        gone = copy / file.relative_to(tmp_path / "whole")
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with pytest.raises(VitalsError, match=rf"must have .*{file.name}.* Got no such file\. .*https?://"):
            open_set(spelling.replace(str(tmp_path / "whole"), str(copy)))
        removed.add(file.name)
    assert len(removed) >= 2
    with pytest.raises(VitalsError, match=r"The folder must exist\. .*https?://"):
        open_set(f"{family}:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("family", PUBLISHED)
def test_one_part_is_a_set_without_parts(tmp_path: Path, family: str) -> None:
    pytest.importorskip("scipy") if family == "flowers" else None
    whole = made(family, tmp_path)
    one = open_set(f"{whole.card.spec}?part=train")
    assert told(one) == [(id, key, None) for id, key, split in told(whole) if split == "train"]
    assert one.card.provides == ()
    assert one.card.classes == whole.card.classes
    assert one.card.digest != whole.card.digest
    with pytest.raises(VitalsError, match=r"`part` must be one of train, .*Got 'vla'"):
        open_set(f"{whole.card.spec}?part=vla")


@pytest.mark.parametrize("family", FAMILIES)
def test_no_class_key_looks_like_the_index_of_an_output(tmp_path: Path, family: str) -> None:
    pytest.importorskip("scipy") if family == "flowers" else None
    images = made(family, tmp_path)
    assert images.card.kind == "names"
    assert not any(key.isdecimal() for key in images.card.classes)


def test_a_picture_that_is_not_there_is_skipped_when_it_is_read_and_one_listed_twice_is_refused(tmp_path: Path) -> None:
    images = made("dtd", tmp_path)
    (tmp_path / "dtd" / "images" / "banded" / "banded_test.jpg").unlink()
    again = open_set(images.card.spec)
    assert again.card.n == images.card.n
    assert again.card.digest != images.card.digest
    with pytest.raises(VitalsError, match="banded_test"):
        again[0]
    labels = tmp_path / "dtd" / "labels" / "val1.txt"
    labels.write_text("banded/banded_train.jpg\n")
    with pytest.raises(VitalsError, match="must list a picture once"):
        open_set(images.card.spec)
    labels.write_text("striped/x.jpg\n")
    with pytest.raises(VitalsError, match=r"must use its classes only\. Got 'striped'"):
        open_set(images.card.spec)


def test_drawings_of_overlapping_archives_are_there_once(tmp_path: Path) -> None:
    images = made("omniglot", tmp_path)
    assert images.card.classes == tuple(f"{a}/character{k:02d}" for a in ("Greek", "Latin", "Tagalog") for k in (1, 2))
    assert images.card.class_names[0] == "Greek 01"
    assert len(images) == 12
    few = open_set(f"omniglot:{tmp_path}?alphabets=Latin,Greek&drawings=1")
    assert [id for id, _, _ in told(few)] == [
        f"{a}/character0{k}/{k - 1:04d}_0{k - 1}.png" for a in ("Greek", "Latin") for k in (1, 2)
    ]
    for archive in tmp_path.glob("*.zip"):
        shutil.unpack_archive(archive, tmp_path / "out")
    unpacked = open_set(f"omniglot:{tmp_path / 'out'}")
    assert (unpacked.card.digest, unpacked.card.classes) == (images.card.digest, images.card.classes)


def test_what_is_no_omniglot_is_refused(tmp_path: Path) -> None:
    spellings = dataset_inputs.omniglot(tmp_path)
    with pytest.raises(VitalsError, match=r"`alphabets` must be there\. Got 'Greeek'\. Did you mean Greek\?"):
        open_set(f"{spellings[0]}?alphabets=Greeek")
    with pytest.raises(VitalsError, match="`drawings` must be a number from 1"):
        open_set(f"{spellings[0]}?drawings=0")
    (tmp_path / "images_x.zip").write_bytes(b"no")
    with pytest.raises(VitalsError, match=r"must be a zip archive.*https://"):
        open_set(spellings[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VitalsError, match=r"must hold drawings .*https://"):
        open_set(f"omniglot:{tmp_path / 'empty'}")


def test_a_backbone_that_knows_the_classes_is_named(tmp_path: Path) -> None:
    from visionvitals.core import BackboneCard, ImageSetCard, Preprocess

    preprocess = Preprocess(size=(8, 8), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    facts = {"architecture": "x", "digest": "", "preprocess": preprocess, "outputs": 3, "parameters": 1}
    named = BackboneCard(spec="b", class_names=("tench, Tinca tinca", "stop", "owl"), **facts)  # type: ignore[arg-type]
    images = ImageSetCard(
        spec="s", digest="", n=3, classes=("stop", "go", "tench"), class_names=("Stop", "go", "tench")
    )
    said = _labels.known_classes(images, named)
    assert said is not None
    assert said.startswith("b was trained to tell 2 of the 3 classes of s (Stop, tench)")
    assert _labels.known_classes(images, BackboneCard(spec="b", **facts)) is None  # type: ignore[arg-type]
    other = BackboneCard(spec="b", class_names=("a", "b", "c"), **facts)  # type: ignore[arg-type]
    assert _labels.known_classes(images, other) is None
