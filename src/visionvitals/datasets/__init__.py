"""What the author of an image set imports: see docs/write_an_image_set.md. An image set is one file of this folder, or of another package."""

from visionvitals.core import Example, ImageSet, ImageSetCard
from visionvitals.errors import UnreadableImage, VitalsError, near, require
from visionvitals.registry import Spec, option, reads

__all__ = [
    "Example", "ImageSet", "ImageSetCard", "Spec", "UnreadableImage", "VitalsError", "near", "option", "reads", "require",
]  # fmt: skip
