"""visionvitals takes the vital signs of a vision backbone.

The public names are few; everything else is reached through the command `vitals` or the modules named in the README.
Importing this package loads neither torch nor timm.
"""

from visionvitals.api import audit as audit
from visionvitals.api import backbone as backbone
from visionvitals.api import gate as gate
from visionvitals.api import images as images
from visionvitals.core import Backbone as Backbone
from visionvitals.core import BackboneCard as BackboneCard
from visionvitals.core import Cell as Cell
from visionvitals.core import Example as Example
from visionvitals.core import ImageSet as ImageSet
from visionvitals.core import ImageSetCard as ImageSetCard
from visionvitals.core import Preprocess as Preprocess
from visionvitals.core import Scores as Scores
from visionvitals.job import Batch as Batch
from visionvitals.job import Job as Job
from visionvitals.reading import Run as Run

__all__ = [
    "Backbone",
    "BackboneCard",
    "Batch",
    "Cell",
    "Example",
    "ImageSet",
    "ImageSetCard",
    "Job",
    "Preprocess",
    "Run",
    "Scores",
    "audit",
    "backbone",
    "gate",
    "images",
]
__version__ = "0.2.0"
