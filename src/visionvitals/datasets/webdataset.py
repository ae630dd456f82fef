"""Tar files of a WebDataset: `webdataset:URL-{000..999}.tar[?label=FIELD][&classes=FILE][&exif=apply]`, read by shard.

A picture is a member `KEY.jpg` (or another ending of a picture), where KEY is its path up to the first dot of its name; its label stands in
`KEY.cls`, or in the field `label` of `KEY.json`; `label=FIELD` takes another field of that. Whole-number labels are the indices of the
model's outputs, any other labels are class names; `classes=FILE`, lines of `label,key`, gives them those of a model. URL is a path or what
fsspec reads (https, s3, gs, ...), with ranges, `*`, or a folder of tar files. Links and other members are left out, with a note; a tar that
ends early is refused. The order is that of the shards, then of their pictures.
"""

import functools
import hashlib
import json
import os
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from visionvitals.core import ImageSet
from visionvitals.datasets.base import located
from visionvitals.datasets.base.digest import Content, look_at
from visionvitals.datasets.base.files import ENDINGS, printable, whole_name
from visionvitals.datasets.base.sharded import Columns, Format, Scan, sharded
from visionvitals.errors import UnreadableImage, VitalsError, require, shortened
from visionvitals.files import MAX_BYTES
from visionvitals.registry import Spec

_MOST_TEXT = 2**20  # bytes of a label
_BLOCK = 512
files = functools.partial(located.files, family="webdataset", ending=".tar")


def open(spec: Spec) -> ImageSet:
    """Index the shards that were not seen before.

    Raises:
        VitalsError: no such file, a shard that is no tar or ends early, a picture without label, a key that is there twice.
    """
    field = spec.only("label", "classes", "exif").get("label")
    form = Format(f"webdataset {field}", functools.partial(_scan, field=field), _reader)
    return sharded(spec, form, located.locate(whole_name(spec), ".tar"))


def _scan(file: BinaryIO, url: str, *, field: str | None) -> Scan:
    pictures: dict[str, tuple[int, int, Content]] = {}
    labels: dict[str, dict[str, str]] = {"json": {}} if field else {"json": {}, "cls": {}}
    left = Counter[str]()
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key, ending = os.path.join(folder, stem), ending.lower()
                if not member.isreg() or member.issparse() or not stem:
                    left["a link or a device"] += not (member.isdir() or member.isreg())
                    left["a hidden or sparse file"] += member.isreg()
                elif f".{ending}" in ENDINGS:
                    require(key not in pictures, f"{url} must hold one picture of a key", shortened(member.name))
                    pictures[key] = member.offset_data, member.size, _content(tar, member)
                elif ending in labels:
                    require(key not in labels[ending], f"{url} must hold one label of a key", shortened(member.name))
                    if (said := _label(tar, member, url, field or "label")) is not None:
                        labels[ending][key] = said
                else:
                    left[f".{ending}"] += 1
            end = tar.offset
    except tarfile.TarError as error:
        size = file.seek(0, os.SEEK_END)
        raise VitalsError(
            f"{url} must be a whole, uncompressed tar. Got: {error}; the file ends at byte {size:,}. Fetch or write it again."
        ) from None
    file.seek(end)
    closed = file.read(_BLOCK) == bytes(_BLOCK)
    behind = any(part.strip(b"\0") for part in iter(lambda: file.read(2**20), b""))
    must = f"{url} must end with a block of zeros, as a whole tar does"
    require(closed, must, f"something else at byte {end:,} of {file.seek(0, os.SEEK_END):,}")
    require(not behind, f"{url} must be one tar", f"something behind its end at byte {end:,}, such as another tar")
    return _found(pictures, labels["json"] | labels.get("cls", {}), left, url, field)


def _found(
    pictures: dict[str, tuple[int, int, Content]],
    labels: dict[str, str],
    left: Counter[str],
    url: str,
    field: str | None,
) -> Scan:
    where = f"the field `{field}` of `KEY.json`" if field else "`KEY.cls`, or the field `label` of `KEY.json`"
    bare = [shortened(key) for key in pictures if key not in labels]
    require(not bare, f"Every picture of {url} must have a label, {where}", bare[:3])
    left["a label without picture"] += len(labels.keys() - pictures.keys())
    written = [labels[key] for key in pictures]
    numbers = all(re.fullmatch(r"[-+]?\d+(\.\d*)?", label, re.ASCII) for label in written)
    odd = [label for label in written if numbers and not re.fullmatch(r"\d{1,9}", label, re.ASCII)]
    require(not odd, f"A number as label must be a whole output index from 0 in {url}", odd[:3])
    return Scan(
        keys=[printable(key) for key in pictures],
        labels=[str(int(label)) if numbers else printable(label) for label in written],
        numbers=numbers,
        contents=[content for _, _, content in pictures.values()],
        columns={"places": np.array([where[:2] for where in pictures.values()], np.int64).reshape(-1, 2)},
        left=+left,
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Content:
    data = tar.extractfile(member)
    assert data is not None
    if member.size <= MAX_BYTES:
        whole = data.read()
        return look_at(lambda: whole)
    total = hashlib.sha256()  # it is not read as a picture, but another one is another set
    while part := data.read(2**20):
        total.update(part)
    return Content(total.hexdigest())


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, url: str, field: str) -> str | None:
    """The label that a member says; None where it is a table without that field."""
    must = f"`{shortened(member.name)}` of {url} must be a label: a number, a name, or a JSON object with the field `{field}`"
    require(member.size <= _MOST_TEXT, must, f"{member.size:,} bytes")
    data = tar.extractfile(member)
    assert data is not None
    text = data.read()
    try:
        said = json.loads(text).get(field) if member.name.lower().endswith("json") else text.decode("utf-8-sig").strip()
    except (ValueError, AttributeError, RecursionError) as error:
        raise VitalsError(f"{must}. Got {type(error).__name__}: {error}.") from None
    if said is None:
        return None
    require(isinstance(said, str | int) and not isinstance(said, bool) and said != "", must, said)
    return str(said)


def _reader(file: BinaryIO, columns: Columns) -> Callable[[int], bytes]:
    places, lock = columns["places"], threading.Lock()

    def read(row: int) -> bytes:
        start, size = places[row].tolist()
        if size > MAX_BYTES:
            raise UnreadableImage(f"{size:,} bytes, more than the {MAX_BYTES:,} that are read")
        with lock:
            file.seek(start)
            data = file.read(size)
        if len(data) != size:
            raise OSError(f"{len(data):,} of its {size:,} bytes are there")
        return data

    return read
