"""The arrows of docs/design.md, held: who may import whom, and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "visionvitals"
FILES = sorted(ROOT.rglob("*.py"))

# room -> the rooms of ours that it may import, anywhere in a file; modules that are not a folder are rooms of their own
NOUNS = {
    "answers",
    "core",
    "errors",
    "figure",
    "job",
    "numerics",
    "randomness",
    "files",
    "pixels",
    "remote",
    "source",
    "inside",
    "registry",
}
READERS = {
    "answers",
    "core",
    "errors",
    "figure",
    "files",
    "registry",
    "remote",
    "stats",
    "source",
    "study",
    "job",
    "numerics",
}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "remote": {"errors"},
    "files": {"errors", "remote"},
    "source": set(),
    "stats": set(),
    "pixels": set(),
    "randomness": set(),
    "answers": set(),
    "numerics": {"errors"},
    "preprocess": {"errors"},
    "core": {"answers", "errors", "inside", "numerics", "preprocess"},
    "figure": {"errors"},
    "job": {"answers", "core", "pixels"},
    "inside": {"core", "errors"},
    "registry": {"errors", "core", "source"},
    "scoring": {"core", "job"},
    "study": {"core", "errors", "figure", "job", "registry", "scoring", "source"},
    "backbones": {*NOUNS, "weight_files", "perturb"},  # `perturb.position` takes the position encoding out of a network
    "datasets": {*NOUNS, "stats", "probes"},  # of the probes, the names of the corruptions only
    "perturb": NOUNS,
    "probes": {*NOUNS, "perturb", "stats"},
    "studies": {*NOUNS, "study", "perturb", "probes"},
    "plan": {*NOUNS, "study", "datasets"},
    "run": {*NOUNS, "study", "stats", "datasets", "plan"},
    "results": {*READERS, "run", "short_names"},
    "report": {*READERS, "run", "results"},
    "weight_files": {"errors"},
    "show": {"short_names", *NOUNS, "options", "terminal", "study", "perturb", "probes", "datasets", "plan", "run"},
    "stylize": {*NOUNS, "weight_files", "perturb", "datasets", "plan", "run"},
    "training": {*NOUNS, "weight_files", "study", "perturb", "probes", "datasets", "backbones", "plan", "run"},
    "responses": {"short_names", *NOUNS, "stats", "datasets", "study", "studies", "probes", "plan", "run"},
    "measuring": {"core", "errors", "files", "registry", "remote", "plan", "run", "report"},
    "deciding": {"errors", "remote", "stats", "study", "measuring", "plan", "run", "results"},
    "reading": {*READERS, "run", "results", "report"},
    "api": {"reading", "deciding", *READERS, "measuring", "backbones", "datasets", "plan", "run", "results", "report"},
    "options": {"core", "errors", "remote"},
    "short_names": {"registry"},
    "explaining": {"registry", "errors", "core", "figure", "study", "results", "training"},
    "listing": {"registry", "errors", "explaining"},
    "terminal": {"short_names", "errors", "registry", "plan", "run", "results", "report", "figure"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path: Path) -> None:
    used = {name.split(".")[1] for name in imports(path) if name.startswith("visionvitals.")}
    room = layer(path)
    if room in ALLOWED:
        assert used - ALLOWED[room] - {room, "__version__", "__file__"} == set()
    else:
        assert room in ("cli", "cli_hand", "cli_read", "cli_shape", "cli_words", "__init__", "__main__"), (
            f"{room} must have its arrows here"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_modules_stay_at_home(path: Path) -> None:
    home = ".".join(("visionvitals", *path.relative_to(ROOT).parent.parts))
    for name in imports(path):
        parts = name.split(".")
        at = next((k for k, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")), None)
        if parts[0] == "visionvitals" and at is not None:
            assert home.startswith(".".join(parts[:at])), f"{name} is private to {'.'.join(parts[:at])}"


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) in ("report", "results")], ids=lambda p: p.name)
def test_readers_need_no_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "timm", "torchvision"}


def test_gradients_of_images_are_never_those_of_a_single_one() -> None:
    """torch gets some of them wrong, see `perturb.differentiable`. Gradients of weights (training, probes of features) are others'."""
    asks = {
        p.name
        for room in ("perturb", "probes", "studies", "show", "inside")
        for p in FILES
        if p.parent.name == room and "autograd.grad(" in p.read_text(encoding="utf-8")
    }
    through = {p.name for p in FILES if "differentiable(" in p.read_text(encoding="utf-8")}
    assert asks - through == {"_transfer_probes.py"}
    assert {"attacks.py", "adversarial_patch.py", "gradient.py", "gradients.py"} <= asks


def test_files_stay_readable() -> None:
    """Over 350 lines a file does more than one thing."""
    assert {p.name: n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 350} == {}


def test_functions_fit_a_screen() -> None:
    """Over 80 lines nobody holds a function in the head."""
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and (n := node.end_lineno - node.lineno + 1) > 80:
                long[f"{path.relative_to(ROOT)}:{node.name}"] = n
    assert long == {}


def test_the_baseline_is_named_once() -> None:
    """Which study is the baseline stands in `study.BASELINE`; nothing else knows it by its name."""
    named = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == "clean"
    }
    assert {
        name for name in named if name.split("/")[0] in ("run", "plan", "results", "report", "terminal.py")
    } == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import visionvitals",
        "import visionvitals.cli",
        "import visionvitals.run.store, visionvitals.run.folder, visionvitals.results, visionvitals.results.table",
        "from visionvitals import study; [study.load(n) for n in study.names()]",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = (
        f"{statement}\nimport sys; print(*({{'torch', 'timm', 'torchvision', 'pyarrow', 'altair'}} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
