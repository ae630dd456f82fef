"""Labels become outputs only where that is certain; everything else is refused with a way out."""

import dataclasses
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from visionvitals.core import BackboneCard, ImageSetCard, Preprocess
from visionvitals.datasets.base.labels import align, chance_warning, readable_names
from visionvitals.errors import VitalsError

HOW = Preprocess(size=(8, 8), resize=8, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IMAGENET = (
    ("n01440764", "tench, Tinca tinca"),
    ("n02012849", "crane"),
    ("n02129165", "lion, king of beasts, Panthera leo"),
)


def images(
    *classes: str,
    names: tuple[str, ...] | None = None,
    kind: Literal["names", "indices"] = "names",
    spec: str = "folder:x",
) -> ImageSetCard:
    return ImageSetCard(spec=spec, digest="", n=9, classes=classes, class_names=names or classes, kind=kind)


def backbone(*classes: tuple[str, str], outputs: int | None = None) -> BackboneCard:
    return BackboneCard(
        spec="timm:y",
        architecture="",
        digest="",
        preprocess=HOW,
        outputs=outputs or len(classes),
        parameters=1,
        classes=tuple(key for key, _ in classes) or None,
        class_names=tuple(name for _, name in classes) or None,
    )


def test_indices_are_outputs() -> None:
    assert align(images("0", "1", "2", kind="indices"), backbone(*IMAGENET)).indices == (0, 1, 2)
    with pytest.raises(VitalsError, match=r"must be below the 3 outputs of `timm:y`\. Got 3\. Indices count from 0"):
        align(images("0", "1", "2", "3", kind="indices"), backbone(*IMAGENET))


@pytest.mark.parametrize(
    "classes",
    [
        ("n02129165", "n01440764"),
        ("lion", "tench"),
        ("Panthera_leo", "TINCA tinca"),
        ("lion, king of beasts", "n01440764"),
    ],
)
def test_names_match_in_any_spelling(classes: tuple[str, ...]) -> None:
    found = align(images(*classes), backbone(*IMAGENET))
    assert found.indices == (2, 0)
    assert found.how == "the classes were matched with 2 of 3 outputs of the model by name"


def test_an_accent_of_its_own_and_one_of_the_letter_are_the_same_name() -> None:
    composed, apart = "Caf\u00e9", "Cafe\u0301"
    for ours, theirs in ((composed, apart), (apart, composed)):
        found = align(images(ours, "Bar"), backbone(("Bar", "Bar"), (theirs, theirs)))
        assert found.indices == (1, 0)


def test_the_readable_names_of_a_set_match_too() -> None:
    found = align(images("n01440764", names=("tench, Tinca tinca",)), backbone(("0", "crane"), ("1", "Tinca tinca")))
    assert found.indices == (1,)


def test_the_strictest_match_wins() -> None:
    model = backbone(("0", "maillot"), ("1", "maillot, tank suit"))
    assert align(images("maillot", "maillot, tank suit"), model).indices == (0, 1)
    assert align(images("tank suit"), model).indices == (1,)


def test_every_permutation_is_found() -> None:
    classes = [(f"k{index}", f"name {index}") for index in range(50)]
    order = np.random.default_rng(0).permutation(50)
    assert align(images(*(f"Name_{index}" for index in order)), backbone(*classes)).indices == tuple(order)


def test_classes_that_match_nothing_are_named() -> None:
    with pytest.raises(VitalsError) as error:
        align(images("tench", "lionness", "dog"), backbone(*IMAGENET, ("k", "lioness")))
    text = str(error.value)
    assert text.startswith(
        "2 of the 3 classes of `folder:x` are not among those of `timm:y`: lionness, dog. Did you mean lioness?"
    )
    assert text.endswith("Map the folders with `?classes=FILE` on the folder, lines of `folder,class of the model`.")
    with pytest.raises(VitalsError, match="Write the labels as the model's classes, or as output indices"):
        align(images("dog", spec="csv:x"), backbone(*IMAGENET))


def test_a_name_of_two_outputs_is_refused_with_both() -> None:
    model = backbone(*IMAGENET, ("n03126707", "crane"))
    with pytest.raises(VitalsError, match=r"Class `crane` .* could be `crane` \(output 1\) and `crane` \(output 3\)"):
        align(images("crane", "lion"), model)
    assert align(images("n03126707", names=("crane",)), model).indices == (3,)


def test_two_classes_of_one_output_are_refused() -> None:
    with pytest.raises(
        VitalsError, match=r"Classes lion, king of beasts of `folder:x` all match `lion, king.*output 2"
    ):
        align(images("lion", "king of beasts"), backbone(*IMAGENET))


def test_the_few_that_differ_in_a_set_of_the_same_order_go_by_position() -> None:
    model = [(f"n{index:08d}", f"name {index}") for index in range(200)]
    model[7] = ("n00000007", "crane")
    model[150] = ("n00000150", "crane")
    names = [name for _, name in model]
    names[150] = "crane2"
    found = align(images(*names[:7], "crane bird", *names[8:]), backbone(*model))
    assert found.indices == tuple(range(200))
    assert (
        found.how
        == "198 of 200 classes match the model's by name at the same position, and the other 2 were taken by position"
    )
    swapped = [names[1], names[0], *names[2:]]
    with pytest.raises(VitalsError, match=r"1 of the 200 classes .*: crane2"):
        align(images(*swapped), backbone(*model))
    with pytest.raises(VitalsError, match=r"3 of the 200 classes"):
        align(images(*names[:7], "x", "y", *names[9:]), backbone(*model))


def test_a_model_without_class_names_takes_the_order_if_the_numbers_agree() -> None:
    found = align(images("a", "b", "c"), backbone(outputs=3))
    assert found.indices == (0, 1, 2)
    assert "does not name its outputs" in found.how
    with pytest.raises(
        VitalsError,
        match=r"its 4 outputs.* Got 3\. A class may be missing\. .*`\?classes=FILE`: a class of the image set for each",
    ):
        align(images("a", "b", "c"), backbone(outputs=4))
    with pytest.raises(VitalsError, match=r"Got 3\. Name the outputs"):
        align(images("a", "b", "c"), backbone(outputs=2))


def test_decimal_folders_are_indices_unless_they_are_names() -> None:
    assert align(images("0", "10", "2"), backbone(outputs=11)).indices == (0, 10, 2)
    assert align(images("0", "2"), backbone(*IMAGENET)).indices == (0, 2)
    assert align(images("0", "2"), backbone(("2", "two"), ("1", "one"), ("0", "zero"))).indices == (2, 0)
    with pytest.raises(VitalsError, match=r"must be below the 3 outputs of `timm:y`\. Got 3"):
        align(images("0", "3"), backbone(*IMAGENET))


def test_folders_called_by_numbers_are_guessed_for_a_model_without_names() -> None:
    twelve = tuple(sorted(map(str, range(12))))
    assert twelve[:4] == ("0", "1", "10", "11")
    found = align(images(*twelve), backbone(outputs=12))
    assert (found.indices, found.guessed) == ((0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9), True)
    assert "classes called by numbers were taken as the outputs of these numbers" in found.how
    same, named = (align(images(*keys), backbone(outputs=3)) for keys in (("0", "1", "2"), ("a", "b", "c")))
    assert same == named
    assert same.guessed
    assert align(images("3", "7"), backbone(outputs=12)).guessed
    assert not align(images(*twelve), replace(backbone(outputs=12), ordered=True)).guessed
    assert not align(images(*twelve, kind="indices"), backbone(outputs=12)).guessed


def test_integer_labels_that_are_names_of_other_outputs_are_refused() -> None:
    model = backbone(("0", "0"), ("10", "10"), ("1", "1"))
    with pytest.raises(
        VitalsError, match=r"Got `1`, which is output 1 of `timm:y` by its position and output 2 by its"
    ):
        align(images("0", "1", kind="indices", spec="csv:x"), model)
    assert align(images("0", kind="indices"), model).indices == (0,)
    assert align(images("0", "1", "2", kind="indices"), model).indices == (0, 1, 2)  # "2" names nothing


def test_all_of_imagenet_aligns_with_itself_by_wnid_and_by_name() -> None:
    timm = importlib.util.find_spec("timm")
    assert timm is not None
    assert timm.submodule_search_locations
    table = Path(timm.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt"
    wnids = tuple(table.read_text().split())
    names = readable_names(wnids)
    assert (len(set(wnids)), names[0], names[-1]) == (
        1000,
        "tench, Tinca tinca",
        "toilet tissue, toilet paper, bathroom tissue",
    )
    model = backbone(*zip(wnids, names, strict=True))
    assert align(images(*wnids, names=names), model).indices == tuple(range(1000))
    by_name = tuple(f"{name}{index}" if names.index(name) < index else name for index, name in enumerate(names))
    assert align(images(*by_name), model).indices == tuple(range(1000))


def test_unknown_wnids_keep_their_key() -> None:
    assert readable_names(["n99999999", "n01440764", "dog"]) == ("n99999999", "tench, Tinca tinca", "dog")


@pytest.mark.parametrize(
    ("accuracy", "n", "outputs", "warns"),
    [
        (0.0, 300, 1000, True),
        (0.001, 50_000, 1000, True),
        (0.0029, 50_000, 1000, True),
        (0.01, 50_000, 1000, False),
        (0.57, 300, 1000, False),
        (0.0, 3, 1000, False),  # three pictures prove nothing
        (0.5, 1000, 2, True),
        (0.56, 1000, 2, False),
        (0.1, 200, 10, True),
        (0.35, 200, 10, False),
        (1.0, 100, 1, False),
    ],
)
def test_accuracy_at_chance_is_told(accuracy: float, n: int, outputs: int, warns: bool) -> None:
    card = backbone(outputs=outputs)
    text = chance_warning(accuracy, n, how="taken in order", backbone=card)
    assert (text is not None) == warns
    if text is not None:
        assert "another class order (taken in order" in text
        assert "mean (0.485, 0.456, 0.406)" in text
        assert "with `?classes=FILE`)" in text
        own = chance_warning(accuracy, n, how="", backbone=dataclasses.replace(card, spec="memory:net"))
        assert "`visionvitals.backbone(..., classes=...)`" in str(own)
        assert "`visionvitals.backbone(..., mean=..., std=...)`" in str(own)
    assert chance_warning(0.0, 0, how="", backbone=card) is None


def test_a_class_that_stands_for_several_has_all_their_outputs() -> None:
    several = replace(images("animal", "bird"), stands_for=(("n01440764", "n02129165"), ("n02012849",)))
    found = align(several, backbone(*IMAGENET))
    assert found.indices == (0, 1)
    assert found.right == ((0, 2), (1,))
    assert found.outputs(np.array([1, 0, 1])).tolist() == [[1, 1], [0, 2], [1, 1]]
    one = align(images("n02012849", "n01440764"), backbone(*IMAGENET))
    assert one.outputs(np.array([1, 0, 0])).tolist() == [0, 1, 1]
    assert found.present == (0, 1, 2)
    with pytest.raises(VitalsError, match="1 of the 2 classes of `folder:x` are not among those of `timm:y`: n0000000"):
        align(replace(several, stands_for=(("n01440764",), ("n00000000",))), backbone(*IMAGENET))
