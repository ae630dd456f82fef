"""Builds the site from the pages of this folder into site/, with warnings as errors: python docs/make_site.py

The pages are also read where the code is hosted, so that a link to a file outside this folder is a relative path in the page; in the site it
leads to the repository. The notebook becomes a page. The generator checks links between pages and their anchors.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/visionvitals/visionvitals/blob/main/"
KINDS = ("*.md", "*.svg", "*.webp", "*.js", "*.css")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def stage(target: Path) -> None:
    """Copy the pages, with their links as the site needs them."""
    docs = ROOT / "docs"
    for path in (path for kind in KINDS for path in docs.rglob(kind)):
        copy = target / path.relative_to(docs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    _notebook(docs / "notebook.ipynb", target / "notebook.md")
    for copy in target.rglob("*.md"):
        home = (docs / copy.relative_to(target)).parent
        copy.write_text(_relinked(copy.read_text(encoding="utf-8"), home), encoding="utf-8")


def build(folder: Path) -> Path:
    """Build in a folder, and say where the site is.

    Raises:
        subprocess.CalledProcessError: the generator warned.
    """
    stage(folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "src").symlink_to(ROOT / "src")  # docstrings are read from there
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=True)
    return folder / "site"


def _relinked(text: str, home: Path) -> str:
    return _LINK.sub(lambda link: f"]({_led(link[1], home)}", text)


def _led(link: str, home: Path) -> str:
    """Where a relative link leads in the site."""
    target = (home / link).resolve()
    if target.suffix == ".ipynb":
        return link.replace(".ipynb", ".md")
    if (ROOT / "docs") in target.parents:
        return link
    return REPOSITORY + target.relative_to(ROOT).as_posix()


def _notebook(source: Path, target: Path) -> None:
    from nbconvert import MarkdownExporter

    text, _ = MarkdownExporter().from_filename(str(source))
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shutil.rmtree(ROOT / "site", ignore_errors=True)
        shutil.move(build(Path(folder)), ROOT / "site")
    print(ROOT / "site" / "index.html")
