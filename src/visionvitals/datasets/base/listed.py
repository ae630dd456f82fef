"""What the readers of published data sets share: files that must be there, lists of (path, class, part), and the set made of them.

All of them take `?part=train` (val, test) for one part alone, which is what a study that scores a trained network wants; without it
the set has parts, and every picture knows its own.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from visionvitals.core import ImageSet, Split
from visionvitals.datasets.base.files import from_paths, local_path, missing, parts_notes, printable
from visionvitals.errors import VitalsError, require, shortened
from visionvitals.files import read_text
from visionvitals.registry import Spec


class Picture(NamedTuple):
    """A picture of a published list: POSIX path below the root, class key, part."""

    path: str
    key: str
    part: Split


@dataclass(frozen=True)
class Source:
    """Where a user's copy lies, and where people get one.

    Attributes:
        spec: the user's spelling.
        root: the folder that the published files lie in.
        home: a sentence that says where to get the data.
        parts: the parts that were asked for.
        options: the other options of the spelling.
    """

    spec: Spec
    root: Path
    home: str
    parts: tuple[Split, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def need(self, *names: str) -> Path:
        """The first of these files or folders that exists.

        Raises:
            VitalsError: none of them does.
        """
        for path in (self.root / name for name in names):
            if path.is_file() or path.is_dir():
                return path
        raise VitalsError(
            f"`{self.spec.text}` must have {' or '.join(f'`{name}`' for name in names)} in {self.root}. Got no such file. {self.home}"
        )

    def rows(self, name: str, columns: int) -> list[tuple[str, ...]]:
        """The fields of each line of a text file that must be there; the last one may hold spaces, empty lines are left out.

        Raises:
            VitalsError: no such file, or a line with fewer fields.
        """
        path = self.need(name)
        found = []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            fields = tuple(line.strip().split(None, columns - 1))
            require(len(fields) in (0, columns), f"{path}, line {number} must have {columns} fields", shortened(line))
            if fields:
                found.append(fields)
        return found


def source(
    spec: Spec, *, inner: Sequence[str], parts: Sequence[Split], home: str, options: Sequence[str] = ()
) -> Source:
    """Read the spelling of a published set.

    Args:
        spec: of the user.
        inner: folders below the path that may be the root, the likeliest first; the path itself where none exists.
        parts: that the authors publish.
        home: a sentence that says where to get the data.
        options: names of options beside `part`.

    Raises:
        VitalsError: no such folder, an unknown option, or a part that the set does not have.
    """
    given = spec.only("part", "exif", *options)
    path = local_path(spec)
    if not path.is_dir():
        raise VitalsError(f"{missing('The folder', path)} {home}")
    part = given.get("part")
    require(part is None or part in parts, f"`part` must be one of {', '.join(parts)}", part)
    root = next((path / name for name in inner if (path / name).is_dir()), path)
    return Source(spec, root, home, tuple(p for p in parts if part in (None, p)), given)


def listed(
    found: Source, pictures: Sequence[Picture], classes: Sequence[str], names: Sequence[str] | None = None
) -> ImageSet:
    """The set of the listed pictures, in the order of class, then path.

    Args:
        found: where they lie.
        pictures: of all parts that were asked for.
        classes: all keys, in label order.
        names: the same, readable.

    Raises:
        VitalsError: no pictures, a picture listed twice, or a class that is not in `classes`.
    """
    position = {key: index for index, key in enumerate(classes)}
    require(
        len(position) == len(classes), f"The classes of `{found.spec.text}` must differ", len(classes) - len(position)
    )
    unknown = sorted({p.key for p in pictures} - set(position))
    require(not unknown, f"The lists of `{found.spec.text}` must use its classes only", unknown[:5])
    outside = [p.path for p in pictures if ".." in p.path.split("/") or p.path.startswith("/")]
    require(not outside, f"The lists of `{found.spec.text}` must name pictures below {found.root}", outside[:3])
    require(bool(pictures), f"The lists of `{found.spec.text}` must name pictures", 0, found.home)
    ordered = sorted(pictures, key=lambda p: (position[p.key], p.path))
    ids = [printable(p.path) for p in ordered]
    require(len(set(ids)) == len(ids), f"`{found.spec.text}` must list a picture once", len(ids) - len(set(ids)))
    labels = [position[p.key] for p in ordered]
    paths = [os.path.join(found.root, p.path) for p in ordered]
    splits: list[Split] = [] if "part" in found.options else [p.part for p in ordered]
    notes = parts_notes(splits, labels, classes)
    names = names or classes
    return from_paths(
        found.spec, classes, ids, labels, paths, owner=found.root, names=names, splits=splits, notes=notes
    )


def competition(found: Source, files: Mapping[Split, str]) -> ImageSet:
    """A set in the JSON of the FGVC competitions: `images` (id, file_name), `annotations` (image_id, category_id), `categories`.

    The key of a class is `supercategory/name` where the file knows supercategories; a name that is only a number is written
    `category 7`, since a number as key would be taken for the index of an output.

    Raises:
        VitalsError: a file that is missing or has another form.
    """
    pictures: list[Picture] = []
    keys: dict[int, str] = {}
    for part in found.parts:
        path = found.need(files[part])
        try:
            content: dict[str, Any] = json.loads(read_text(path))
            keys |= {int(c["id"]): _category(c) for c in content["categories"]}
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            pictures += [Picture(names[a["image_id"]], keys[a["category_id"]], part) for a in content["annotations"]]
        except (ValueError, KeyError, TypeError) as error:
            raise VitalsError(f"{path} must be the competition's JSON. Got {type(error).__name__}: {error}.") from None
    if pictures:
        found.need(pictures[0].path.partition("/")[0])
    return listed(found, pictures, [keys[id] for id in sorted(keys)])


def _category(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("name", entry["id"]))
    name = f"category {name}" if name.isdecimal() else name
    return f"{entry['supercategory']}/{name}" if entry.get("supercategory") else name
