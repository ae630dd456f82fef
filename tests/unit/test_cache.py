"""Decode once: the same pixels, in order, whole or not there, within its size, for any number of processes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionvitals.core import Example, ImageSetCard, Preprocess
from visionvitals.datasets.base.cache import clear, decoded, draw, entries
from visionvitals.datasets.base.cache_folder import cache_limit, decoded_folder, temporary_folder
from visionvitals.datasets.base.decode import decode
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.errors import UnreadableImage, VitalsError

HOW = Preprocess(size=(12, 10), resize=16, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BYTES = 12 * 10 * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISIONVITALS_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


class Noise:
    """n pictures of noise; those in `broken` cannot be read; counts how often it is asked."""

    def __init__(self, n: int = 20, *, name: str = "noise", broken: tuple[int, ...] = (), wait: float = 0.0) -> None:
        classes = tuple("abc")
        self.card = ImageSetCard(spec=name, digest=f"{name}{n}{broken}", n=n, classes=classes, class_names=classes)
        self.broken, self.wait = broken, wait
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.card.n

    def __getitem__(self, index: int) -> Example:
        self.asked.append(index)
        time.sleep(self.wait)
        if index in self.broken:
            raise UnreadableImage(f"index {index}: broken on purpose")
        pixels = np.random.default_rng(index).integers(0, 256, (20, 17, 3), dtype=np.uint8)
        return Example(f"id{index}", Image.fromarray(pixels), index % 3)


def test_it_holds_what_decode_makes_in_the_order_of_the_set() -> None:
    images = Noise(20)
    found = decoded(images, HOW, workers=4)
    assert found.ids == tuple(f"id{index}" for index in range(20))
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [index % 3 for index in range(20)]
    assert np.array_equal(found.pixels, np.stack([decode(images[index].image, HOW) for index in range(20)]))


def test_a_second_call_decodes_nothing() -> None:
    images = Noise(20, broken=(3,))
    first = decoded(images, HOW)
    images.asked.clear()
    second = decoded(images, replace(HOW, mean=(0, 0, 0), std=(1, 1, 1)))
    assert images.asked == []
    assert (first.ids, first.skipped) == (second.ids, second.skipped)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize(
    "change",
    [{"size": (10, 12)}, {"resize": 17}, {"resize": None}, {"interpolation": "bilinear"}],
    ids=lambda change: str(*change.items()),
)
def test_other_pixels_are_another_entry(change: dict[str, Any]) -> None:
    decoded(Noise(), HOW)
    decoded(Noise(), replace(HOW, **change))
    assert len(entries()) == 2


def test_the_decoder_the_limit_and_the_digest_are_in_the_key_and_an_idle_seed_is_not() -> None:
    pytest.importorskip("simplejpeg")
    decoded(Noise(), HOW)
    decoded(Noise(), HOW, seed=1, limit=20)
    decoded(Noise(), HOW, seed=2, limit=99)
    assert len(entries()) == 1
    decoded(Noise(), HOW, decoder="fast")
    decoded(Noise(), HOW, limit=19)
    decoded(Noise(), HOW, limit=19, seed=1)
    decoded(Noise(name="other"), HOW)
    assert len(entries()) == 5


def test_unreadable_pictures_leave_no_hole_and_are_named() -> None:
    images = Noise(9, broken=(0, 4, 8))
    found = decoded(images, HOW)
    assert found.ids == ("id1", "id2", "id3", "id5", "id6", "id7")
    assert found.labels.tolist() == [1, 2, 0, 2, 0, 1]
    assert found.pixels.shape == (6, 12, 10, 3)
    assert np.array_equal(found.pixels[3], decode(images[5].image, HOW))
    assert found.skipped == tuple((f"index {index}", "broken on purpose") for index in (0, 4, 8))


def test_a_picture_without_a_decided_mode_is_skipped_by_its_name() -> None:
    class Float(Noise):
        def __getitem__(self, index: int) -> Example:
            example = super().__getitem__(index)
            return example if index else example._replace(image=example.image.convert("F"))

    found = decoded(Float(3), HOW)
    assert found.ids == ("id1", "id2")
    assert found.skipped[0][0] == "id0"
    assert found.skipped[0][1].startswith("pixels of mode F")


def test_no_readable_picture_is_an_error_and_leaves_nothing() -> None:
    with pytest.raises(
        VitalsError, match=r"At least one picture of `noise` must be readable\. Got .*broken on purpose"
    ):
        decoded(Noise(2, broken=(0, 1)), HOW)
    assert list(decoded_folder().iterdir()) == []


def test_an_error_in_a_set_leaves_nothing() -> None:
    class Faulty(Noise):
        def __getitem__(self, index: int) -> Example:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decoded(Faulty(), HOW)
    assert list(decoded_folder().iterdir()) == []


def test_draws_are_nested_seeded_and_independent_of_the_order() -> None:
    def named(ids: list[str]) -> EncodedImages:
        card = ImageSetCard(spec="x", digest="x", n=len(ids), classes=("a",), class_names=("a",))
        return EncodedImages(card, tuple(ids), (0,) * len(ids), lambda index: b"")

    ids = [f"{index}.png" for index in range(500)]
    forward, backward = named(ids), named(ids[::-1])
    chosen = draw(forward, 100, 0)
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert set(draw(forward, 30, 0)) < set(chosen)
    assert {ids[index] for index in chosen} == {ids[::-1][index] for index in draw(backward, 100, 0)}
    assert 5 <= len(set(chosen) & set(draw(forward, 100, 1))) <= 40  # 20 expected of independent draws, deviation 3.6
    assert list(draw(forward, None, 0)) == list(range(500))


def test_a_limited_set_holds_the_draw() -> None:
    images = Noise(20)
    assert decoded(images, HOW, limit=5, seed=3).ids == tuple(f"id{index}" for index in draw(images, 5, 3))
    assert sorted(images.asked) == draw(images, 5, 3)
    with pytest.raises(VitalsError, match="`limit` must be at least 1"):
        decoded(images, HOW, limit=0)


def test_progress_counts_every_picture() -> None:
    done: list[int] = []
    decoded(Noise(20, broken=(3,)), HOW, progress=done.append)
    assert sum(done) == 20


def test_few_pictures_are_in_memory_at_a_time() -> None:
    done: list[int] = []
    ahead: list[int] = []

    class Watched(Noise):
        def __getitem__(self, index: int) -> Example:
            ahead.append(index - sum(done))
            return super().__getitem__(index)

    decoded(Watched(300), HOW, workers=3, progress=done.append)
    assert max(ahead) <= 6


@pytest.mark.slow
def test_200000_pictures_take_less_than_100_mb_of_objects_beside_their_pixels() -> None:
    """Measured on fewer pictures, since what is kept of each is small and of equal size."""

    class Plain(Noise):
        def __getitem__(self, index: int) -> Example:
            colour = (index % 256, index // 256, 0)
            return Example(f"test/{index:06d}", Image.new("RGB", (12, 10), colour), index % 3)

    def peak(what: Plain) -> int:
        tracemalloc.start()
        decoded(what, replace(HOW, resize=None), workers=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = Plain(1_000), Plain(11_000)
    for _ in range(2):  # making it, and opening it again
        assert (peak(many) - peak(few)) / 10_000 * 200_000 < 100e6


def test_torch_takes_the_pixels_without_a_warning_and_writing_leaves_the_disk_alone() -> None:
    import torch

    found = decoded(Noise(), HOW)
    before = found.pixels.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(np.ascontiguousarray(found.pixels[2:5])).zero_()
    assert np.array_equal(decoded(Noise(), HOW).pixels, before)


# ------------------------------------------------------------------------------------------------ processes and damage

WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
from test_cache import HOW, Noise, decoded
decoded(Noise(20, wait=float(sys.argv[1])), HOW, workers=1, progress=lambda n: print("done", flush=True))
"""


def start_writer(wait: float) -> "subprocess.Popen[str]":
    code = WRITER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, str(wait)], stdout=subprocess.PIPE, text=True)


def test_a_killed_writer_loses_only_its_own_work(cache: Path) -> None:
    writer = start_writer(0.2)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "done\n"
    alive = decoded(Noise(name="other"), HOW)  # sweeps, and must not take what a living process writes
    [left] = decoded_folder().glob(".tmp-*")
    assert clear() > 0
    assert left.is_dir(), "cleared under a living writer"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert entries() == []
    found = decoded(Noise(20), HOW)
    assert np.array_equal(found.pixels, alive.pixels)
    assert left.is_dir(), "nobody knows yet whether its writer lives"
    silent(left, 601)
    decoded(Noise(name="third"), HOW)
    assert sorted(path.name for path in decoded_folder().iterdir()) == sorted(entry.key for entry in entries())
    assert len(entries()) == 2


def silent(folder: Path, seconds: float) -> None:
    """As if nobody had written into a folder for some time."""
    for path in (*folder.glob("*"), folder):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_writer_whose_unfinished_entry_is_deleted_begins_again() -> None:
    class Swept(Noise):
        def __getitem__(self, index: int) -> Example:
            if len(self.asked) == 10:
                [unfinished] = decoded_folder().glob(".tmp-*")
                shutil.rmtree(unfinished)
            return super().__getitem__(index)

    images = Swept(20)
    found = decoded(images, HOW, workers=1)
    assert len(images.asked) == 40
    assert np.array_equal(found.pixels, decoded(Noise(20), HOW).pixels)


def test_processes_that_make_the_same_entry_agree() -> None:
    writers = [start_writer(0.01) for _ in range(3)]
    mine = decoded(Noise(20, wait=0.01), HOW, workers=1)
    for writer in writers:
        assert writer.communicate()[0].count("done") in (0, 20)
        assert writer.returncode == 0
    assert [path.name for path in decoded_folder().iterdir()] == [entries()[0].key]
    assert np.array_equal(mine.pixels, decoded(Noise(20), HOW).pixels)


def test_threads_that_make_the_same_entry_agree() -> None:
    gate = threading.Barrier(4)

    def one(_: int) -> bytes:
        gate.wait()
        return decoded(Noise(20, wait=0.002), HOW, workers=1).pixels.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(4)))) == 1
    assert len(list(decoded_folder().iterdir())) == 1


@pytest.mark.parametrize(
    "damage", ["cut", "no meta", "bad meta", "no pixels", "pixel", "label", "list", "no checksum", "half a meta"]
)
def test_a_damaged_entry_is_made_again(damage: str) -> None:
    before = decoded(Noise(), HOW).pixels.copy()
    [entry] = entries()
    folder = decoded_folder() / entry.key
    match damage:
        case "cut":
            os.truncate(folder / "pixels", 100)
        case "no meta":
            (folder / "meta.json").unlink()
        case "bad meta":
            (folder / "meta.json").write_text("{")
        case "no pixels":
            (folder / "pixels").unlink()
        case "pixel":
            flip(folder / "pixels", 4321)
        case "label":
            text = (folder / "meta.json").read_text()
            (folder / "meta.json").write_text(text.replace('"labels": [0, 1, 2', '"labels": [0, 2, 2'))
        case "list":
            (folder / "meta.json").write_text("[]")
        case "no checksum":
            (folder / "meta.json").write_text(json.dumps({"ids": [], "labels": [], "skipped": []}))
        case "half a meta":
            os.truncate(folder / "meta.json", 200)
    again = decoded(Noise(), HOW)
    assert np.array_equal(again.pixels, before)
    assert again.labels.tolist() == [index % 3 for index in range(20)]


def flip(path: Path, position: int) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def test_every_flipped_bit_of_a_small_entry_is_noticed() -> None:
    before = decoded(Noise(4), HOW).pixels.copy()
    [entry] = entries()
    for position in range(0, 4 * BYTES, 97):
        flip(decoded_folder() / entry.key / "pixels", position)
        images = Noise(4)
        assert np.array_equal(decoded(images, HOW).pixels, before)
        assert images.asked, position


def test_of_a_large_entry_other_pictures_are_verified_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from visionvitals.datasets.base import cache as module

    monkeypatch.setattr(module, "_VERIFIED_WHOLE", 1000)
    monkeypatch.setattr(module, "_SAMPLED", 5)
    decoded(Noise(20), HOW)
    [entry] = entries()
    flip(decoded_folder() / entry.key / "pixels", 7 * BYTES + 5)
    monkeypatch.setattr(time, "time_ns", lambda: 2)  # looks at 2, 6, 10, ...
    images = Noise(20)
    decoded(images, HOW)
    assert images.asked == []
    monkeypatch.setattr(time, "time_ns", lambda: 3)  # looks at 3, 7, 11, ...
    decoded(images, HOW)
    assert len(images.asked) == 20


def test_an_unfinished_entry_is_swept_when_nobody_writes_it_any_more() -> None:
    for name, age in (("old", 601), ("young", 500)):
        folder = temporary_folder(name.encode().hex().ljust(32, "0"))
        folder.mkdir(parents=True)
        (folder / "pixels").write_bytes(b"x")
        silent(folder, age)
    decoded(Noise(), HOW)
    assert [path.name.endswith(b"young".hex().ljust(32, "0")) for path in decoded_folder().glob(".tmp-*")] == [True]


# ---------------------------------------------------------------------------------------------------- size and clearing


def age(key: str, seconds: float) -> None:
    os.utime(decoded_folder() / key / "meta.json", (time.time() - seconds,) * 2)


def test_the_least_recently_used_entry_makes_room_and_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {name: Noise(20, name=name) for name in "abc"}
    found = {name: decoded(sets[name], HOW) for name in "ab"}
    size = max(entry.bytes for entry in entries())
    assert 20 * BYTES < size < 20 * BYTES + 2000
    keys = {entry.description[0]: entry.key for entry in entries()}
    age(keys["a"], 200)
    age(keys["b"], 100)
    decoded(sets["a"], HOW)  # used: now b is the oldest
    assert [entry.key for entry in entries()] == [keys["b"], keys["a"]]
    before = found["b"].pixels.copy()
    monkeypatch.setenv("VISIONVITALS_CACHE_LIMIT", str(2 * size + 20))
    decoded(sets["c"], HOW)
    assert {entry.description[0] for entry in entries()} == {"a", "c"}
    assert np.array_equal(found["b"].pixels, before)


def test_a_set_larger_than_the_limit_is_refused_before_anything_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded(Noise(name="a"), HOW)
    monkeypatch.setenv("VISIONVITALS_CACHE_LIMIT", "1kB")
    with pytest.raises(
        VitalsError, match=r"need 7\.2 kB and the cache may hold 1\.0 kB\. Raise VISIONVITALS_CACHE_LIMIT"
    ):
        decoded(Noise(name="b"), HOW)
    assert len(entries()) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50GB", 50 * 10**9),
        ("1.5 gb", 1_500_000_000),
        ("800MiB", 800 * 2**20),
        ("7", 7),
        ("2t", 2 * 10**12),
        ("", 50 * 10**9),
    ],
)
def test_sizes_are_read(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE_LIMIT", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["lots", "-5GB", "5 EB", "5I"])
def test_a_size_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE_LIMIT", text)
    with pytest.raises(VitalsError, match="must be a size such as 50GB or 800MiB"):
        cache_limit()


def test_a_full_disk_is_told_before_and_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"need 7\.2 kB and the disk of .* has 2\.0 kB free\. Move the cache with VISIONVITALS_CACHE"
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2000))
        with pytest.raises(VitalsError, match=message):
            decoded(Noise(), HOW)

    def full(descriptor: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VitalsError, match=message):
        decoded(Noise(), HOW)
    assert list(decoded_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        VitalsError, match=r"cannot be used: Not a directory\. Set VISIONVITALS_CACHE to a folder that can"
    ):
        decoded(Noise(), HOW)


def test_entries_say_what_they_are_and_are_cleared(cache: Path) -> None:
    for name in "abc":
        decoded(Noise(20, name=name), replace(HOW, resize=None))
    all_of_them = entries()
    assert [entry.description for entry in all_of_them] == [
        f"{n}: 20 pictures, 12x10, stretched, bicubic, pillow" for n in "abc"
    ]
    assert all(time.time() - 60 < entry.last_used <= time.time() + 1 for entry in all_of_them)
    assert clear([all_of_them[1].key]) == all_of_them[1].bytes
    assert entries() == [all_of_them[0], all_of_them[2]]
    with pytest.raises(VitalsError, match=r"A key must name an entry of the cache\. Got 'x'"):
        clear(["x"])
    (cache / "hashes").mkdir()
    (cache / "hashes" / f"{'a' * 32}.json").write_bytes(b"1234567")
    assert clear() == all_of_them[0].bytes + all_of_them[2].bytes + 7
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert clear() == 0


def test_clearing_touches_nothing_that_is_not_ours(cache: Path, tmp_path: Path) -> None:
    """VISIONVITALS_CACHE may name a folder that holds other things."""
    decoded(Noise(), HOW)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "meta.json").write_text('{"description": "x"}')
    theirs = [
        cache / "hashes" / "passwords.json",
        cache / "hashes" / "sub" / "x",
        cache / "decoded" / "holiday" / "meta.json",
        cache / "decoded" / "film.part" / "x",
        cache / "decoded" / "draft.tmp-1" / "x",
        cache / "decoded" / ("b" * 32) / "diary",
        cache / "decoded" / ".tmp-old" / "x",
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"description": "mine"}')
        silent(path.parent, 1e6)
    (cache / "decoded" / ("c" * 32)).symlink_to(tmp_path / "elsewhere")
    [entry] = entries()
    inside = cache / "decoded" / entry.key / "sub"
    inside.mkdir()
    (inside / "x").write_text("x")
    clear()
    assert [path for path in theirs if not path.exists()] == []
    assert (tmp_path / "elsewhere" / "meta.json").exists()
    assert [path.read_text() for path in cache.rglob("sub/x")] == ['{"description": "mine"}', "x"]
    assert entries() == []


def test_a_run_goes_on_while_its_cache_is_cleared(cache: Path) -> None:
    found = decoded(Noise(20), HOW)
    part = decoded_folder() / f"{'d' * 32}.part"  # what the engine writes just now
    part.mkdir()
    (part / "values").write_bytes(b"123")
    before = found.pixels.copy()
    clear()
    assert (part / "values").exists()
    assert np.array_equal(found.pixels, before)
    assert np.array_equal(decoded(Noise(20), HOW).pixels, before)
    silent(part, 601)
    assert clear() > 3
    assert not part.exists()


def test_unfinished_entries_are_not_listed() -> None:
    folder = temporary_folder("0" * 32)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text('{"description": "x"}')
    assert entries() == []
