"""What is handed out: an archive of the package alone, which works and is typed where it is installed."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import visionvitals

ROOT = Path(__file__).parents[2]
USER = Path(__file__).parents[1] / "typed" / "user.py"
PACKAGE = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "visionvitals").rglob("*") if path.is_file()}
TAKEN = {name for name in PACKAGE if "__pycache__" not in name}


def build(root: Path, what: str, out: Path) -> Path:
    """An archive as the build backend makes it of a folder, without an environment of its own, hence without network."""
    code = f"import hatchling.build as b; print(b.build_{what}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel; the libraries are those of the tests."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([str(home / "bin" / "python"), "-I", *words], check=True)
    return home / "bin" / "python"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == TAKEN
    needed = {"py.typed", "backbones/weights/tiny_vit.safetensors", "report/page.html.jinja", "report/page.js"}
    assert {f"visionvitals/{name}" for name in needed} <= TAKEN


def test_the_sdist_holds_the_package_and_its_papers(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """And a wheel made of it is, byte for byte, that of the checkout."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    papers = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO", ".gitignore"}
    assert names == {f"src/{name}" for name in TAKEN} | papers
    assert build(next(tmp_path.iterdir()), "wheel", tmp_path).read_bytes() == wheel.read_bytes()


def test_an_installed_wheel_lists_plans_measures_and_reports(python: Path, tmp_path: Path) -> None:
    code = """
import sys, visionvitals
from importlib import metadata
from visionvitals.cli import main
assert visionvitals.__file__.startswith(sys.prefix), visionvitals.__file__
assert metadata.version("visionvitals") == visionvitals.__version__
(command,) = metadata.entry_points(group="console_scripts", name="vitals")
assert command.load() is main
data = ["--data", "shapes:test?n=20", "--studies", "clean", "--preset", "quick"]
assert main(["list"]) == 0
assert main(["plan", "tiny:vit", *data]) == 0
assert main(["audit", "tiny:vit", *data, "--out", "run", "--device", "cpu"]) == 0
"""
    done = subprocess.run([str(python), "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "segmentation" in done.stdout
    assert "tiny:vit" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_installed_wheel_is_typed(python: Path, tmp_path: Path) -> None:
    """A user's script has the types that it asserts, and its mistakes are reported. torch is taken as untyped: reading it takes a minute."""
    untyped = "\n[mypy-torch.*,altair.*,numpy.*,pydantic.*,PIL.*]\nfollow_imports = skip\n"
    settings = f"[mypy]\nstrict = true\ndisallow_subclassing_any = false\n{untyped}"
    (tmp_path / "mypy.ini").write_text(settings, encoding="utf-8")
    words = [str(python), "-I", "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache"]
    good = subprocess.run([*words, str(USER)], cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0, good.stdout


def test_the_version_stands_in_one_place_and_the_others_follow() -> None:
    version = visionvitals.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    files = [ROOT / "Containerfile", *(ROOT / "examples" / "cluster").glob("*.yaml")]
    tags = [tag for path in files for tag in re.findall(r"\bvisionvitals(?:-ray)?:(\d[\d.]*)", path.read_text())]
    assert len(tags) >= 5
    assert set(tags) == {version}
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_container_copies_and_installs_what_exists() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = re.search(r"^ARG EXTRAS=(.+)$", text, re.MULTILINE)
    assert extras
    assert set(extras[1].split(",")) <= project["project"]["optional-dependencies"].keys()
    copied = [word for words in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in words.split()]
    assert {"pyproject.toml", "README.md", "LICENSE", "src"} == set(copied)  # what a build of the wheel reads
    assert all((ROOT / word).exists() for word in copied)
    assert {"torch", "torchvision"} <= {re.split(r"[<>=]", each)[0] for each in project["project"]["dependencies"]}


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_form_is_one(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    assert all(each["type"] in ("input", "textarea") and each["attributes"]["label"] for each in form["body"])
