"""The report in a real browser without a network: everything is drawn, nothing overflows, the page and its charts follow the colour
scheme, the legend works."""

import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visionvitals.report.build import build
from visionvitals.results import load

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP*~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs {CHROMIUM}")]

# Runs inside the report, which is shown in a frame of a given width, and tells the page around it what it finds.
PROBE = """<script>
setTimeout(async () => {
  const root = document.documentElement;
  const line = () => document.querySelector("[data-chart='occlusion/0'] .vega svg path[stroke-dasharray]");
  const before = line().getAttribute("opacity");
  [...document.querySelectorAll("[data-chart='occlusion/0'] [data-focus]")].at(-1).click(); // the other backbone steps back
  await new Promise((done) => setTimeout(done, 500));
  parent.postMessage({
    width: innerWidth, content: root.scrollWidth, drawn: root.dataset.drawn,
    charts: [...document.querySelectorAll(".vega")].map((e) => e.querySelectorAll("svg path").length),
    widest: Math.max(...[...document.querySelectorAll(".vega svg")].map((e) => e.getBoundingClientRect().right)),
    page: getComputedStyle(document.documentElement).backgroundColor, stroke: getComputedStyle(line()).stroke,
    pictures: [...document.querySelectorAll(".picture")].every((e) => e.getBoundingClientRect().height > 40),
    pressed: document.querySelectorAll("[aria-pressed=true]").length,
    before: before, after: line().getAttribute("opacity"),
  }, "*");
}, 3000);
</script>"""

AROUND = """<body><script>
const heard = [];
addEventListener("message", (event) => { heard.push(event.data); document.title = JSON.stringify(heard); });
</script>%s</body>"""


def visit(page: Path, folder: Path, *, widths: tuple[int, ...], dark: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """What the probe found at each width, and what the browser's console said."""
    head, end, tail = page.read_text(encoding="utf-8").rpartition("</body>")
    probed = folder / "probed.html"
    probed.write_text(head + PROBE + end + tail, encoding="utf-8")
    frames = "".join(
        f'<iframe src="{probed.as_uri()}" style="width:{w}px;height:900px;border:0"></iframe>' for w in widths
    )
    around = folder / "around.html"
    around.write_text(AROUND % frames, encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [str(CHROMIUM), *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title is not None, done.stderr[-2000:]
    found = sorted(json.loads(title[1]), key=lambda f: f["width"])
    assert [f["width"] for f in found] == sorted(widths)
    return found, [text for text in done.stderr.splitlines() if "CONSOLE" in text]


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Path:
    monkeypatch_module.syspath_prepend(str(Path(__file__).parents[1] / "unit"))
    fake = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "fake_run.py"))
    return build(load(fake["write"](tmp_path_factory.mktemp("browser") / "run", preset="default", n=60)))


def test_the_report_is_drawn_at_every_width_without_a_network(page: Path, tmp_path: Path) -> None:
    found, console = visit(page, tmp_path, widths=(360, 1280), dark=False)
    assert console == []
    for seen in found:
        assert seen["content"] <= seen["width"]
        assert seen["widest"] <= seen["width"]
        assert seen["drawn"] == "6"
        assert len(seen["charts"]) == 6
        assert min(seen["charts"]) > 5
        assert seen["pictures"]
        assert seen["pressed"] == 1
        assert (seen["before"], seen["after"]) == ("1", "0.15")


def test_the_report_and_its_charts_follow_a_dark_scheme(page: Path, tmp_path: Path) -> None:
    (dark,), console = visit(page, tmp_path, widths=(900,), dark=True)
    assert console == []
    assert dark["page"] == "rgb(20, 23, 27)"
    assert dark["stroke"] == "rgb(109, 182, 242)"
