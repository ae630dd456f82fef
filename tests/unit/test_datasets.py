"""Folders, tables, the datasets library, and decoding: what is read, what is refused, and with which words."""

import hashlib
import io
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

import dataset_inputs
from visionvitals import registry
from visionvitals.core import ImageSet, Interpolation, Preprocess
from visionvitals.datasets import csv, folder, hf
from visionvitals.datasets.base import digest as _digest
from visionvitals.datasets.base.cache import decoded
from visionvitals.datasets.base.decode import decode, decode_fast, open_image
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.errors import UnreadableImage, VitalsError
from visionvitals.files import read_regular
from visionvitals.plan import planner
from visionvitals.responses import csv_files

FAMILIES = ["folder", "csv", "hf"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "the cache"))


def picture(seed: int = 0, size: tuple[int, int] = (30, 40)) -> Image.Image:
    """A smooth picture of (height, width), so that JPEG and resizing act on it as on a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def write(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def open_folder(path: Path, options: str = "") -> ImageSet:
    return folder.open(registry.parse(f"folder:{path}{options}", families=FAMILIES))


def open_csv(path: Path) -> ImageSet:
    return csv.open(registry.parse(f"csv:{path}", families=FAMILIES))


def open_hf(spelling: str) -> ImageSet:
    return hf.open(registry.parse(spelling, families=FAMILIES))


def labelled(images: ImageSet) -> list[tuple[str, int]]:
    return [(images[index].id, images[index].label) for index in range(len(images))]


def preprocess(size: tuple[int, int], resize: int | None, interpolation: Interpolation = "bilinear") -> Preprocess:
    return Preprocess(size=size, resize=resize, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))


# ------------------------------------------------------------------------------------------------------------- folder


def test_a_folder_is_read_in_the_order_of_class_then_path(tmp_path: Path) -> None:
    names = [
        "b/2.png",
        "b/10.PNG",
        "a-c/z.JPeG",
        "a/deep/er/x.webp",
        "a/bullet_train.JPEG",
        "a/1.tif",
        "a/9.gif",
        "a/0.bmp",
    ]
    for seed, name in enumerate(names):
        write(tmp_path / "set" / name, seed)
    write(tmp_path / "set" / "a" / ".hidden.png")
    write(tmp_path / "set" / ".hidden" / "x.png")
    images = open_folder(tmp_path / "set")
    expected = [
        "a/0.bmp",
        "a/1.tif",
        "a/9.gif",
        "a/bullet_train.JPEG",
        "a/deep/er/x.webp",
        "a-c/z.JPeG",
        "b/10.PNG",
        "b/2.png",
    ]
    assert [images[index].id for index in range(len(images))] == expected
    assert [images[index].label for index in range(len(images))] == [0, 0, 0, 0, 0, 1, 2, 2]
    assert images.card.classes == ("a", "a-c", "b")
    assert images.card.notes == ()


def test_files_that_are_left_out_are_told(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a" / "0.png")
    write(tmp_path / "set" / "loose.png")
    (tmp_path / "set" / "empty").mkdir()
    for name in ("x.txt", "y.txt", "z.heic", "none"):
        (tmp_path / "set" / "a" / name).write_text("x")
    images = open_folder(tmp_path / "set")
    assert len(images) == 1
    assert images.card.classes == ("a", "empty")
    assert images.card.notes == (
        "1 pictures lie outside the class folders and were left out",
        "4 files have no ending of a picture and were left out (.txt 2, .heic 1, no ending 1)",
        "1 class folders hold no picture: empty",
    )


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    assert labelled(open_folder(tmp_path / "set")) == [("a/0.png", 0)]


def test_an_at_sign_and_bytes_that_are_no_utf8_belong_to_a_path(tmp_path: Path) -> None:
    root = tmp_path / "a@b"
    write(root / "cat" / "0.png")
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/\xff.png")
    images = open_folder(root)
    assert images[0].id == "cat/\\xff.png"
    assert images[0].image.size == (40, 30)


def test_folders_that_cannot_be_a_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    with pytest.raises(VitalsError, match=r"must hold pictures .*Got '0 sub-folders'"):
        open_folder(tmp_path / "valid")
    with pytest.raises(VitalsError, match=r"The folder must exist\. Got .*vald'\. Did you mean valid\?"):
        open_folder(tmp_path / "vald")
    write(tmp_path / "valid" / "0.png")
    with pytest.raises(VitalsError, match=r"1 directly in the folder and no sub-folder\. .*columns path,label"):
        open_folder(tmp_path / "valid")
    (tmp_path / "text" / "a").mkdir(parents=True)
    (tmp_path / "text" / "a" / "x.txt").write_text("x")
    with pytest.raises(VitalsError, match=r"1 sub-folders with 1 other files \(\.txt 1\)"):
        open_folder(tmp_path / "text")


def test_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / "set" / split / "cat" / "0.png")
    with pytest.raises(
        VitalsError, match=r"Got splits: train, val\. Name one of them, `folder:.*set/val`, or .*\?parts=all`"
    ):
        open_folder(tmp_path / "set")
    write(tmp_path / "other" / "train" / "0.png")  # a locomotive
    write(tmp_path / "other" / "val" / "0.png")
    assert open_folder(tmp_path / "other").card.classes == ("train", "val")


def test_parts_are_one_set_whose_pictures_know_theirs(tmp_path: Path) -> None:
    for seed, path in enumerate(("train/cat/a", "train/dog/b/c", "validation/cat/a", "test/owl/d", "test/cat/a")):
        write(tmp_path / f"{path}.png", seed)
    images = open_folder(tmp_path, "?parts=all")
    assert images.card.classes == ("cat", "dog", "owl")
    assert images.card.provides == ("split",)
    assert [(e.id, e.label, e.split) for e in (images[k] for k in range(len(images)))] == [
        ("test/cat/a.png", 0, "test"),
        ("train/cat/a.png", 0, "train"),
        ("validation/cat/a.png", 0, "val"),
        ("train/dog/b/c.png", 1, "train"),
        ("test/owl/d.png", 2, "test"),
    ]
    assert images.card.notes == (
        "the set has parts (train 2, val 1, test 2): a study that does not look at parts measures all of them",
        "1 classes have no training picture: owl",
    )
    (tmp_path / "map.csv").write_text("cat,feline\ndog,canine\nowl,bird\n")
    assert open_folder(tmp_path, f"?parts=all&classes={tmp_path / 'map.csv'}").card.classes == (
        "bird",
        "canine",
        "feline",
    )


def test_a_class_that_the_parts_spell_in_two_ways_is_pointed_out(tmp_path: Path) -> None:
    for seed, path in enumerate(("train/polka-dotted/a", "train/cat/a", "test/Polka_dotted/b", "test/cat/b")):
        write(tmp_path / f"{path}.png", seed)
    notes = open_folder(tmp_path, "?parts=all").card.notes
    assert notes[1:] == (
        "1 classes have no training picture: Polka_dotted",
        "`Polka_dotted` and `polka-dotted` may be one class; `classes=FILE` can join them",
    )


def test_parts_must_be_parts(tmp_path: Path) -> None:
    for part in ("train", "extra"):
        write(tmp_path / part / "cat" / "a.png")
    with pytest.raises(VitalsError, match=r"must be parts \(train, .*Got 'extra'"):
        open_folder(tmp_path, "?parts=all")
    with pytest.raises(VitalsError, match=r"must be `all`\. Got 'test'\. Or name one"):
        open_folder(tmp_path, "?parts=test")


def test_classes_renames_and_merges_folders(tmp_path: Path) -> None:
    for name in ("katze", "kater", "hund"):
        write(tmp_path / "set" / name / "0.png")
    table = tmp_path / "classes.csv"
    table.write_text("katze,cat\nhund, dog\nkater,cat\n\nmaus,mouse\n")
    images = open_folder(tmp_path / "set", f"?classes={table}")
    assert images.card.classes == ("cat", "dog")
    assert labelled(images) == [
        ("kater/0.png", 0),
        ("katze/0.png", 0),
        ("hund/0.png", 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("katze\n", r"line 1 must read `folder,key`\. Got 'katze'"),
        (
            "katze,cat\nhunt,dog\n",
            r"must list every class folder\. Got 'no line for hund'\. Add `hund,KEY`\. Did you mean hunt\?",
        ),
        ("katze,cat\nhund,dog\nhund,cat\n", r"line 3: each folder must be listed once\. Got 'hund'"),
    ],
)
def test_a_bad_classes_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    for name in ("katze", "hund"):
        write(tmp_path / "set" / name / "0.png")
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(VitalsError, match=message):
        open_folder(tmp_path / "set", f"?classes={tmp_path / 'classes.csv'}")


def test_wnids_are_shown_by_their_words_without_importing_timm(tmp_path: Path) -> None:
    write(tmp_path / "n01440764" / "0.png")
    code = (
        "import sys; from visionvitals import registry; from visionvitals.datasets import csv, folder; from visionvitals.datasets.base import cache, labels\n"
        f"images = folder.open(registry.parse('folder:{tmp_path}', families=['folder']))\n"
        "print(images.card.class_names, images[0].id, {'torch', 'timm', 'torchvision', 'pyarrow'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "('tench, Tinca tinca',) n01440764/0.png set()"


# -------------------------------------------------------------------------------------------------------------- digest


def test_the_digest_is_of_content_and_labels_and_not_of_place_or_time(tmp_path: Path) -> None:
    for seed, name in enumerate(("a/0.bmp", "a/1.bmp", "b/2.bmp")):
        write(tmp_path / "set" / name, seed)
    first = open_folder(tmp_path / "set").card.digest
    (tmp_path / "set").rename(tmp_path / "moved")
    root = tmp_path / "moved"
    os.utime(root / "a" / "0.bmp", (1, 1))
    assert open_folder(root).card.digest == first
    raw = bytearray((root / "a" / "0.bmp").read_bytes())
    raw[-10] ^= 1  # one bit of one pixel; the size stays
    (root / "a" / "0.bmp").write_bytes(raw)
    changed = open_folder(root).card.digest
    raw[-10] ^= 1
    (root / "a" / "0.bmp").write_bytes(raw)
    back = open_folder(root).card.digest
    (root / "b" / "2.bmp").rename(root / "a" / "2.bmp")
    assert len({first, changed, open_folder(root).card.digest}) == 3
    assert back == first


def test_the_digest_is_of_the_order_the_labels_and_the_classes() -> None:
    one = _digest.digest(("a", "b"), ["x", "y"], [0, 1], ["1", "2"])
    assert one == _digest.digest(("a", "b"), ["x", "y"], [0, 1], ["1", "2"])
    assert one != _digest.digest(("a", "b"), ["y", "x"], [1, 0], ["2", "1"])
    assert one != _digest.digest(("a", "b", "c"), ["x", "y"], [0, 1], ["1", "2"])
    assert one != _digest.digest(("a", "b"), ["x", "y"], [1, 1], ["1", "2"])


def hashes(paths: list[Path], owner: Path) -> list[str]:
    return [content.hash for content in _digest.contents(paths, owner=owner)]


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("0", "1", "missing")]
    for path in paths[:2]:
        path.write_bytes(path.name.encode())
    expected = [hashlib.sha256(b"0").hexdigest(), hashlib.sha256(b"1").hexdigest(), "missing"]
    monkeypatch.setattr(_digest, "SETTLED", -60.0)  # so that files written just now count as settled
    assert hashes(paths, tmp_path) == expected
    read: list[str] = []

    def watched(path: str) -> bytes:
        read.append(Path(path).name)
        return read_regular(path)

    monkeypatch.setattr(_digest, "read_regular", watched)
    assert hashes(paths, tmp_path) == expected
    assert read == []
    os.utime(paths[0])
    assert hashes(paths, tmp_path) == expected
    assert read == ["0"]
    [note] = (tmp_path / "the cache" / "hashes").iterdir()
    note.write_text("{damaged")
    assert hashes(paths, tmp_path) == expected


# ----------------------------------------------------------------------------------------------------------------- csv


def test_a_table_of_indices(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.png", 1)
    table = tmp_path / "x.csv"
    table.write_text(
        f"label,author,path\n3,me,in/./a.png\n\n0,you,missing.png\n03,me,{tmp_path}/in/b.png\n", encoding="utf-8-sig"
    )
    images = open_csv(table)
    assert images.card.kind == "indices"
    assert images.card.classes == ("0", "1", "2", "3")
    assert (images[0].id, images[0].label) == ("in/a.png", 3)
    with pytest.raises(UnreadableImage, match=r"missing\.png: No such file"):
        images[1]
    write(tmp_path / "in" / "b.png")
    assert (images[2].id, images[2].label) == ("in/b.png", 3)


def test_a_table_of_names_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png")
    (tmp_path / "x.csv").write_text('path,label\nb.png,"dog, big"\na.png,cat\n')
    (tmp_path / "y.csv").write_text('path,label\na.png,cat\nb.png,"dog, big"\n')
    images, other = open_csv(tmp_path / "x.csv"), open_csv(tmp_path / "y.csv")
    assert images.card.kind == "names"
    assert images.card.classes == ("cat", "dog, big")
    assert labelled(images) == [("b.png", 1), ("a.png", 0)]
    assert images.card.digest != other.card.digest


def test_a_file_that_appears_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\na.png,0\nb.png,1\n")
    with pytest.raises(VitalsError, match=r"must be files that can be read\. Got 'a.png', 'b.png'"):
        open_csv(tmp_path / "x.csv")
    write(tmp_path / "b.png")
    before = open_csv(tmp_path / "x.csv").card
    assert before.notes == ("1 pictures are missing or no file that can be read: a.png",)
    write(tmp_path / "a.png", 1)
    after = open_csv(tmp_path / "x.csv").card
    assert after.digest != before.digest
    assert after.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must have a column `path`\. Got none"),
        ("paths,label\na,0\n", r"must have a column `path`\. Got 'paths', 'label'\. Did you mean paths\?"),
        ("path;label\na;0\n", r"must have a column `path`\. Got 'path;label'"),
        ("path,label\n", r"must have at least one row"),
        ("path,label\na,0\nb\n", r"x\.csv, line 3 must have 2 fields with a path and a label\. Got 'b'"),
        ("path,label\na,\n", r"line 2 must have 2 fields with a path and a label"),
        ("path,label\na,0\n./a,1\n", r"line 3: a path must be listed once; it is also on line 2\. Got 'a'"),
        ("path,label\na,0\nb,-1\n", r"line 3: a number as label must be a whole output index from 0\. Got '-1'"),
        ("path,label\na,0\nb,1.0\n", r"line 3: a number as label .*Got '1\.0'"),
        ("path,label\na,9999999999\n", r"line 2: a number as label .*Got '9999999999'"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(VitalsError, match=message):
        open_csv(tmp_path / "x.csv")


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff,0\n")
    with pytest.raises(VitalsError, match=r"must be UTF-8 text\. Got byte 0xff"):
        open_csv(tmp_path / "x.csv")
    with pytest.raises(VitalsError, match=r"The csv file must exist\. .*Did you mean x\.csv\?"):
        open_csv(tmp_path / "xy.csv")


# ------------------------------------------------------------------------------------------------------------------ hf


def test_parquet_and_saved_sets_are_the_same_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    [saved] = dataset_inputs.hf(tmp_path)
    table = datasets.load_from_disk(str(tmp_path / "saved"))
    table.to_parquet(str(tmp_path / "x.parquet"))
    (tmp_path / "splits").mkdir()
    for split in ("train", "validation"):
        table.to_parquet(str(tmp_path / "splits" / f"{split}-00000-of-00001.parquet"))
    spellings = [saved, f"hf:{tmp_path}/x.parquet", f"hf:{tmp_path}/splits", f"hf:{tmp_path}/splits?split=train"]
    sets = [open_hf(spelling) for spelling in spellings]
    assert len({images.card.digest for images in sets}) == 1
    assert sets[2].card.classes == ("cat", "dog")
    assert [label for _, label in labelled(sets[2])] == [0, 1, 0, 1]
    for options, message in [
        ("?split=trainn", r"must name a split of the data set\. Got 'trainn'\. Did you mean train\?"),
        ("?label=lable", r"must have the column `lable` .*Did you mean label\?"),
        ("?image=label", r"Column `label` of .* must hold pictures\. Got ClassLabel"),
    ]:
        with pytest.raises(VitalsError, match=message):
            open_hf(spellings[2] + options)
    with pytest.raises(VitalsError, match=r"The data set must exist\. .*Did you mean splits\?"):
        open_hf(f"hf:{tmp_path}/split")


def test_labels_of_the_library_are_names_or_indices_or_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns = {"image": [picture()] * 2, "number": [2, 0], "name": ["dog", "cat"], "no": [0, -1]}
    features = {"image": datasets.Image(), "number": datasets.Value("int64"), "name": datasets.Value("string")}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features | {"no": datasets.Value("int64")}))
    table.save_to_disk(str(tmp_path / "set"))
    numbers, names = open_hf(f"hf:{tmp_path}/set?label=number"), open_hf(f"hf:{tmp_path}/set?label=name")
    assert (numbers.card.kind, numbers.card.classes, numbers[0].label) == ("indices", ("0", "1", "2"), 2)
    assert (names.card.kind, names.card.classes, names[0].label) == ("names", ("cat", "dog"), 1)
    with pytest.raises(VitalsError, match=r"Column `no` .* must hold class names, or whole numbers from 0\. Got -1"):
        open_hf(f"hf:{tmp_path}/set?label=no")


def test_a_folder_that_the_library_reads_in_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    for name in ("a/0.png", "a/1.png", "b/2.png"):
        write(tmp_path / "set" / name)
    assert len(open_hf(f"hf:{tmp_path}/set")) == 3
    write(tmp_path / "set" / "b" / "bullet_train.JPEG")
    with pytest.raises(
        VitalsError, match=r"must read all 4 pictures of the folder\. Got 1\. Class folders are read by `folder:"
    ):
        open_hf(f"hf:{tmp_path}/set")


@pytest.mark.parametrize("answers", ["refuses", "hangs"])
def test_an_unreachable_hub_is_told_in_seconds(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from huggingface_hub import constants

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers == "hangs":
            server.listen()  # the connection is made by the system, and nobody ever answers
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(hf, "_TIMEOUT", 0.5)
        start = time.monotonic()
        with pytest.raises(
            VitalsError, match=r"did not answer for `hf:someone/pictures`.*hf:PATH.*HF_HUB_OFFLINE=1.*folder:PATH"
        ):
            open_hf("hf:someone/pictures")
        assert time.monotonic() - start < 5


# -------------------------------------------------------------------------------------------------------------- decode


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(30, 40), (41, 30), (33, 33), (7, 90), (250, 181)])
@pytest.mark.parametrize(("size", "resize"), [((24, 24), 28), ((24, 24), 24), ((17, 24), 37), ((24, 18), None)])
def test_decode_equals_torchvision_bit_for_bit(
    interpolation: Interpolation, shape: tuple[int, int], size: tuple[int, int], resize: int | None
) -> None:
    from torchvision import transforms

    image = picture(1, shape)
    mode = transforms.InterpolationMode(interpolation)
    steps = [transforms.Resize(size if resize is None else resize, mode), transforms.CenterCrop(size)]
    expected = np.asarray(transforms.Compose(steps)(image))
    assert np.array_equal(decode(image, preprocess(size, resize, interpolation)), expected)


def test_modes_become_rgb() -> None:
    same = preprocess((30, 40), None)
    colour = picture()
    rgb, grey = np.asarray(colour), np.asarray(colour.convert("L"))
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray(255 - grey))
    palette = colour.quantize(16)
    transparent = saved(palette, "PNG", transparency=bytes(range(16)))
    low = np.where(np.arange(40) % 2, 0, 255).astype(np.uint16)  # the lower byte, which is dropped
    wide = (grey.astype(np.uint16) << 8) + low
    turned = Image.Exif()
    turned[0x0112] = 6

    def pixels(data: bytes) -> np.ndarray:
        return decode(open_image(data, "x"), same)

    assert np.array_equal(pixels(saved(colour, "PNG")), rgb)
    assert np.array_equal(pixels(saved(alpha, "PNG")), rgb)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(pixels(saved(Image.fromarray(wide), kind)), np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(pixels(saved(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(pixels(transparent), np.asarray(palette.convert("RGB")))
    assert np.array_equal(pixels(saved(colour.convert("CMYK"), "TIFF")), rgb)
    assert np.array_equal(pixels(saved(colour, "PNG", exif=turned)), rgb)
    assert set(np.unique(pixels(saved(colour.convert("1"), "PNG")))) <= {0, 255}
    assert np.abs(pixels(saved(colour, "MPO", quality=95)).astype(int) - rgb).mean() < 3  # a JPEG as phones write it
    for mode in ("I", "F"):
        with pytest.raises(UnreadableImage, match=f"mode {mode} .32 bit. have no defined white"):
            pixels(saved(colour.convert(mode), "TIFF"))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a/0\.jpg: the file is empty \(0 bytes\)"),
        (b"<html>not found</html>", r"a/0\.jpg: not a picture in a format that is read here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", r"a/0\.jpg: not a picture in a format"),
        (saved(picture(), "JPEG")[:-60], r"a/0\.jpg: image file is truncated"),
        (saved(picture(), "PNG")[:-60], r"a/0\.jpg: "),
        (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0))
            + chunk(b"IEND", b""),
            r"a/0\.jpg: Image size \(3600000000 pixels\) exceeds limit",
        ),
    ],
)
@pytest.mark.parametrize("decoder", ["pillow", "fast"])
def test_damaged_files_are_unreadable_images(tmp_path: Path, data: bytes, message: str, decoder: str) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "0.jpg").write_bytes(data)
    images = open_folder(tmp_path / "set")
    if decoder == "fast":
        pytest.importorskip("simplejpeg")
        with pytest.raises(UnreadableImage, match=message):
            decode_fast(data, preprocess((8, 8), 8), "a/0.jpg")
    else:
        with pytest.raises(UnreadableImage, match=message):
            images[0]


def test_a_picture_of_one_pixel_by_many_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(UnreadableImage, match="60000 x 1 pixels are too narrow to resize"):
        decode(Image.new("RGB", (60000, 1)), preprocess((224, 224), 256))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("resize", [72, None])
def test_fast_is_within_two_of_the_reference(interpolation: Interpolation, resize: int | None) -> None:
    pytest.importorskip("simplejpeg")
    how = preprocess((64, 56), resize, interpolation)
    choices: list[dict[str, Any]] = [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 40}]
    for seed, options in enumerate(choices):
        data = saved(picture(seed, (150 + seed, 211)), "JPEG", **options)
        reference, fast = decode(open_image(data, "x"), how), decode_fast(data, how, "x")
        assert fast.shape == (64, 56, 3)
        assert np.abs(reference.astype(int) - fast).max() <= 2


def test_fast_is_the_reference_where_it_does_not_apply() -> None:
    pytest.importorskip("simplejpeg")
    how = preprocess((24, 24), 28)
    for data in (saved(picture(), "PNG"), saved(picture().convert("CMYK"), "JPEG")):
        assert np.array_equal(decode_fast(data, how, "x"), decode(open_image(data, "x"), how))
    grey = saved(picture().convert("L"), "JPEG")
    assert np.abs(decode_fast(grey, how, "x").astype(int) - decode(open_image(grey, "x"), how)).max() <= 2


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [72, 97, None])
def test_fast_is_within_two_of_the_reference_on_edges(interpolation: Interpolation, resize: int | None) -> None:
    """Pictures whose neighbouring pixels differ by 255: to choose another one is seen. Sizes at which pixels lie between two."""
    pytest.importorskip("simplejpeg")
    how = preprocess((64, 56), resize, interpolation)
    for seed, shape in enumerate([(144, 194), (145, 97), (96, 112), (291, 388)]):
        noise = np.random.default_rng(seed).integers(0, 2, (*shape, 1), dtype=np.uint8) * np.uint8(255)
        data = saved(Image.fromarray(np.repeat(noise, 3, 2)), "JPEG", quality=95)
        reference, fast = decode(open_image(data, "x"), how), decode_fast(data, how, "x")
        assert np.abs(reference.astype(int) - fast).max() <= 2, shape


@pytest.mark.parametrize("margin", range(8))
def test_the_crop_begins_where_torchvision_and_timm_begin(margin: int) -> None:
    from timm.data import create_transform
    from torchvision.transforms import CenterCrop, Compose, Resize

    size, resize = 24, 24 + margin
    image = Image.fromarray(np.random.default_rng(margin).integers(0, 256, (resize, 41 + margin, 3), dtype=np.uint8))
    how = preprocess((size, size), resize, "bilinear")
    found = decode(image, how)
    assert np.array_equal(found, np.asarray(Compose([Resize(resize), CenterCrop(size)])(image)))
    timms = create_transform(
        (3, size, size), interpolation="bilinear", crop_pct=size / resize, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert isinstance(timms, Compose)
    assert np.array_equal(found, (timms(image) * 255).round().byte().permute(1, 2, 0).numpy())


# ---------------------------------------------------------------------------------- what is special about the pictures


def test_what_is_special_about_pictures_is_counted_once_and_told(tmp_path: Path) -> None:
    root = tmp_path / "set" / "a"
    root.mkdir(parents=True)
    ramp = np.linspace(0, 4095, 1200).astype(np.uint16).reshape(30, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    opaque, glass = picture(1).convert("RGBA"), picture(2).convert("RGBA")
    glass.putalpha(128)
    marked = picture(3).quantize(8)
    Image.fromarray(ramp).save(root / "12 of 16 bits.png")
    Image.fromarray(ramp * 16).save(root / "16 bits.tif")
    picture(4).save(root / "turned.jpg", exif=exif)
    picture(5).save(root / "turned.png", exif=exif)
    opaque.save(root / "opaque.png")
    glass.save(root / "glass.png")
    glass.save(root / "glass.webp", lossless=True)
    marked.save(root / "palette.png", transparency=0)
    picture(6).save(root / "moving.gif", save_all=True, append_images=[picture(7)])
    picture(8).save(root / "moving.png", save_all=True, append_images=[picture(9)])
    picture(10).save(root / "plain.jpg")
    expected = (
        "2 pictures have an EXIF orientation and are read as stored; `?exif=apply` turns them upright",
        "3 pictures are partly transparent: alpha is dropped, the colours below it are taken",
        "2 pictures have several frames: the first one is taken",
        "2 pictures have more than 8 bits: the upper 8 of 16 are taken (value // 256); the largest values are 6.2% to 100.0% of the "
        "range, so 1 are nearly black: rescale them to 16 bits, or save them with 8",
    )
    assert open_folder(tmp_path / "set").card.notes == expected
    assert open_folder(tmp_path / "set").card.notes == expected, "from the notes of the first time"


def test_a_tiff_that_pillow_turns_is_not_said_to_be_read_as_stored(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    picture().save(tmp_path / "set" / "a" / "0.tif", tiffinfo={0x0112: 6})
    images = open_folder(tmp_path / "set")
    turned = images[0].image.size == (30, 40)  # stored 40 wide and 30 high
    assert (images.card.notes == ()) == turned
    assert open_folder(tmp_path / "set", "?exif=apply")[0].image.size == (30, 40)


def test_16_bit_colours_are_seen(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    row = b"\0" + struct.pack(">3H", 1000, 500, 0) * 4
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(row * 2))
    (tmp_path / "set" / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    [note] = open_folder(tmp_path / "set").card.notes
    assert note.startswith("1 pictures have more than 8 bits: the upper 8 of 16 are taken (value // 256)")
    assert "so 1 are nearly black" in note


def test_avif_is_read_where_pillow_reads_it(tmp_path: Path) -> None:
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    write(tmp_path / "set" / "a" / "0.avif")
    images = open_folder(tmp_path / "set")
    assert images[0].image.size == (40, 30)
    assert np.abs(np.asarray(images[0].image).astype(int) - np.asarray(picture())).mean() < 8


def test_copies_of_a_picture_are_counted_and_known(tmp_path: Path) -> None:
    for name, seed in {"a/0": 0, "a/1": 1, "a/2": 0, "b/3": 0, "b/4": 4, "b/5": 4}.items():
        write(tmp_path / "set" / f"{name}.png", seed)
    images = open_folder(tmp_path / "set")
    assert isinstance(images, EncodedImages)
    assert images.copies == {"a/2.png": "a/0.png", "b/3.png": "a/0.png", "b/5.png": "b/4.png"}
    assert images.card.notes == (
        "2 pictures are copies of one of their class: a/2.png = a/0.png, b/5.png = b/4.png",
        "1 pictures are copies of one of another class: b/3.png = a/0.png",
    )
    how = preprocess((8, 8), None)
    assert decoded(images, how).copies == images.copies
    kept = [seed for seed in range(40) if "a/0.png" not in decoded(images, how, limit=4, seed=seed).ids]
    found = decoded(images, how, limit=4, seed=kept[0])
    assert {id for id in found.copies.values() if id not in found.ids} == set()
    assert [decoded(images, how, limit=4, seed=s).copies.get("b/3.png") for s in kept].count("a/2.png") > 0


@pytest.mark.parametrize("decoder", ["pillow", "fast"])
def test_copies_are_known_by_the_picture_not_by_the_file(tmp_path: Path, decoder: Literal["pillow", "fast"]) -> None:
    """The same picture in another format, with a palette or with other metadata; and two that differ in one pixel, though not once they
    are small."""
    if decoder == "fast":
        pytest.importorskip("simplejpeg")
    root = tmp_path / "set"
    for name, colours in {
        "a/0.png": picture(),
        "a/1.bmp": picture(),
        "b/2.tif": picture(),
        "b/3.gif": picture(1),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colours.save(root / name)
    with Image.open(root / "b" / "3.gif") as indexed:
        indexed.convert("RGB").save(root / "b" / "4.png")
    picture(2).save(root / "a" / "5.jpg")
    picture(2).save(root / "a" / "6.jpg", comment="metadata")
    near = picture()
    near.putpixel((0, 0), tuple(value ^ 1 for value in near.getpixel((0, 0))))  # type: ignore[union-attr]
    near.save(root / "b" / "7.png")
    images = open_folder(root)
    expected = {"a/1.bmp": "a/0.png", "b/2.tif": "a/0.png", "b/4.png": "b/3.gif", "a/6.jpg": "a/5.jpg"}
    for size in (2, 8, 30):
        assert decoded(images, preprocess((size, size), None), decoder=decoder).copies == expected


def test_copies_in_two_parts_of_a_set_are_told(tmp_path: Path) -> None:
    for path, seed in {"train/a/0": 0, "train/b/1": 1, "test/a/2": 0, "test/b/3": 3}.items():
        write(tmp_path / f"{path}.png", seed)
    assert open_folder(tmp_path, "?parts=all").card.notes[1:] == (
        "1 pictures are copies of one of their class: train/a/0.png = test/a/2.png",
        "1 pictures are copies of one of another part of the set: train/a/0.png = test/a/2.png",
    )


# ------------------------------------------------------------------------------------------------------ links and names


def ids_of(images: ImageSet) -> list[str]:
    return [images[index].id for index in range(len(images))]


def test_links_bring_no_pictures_of_other_classes(tmp_path: Path) -> None:
    root = tmp_path / "data" / "val"
    for seed, path in enumerate(["val/a/0", "val/a/deep/1", "val/b/2", "train/a/3", "train/b/4"]):
        write(tmp_path / "data" / f"{path}.png", seed)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "sister").symlink_to(root / "b")
    (root / "a" / "deep" / "out").symlink_to(tmp_path / "data" / "train")
    (root / "a" / "ring").symlink_to(root / "a" / "ring")
    (root / "all").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "b again").symlink_to(root / "b")
    (root / "c").symlink_to(tmp_path / "data" / "train" / "a")
    (root / "b" / "5.png").symlink_to(tmp_path / "data" / "train" / "b" / "4.png")
    images = open_folder(root)
    assert ids_of(images) == ["a/0.png", "a/deep/1.png", "b/2.png", "b/5.png", "c/3.png"]
    assert images.card.classes == ("a", "b", "c")
    assert images.card.notes == (
        "1 files have no ending of a picture and were left out (no ending 1)",
        "7 links to folders were not followed: they lead out of their class, or back",
        "1 pictures are links to files",
    )


def test_names_with_characters_without_width_do_not_print_alike(tmp_path: Path) -> None:
    for name in ("a", "a\u200b", "a\u2060", "a\ufeff", "a\xad", "\u200fa"):
        write(tmp_path / "set" / "c" / f"{name}.png", 0)
    shown = ids_of(open_folder(tmp_path / "set"))
    assert sorted(shown) == sorted(
        f"c/{name}.png" for name in ("a", r"a\u200b", r"a\u2060", r"a\ufeff", r"a\xad", r"\u200fa")
    )


def test_names_that_print_alike_stay_two_ids(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "a"
    names = [
        b"\xff.png",
        b"\\xff.png",
        b"e\xcc\x81.png",
        b"\xc3\xa9.png",
        b"\x1b]0;x\x07.png",
        b"a\\b.png",
        b"\\\\xff.png",
    ]
    for seed, name in enumerate(names):
        write(folder / "0.png", seed)
        os.rename(folder / "0.png", os.fsencode(folder) + b"/" + name)
    images = open_folder(tmp_path / "set")
    ids = ids_of(images)
    assert len(set(ids)) == len(names)
    assert "a/\\x1b]0;x\\x07.png" in ids
    assert not [id for id in ids if re.search(r"[\x00-\x1f\x7f-\x9f]", id)]


def test_a_class_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.png")
    write(tmp_path / "1.png", 1)
    (tmp_path / "x.csv").write_text("path,label\n0.png,..\n1.png,a\n")
    with pytest.raises(VitalsError, match=r"must have other names than `\.` and `\.\.`"):
        open_csv(tmp_path / "x.csv")


# ------------------------------------------------------------------------------------------------- files that never end


@pytest.fixture
def endless(tmp_path: Path) -> list[Path]:
    """A pipe, a device and a file of 8 GB, each under the name of a picture."""
    folder = tmp_path / "set" / "a"
    write(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    with (folder / "large.png").open("wb") as file:
        file.truncate(8 * 10**9)
    return [folder / f"{name}.png" for name in ("pipe", "device", "large")]


@pytest.mark.timeout(20)
def test_endless_files_of_a_folder_are_left_out(tmp_path: Path, endless: list[Path]) -> None:
    images = open_folder(tmp_path / "set")
    assert images.card.notes == (
        "2 files have no ending of a picture and were left out (a pipe or a device 2)",
        "1 pictures are missing or no file that can be read: a/large.png",
    )
    found = decoded(images, preprocess((8, 8), None))
    assert found.ids == ("a/good.png",)
    assert found.skipped == (("a/large.png", "8,000,000,000 bytes, more than the 536,870,912 that are read"),)


@pytest.mark.timeout(20)
def test_endless_files_of_a_table_and_of_masks_are_skipped(tmp_path: Path, endless: list[Path]) -> None:
    (tmp_path / "x.csv").write_text("path,label\n" + "".join(f"{path},0\n" for path in endless) + "set/a/good.png,0\n")
    images = open_csv(tmp_path / "x.csv")
    assert "3 pictures are missing or no file that can be read" in images.card.notes[0]
    reasons = dict(decoded(images, preprocess((8, 8), None)).skipped)
    assert sorted(reasons.values()) == [
        "8,000,000,000 bytes, more than the 536,870,912 that are read",
        *["not a regular file"] * 2,
    ]
    for name in ("pipe", "large"):
        write(tmp_path / "images" / f"{name}.png")
    masks = registry.load("datasets", "masks").open(registry.parse(f"masks:{tmp_path}?masks=set/a", families=["masks"]))
    assert masks.card.n == 2
    with pytest.raises(UnreadableImage, match=r"large\.png cannot be read: 8,000,000,000 bytes"):
        masks[0]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
@pytest.mark.parametrize("what", ["csv", "classes", "list", "json", "answers", "zip"])
def test_endless_tables_are_refused(tmp_path: Path, kind: str, what: str) -> None:
    write(tmp_path / "set" / "a" / "good.png")
    table = tmp_path / {"list": "categories_places365.txt", "json": "train.json", "zip": "images_x.zip"}.get(
        what, "x.csv"
    )
    match kind:
        case "pipe":
            os.mkfifo(table)
        case "device":
            table.symlink_to("/dev/zero")
        case "folder":
            table.mkdir()
        case "large":
            with table.open("wb") as file:
                file.truncate(8 * 10**9)
    spellings = {
        "csv": f"csv:{table}",
        "classes": f"folder:{tmp_path / 'set'}?classes={table}",
        "list": f"places365:{tmp_path}",
        "json": f"fungi:{tmp_path}",
        "zip": f"omniglot:{tmp_path}",
    }
    with pytest.raises(VitalsError):  # noqa: PT012
        if what == "answers":
            csv_files.read(table)
        else:
            planner.open_images(spellings[what])


def test_a_picture_above_the_limit_is_refused_however_far(tmp_path: Path) -> None:
    """Between Pillow's warning and twice as much, Pillow itself would decode it."""
    for side, decodes in ((9459, True), (9460, False), (13000, False), (60000, False)):
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        row = bytes(1 + (side + 7) // 8)
        data += chunk(b"IDAT", zlib.compress(row * side, 1) if side < 20000 else b"") + chunk(b"IEND", b"")
        if decodes:
            assert open_image(data, "x").size == (side, side)
        else:
            with pytest.raises(UnreadableImage, match="exceeds limit of"):
                open_image(data, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\n" + b"a" * 300_000 + b".png,0\n", r"line 2, must be a csv row\. Field larger than field limit"),
        (b"path,label\n" + b"a" * 100_000 + b".png,0\n", r"must be files that can be read"),
        (b"path,label\na\0b.png,0\n", r"must be files that can be read"),
        (b"path," + b"x" * 100_000 + b"\n", r"must have a column `label`"),
        (b"path,label\n" + b"x," * 10_000 + b"\n", r"line 2 must have 2 fields"),
        (b"\x00\xff\xfe", r"must be UTF-8 text"),
        (b"", r"must have a column `path`"),
    ],
)
def test_a_hostile_table_ends_in_one_short_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(VitalsError, match=message) as caught:
        open_csv(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("family", sorted(set(registry.names("datasets")) - {"hf", "shapes"}))
@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "/dev/zero", "/dev/null/x"])
def test_a_hostile_path_ends_in_one_line(family: str, name: str) -> None:
    with pytest.raises(VitalsError):
        planner.open_images(f"{family}:{name}")
