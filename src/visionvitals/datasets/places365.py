"""Places365-Standard, the small pictures of 256 x 256: `places365:PATH[?part=train|val]`, 365 scenes, parts train and val.

PATH holds `categories_places365.txt`, `places365_train_standard.txt` and `places365_val.txt`, whose lines read `path class-number`, and the
pictures in `data_256` (or `data_256_standard`) and `val_256`. The test pictures have no public labels. With `part=val` the training
pictures and their list need not be there.
"""

from visionvitals.core import ImageSet, Split
from visionvitals.datasets.base.listed import Picture, listed, source
from visionvitals.errors import VitalsError
from visionvitals.registry import Spec

_HOME = "Get train_256_places365standard.tar, val_256.tar and filelist_places365-standard.tar at http://places2.csail.mit.edu/download.html."
_LISTS: dict[Split, tuple[str, tuple[str, ...]]] = {
    "train": ("places365_train_standard.txt", ("data_256", "data_256_standard")),
    "val": ("places365_val.txt", ("val_256",)),
}


def open(spec: Spec) -> ImageSet:
    """Read the lists.

    Raises:
        VitalsError: a file of the published layout is missing, or a class number that no class has.
    """
    found = source(spec, inner=(), parts=("train", "val"), home=_HOME)
    names = {number: path.split("/", 2)[2] for path, number in found.rows("categories_places365.txt", 2)}
    pictures = []
    for part in found.parts:
        file, folders = _LISTS[part]
        folder = found.need(*folders).name
        try:
            pictures += [Picture(f"{folder}/{path.lstrip('/')}", names[k], part) for path, k in found.rows(file, 2)]
        except KeyError as error:
            raise VitalsError(
                f"`{file}` in {found.root} must use the class numbers of the categories. Got {error}."
            ) from None
    return listed(found, pictures, list(names.values()), [name.replace("_", " ") for name in names.values()])
