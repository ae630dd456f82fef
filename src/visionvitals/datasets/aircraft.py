"""FGVC-Aircraft 2013b: `aircraft:PATH[?level=variant|family|manufacturer][&part=...]`, 100 variants, parts train, val and test.

PATH is the unpacked `fgvc-aircraft-2013b` or its `data` folder: `images/ID.jpg` and, for each part, `images_variant_PART.txt` with lines
`ID class`. The strip with the copyright at the lower edge is part of the picture, as in most published results.
"""

from visionvitals.core import ImageSet
from visionvitals.datasets.base.listed import Picture, listed, source
from visionvitals.errors import require
from visionvitals.registry import Spec

_LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
_HOME = "The authors publish fgvc-aircraft-2013b.tar.gz at https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/."


def open(spec: Spec) -> ImageSet:
    """Read the lists.

    Raises:
        VitalsError: a file of the published layout is missing, or an unknown option.
    """
    found = source(
        spec, inner=("fgvc-aircraft-2013b/data", "data"), parts=("train", "val", "test"), home=_HOME, options=("level",)
    )
    level = found.options.get("level", "variant")
    require(level in _LEVELS, f"`level` must be one of {', '.join(_LEVELS)}", level)
    found.need("images")
    classes = [name for (name,) in found.rows(_LEVELS[level], 1)]
    pictures = [
        Picture(f"images/{id}.jpg", _key(name), part)
        for part in found.parts
        for id, name in found.rows(f"images_{level}_{part}.txt", 2)
    ]
    return listed(found, pictures, [_key(name) for name in classes], classes)


def _key(name: str) -> str:
    """A variant called only by a number is no index of an output."""
    return f"variant {name}" if name.isdecimal() else name
