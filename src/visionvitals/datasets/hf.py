"""The datasets library: `hf:NAME_OR_LOCAL_PATH[@revision][?split=validation&image=image&label=label&config=&exif=apply&stream=true]`; `[hf]`.

A local path is a folder of `save_to_disk`, a parquet file, or a folder that the library reads itself. A name is fetched from the
hub. Integer labels with names are classes by name, without names output indices. An id is the row number in the split. Opening
hashes every picture, about 1 GB a second.

`stream=true` downloads no data set before: the Parquet files of the split, of a folder or on the hub, are read by shard as those of
`parquet:` are, and an id is that of a shard.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from visionvitals.core import ImageSet
from visionvitals.datasets import parquet
from visionvitals.datasets.base import located
from visionvitals.datasets.base.digest import look_at
from visionvitals.datasets.base.files import encoded, find_images, missing
from visionvitals.errors import VitalsError, near, require
from visionvitals.files import read_regular
from visionvitals.registry import Spec

_R = TypeVar("_R")
_TIMEOUT = (
    5.0  # seconds for the one question that tells whether the hub answers; the library itself retries for half a minute
)
_PREFERRED = ("validation", "val", "valid", "test")


def open(spec: Spec) -> ImageSet:
    """Load one split.

    Raises:
        VitalsError: the extra is missing, no such data set, split or column, the hub does not answer, or rows without label.
    """
    options = spec.only("split", "image", "label", "config", "exif", "stream")
    library = _library()
    if "stream" in options:
        require(options["stream"] == "true", "`stream` must be `true`, or left out", options["stream"])
        return _streamed(spec, library)
    table = _load(spec, library, _table)
    image, label = options.get("image", "image"), options.get("label", "label")
    for column in (image, label):
        require(
            column in table.column_names,
            f"`{spec.text}` must have the column `{column}` (options `image=` and `label=`)",
            table.column_names,
            near(column, table.column_names),
        )
    classes, labels, kind = _labels(spec, table, label)
    try:
        table = table.select_columns([image]).cast_column(image, library.Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise VitalsError(
            f"Column `{image}` of `{spec.text}` must hold pictures. Got {table.features[image]}."
        ) from error

    def load(index: int) -> bytes:
        cell = table[index][image]
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise OSError("the row has no picture")
        return read_regular(cell["path"]) if cell["bytes"] is None else bytes(cell["bytes"])

    ids = [f"{index:08d}" for index in range(len(labels))]
    known = [look_at(partial(load, index)) for index in range(len(ids))]
    return encoded(spec, classes, ids, labels, load, known, kind=kind)


def _library() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise VitalsError("`hf:` image sets need the datasets library: pip install 'visionvitals[hf]'.") from None


def _streamed(spec: Spec, library: ModuleType) -> ImageSet:
    builder, urls = _load(spec, library, _builder)
    other = [url for url in urls if not url.endswith(".parquet")]
    must = f"With `stream=true`, `{spec.text}` must be in Parquet files"
    require(not other, must, other[:3], "Without `stream=true` the library reads it.")
    features = builder.info.features or {}
    names = getattr(features.get(spec.options.get("label", "label")), "names", None)
    return parquet.of_files(spec, [file for url in urls for file in located.locate(url, ".parquet")], names=names)


def _builder(spec: Spec, library: ModuleType, path: Path) -> tuple[Any, list[str]]:
    """What the library knows of a data set without its rows, and the files of the split."""
    local, config = path.exists(), spec.options.get("config")
    if not local:
        _ask_hub(spec)
    name = str(path) if local else spec.name
    found = library.load_dataset_builder(name, config, revision=None if local else spec.checkpoint)
    files = {str(split): list(map(str, urls)) for split, urls in (found.config.data_files or {}).items()}
    return found, files[_split(spec, list(files))]


def _table(spec: Spec, library: ModuleType, path: Path) -> Any:
    """One split as a `datasets.Dataset`."""
    config, revision = spec.options.get("config"), spec.checkpoint
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        saved = library.load_from_disk(str(path))
        return saved if isinstance(saved, library.Dataset) else saved[_split(spec, list(saved))]
    if path.is_file():
        return library.load_dataset("parquet", data_files=str(path), split="train")
    if path.is_dir():
        split = _split(spec, library.get_dataset_split_names(str(path), config))
        table = library.load_dataset(str(path), config, split=split)
        _verify_count(spec, path, table)
        return table
    _ask_hub(spec)
    split = _split(spec, library.get_dataset_split_names(spec.name, config, revision=revision))
    return library.load_dataset(spec.name, config, split=split, revision=revision)


def _load(spec: Spec, library: ModuleType, what: Callable[[Spec, ModuleType, Path], _R]) -> _R:
    """What the library gives for a spelling."""
    path = Path(spec.name).expanduser()
    try:
        if spec.name.startswith(("/", ".", "~")) and not path.exists():
            raise missing("The data set", path)
        return what(spec, library, path)
    except VitalsError:
        raise
    except ConnectionError as error:
        raise _unreachable(spec, error) from error
    except Exception as error:  # the library's errors have no common class; each is the user's to mend
        raise VitalsError(f"`{spec.text}` could not be loaded. {type(error).__name__}: {error}") from error


def _split(spec: Spec, known: Sequence[str]) -> str:
    """The split that was asked for, or the one to evaluate on."""
    asked = spec.options.get("split")
    if asked is not None:
        require(asked in known, f"`{spec.text}` must name a split of the data set", asked, near(asked, known))
        return asked
    choices = [name for name in _PREFERRED if name in known] or (list(known) if len(known) == 1 else [])
    require(bool(choices), f"`{spec.text}` must say which split to use, with `?split=`", list(known))
    return choices[0]


def _labels(spec: Spec, table: Any, column: str) -> tuple[tuple[str, ...], list[int], Literal["names", "indices"]]:
    """(classes, one label a row, kind)."""
    values = table.select_columns([column])[:][column]
    named = table.features[column]
    if values and all(isinstance(value, str) for value in values):
        classes = tuple(sorted(set(values)))
        position = {key: index for index, key in enumerate(classes)}
        return classes, [position[value] for value in values], "names"
    good = values and all(isinstance(value, int) and value >= 0 for value in values)
    bad = next((value for value in values if not isinstance(value, int) or value < 0), "no rows")
    require(bool(good), f"Column `{column}` of `{spec.text}` must hold class names, or whole numbers from 0", bad)
    if type(named).__name__ == "ClassLabel":
        return tuple(named.names), values, "names"
    return tuple(str(index) for index in range(max(values) + 1)), values, "indices"


def _verify_count(spec: Spec, path: Path, table: Any) -> None:
    """The library reads folders of pictures by guessing splits from names; one file called `bullet_train.JPEG` hides the rest."""
    files = len(find_images(path).pictures)
    rows = sum(split.num_examples for split in (table.info.splits or {}).values())
    require(
        files == 0 or rows == files,
        f"`{spec.text}`: the library must read all {files} pictures of the folder",
        rows,
        f"Class folders are read by `folder:{path}`.",
    )


def _ask_hub(spec: Spec) -> None:
    """One question with a short time limit, since the library retries an unreachable hub for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        hub.HfApi().dataset_info(spec.name, revision=spec.checkpoint, timeout=_TIMEOUT)
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise VitalsError(
            f"The hub has no data set `{spec.name}` that this account may read. Check the name, or log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise VitalsError(
            f"The data set `{spec.name}` must have the revision `{spec.checkpoint}`. It has not."
        ) from error
    except (
        Exception
    ) as error:  # the HTTP library, and so its error classes, changed between versions of the hub's client
        raise _unreachable(spec, error) from error


def _unreachable(spec: Spec, error: Exception) -> VitalsError:
    return VitalsError(
        f"The hub did not answer for `{spec.text}` ({type(error).__name__}: {error}). Three ways out: give a local parquet file "
        "or a folder of `save_to_disk` as `hf:PATH`; set HF_HUB_OFFLINE=1 if the data set is in the cache of the datasets "
        "library; or use pictures on this disk with `folder:PATH` or `csv:FILE`."
    )
