"""The sets of a natural shift: their labels, the reading of published numbers, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dataset_inputs
from visionvitals import registry, scoring
from visionvitals.backbones import _classes
from visionvitals.core import BackboneCard, ImageSet, Preprocess
from visionvitals.datasets.base.cache import decoded
from visionvitals.datasets.base.labels import align, imagenet_wnids
from visionvitals.errors import UnreadableImage, VitalsError

FAMILIES = ("folder", "imagenet_hard", "imagenet_v2", "objectnet", "parquet")
PREPROCESS = Preprocess(size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "the cache"))
    return


def open_set(spelling: str) -> Any:
    spec = registry.parse(spelling, families=FAMILIES)
    return registry.load("datasets", spec.family).open(spec)


def made(family: str, root: Path) -> ImageSet:
    found: ImageSet = open_set(getattr(dataset_inputs, family)(root)[0])
    return found


def network(**changes: Any) -> BackboneCard:
    names = _classes.imagenet(1000)
    assert names is not None
    known = {"classes": names.keys, "class_names": names.readable} | changes
    return BackboneCard(
        spec="timm:x", architecture="x", digest="0a", preprocess=PREPROCESS, outputs=1000, parameters=1, **known
    )


def told(images: ImageSet) -> list[tuple[str, str]]:
    return [(e.id, images.card.classes[e.label]) for e in (images[k] for k in range(len(images)))]


# ---- ImageNet-V2


def test_a_folder_of_imagenet_v2_is_the_output_of_its_number(tmp_path: Path) -> None:
    """A network that answers the number of the folder is always right, whether or not it names its outputs."""
    images = made("imagenet_v2", tmp_path)
    names = [f"{folder}/{name}.jpeg" for folder in (0, 2, 10, 999) for name in "ab"]
    assert told(images) == [(name, name.partition("/")[0]) for name in names], "10 comes after 2"
    for card in (network(), network(classes=None, class_names=None)):
        found = align(images.card, card)
        outputs = torch.tensor([found.indices[images[k].label] for k in range(len(images))])
        numbers = torch.tensor([int(images[k].id.partition("/")[0]) for k in range(len(images))])
        answer = torch.nn.functional.one_hot(numbers, 1000).float()
        assert scoring.answers(answer, outputs)["top1"].tolist() == [1.0] * 8
        assert found.present == tuple(range(1000))
        assert not found.guessed
    assert images.card.class_names[0].startswith("tench")
    assert images.card.notes[0] == "4 of the 1,000 class folders hold pictures"


def test_sorted_as_text_only_twelve_folders_keep_their_place() -> None:
    """The trap that the reader avoids: 1.2 % of the labels are right."""
    assert sum(int(name) == place for place, name in enumerate(sorted(map(str, range(1000))))) == 12


@pytest.mark.parametrize("name", ["1000", "-1", "n01440764", "²"])
def test_other_folders_than_numbers_are_refused(tmp_path: Path, name: str) -> None:
    made("imagenet_v2", tmp_path)
    shutil.copytree(tmp_path / "val" / "0", tmp_path / "val" / name)
    with pytest.raises(VitalsError, match="folders called 0 to 999"):
        open_set(f"imagenet_v2:{tmp_path / 'val'}")
    with pytest.raises(VitalsError, match="must exist"):
        open_set(f"imagenet_v2:{tmp_path / 'vall'}")


# ---- ImageNet-A and -R


def test_another_folder_of_wnids_is_no_published_part(tmp_path: Path) -> None:
    for wnid in imagenet_wnids()[:200]:
        (tmp_path / "set" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / wnid / "x.png")
    assert not any("published" in note for note in open_set(f"folder:{tmp_path / 'set'}").card.notes)


@pytest.mark.parametrize(
    ("name", "total", "first"), [("a", 102_178, [6, 11, 13, 15, 17]), ("r", 86_135, [1, 2, 4, 6, 8])]
)
def test_folders_of_wnids_give_the_published_lists_of_outputs(
    tmp_path: Path, name: str, total: int, first: list[int]
) -> None:
    """200 folders of ImageNet-A or -R: the outputs among which the published numbers choose."""
    from importlib.resources import files

    synsets = (files("timm.data") / "_info" / f"imagenet_{name}_synsets.txt").read_text().split()
    for wnid in synsets:
        (tmp_path / "set" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / wnid / "x.png")
    images = open_set(f"folder:{tmp_path / 'set'}")
    assert images.card.notes[0].startswith(f"its classes are the 200 of ImageNet-{name.upper()}")
    words = network(classes=network().class_names)
    for card in (network(), network(classes=_classes.named(words.class_names or ()).keys)):
        present = align(images.card, card).present
        assert (len(present), sum(present), list(present[:5])) == (200, total, first)


def test_the_reading_among_the_classes_of_a_set_is_never_below_the_other() -> None:
    """Per image; with all classes present both are equal."""
    out, present = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 4, 7])
    labels = present[torch.arange(64) % 3]
    found = scoring.answers(out, labels, present)
    assert (found["top1_present"] >= found["top1"]).all()
    assert found["top1_present"].sum() > found["top1"].sum()
    all_of = scoring.answers(out, labels, torch.arange(10))
    assert torch.equal(all_of["top1_present"], all_of["top1"])


# ---- ObjectNet


def test_objectnet_has_the_classes_that_imagenet_has(tmp_path: Path) -> None:
    images = made("objectnet", tmp_path)
    names = [("fish_f/0.png", "Fish"), ("fish_f/1.png", "Fish"), ("shark_f/0.png", "Shark"), ("shark_f/1.png", "Shark")]
    assert told(images) == names
    wnids = imagenet_wnids()
    assert images.card.stands_for == ((wnids[1], wnids[0]), (wnids[2],)), (
        "by the numbers of 2012, which are not the outputs"
    )
    found = align(images.card, network())
    assert (found.right, found.present) == (((1, 0), (2,)), (0, 1, 2))
    assert images.card.notes[:3] == (
        "2 of 6 pictures are of classes that ImageNet lacks, and were left out",
        "2 pixels are cut at each side (the red border), before the picture is resized",
        "published accuracies choose among the outputs of its classes alone, `top1_present`",
    )


def test_the_red_border_is_cut_before_the_picture_is_resized(tmp_path: Path) -> None:
    images = made("objectnet", tmp_path)
    whole = np.asarray(Image.open(tmp_path / "objectnet-1.0" / "images" / "fish_f" / "0.png"))
    assert np.array_equal(np.asarray(images[0].image), whole[2:-2, 2:-2])
    assert decoded(images, PREPROCESS).pixels[..., 0].max() == 0, "nothing of the red reaches a network"


def test_the_border_and_the_lists_of_classes_are_part_of_what_objectnet_is(tmp_path: Path) -> None:
    before = made("objectnet", tmp_path).card.digest
    root = tmp_path / "objectnet-1.0"
    for other in ("shark_f", "fish_f"):
        shutil.copytree(root / "images" / other, tmp_path / "plain" / other)
    assert open_set(f"folder:{tmp_path / 'plain'}").card.digest != before
    path = root / "mappings" / "objectnet_to_imagenet_1k.json"
    path.write_text(json.dumps({"Shark": "great white shark, white shark", "Fish": "goldfish"}))
    assert open_set(f"objectnet:{tmp_path}").card.digest != before


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("objectnet_to_imagenet_1k.json", None, "must have `mappings/objectnet_to_imagenet_1k.json` in"),
        ("objectnet_to_imagenet_1k.json", "[", "must be JSON as it was released"),
        ("objectnet_to_imagenet_1k.json", '{"Shark": ["x"]}', "must hold a JSON object of names or numbers"),
        ("objectnet_to_imagenet_1k.json", '{"Shark": 5}', "Got 5 for 'Shark'"),
        ("objectnet_to_imagenet_1k.json", '{"Whale": "goldfish"}', "must use the classes of"),
        ("objectnet_to_imagenet_1k.json", '{"Shark": "goldfish", "Fish": "goldfish"}', "to one class"),
        ("imagenet_to_label_2012_v2", "tench, Tinca\n", "must be a line of"),
        ("pytorch_to_imagenet_2012_id.json", "{}", "gives a place"),
        ("folder_to_objectnet_label.json", '{"a": "Shark", "b": "Fish"}', "must hold pictures of classes"),
    ],
)
def test_a_release_of_objectnet_that_lacks_something_is_refused(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    made("objectnet", tmp_path)
    path = tmp_path / "objectnet-1.0" / "mappings" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(VitalsError, match=says):
        open_set(f"objectnet:{tmp_path}")


def test_a_picture_that_is_all_border_cannot_be_read(tmp_path: Path) -> None:
    made("objectnet", tmp_path)
    Image.new("RGB", (4, 9)).save(tmp_path / "objectnet-1.0" / "images" / "fish_f" / "0.png")
    images = open_set(f"objectnet:{tmp_path}")
    with pytest.raises(UnreadableImage, match="nothing but border"):
        images[0]
    assert [id for id, _ in decoded(images, PREPROCESS).skipped] == ["fish_f/0.png"]


# ---- ImageNet-Hard


def test_any_label_of_a_list_is_right(tmp_path: Path) -> None:
    images = made("imagenet_hard", tmp_path)
    wnids = imagenet_wnids()
    assert images.card.classes == ("0", "3", "3+999", "7", "7+12"), "[12, 7] and [7, 12] are one class"
    assert images.card.stands_for[4] == (wnids[7], wnids[12])
    assert images.card.notes[0] == "3 of 6 pictures have several labels, any of which is right"
    found = align(images.card, network())
    assert found.right == ((0,), (3,), (3, 999), (7,), (7, 12))
    right = torch.tensor([[7, 12], [7, 12], [7, 7], [7, 7]])
    out = torch.nn.functional.one_hot(torch.tensor([12, 7, 7, 12]), 1000).float()
    assert scoring.answers(out, right)["top1"].tolist() == [1, 1, 1, 0]
    assert torch.equal(scoring.answers(out, right[:, :1])["top1"][2:], scoring.answers(out, right)["top1"][2:]), (
        "{k} is k"
    )


def test_lists_of_labels_are_for_imagenet_hard_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (spelling, _) = dataset_inputs.imagenet_hard(tmp_path)
    with pytest.raises(VitalsError, match="must hold class names, or whole numbers from 0"):
        open_set(spelling.replace("imagenet_hard:", "parquet:"))
    picture = dataset_inputs.encoded(np.zeros((8, 8, 3), np.uint8))
    for labels, says in (
        ([[1000]], "must be below 1,000"),
        ([3], "lists of whole numbers"),
        ([[]], r"\[\] in row 0"),
        ([[-1]], r"\[-1\] in"),
    ):
        column = pa.array(labels, type=None if labels != [[]] else pa.list_(pa.int64()))
        pq.write_table(pa.table({"image": [picture], "label": column}), tmp_path / "x.parquet")
        with pytest.raises(VitalsError, match=says):
            open_set(f"imagenet_hard:{tmp_path / 'x.parquet'}")
