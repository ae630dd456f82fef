"""The site in a browser, opened from the disk: no error, nothing wider than the window, and a search that finds."""

import os
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest

SITE = Path(__file__).parents[2] / "site"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.PROGRAM.is_file(), reason=f"needs {chromium.PROGRAM}"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="needs the site: make docs"),
]
READY = "document.readyState === 'complete' && document.documentElement.classList.contains('js')"
DIALOG = "[...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('dialog'))?.shadowRoot"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
@pytest.mark.parametrize(
    "name", ["index", "studies/occlusion", "api", "reproduce", "notebook", "gallery", "your_model"]
)
def test_a_page_fits_its_window_and_raises_no_error(
    tab: chromium.Tab, name: str, width: int, dark: bool, tmp_path: Path
) -> None:
    tab.console.clear()
    tab.size(width, 900, dark=dark)
    tab.open(SITE / f"{name}.html")
    tab.wait(READY)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    light = tab.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (max(light) < 80) is dark, light
    assert tab.console == []
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    tab.picture(folder / f"site-{name.replace('/', '-')}-{width}-{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("word", ["occlusion", "lesion", "normalisation"])
def test_the_search_finds_a_page_by_its_word(tab: chromium.Tab, word: str, width: int) -> None:
    expected = {"normalisation": "your_model.html"}.get(word, f"studies/{word}.html")
    tab.console.clear()
    tab.size(width, 900)
    tab.open(SITE / "index.html")
    tab.wait(READY)
    tab.run("document.querySelector('.md-search__button').click()")
    tab.wait(f"{DIALOG}?.activeElement?.tagName === 'INPUT'")
    tab.ask("Input.insertText", text=word)
    tab.wait(f"/^[1-9].* result/.test({DIALOG}.querySelector('[role=status]').textContent)")
    tab.wait(f"{DIALOG}.querySelector('a')?.href.includes('?h={word}')")
    found = tab.run(f"{DIALOG}.querySelector('a').href")
    assert found.startswith((SITE / expected).as_uri())
    tab.ask("Page.navigate", url=found)  # a click would leave the page while it answers
    tab.wait(f"location.href.includes({expected!r}) && {READY}")
    assert [said for said in tab.console if not said.startswith("Autofocus")] == []  # that one is no error
