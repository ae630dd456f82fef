"""The report as people use it: by keyboard, on a phone, in the dark, sorted, filtered and printed; checked by axe-core, with screenshots.

The pictures lie in the folder that the environment variable `SCREENSHOTS` names, else among the temporary files of pytest.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
import fake_run
import fake_studies

from visionvitals.report.build import build
from visionvitals.results import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.PROGRAM.is_file(), reason=f"needs {chromium.PROGRAM}"),
]
AXE = "axe-core@4.14.1"
DRAWN = "document.documentElement?.dataset.drawn !== undefined"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three backbones, one of another input size, and four studies."""
    folder = tmp_path_factory.mktemp("use")
    names = ("timm:deit_tiny_patch16_224", "timm:resnet50.tv_in1k")
    backbones = [*map(fake_run.backbone, names), fake_run.backbone("timm:vit_small", side=256)]
    return build(load(fake_run.write(folder / "run", backbones=backbones, n=60)))


@pytest.fixture(scope="module")
def tab(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def report(tab: chromium.Tab, page: Path) -> chromium.Tab:
    """The page, freshly opened at 1,400 px, with every section built."""
    tab.console.clear()
    tab.size(1400, 900)
    tab.open(page)
    tab.wait(DRAWN)
    return tab


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """The code of axe-core from the npm registry, kept in pytest's cache."""
    folder = request.config.cache.mkdir(AXE.replace("@", "-"))  # type: ignore[union-attr]
    code = folder / "axe.min.js"
    if not code.is_file():
        if shutil.which("npm") is None:
            pytest.skip("axe-core comes by npm, which is not installed")
        done = subprocess.run(
            ["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            pytest.skip(f"axe-core could not be fetched: {done.stderr[-300:]}")
        with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as packed:
            content = packed.extractfile("package/axe.min.js")
            assert content is not None
            code.write_bytes(content.read())
    return code.read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (390, False), (390, True)])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(
    report: chromium.Tab, axe: str, width: int, dark: bool, tmp_path: Path
) -> None:
    report.size(width, 900, dark=dark)
    report.run("for (const e of document.querySelectorAll('details')) e.open = true")
    report.run(f"{axe}; 0")
    rules = "r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html.slice(0, 200)))"
    assert report.run(f"axe.run().then((r) => {rules})") == []
    assert report.run("document.documentElement.scrollWidth") == width
    assert report.console == []
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"report-{width}-{'dark' if dark else 'light'}.png"
    report.run("scrollTo(0, 0)")
    report.picture(picture)
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_is_drawn_within_the_page(report: chromium.Tab, width: int) -> None:
    report.size(width, 900)
    report.wait(f"document.documentElement.scrollWidth === {width}")
    drawn = report.run("document.documentElement.dataset.drawn")
    shapes = report.run("[...document.querySelectorAll('.vega')].map((e) => e.querySelectorAll('svg path').length)")
    assert str(len(shapes)) == drawn
    assert min(shapes) > 5
    heights = report.run("[...document.querySelectorAll('.picture')].map((e) => e.getBoundingClientRect().height)")
    assert min(heights) > 40


def test_the_page_and_its_charts_follow_a_dark_scheme(report: chromium.Tab) -> None:
    report.size(900, 900, dark=True)
    assert report.run("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 27)"
    line = "document.querySelector('[data-chart=\"occlusion/0\"] .vega svg path[stroke-dasharray]')"
    assert report.run(f"getComputedStyle({line}).stroke") == "rgb(109, 182, 242)"
    report.run("[...document.querySelectorAll('[data-chart=\"occlusion/0\"] [data-focus]')].at(-1).click()")
    report.wait(f"{line}.getAttribute('opacity') === '0.15'")


def test_everything_is_reached_by_keyboard_in_the_order_of_the_page(report: chromium.Tab) -> None:
    here = "document.activeElement.className || document.activeElement.id || document.activeElement.hash"
    report.run("document.body.focus(); scrollTo(0, 0)")
    seen = []
    for _ in range(12):
        report.press("Tab", 9)
        seen.append(report.run(here))
        assert report.run("getComputedStyle(document.activeElement).outlineStyle") != "none", seen
    assert seen[0] == "skip"
    assert seen[1:8] == [
        "#signs",
        "#study-clean",
        "#study-occlusion",
        "#study-shuffle",
        "#study-corner",
        "#limits",
        "#provenance",
    ]
    assert seen[8:11] == ["only-backbones", "sort", "only-studies"]
    report.run("document.querySelector('#study-occlusion [data-focus]').focus()")
    report.press("Enter", 13)
    assert report.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    report.press("Escape", 27)
    assert report.run("document.activeElement.getAttribute('aria-pressed')") == "false"


def test_backbones_are_filtered_in_cards_tables_and_charts(report: chromium.Tab) -> None:
    visible = "[...document.querySelectorAll('.cards > :not([hidden])')].map((e) => e.dataset.name)"
    lines = "document.querySelectorAll('[data-chart=\"clean/0\"] .vega path[aria-roledescription=point]').length"
    assert report.run(lines) == 3
    report.run(
        "window.field = document.getElementById('only-backbones'); field.value = 'DEIT, small'; field.dispatchEvent(new Event('input'))"
    )
    assert report.run(visible) == ["timm:deit_tiny_patch16_224", "timm:vit_small"]
    report.wait(f"{lines} === 2")
    assert (
        report.run(
            "[...document.querySelectorAll('#study-occlusion .answer')].some((e) => !e.hidden && e.dataset.backbone.includes('resnet'))"
        )
        is False
    )
    report.run("field.value = ''; field.dispatchEvent(new Event('input'))")
    report.wait(f"{lines} === 3")


def test_studies_are_filtered_with_their_places_in_the_contents(report: chromium.Tab) -> None:
    report.run(
        "window.field = document.getElementById('only-studies'); field.value = 'occl'; field.dispatchEvent(new Event('input'))"
    )
    assert report.run("[...document.querySelectorAll('section.study:not([hidden])')].map((e) => e.dataset.study)") == [
        "occlusion"
    ]
    places = report.run("[...document.querySelectorAll('.toc li:not([hidden]) a')].map((e) => e.hash)")
    assert places == ["#signs", "#study-occlusion", "#limits", "#provenance"]


def test_backbones_are_sorted_by_a_sign_with_the_best_first(report: chromium.Tab) -> None:
    titles = report.run("[...document.getElementById('sort').options].map((e) => e.textContent)")
    column = titles.index("clean top-1") - 2
    report.run(
        f"window.sort = document.getElementById('sort'); sort.value = '{column}'; sort.dispatchEvent(new Event('change'))"
    )
    for place in (".cards", ".signs tbody"):
        values = report.run(
            f"[...document.querySelector('{place}').children].map((e) => JSON.parse(e.dataset.values)[{column}])"
        )
        assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1
    report.run("sort.value = ''; sort.dispatchEvent(new Event('change'))")
    first = report.run("document.querySelector('.cards').children[0].dataset.name")
    assert first == "timm:deit_tiny_patch16_224"


def test_a_table_that_scrolls_says_so_and_fits_a_wide_window(report: chromium.Tab) -> None:
    scrolls = "document.querySelector('.region:has(.signs)').classList.contains('scrolls')"
    assert report.run(scrolls) is False
    report.size(390, 900)
    report.wait(scrolls)


def test_the_printed_page_has_every_section_and_no_control(report: chromium.Tab) -> None:
    report.ask("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('.toc, .controls, .save, #copy')].filter((e) => e.checkVisibility()).length"
    assert report.run(shown) == 0
    assert report.run("document.querySelectorAll('.pending').length") == 0
    report.ask("Emulation.setEmulatedMedia", media="")


def test_without_scripts_the_page_says_what_to_do(tab: chromium.Tab, page: Path) -> None:
    tab.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page)
        tab.wait("document.readyState === 'complete'")
        root = tab.ask("DOM.getDocument", depth=-1, pierce=True)["root"]
        found = tab.ask("DOM.querySelector", nodeId=root["nodeId"], selector="noscript p.notice")["nodeId"]
        assert found, "with scripts, the content of noscript is text"
        assert "vitals table" in tab.ask("DOM.getOuterHTML", nodeId=found)["outerHTML"]
    finally:
        tab.ask("Emulation.setScriptExecutionDisabled", value=False)


def test_a_chart_by_group_is_drawn_when_it_is_opened(tab: chromium.Tab, tmp_path: Path) -> None:
    columns = {"weather": ["fog", "sun"] * 10}
    tab.console.clear()
    tab.size(1400, 900)
    tab.open(build(load(fake_run.write(tmp_path / "run", n=20, studies=("clean", "shuffle"), columns=columns))))
    tab.wait(DRAWN)
    points = "document.querySelectorAll('#study-shuffle .grouped .vega path[aria-roledescription=point]').length"
    assert tab.run(points) == 0
    tab.run("document.querySelector('#study-shuffle .grouped').open = true")
    tab.wait(f"{points} > 0")
    assert tab.run("document.querySelector('#study-shuffle .grouped .vega svg').clientWidth") > 300
    assert not tab.console


@pytest.mark.parametrize("width", [1400, 390])
def test_a_table_of_many_signs_scrolls_by_itself_with_its_names_in_view(
    tab: chromium.Tab, tmp_path: Path, width: int
) -> None:
    many = fake_studies.with_signs(18)
    cards = [fake_run.backbone(f"timm:a_network_with_a_long_name_{k}") for k in range(3)]
    tab.size(width, 900)
    tab.open(build(load(fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", many), n=20))))
    tab.wait(DRAWN)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelectorAll('.signs thead th').length") == 1 + 1 + 18
    region = "document.querySelector('.region:has(.signs)')"
    assert tab.run(f"{region}.classList.contains('scrolls')")
    assert tab.run(f"getComputedStyle({region}, '::before').content").startswith('"Scrolls sideways')
    tab.run(f"{region}.scrollLeft = 9999")
    name = "document.querySelector('.signs tbody th').getBoundingClientRect()"
    assert tab.run(f"{name}.left") == pytest.approx(tab.run(f"{region}.getBoundingClientRect().left"), abs=1)
    last = "document.querySelector('.signs tbody tr').lastElementChild.getBoundingClientRect()"
    assert tab.run(f"{last}.left > {name}.right && {last}.right <= innerWidth")


@pytest.mark.parametrize("width", [1400, 390])
def test_a_comb_of_nine_observers_overlaps_nowhere(tab: chromium.Tab, tmp_path: Path, width: int) -> None:
    cards = [fake_run.backbone(f"timm:net{k}") for k in range(9)]
    run = load(fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", fake_studies.comb(16)), n=20))
    page = build(run)
    tab.size(width, 900)
    tab.open(page)
    tab.wait(DRAWN)
    boxes = "[...document.querySelectorAll('#study-corner .vega {}')].map((e) => e.getBoundingClientRect()).map((b) => [b.top, b.bottom])"
    marks = sorted(tab.run(boxes.format("path[aria-roledescription=point]")))
    assert len(marks) == 9 * 16
    assert all(above[1] <= below[0] + 1 for above, below in itertools.pairwise(marks))
    rows = sorted(tab.run(boxes.format("text").replace("]", "].filter((e) => e.textContent.startsWith('word'))", 1)))
    assert len(rows) == 16
    assert all(above[1] <= below[0] for above, below in itertools.pairwise(rows))
    assert tab.run("document.documentElement.scrollWidth") <= width


TOLD = "document.querySelector('#vg-tooltip-element.visible')?.innerText.replace(/\\s+/g, ' ') ?? ''"


def test_every_mark_tells_its_exact_value_by_pointer_keyboard_and_touch(report: chromium.Tab) -> None:
    for place, expected in (
        ("#study-clean", "top-1"),
        ("#study-corner", "corner top-left"),
        ("#study-occlusion", "fraction 0%"),
    ):
        report.run(
            f"document.querySelector('{place} .vega').scrollIntoView({{ behavior: 'instant', block: 'center' }})"
        )
        report.run(f"document.querySelector('{place} .vega [tabindex=\"0\"]').focus()")
        report.wait(f"/ %? \\(.* to .*\\) images 60/.test({TOLD})")
        first = report.run(TOLD)
        assert expected in first
        report.press("ArrowRight", 39)
        report.wait(f"{TOLD} !== {first!r}")
        assert "images 60" in report.run(TOLD)
        report.run("document.activeElement.blur()")
        assert report.run(TOLD) == ""
    bar = "document.querySelector('#study-clean .vega .mark-rect path').getBoundingClientRect()"
    report.run("document.querySelector('#study-clean .vega').scrollIntoView({ behavior: 'instant', block: 'center' })")
    x, y = report.run(f"[{bar}.left + 20, {bar}.top + {bar}.height / 2]")
    report.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    report.wait(f"{TOLD}.includes('images 60')")
    report.ask("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    report.wait(f"{TOLD} === ''")
    mark = "document.querySelector('#study-clean .vega path[aria-roledescription=point]').getBoundingClientRect()"
    x, y = report.run(f"[{mark}.left + 22, {mark}.top + 4]")
    touch = [{"x": x, "y": y}]
    report.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch)
    report.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    report.wait(f"{TOLD}.includes('images 60')")
    assert not report.console
