"""The page of a comparison in a real browser without a network: nothing overflows, dark follows the scheme, the console is silent."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from invented_cells import OTHER, grouped, keep
from visionvitals.report import comparison
from visionvitals.results import compare, compared, load

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
AROUND = """<body><script>
const heard = [];
addEventListener("message", (event) => { heard.push(event.data); document.title = JSON.stringify(heard); });
</script>%s</body>"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs {CHROMIUM}")]

# The page runs no script of its own, and forbids any: the probe stands in a frame around it.
PROBE = """<iframe id="f" srcdoc="%s" style="width:%dpx;height:900px;border:0"></iframe><script>
const f = document.getElementById("f");
f.onload = () => {
  const d = f.contentDocument, root = d.documentElement;
  heard.push({
    width: f.clientWidth, content: root.scrollWidth, page: f.contentWindow.getComputedStyle(root).backgroundColor,
    drawn: [...d.querySelectorAll(".drawn b")].filter((e) => e.getBoundingClientRect().width > 5).length,
  });
  document.title = JSON.stringify(heard);
};
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared")
    for fraction in (0.25, 0.5):
        keep(root, {f"{i:04d}": float(i % 3 > 0) for i in range(60)}, backbone=OTHER, fraction=fraction)
        keep(root, {f"{i:04d}": float(i % 4 > 0) for i in range(60)}, fraction=fraction)
    grouped(root, ["rain"] * 30 + ["sun"] * 30)
    pair = compare.pair(load(root), "tiny:vit", "tiny:cnn")
    comparison.write(compared.compared(pair, by="weather"), root / "page.html")
    return root / "page.html"


@pytest.mark.parametrize(("width", "dark"), [(360, False), (390, True), (1280, False)])
def test_the_page_fits_and_follows_the_scheme(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    around = tmp_path / "around.html"
    held = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
    around.write_text(AROUND.replace("%s", PROBE % (held, width)))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [str(CHROMIUM), *FLAGS, scheme, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>(\[.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title is not None, done.stderr[-2000:]
    (seen,) = json.loads(title[1])
    found: dict[str, Any] = seen
    assert found["content"] <= found["width"] == width
    assert found["drawn"] == 4, "two conditions of two groups"
    assert (found["page"] == "rgb(20, 23, 27)") == dark
