"""iNaturalist competitions: `inaturalist:PATH[?year=2019][&part=train|val]`; 2019 has 1010 species, parts train and val.

PATH holds what the competition publishes: `train2019.json`, `val2019.json`, and the pictures where their `file_name` says
(`train_val2019/...`). Where the JSON knows the group of a species, class keys read `group/species`, so that episodes of `related` classes
can be drawn. The names of 2019 are numbers unless the later published categories.json was put in; those classes are `category 7`.
"""

from visionvitals.core import ImageSet
from visionvitals.datasets.base.listed import competition, source
from visionvitals.errors import require
from visionvitals.registry import Spec

_HOME = "Get train_val{year}.tar.gz, train{year}.json and val{year}.json by https://github.com/visipedia/inat_comp/tree/master/{year}."


def open(spec: Spec) -> ImageSet:
    """Read the two JSON files.

    Raises:
        VitalsError: a file of the published layout is missing or has another form, or a year of another form.
    """
    year = spec.options.get("year", "2019")
    require(year in ("2017", "2018", "2019"), "`year` must be 2017, 2018 or 2019", year)
    home = _HOME.format(year=year)
    found = source(spec, inner=(), parts=("train", "val"), home=home, options=("year",))
    return competition(found, {"train": f"train{year}.json", "val": f"val{year}.json"})
