"""CUB-200-2011: `cub:PATH[?part=train|test]`, 200 kinds of birds, parts train and test as the authors drew them.

PATH is the unpacked `CUB_200_2011`, or the folder it lies in: `images/CLASS/NAME.jpg`, and `classes.txt`, `images.txt`,
`image_class_labels.txt` and `train_test_split.txt`, whose lines begin with a number that joins them.
"""

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
