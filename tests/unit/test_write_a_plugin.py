"""The tutorials of a backbone and of an image set: their pages hold the files that are run here, and their commands end well.

The laws of both are checked by the contract tests, which take these files beside those that are installed.
"""

import ast
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import visionvitals as vv
from visionvitals import backbones, cli, datasets, registry
from visionvitals.errors import VitalsError
from visionvitals.plan import planner

ROOT = Path(__file__).parents[2]
FILES = {name: ROOT / "tests" / "plugins" / f"{name}.py" for name in ("mosaic", "npz")}
PAGES = {
    name: (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name, page in (("mosaic", "write_a_backbone"), ("npz", "write_an_image_set"))
}
PUBLIC: dict[str, ModuleType] = {"mosaic": backbones, "npz": datasets}
CLASSES = ("red", "green", "blue")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of both pages, pictures of 16 classes, and weights."""
    monkeypatch.chdir(tmp_path)
    for name, page in PAGES.items():
        (tmp_path / f"{name}.py").write_text(shown(page, "python")[0], encoding="utf-8")
    drawn = planner.open_images("shapes:test?n=32&size=64")
    examples = [drawn[index] for index in range(32)]
    write("pets.npz", [np.asarray(e.image) for e in examples], [e.label for e in examples], drawn.card.classes)
    torch.save(registry.load("backbones", "mosaic.py").network(4, 16).state_dict(), "weights.pt")
    return tmp_path


@pytest.fixture
def package(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files as modules of a package that is installed with the entry points of the pages."""
    (here / "site" / "my_package").mkdir(parents=True)
    points = []
    for name, page in PAGES.items():
        (here / f"{name}.py").rename(here / "site" / "my_package" / f"{name}.py")
        (text,) = shown(page, "toml")
        for group, named in tomllib.loads(text)["project"]["entry-points"].items():
            points += [f"[{group}]", *(f"{key} = {value}" for key, value in named.items())]
    about = here / "site" / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(here / "site")
    for name in ("my_package", *(f"my_package.{name}" for name in FILES)):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return here


def write(file: str, images: list[np.ndarray], labels: list[int], classes: tuple[str, ...]) -> None:
    np.savez(file, images=np.stack(images), labels=labels, classes=classes)


def shown(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}(?: title=.*?)?\n(.*?)```", page, flags=re.DOTALL)


def commands(page: str, *, by_path: bool) -> list[list[str]]:
    """Those of a page, as words: with a plug-in named by its path, or installed."""
    lines = [shlex.split(line) for text in shown(page, "bash") for line in text.splitlines()]
    assert all(words[0] == "vitals" for words in lines)
    return [words[1:] for words in lines if any(word.startswith("./") for word in words) == by_path]


@pytest.mark.parametrize("name", FILES)
def test_the_page_holds_the_file_as_it_is(name: str) -> None:
    assert shown(PAGES[name], "python") == [FILES[name].read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", FILES)
def test_it_is_short_and_imports_of_ours_what_is_public(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
    ours = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("visionvitals")
    ]
    assert [node.module for node in ours] == [PUBLIC[name].__name__]
    assert {alias.name for alias in ours[0].names} <= set(PUBLIC[name].__all__)


@pytest.mark.parametrize("name", FILES)
def test_its_commands_end_well(name: str, here: Path) -> None:
    found = commands(PAGES[name], by_path=True)
    assert [words[0] for words in found] == ["plan", "audit"]
    for words in found:
        assert cli.main(words) == 0


@pytest.mark.parametrize("name", FILES)
def test_another_package_brings_it(name: str, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(PAGES[name], by_path=False)
    assert [words[0] for words in found] == ["plan", "list"]
    for words in found:
        capsys.readouterr()
        assert cli.main(words) == 0
    first = FILES[name].read_text(encoding="utf-8").partition("\n")[0].strip('"')
    assert re.search(rf"^  {name} +{re.escape(first)}", capsys.readouterr().out, flags=re.MULTILINE), "it is listed"


def test_a_network_that_looks_at_the_colour_knows_it(here: Path) -> None:
    """Its one layer passes on the mean of each channel, and the outputs are named in another order than the classes of the set."""
    colours = [np.roll([255, 0, 0], k) for k in range(3)] * 4
    images = [np.broadcast_to(colour, (20, 30, 3)).astype(np.uint8) for colour in colours]
    write("colours.npz", images, [2 - k % 3 for k in range(12)], CLASSES[::-1])
    torch.save({"2.weight": torch.eye(3), "2.bias": torch.zeros(3)}, "eye.pt")
    Path("classes.txt").write_text("\n".join(CLASSES))
    spelled = "./mosaic.py:1@eye.pt?outputs=3&classes=classes.txt"
    assert cli.main(["audit", spelled, "--data", "./npz.py:colours.npz", "--studies", "clean", "--out", "run"]) == 0
    (top1,) = vv.Run("run").table(study="clean", metric="top1").to_pylist()
    assert (top1["value"], top1["n"]) == (1.0, 12)


def test_what_does_not_fit_is_refused_in_a_sentence(here: Path) -> None:
    write("odd.npz", [np.zeros((8, 8, 3), np.uint8)], [2], ("cat", "dog"))
    for spelled, said in (
        ("./npz.py:odd.npz", r"must have a label in 0\.\.1 for each image"),
        ("./npz.py:none.npz", "must name a file"),
        ("./npz.py:pets.npz?part=test", "has no option `part`"),
    ):
        with pytest.raises(VitalsError, match=said):
            planner.open_images(spelled)
    with pytest.raises(VitalsError, match="must be 1, 2, 4, 8 or 16"):
        planner.load_backbone("./mosaic.py:5", device=torch.device("cpu"))
