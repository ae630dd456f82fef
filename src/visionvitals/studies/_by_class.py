"""What a classifier does class by class, kept beside a cell's numbers: how often each class is right, what it is taken for, and a picture of
one that was missed. The report compares two backbones with it.
"""

import io
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from visionvitals.study import Job

FILE = "classes.json"
PICTURES = 6
"""So many of the worst classes get a picture."""
MISTAKEN = 3
"""So many wrong answers of a class are kept, the most frequent first."""


def attach(job: Job, rows: Sequence[int], predicted: np.ndarray) -> None:
    """Attach `classes.json` and the pictures that it names.

    A list with one entry a class that `rows` hold, in label order: `class` (its name), `n`, `right`, `taken_for` ([name, count], at most
    `MISTAKEN`) and `picture` (a file name, or None).

    Args:
        job: a job whose labels are the set's own.
        rows: the images that were scored, positions in the job's arrays.
        predicted: int (len(rows),), indices of the set's classes.
    """
    labels = np.asarray(job.labels)[list(rows)]
    names = job.images.class_names or tuple(str(k) for k in range(int(max(labels.max(), predicted.max())) + 1))
    found = []
    for label in np.unique(labels):
        said = predicted[labels == label]
        wrong = Counter(said[said != label].tolist()).most_common(MISTAKEN)
        right = int((said == label).sum())
        taken_for = [[names[k], count] for k, count in wrong]
        found.append({"class": names[label], "n": len(said), "right": right, "taken_for": taken_for, "picture": None})
    order = sorted(range(len(found)), key=lambda k: (found[k]["right"] / found[k]["n"], k))
    by_class = np.unique(labels)
    for place, k in enumerate(order[:PICTURES]):
        missed = np.flatnonzero((labels == by_class[k]) & (predicted != by_class[k]))
        if len(missed):
            found[k]["picture"] = f"class-{place}.webp"
            job.attach(f"class-{place}.webp", _thumbnail(job.pixels[rows[int(missed[0])]]))
    job.attach(FILE, json.dumps(found, indent=1).encode())


def _thumbnail(pixels: np.ndarray) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).resize((112, 112), Image.Resampling.LANCZOS).save(held, "webp", quality=85)
    return held.getvalue()
