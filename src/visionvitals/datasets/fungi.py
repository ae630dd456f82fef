"""FGVCx Fungi 2018: `fungi:PATH[?part=train|val]`, 1394 kinds of fungi, parts train and val; the labels of its test pictures are not public.

PATH holds what the competition publishes: `train.json`, `val.json`, and the pictures where their `file_name` says (`images/...`).
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

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


def examples(tmp: Path) -> list[str]:
    """Spellings of small inputs, written below `tmp`, for the contract tests."""
    rng = np.random.default_rng(0)
    categories = [
        {"id": k, "name": name, "supercategory": "Fungi"}
        for k, name in enumerate(("Amanita muscaria", "Boletus edulis"))
    ]
    for part in ("train", "val"):
        images, annotations = [], []
        for k in range(4):
            path = f"images/{k % 2}_x/{part}{k}.JPG"
            (tmp / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / path)
            images.append({"id": k, "file_name": path, "width": 50, "height": 40})
            annotations.append({"id": k, "image_id": k, "category_id": k % 2})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp / f"{part}.json").write_text(json.dumps(content))
    return [f"fungi:{tmp}", f"fungi:{tmp}?part=val"]
