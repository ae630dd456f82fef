"""German traffic signs (GTSRB): `gtsrb:PATH[?part=train|test]`, 43 signs, parts train and test as the authors publish them.

PATH holds `GTSRB/Training/00000/*.ppm` (or `Final_Training/Images`), `GTSRB/Final_Test/Images/*.ppm` and `GT-final_test.csv`. Thirty
training pictures each are frames of one sign, so a random draw of test pictures would show every sign before it is asked:
keep the parts.
"""

from pathlib import Path

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images
from visionvitals.datasets.base.listed import Picture, Source, listed, source
from visionvitals.datasets.base.reading import read_rows
from visionvitals.errors import VitalsError, require
from visionvitals.registry import Spec

_HOME = (
    "Get GTSRB-Training_fixed.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip by https://benchmark.ini.rub.de/ "
    "and unpack all of them there."
)
_SPEEDS = (20, 30, 50, 60, 70, 80)
NAMES = (
    *(f"speed limit {speed}" for speed in _SPEEDS),
    "end of speed limit 80",
    *(f"speed limit {speed}" for speed in (100, 120)),
    *("no passing", "no passing for lorries", "right of way at the next crossing", "priority road", "yield", "stop"),
    *("no vehicles", "no lorries", "no entry", "general caution", "dangerous curve left", "dangerous curve right"),
    *("double curve", "bumpy road", "slippery road", "road narrows on the right", "road work", "traffic signals"),
    *("pedestrians", "children crossing", "bicycles crossing", "beware of ice and snow", "wild animals crossing"),
    *("end of all limits", "turn right ahead", "turn left ahead", "ahead only", "go straight or right"),
    *(
        "go straight or left",
        "keep right",
        "keep left",
        "roundabout",
        "end of no passing",
        "end of no passing for lorries",
    ),
)


def open(spec: Spec) -> ImageSet:
    """List the training folders and read the table of the test pictures.

    Raises:
        VitalsError: a file of the published layout is missing or has another form.
    """
    found = source(spec, inner=("gtsrb",), parts=("train", "test"), home=_HOME)
    pictures: list[Picture] = []
    if "train" in found.parts:
        training = found.need("GTSRB/Training", "GTSRB/Final_Training/Images", "Training", "Final_Training/Images")
        below = training.relative_to(found.root).as_posix()
        for folder in sorted(entry for entry in training.iterdir() if entry.is_dir()):
            pictures += [
                Picture(f"{below}/{folder.name}/{p.name}", _name(folder.name, training), "train")
                for p in _pictures(folder)
            ]
    if "test" in found.parts:
        pictures += _test(found)
    return listed(found, pictures, NAMES)


def _test(found: Source) -> list[Picture]:
    images = found.need("GTSRB/Final_Test/Images", "Final_Test/Images").relative_to(found.root).as_posix()
    table = found.need("GT-final_test.csv", "GTSRB/GT-final_test.csv", f"{images}/GT-final_test.csv")
    rows = read_rows(table, delimiter=";")
    _, header = next(rows, (1, []))
    for column in ("Filename", "ClassId"):
        require(
            column in header,
            f"{table} must have the columns Filename and ClassId, separated by `;`",
            header[:9],
            found.home,
        )
    file, sign = header.index("Filename"), header.index("ClassId")
    pictures = []
    for line, row in rows:
        require(len(row) == len(header), f"{table}, line {line} must have {len(header)} fields", len(row))
        pictures.append(Picture(f"{images}/{row[file]}", _name(row[sign], table), "test"))
    return pictures


def _name(number: str, where: Path) -> str:
    if not number.isdecimal() or int(number) >= len(NAMES):
        raise VitalsError(f"The signs in {where} must be numbered 0 to {len(NAMES) - 1}. Got {number!r}.")
    return NAMES[int(number)]


def _pictures(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.ppm"), *(folder / name for name in find_images(folder).pictures)])
