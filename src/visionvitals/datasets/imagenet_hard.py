"""ImageNet-Hard, pictures that networks of 2023 got wrong even when zoomed: `imagenet_hard:FILES`, several labels a picture.

FILES are the Parquet files of the release (a folder of them, a pattern, or a URL, as in `parquet:`) with the columns `image` and `label`, a
list of ImageNet's output indices. An answer with any label of the list is right: each distinct list of labels is a class here, called `7+12`,
that stands for these outputs.

The release has shrunk from 13,925 to 10,980 pictures over its revisions; the digest of the set tells them apart, a published number often does not.
Source: Taesiri et al. 2023, "ImageNet-Hard".
"""

import functools
from dataclasses import replace

from visionvitals.core import ImageSet
from visionvitals.datasets import parquet
from visionvitals.datasets.base import located
from visionvitals.datasets.base.digest import digest
from visionvitals.datasets.base.files import whole_name
from visionvitals.datasets.base.labels import imagenet_wnids, readable_names
from visionvitals.errors import require
from visionvitals.registry import Spec

files = functools.partial(located.files, family="imagenet_hard", ending=".parquet")


def open(spec: Spec) -> ImageSet:
    """Index the files that were not seen before.

    Raises:
        VitalsError: no such file, a file that is damaged or has other columns, a picture without label, or a label of 1,000 or more.
    """
    spec.only()
    found = parquet.of_files(spec, located.locate(whole_name(spec), ".parquet"), several=True)
    wnids, classes = imagenet_wnids(), found.card.classes
    lists = [[int(index) for index in key.split("+")] for key in classes]
    largest = max(map(max, lists))
    require(largest < len(wnids), f"The labels of `{spec.text}` must be below 1,000, ImageNet's outputs", largest)
    several = tuple(tuple(wnids[index] for index in indices) for indices in lists)
    more = sum(len(lists[label]) > 1 for label in found.labels)
    card = replace(
        found.card,
        digest=digest([" ".join(of) for of in several], ["stands for"], [0], [found.card.digest]),
        class_names=tuple(" or ".join(readable_names(of)) for of in several),
        stands_for=several,
        notes=(f"{more} of {found.card.n} pictures have several labels, any of which is right", *found.card.notes),
    )
    return replace(found, card=card)
