"""CUB-200-2011: `cub:PATH[?part=train|test]`, 200 kinds of birds, parts train and test as the authors drew them.

PATH is the unpacked `CUB_200_2011`, or the folder it lies in: `images/CLASS/NAME.jpg`, and `classes.txt`, `images.txt`,
`image_class_labels.txt` and `train_test_split.txt`, whose lines begin with a number that joins them.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.core import ImageSet
from visionvitals.datasets.base.listed import Picture, listed, source
from visionvitals.errors import VitalsError
from visionvitals.registry import Spec

_HOME = "The authors publish CUB_200_2011.tgz at https://www.vision.caltech.edu/datasets/cub_200_2011/."


def open(spec: Spec) -> ImageSet:
    """Read the lists.

    Raises:
        VitalsError: a file of the published layout is missing, or the lists do not fit each other.
    """
    found = source(spec, inner=("CUB_200_2011",), parts=("train", "test"), home=_HOME)
    found.need("images")
    classes, kind, taught = (
        {row[0]: row[1] for row in found.rows(f"{name}.txt", 2)}
        for name in ("classes", "image_class_labels", "train_test_split")
    )
    try:
        every = [
            Picture(f"images/{path}", classes[kind[number]], "train" if taught[number] == "1" else "test")
            for number, path in found.rows("images.txt", 2)
        ]
    except KeyError as error:
        raise VitalsError(
            f"The lists in {found.root} must name the same pictures and classes. Got {error} in one."
        ) from None
    names = [name.partition(".")[2].replace("_", " ") or name for name in classes.values()]
    return listed(found, [p for p in every if p.part in found.parts], list(classes.values()), names)


def examples(tmp: Path) -> list[str]:
    """Spellings of small inputs, written below `tmp`, for the contract tests."""
    rng = np.random.default_rng(0)
    root = tmp / "CUB_200_2011"
    classes = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for k in range(6):
        path = f"{classes[k % 2]}/{k:04d}.jpg"
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / "images" / path)
        for name, value in (("images", path), ("image_class_labels", k % 2 + 1), ("train_test_split", int(k < 4))):
            lists[name].append(f"{k + 1} {value}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("".join(f"{k + 1} {name}\n" for k, name in enumerate(classes)))
    return [f"cub:{tmp}", f"cub:{root}?part=train"]
