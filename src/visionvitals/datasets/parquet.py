"""Pictures in the columns of Parquet files: `parquet:URL[?image=COLUMN][&label=COLUMN][&classes=FILE][&exif=apply]`, read by shard.

The column `image` holds encoded bytes, alone or as the `{bytes, path}` of Hugging Face; the column `label` whole numbers, which are the classes
that the file's Hugging Face schema names, else the indices of the model's outputs, or strings, which are class names; `classes=FILE`, lines of
`label,key`, gives them those of a model. URL is a path or what fsspec reads (https, s3, gs, ...), with ranges `{000..999}`, `*`, or a folder
of Parquet files. A row group is read as a whole. The order is that of the files, then of their rows.
"""

import functools
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from visionvitals.core import ImageSet
from visionvitals.datasets.base import located
from visionvitals.datasets.base.digest import MISSING, Content, look_at
from visionvitals.datasets.base.files import EncodedImages, printable, whole_name
from visionvitals.datasets.base.located import Located
from visionvitals.datasets.base.sharded import Columns, Format, Scan, sharded
from visionvitals.errors import UnreadableImage, VitalsError, near, require
from visionvitals.files import MAX_BYTES
from visionvitals.registry import Spec

_ROWS = 64  # of a batch while a file is scanned
files = functools.partial(located.files, family="parquet", ending=".parquet")


def open(spec: Spec) -> ImageSet:
    """Index the files that were not seen before.

    Raises:
        VitalsError: no such file, a file that is damaged or has other columns, a row without label.
    """
    spec.only("image", "label", "classes", "exif")
    return of_files(spec, located.locate(whole_name(spec), ".parquet"))


def of_files(
    spec: Spec, files: Sequence[Located], *, names: Sequence[str] | None = None, several: bool = False
) -> EncodedImages:
    """The set of some files; its options `image` and `label` name the columns, `names` as in `sharded`.

    With `several` the labels are lists of whole numbers, and each distinct list is a class whose key reads `7+12`, smallest first.
    """
    image, label = spec.options.get("image", "image"), spec.options.get("label", "label")
    form = Format(
        f"parquet {json.dumps([image, label])}{' lists' if several else ''}",
        functools.partial(_scan, image=image, label=label, several=several),
        functools.partial(_reader, image=image),
    )
    return sharded(spec, form, files, names=names)


def _opened(file: BinaryIO, url: str, columns: Sequence[str] = ()) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise VitalsError(f"{url} must be a whole Parquet file. Got: {str(error).rstrip('.')}.") from None
    for column in columns:
        there = found.schema_arrow.names
        must = f"{url} must have the column `{column}` once (options `image=` and `label=`)"
        require(there.count(column) == 1, must, there, near(column, there))
    return found


def _scan(file: BinaryIO, url: str, *, image: str, label: str, several: bool) -> Scan:
    import pyarrow as pa

    table = _opened(file, url, [image, label])
    schema = table.schema_arrow
    held, written = schema.field(image).type, schema.field(label).type
    kinds = {field.name: field.type for field in held} if pa.types.is_struct(held) else {"bytes": held}
    kind = kinds.get("bytes", pa.null())
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    require(binary, f"Column `{image}` of {url} must hold pictures as bytes", str(held))
    numbers = pa.types.is_integer(written) and not several
    text = pa.types.is_string(written) or pa.types.is_large_string(written) or pa.types.is_dictionary(written)
    must = f"Column `{label}` of {url} must hold class names, or whole numbers from 0"
    if several:
        must = f"Column `{label}` of {url} must hold lists of whole numbers from 0"
        text = pa.types.is_list(written) and pa.types.is_integer(written.value_type)
    require(numbers or text, must, str(written))
    labels: list[str] = []
    contents: list[Content] = []
    try:
        for batch in table.iter_batches(batch_size=_ROWS, columns=[image, label]):
            for said in batch.column(label).to_pylist():
                found = _label(said)
                require(found is not None, must, f"{said!r} in row {len(labels)}")
                labels.append(found or "")
            contents += [
                Content(MISSING) if cell is None else look_at(lambda cell=cell: cell)  # type: ignore[misc]
                for cell in _cells(batch.column(image))
            ]
    except (pa.ArrowException, OSError) as error:
        raise VitalsError(f"{url} must be a whole Parquet file. Got, at row {len(labels)}: {error}.") from None
    groups = [table.metadata.row_group(k).num_rows for k in range(table.num_row_groups)]
    return Scan(
        keys=[f"{row:08d}" for row in range(len(labels))],
        labels=labels,
        numbers=numbers,
        contents=contents,
        columns={"groups": np.cumsum([0, *groups], dtype=np.int64)},
        names=None if several else _names(schema.metadata or {}, label),
    )


def _label(said: Any) -> str | None:
    """A label as it is written, or None where it is none."""
    if isinstance(said, list):
        good = bool(said) and all(isinstance(k, int) and k >= 0 for k in said)
        return "+".join(map(str, sorted(set(said)))) if good else None
    good = said >= 0 if isinstance(said, int) else isinstance(said, str) and bool(said)
    return printable(str(said)) if good else None


def _cells(column: Any) -> list[bytes | None]:
    import pyarrow as pa

    plain = column.field("bytes") if pa.types.is_struct(column.type) else column
    return plain.to_pylist()  # type: ignore[no-any-return]


def _bytes(cell: bytes | None) -> bytes:
    if cell is None:
        raise UnreadableImage("the row has no picture")
    if len(cell) > MAX_BYTES:
        raise UnreadableImage(f"{len(cell):,} bytes, more than the {MAX_BYTES:,} that are read")
    return cell


def _names(metadata: dict[bytes, bytes], label: str) -> list[str] | None:
    """The names of the classes, where the `datasets` library wrote the file and they have some."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return [printable(str(name)) for name in found] if isinstance(found, list) else None


def _reader(file: BinaryIO, columns: Columns, *, image: str) -> Callable[[int], bytes]:
    starts, lock, table = columns["groups"], threading.Lock(), _opened(file, "The file")

    @functools.lru_cache(maxsize=1)
    def group(number: int) -> list[bytes | None]:
        return [cell for chunk in table.read_row_group(number, columns=[image])[image].chunks for cell in _cells(chunk)]

    def read(row: int) -> bytes:
        number = int(np.searchsorted(starts, row, "right")) - 1
        with lock:
            return _bytes(group(number)[row - int(starts[number])])

    return read
