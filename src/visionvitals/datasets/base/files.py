"""What the sets of files share: encoded pictures with what is known of each, the listing of folders, and paths in spellings."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from visionvitals.core import Example, ImageSetCard, Split
from visionvitals.datasets.base.decode import AVIF, open_image, orientation, to_rgb, turned
from visionvitals.datasets.base.digest import MISSING, Content, contents, digest
from visionvitals.datasets.base.labels import readable_names
from visionvitals.datasets.base.masks import MaskFiles
from visionvitals.datasets.base.notes import picture_notes
from visionvitals.errors import UnreadableImage, VitalsError, near, require, shortened
from visionvitals.files import read_regular
from visionvitals.registry import Spec

if TYPE_CHECKING:
    from visionvitals.datasets.base.sharded import Shards

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", *([".avif"] if AVIF else []))


@dataclass(frozen=True)
class EncodedImages:
    """An image set whose pictures are encoded bytes. `[i]` decodes one; any thread may call it.

    Attributes:
        card: see `ImageSetCard`.
        ids: one per picture, unique.
        labels: indices into `card.classes`.
        load: index -> the encoded bytes; OSError where there are none.
        splits: the part of the set that each belongs to, or empty.
        textures: the surface of each, as `Example.texture`, or empty.
        masks: None where the set has none.
        upright: the EXIF orientation is applied (`?exif=apply`).
        columns: further columns of a table: name -> a value for each picture, "" where it has none.
        copies: id -> id of the first picture of the set with the same bytes, of every picture that is not that first one.
        shards: of a set that is read by shard: `ids` are read when they are asked for, and copies are found when it is decoded.
    """

    card: ImageSetCard
    ids: Sequence[str]
    labels: "Sequence[int] | np.ndarray"
    load: Callable[[int], bytes]
    splits: tuple[Split, ...] = ()
    textures: tuple[int | None, ...] = ()
    masks: MaskFiles | None = None
    upright: bool = False
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    shards: "Shards | None" = None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> bytes:
        """The encoded bytes.

        Raises:
            UnreadableImage: the file is missing or cannot be read.
        """
        try:
            return self.load(index)
        except OSError as error:
            raise UnreadableImage(f"{self.ids[index]}: {error.strerror or error}") from error

    def __getitem__(self, index: int) -> Example:
        id = self.ids[index]
        image = open_image(self.read(index), id)
        turn = orientation(image) if self.upright or self.masks is not None else 0
        mask = None
        if self.masks is not None:
            size = (image.height, image.width)
            mask = self.masks.read(index, id, picture=size, turn=turn, upright=self.upright)
        return Example(
            id=id,
            image=turned(to_rgb(image), turn) if self.upright and turn > 1 else image,
            label=int(self.labels[index]),
            texture=self.textures[index] if self.textures else None,
            mask=mask,
            split=self.splits[index] if self.splits else None,
        )


def encoded(
    spec: Spec,
    classes: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[int],
    load: Callable[[int], bytes],
    known: Sequence[Content],
    *,
    names: Sequence[str] | None = None,
    kind: Literal["names", "indices"] = "names",
    splits: Sequence[Split] = (),
    textures: Sequence[int | None] = (),
    masks: MaskFiles | None = None,
    keyed: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> EncodedImages:
    """A set of encoded pictures: its digest, its card and the notes of what is special about its pictures.

    Args:
        spec: the user's spelling; its option `exif` is read here.
        classes: keys in label order.
        ids: one per picture, unique.
        labels: indices into `classes`.
        load: see `EncodedImages`.
        known: what is known of the content of each picture.
        names: the classes, readable; None for the words of wnids, else the keys.
        kind: see `ImageSetCard`.
        splits, textures, masks, columns: see `EncodedImages`.
        keyed: what stands in the digest in place of `classes`: the meaning of a mask's values.
        notes: of the family.

    Raises:
        VitalsError: none of the files can be read, or a bad `exif`.
    """
    exif = spec.options.get("exif")
    require(exif in (None, "apply"), "`exif` must be `apply`, or left out to read pictures as stored", exif)
    absent = [id for id, content in zip(ids, known, strict=True) if content.hash == MISSING]
    require(
        len(absent) < len(ids),
        f"The pictures of `{spec.text}` must be files that can be read",
        [shortened(id) for id in absent[:3]],
        "Paths are relative to the folder of the csv." if spec.family == "csv" else "",
    )
    looked, behind = None, ["" for _ in ids] if masks is None else []
    if masks is not None:
        there = [path for path in dict.fromkeys(masks.paths) if path is not None]
        of = dict(zip(there, contents(there, owner=masks.owner), strict=True))
        looked = [Content(MISSING) if path is None else of[path] for path in masks.paths]
        behind = [f"/{mask.hash}{masks.suffix}" for mask in looked]
    whole = digest(keyed or classes, ids, labels, (c.hash + end for c, end in zip(known, behind, strict=True)), splits)
    provides: dict[Literal["texture", "mask", "split"], object] = {"texture": textures, "mask": masks, "split": splits}
    how = "were turned upright by it" if exif == "apply" else "are read as stored; `?exif=apply` turns them upright"
    copies, more = picture_notes(ids, labels, known, looked, splits, exif=how)
    card = ImageSetCard(
        spec=spec.text,
        digest=whole if exif is None else digest((), ["exif=apply"], [0], [whole]),
        n=len(ids),
        classes=tuple(classes),
        class_names=tuple(names) if names is not None else readable_names(classes),
        kind=kind,
        provides=tuple(what for what, there in provides.items() if there),
        notes=(*notes, *more),
    )
    return EncodedImages(
        card=card,
        ids=tuple(ids),
        labels=tuple(labels),
        load=load,
        splits=tuple(splits),
        textures=tuple(textures),
        masks=masks,
        upright=exif == "apply",
        columns={name: tuple(values) for name, values in columns.items()},
        copies=copies,
    )


def from_paths(
    spec: Spec,
    classes: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[int],
    paths: Sequence[str | Path],
    *,
    owner: Path,
    **rest: Any,
) -> EncodedImages:
    """A set of files; `owner` is the folder or table that they belong to, `rest` as in `encoded`."""
    known = contents(paths, owner=owner)
    return encoded(spec, classes, ids, labels, lambda index: read_regular(paths[index]), known, **rest)


def parts_notes(splits: Sequence[Split], labels: Sequence[int], classes: Sequence[str]) -> tuple[str, ...]:
    """What the report must say of a set with parts: their sizes, and classes that are not in every part."""
    if not splits:
        return ()
    counts = Counter(splits)
    sizes = ", ".join(f"{part} {counts[part]}" for part in ("train", "val", "test") if part in counts)
    notes = [f"the set has parts ({sizes}): a study that does not look at parts measures all of them"]
    taught = {label for label, part in zip(labels, splits, strict=True) if part == "train"}
    untaught = sorted({label for label, part in zip(labels, splits, strict=True) if part != "train"} - taught)
    if untaught and taught:
        named = ", ".join(classes[label] for label in untaught[:5]) + (", ..." if len(untaught) > 5 else "")
        notes.append(f"{len(untaught)} classes have no training picture: {named}")
        spelled = {_bare(classes[label]): classes[label] for label in taught}
        for label in untaught:
            if (other := spelled.get(_bare(classes[label]))) is not None:
                notes.append(f"`{classes[label]}` and `{other}` may be one class; `classes=FILE` can join them")
    return tuple(notes)


def _bare(name: str) -> str:
    """A class without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name).casefold()


def whole_name(spec: Spec) -> str:
    """The path or URL in a spelling; an `@` in it is part of it, since image sets have no checkpoint."""
    return spec.name if spec.checkpoint is None else f"{spec.name}@{spec.checkpoint}"


def local_path(spec: Spec) -> Path:
    """The path in a spelling."""
    return user_path(whole_name(spec))


def user_path(text: str) -> Path:
    """A path that a user wrote.

    Raises:
        VitalsError: it cannot be one: too long, a NUL byte, or behind a folder that may not be read.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        got = getattr(error, "strerror", None) or error
        raise VitalsError(f"A path must be one that can be read. Got {shortened(text)!r}: {got}.") from None
    return path


def missing(what: str, path: Path) -> VitalsError:
    """The error for a path that does not exist, with the near names beside it, or is a folder in place of a file, or a file in place of one."""
    try:
        beside = os.listdir(path.parent)
    except (OSError, ValueError):
        beside = []
    if path.exists():
        must, got = ("a file", "a folder") if path.is_dir() else ("a folder", "a file")
        return VitalsError(f"{what} must be {must}. Got {shortened(str(path))!r}, which is {got}.")
    return VitalsError(f"{what} must exist. Got {shortened(str(path))!r}. {near(path.name[:200], beside)}".rstrip())


class Listing(NamedTuple):
    """The pictures below a folder.

    Attributes:
        pictures: POSIX paths relative to it, sorted.
        others: how many other files there are, by ending.
        links: how many of the pictures are links.
        unfollowed: how many links to folders were not followed.
    """

    pictures: list[str]
    others: Counter[str]
    links: int
    unfollowed: int


def find_images(folder: Path, *, linked: bool = True) -> Listing:
    """The pictures below a folder; hidden files and folders are ignored.

    A picture may be a link, and so may a folder directly below (a class), unless it holds `folder` or lies in it. Links to folders
    further down are not followed: they would loop, or bring pictures of other classes.

    Args:
        folder: where to look.
        linked: False where no folder below may be a link.
    """
    found: list[str] = []
    others: Counter[str] = Counter()
    links = unfollowed = 0
    waiting = [(os.fspath(folder), "")]
    while waiting:
        here, prefix = waiting.pop()
        try:
            entries = [entry for entry in os.scandir(here) if not entry.name.startswith(".")]
        except OSError:
            others["a folder that cannot be read"] += 1
            continue
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            link = entry.is_symlink()
            if os.path.isdir(entry.path) if link else entry.is_dir(follow_symlinks=False):
                if link and not (linked and not prefix and apart(Path(entry.path), folder)):
                    unfollowed += 1
                else:
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
            elif not (os.path.isfile(entry.path) or not os.path.exists(entry.path) if link else entry.is_file()):
                others["a pipe or a device"] += 1
            elif ending in ENDINGS:
                found.append(prefix + entry.name)
                links += link
            else:
                others[ending or "no ending"] += 1
    return Listing(sorted(found), others, links, unfollowed)


def apart(link: Path, folder: Path) -> bool:
    """Whether a link leads to a folder that neither holds another folder nor lies in it."""
    target, root = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([target, root]) not in (target, root)


def listing_notes(listings: Sequence[Listing], unfollowed: int = 0) -> list[str]:
    """What was left out below some folders, with `unfollowed` links to folders beside them, and what is a link."""
    others = sum((listing.others for listing in listings), Counter[str]())
    unfollowed += sum(listing.unfollowed for listing in listings)
    links = sum(listing.links for listing in listings)
    notes = []
    if others:
        notes.append(f"{others.total()} files have no ending of a picture and were left out ({some_counts(others)})")
    if unfollowed:
        notes.append(f"{unfollowed} links to folders were not followed: they lead out of their class, or back")
    if links:
        notes.append(f"{links} pictures are links to files")
    return notes


def some_counts(others: Counter[str]) -> str:
    """The three most frequent endings of `Listing.others`, with their counts."""
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{printable(ending)} {count}" for ending, count in most)


_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\\]"
)


def printable(path: str) -> str:
    """A path as an id that can be hashed, stored and printed, and no two paths as the same one.

    Bytes that are no UTF-8, control characters (they would reach the terminal), marks that turn the direction of text and characters
    without width are written `\\xff` or `\\u202e`, a backslash as two.
    """

    def escaped(found: "re.Match[str]") -> str:
        code = ord(found[0])
        if found[0] == "\\":
            return "\\\\"
        if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(escaped, path)
