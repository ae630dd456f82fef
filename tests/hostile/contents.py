"""Bad plans, studies, recipes and factories. Each is text, bytes, or a function of the path."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from box import NOISE, RECIPE, TOY, Box, endless

Content = str | bytes | Callable[[Path], object]


def writer(name: str, content: Content) -> Callable[[Box], object]:
    """Puts the content into the box under a name; see `box.Box.outside` for what is replaced in it."""

    def put(box: Box) -> None:
        path = box.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
            return
        data = content if isinstance(content, bytes) else box.outside(content).encode()
        path.write_bytes(data)

    return put


# Plans. ----------------------------------------------------------------------------------------------------------------------

_GOOD = f'backbones = ["{TOY}"]\ndata = ["{NOISE}"]\n'
_CLEAN = _GOOD + 'studies = ["clean"]\n'


def condition(study: str, text: str) -> str:
    """A plan of one study on the embedded network and pictures."""
    return f'backbones = ["tiny:cnn"]\ndata = ["shapes:test?n=4"]\n[[studies]]\nname = "{study}"\n{text}\n'


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
