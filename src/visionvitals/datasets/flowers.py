"""Oxford Flowers-102: `flowers:PATH[?part=train|val|test]`, 102 kinds of flowers, parts train (10 a class), val and test.

PATH holds `jpg/image_00001.jpg` and so on, `imagelabels.mat` and `setid.mat`. The two files are read with scipy, which must be installed.
The authors number the classes; they are `flower 001` to `flower 102` here.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def examples(tmp: Path) -> list[str]:
    """Spellings of small inputs, written below `tmp`, for the contract tests; none without scipy."""
    if importlib.util.find_spec("scipy") is None:
        return []
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    (tmp / "jpg").mkdir(parents=True)
    for k in range(1, 7):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / "jpg" / f"image_{k:05d}.jpg")
    savemat(tmp / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]], dtype=np.uint8)})
    savemat(tmp / "setid.mat", {"trnid": [[1, 2]], "valid": [[4, 3]], "tstid": [[5, 6]]})
    return [f"flowers:{tmp}", f"flowers:{tmp}?part=test"]


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
