"""What the author of a backbone family imports, beside torch: see docs/write_a_backbone.md. A family is one file of this folder, or of another package."""

from visionvitals.backbones._classes import Names
from visionvitals.backbones._parts import Network, assemble, seeded
from visionvitals.core import Backbone, Preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, option, reads

__all__ = [
    "Backbone", "Names", "Network", "Preprocess", "Spec", "VitalsError", "assemble", "near", "option", "reads", "require", "seeded",
]  # fmt: skip
