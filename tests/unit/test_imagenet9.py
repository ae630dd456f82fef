"""ImageNet-9: nine classes that stand for many of a network's outputs, read from a look-alike of the release."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dataset_inputs
from visionvitals import registry
from visionvitals.core import BackboneCard, Preprocess
from visionvitals.datasets import imagenet9
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.datasets.base.labels import align, imagenet_wnids
from visionvitals.errors import VitalsError
from visionvitals.study import answers

PRE = Preprocess(size=(24, 24), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "the cache"))


def opened(spelling: str) -> EncodedImages:
    found = imagenet9.open(registry.parse(spelling, families=["imagenet9"]))
    assert isinstance(found, EncodedImages)
    return found


def network(keys: tuple[str, ...] | None, outputs: int = 1000) -> BackboneCard:
    return BackboneCard(
        spec="net",
        architecture="net",
        digest="net",
        preprocess=PRE,
        outputs=outputs,
        parameters=0,
        classes=keys,
        class_names=keys,
    )


def test_the_wnids_of_imagenet_stand_in_the_order_of_the_outputs() -> None:
    wnids = imagenet_wnids()
    assert (wnids[0], wnids[151], wnids[999]) == ("n01440764", "n02085620", "n15075141")
    assert list(wnids) == sorted(set(wnids))


def test_the_published_counts_are_those_of_370_classes() -> None:
    assert list(imagenet9.COUNTS.values()) == [116, 52, 42, 36, 35, 27, 26, 20, 16]
    assert sum(imagenet9.COUNTS.values()) == 370


def test_any_output_of_a_class_is_right_and_the_rest_are_wrong(tmp_path: Path) -> None:
    images = opened(dataset_inputs.imagenet9(tmp_path)[0])
    assert images.card.class_names == (
        "dog",
        "bird",
        "vehicle",
        "reptile",
        "carnivore",
        "insect",
        "instrument",
        "primate",
        "fish",
    )
    found = align(images.card, network(imagenet_wnids()))
    assert [set(several) for several in found.right] == [set(range(k, 1000, 27)) for k in range(9)]
    assert found.present == tuple(k for k in range(1000) if k % 27 < 9)
    most = max(map(len, found.right))
    right = torch.tensor([(*several, *[several[0]] * (most - len(several))) for several in found.right])
    said = torch.tensor([0, 28, 2 + 26 * 27, 4, 9, 26])  # right, right, right, of another class, of none, of none
    top1 = answers(torch.eye(1000)[said], right[[0, 1, 2, 3, 4, 5]])["top1"]
    assert top1.tolist() == [1, 1, 1, 0, 0, 0]


def test_the_outputs_are_found_by_their_names_and_not_by_their_place(tmp_path: Path) -> None:
    images = opened(dataset_inputs.imagenet9(tmp_path)[0])
    found = align(images.card, network(imagenet_wnids()[::-1]))
    assert [set(several) for several in found.right] == [{999 - j for j in range(k, 1000, 27)} for k in range(9)]
    with pytest.raises(VitalsError, match="does not name its 9 outputs"):
        align(images.card, network(None, outputs=9))


def test_variations_have_the_same_ids_other_pictures_and_digests_of_their_own(tmp_path: Path) -> None:
    first, second = map(opened, dataset_inputs.imagenet9(tmp_path))
    assert first.ids == second.ids
    assert first.ids[:3] == ("00_dog/fg_0.JPEG", "00_dog/fg_1.JPEG", "01_bird/fg_0.JPEG")
    assert list(first.labels) == [k // 2 for k in range(18)]
    assert not np.array_equal(np.asarray(first[0].image), np.asarray(second[0].image))
    assert first.card.digest != second.card.digest
    assert any("the published one" in note for note in first.card.notes), "370 classes are no 333"
    before = first.card.digest
    path = tmp_path / "in_to_in9.json"
    path.write_text(path.read_text().replace('"0": 0,', '"0": -1,'))
    assert opened(first.card.spec).card.digest != before, "what is right is part of the set"


def test_the_mapping_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    spelling = dataset_inputs.imagenet9(tmp_path)[0]
    before = opened(spelling).card
    (tmp_path / "in_to_in9.json").rename(tmp_path / "bg_challenge" / "in_to_in9.json")
    assert opened(spelling).card == before


def test_a_release_without_its_mapping_is_refused_with_where_it_is_published(tmp_path: Path) -> None:
    spelling = dataset_inputs.imagenet9(tmp_path)[0]
    (tmp_path / "in_to_in9.json").unlink()
    with pytest.raises(VitalsError, match=r"`in_to_in9.json` must lie in .*MadryLab/backgrounds_challenge"):
        opened(spelling)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: "no json", "must be the JSON of the release"),
        (lambda table: json.dumps([*table]), "must map each index"),
        (lambda table: json.dumps({k: v for k, v in table.items() if k != "999"}), "must map each index"),
        (lambda table: json.dumps(table | {"1000": 0}), "must map each index"),
        (lambda table: json.dumps(table | {"3": 9}), r"Got 9"),
        (lambda table: json.dumps(table | {"3": 1.5}), r"Got 1.5"),
        (lambda table: json.dumps(table | {"3": True}), r"Got True"),
        (lambda table: json.dumps({k: -1 if v == 8 else v for k, v in table.items()}), r"nothing for class \[8\]"),
    ],
)
def test_a_mapping_of_another_form_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], str], says: str
) -> None:
    spelling = dataset_inputs.imagenet9(tmp_path)[0]
    path = tmp_path / "in_to_in9.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(VitalsError, match=says):
        opened(spelling)


def test_folders_that_are_none_of_the_release_are_refused(tmp_path: Path) -> None:
    spelling = dataset_inputs.imagenet9(tmp_path)[0]
    root = tmp_path / "bg_challenge"
    for wrong, says in (
        (f"imagenet9:{tmp_path}/none", "The folder must exist"),
        (f"{spelling}?variation=only_fg", "The folder of a variation must exist"),
        (f"{spelling}?variation=mixed_sane", "Did you mean mixed_same"),
    ):
        with pytest.raises(VitalsError, match=says):
            opened(wrong)
    (root / "original" / "val" / "00_dog").rename(root / "original" / "val" / "00_cat")
    with pytest.raises(VitalsError, match="a folder for each of dog"):
        opened(spelling)
