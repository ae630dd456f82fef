"""Shared by all tests: one thread, a cache of their own, and plug-ins by path that need neither timm nor weights."""

import os
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in the processes that tests start

PLUGINS = Path(__file__).parent / "plugins"
collect_ignore = [
    str(path) for path in (Path(__file__).parent / "hostile").glob("*.py") if path.name != "test_hostile.py"
]
"""The modules of the harness of hostile input are scripts of processes of their own, without types checked at run time."""


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's cache and state are neither read nor filled."""
    os.environ["VISIONVITALS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def toy_backbone() -> str:
    """A linear network on 32 x 32 px with four outputs, as a spelling by path."""
    return f"{PLUGINS / 'toy_backbone.py'}:linear"


@pytest.fixture(scope="session")
def toy_images() -> str:
    """24 coloured noise images of four classes, as a spelling by path."""
    return f"{PLUGINS / 'toy_images.py'}:noise?n=24"


@pytest.fixture(scope="session")
def toy_study() -> str:
    """A study that adds noise: two strengths, two runs each; `strength` 13 raises."""
    return str(PLUGINS / "toy_study.py")
