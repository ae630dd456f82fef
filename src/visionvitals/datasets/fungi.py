"""FGVCx Fungi 2018: `fungi:PATH[?part=train|val]`, 1394 kinds of fungi, parts train and val; the labels of its test pictures are not public.

PATH holds what the competition publishes: `train.json`, `val.json`, and the pictures where their `file_name` says (`images/...`).
"""

from visionvitals.core import ImageSet
from visionvitals.datasets.base.listed import competition, source
from visionvitals.registry import Spec

_HOME = "Get fungi_train_val.tgz and train_val_annotations.tgz by https://github.com/visipedia/fgvcx_fungi_comp and unpack both there."


def open(spec: Spec) -> ImageSet:
    """Read the two JSON files.

    Raises:
        VitalsError: a file of the published layout is missing or has another form.
    """
    found = source(spec, inner=(), parts=("train", "val"), home=_HOME)
    return competition(found, {"train": "train.json", "val": "val.json"})
