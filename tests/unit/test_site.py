"""The site as it is built: every page is in its contents, every link leads somewhere, and nothing comes from another host."""

import runpy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

pytest.importorskip("zensical", reason="needs zensical, of the group `docs`")

ROOT = Path(__file__).parents[2]
MAKE = runpy.run_path(str(ROOT / "docs" / "make_site.py"))


class Page(HTMLParser):
    """The links and the anchors of a page, and what a browser fetches for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {key: value or "" for key, value in attrs}
        self.anchors |= {said[key] for key in ("id", "name") if key in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag == "link" and said.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(said["href"])
        if "src" in said:
            self.fetched.append(said["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Every page, built with warnings as errors."""
    folder = MAKE["build"](tmp_path_factory.mktemp("built"))
    return {path: Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}


def test_every_page_is_built(site: dict[Path, Page]) -> None:
    pages = {path.stem for path in (ROOT / "docs").rglob("*.md")} | {"notebook"}
    assert {path.stem for path in site} == pages


def test_every_link_leads_to_a_page_and_a_place(site: dict[Path, Page]) -> None:
    ours = MAKE["REPOSITORY"]
    seen = 0
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if link.startswith(ours):
                assert (ROOT / link.removeprefix(ours)).exists(), f"{path.name}: {link}"
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in site[target].anchors, f"{path.name}: {link}"
            seen += 1
    assert seen > 1000


def test_nothing_is_fetched_from_another_host(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        for each in page.fetched:
            parts = urlsplit(each)
            assert parts.scheme in ("", "data"), f"{path.name}: {each}"
            assert parts.scheme or (path.parent / unquote(parts.path)).exists(), f"{path.name}: {each}"


def test_every_page_is_in_the_contents_once() -> None:
    nav = yaml.load(
        (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/object/apply:pymdownx.slugs.slugify", ""),
        Loader=yaml.SafeLoader,
    )["nav"]
    listed = sorted(_files(nav))
    docs = ROOT / "docs"
    pages = [*(path.relative_to(docs).as_posix() for path in docs.rglob("*.md")), "notebook.md"]
    assert listed == sorted(pages), "every page needs a place in the `nav` of mkdocs.yml"


def _files(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for each in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _files(each)


@pytest.mark.parametrize(
    ("link", "home", "expected"),
    [
        ("decide.md#a-run-grows", "docs", "decide.md#a-run-grows"),
        ("../decide.md", "docs/studies", "../decide.md"),
        ("notebook.ipynb", "docs", "notebook.md"),
        ("../examples/gate.toml", "docs", MAKE["REPOSITORY"] + "examples/gate.toml"),
        ("../../src/visionvitals/core.py", "docs/studies", MAKE["REPOSITORY"] + "src/visionvitals/core.py"),
    ],
)
def test_links_out_of_the_pages_lead_to_the_repository(link: str, home: str, expected: str) -> None:
    assert MAKE["_led"](link, ROOT / home) == expected
