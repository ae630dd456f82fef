"""The arrows of docs/design.md, held: who may import whom, and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "visionvitals"
FILES = sorted(ROOT.rglob("*.py"))

# layer -> the layers of ours that it must not import, not even inside a function
FORBIDDEN = {
    "core": {"run", "studies", "backbones", "datasets", "perturb", "probes", "report", "training", "cli", "registry"},
    "errors": {"core", "run", "studies", "backbones", "datasets", "perturb", "probes", "report", "training", "cli"},
    "stats": {"core", "run", "studies", "backbones", "datasets", "perturb", "probes", "report", "training", "cli"},
    "randomness": {"run", "studies", "backbones", "datasets", "perturb", "probes", "report", "training", "cli"},
    "perturb": {"studies", "run", "report", "cli", "backbones", "datasets", "training"},
    "probes": {"studies", "run", "report", "cli", "datasets", "training"},
    "studies": {"run", "report", "cli", "training"},
    "backbones": {"studies", "run", "report", "cli", "training", "probes"},
    "inside": {
        "core",
        "studies",
        "run",
        "report",
        "cli",
        "training",
        "probes",
        "backbones",
        "datasets",
        "perturb",
        "registry",
    },
    "datasets": {"studies", "run", "report", "cli", "training", "backbones"},
    "run": {"report", "cli"},
    "report": {"cli", "backbones", "datasets", "perturb", "probes", "training"},
    "figure": {
        "core",
        "run",
        "studies",
        "backbones",
        "datasets",
        "perturb",
        "probes",
        "report",
        "training",
        "cli",
        "registry",
    },
    "metrics": {
        "core",
        "run",
        "studies",
        "backbones",
        "datasets",
        "perturb",
        "probes",
        "report",
        "training",
        "cli",
        "registry",
    },
    "show": {"report", "cli", "cli_shape", "training", "stylize"},
    "stylize": {"studies", "report", "cli", "cli_shape", "training"},
    "training": {"studies", "report", "cli"},
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
    assert not used & FORBIDDEN.get(layer(path), set())


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) == "report"], ids=lambda p: p.name)
def test_the_report_needs_no_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "timm", "torchvision"}


def test_files_stay_readable() -> None:
    """Over 400 lines a file does more than one thing."""
    assert {p.name: n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import visionvitals",
        "import visionvitals.cli",
        "import visionvitals.run.store, visionvitals.run.table",
        "from visionvitals import registry; [registry.load('studies', n) for n in registry.names('studies')]",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = (
        f"{statement}\nimport sys; print(*({{'torch', 'timm', 'torchvision', 'pyarrow', 'altair'}} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
