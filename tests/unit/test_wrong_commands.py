"""What a clumsy user types ends in one message that says what to do, with exit code 2 and no traceback, and leaves nothing behind."""

import tarfile
from pathlib import Path

import pytest
from PIL import Image

from visionvitals import cli

IMAGES = ("--data", "shapes:test")
OUT = ("--out", "x")
RULES = {
    "key.toml": '[[rule]]\nstudy = "clean"\nmetric = "top1"\nat_leest = 0.5\n',
    "scale.toml": '[[rule]]\nstudy = "clean"\nmetric = "top1"\nat_least = 50\n',
    "sign.toml": '[[rule]]\nsign = "kept at 50% occlusion"\nat_least = 0.5\n',
    "other.toml": "rules = 5\n",
    "broken.toml": "not toml [",
    "plan.toml": 'backbones = "tiny:vit"\ndata = ["shapes:test"]\n',
    "semi.csv": "path;label\na.jpg;cat\n",
    "bare.csv": "im/cat/0.jpg,cat\n",
    "table.toml": 'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n[studies]\nname = "clean"\n',
}
"""Files of rules, and others that are taken for them."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture in class folders, a table, a tar, an empty folder, and the folder of another tool."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "im" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "im" / "cat" / "0.jpg")
    (tmp_path / "l.csv").write_text("path,label\na.jpg,cat\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plan.json").write_text('{"a": 1}')
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "im", "im")
    for name, text in RULES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "do"),
    [
        (("audt", "tiny:vit"), 'Did you mean "audit"'),
        (("audit", "tiny:vit", *IMAGES), "See `vitals audit --help`"),
        (("audit", "tiny:vit", *IMAGES, "--preset"), "See `vitals audit --help`"),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--preset", "quik"), 'Did you mean "quick"'),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--limit", "ten"), "must be a whole number from 1"),
        (("audit", "tiny:vit", *OUT), "Got none. Try `--data folder:PATH`"),
        (("audit", *IMAGES, *OUT), "Try `tiny:vit`"),
        (("audit", "tiny:vit", "--data", "./im", *OUT), "Did you mean `folder:./im`"),
        (("audit", "folder:im", *IMAGES, *OUT), "`folder:` is an image set: give it to `--data`"),
        (("audit", "tiny:vit", "--data", "tiny:vit", *OUT), "`tiny:` is a backbone: give it without `--data`"),
        (("audit", "resnet50", *IMAGES, *OUT), "Did you mean `timm:resnet50`"),
        (("audit", "tiny:vitt", *IMAGES, *OUT), "Did you mean vit"),
        (("audit", "tiny:vit?crop=2", *IMAGES, *OUT), "`crop` must be a number in (0, 1]"),
        (("audit", "tiny:vit?classes=.", *IMAGES, *OUT), "This is a folder: give the file"),
        (("audit", "tiny:vit?classes=im/cat/0.jpg", *IMAGES, *OUT), "Save it as UTF-8, or name another file"),
        (("audit", "tiny:vit@im", *IMAGES, *OUT), "This is a folder: name the file in it"),
        (("audit", "checkpoint:l.csv", *IMAGES, *OUT), "Name a .pth or .safetensors file of weights"),
        (("audit", "checkpoint:t.tar", *IMAGES, *OUT), "Name a .pth or .safetensors file of weights"),
        (("audit", "python:./nope.py:build", *IMAGES, *OUT), "must be a Python file that exists"),
        (("audit", "python:nope", *IMAGES, *OUT), "must be spelled `python:PACKAGE.MODULE:FUNCTION`"),
        (("audit", "t2t:t2t_vit_7?position=none", *IMAGES, *OUT), "`position` must be left out: without"),
        (("audit", "tiny:vit", "--data", "folder:imm", *OUT), "Did you mean im"),
        (("audit", "tiny:vit", "--data", "folder:empty", *OUT), "Name a folder of class folders"),
        (("audit", "tiny:vit", "--data", "folder:im/cat", *OUT), "Sort them into class folders"),
        (("audit", "tiny:vit", "--data", "folder:im/cat/0.jpg", *OUT), "which is a file"),
        (("audit", "tiny:vit", "--data", "folder:im?classes=.", *OUT), "This is a folder: give the file"),
        (("audit", "tiny:vit", "--data", "folder:im?classes=a.csv", *OUT), "with one line `folder,key` for each"),
        (("audit", "tiny:vit", "--data", "csv:im", *OUT), "must be a file. Got 'im', which is a folder"),
        (("audit", "tiny:vit", "--data", "csv:t.tar", *OUT), "must be UTF-8 text"),
        (("audit", "tiny:vit", "--data", "csv:l.csv", *OUT), "Paths are relative to the folder of the csv"),
        (("audit", "tiny:vit", "--data", "webdataset:l.csv", *OUT), "must be a whole, uncompressed tar"),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--studies", "lesoin"), "Did you mean lesion"),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--device", "gpu"), "Got 'gpu'. Leave it out for the best there is"),
        (("audit", "tiny:vit", *IMAGES, "--out", "other"), "Name another folder, or restore the file"),
        (("audit", "tiny:vit", *IMAGES, "--out", "im"), "Give another --out"),
        (("audit", "tiny:vit", *IMAGES, "--out", "l.csv"), "Give another --out"),
        (("run", "nope"), "a run folder that exists"),
        (("status", "im"), "Name the folder that was given to `--out`"),
        (("status", "other"), "Name another folder, or restore the file"),
        (("gate", "im"), "See `vitals gate --help`"),
        (("show", "oclusion", "--image", "im/cat/0.jpg", "--model", "tiny:vit"), "Did you mean occlusion"),
        (("show", "occlusion", "--image", "nope.jpg", "--model", "tiny:vit"), "must be readable"),
        (("responses", "im"), "Give --add FOLDER or --write FOLDER"),
        (("consistency", "l.csv"), "the columns must be"),
        (("stylize", "folder:im", "--out", "x"), "needs a folder of --styles"),
        (("train", "diet", "--out", "x"), "Did you mean deit"),
        (("train", "tiny_vit", "--out", "l.csv"), "`--out` must be a folder"),
        (("explain", "oclusion"), "Did you mean occlusion"),
        (("list", "bakbones"), "Did you mean backbones"),
        (
            ("audit", "tiny:vit", *IMAGES, *OUT, "--studies", "clean", "occlusion"),
            "write studies with commas and no space",
        ),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--reuse", "im"), "`--reuse` must name run folders"),
        (("audit", "tiny:vit", *IMAGES, *OUT, "--baseline", "im"), "Got 'only --baseline'"),
        (("run", "table.toml", *OUT), "write `[[studies]]` in two brackets"),
        (("audit", "tiny:vit", "--data", "csv:bare.csv", *OUT), "Its first line must name the columns: `path,label`"),
        (("card", "im"), "must be given BACKBONE: As it was spelled, or as the tables call it"),
        (("explain",), 'must be given NAME: E.g. ece, "kept at 50 % occlusion"'),
        (("run", "im", "more"), "takes no further word. Got 'more'"),
        (("compare", "tiny:vit", "tiny:cnn", "im"), "This is a backbone; the run folder comes first"),
        (("gate", "key.toml", "--rules", "im"), "the run folder comes first"),
        (("run", "key.toml", *OUT), "These are rules of a gate, and no plan"),
        (("run", "plan.toml", *OUT), "must be a list, as in"),
        (("audit", "tiny:vit", "--data", "csv:semi.csv", *OUT), "separated by commas, not by semicolons"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_says_what_to_do(
    words: tuple[str, ...], do: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    said = err[err.index("vitals: ") :]
    assert do in said
    assert "Traceback" not in out + err
    assert ".." not in said.replace("...", ""), "two full stops"
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("rules", "do"),
    [
        ("nope.toml", "`--rules` must name a file that can be read"),
        ("key.toml", "Did you mean at_least"),
        ("scale.toml", "A share of 60 % reads 0.6"),
        ("sign.toml", "Did you mean kept at 50 % occlusion"),
        ("other.toml", "See `vitals gate --help`"),
        ("plan.toml", "This is a plan: `vitals run plan.toml --out DIR` measures it"),
        ("broken.toml", "Rules must be valid TOML"),
    ],
)
def test_a_wrong_file_of_rules_says_what_to_do(
    rules: str, do: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("audit", "tiny:vit", *IMAGES, *OUT, "--studies", "clean,occlusion", "--until-decided", "--rules", rules)
    assert cli.main(words) == 2
    assert do in capsys.readouterr().err
