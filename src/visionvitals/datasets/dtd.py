"""Describable Textures: `dtd:PATH[?fold=1..10][&part=...]`, 47 textures, parts train, val and test of one of ten published folds.

PATH is the unpacked `dtd`, or the folder it lies in: `images/CLASS/NAME.jpg` and `labels/train1.txt` (val1, test1, ...) with lines of
`CLASS/NAME.jpg`. Published results mostly use fold 1.
"""

from visionvitals.core import ImageSet
from visionvitals.datasets.base.listed import Picture, listed, source
from visionvitals.errors import require
from visionvitals.registry import Spec

_HOME = "The authors publish dtd-r1.0.1.tar.gz at https://www.robots.ox.ac.uk/~vgg/data/dtd/."


def open(spec: Spec) -> ImageSet:
    """Read the lists.

    Raises:
        VitalsError: a file of the published layout is missing, or an unknown fold.
    """
    found = source(spec, inner=("dtd", "dtd/dtd"), parts=("train", "val", "test"), home=_HOME, options=("fold",))
    fold = found.options.get("fold", "1")
    require(fold in [str(k) for k in range(1, 11)], "`fold` must be 1 to 10", fold)
    images = found.need("images")
    pictures = [
        Picture(f"images/{path}", path.partition("/")[0], part)
        for part in found.parts
        for (path,) in found.rows(f"labels/{part}{fold}.txt", 1)
    ]
    return listed(found, pictures, sorted(entry.name for entry in images.iterdir() if entry.is_dir()))
