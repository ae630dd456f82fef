"""Where a case happens: a folder of its own, with watched files around it that nothing may touch.

ROOT/shared/            pictures, styles, a plan, a recipe, a finished run: made once, never changed
ROOT/cases/N/           a case: `secret.txt` and `secret.png`, which nothing may read or change
ROOT/cases/N/MARKER     made by hostile code, if it is ever executed
ROOT/cases/N/box/in/    the bad input
ROOT/cases/N/box/out/   where the commands are given; they may write here, and into the case's copy of the run
"""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PLUGINS = Path(__file__).parents[1] / "plugins"
TOY = f"{PLUGINS / 'toy_backbone.py'}:linear"
NOISE = f"{PLUGINS / 'toy_images.py'}:noise?n=8"
STUDY = str(PLUGINS / "toy_study.py")
SECRET = "do-not-read-7c1f"
PLAN = f"""
backbones = ["{TOY}", "{TOY}?seed=1"]
data = ["{NOISE}"]

[[studies]]
name = "{STUDY}"
strength = [0.25, 0.5]

[[studies]]
name = "clean"
"""
RECIPE = """
from visionvitals.training.recipe import Recipe

RECIPE = Recipe(name="small", model="tiny:cnn", train="shapes:train?n=8", test="shapes:test?n=8", epochs=1, batch=4)
"""


@dataclass(frozen=True)
class Box:
    """The folder of one case."""

    root: Path
    shared: Path

    @property
    def into(self) -> Path:
        return self.root / "box" / "in"

    @property
    def out(self) -> Path:
        return self.root / "box" / "out"

    @property
    def run(self) -> Path:
        return self.root / "box" / "run"

    def prepare(self, words: str) -> None:
        """Make the folder, with as much in it as `words` name."""
        self.into.mkdir(parents=True)
        self.out.mkdir()
        (self.root / "secret.txt").write_text(SECRET)
        Image.new("RGB", (16, 16), (1, 2, 3)).save(self.root / "secret.png")
        if "<RUN>" in words:
            shutil.copytree(self.shared / "run", self.run, symlinks=True)
        if "<GIVEN>" in words:
            self._given(self.out / "given")

    def _given(self, folder: Path) -> None:
        """What a path can name that is no plain new file."""
        (folder / "folder").mkdir(parents=True)
        (folder / "folder" / "foreign.txt").write_text("mine")
        (folder / "file.txt").write_text("mine")
        os.mkfifo(folder / "fifo")
        (folder / "broken").symlink_to(folder / "nowhere")
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "closed").write_text("mine")
        (folder / "closed").chmod(0)
        endless(folder / "zero")

    def fill(self, words: tuple[str, ...], trust: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        """The words with paths in place of `<NAME>`; `<TRUST>` becomes the flag for code by path, where there is one."""
        places = {
            "<IN>": self.into,
            "<OUT>": self.out,
            "<RUN>": self.run,
            "<GIVEN>": self.out / "given",
            "<ROOT>": self.root,
            "<TOY>": TOY,
            "<NOISE>": NOISE,
            "<STUDY>": STUDY,
            "<PICTURES>": self.shared / "pictures",
            "<STYLES>": self.shared / "styles",
            "<PLAN>": self.shared / "plan.toml",
            "<RECIPE>": self.shared / "recipe.py",
            "<RULES>": self.shared / "rules.toml",
            "<PNG>": self.shared / "pictures" / "class 0" / "0.png",
        }
        found: list[str] = []
        for word in words:
            if word == "<TRUST>":
                found += trust.get(words[0], ())
                continue
            for key, value in places.items():
                word = word.replace(key, str(value))
            found.append(word)
        return tuple(found)

    def outside(self, text: str) -> str:
        """The text with the path that executed code would make for `<MARKER>`, and one beside the box for `<NEAR>`."""
        return text.replace("<MARKER>", str(self.root / "MARKER")).replace("<NEAR>", str(self.root / "near"))

    def watched(self) -> dict[str, tuple[int, ...]]:
        """path -> kind, size, time of everything that must stay as it is."""
        found: dict[str, tuple[int, ...]] = {}
        for top in (self.root, self.shared):
            for folder, names, files in os.walk(top):
                here = Path(folder)
                if here == self.root / "box":
                    names[:] = [name for name in names if name not in ("out", "run")]
                for name in [*names, *files]:
                    facts = (here / name).lstat()
                    plain = stat.S_ISREG(facts.st_mode)
                    found[str(here / name)] = (
                        stat.S_IFMT(facts.st_mode),
                        *((facts.st_size, facts.st_mtime_ns) if plain else ()),
                    )
        return found

    def empty_cache(self) -> None:
        """Nothing is decoded yet, so that it has to be written."""
        shutil.rmtree(os.environ["VISIONVITALS_CACHE"], ignore_errors=True)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def endless(path: Path) -> None:
    """A file that never ends; a device of our own where we may make one, since a command may replace what it is given."""
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        path.symlink_to("/dev/zero")


def prepare_shared(root: Path) -> Path:
    """Make what all cases share, in a fresh folder.

    Raises:
        subprocess.CalledProcessError: the good run itself does not work.
    """
    shared = root / "shared"
    rng = np.random.default_rng(0)
    for kind, classes in (("pictures", 4), ("styles", 1)):
        for number in range(classes * 2):
            path = shared / kind / f"class {number % classes}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    (shared / "plan.toml").write_text(PLAN)
    (shared / "recipe.py").write_text(RECIPE)
    (shared / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0\n')
    trust = trusting()
    words = ["run", str(shared / "plan.toml"), "--out", str(shared / "run"), "--device", "cpu", *trust.get("run", ())]
    table = ["table", str(shared / "run"), "--csv", str(shared / "table.csv")]
    for each in (words, table):
        subprocess.run([sys.executable, "-m", "visionvitals", *each], check=True, capture_output=True)
    return shared


def trusting() -> dict[str, tuple[str, ...]]:
    """command -> ("--trust",) where it has such a flag."""
    from visionvitals.cli import app

    names = [name for name in app if not name.startswith("-")]
    flags = {n: {f for a in app[n].assemble_argument_collection(parse_docstring=False) for f in a.names} for n in names}
    return {name: ("--trust",) for name, known in flags.items() if "--trust" in known}
