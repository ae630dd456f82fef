"""Every command and every Python block of the pages: what it names exists, and what needs nothing but the package is run, in the order of the page."""

import ast
import builtins
import re
import shlex
import tomllib
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import page_checks
import pytest
import torch
from page_checks import ROOT, Block, Call
from PIL import Image

import visionvitals as vv
from visionvitals import cli, registry, study
from visionvitals.errors import VitalsError, require
from visionvitals.remote import RemotePath
from visionvitals.results import rules

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ROOT / "docs" / "api.md"  # its Python is signatures, and examples that test_public.py runs
LONG = ("demo", "train", "serve")  # minutes by their nature, or until Ctrl-C
WRITTEN = {"out", "csv", "parquet", "latex", "markdown", "html", "json", "junit", "figures", "write"}
VERDICTS = (0, 1, 3)
FAMILIES = [*registry.names("backbones"), *registry.names("datasets")]


def is_run(call: Call, folder: Path) -> bool:
    """Whether it needs nothing but the package and what lies in the folder, and takes seconds."""
    program, *words = call.words
    if call.block.slow or page_checks.filled(words) != words:
        return False
    if program == "python" and words[0] == "-c":
        return is_executed(words[1], {}, folder)
    if program != "vitals" or words[0] in LONG:
        return False
    given = page_checks.parsed(words)
    read = [
        each
        for name, value in given.items()
        if name not in WRITTEN
        for each in (value if isinstance(value, tuple) else [value])
    ]
    paths = [each for each in read if isinstance(each, Path | RemotePath)]
    networks, sets = list(given.get("model", ())), []
    if words[0] in ("audit", "plan", "run") and (plan := page_checks.asked(words, folder)) is not None:
        networks, sets = list(plan.backbones), list(plan.sets)
        paths += [Path(section.name) for section in plan.studies if section.name.endswith(".py")]
    sets += [given["data"]] if words[0] == "stylize" else []
    embedded = all(n.startswith("tiny:") for n in networks) and all(s.startswith("shapes:") for s in sets)
    return embedded and all(isinstance(path, Path) and (folder / path).exists() for path in paths)


def is_executed(source: str, names: dict[str, Any], folder: Path) -> bool:
    """Whether a block reads no name that nobody gave it, and no spelling and no run that is not there."""
    texts = re.findall(r"""(?<!out=)["']((?:runs/|\w+:)[^"']*)["']""", source)
    here = [
        text.startswith(("tiny:", "shapes:"))
        or "?pretrained=false" in text
        or (folder / text.removeprefix("folder:")).exists()
        for text in texts
    ]
    return all(here) and not unbound(source, names)


def unbound(source: str, names: Container[str]) -> set[str]:
    """The names that a block reads and nobody gives it."""
    nodes = list(ast.walk(ast.parse(source)))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {(n.asname or n.name).partition(".")[0] for n in nodes if isinstance(n, ast.alias)}
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return {name for name in read - bound - set(vars(builtins)) if name not in names}


def offline(source: str) -> str:
    """With timm's smallest network and random weights in place of published ones, under the names that tables give these."""
    return re.sub(r'"timm:([\w.]+)"', r'"\1=timm:test_resnet?pretrained=false"', source)


def reader(folder: Path, *, earlier: bool) -> dict[str, Any]:
    """What the pages take for granted: a network and pictures of the reader's own, a folder of photographs, rules, and an earlier run where one is read."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for i, (label, picture) in enumerate(zip(["cat", "dog"] * 4, pictures, strict=True)):
        (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "photos" / label / f"{i}.png")
    (folder / "gate.toml").write_text('[[rule]]\nsign = "clean top-1"\nbackbone = "net"\nat_least = 0.01\n')
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    if earlier:
        net = vv.backbone(module, name="net", classes=["tabby", "beagle"], size=224)
        data = vv.images(pictures, [0, 1] * 4, name="pets", classes=["tabby", "beagle"])
        vv.audit(net, data=data, studies="clean", out=folder / "runs" / "b")
    return {"module": module, "pictures": pictures, "labels": [0, 1] * 4}


def brought(blocks: list[Block]) -> list[str]:
    """The families that a page lets the reader's own package bring, by its entry points; test_write_a_plugin.py runs them."""
    packages = [tomllib.loads(block.text) for block in blocks if is_package(block)]
    groups = [group for package in packages for group in package["project"]["entry-points"].items()]
    assert {group for group, _ in groups} <= {f"visionvitals.{kind}" for kind in ("studies", "backbones", "datasets")}
    return [name for _, points in groups for name in points]


def is_package(block: Block) -> bool:
    """Whether it is of a `pyproject.toml`."""
    return block.language == "toml" and block.text.startswith("[project")


def follow(page: str, folder: Path) -> tuple[int, int]:
    """Check a page and do what it says, as (commands that were run, blocks of Python that were executed).

    Raises:
        VitalsError: what a reader would stumble over.
    """
    blocks = page_checks.blocks(page)
    calls = page_checks.calls(blocks, folder)
    for block in blocks:
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
    own = tuple(f"{family}:" for family in brought(blocks))
    calls = [call for call in calls if not any(word.startswith(own) for word in call.words)]
    for call in calls:
        page_checks.check(call, folder)
    for text in page_checks.inline(page):
        if text.startswith("vitals "):
            page_checks.check_mention(text)
        elif re.fullmatch(rf"(?:{'|'.join(FAMILIES)}):\S*", text):
            page_checks.check_spelling(text)
    shown = [block for block in blocks if block.language == "python"]
    names: dict[str, Any] = {}
    for block in shown:
        page_checks.check_python(block.text, names)
    parts = [block.text for block in shown if not block.title]
    names = reader(folder, earlier=any('"runs/b"' in text for text in parts)) if parts else {}
    return sum(_run(call, folder) for call in calls), sum(_execute(block, names, folder) for block in shown)


def _run(call: Call, folder: Path) -> bool:
    """One command, where it can be run."""
    if not is_run(call, folder):
        return False
    program, *words = call.words
    if program == "python":
        exec(compile(words[1], "a page", "exec"), {})
        return True
    allowed = VERDICTS if words[0] == "gate" or "--until-decided" in words else (0,)
    require((code := cli.main(words)) in allowed, f"A command must work: {shlex.join(call.words)}", f"exit code {code}")
    return True


def _execute(block: Block, names: dict[str, Any], folder: Path) -> bool:
    """One block of Python, where it can be executed; a file with a title is what commands read."""
    source = offline(block.text)
    if block.title or block.slow or not is_executed(source, names, folder):
        return False
    exec(compile(source, f"a page, line {block.line}", "exec"), names)
    return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [p for p in PAGES if p != GENERATED], ids=lambda path: path.stem)
def test_a_page_can_be_followed(path: Path, folder: Path) -> None:
    follow(path.read_text(encoding="utf-8"), folder)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_blocks_say_their_language(path: Path) -> None:
    """Plans, rules and Python too; without a language stand commands, and pictures made of letters."""
    for block in page_checks.blocks(path.read_text(encoding="utf-8")):
        if block.language in ("", "text") and not block.is_shell:
            assert not re.search(r"^(vitals |backbones = |\[\[|import |from \w+ import )", block.text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "plans").glob("*.toml")), ids=lambda path: path.stem)
def test_the_command_in_the_head_of_a_plan_runs_it(path: Path, folder: Path) -> None:
    (command,) = re.findall(r"^# Command: +(vitals .*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    first, *more = page_checks.calls(page_checks.blocks(f"```bash\n{command}\n```\n"), folder)
    assert first.words[:3] == ("vitals", "run", f"plans/{path.name}")
    for call in (first, *more):
        page_checks.check(call, folder)


def test_plans_and_rules_of_the_pages_and_the_examples_are_read(folder: Path) -> None:
    records = {name: study.load(name) for name in study.names()}
    for path in (ROOT / "examples").glob("*.toml"):
        assert rules.read(path, records)
    shown = [block for path in PAGES for block in page_checks.blocks(path.read_text(encoding="utf-8"))]
    tables = [block.text for block in shown if block.language == "toml" and not is_package(block)]
    assert len(tables) >= 3
    for text in tables:
        page_checks.check_toml(text, folder)


RIGHT = """
```bash
T='tiny:vit'            # a comment
cat > few.toml <<EOF
backbones = ["$T", "tiny:cnn"]
data = ["shapes:test?n=16"]
studies = ["clean"]
EOF
vitals run few.toml --out runs/few
vitals audit "$T" --data 'shapes:test?n=16' --studies clean \\
  --out runs/a
vitals table runs/a --metric top1 --csv a.csv
vitals audit timm:resnet50 --data folder:/data/val --out runs/d     # needs weights and pictures
vitals table runs/d
```

<!-- takes minutes -->
```
vitals audit tiny:vit --data shapes:test --studies all --out runs/c
```

```python
import visionvitals as vv

run = vv.Run("runs/a")
run.table(metric="top1")
```

```python
run.note(decision)
```
"""


def test_what_can_be_run_is_run_and_nothing_else(folder: Path) -> None:
    assert follow(RIGHT, folder) == (3, 1)
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["a", "few"]
    assert (folder / "a.csv").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("vitals audti tiny:vit", "audti"),
        ("vitals audit tiny:vit --data shapes:test --outt runs/a", "--outt"),
        ("vitals audit tiny:vit --data shapes:test", "--out"),
        ("vitals audit tiny:vit --data shapes:test --out runs/a --limit few", "whole number"),
        ("vitals audit tiny:vit --data shapes:test --out runs/a --preset quik", "quik"),
        ("vitals audit tiny:vit --data shapes:test --out runs/a --studies claen", "claen"),
        ("vitals audit timn:resnet50 --data shapes:test --out runs/a", "timn:resnet50"),
        ("vitals audit timm:resnet51 --data shapes:test --out runs/a", "resnet51"),
        ("vitals audit torchvision:resnet51 --data shapes:test --out runs/a", "resnet51"),
        ("vitals audit 'timm:resnet50?sise=224' --data shapes:test --out runs/a", "sise"),
        ("vitals audit tiny:vit --data 'folder:x?part=all' --out runs/a", "no option `part`"),
        ("vitals audit (the same) --out runs/a", "syntax error"),
        ("vitals table runs/a --metric top2", "top2"),
        ("vitals table runs/a --study claen", "claen"),
        ("vitals run plans/no.toml --out runs/a", "plans/no.toml"),
        ("vitals train deit_teeny --out runs/a", "deit_teeny"),
        ("vitals train deit --set epoks=3 --out runs/a", "epoks"),
        ("vitals show everything --image a.png --model tiny:vit", "everything"),
        ("vitls demo", "vitls"),
        ("python benchmarks/no.py", "benchmarks/no.py"),
        ("python benchmarks/looks.py --wriet x", "--wriet"),
        ("python -c 'from visionvitals.run import planner'", "planner"),
        ("make demmo", "demmo"),
        ("make demo TORSH=cpu", "TORSH"),
        ("pip install 'visionvitals[hff]'", "hff"),
    ],
)
def test_a_wrong_command_is_found(wrong: str, said: str, folder: Path) -> None:
    with pytest.raises(VitalsError, match=re.escape(said)):
        follow(f"```bash\n{wrong}\n```\n", folder)


@pytest.mark.parametrize(
    "wrong",
    [
        "timm:resnet51",
        "timm:NAME?sise=224",
        "folder:DIR?part=all",
        "vitals tabel RUN",
        "vitals table RUN --cvs F",
        "vitals audit ... --studies claen",
        "vitals table --metric ecee",
    ],
)
def test_a_wrong_word_in_a_sentence_is_found(wrong: str, folder: Path) -> None:
    with pytest.raises(VitalsError):
        follow(f"Try `{wrong}`.\n", folder)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("import visionvitals as vv\nvv.audti()", AttributeError),
        ("import visionvitals as vv\nvv.audit([], out='x', studdies='clean')", VitalsError),
        ("import visionvitals as vv\nrun = vv.audit([], out='x')\nrun.tables()", AttributeError),
        ("import visionvitals as vv\nvv.Run('x').table(metrik='top1')", VitalsError),
        ("from visionvitals import stats\nstats.LINE", AttributeError),
        ("from visionvitals import statts", ImportError),
        ("def", SyntaxError),
    ],
)
def test_wrong_python_is_found(wrong: str, error: type[Exception], folder: Path) -> None:
    with pytest.raises(error):
        follow(f"```python\n{wrong}\n```\n", folder)


def test_a_command_that_fails_is_found(folder: Path) -> None:
    page = "```\nvitals audit tiny:vit --data 'shapes:test?n=8' --studies clean --out runs/a\nvitals compare runs/a vit cnn\n```\n"
    with pytest.raises(VitalsError, match="vitals compare runs/a vit cnn"):
        follow(page, folder)
