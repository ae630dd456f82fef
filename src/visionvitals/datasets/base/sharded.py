"""Image sets in shards that nobody lists: each shard is read from beginning to end once, for its index; then pictures are read by shard.

The index of a shard (keys, labels, where its pictures lie, a digest of their contents) is kept in the cache under its URL, size and mark of
change; the format that holds it, a zip file, has a checksum of every column. In memory there are the labels, 8 bytes a picture, and no
names: those of a shard are read when they are asked for. An id is `NUMBER OF THE SHARD/key`, the identity of a set is made of the
contents, keys and labels of its shards in order: the same shards under other names are the same set.
"""

import hashlib
import json
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from visionvitals.core import ImageSetCard
from visionvitals.datasets.base.cache_folder import cache_folder
from visionvitals.datasets.base.decode import Traits
from visionvitals.datasets.base.digest import Content, digest
from visionvitals.datasets.base.files import EncodedImages, some_counts, user_path
from visionvitals.datasets.base.labels import readable_names
from visionvitals.datasets.base.located import Located, tries
from visionvitals.datasets.base.notes import trait_notes
from visionvitals.datasets.base.reading import MOST_CLASSES, read_keys
from visionvitals.errors import VitalsError, require
from visionvitals.files import write_safely
from visionvitals.registry import Spec

_VERSION = 2
OPEN = 4
"""How many shards are read at the same time, and stay open."""
Columns = Mapping[str, np.ndarray]


class Scan(NamedTuple):
    """What a format finds in a shard: a key, a label and the content of each picture, and what its reader needs.

    Attributes:
        keys: unique, printable.
        labels: as they are written.
        numbers: whether the labels are whole numbers from 0.
        contents: see `Content`.
        columns: for `Format.reader`.
        names: of the classes that whole numbers are, where the shard says them.
        left: what was left out, by kind.
    """

    keys: Sequence[str]
    labels: Sequence[str]
    numbers: bool
    contents: Sequence[Content]
    columns: Columns
    names: Sequence[str] | None = None
    left: Mapping[str, int] = {}


class Format(NamedTuple):
    """How shards are read.

    Attributes:
        name: stands in the key of an index, with the options that decide it.
        scan: (file, its URL) -> what it holds; VitalsError where it is damaged.
        reader: (file, columns of the scan) -> (row -> the encoded bytes; UnreadableImage where there are none). Any thread may call it.
    """

    name: str
    scan: Callable[[BinaryIO, str], Scan]
    reader: Callable[[BinaryIO, Columns], Callable[[int], bytes]]


class _Shard(NamedTuple):
    """A shard of `n` pictures, whose index is read when it is asked for."""

    file: Located
    form: Format
    n: int
    digest: str

    def columns(self) -> Columns:
        """The index; where the cache has lost it, it is made again.

        Raises:
            VitalsError: the shard has changed.
        """
        found = _index(self.file, self.form)
        same = json.loads(bytes(found["head"]))["digest"] == self.digest
        require(same, f"{self.file.url} must stay as it was when the run began", "another content")
        return found

    def keys(self) -> list[str]:
        return bytes(self.columns()["keys"]).decode().split("\0")

    def reader(self, file: BinaryIO) -> Callable[[int], bytes]:
        """Reads the pictures out of the open file, which is closed when nobody reads any more."""
        read = self.form.reader(file, self.columns())
        weakref.finalize(read, file.close)
        return lambda row: tries(lambda: read(row), self.file.url)


class Shards:
    """The shards of a set; `open` gives one as a set of its own, whose ids are the rows of the shard."""

    def __init__(self, spec: Spec, every: Sequence[_Shard]) -> None:
        self.spec, self.every = spec, every
        self.starts = np.cumsum([0, *(shard.n for shard in every)], dtype=np.int64)
        self.ids: Sequence[str] = _Ids(self)
        self.keys = lru_cache(maxsize=OPEN)(lambda number: every[number].keys())
        self._lock = threading.Lock()
        self._reader = lru_cache(maxsize=OPEN)(self._opened)

    def of(self, index: int) -> tuple[int, int]:
        """(number of the shard, row in it) of a picture."""
        if not 0 <= index < self.starts[-1]:
            raise IndexError(index)
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return number, index - int(self.starts[number])

    def load(self, index: int) -> bytes:
        """The encoded bytes of one picture, without the others of its shard where its server can do that."""
        number, row = self.of(index)
        with self._lock:
            read = self._reader(number)
        return read(row)

    def _opened(self, number: int) -> Callable[[int], bytes]:
        return self.every[number].reader(self.every[number].file.ranges())

    def open(self, number: int) -> EncodedImages:
        (file, _, n, digest), lock = self.every[number], threading.Lock()
        reader = lru_cache(maxsize=1)(
            lambda: self.every[number].reader(file.here())
        )  # only what is not decoded is read

        def load(row: int) -> bytes:
            with lock:
                read = reader()
            return read(row)

        name, one = f"{self.spec.text}, shard {number}", ("0",)
        upright = self.spec.options.get("exif") == "apply"
        card = ImageSetCard(spec=name, digest=_turned(digest, upright), n=n, classes=one, class_names=one)
        ids = tuple(f"{row:08d}" for row in range(n))
        return EncodedImages(card=card, ids=ids, labels=(0,) * n, load=load, upright=upright)


class _Ids(Sequence[str]):
    """The ids of a set in shards, read when they are asked for, one after the other."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return int(self.shards.starts[-1])

    def __iter__(self) -> Iterator[str]:
        for number, shard in enumerate(self.shards.every):
            for key in self.shards.keys(number) if shard.n else ():
                yield f"{number:05d}/{key}"

    def __getitem__(self, at: int) -> str:  # type: ignore[override]  # no slices
        number, row = self.shards.of(at)
        return f"{number:05d}/{self.shards.keys(number)[row]}"


def sharded(spec: Spec, form: Format, files: Sequence[Located], *, names: Sequence[str] | None = None) -> EncodedImages:
    """The set of some shards, in their order.

    Args:
        spec: of the user; its options `classes` and `exif` are read here.
        form: how they are read.
        files: the shards.
        names: of the classes that whole numbers are, where the shards do not say them.

    Raises:
        VitalsError: a shard that cannot be read or is damaged, no picture at all, or labels that are no classes.
    """
    exif = spec.options.get("exif")
    require(exif in (None, "apply"), "`exif` must be `apply`, or left out to read pictures as stored", exif)
    with ThreadPoolExecutor(OPEN) as pool:
        heads = list(pool.map(lambda file: _opened(file, form), files))
    full = [head for head in heads if len(head["labels"])]
    require(bool(full), f"`{spec.text}` must hold pictures", f"{len(files)} shards without one")
    classes, position, kind = _classes(spec, full, names)
    labels = np.concatenate([np.array([position[t] for t in h["texts"]], np.int64)[h["labels"]] for h in full])
    shards = Shards(spec, [_Shard(f, form, len(h["labels"]), h["digest"]) for f, h in zip(files, heads, strict=True)])
    counts, digests = [shard.n for shard in shards.every], [shard.digest for shard in shards.every]
    said = [*classes, *(f"{text}\0{index}" for text, index in position.items())]
    whole = digest(said, map(str, range(len(files))), counts, digests)
    left = sum((Counter(head["left"]) for head in heads), Counter[str]())
    traits = sum((Counter({Traits(*t): n for t, n in head["traits"]}) for head in heads), Counter[Traits]())
    how = "were turned upright by it" if exif == "apply" else "are read as stored; `?exif=apply` turns them upright"
    notes = [f"{left.total()} entries of the shards were left out ({some_counts(left)})"] if left else []
    card = ImageSetCard(
        spec=spec.text,
        digest=_turned(whole, exif == "apply"),
        n=len(labels),
        classes=classes,
        class_names=readable_names(classes),
        kind=kind,
        notes=(*notes, *trait_notes(traits, exif=how)),
    )
    upright = exif == "apply"
    return EncodedImages(card=card, ids=shards.ids, labels=labels, load=shards.load, upright=upright, shards=shards)


def _turned(digest_of: str, upright: bool) -> str:
    return digest((), ["exif=apply"], [0], [digest_of]) if upright else digest_of


def _classes(
    spec: Spec, full: Sequence[Mapping[str, Any]], names: Sequence[str] | None
) -> tuple[tuple[str, ...], Mapping[str, int], Literal["names", "indices"]]:
    """(classes, label as written -> class, kind)."""
    texts = sorted({text for head in full for text in head["texts"]})
    numbers = all(head["numbers"] for head in full)
    said = {head["names"] for head in full if head["names"]} or ({tuple(names)} if names else set())
    require(len(said) <= 1, f"The shards of `{spec.text}` must name the same classes in one order", len(said))
    if "classes" in spec.options:
        keys = read_keys(user_path(spec.options["classes"]), texts, what="label")
        classes = tuple(sorted(set(keys.values())))
        place = {key: k for k, key in enumerate(classes)}
        return classes, {text: place[keys[text]] for text in texts}, "names"
    if not numbers:
        return tuple(texts), {text: k for k, text in enumerate(texts)}, "names"
    most, named = max(map(int, texts)) + 1, next(iter(said), ())
    top = len(named) or MOST_CLASSES
    require(most <= top, f"The labels of `{spec.text}` must be below {top:,}, the number of classes", most - 1)
    classes = named or tuple(map(str, range(most)))
    return classes, {text: int(text) for text in texts}, "names" if named else "indices"


def _opened(file: Located, form: Format) -> dict[str, Any]:
    """The head of an index and the labels, which are positions in its `texts`; what many shards have is in memory once."""
    index = _index(file, form, trust=file.sure)
    head: dict[str, Any] = json.loads(bytes(index["head"]))
    texts, names = (tuple(map(sys.intern, head[key] or ())) for key in ("texts", "names"))
    return {**head, "texts": texts, "names": names, "labels": index["labels"]}


def _index(file: Located, form: Format, *, trust: bool = True) -> Columns:
    """The index of a shard from the cache, else from the shard itself, and kept.

    Raises:
        VitalsError: the shard cannot be read or is damaged, or the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps([_VERSION, form.name, file.url, file.stamp]).encode()).hexdigest()[:32]
    path = cache_folder() / "hashes" / f"{key}.npz"
    try:
        if trust:
            with path.open("rb") as kept, np.load(kept) as found:
                return {name: found[name] for name in found.files}
    except Exception:  # none yet, or damaged in whatever way: it is made again
        pass
    with file.here() as content:
        made = _indexed(form.scan(content, file.url))
    try:
        write_safely(path, lambda target: np.savez(target, **made))
    except OSError as error:
        raise VitalsError(
            f"The cache {cache_folder()} must be writable for the index of `{file.url}`. Got: {error.strerror or error}. "
            "Set VISIONVITALS_CACHE to a folder that is."
        ) from error
    return made


def _indexed(scan: Scan) -> dict[str, Any]:
    texts = sorted(set(scan.labels))
    position = {text: k for k, text in enumerate(texts)}
    rows: Iterable[str] = (f"{key}\0{label}" for key, label in zip(scan.keys, scan.labels, strict=True))
    of_numbers = [1 if scan.numbers else 0] * len(scan.keys)
    head = {
        "digest": digest(scan.names or (), rows, of_numbers, (content.hash for content in scan.contents)),
        "texts": texts,
        "numbers": scan.numbers,
        "names": scan.names,
        "traits": [[list(traits), n] for traits, n in Counter(content.traits for content in scan.contents).items()],
        "left": dict(scan.left),
    }
    return {
        "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "keys": np.frombuffer("\0".join(scan.keys).encode(), np.uint8),
        "labels": np.array([position[label] for label in scan.labels], np.int32),
        **scan.columns,
    }
