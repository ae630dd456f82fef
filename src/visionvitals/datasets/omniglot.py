"""Omniglot: `omniglot:PATH[?alphabets=Greek,Latin][&drawings=N]`, handwritten characters, 20 drawings each; a class is `alphabet/character`.

PATH is a folder with the authors' archives as they are (`images_background.zip`, `images_evaluation.zip`, `images_background_small1.zip`, ...) or
unpacked, or one such archive. The small ones overlap: a drawing that is in several is taken once. `drawings` keeps the first N of each
character. Class keys name the alphabet, so that episodes of `related` classes can be drawn.
"""

import re
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from visionvitals.core import ImageSet
from visionvitals.datasets.base.digest import look_at
from visionvitals.datasets.base.files import encoded, local_path, missing
from visionvitals.errors import VitalsError, near, require
from visionvitals.files import MAX_BYTES, read_regular
from visionvitals.registry import Spec

_HOME = "The authors publish images_background.zip and images_evaluation.zip at https://github.com/brendenlake/omniglot/tree/master/python."
_DRAWING = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/(\d+_\d+\.png)")


def open(spec: Spec) -> ImageSet:
    """List the drawings of all archives, in the order of alphabet, character, drawing.

    Raises:
        VitalsError: nothing of Omniglot there, an unknown alphabet, or a damaged archive.
    """
    options = spec.only("alphabets", "drawings", "exif")
    found = _drawings(spec, local_path(spec))
    alphabets = sorted({id.partition("/")[0] for id in found})
    wanted = options["alphabets"].split(",") if "alphabets" in options else alphabets
    for name in wanted:
        require(name in alphabets, "`alphabets` must be there", name, near(name, alphabets))
    most = options.get("drawings", "1000")
    require(most.isdecimal() and int(most) >= 1, "`drawings` must be a number from 1", most)
    taken: dict[str, list[str]] = {}
    for id in sorted(found):
        if id.partition("/")[0] in wanted:
            taken.setdefault(id.rpartition("/")[0], []).append(id)
    ids = [id for drawings in taken.values() for id in drawings[: int(most)]]
    classes = tuple(taken)
    position = {key: index for index, key in enumerate(classes)}
    labels = [position[id.rpartition("/")[0]] for id in ids]
    loads = [found[id] for id in ids]
    names = [key.replace("_", " ").replace("/character", " ") for key in classes]
    known = [look_at(load) for load in loads]
    return encoded(spec, classes, ids, labels, lambda index: loads[index](), known, names=names)


def _drawings(spec: Spec, path: Path) -> dict[str, Callable[[], bytes]]:
    """`alphabet/character/drawing` -> how to read it; the first archive that has it."""
    if not path.exists():
        raise VitalsError(f"{missing('The folder or archive', path)} {_HOME}")
    archives = [p for p in ([path] if path.is_file() else sorted(path.glob("images_*.zip"))) if p.is_file()]
    found: dict[str, Callable[[], bytes]] = {}
    for archive in archives:
        try:
            opened = zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise VitalsError(f"{archive} must be a zip archive. {error}. {_HOME}") from None
        for name in opened.namelist():
            if (match := _DRAWING.fullmatch(name)) is not None:
                found.setdefault("/".join(match.groups()), partial(_member, opened, name))
    for file in sorted(path.rglob("*.png")) if path.is_dir() else ():
        if (match := _DRAWING.fullmatch(file.as_posix())) is not None:
            found.setdefault("/".join(match.groups()), partial(read_regular, file))
    require(
        bool(found),
        f"`{spec.text}` must hold drawings (alphabet/character01/0001_01.png), in images_*.zip or unpacked",
        0,
        _HOME,
    )
    return found


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A drawing of an archive; OSError where it is damaged or would fill the memory."""
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES // 2**20} MiB, the most that is read")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise OSError(str(error)) from error
