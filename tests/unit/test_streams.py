"""Image sets by shard: the numbers are those of the same pictures in a folder, whatever the cache holds and whoever measures; bad shards are named."""

import http.server
import io
import itertools
import json
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_shards import rows

from dataset_inputs import encoded
from visionvitals import cli
from visionvitals.core import Preprocess
from visionvitals.datasets.base import cache, located
from visionvitals.datasets.base.cache_folder import clear
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.errors import VitalsError
from visionvitals.plan import planner
from visionvitals.run import groups, parts
from visionvitals.run.store import Store

N, SHARDS = 22, (0, 7, 9, 22)
HOW = Preprocess(size=(16, 16), resize=20, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def picture(index: int, side: int = 70) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (side, side + index % 5, 3), dtype=np.uint8)


BROKEN = 8
"""Cannot be decoded."""
DATA = [encoded(picture(3 if index == 20 else index)) for index in range(N)]  # 20 shows what 3 shows, in another shard
DATA[20] = encoded(picture(3), "BMP")
DATA[BROKEN] = DATA[BROKEN][:500]
LABELS = [index * 7 % 16 for index in range(N)]


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def sample(index: int, **texts: str) -> list[tuple[str, bytes]]:
    found = [(f"dir/{index:03d}.png", DATA[index])]
    return found + [(f"dir/{index:03d}.{ending}", text.encode()) for ending, text in texts.items()]


def tars(folder: Path) -> str:
    for number, (start, stop) in enumerate(itertools.pairwise(SHARDS)):
        tar(folder / f"s-{number:03d}.tar", [m for k in range(start, stop) for m in sample(k, cls=str(LABELS[k]))])
    return f"webdataset:{folder}/s-{{000..002}}.tar"


def parquets(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for number, (start, stop) in enumerate(itertools.pairwise(SHARDS)):
        cells = [{"bytes": data, "path": "x"} for data in DATA[start:stop]]
        table = pa.table({"image": cells, "label": LABELS[start:stop]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=3)
    return f"parquet:{folder}"


def table(folder: Path) -> str:
    folder.mkdir()
    for index, data in enumerate(DATA):
        (folder / f"{index:03d}.png").write_bytes(data)
    lines = [f"{index:03d}.png,{label}\n" for index, label in enumerate(LABELS)]
    (folder / "all.csv").write_text("path,label\n" + "".join(lines))
    return f"csv:{folder}/all.csv"


def opened(text: str) -> EncodedImages:
    found = planner.open_images(text)
    assert isinstance(found, EncodedImages)
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "SIZE", 8)
    monkeypatch.setattr(located, "_WAIT", 0.01)


# ------------------------------------------------------------------------------------------------------ the law


def measured(out: Path, text: str, *runs: str, studies: str = "clean") -> dict[str, dict[str, str]]:
    words = ["plan", "tiny:cnn", "--data", text, "--preset", "quick", "--studies", studies]
    assert cli.main([*words, "--out", str(out)]) == 0
    for run in runs or ("",):
        assert cli.main(["run", str(out), "--batch-size", "4", "--device", "cpu", *run.split()]) == 0
    return rows(out)


def answers(out: Path) -> tuple[list[float], list[list[str]], int]:
    [clean] = [cell for cell in Store(out / "store").cells() if cell.cell["study"] == "clean"]
    return clean.values(["prediction"])["prediction"].tolist(), clean.facts["skipped"], clean.facts["n"]


def test_the_numbers_are_those_of_the_same_pictures_in_files(tmp_path: Path) -> None:
    measured(tmp_path / "files", table(tmp_path / "c"))
    expected, [[_, reason]], n = answers(tmp_path / "files")
    assert len(expected) == n == N - 1
    for name, text in (("tar", tars(tmp_path / "t")), ("parquet", parquets(tmp_path / "p"))):
        measured(tmp_path / name, text)
        assert answers(tmp_path / name)[0] == expected, name
        assert answers(tmp_path / name)[2] == n
        [[lost, why]] = answers(tmp_path / name)[1]
        assert (lost, why) == ({"tar": "00001/dir/008", "parquet": "00001/00000001"}[name], reason)
        said = json.loads((tmp_path / name / "warnings.json").read_text())
        assert any(
            f"1 of {N} images cannot be read" in text for text in (said if isinstance(said, list) else said["warnings"])
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, dict[str, str]], int]:
    """A set in tars, the rows of a run over it, and how large its entries in the cache are together."""
    tmp = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VISIONVITALS_CACHE", str(tmp / "cache"))
        patched.setattr(parts, "SIZE", 8)
        text = tars(tmp / "t")
        found = measured(tmp / "run", text, studies="clean,shuffle")
        return text, found, sum(entry.bytes for entry in cache.entries())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_rows_do_not_depend_on_shards_of_work_or_the_cache(count: int, whole, tmp_path: Path, monkeypatch) -> None:
    text, expected, size = whole
    monkeypatch.setenv("VISIONVITALS_CACHE_LIMIT", f"{size * 2 // 3}")  # not all shards at once
    shares = [f"--shard {k}/{count}" for k in range(count)]
    assert measured(tmp_path / "divided", text, *shares, studies="clean,shuffle") == expected
    assert 0 < len(cache.entries()) < 3


def test_the_rows_do_not_depend_on_a_cache_that_is_cleared_meanwhile(whole, tmp_path: Path, monkeypatch) -> None:
    read = cache._read
    monkeypatch.setattr(cache, "_read", lambda *args: [read(*args), clear()][0])
    assert measured(tmp_path / "cleared", whole[0], studies="clean,shuffle") == whole[1]


def test_a_worker_opens_only_the_shards_of_its_part(tmp_path: Path) -> None:
    text = tars(tmp_path / "t")
    words = [
        "plan",
        "tiny:cnn",
        "--data",
        text,
        "--preset",
        "quick",
        "--studies",
        "clean",
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main(words) == 0
    assert cli.main(["run", str(tmp_path / "run"), "--device", "cpu", "--shard", "2/3"]) == 0  # pictures 16 to 22
    [entry] = cache.entries()
    assert "shard 2: 13 pictures" in entry.description


def test_the_same_shards_elsewhere_are_the_same_set(tmp_path: Path) -> None:
    import fsspec

    text = tars(tmp_path / "t")
    memory = fsspec.filesystem("memory")
    for number in range(3):
        memory.pipe(f"/bucket/other{number}.tar", (tmp_path / "t" / f"s-{number:03d}.tar").read_bytes())
    here, there = opened(text), opened("webdataset:memory://bucket/other{0..2}.tar")
    assert here.card.digest == there.card.digest
    assert list(here.ids) == list(there.ids)
    cache.decoded(here, HOW)
    before = {entry.key for entry in cache.entries()}
    found = cache.decoded(there, HOW)
    assert {entry.key for entry in cache.entries()} == before
    assert list(found.ids) == [id for k, id in enumerate(here.ids) if k != BROKEN]
    other = opened(f"webdataset:{tmp_path}/t/s-{{001..002}}.tar")
    assert other.card.digest != here.card.digest
    memory.rm("/bucket", recursive=True)


# ---------------------------------------------------------------------------------------------- what is decoded


@pytest.mark.parametrize("make", [tars, parquets])
def test_pixels_labels_and_copies_are_those_of_files(make, tmp_path: Path) -> None:
    files, images = opened(table(tmp_path / "c")), opened(make(tmp_path / "x"))
    for how in ({}, {"limit": 9, "seed": 1}, {"decoder": "pillow", "workers": 1}):
        found, expected = cache.decoded(images, HOW, **how), cache.decoded(files, HOW, **how)
        if "limit" in how:  # another draw, as the ids are others
            assert [images.labels[list(images.ids).index(id)] for id in found.ids] == found.labels.tolist()
            assert len(found.ids) + len(found.skipped) == 9
            continue
        assert np.array_equal(np.asarray(found.pixels), expected.pixels)
        assert np.array_equal(found.pixels[3:9], expected.pixels[3:9])
        assert np.array_equal(found.pixels[np.array([20, 1])], expected.pixels[[20, 1]])
        assert np.array_equal(found.pixels[-1], expected.pixels[-1])
        assert found.labels.tolist() == expected.labels.tolist()
        place = {id: row for row, id in enumerate(found.ids)}
        assert {place[a]: place[b] for a, b in found.copies.items()} == {19: 3}, "without the broken one"
        assert len(expected.copies) == 1


def test_a_part_of_a_part_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    data = cache.opened(opened(tars(tmp_path / "t")), HOW)
    part = data.some(range(6, 12))
    assert [id[:5] for id in part.ids] == ["00000", "00001", "00002", "00002", "00002"]
    inner = part.some(np.array([1, 4]))
    assert inner.ids == (part.ids[1], part.ids[4])
    assert np.array_equal(np.asarray(inner.pixels), part.pixels[np.array([1, 4])])
    assert np.array_equal(np.asarray(part.some(range(1, 3)).pixels), part.pixels[1:3])


def test_a_shard_without_a_readable_picture_is_skipped(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", sample(BROKEN, cls="0"))
    tar(tmp_path / "1.tar", sample(1, cls="1"))
    tar(tmp_path / "2.tar", [])
    found = cache.decoded(opened(f"webdataset:{tmp_path}/{{0..2}}.tar"), HOW)
    assert found.ids == ("00001/dir/001",)
    assert [id for id, _ in found.skipped] == ["00000/dir/008"]


def test_a_part_without_a_readable_picture_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SIZE", 2)
    monkeypatch.setattr(groups, "MOST", 4)
    order = [0, 1, BROKEN, BROKEN, 2]
    tar(
        tmp_path / "a.tar", [(f"{k}.{e}", d) for k, i in enumerate(order) for e, d in (("png", DATA[i]), ("cls", b"0"))]
    )
    measured(tmp_path / "run", f"webdataset:{tmp_path}/a.tar")
    _, skipped, n = answers(tmp_path / "run")
    assert ([id for id, _ in skipped], n) == (["00000/2", "00000/3"], 3)
    assert cli.main(["report", str(tmp_path / "run")]) == 0


def test_large_sets_keep_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = opened(tars(tmp_path / "t"))
    small = groups.of_set(images)
    assert small is not None
    assert len(small.items) == N
    monkeypatch.setattr(groups, "MOST", N - 1)
    found = groups.of_set(images)
    assert found is not None
    assert found.items == ()


# ------------------------------------------------------------------------------------------------ the index


def test_a_shard_is_read_once_and_again_when_it_or_its_index_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    text = tars(tmp_path / "t")
    for path in (tmp_path / "t").iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(located.time, "time", lambda: 4e9)  # long after the change of the status
    first = opened(text)
    read: list[str] = []
    fetch = located.Located._fetch
    monkeypatch.setattr(located.Located, "_fetch", lambda self: (read.append(self.path), fetch(self))[1])
    assert opened(text).card == first.card
    assert read == []
    index = sorted((tmp_path / "cache" / "hashes").glob("*.npz"))[0]
    data = index.read_bytes()
    for place in (data.index(b"dir/"), data.index(b'"digest"'), len(data) - 5, *range(0, len(data), 97)):
        index.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        found = opened(text)
        assert found.card == first.card
        assert list(found.ids) == list(first.ids)
    assert len(read) >= 3, "a damaged index is made again"
    read.clear()
    tar(tmp_path / "t" / "s-001.tar", sample(0, cls="5"))
    assert opened(text).card.digest != first.card.digest
    assert len(read) == 1
    with pytest.raises(VitalsError, match=r"s-001\.tar must stay as it was when the run began"):
        cache.decoded(first, HOW)


# --------------------------------------------------------------------------------------------------- labels


def test_labels_are_indices_names_or_those_of_a_list(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [*sample(0, json='{"label": "cat"}'), *sample(1, cls="dog")])
    images = opened(f"webdataset:{tmp_path}/a.tar")
    assert (images.card.kind, images.card.classes, list(images.labels)) == ("names", ("cat", "dog"), [0, 1])
    (tmp_path / "map.csv").write_text("dog,a dog\ncat,tabby\n")
    mapped = opened(f"webdataset:{tmp_path}/a.tar?classes={tmp_path}/map.csv")
    assert (mapped.card.classes, list(mapped.labels)) == (("a dog", "tabby"), [1, 0])
    (tmp_path / "map.csv").write_text("dog,tabby\ncat,a dog\n")
    other = opened(f"webdataset:{tmp_path}/a.tar?classes={tmp_path}/map.csv")
    assert (other.card.classes, other.card.digest == mapped.card.digest) == (mapped.card.classes, False)
    (tmp_path / "map.csv").write_text("dog,a dog\n")
    with pytest.raises(VitalsError, match=r"must list every label\. Got 'no line for cat'\. Add `cat,KEY`"):
        opened(f"webdataset:{tmp_path}/a.tar?classes={tmp_path}/map.csv")
    indices = opened(tars(tmp_path / "t"))
    assert (indices.card.kind, len(indices.card.classes)) == ("indices", max(LABELS) + 1)


def test_class_names_of_a_parquet_schema_and_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["owl", "cat", "dog"])})
    for name, start in (("train", 0), ("validation", 4)):
        pictures = [Image.fromarray(picture(k)) for k in range(start, start + 4)]
        each = datasets.Dataset.from_dict({"image": pictures, "label": [1, 0, 1, 0]}, features=features)
        each.to_parquet(str(tmp_path / "set" / f"{name}-00000-of-00001.parquet"))
    plain, streamed = opened(f"hf:{tmp_path}/set?split=train"), opened(f"hf:{tmp_path}/set?split=train&stream=true")
    assert streamed.card.classes == plain.card.classes == ("owl", "cat", "dog")
    assert (streamed.card.kind, list(streamed.labels)) == ("names", [1, 0, 1, 0])
    library = datasets.load_dataset(str(tmp_path / "set"), split="train", streaming=True)
    for index, row in enumerate(library):
        assert np.array_equal(np.asarray(row["image"]), np.asarray(streamed[index].image))
    same = opened(f"parquet:{tmp_path}/set/train-*.parquet")
    assert same.card.digest == streamed.card.digest
    assert opened(f"hf:{tmp_path}/set?stream=true").card.digest != same.card.digest, "the validation split"
    with pytest.raises(VitalsError, match=r"must name a split of the data set\. Got 'tost'"):
        opened(f"hf:{tmp_path}/set?stream=true&split=tost")
    with pytest.raises(VitalsError, match="`stream` must be `true`"):
        opened(f"hf:{tmp_path}/set?stream=yes")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(VitalsError, match=r"did not answer for `hf:someone/pictures\?stream=true`.*Three ways out"):
        opened("hf:someone/pictures?stream=true")


def test_pictures_are_turned_and_noted_as_in_a_folder(tmp_path: Path) -> None:
    from visionvitals.datasets.base.cache import decoded

    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0)).save(buffer, "PNG", exif=exif)
    tar(tmp_path / "a.tar", [("a.png", buffer.getvalue()), ("a.cls", b"0"), *sample(1, cls="0")])
    stored, upright = (opened(f"webdataset:{tmp_path}/a.tar{options}") for options in ("", "?exif=apply"))
    assert any(
        note.startswith("1 pictures have an EXIF orientation and are read as stored") for note in stored.card.notes
    )
    assert upright.card.digest != stored.card.digest
    (tmp_path / "f" / "0").mkdir(parents=True)
    (tmp_path / "f" / "0" / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "f" / "0" / "b.png").write_bytes(DATA[1])
    for images, options in ((stored, ""), (upright, "?exif=apply")):
        expected = decoded(opened(f"folder:{tmp_path}/f{options}"), HOW)
        assert np.array_equal(np.asarray(decoded(images, HOW).pixels), expected.pixels)


# ------------------------------------------------------------------------------------------------- bad shards


def test_bad_tars_are_named(tmp_path: Path) -> None:
    good = tar(tmp_path / "good.tar", [m for k in range(4) for m in sample(k, cls="0")]).read_bytes()
    ends = good.rstrip(b"\0")
    cases = {
        "empty": (b"", r"must be a whole, uncompressed tar\. Got: empty file"),
        "text": (b"hello\n" * 500, "must be a whole, uncompressed tar"),
        "cut": (
            good[: len(good) // 2],
            r"whole, uncompressed tar\. Got: unexpected end of data; the file ends at byte 35,840\.",
        ),
        "header": (good[: -(-len(ends) // 512) * 512], r"must end with a block of zeros"),
        "broken": (good[:512] + good[512:].replace(b"dir/002.png", b"dir/\xff02.png"), "something else at byte"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
        with pytest.raises(VitalsError, match=message) as caught:
            opened(f"webdataset:{tmp_path}/{name}.tar")
        assert f"{name}.tar" in str(caught.value)
    (tmp_path / "two.tar").write_bytes(good * 2)  # `cat a.tar b.tar`, of which tar reads the first only
    with pytest.raises(VitalsError, match=r"two\.tar must be one tar\. Got 'something behind its end at byte"):
        opened(f"webdataset:{tmp_path}/two.tar")
    for start in range(0, len(ends), 512):  # cut at every block of it
        (tmp_path / "cut.tar").write_bytes(good[:start])
        with pytest.raises(VitalsError, match=r"cut\.tar must"):
            opened(f"webdataset:{tmp_path}/cut.tar")


def test_odd_members_are_left_out_with_a_note(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE), ("p.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        for name, data in [*sample(0, cls="1", txt="a cat"), (".hidden.png", DATA[1]), ("alone.cls", b"3")]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    images = opened(f"webdataset:{tmp_path}/a.tar")
    assert list(images.ids) == ["00000/dir/000"]
    assert any(
        note.startswith("5 entries of the shards were left out (a link or a device 2,") for note in images.card.notes
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", DATA[0])], r"Every picture of .*a\.tar must have a label, `KEY\.cls`.*Got 'a'"),
        ([("a.png", DATA[0]), ("a.json", b'{"x": 1}')], "must have a label"),
        ([("a.png", DATA[0]), ("a.json", b"[1]")], r"`a\.json` of .* must be a label.*AttributeError"),
        ([("a.png", DATA[0]), ("a.json", b"{")], "must be a label.*JSONDecodeError"),
        ([("a.png", DATA[0]), ("a.json", b'{"label": true}')], "must be a label.*Got True"),
        ([("a.png", DATA[0]), ("a.cls", b"-1")], r"whole output index from 0.*Got '-1'"),
        ([("a.png", DATA[0]), ("a.cls", b"1.0")], "whole output index from 0"),
        ([("a.png", DATA[0]), ("a.cls", b"99999999")], "must be below 1,000,000"),
        ([("a.png", DATA[0]), ("a.cls", b"")], "must be a label"),
        ([("a.png", DATA[0]), ("a.cls", b"\xff")], "must be a label.*UnicodeDecodeError"),
        ([("a.png", DATA[0]), ("a.jpg", DATA[0]), ("a.cls", b"1")], r"one picture of a key\. Got 'a\.jpg'"),
        ([("a.png", DATA[0]), ("a.cls", b"1"), ("a.cls", b"1")], r"one label of a key\. Got 'a\.cls'"),
        ([("a.cls", b"1")], "must hold pictures"),
    ],
)
def test_bad_labels_and_keys_are_named(members: list[tuple[str, bytes]], message: str, tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", members)
    with pytest.raises(VitalsError, match=message):
        opened(f"webdataset:{tmp_path}/a.tar")


def test_enormous_members_are_skipped_and_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionvitals.datasets import webdataset

    tar(tmp_path / "a.tar", [*sample(0, cls="1"), ("big.png", bytes(20_000)), ("big.cls", b"1")])
    monkeypatch.setattr(webdataset, "MAX_BYTES", 18_000)
    images = opened(f"webdataset:{tmp_path}/a.tar")
    assert dict(cache.decoded(images, HOW).skipped) == {"00000/big": "20,000 bytes, more than the 18,000 that are read"}


def test_bad_parquet_files_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = parquets(tmp_path / "p")
    for options, message in (
        ("?image=picture", r"must have the column `picture` once .*Got 'image', 'label'"),
        ("?image=label", "Column `label` of .* must hold pictures as bytes"),
        ("?label=image", "Column `image` of .* must hold class names, or whole numbers"),
    ):
        with pytest.raises(VitalsError, match=message):
            opened(text + options)
    pq.write_table(pa.table({"image": [{"path": "x"}], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(VitalsError, match=r"must hold pictures as bytes. Got 'struct<path: string>'"):
        opened(f"parquet:{tmp_path}/x.parquet")
    for labels, message in (([1, None], "None in row 1"), ([1, -2], "-2 in row 1"), (["a", ""], "'' in row 1")):
        pq.write_table(pa.table({"image": DATA[:2], "label": labels}), tmp_path / "x.parquet")
        with pytest.raises(VitalsError, match=message):
            opened(f"parquet:{tmp_path}/x.parquet")
    pq.write_table(pa.table({"image": [DATA[0], None], "label": ["a", "b"]}), tmp_path / "x.parquet")
    found = cache.decoded(opened(f"parquet:{tmp_path}/x.parquet"), HOW)
    assert found.skipped == (("00000/00000001", "the row has no picture"),)
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VitalsError, match=r"x\.parquet must be a whole Parquet file"):
        opened(f"parquet:{tmp_path}/x.parquet")


def test_missing_shards_are_named(tmp_path: Path) -> None:
    text = tars(tmp_path / "t")
    for name, message in (
        (text.replace("002}", "004}"), r"The file must exist\. Got .*s-003\.tar"),
        (text.replace("{000..002}", "{002..000}"), "must count up"),
        (f"webdataset:{tmp_path}/t/x*.tar", "must name files, or a folder of"),
        (f"webdataset:{tmp_path}", "must name files"),
        (f"webdataset:{tmp_path}/t/", ""),
        (tars(tmp_path / "a@b"), ""),
        ("webdataset:memory://none/{0..1}.tar", r"The file must exist\. Got `memory:///none/0\.tar`"),
        ("webdataset:https://me:secret@host/0.tar", r"without a password, a query or a chain\. Got 'https://\.\.\.'"),
        ("webdataset:nothing://none/0.tar", r"An image set must be at a path, or at a URL"),
    ):
        if message:
            with pytest.raises(VitalsError, match=message):
                opened(name)
        else:
            assert len(opened(name)) == N


def test_a_long_range_ends_at_its_first_missing_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    look = located._look
    monkeypatch.setattr(located, "_look", lambda fs, path: (looked.append(path), time.sleep(1e-4), look(fs, path))[2])
    text = tars(tmp_path / "t").replace("002}", "020000}").replace("{000", "{000000")
    with pytest.raises(VitalsError, match=r"The file must exist\. Got .*s-000000\.tar"):
        opened(text)
    assert len(looked) <= 256
    monkeypatch.setattr(located, "_MOST", 20)
    with pytest.raises(VitalsError, match="must name at most 20 files"):
        opened(f"webdataset:{tmp_path}/{{0..9}}-{{0..9}}-{{0..9}}.tar")


# ------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        fails = 0

        def do_GET(self) -> None:
            asked.append(self.path)
            if "flaky" in self.path and asked.count(self.path) < 3:
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()
        thread.join()


def test_shards_over_http(server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = server
    local = opened(tars(tmp_path / "t"))
    images = opened(f"webdataset:{url}/t/s-{{000..002}}.tar")
    assert images.card.digest == local.card.digest
    before = len(asked)
    assert np.array_equal(np.asarray(cache.decoded(images, HOW).pixels), np.asarray(cache.decoded(local, HOW).pixels))
    few = cache.decoded(images, HOW, limit=2)  # a server that knows no ranges
    assert np.array_equal(few.pixels, cache.decoded(local, HOW, limit=2).pixels)
    assert len(opened(f"webdataset:{url}/t/s-{{000..002}}.tar")) == N
    assert len(asked) >= before
    (tmp_path / "flaky.tar").write_bytes((tmp_path / "t" / "s-000.tar").read_bytes())
    assert len(opened(f"webdataset:{url}/flaky.tar")) == SHARDS[1], "asked until it answers"
    with pytest.raises(VitalsError, match=r"The file must exist\. Got `http.*/s-003\.tar`"):
        opened(f"webdataset:{url}/t/s-{{000..003}}.tar")


@pytest.mark.parametrize("make", [tars, parquets])
def test_a_read_that_fails_is_tried_again_and_skips_no_picture(make, tmp_path: Path, monkeypatch) -> None:
    images = opened(make(tmp_path / "x"))
    expected = cache.decoded(images, HOW, limit=5)
    clear()
    left = [2]

    class Flaky(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if left[0] and self.armed:
                left[0] -= 1
                raise ConnectionResetError("the peer hung up")
            return super().read(size)

    def flaky(self: located.Located) -> io.BytesIO:
        found = Flaky(Path(self.path).read_bytes())
        found.armed = True
        return found

    monkeypatch.setattr(located.Located, "ranges", flaky)
    if make is tars:
        again = cache.decoded(opened(images.card.spec), HOW, limit=5)
        assert again.skipped == expected.skipped
        assert np.array_equal(again.pixels, expected.pixels)
        assert left == [0]
        clear()
    left[0] = 10**6
    with pytest.raises(VitalsError, match="the peer hung up"):
        cache.decoded(opened(images.card.spec), HOW, limit=5)


def test_shards_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        store, local = fsspec.filesystem("s3"), opened(tars(tmp_path / "t"))
        store.mkdir("pictures")
        store.put([str(path) for path in (tmp_path / "t").iterdir()], "pictures/t/")
        images = opened("webdataset:s3://pictures/t/s-{000..002}.tar")
        assert images.card.digest == opened("webdataset:s3://pictures/t").card.digest == local.card.digest
        assert np.array_equal(cache.decoded(images, HOW, limit=3).pixels, cache.decoded(local, HOW, limit=3).pixels)
        with pytest.raises(VitalsError, match=r"The file must exist\. Got `s3://pictures/t/s-003\.tar`"):
            opened("webdataset:s3://pictures/t/s-{000..003}.tar")
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()


def test_a_server_that_hangs_ends_in_a_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located, "SECONDS", 0.3)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(VitalsError, match=r"must be readable\. Got, asked 3 times: .*imeout"):
            opened(f"webdataset:http://127.0.0.1:{server.getsockname()[1]}/0.tar")
