"""Oxford Flowers-102: `flowers:PATH[?part=train|val|test]`, 102 kinds of flowers, parts train (10 a class), val and test.

PATH holds `jpg/image_00001.jpg` and so on, `imagelabels.mat` and `setid.mat`. The two files are read with scipy, which must be installed.
The authors number the classes; they are `flower 001` to `flower 102` here.
"""

from pathlib import Path
from typing import Any

from visionvitals.core import ImageSet, Split
from visionvitals.datasets.base.listed import Picture, listed, source
from visionvitals.errors import VitalsError, require
from visionvitals.registry import Spec

_HOME = "The authors publish 102flowers.tgz, imagelabels.mat and setid.mat at https://www.robots.ox.ac.uk/~vgg/data/flowers/102/."
_SETS: dict[Split, str] = {"train": "trnid", "val": "valid", "test": "tstid"}


def open(spec: Spec) -> ImageSet:
    """Read the labels and the parts.

    Raises:
        VitalsError: a file of the published layout is missing or damaged, or scipy is not installed.
    """
    found = source(spec, inner=("flowers-102", "flowers102"), parts=("train", "val", "test"), home=_HOME)
    found.need("jpg")
    labels = _read(found.need("imagelabels.mat"), "labels")
    numbers = found.need("setid.mat")
    pictures = []
    for part in found.parts:
        chosen = _read(numbers, _SETS[part])
        require(max(chosen) <= len(labels), f"{numbers} must number the labelled pictures", max(chosen))
        pictures += [Picture(f"jpg/image_{k:05d}.jpg", _key(labels[k - 1]), part) for k in chosen]
    return listed(found, pictures, [_key(k) for k in range(1, max(labels) + 1)])


def _key(number: int) -> str:
    return f"flower {number:03d}"


def _read(path: Path, name: str) -> list[int]:
    """The numbers of one array of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise VitalsError(
            "Reading `flowers:` must have scipy installed. Got no such module. Try `pip install scipy`."
        ) from None
    try:
        content: dict[str, Any] = loadmat(path)
        return [int(value) for value in content[name].ravel()]
    except Exception as error:  # the reader raises many kinds for a damaged file
        raise VitalsError(
            f"{path} must be a MATLAB file with `{name}`. Got {type(error).__name__}: {error}."
        ) from error
