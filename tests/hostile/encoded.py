"""Bad csv files, weights and pictures, and what must lie beside them."""

import io
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from box import Box, endless
from contents import Content, writer
from PIL import Image

# Tables. ---------------------------------------------------------------------------------------------------------------------

TABLES: Mapping[str, Content] = {
    "empty": "",
    "header only": "path,label\n",
    "no header": "0.png,0\n1.png,1\n",
    "header twice": "path,path,label\n0.png,1.png,0\n",
    "no label": "path\n0.png\n",
    "empty label": "path,label\n0.png,\n",
    "one field": "path,label\n0.png\n",
    "three fields": "path,label\n0.png,a,b\n",
    "a field of 300,000 characters": f"path,label\n0.png,{'x' * 300_000}\n",
    "a header of 300,000 characters": f"{'x' * 300_000},path,label\n1,0.png,a\n",
    "a path of 300,000 characters": f"path,label\n{'x' * 300_000},a\n",
    "missing files": "path,label\nnone.png,a\nnone2.png,b\n",
    "path twice": "path,label\n0.png,a\n./0.png,b\n",
    "path a folder": "path,label\n.,a\n0.png,b\n1.png,c\n2.png,d\n",
    "path absolute": "path,label\n/etc/hostname,a\n0.png,b\n1.png,c\n2.png,d\n",
    "path upwards": "path,label\n../../secret.png,a\n0.png,b\n1.png,c\n2.png,d\n",
    "path with NUL": b"path,label\n0\x00.png,a\n",
    "path of control characters": "path,label\n\x1b]0;t\x07.png,a\n0.png,b\n1.png,c\n2.png,d\n",
    "path a FIFO": "path,label\nfifo,a\n0.png,b\n1.png,c\n2.png,d\n",
    "path endless": "path,label\nzero,a\n0.png,b\n1.png,c\n2.png,d\n",
    "labels .. and .": "path,label\n0.png,..\n1.png,.\n2.png,../x\n3.png,/\n",
    "labels absolute": "path,label\n0.png,<NEAR>\n1.png,b\n2.png,c\n3.png,d\n",
    "labels as formulas": "path,label\n0.png,=cmd()\n1.png,+1+1\n2.png,@x\n3.png,-x\n",
    "labels of control characters": "path,label\n0.png,\x1b]0;t\x07\n1.png,\x1b[31m\n2.png,a\x08\n3.png,b\x9b\n",
    "labels of 300 characters": "path,label\n" + "".join(f"{k}.png,{k}{'x' * 300}\n" for k in range(4)),
    "labels -1": "path,label\n0.png,-1\n1.png,1\n",
    "labels 1e20": f"path,label\n0.png,{10**20}\n1.png,1\n",
    "labels nan": "path,label\n0.png,nan\n1.png,inf\n2.png,1.5\n3.png,0\n",
    "label index beyond": "path,label\n0.png,0\n1.png,999\n",
    "open quote": 'path,label\n"0.png,a\n',
    "not UTF-8": b"path,label\n\xff.png,a\n",
    "UTF-16": "path,label\n0.png,a\n".encode("utf-16"),
    "carriage returns": b"path,label\r0.png,a\r1.png,b\r",
    "binary": bytes(range(256)) * 10,
    "FIFO": os.mkfifo,
    "endless": endless,
    "folder": Path.mkdir,
}


NO_TABLE = ("empty", "header only", "no header", "no label", "missing files", "FIFO", "endless", "folder")
"""They must be refused when the run is planned."""


def table(content: Content) -> Callable[[Box], object]:
    """A csv file with four good pictures beside it, a FIFO and an endless file."""

    def put(box: Box) -> None:
        for number in range(4):
            Image.fromarray(_pixels(number)).save(box.into / f"{number}.png")
        os.mkfifo(box.into / "fifo")
        endless(box.into / "zero")
        writer("set.csv", content)(box)

    return put


def only_copy(box: Box, printed: list[str]) -> str | None:
    """Check of a stylised copy: nothing lies beside its folder."""
    beside = sorted(path.name for path in box.out.iterdir() if path.name != "copy")
    return f"written beside the copy: {beside[:3]}" if beside else None


# Weights. --------------------------------------------------------------------------------------------------------------------


class _Malicious:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def _marker(path: Path) -> Path:
    """The box's marker for a file somewhere in the box."""
    return next(folder for folder in path.resolve().parents if folder.name == "box").parent / "MARKER"


def _saved(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        import torch

        torch.save(make(path), path)

    return put


def _cut(path: Path) -> None:
    import torch

    torch.save({"model": {"x": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2_000])


def _safe(**metadata: str) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(4)}, path, metadata)

    return put


def _zeros(value: float) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        import visionvitals

        good = Path(visionvitals.__file__).parent / "backbones" / "weights" / "tiny_cnn.safetensors"
        full = {k: torch.full_like(v, value) if v.is_floating_point() else v for k, v in load_file(good).items()}
        save_file(full, path, {"arch": "tiny:cnn", "kwargs": json.dumps({"num_classes": 16})})

    return put


WEIGHTS: Mapping[str, Content] = {
    "empty.pth": "",
    "text.pth": "weights\n",
    "cut.pth": _cut,
    "list.pth": _saved(lambda path: [1, 2, 3]),
    "number.pth": _saved(lambda path: 5),
    "none.pth": _saved(lambda path: None),
    "dict.pth": _saved(lambda path: {}),
    "texts.pth": _saved(lambda path: {"model": {"x": "y"}, "identity": [1], "step": "x"}),
    "numbers.pth": _saved(lambda path: {1: 2, "identity": 5}),
    "pickle.pth": lambda path: path.write_bytes(pickle.dumps([1, 2, 3])),
    "malicious.pth": lambda path: path.write_bytes(pickle.dumps(_Malicious(_marker(path)))),
    "malicious_zip.pth": _saved(lambda path: {"model": _Malicious(_marker(path))}),
    "fifo.pth": os.mkfifo,
    "endless.pth": endless,
    "folder.pth": Path.mkdir,
    "empty.safetensors": "",
    "text.safetensors": "weights\n",
    "zip.safetensors": _saved(lambda path: {"x": 1}),
    "huge_header.safetensors": struct.pack("<Q", 1 << 62) + b"{}",
    "no_json.safetensors": struct.pack("<Q", 4) + b"{{{{",
    "beyond.safetensors": struct.pack("<Q", 60)
    + b'{"x":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}'.ljust(60),
    "foreign.safetensors": _safe(),
    "kwargs.safetensors": _safe(arch="tiny:cnn", kwargs="[1]"),
    "kwargs_text.safetensors": _safe(arch="tiny:cnn", kwargs='"x"'),
    "kwargs_unknown.safetensors": _safe(arch="tiny:cnn", kwargs='{"nope": 1}'),
    "kwargs_huge.safetensors": _safe(arch="tiny:cnn", kwargs='{"num_classes": 100000000000000000000}'),
    "no_kwargs.safetensors": _safe(arch="tiny:cnn"),
    "metadata.safetensors": _safe(visionvitals="[1]"),
    "preprocess.safetensors": _safe(arch="tiny:cnn", kwargs='{"num_classes": 16}', preprocess='{"size": "x"}'),
    "preprocess_nan.safetensors": _safe(
        arch="tiny:cnn", kwargs='{"num_classes": 16}', preprocess='{"size": [NaN, 1], "mean": NaN}'
    ),
    "classes.safetensors": _safe(arch="tiny:cnn", kwargs='{"num_classes": 16}', classes="5"),
    "arch.safetensors": _safe(arch="python:os", kwargs="{}"),
    "arch_up.safetensors": _safe(arch="../x:y", kwargs="{}"),
    "nan.safetensors": _zeros(float("nan")),
    "inf.safetensors": _zeros(float("inf")),
    "fifo.safetensors": os.mkfifo,
    "endless.safetensors": endless,
    "folder.safetensors": Path.mkdir,
}


def weights_beside(box: Box) -> None:
    """What the spellings of backbones name."""
    import visionvitals

    odd_beside(box)
    shutil.copy(
        Path(visionvitals.__file__).parent / "backbones" / "weights" / "tiny_cnn.safetensors",
        box.into / "good.safetensors",
    )
    (box.into / "good.py").write_text(
        "import torch\ndef make(): return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 16))\n"
    )
    os.mkfifo(box.into / "fifo.py")


def odd_beside(box: Box) -> None:
    """A text, an empty folder, a FIFO, an endless file, a loop of links."""
    (box.into / "file.txt").write_text("text")
    (box.into / "empty").mkdir()
    os.mkfifo(box.into / "fifo")
    endless(box.into / "zero")
    (box.into / "loop").mkdir()
    (box.into / "loop" / "again").symlink_to(box.into / "loop")


# Pictures. -------------------------------------------------------------------------------------------------------------------


def _pixels(seed: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def _encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    held = io.BytesIO()
    (image or Image.fromarray(_pixels(0, 64))).save(held, kind, **options)
    return held.getvalue()


def _png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims so many pixels and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _animated() -> bytes:
    frames = [Image.fromarray(_pixels(k)) for k in range(3)]
    return _encoded("GIF", frames[0], save_all=True, append_images=frames[1:])


PICTURES: Mapping[str, Content] = {
    "empty.png": b"",
    "text.png": "not a picture\n",
    "cut.jpg": _encoded("JPEG")[:600],
    "header.jpg": _encoded("JPEG")[:20],
    "noise.jpg": b"\xff\xd8\xff" + bytes(range(256)) * 8,
    "bomb.png": _png(100_000, 100_000),
    "wide.png": _png(2_000_000_000, 1),
    "zero_wide.png": _png(0, 10),
    "large.png": _png(13_000, 13_000),
    "thin.png": _encoded("PNG", Image.new("RGB", (60_000, 1))),
    "animated.gif": _animated(),
    "grey_16.png": _encoded("PNG", Image.fromarray(np.full((40, 40), 40_000, np.uint16))),
    "cmyk.jpg": _encoded("JPEG", Image.new("CMYK", (40, 40), (10, 20, 30, 40))),
    "palette.png": _encoded("PNG", Image.new("P", (40, 40)), transparency=b"\x00\x80"),
    "alpha.png": _encoded("PNG", Image.new("RGBA", (40, 40), (1, 2, 3, 0))),
    "float.tiff": _encoded("TIFF", Image.fromarray(np.ones((40, 40), np.float32))),
    "bits.bmp": _encoded("BMP", Image.new("1", (40, 40))),
    "one_pixel.png": _encoded("PNG", Image.new("RGB", (1, 1))),
    "exif.jpg": _encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "postscript.jpg": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(<MARKER>) (w) file closefile\n",
    "fifo.png": os.mkfifo,
    "endless.png": endless,
    "folder.png": Path.mkdir,
    "broken_link.png": lambda path: path.symlink_to(path.parent / "nowhere"),
    "loop.png": lambda path: path.symlink_to(path),
    "sparse.png": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 8 << 30),
    "closed.png": lambda path: (path.write_bytes(_encoded("PNG")), path.chmod(0)),
    "title\x1b]0;t\x07.png": "not a picture\n",
}


def among_pictures(name: str, content: Content) -> Callable[[Box], object]:
    """A folder of four classes with two good pictures each, and the bad one in the second class."""

    def put(box: Box) -> None:
        for number in range(8):
            path = box.into / "set" / f"class {number % 4}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_pixels(number)).save(path)
        writer(f"set/class 1/{name}", content)(box)

    return put
