"""Bad contents of files: plans, studies, recipes, factories, csv files, weights and pictures. Each is text, bytes, or a function of the path."""

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
from box import NOISE, RECIPE, TOY, Box, endless
from PIL import Image

Content = str | bytes | Callable[[Path], object]


def writer(name: str, content: Content) -> Callable[[Box], object]:
    """Puts the content into the box under a name; `<MARKER>` in it becomes the path that executed code would make."""

    def put(box: Box) -> None:
        path = box.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
            return
        marker = str(box.root / "MARKER")
        data = content.replace("<MARKER>", marker).encode() if isinstance(content, str) else content
        path.write_bytes(data)

    return put


# Plans. ----------------------------------------------------------------------------------------------------------------------

_GOOD = f'backbones = ["{TOY}"]\ndata = ["{NOISE}"]\n'
_CLEAN = _GOOD + 'studies = ["clean"]\n'


def _study(text: str) -> str:
    return f'{_GOOD}[[studies]]\nname = "occlusion"\n{text}\n'


PLANS: Mapping[str, Content] = {
    "empty": "",
    "a comment": "# nothing\n",
    "no TOML": "backbones = [",
    "not UTF-8": b"\xff\xfe\x00\x00",
    "NUL": "a = 1\0",
    "byte order mark": "\ufeff" + _CLEAN,
    "key twice": _CLEAN + 'studies = ["clean"]\n',
    "unknown key": _CLEAN + "colour = 1\n",
    "key of the machine": _CLEAN + 'device = "cpu"\n',
    "unknown table": _CLEAN + "[x]\ny = 1\n",
    "no backbones": f'data = ["{NOISE}"]\n',
    "no data": f'backbones = ["{TOY}"]\n',
    "empty lists": "backbones = []\ndata = []\nstudies = []\n",
    "backbones a text": f'backbones = "{TOY}"\ndata = ["{NOISE}"]\n',
    "backbones of numbers": f'backbones = [1, 2.5, true]\ndata = ["{NOISE}"]\n',
    "backbone twice": f'backbones = ["{TOY}", "{TOY}"]\ndata = ["{NOISE}"]\n',
    "backbone a date": f'backbones = [2020-01-01]\ndata = ["{NOISE}"]\n',
    "data a table": f'backbones = ["{TOY}"]\ndata = {{a = 1}}\n',
    "study twice": _GOOD + 'studies = ["clean", "clean"]\n',
    "study of a number": _GOOD + "studies = [1]\n",
    "study of a list": _GOOD + 'studies = [["clean"]]\n',
    "study a date": _GOOD + "studies = [2020-01-01]\n",
    "study without a name": _GOOD + "[[studies]]\nfraction = 0.5\n",
    "study name a date": _GOOD + "[[studies]]\nname = 2020-01-01\n",
    "study unknown": _GOOD + 'studies = ["clen"]\n',
    "study upwards": _GOOD + 'studies = ["../clean"]\n',
    "study private": _GOOD + 'studies = ["_grids"]\n',
    "study a missing file": _GOOD + 'studies = ["<IN>/none.py"]\n',
    "studies a table": _GOOD + '[studies]\nname = "clean"\n',
    **{
        f"{key} = {value}": f"{_CLEAN}{key} = {value}\n"
        for key in ("limit", "seed", "preset", "decoder")
        for value in ("0", "-1", "1.5", "nan", "inf", "true", "2020-01-01", "[]", "1" * 30)
        if (key, value) not in (("seed", "0"), ("seed", "-1"))
    },
    **{
        f"condition {value}": _study(f"fraction = {value}")
        for value in (
            "nan",
            "inf",
            "-inf",
            "[nan]",
            "2020-01-01",
            "[2020-01-01T00:00:00Z]",
            '"x"',
            "[]",
            "[[]]",
            "{}",
            "true",
            "-1",
            "1e400",
            "9" * 400,
        )
    },
    **{
        f"grid {value}": _study(f"grid = {value}")
        for value in ("[0, 0]", "[-1, 2]", "[1]", "[[1]]", "[99999999, 99999999]", "[nan, 1]", "[1, 2, 3]")
    },
    "condition unknown": _study("fractoin = 0.5"),
    "preset and values": _study('preset = "quick"\nfraction = 0.5'),
    "steps without end": f'{_GOOD}[[studies]]\nname = "attack"\nstep = inf\nsteps = 1\n',
    "step nan": f'{_GOOD}[[studies]]\nname = "attack"\nstep = nan\n',
    "radius inf": f'{_GOOD}[[studies]]\nname = "attack"\neps = inf\n',
    "deep": _CLEAN + "x = " + "[" * 3_000 + "]" * 3_000,
    "deep tables": _CLEAN + "[" + ".".join("a" * 2_000) + "]\n",
    "deep condition": _study("fraction = " + "[" * 500 + "]" * 500),
    "8 MB": _CLEAN + "# x\n" * 2_000_000,
    "100,000 values": _study(f"fraction = [{', '.join(['2.5'] * 100_000)}]"),
    "a product of a billion": f'{_GOOD}[[studies]]\nname = "{{study}}"\n'.replace("{study}", "shuffle")
    + f"run = [{', '.join(map(str, range(1000)))}]\ngrid = [{', '.join(f'[{k}, {k}]' for k in range(1, 1000))}]\n",
    "a name of 100,000 characters": _GOOD + f'studies = ["{"x" * 100_000}"]\n',
    "control characters": _GOOD + 'studies = ["\\u001b]0;title\\u0007"]\n',
    "FIFO": os.mkfifo,
    "endless": endless,
    "folder": Path.mkdir,
    "broken link": lambda path: path.symlink_to(path.parent / "nowhere"),
}

# Code. -----------------------------------------------------------------------------------------------------------------------

_BROKEN: dict[str, Content] = {
    "empty": "",
    "syntax error": "def (:\n",
    "not UTF-8": b"x = '\xff'\n",
    "NUL": b"x = 1\0\n",
    "raises on import": "raise ValueError('on purpose')\n",
    "raises without words": "raise ValueError\n",
    "raises its own error": "class E(BaseException): pass\nraise E('x')\n",
    "leaves": "raise SystemExit(0)\n",
    "leaves by sys": "import sys\nsys.exit('bye')\n",
    "interrupts": "raise KeyboardInterrupt\n",
    "imports nothing": "import nothing_of_this_name\n",
    "recurses": "def f(): return f()\nf()\n",
    "exhausts memory": "x = bytearray(1 << 60)\n",
    "deep expression": "x = " + "(" * 2_000 + ")" * 2_000 + "\n",
    "control characters": "raise ValueError('\\x1b]0;title\\x07')\n",
    "FIFO": os.mkfifo,
    "endless": endless,
    "folder": Path.mkdir,
    "missing": lambda path: None,
}
_TOY_STUDY = (Path(__file__).parents[1] / "plugins" / "toy_study.py").read_text()


def _edited(old: str, new: str) -> str:
    return f"{_TOY_STUDY}\n\n{new}\n" if not old else _TOY_STUDY.replace(old, new)


STUDIES: Mapping[str, Content] = _BROKEN | {
    "names without end": _edited("", "TITLE = 'x' * 1_000_000"),
    "charts of another type": _edited("", "CHARTS = 3"),
    "signs of another type": _edited("", "SIGNS = ('x',)"),
    "axes of another type": _edited("", "AXES = 5"),
    "axes without values": _edited("", "AXES = ('layer',)"),
    "labels unknown": _edited("", "LABELS = 'nope'"),
    "version a text": _edited("", "VERSION = 'one'"),
    "no condition": _edited("", "Condition = None"),
    "condition not a dataclass": _edited("", "class Condition: pass"),
    "conditions none": _edited("", "def conditions(preset, size): return []"),
    "conditions of others": _edited("", "def conditions(preset, size): return [1, 'x']"),
    "conditions raise": _edited("", "def conditions(preset, size): raise IndexError('x')"),
    "conditions leave": _edited("", "def conditions(preset, size): raise SystemExit(3)"),
    "refusal raises": _edited("", "def refusal(condition, backbone, images): raise IndexError('x')"),
    "refusal a number": _edited("", "def refusal(condition, backbone, images): return 5"),
    "measure raises": _edited("", "def measure(job): raise IndexError('x')"),
    "measure leaves": _edited("", "def measure(job): raise SystemExit(3)"),
    "measure yields nothing": _edited("", "def measure(job): return iter(())"),
    "measure yields text": _edited("", "def measure(job): yield 'x'"),
    "measure gives none": _edited("", "def measure(job): return None"),
    "perturb raises": _edited("", "def perturb(condition, batch, seed): raise IndexError('x')\nmeasure = perturb"),
    "name of ours": lambda path: (path.with_name("clean.py")).write_text(_TOY_STUDY) and path.symlink_to("clean.py"),
}
RECIPES: Mapping[str, Content] = _BROKEN | {
    "no RECIPE": "x = 1\n",
    "RECIPE a number": "RECIPE = 5\n",
    "RECIPE the class": "from visionvitals.training.recipe import Recipe as RECIPE\n",
    **{
        f"{key} {value[:20]}": f"{RECIPE}\nimport dataclasses\nRECIPE = dataclasses.replace(RECIPE, {key}={value})\n"
        for key, value in (
            ("size", "'x'"), ("size", "None"), ("epochs", "0"), ("epochs", "1.5"), ("batch", "10**20"), ("batch", "True"),
            ("lr", "float('nan')"), ("lr", "'x'"), ("mean", "(0.5, float('nan'), 0.5)"), ("std", "float('inf')"), ("std", "()"),
            ("model", "5"), ("model", "'nope'"), ("model", "'tiny:nope'"), ("model", "'tiny:cnn?model.x=1'"), ("name", "'../x'"),
            ("name", "'x' * 1000"), ("name", "'\\x1b[31m'"), ("train", "'x'"), ("test", "None"), ("augment", "'rand-m-x'"),
            ("precision", "'int4'"), ("optimizer", "'adam'"), ("teacher", "'tiny:cnn'"), ("seed", "'x'"), ("size", "10**9"),
            ("model", "'timm:../x'"), ("interpolation", "'x'"), ("mixup", "float('inf')"), ("warmup", "float('nan')"),
        )
    },
}  # fmt: skip
FACTORIES: Mapping[str, Content] = _BROKEN | {
    "makes none": "def make(): return None\n",
    "makes a text": "def make(): return 'x'\n",
    "takes something": "def make(x): return None\n",
    "raises": "def make(): raise IndexError('x')\n",
    "leaves by call": "def make(): raise SystemExit(1)\n",
    "of another output": "import torch\ndef make(): return torch.nn.Flatten()\n",
    "of no output": "import torch\nclass M(torch.nn.Module):\n  def forward(self, x): return None\ndef make(): return M()\n",
    "that raises": "import torch\nclass M(torch.nn.Module):\n  def forward(self, x): raise IndexError('x')\ndef make(): return M()\n",
    "of nan": "import torch\nclass M(torch.nn.Module):\n  def forward(self, x): return torch.full((len(x), 16), torch.nan)\ndef make(): return M()\n",
    "a pair of nothing": "def make(): return (None, None)\n",
}

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
    "labels absolute": "path,label\n0.png,/tmp\n1.png,b\n2.png,c\n3.png,d\n",
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


def table(content: Content) -> Callable[[Box], object]:
    """A csv file with four good pictures beside it, a FIFO and an endless file."""

    def put(box: Box) -> None:
        for number in range(4):
            Image.fromarray(_pixels(number)).save(box.into / f"{number}.png")
        os.mkfifo(box.into / "fifo")
        endless(box.into / "zero")
        writer("set.csv", content)(box)

    return put


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
